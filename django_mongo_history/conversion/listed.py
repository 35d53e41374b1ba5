"""
Rows that lie in a list: of the tracked document itself, or of one document of an archive for each.

A row of such a list is what stands in it, the document around it, and its place, oldest first. Lists lose entries at one end
and get new ones at the other, so rows are not called by their place: an entry's own `_id` is its name, or a digest of it.

Note [Names and what is hidden]
Names are stored, so whoever reads them could try values until one fits a digest. Where a class hides or leaves out anything, a
digest is made of what versions show of the entry, and of nothing else; entries that show the same are counted. Rules change:
so what was stored under others is looked for by the names that it got by those (`Format.known_as`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId

from django_mongo_history.conversion.facts import at
from django_mongo_history.conversion.rows import CollectionReader, Row, Rows, Size, exact_name
from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, State

Explode = Callable[[Row], list[Row]]
Shown = Callable[[Row], Any]


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

    @property
    def mixes_keys(self) -> bool:
        return self._inner.mixes_keys

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


def entries_of(
    row: Row, list_field: str, *, key: Any, is_newest_first: bool = False, shown: Shown | None = None
) -> list[Row] | None:
    """
    The entries of a document's list as rows, oldest first; None where there is no list.

    Their values: `entry`, `around` (the document without the list) and `index`, counted from the oldest. `key`: what the document
    is called; an entry that has that as its `_id` is a copy of the document and not called so itself. `shown`: as for `names_of`.
    """
    found = at(row.values, list_field)
    if not isinstance(found, list):
        return None
    around = without(row.values, list_field)
    ordered = found[::-1] if is_newest_first else found
    rows = [
        Row([row.id], {"index": index, "entry": entry, "around": around})
        for index, entry in enumerate(ordered)
    ]
    names = names_of(rows, key=key, shown=shown)
    return [one._replace(id=name) for one, name in zip(rows, names, strict=True)]


def names_of(rows: Sequence[Row], *, key: Any, shown: Shown | None) -> list[Any]:
    """
    What entries are called, all of one list at least, oldest first: each begins with the id of the document around it.

    `shown`: what of an entry its digest is made of, see Note [Names and what is hidden]; None: all of it.
    """
    seen: Counter[Any] = Counter()
    names: list[Any] = []
    for row in rows:
        if not isinstance(row.id, list):  # a row of its own
            names.append(row.id)
            continue
        home, entry = row.id[0], row.values["entry"]
        name = own_id(entry, key) or _digest(entry if shown is None else shown(row))
        place = (exact_name(home), name)
        seen[place] += 1
        names.append([home, name] if seen[place] == 1 else [home, name, seen[place]])
    return names


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
