"""
The same store over a mongomock collection, so that users' tests without a server have histories too.

mongomock knows neither raw documents nor codec options, and compares as Python does (`1 == True`): a row goes in as
plain values and comes out as the BSON that they make, and all comparing is done here. Slow, and exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, DocumentKey, Entry, VersionRecord
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.storage import tombstones
from django_mongo_history.storage.base import Head, Mark, Query, Summary
from django_mongo_history.storage.entries import ENTRY_FIELDS, read_entry
from django_mongo_history.storage.indexes import INDEXES, UPDATES_WITH_SNAPSHOTS
from django_mongo_history.storage.memory import head_of, is_equal, matches, summaries_of
from django_mongo_history.storage.mongo import MongoStore

_AWARE: Final[CodecOptions[dict[str, Any]]] = CodecOptions(tz_aware=True)


class MongomockStore(MongoStore):
    """The versions in a collection of mongomock's."""

    def __init__(self, collection: Any) -> None:
        self.name = collection.full_name
        self._indexes = INDEXES
        self._is_indexed = False
        self._exact = collection.with_options(codec_options=_AWARE)
        self._rows: Any = _RawRows(self._exact)
        self._lasting: Any = self._rows

    def entries(self, key: DocumentKey, *, session: Any = None) -> list[Entry]:
        return [entry for entry in self.scan(key.collection) if is_equal(entry.document_id, key.document_id)]

    def scan(
        self, collection: str, *, above: Any = ABSENT, upto: Any = ABSENT, session: Any = None
    ) -> Iterator[Entry]:
        low = None if above is ABSENT else values.sort_key(above)
        high = None if upto is ABSENT else values.sort_key(upto)
        entries = [read_entry(row) for row in self._exact.find({"collection": collection}, ENTRY_FIELDS)]
        found = [(values.sort_key(entry.document_id), entry) for entry in entries]
        for place, entry in sorted(found, key=lambda pair: (pair[0], pair[1].id)):
            if (low is None or place > low) and (high is None or place <= high):
                yield entry

    def snapshots(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> frozenset[ObjectId]:
        places = {values.sort_key(document_id) for document_id in document_ids}
        found = self._exact.find({"collection": collection, **UPDATES_WITH_SNAPSHOTS})
        return frozenset(row["_id"] for row in found if values.sort_key(row["document_id"]) in places)

    def tombstones(self, query: Query) -> list[Tombstone]:
        found = self._exact.find({"dropped_at": {"$exists": True}})
        return tombstones.chosen(tombstones.decode_all(found), query)

    def find(self, query: Query, *, session: Any = None) -> Iterator[VersionRecord]:
        sort_only = Query(newest_first=query.newest_first, unreadable=query.unreadable)
        found = (record for record in super().find(sort_only) if matches(record, query))
        return islice(found, query.limit)

    def marks(self, query: Query, *, session: Any = None) -> Iterator[Mark]:
        return (Mark(record.at, record.id, record.changeset) for record in self.find(query))

    def heads(self, query: Query) -> Iterator[Head]:
        return map(head_of, self.find(query))

    def summaries(self, changesets: Sequence[ObjectId]) -> list[Summary]:
        return summaries_of(self.find(Query()), changesets)


class _RawRows:
    """As much of a collection of raw documents as the store uses."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def insert_one(self, row: RawBSONDocument, *, session: Any) -> None:
        self._collection.insert_one(values.decode(bytes(row.raw)))

    def insert_many(self, rows: Sequence[RawBSONDocument], *, ordered: bool, session: Any) -> None:
        self._collection.insert_many([values.decode(bytes(row.raw)) for row in rows], ordered=ordered)

    def find(self, wanted: Mapping[str, Any], *, session: Any) -> _RawCursor:
        return _RawCursor(self._collection.find(wanted))


class _RawCursor:
    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def sort(self, *order: Any) -> _RawCursor:
        self._cursor.sort(*order)
        return self

    def __enter__(self) -> _RawCursor:
        return self

    def __exit__(self, *error: object) -> None:
        self._cursor.close()

    def __iter__(self) -> Iterator[RawBSONDocument]:
        for row in self._cursor:
            yield RawBSONDocument(values.encode(row))
