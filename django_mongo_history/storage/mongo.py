"""
Versions in one MongoDB collection, written and read with PyMongo as raw BSON.

Never through MongoEngine's fields: those turn bytes into lists, `_cls` documents into instances and references into
queries. Knows no Django and no MongoEngine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from bson import MaxKey, MinKey, ObjectId
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, IndexModel
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, DocumentKey, Entry, VersionRecord
from django_mongo_history.core.replay import Records, Unreadable, unreadable
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import StoreError
from django_mongo_history.storage import rows, tombstones
from django_mongo_history.storage.base import Head, Mark, Query, Summary
from django_mongo_history.storage.concerns import lasting
from django_mongo_history.storage.entries import (
    ENTRY_FIELDS,
    HEAD_FIELDS,
    MARK_FIELDS,
    key_of,
    read_entry,
    read_head,
    read_mark,
)
from django_mongo_history.storage.filters import between, rows_of
from django_mongo_history.storage.indexes import INDEXES, UPDATES_WITH_SNAPSHOTS, bound
from django_mongo_history.storage.refusals import failures_of, is_there_already, said_by, strip
from django_mongo_history.storage.summaries import pipeline, summaries_of_groups

_MARKS_AT_ONCE: Final = 1000


class MongoStore:
    """
    The versions in `collection`, which must be of the same client as the documents where writes are to be atomic.

    The collection's write concern is used outside transactions, see `append_rows` for more; reads always go to the primary.
    """

    def __init__(self, collection: Collection[Any], indexes: Sequence[IndexModel] = INDEXES) -> None:
        self.name = collection.full_name
        self._indexes = indexes
        self._is_indexed = False
        self._rows: Collection[Any] = collection.with_options(
            codec_options=values.EXACT.with_options(document_class=RawBSONDocument),
            read_preference=ReadPreference.PRIMARY,
        )
        self._lasting = self._rows.with_options(write_concern=lasting(self._rows.write_concern))
        self._exact: Collection[Any] = collection.with_options(
            codec_options=values.EXACT, read_preference=ReadPreference.PRIMARY
        )

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        # Of a version in parts the first goes in last: until it is there, none of it is.
        self.append_rows(
            [row for encoded in rows.encode_all(records) for row in reversed(encoded)], session=session
        )

    def append_rows(self, encoded: Sequence[bytes], *, session: Any = None, is_moved: bool = False) -> None:
        """
        Store the rows of versions as they are, further parts before all first rows. One that is there stays.

        `is_moved`: they are taken out of where they were as soon as this returns, so the server must not lose them.
        Raises: as `append`.
        """
        target = self._lasting if is_moved else self._rows
        if session is not None and session.in_transaction:
            if encoded:
                _insert(self._rows, encoded, session)
            return
        # Apart, since where one is refused the server goes on with the others.
        further = [row for row in encoded if rows.is_further_part(row)]
        firsts = [row for row in encoded if not rows.is_further_part(row)] if further else encoded
        for some in (further, firsts):
            if some:
                self._store(target, some, session)

    def _store(self, target: Collection[Any], encoded: Sequence[bytes], session: Any) -> None:
        try:
            try:
                _insert(target, encoded, session)
            except DuplicateKeyError:
                # Asked as of many: of one alone the driver keeps to itself that the write concern is not met.
                _insert(target, encoded, session, as_of_many=True)
        except BulkWriteError as error:
            others = [one for one in failures_of(error) if not is_there_already(one)]
            # What is there and not yet where the write concern wants it may vanish, with a primary that steps down.
            if others or error.details.get("writeConcernErrors"):
                raise self._error(error) from error
        except (PyMongoError, InvalidDocument) as error:  # the latter is what is too large
            raise self._error(error) from error

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
            cursor = cursor.min(bound(collection, *low)).max(bound(collection, *high))
        else:
            cursor = self._exact.find(wanted | {"$expr": between(above, upto)}, ENTRY_FIELDS, session=session)
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
        for row in rows_of(query, lambda wanted: self._rows.find(wanted, session=session)):
            record = self._record(bytes(row.raw), session)
            if not isinstance(record, Unreadable):
                yield record
            elif query.unreadable is None:
                raise unreadable(key_of(row), record)
            else:
                query.unreadable(unreadable(key_of(row), record))

    def marks(self, query: Query, *, session: Any = None) -> Iterator[Mark]:
        for row in self._small(query, MARK_FIELDS, session):
            yield read_mark(row)

    def heads(self, query: Query) -> Iterator[Head]:
        for row in self._small(query, HEAD_FIELDS, None):
            head = read_head(row)
            if head is not None:
                yield head

    def _small(self, query: Query, fields: dict[str, int], session: Any) -> Iterator[dict[str, Any]]:
        # Without a limit the second answer would bring a hundred thousand of them.
        return rows_of(
            query,
            lambda wanted: self._exact.find(wanted, fields, session=session, batch_size=_MARKS_AT_ONCE),
        )

    def collections(self) -> list[str]:
        return sorted(name for name in self._exact.distinct("collection") if isinstance(name, str))

    def summaries(self, changesets: Sequence[ObjectId]) -> list[Summary]:
        # Named, for the planner would try the index over all moments as well.
        hint = self._hint("changeset")
        options: dict[str, Any] = {} if hint is None else {"hint": hint}
        return summaries_of_groups(self._exact.aggregate(pipeline(changesets), **options))

    def append_tombstone(self, tombstone: Tombstone) -> None:
        try:
            self.append_rows([tombstones.encode(tombstone)])
        except StoreError as error:
            said = said_by(error.__cause__ or error)
            raise StoreError(
                f"That {tombstone.collection} is being dropped could not be stored in {self.name}: {said}",
                store=self.name,
            ) from error.__cause__

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


def _insert(
    target: Collection[Any], encoded: Sequence[bytes], session: Any, *, as_of_many: bool = False
) -> None:
    """Raises: the driver's errors, without documents."""
    documents = [RawBSONDocument(row) for row in encoded]
    try:
        if len(documents) == 1 and not as_of_many:
            target.insert_one(documents[0], session=session)
        else:
            target.insert_many(documents, ordered=False, session=session)
    except PyMongoError as error:
        strip(error)
        raise
