"""
Rows that lie in a list: of the tracked document itself, or of one document of an archive for each.

A row of such a list is what stands in it, the document around it, and its place, oldest first. Lists lose entries at one end
and get new ones at the other, so rows are not called by their place: an entry's own `_id` is its name, or a digest of it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId

from django_mongo_history.conversion.facts import at
from django_mongo_history.conversion.rows import CollectionReader, Row, Rows, Size
from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, State

Explode = Callable[[Row], list[Row]]


class ListReader:
    """
    Reads documents of a collection, and hands out the entries of each one's list as its rows.

    `explode` makes them of a document. `changed` is a query for the documents that may have got entries since a moment; by
    default all may, for a list does not say when it grew.
    """

    def __init__(
        self,
        collection: Any,
        *,
        key: str,
        list_field: str,
        query: Mapping[str, Any],
        explode: Explode,
        changed: Callable[[datetime], Mapping[str, Any]] = lambda moment: {},
    ) -> None:
        self._inner = CollectionReader(collection, key=key, query=query, since=changed)
        self._collection = collection
        self._list_field = list_field
        self._query = dict(query)
        self._key = key
        self._explode = explode

    def stream(self, *, above: Any = ABSENT, upto: Any = ABSENT) -> Iterator[Rows]:
        return map(self._exploded, self._inner.stream(above=above, upto=upto))

    def keys(self, *, above: Any = ABSENT, limit: int) -> list[Any]:
        return self._inner.keys(above=above, limit=limit)

    def of_keys(self, keys: Sequence[Any], *, since: datetime | None = None) -> Mapping[Any, Rows]:
        """All rows, whatever `since`: an entry does not say when it was stored, and more than those do no harm."""
        return {name: self._exploded(rows) for name, rows in self._inner.of_keys(keys).items()}

    def changed(self, since: datetime) -> Iterator[Any]:
        return self._inner.changed(since)

    def size(self) -> Size:
        length = {"$cond": [{"$isArray": f"${self._list_field}"}, {"$size": f"${self._list_field}"}, 1]}
        pipeline: list[dict[str, Any]] = [
            {"$match": self._query},
            {"$group": {"_id": f"${self._key}", "rows": {"$sum": length}}},
            {"$group": {"_id": None, "documents": {"$sum": 1}, "rows": {"$sum": "$rows"}}},
        ]
        found = next(iter(self._collection.aggregate(pipeline, allowDiskUse=True)), None)
        return Size(0, 0) if found is None else Size(found["documents"], found["rows"])

    def _exploded(self, rows: Rows) -> Rows:
        return Rows(rows.key, [entry for row in rows.rows for entry in self._explode(row)], rows.size)


def entries_of(row: Row, list_field: str, *, key: Any, is_newest_first: bool = False) -> list[Row] | None:
    """
    The entries of a document's list as rows, oldest first; None where there is no list.

    Their values: `entry`, `around` (the document without the list) and `index`, counted from the oldest. `key`: what the document
    is called; an entry that has that as its `_id` is a copy of the document and not called so itself.
    """
    found = at(row.values, list_field)
    if not isinstance(found, list):
        return None
    around = without(row.values, list_field)
    ordered = found[::-1] if is_newest_first else found
    seen: Counter[Any] = Counter()
    rows: list[Row] = []
    for index, entry in enumerate(ordered):
        name = own_id(entry, key) or _digest(entry)
        seen[name] += 1
        row_id = [row.id, name] if seen[name] == 1 else [row.id, name, seen[name]]
        rows.append(Row(row_id, {"index": index, "entry": entry, "around": around}))
    return rows


def own_id(entry: Any, key: Any) -> ObjectId | None:
    """The ObjectId that an entry got when it was made; None where it has none."""
    found = entry.get("_id") if isinstance(entry, Mapping) else None
    return found if isinstance(found, ObjectId) and found != key else None


def without(document: State, path: str) -> State:
    """A copy without what lies at a dotted path."""
    head, _, rest = path.partition(".")
    if head not in document:
        return document
    if not rest:
        return {name: value for name, value in document.items() if name != head}
    inner = document[head]
    return {**document, head: without(inner, rest)} if isinstance(inner, dict) else document


def _digest(entry: Any) -> str:
    kind, value = values.encode_value(entry)
    return hashlib.sha256(bytes([kind]) + value).hexdigest()[:16]
