"""
A tombstone as the BSON of its row, and back; a golden file in the tests holds the layout still.

It lies among the versions and is found by its `_id`, `{"dropped": collection, "id": id}`, alone: it has no `at`, no
`collection` and no `document_id`, by which versions are found, in earlier releases too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from bson import Binary, MaxKey, ObjectId
from bson.binary import UUID_SUBTYPE
from bson.timestamp import Timestamp

from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, FORMAT, Context, Operation
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.storage.base import Query

logger: Final = logging.getLogger("django_mongo_history")


def encode(tombstone: Tombstone) -> bytes:
    """The row of a tombstone."""
    stored: dict[str, Any] = {
        "_id": {"dropped": tombstone.collection, "id": tombstone.id},
        "format": FORMAT,
        "order": tombstone.order,
        "dropped_at": tombstone.at,
        "document_class": tombstone.document_class,
        "changeset": tombstone.changeset,
        "context": tombstone.context.to_bson(),
    }
    if tombstone.uuid is not None:
        stored["uuid"] = Binary(tombstone.uuid, UUID_SUBTYPE)
    if tombstone.documents is not None:
        stored["documents"] = tombstone.documents
    return values.encode(stored)


def decode_all(rows: Iterable[Mapping[str, Any]]) -> Iterator[Tombstone]:
    """
    The tombstones of these rows. One that cannot be read is left out and logged: its documents show as `external`, as
    they would without it, and stay readable.
    """
    for row in rows:
        try:
            yield _decode(row)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            logger.warning("The tombstone %r cannot be read: %s", row.get("_id"), error)


def ids(query: Query) -> dict[str, Any]:
    """The filter by `_id` for the tombstones of the query's collections, or of all."""
    if query.collections is None:  # those whose first field is text, which parts of versions have not
        return {"_id": {"$gte": {"dropped": ""}, "$lt": {"dropped": {}}}}
    if not query.collections:
        return {"_id": {"$in": []}}
    bounds = (({"dropped": name}, {"dropped": name, "id": MaxKey()}) for name in query.collections)
    return {"$or": [{"_id": {"$gt": above, "$lt": below}} for above, below in bounds]}


def chosen(found: Iterable[Tombstone], query: Query) -> list[Tombstone]:
    """
    Those that meet the query's conditions, sorted by (at, id).

    A drop is a delete of whatever was in its collection, whichever class it was of: `classes` and `document_id` ask
    for nothing here. It touches no path.
    """
    if query.touching is not None or query.operation not in (None, Operation.DELETE):
        return []
    wanted = [one for one in found if _matches(one, query)]
    return sorted(wanted, key=lambda one: (one.at, one.id), reverse=query.newest_first)


def _matches(one: Tombstone, query: Query) -> bool:
    return all(
        (
            query.collections is None or one.collection in query.collections,
            query.changeset is None or one.changeset == query.changeset,
            query.changesets is None or one.changeset in query.changesets,
            query.user is None or _is_user(one, query),
            query.reason is None or one.context.reason == query.reason,
            query.after is None or one.at > query.after,
            query.before is None or one.at < query.before,
        )
    )


def _is_user(one: Tombstone, query: Query) -> bool:
    user, wanted = one.context.user, query.user
    if user is None or wanted is None:
        return False
    is_key = values.sort_key(user.pk) == values.sort_key(wanted.pk)
    if wanted.model is not None:
        return user.model == wanted.model and is_key
    return is_key or (isinstance(wanted.pk, str) and user.label == wanted.pk)


def _decode(row: Mapping[str, Any]) -> Tombstone:
    if row.get("format") != FORMAT:
        raise ValueError(f"its format is {row.get('format')!r}, this package reads {FORMAT}")
    uuid = row.get("uuid")
    documents = row.get("documents", ABSENT)
    return Tombstone(
        id=_typed(row["_id"]["id"], ObjectId),
        collection=_typed(row["_id"]["dropped"], str),
        order=_typed(row["order"], Timestamp),
        at=_typed(row["dropped_at"], datetime),
        document_class=_typed(row["document_class"], str),
        changeset=row["changeset"],
        context=Context.from_bson(row["context"]),
        uuid=None if uuid is None else bytes(_typed(uuid, bytes)),
        documents=None if documents is ABSENT else int(_typed(documents, int)),
    )


def _typed(value: Any, wanted: type) -> Any:
    if not isinstance(value, wanted):
        raise TypeError(f"expected {wanted.__name__}, found {type(value).__name__}")
    return value
