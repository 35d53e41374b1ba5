"""Questions to a collection of versions: a query as MongoDB's filters and sorts, every value behind an operator of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Any

from bson import ObjectId, Regex
from pymongo import ASCENDING, DESCENDING

from django_mongo_history.core.model import ABSENT
from django_mongo_history.storage.base import Query


def rows_of(query: Query, ask: Callable[[Mapping[str, Any]], Any]) -> Iterator[Any]:
    """
    The rows that a query finds, in its order, streamed. `ask` gives the cursor for a filter.

    Behind a place there are two questions, for the versions of its very moment and for those beyond: each has exact
    bounds in any index that ends in (at, _id), which one question for both would not have.
    """
    direction = DESCENDING if query.newest_first else ASCENDING
    filters = [filter_of(query)] if query.past is None else _filters_past(query, query.past)
    return islice(chain.from_iterable(_read(query, ask(one), direction) for one in filters), query.limit)


def _read(query: Query, cursor: Any, direction: int) -> Iterator[Any]:
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
    wanted = filter_of(query)
    bounds: dict[str, Any] = wanted["at"]
    here = wanted | {"at": bounds | {"$eq": at}, "_id": {beyond: version_id}}
    near = bounds.get(beyond, at)
    return [here, wanted | {"at": bounds | {beyond: min(near, at) if query.newest_first else max(near, at)}}]


def filter_of(query: Query) -> dict[str, Any]:
    """The query as a MongoDB filter. Every value stands behind an operator of ours: input never becomes one."""
    # Further parts of a large version have no `at`, and are never found for themselves.
    moment = {"$exists": True} | {
        operator: bound
        for operator, bound in (("$gt", query.after), ("$lt", query.before))
        if bound is not None
    }
    wanted: dict[str, Any] = {"at": moment} | ({} if query.ids is None else {"_id": {"$in": list(query.ids)}})
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


def between(above: Any, upto: Any) -> dict[str, Any]:
    """The same as a condition. $expr compares across types; a plain $gt would stay within one."""
    bounds = (("$gt", above), ("$lte", upto))
    return {
        "$and": [
            {operator: ["$document_id", {"$literal": bound}]}
            for operator, bound in bounds
            if bound is not ABSENT
        ]
    }
