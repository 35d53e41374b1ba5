"""
Versions in one MongoDB collection, written and read with PyMongo as raw BSON.

Never through MongoEngine's fields: those turn bytes into lists, `_cls` documents into instances and references into
queries. Knows no Django and no MongoEngine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Any, Final

from bson import MaxKey, MinKey, ObjectId, Regex
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, Context, DocumentKey, Entry, Operation, VersionRecord
from django_mongo_history.core.replay import Records, Unreadable, unreadable
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import StoreError
from django_mongo_history.storage import rows, tombstones
from django_mongo_history.storage.base import Head, Mark, Query, Summary
from django_mongo_history.storage.refusals import failures_of, is_there_already, said_by, strip

_LINKS: Final = [
    (name, ASCENDING)
    for name in ("collection", "document_id", "order", "_id", "at", "operation", "before", "after")
]
ENTRY_FIELDS: Final = dict.fromkeys(("_id", "document_id", "order", "at", "operation", "before", "after"), 1)

_MARKS_AT_ONCE: Final = 1000
MARK_FIELDS: Final = {"at": 1, "changeset": 1}
HEAD_FIELDS: Final = dict.fromkeys(("at", "operation", "collection", "document_class", "document_id"), 1)

UPDATES_WITH_SNAPSHOTS: Final = {"operation": Operation.UPDATE.value, "snapshot": {"$exists": True}}

INDEXES: Final = [
    IndexModel(_LINKS, name="links"),
    IndexModel(_LINKS, name="snapshots", partialFilterExpression=UPDATES_WITH_SNAPSHOTS),
    IndexModel([("collection", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)], name="collection_at"),
    IndexModel([("at", ASCENDING), ("_id", ASCENDING)], name="at"),
    IndexModel(
        [("context.user.pk", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)],
        name="user_at",
        partialFilterExpression={"context.user.pk": {"$exists": True}},
    ),
    IndexModel([("changeset", ASCENDING)], name="changeset"),
    IndexModel(
        [("collection", ASCENDING), ("changed", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)],
        name="collection_changed_at",
        partialFilterExpression={"changed": {"$exists": True}},
    ),
    # Updates, of which there are most, are not in it: whoever looks for those finds them in the order of moments.
    IndexModel(
        [("collection", ASCENDING), ("operation", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)],
        name="collection_operation_at",
        partialFilterExpression={"operation": {"$lt": Operation.UPDATE.value}},
    ),
]


class MongoStore:
    """
    The versions in `collection`, which must be of the same client as the documents where writes are to be atomic.

    The collection's write concern is used outside transactions; reads always go to the primary.
    """

    def __init__(self, collection: Collection[Any], indexes: Sequence[IndexModel] = INDEXES) -> None:
        self.name = collection.full_name
        self._indexes = indexes
        self._is_indexed = False
        self._rows: Collection[Any] = collection.with_options(
            codec_options=values.EXACT.with_options(document_class=RawBSONDocument),
            read_preference=ReadPreference.PRIMARY,
        )
        self._exact: Collection[Any] = collection.with_options(
            codec_options=values.EXACT, read_preference=ReadPreference.PRIMARY
        )

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        # Of a version in parts the first goes in last: until it is there, none of it is.
        self.append_rows(
            [row for encoded in rows.encode_all(records) for row in reversed(encoded)], session=session
        )

    def append_rows(self, encoded: Sequence[bytes], *, session: Any = None) -> None:
        """
        Store the rows of versions as they are; of a version in parts the first last. One that is there stays.

        Raises: as `append`.
        """
        documents = [RawBSONDocument(row) for row in encoded]
        if not documents:
            return
        if session is not None and session.in_transaction:
            self._insert(documents, session)
            return
        try:
            try:
                self._insert(documents, session)
            except DuplicateKeyError:
                # Asked as of many: of one alone the driver keeps to itself that the write concern is not met.
                self._insert(documents, session, as_of_many=True)
        except BulkWriteError as error:
            others = [one for one in failures_of(error) if not is_there_already(one)]
            # What is there and not yet where the write concern wants it may vanish, with a primary that steps down.
            if others or error.details.get("writeConcernErrors"):
                raise self._error(error) from error
        except (PyMongoError, InvalidDocument) as error:  # the latter is what is too large
            raise self._error(error) from error

    def _insert(self, documents: list[RawBSONDocument], session: Any, *, as_of_many: bool = False) -> None:
        """Raises: the driver's errors, without documents."""
        try:
            if len(documents) == 1 and not as_of_many:
                self._rows.insert_one(documents[0], session=session)
            else:
                self._rows.insert_many(documents, ordered=False, session=session)
        except PyMongoError as error:
            strip(error)
            raise

    def _error(self, error: Exception) -> StoreError:
        return StoreError(f"Versions could not be stored in {self.name}: {said_by(error)}", store=self.name)

    def stored(self, ids: Iterable[ObjectId]) -> frozenset[ObjectId]:
        """Those of these ids of which there are versions that no election takes away. Cost: a scan of the index by id."""
        surely = self._exact.with_options(read_concern=ReadConcern("majority"))
        return frozenset(row["_id"] for row in surely.find({"_id": {"$in": list(ids)}}, {"_id": 1}))

    def entries(self, key: DocumentKey, *, session: Any = None) -> list[Entry]:
        wanted = {"collection": key.collection, "document_id": {"$eq": key.document_id}}
        return [read_entry(row) for row in self._exact.find(wanted, ENTRY_FIELDS, session=session)]

    def entries_of(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> Iterator[Entry]:
        wanted = {"collection": collection, "document_id": {"$in": list(document_ids)}}
        for row in self._exact.find(wanted, ENTRY_FIELDS, session=session):
            yield read_entry(row)

    def scan(
        self, collection: str, *, above: Any = ABSENT, upto: Any = ABSENT, session: Any = None
    ) -> Iterator[Entry]:
        wanted: dict[str, Any] = {"collection": collection}
        if above is ABSENT and upto is ABSENT:
            cursor = self._exact.find(wanted, ENTRY_FIELDS, session=session)
        elif self._has_indexes():
            # The index's own bounds: they cross types, as BSON's order does, and need no row, as $expr would.
            low = (MinKey() if above is ABSENT else above, MinKey() if above is ABSENT else MaxKey())
            high = (MaxKey() if upto is ABSENT else upto, MaxKey())
            cursor = self._exact.find({}, ENTRY_FIELDS, session=session, hint="links")
            cursor = cursor.min(_bound(collection, *low)).max(_bound(collection, *high))
        else:
            cursor = self._exact.find(
                wanted | {"$expr": _between(above, upto)}, ENTRY_FIELDS, session=session
            )
        with cursor.sort([("collection", ASCENDING), ("document_id", ASCENDING)]):
            for row in cursor:
                yield read_entry(row)

    def snapshots(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> frozenset[ObjectId]:
        wanted = {
            "collection": collection,
            "document_id": {"$in": list(document_ids)},
            **UPDATES_WITH_SNAPSHOTS,
        }
        # Named, for the planner may take the index over all versions.
        found = self._exact.find(wanted, {"_id": 1}, session=session, hint=self._hint("snapshots"))
        return frozenset(row["_id"] for row in found)

    def records(self, ids: Iterable[ObjectId], *, session: Any = None) -> Records:
        found: dict[ObjectId, VersionRecord | Unreadable] = {}
        wanted = {"_id": {"$in": list(ids)}}
        for row in self._rows.find(wanted, session=session):
            record = self._record(bytes(row.raw), session)
            found[record.id] = record
        return found

    def _record(self, row: bytes, session: Any) -> VersionRecord | Unreadable:
        further_ids = rows.part_ids(row)
        if not further_ids:
            return rows.decode(row)
        further = self._rows.find({"_id": {"$in": further_ids}}, session=session).sort("_id", ASCENDING)
        return rows.decode(row, [bytes(part.raw) for part in further])

    def find(self, query: Query, *, session: Any = None) -> Iterator[VersionRecord]:
        for row in _sorted(query, lambda wanted: self._rows.find(wanted, session=session)):
            record = self._record(bytes(row.raw), session)
            if not isinstance(record, Unreadable):
                yield record
            elif query.unreadable is None:
                raise unreadable(_key(row), record)
            else:
                query.unreadable(unreadable(_key(row), record))

    def marks(self, query: Query, *, session: Any = None) -> Iterator[Mark]:
        for row in self._small(query, MARK_FIELDS, session):
            yield Mark(row["at"], row["_id"], row.get("changeset"))

    def heads(self, query: Query) -> Iterator[Head]:
        for row in self._small(query, HEAD_FIELDS, None):
            try:
                operation = Operation(row["operation"])
                yield Head(
                    _typed(row["at"], datetime),
                    row["_id"],
                    operation,
                    row["collection"],
                    row["document_class"],
                    row["document_id"],
                )
            except (KeyError, TypeError, ValueError):
                continue  # `find` tells of it

    def _small(self, query: Query, fields: dict[str, int], session: Any) -> Iterator[dict[str, Any]]:
        # Without a limit the second answer would bring a hundred thousand of them.
        return _sorted(
            query,
            lambda wanted: self._exact.find(wanted, fields, session=session, batch_size=_MARKS_AT_ONCE),
        )

    def collections(self) -> list[str]:
        return sorted(name for name in self._exact.distinct("collection") if isinstance(name, str))

    def summaries(self, changesets: Sequence[ObjectId]) -> list[Summary]:
        # Documents compare field by field, so the least of these is the first version's, without a sort.
        first = {"at": "$at", "id": "$_id", "context": {"$ifNull": ["$context", {}]}}
        pipeline: list[dict[str, Any]] = [
            {"$match": {"changeset": {"$in": list(changesets)}, "at": {"$exists": True}}},
            {"$project": {"changeset": 1, "at": 1, "context": 1, "collection": 1, "document_class": 1}},
            {
                "$group": {
                    "_id": {
                        "changeset": "$changeset",
                        "collection": "$collection",
                        "class": "$document_class",
                    },
                    "first": {"$min": first},
                    "last_at": {"$max": "$at"},
                    "count": {"$sum": 1},
                }
            },
        ]
        groups: dict[ObjectId, list[dict[str, Any]]] = {}
        # Named, for the planner would try the index over all moments as well.
        hint = self._hint("changeset")
        options: dict[str, Any] = {} if hint is None else {"hint": hint}
        for row in self._exact.aggregate(pipeline, **options):
            groups.setdefault(row["_id"]["changeset"], []).append(row)
        return [_summary(changeset, found) for changeset, found in groups.items()]

    def append_tombstone(self, tombstone: Tombstone) -> None:
        try:
            self._rows.insert_one(RawBSONDocument(tombstones.encode(tombstone)), session=None)
        except PyMongoError as error:
            strip(error)
            if not isinstance(error, DuplicateKeyError) or not is_there_already(
                error.details or {"code": error.code}
            ):
                raise StoreError(
                    f"That {tombstone.collection} is being dropped could not be stored in {self.name}: {said_by(error)}",
                    store=self.name,
                ) from error

    def tombstones(self, query: Query) -> list[Tombstone]:
        found = self._exact.find(tombstones.ids(query))
        return tombstones.chosen(tombstones.decode_all(found), query)

    def _hint(self, name: str) -> str | None:
        """The index of this name where there is one to be asked for."""
        is_ours = any(index.document["name"] == name for index in self._indexes)
        return name if is_ours and self._has_indexes() else None

    def _has_indexes(self) -> bool:
        """Whether indexes can be asked for by name; once there, they are taken to stay."""
        self._is_indexed = self._is_indexed or not self.missing()
        return self._is_indexed

    def missing(self) -> list[str]:
        there = set(self._exact.index_information())
        return [name for name in (index.document["name"] for index in self._indexes) if name not in there]

    def prepare(self) -> list[str]:
        try:
            missing = self.missing()
            if missing:
                self._exact.create_indexes(
                    [index for index in self._indexes if index.document["name"] in missing]
                )
        except PyMongoError as error:
            raise StoreError(
                f"The indexes of {self.name} could not be made: {said_by(error)}. Run `manage.py history_indexes` with an "
                "account that may create indexes.",
                store=self.name,
            ) from error
        return missing


def _summary(changeset: ObjectId, groups: Sequence[dict[str, Any]]) -> Summary:
    """A changeset from what was grouped by its collections and classes."""
    first = min((group["first"] for group in groups), key=lambda one: (one["at"], one["id"]))
    return Summary(
        changeset=changeset,
        first=(first["at"], first["id"]),
        last_at=max(group["last_at"] for group in groups),
        context=Context.from_bson(first["context"]),
        counts={(group["_id"]["collection"], group["_id"]["class"]): group["count"] for group in groups},
    )


def read_entry(row: dict[str, Any]) -> Entry:
    """
    What order needs of a row.

    Raises: BrokenChainError for a row without it: where the version belongs, or what it links, cannot be known.
    """
    try:
        return Entry(
            row["_id"],
            row["document_id"],
            _typed(row["order"], Timestamp),
            Operation(row["operation"]),
            _typed(row["at"], datetime),
            row["before"],
            row["after"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(_key(row), Unreadable(row["_id"], f"{type(error).__name__}: {error}")) from error


def _typed(value: Any, wanted: type) -> Any:
    if not isinstance(value, wanted):
        raise TypeError(f"expected {wanted.__name__}, found {type(value).__name__}")
    return value


def _bound(collection: str, document_id: Any, rest: Any) -> list[tuple[str, Any]]:
    """A place in the index `links`: before (MinKey) or behind (MaxKey) all versions of a document."""
    names = [name for name, _direction in _LINKS]
    return list(zip(names, [collection, document_id, *[rest] * (len(names) - 2)], strict=True))


def _between(above: Any, upto: Any) -> dict[str, Any]:
    """The same as a condition. $expr compares across types; a plain $gt would stay within one."""
    bounds = (("$gt", above), ("$lte", upto))
    return {
        "$and": [
            {operator: ["$document_id", {"$literal": bound}]}
            for operator, bound in bounds
            if bound is not ABSENT
        ]
    }


def _key(row: Any) -> DocumentKey:
    return DocumentKey(str(row.get("collection")), row.get("document_id"))


def _sorted(query: Query, ask: Callable[[Mapping[str, Any]], Any]) -> Iterator[Any]:
    """
    The rows that a query finds, in its order, streamed. `ask` gives the cursor for a filter.

    Behind a place there are two questions, for the versions of its very moment and for those beyond: each has exact
    bounds in any index that ends in (at, _id), which one question for both would not have.
    """
    direction = DESCENDING if query.newest_first else ASCENDING
    filters = [_filter(query)] if query.past is None else _filters_past(query, query.past)
    return islice(chain.from_iterable(_rows_of(query, ask(one), direction) for one in filters), query.limit)


def _rows_of(query: Query, cursor: Any, direction: int) -> Iterator[Any]:
    cursor = cursor.sort([("at", direction), ("_id", direction)])
    if query.limit is not None:
        cursor = cursor.limit(query.limit)
    if query.max_time_s is not None:
        cursor = cursor.max_time_ms(int(query.max_time_s * 1000))
    with cursor:
        yield from cursor


def _filters_past(query: Query, past: tuple[datetime, ObjectId]) -> list[dict[str, Any]]:
    at, version_id = past
    beyond = "$lt" if query.newest_first else "$gt"
    wanted = _filter(query)
    bounds: dict[str, Any] = wanted["at"]
    here = wanted | {"at": bounds | {"$eq": at}, "_id": {beyond: version_id}}
    near = bounds.get(beyond, at)
    return [here, wanted | {"at": bounds | {beyond: min(near, at) if query.newest_first else max(near, at)}}]


def _filter(query: Query) -> dict[str, Any]:
    """The query as a MongoDB filter. Every value stands behind an operator of ours: input never becomes one."""
    # Further parts of a large version have no `at`, and are never found for themselves.
    moment = {"$exists": True} | {
        operator: bound
        for operator, bound in (("$gt", query.after), ("$lt", query.before))
        if bound is not None
    }
    wanted: dict[str, Any] = {"at": moment}
    if query.collections is not None:
        wanted["collection"] = {"$in": list(query.collections)}
    if query.document_id is not ABSENT:
        wanted["document_id"] = {"$eq": query.document_id}
    if query.document_ids is not None:
        wanted.setdefault("document_id", {})["$in"] = _as_values(query.document_ids)
    if query.classes is not None:
        wanted["document_class"] = {"$in": list(query.classes)}
    if query.changeset is not None:
        wanted["changeset"] = {"$eq": query.changeset}
    if query.changesets is not None:
        wanted.setdefault("changeset", {})["$in"] = list(query.changesets)
    if query.operation is not None:
        wanted["operation"] = {"$eq": query.operation.value}
    if query.touching is not None:
        wanted["changed"] = {"$in": list(query.touching)}
    wanted.update(_context_filter(query))
    if query.user is not None:
        wanted["$and"] = [_user_filter(query)]
    return wanted


def _as_values(wanted: Sequence[Any]) -> list[Any]:
    """What `$in` compares as it is. Patterns it would match, and operators it refuses: no `_id` is either of them."""
    return [one for one in wanted if not (isinstance(one, (Regex, re.Pattern)) or _is_operator(one))]


def _is_operator(value: Any) -> bool:
    return isinstance(value, Mapping) and any(str(key).startswith("$") for key in value)


def _context_filter(query: Query) -> dict[str, Any]:
    reason: dict[str, Any] = {}
    if query.reason is not None:
        reason["$eq"] = query.reason
    if query.reason_part is not None:
        reason |= {"$regex": re.escape(query.reason_part), "$options": "i"}
    found = {
        "context.reason": reason or None,
        "context.remote_addr": None if query.remote_addr is None else {"$eq": query.remote_addr},
        "context.user.label": None if query.user_label is None else {"$eq": query.user_label},
        "context.user.pk": None if query.user_keys is None else {"$in": _as_values(query.user_keys)},
    }
    return {name: wanted for name, wanted in found.items() if wanted is not None}


def _user_filter(query: Query) -> dict[str, Any]:
    user = query.user
    assert user is not None
    by_key: dict[str, Any] = {"context.user.pk": {"$eq": user.pk}}
    if user.model is not None:
        return by_key | {"context.user.model": {"$eq": user.model}}
    if isinstance(user.pk, str):
        return {"$or": [by_key, {"context.user.label": {"$eq": user.pk}}]}
    return by_key
