"""
Reading the rows of a source document by document, in the order in which MongoDB sorts any keys.

A source mostly has no index on the key of its documents, and is not changed by being read: so all rows are sorted once by
the server and streamed, and what came since is looked for by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol, cast

import bson
from bson import ObjectId
from bson.errors import BSONError
from pymongo.collation import Collation
from pymongo.collection import Collection
from pymongo.read_preferences import ReadPreference

from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, State
from django_mongo_history.driver.images import documents_of

_AT_ONCE: Final = 10_000
"""Rows of one answer of the server, 16 MB of them at most."""
_MOST_KEYLESS: Final = 1000
"""Rows without a key that are handed out at once: they are of no one document, and may be many."""


class Row(NamedTuple):
    """
    One row of the source. `id`: what it is called in the report and what the version's id is made of, any BSON value.

    `values`: the row as `core.values.decode` reads it. `is_converted`: whether a stored version has it already; a step that
    is made of several rows has only such, or none.
    """

    id: Any
    values: State
    is_converted: bool = False


class Rows(NamedTuple):
    """All rows of one document, as its `key` in the source says, ABSENT where rows have none; and their size in bytes."""

    key: Any
    rows: list[Row]
    size: int


class Size(NamedTuple):
    """How much there is."""

    documents: int
    rows: int


class Reader(Protocol):
    """What a run needs of a source. Keys ascend as MongoDB sorts them, across types; `above` is exclusive, `upto` is not."""

    def stream(self, *, above: Any = ABSENT, upto: Any = ABSENT) -> Iterator[Rows]:
        """All rows, document by document. What is stored while it is read may be in it or not."""
        ...

    def keys(self, *, above: Any = ABSENT, limit: int) -> list[Any]:
        """The next keys, each once; ABSENT for rows without one, which come first."""
        ...

    def of_keys(self, keys: Sequence[Any], *, since: datetime | None = None) -> Mapping[Any, Rows]:
        """The rows of these documents now, by `name_of` their key; `since`: those that may have been stored since then."""
        ...

    def changed(self, since: datetime) -> Iterator[Any]:
        """The keys of documents of which a row may have been stored since then, each once."""
        ...

    def size(self) -> Size:
        """Cost: all rows are counted."""
        ...


def name_of(key: Any) -> Any:
    """A key, hashable, and the same for keys that MongoDB takes for one: 1 and 1.0."""
    return key.binary if type(key) is ObjectId else values.sort_key(key) if key is not ABSENT else ABSENT


def exact_name(row_id: Any) -> Any:
    """A row's id, hashable whatever its type; 1 and 1.0 are two."""
    return row_id.binary if type(row_id) is ObjectId else values.encode_value(row_id)


class CollectionReader:
    """
    Rows in a collection of their own: each belongs to the document whose key lies at `key`, a dotted path.

    `is_of_pymongo`: all rows were written by it, so that they hold nothing that it would read otherwise than it stands there.
    """

    def __init__(
        self,
        collection: Any,
        *,
        key: str,
        sort: Sequence[str] = ("_id",),
        query: Mapping[str, Any] | None = None,
        since: Callable[[datetime], Mapping[str, Any]] | None = None,
        is_of_pymongo: bool = False,
    ) -> None:
        self._is_of_pymongo = is_of_pymongo
        self.key = key
        self._path = key.split(".")
        self._sort = [*dict.fromkeys([key, *sort])]
        self._query = dict(query or {})
        self._since = since or (lambda moment: {"_id": {"$gte": ObjectId.from_datetime(moment)}})
        self._plain = collection
        self._exact = (
            collection.with_options(codec_options=values.EXACT, read_preference=ReadPreference.PRIMARY)
            if isinstance(collection, Collection)
            else collection
        )
        # A collection may sort texts in a way of its own; keys ascend as their bytes do.
        self._by_bytes: dict[str, Any] = (
            {"collation": Collation("simple")} if isinstance(collection, Collection) else {}
        )

    def stream(self, *, above: Any = ABSENT, upto: Any = ABSENT) -> Iterator[Rows]:
        wanted = self._joined(self._between(above, upto))
        return self._grouped(self._found(wanted))

    def keys(self, *, above: Any = ABSENT, limit: int) -> list[Any]:
        return list(self._keys(self._joined(self._between(above, ABSENT)), limit))

    def of_keys(self, keys: Sequence[Any], *, since: datetime | None = None) -> Mapping[Any, Rows]:
        known = [key for key in keys if key is not ABSENT]
        parts: list[Mapping[str, Any]] = [{self.key: {"$in": known}}]
        if len(known) < len(keys):
            parts = [{"$or": [*parts, {self.key: {"$exists": False}}]}]
        if since is not None:
            parts.append(self._minted_since(since) if self._has_object_ids else self._since(since))
        return {name_of(rows.key): rows for rows in self._grouped(self._found(self._joined(*parts)))}

    def changed(self, since: datetime) -> Iterator[Any]:
        asked = self._since(since)
        minted = self._minted_since(since)
        either = {"$or": [asked, minted]} if self._has_object_ids and asked != minted else asked
        return self._keys(self._joined(either), None)

    @cached_property
    def mixes_keys(self) -> bool:
        """Whether there are texts and ObjectIds among the keys: then some may be two spellings of one. Cost: a scan at most."""
        return all(
            self._exact.find_one(self._joined({self.key: {"$type": kind}}), {"_id": 1}) is not None
            for kind in ("string", "objectId")
        )

    def size(self) -> Size:
        pipeline: list[dict[str, Any]] = [
            {"$match": self._query},
            {"$group": {"_id": f"${self.key}", "rows": {"$sum": 1}}},
            {"$group": {"_id": None, "documents": {"$sum": 1}, "rows": {"$sum": "$rows"}}},
        ]
        found = next(iter(self._exact.aggregate(pipeline, allowDiskUse=True)), None)
        return Size(0, 0) if found is None else Size(found["documents"], found["rows"])

    @cached_property
    def _has_object_ids(self) -> bool:
        """Whether the rows' ids tell when they were stored: by those there is an index, as there may be none by time."""
        last = self._exact.find_one({}, {"_id": 1}, sort=[("_id", -1)])
        return last is not None and isinstance(last["_id"], ObjectId)

    def _minted_since(self, moment: datetime) -> dict[str, Any]:
        return {"_id": {"$gte": ObjectId.from_datetime(moment)}}

    def _joined(self, *parts: Mapping[str, Any]) -> dict[str, Any]:
        conditions = [dict(part) for part in (self._query, *parts) if part]
        return {"$and": conditions} if len(conditions) > 1 else (conditions[0] if conditions else {})

    def _between(self, above: Any, upto: Any) -> dict[str, Any]:
        """$expr compares across types; a plain $gt would stay within one. A key that is not there is below all."""
        place = f"${self.key}"
        bounds: list[Any] = []
        if above is not ABSENT:
            bounds.append({"$gt": [place, {"$literal": above}]})
        if upto is not ABSENT:
            bounds.append({"$lte": [place, {"$literal": upto}]})
        return {"$expr": {"$and": bounds}} if bounds else {}

    def _keys(self, wanted: Mapping[str, Any], limit: int | None) -> Iterator[Any]:
        pipeline: list[dict[str, Any]] = [
            {"$match": wanted},
            {"$group": {"_id": {"$ifNull": [f"${self.key}", "$$REMOVE"]}}},
            {"$sort": {"_id": 1}},
        ]
        if limit is not None:
            pipeline.append({"$limit": limit})
        for found in self._exact.aggregate(pipeline, allowDiskUse=True, **self._by_bytes):
            key = found.get("_id", None)
            yield ABSENT if key is None or isinstance(key, list) else key

    def _found(self, wanted: Mapping[str, Any]) -> Iterator[tuple[State, int]]:
        """Rows and their sizes in bytes."""
        order = [(name, 1) for name in self._sort]
        if not isinstance(self._plain, Collection):
            for found in self._plain.find(wanted).sort(order):
                yield _decoded(values.encode(found))
            return
        cursor = self._exact.find_raw_batches(
            wanted, sort=order, allow_disk_use=True, batch_size=_AT_ONCE, **self._by_bytes
        )
        with cursor:
            for batch in cursor:
                yield from self._decoded(cast(bytes, batch))

    def _decoded(self, batch: bytes) -> Iterator[tuple[State, int]]:
        if self._is_of_pymongo:
            try:
                rows = bson.decode_all(batch, values.EXACT)
            except (BSONError, ValueError, OverflowError):
                pass  # one of them is odd after all: each by itself
            else:
                yield from ((row, len(batch) // len(rows)) for row in rows)
                return
        yield from map(_decoded, documents_of(batch))

    def _grouped(self, found: Iterator[tuple[State, int]]) -> Iterator[Rows]:
        key: Any = None
        rows: list[Row] = []
        total = 0
        for row, size in found:
            own = self._key_of(row)
            if rows and (not _is_same(key, own) or (own is ABSENT and len(rows) >= _MOST_KEYLESS)):
                yield Rows(key, rows, total)
                rows, total = [], 0
            key = own
            rows.append(Row(row["_id"], row))
            total += size
        if rows:
            yield Rows(key, rows, total)

    def _key_of(self, row: State) -> Any:
        found: Any = row
        for part in self._path:
            found = found.get(part) if isinstance(found, dict) else None
            if found is None:
                return ABSENT
        # No `_id` is a list, and the server sorts lists among their items.
        return ABSENT if isinstance(found, list) else found


def _decoded(raw: bytes) -> tuple[State, int]:
    row = values.decode_any(raw)
    # Where a key stands twice the driver's reading is what formats can look at.
    return row if isinstance(row, dict) else bson.decode(raw, values.EXACT), len(raw)


def _is_same(one: Any, other: Any) -> bool:
    if type(one) is ObjectId and type(other) is ObjectId:
        return bool(one == other)
    return bool(name_of(one) == name_of(other))
