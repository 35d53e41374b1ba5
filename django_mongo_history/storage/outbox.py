"""
Versions on their way (`Outbox`), and those that could not be stored (`DeadLetters`): two collections beside a document's.

An outbox holds rows as a store holds them, so what waits there can be read like any version, and is moved on byte for
byte. Both are on the documents' own server, so that a version gets there in one transaction with its document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bson import Binary, ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, DeleteMany, IndexModel
from pymongo.collection import Collection, ReturnDocument
from pymongo.errors import PyMongoError
from pymongo.read_preferences import ReadPreference

from django_mongo_history.core import elements, values
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.errors import StoreError
from django_mongo_history.storage import rows
from django_mongo_history.storage.concerns import acknowledged, lasting
from django_mongo_history.storage.indexes import INDEXES
from django_mongo_history.storage.mongo import MongoStore
from django_mongo_history.storage.refusals import said_by, strip

Packet = Sequence[bytes]
"""The rows of one version: its further parts, if it has any, and the first row last."""

_FAILED: Final = "failed"
_HEADS: Final[dict[str, Any]] = {"at": {"$exists": True}}
"""Further parts of a large version have no `at`."""
_LINKS: Final = [index for index in INDEXES if index.document["name"] == "links"]
_OUTBOX_INDEXES: Final = [
    *_LINKS,
    IndexModel([("at", ASCENDING)], name="at", sparse=True),
    IndexModel([("failed.next_at", ASCENDING)], name="failed", sparse=True),
]


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many versions wait, since when the oldest (its write's moment), and how many of them were refused before."""

    count: int
    oldest: datetime | None = None
    refused: int = 0


class Outbox:
    """The versions on their way, in `collection`."""

    def __init__(self, collection: Collection[Any]) -> None:
        self.name = collection.full_name
        self.store = MongoStore(acknowledged(collection), _OUTBOX_INDEXES)
        self._raw: Collection[Any] = _exact(collection, RawBSONDocument)
        self._exact: Collection[Any] = _exact(collection, dict)

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        """Put versions in. Raises: as `Store.append`."""
        self.store.append(records, session=session)

    def put(self, packet: Packet) -> None:
        """Put the rows of a version in as they are, or of several; one that is there stays. Raises: as `append`."""
        self.store.append_rows(packet, is_moved=True)

    def packets(
        self, ids: Sequence[ObjectId] | None = None, *, ready_at: datetime | None = None
    ) -> Iterator[tuple[ObjectId, Packet]]:
        """
        Versions with their rows, oldest id first, streamed: of these ids, or all. `ready_at`: none that was refused and
        is to be tried later than that.
        """
        wanted: dict[str, Any] = dict(_HEADS)
        if ids is not None:
            wanted["_id"] = {"$in": list(ids)}
        if ready_at is not None:
            wanted[f"{_FAILED}.next_at"] = {"$not": {"$gt": ready_at}}
        # By `_id`, or a long queue would be sorted in memory.
        with self._raw.find(wanted, hint="_id_").sort("_id", ASCENDING) as found:
            for row in found:
                yield row["_id"], self._packet(bytes(row.raw))

    def _packet(self, head: bytes) -> Packet:
        further = rows.part_ids(head)
        found = self._raw.find({"_id": {"$in": further}}).sort("_id", ASCENDING) if further else ()
        return [*(bytes(part.raw) for part in found), _without_failures(head)]

    def remove(self, moved: Mapping[ObjectId, Packet]) -> None:
        """
        Take versions out that are stored elsewhere. First rows go first: without it, nothing of a version is there.

        In one command, so that whoever is killed here leaves no parts that nobody finds any more.
        """
        parts = [part for packet in moved.values() if len(packet) > 1 for part in rows.part_ids(packet[-1])]
        _delete(self._exact, list(moved), parts)

    def refuse(self, version_id: ObjectId, error: str) -> int:
        """Note that the store has refused a version; how often that has been so."""
        change = {"$inc": {f"{_FAILED}.tries": 1}, "$set": {f"{_FAILED}.error": error}}
        found = self._exact.find_one_and_update(
            {"_id": version_id}, change, {_FAILED: 1}, return_document=ReturnDocument.AFTER
        )
        return 0 if found is None else int(found[_FAILED]["tries"])

    def postpone(self, version_id: ObjectId, next_at: datetime) -> None:
        """Have a version that was refused tried again at that moment, and not before."""
        self._exact.update_one({"_id": version_id}, {"$set": {f"{_FAILED}.next_at": next_at}})

    def waiting(self) -> Waiting:
        """What waits. Cost: two counts and a look, all by index."""
        oldest = self._exact.find_one(_HEADS, {"at": 1}, sort=[("at", ASCENDING)])
        if oldest is None:
            return Waiting(0)
        refused = self._exact.count_documents({f"{_FAILED}.next_at": {"$exists": True}})
        return Waiting(self._exact.count_documents(_HEADS), oldest["at"], refused)

    def holds(self, version_id: ObjectId) -> bool:
        """Whether this version is still on its way."""
        return self._exact.find_one({"_id": version_id}, {"_id": 1}) is not None

    def prepare(self) -> list[str]:
        """Make the collection and its indexes; the names of what was missing. Raises: StoreError."""
        return self.store.prepare()

    def missing(self) -> list[str]:
        """The names of what `prepare` would make."""
        return self.store.missing()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    What could not be stored, and why. `id`: the version's, or one made from the message where that cannot be read.

    `packet`: the rows as they were to be stored; of a message that cannot be read its text, alone.
    """

    id: ObjectId
    packet: Packet
    error: str
    tries: int
    died_at: datetime
    collection: str = ""
    document_id: Any = None
    is_message: bool = False


class DeadLetters:
    """What was laid aside, in `collection`. Rows are kept as binary, so that no rule of the server refuses them."""

    def __init__(self, collection: Collection[Any]) -> None:
        self.name = collection.full_name
        exact = _exact(collection, dict)
        # What is laid aside is taken out of where it was.
        self._exact: Collection[Any] = exact.with_options(write_concern=lasting(exact.write_concern))

    def bury(self, letter: DeadLetter) -> None:
        """Lay a letter aside; again, it stays one. Raises: StoreError."""
        *parts, head = letter.packet
        stored = {
            "error": letter.error,
            "tries": letter.tries,
            "died_at": letter.died_at,
            "collection": letter.collection,
            "document_id": letter.document_id,
            "is_message": letter.is_message,
            "parts": len(parts),
            "row": Binary(head),
        }
        try:
            for number, part in enumerate(parts):
                place = {"_id": {"version": letter.id, "part": number}}
                self._exact.replace_one(place, {"payload": Binary(part)}, upsert=True)
            self._exact.replace_one({"_id": letter.id}, stored, upsert=True)
        except PyMongoError as error:
            strip(error)
            raise StoreError(
                f"A version that could not be stored could not be laid aside in {self.name} either: {said_by(error)}",
                store=self.name,
            ) from error

    def holds(self, ids: Iterable[ObjectId]) -> frozenset[ObjectId]:
        """Those of these versions that have been laid aside."""
        return frozenset(row["_id"] for row in self._exact.find({"_id": {"$in": list(ids)}}, {"_id": 1}))

    def letters(self) -> Iterator[DeadLetter]:
        """All letters, the oldest id first, streamed."""
        with self._exact.find({"died_at": {"$exists": True}}).sort("_id", ASCENDING) as found:
            for stored in found:
                yield self._letter(stored)

    def _letter(self, stored: Mapping[str, Any]) -> DeadLetter:
        ids = [{"version": stored["_id"], "part": number} for number in range(stored["parts"])]
        parts = self._exact.find({"_id": {"$in": ids}}).sort("_id", ASCENDING) if ids else ()
        return DeadLetter(
            id=stored["_id"],
            packet=[*(bytes(part["payload"]) for part in parts), bytes(stored["row"])],
            error=stored["error"],
            tries=stored["tries"],
            died_at=stored["died_at"],
            collection=stored["collection"],
            document_id=stored["document_id"],
            is_message=stored["is_message"],
        )

    def remove(self, letter: DeadLetter) -> None:
        """Forget a letter whose version is stored by now."""
        parts = [{"version": letter.id, "part": number} for number in range(len(letter.packet) - 1)]
        _delete(self._exact, [letter.id], parts)

    def count(self) -> int:
        """How many letters there are."""
        return int(self._exact.count_documents({"died_at": {"$exists": True}}))


def packet_of(encoded: Iterable[bytes]) -> Packet:
    """The rows of one version, as `rows.encode` gives them, in the order in which they are to be stored."""
    first, *further = encoded
    return [*further, first]


def _exact(collection: Collection[Any], document_class: type[Any]) -> Collection[Any]:
    return acknowledged(collection).with_options(
        codec_options=values.EXACT.with_options(document_class=document_class),
        read_preference=ReadPreference.PRIMARY,
    )


def _delete(collection: Collection[Any], heads: Sequence[Any], parts: Sequence[Any]) -> None:
    some = (ids for ids in (heads, parts) if ids)
    if found := [DeleteMany({"_id": {"$in": list(ids)}}) for ids in some]:
        collection.bulk_write(found)


def _without_failures(row: bytes) -> bytes:
    """The row as it was put in."""
    if elements.find_value(row, _FAILED.encode()) is None:
        return row
    kept = (element for element in elements.elements(row) if element.name != _FAILED.encode())
    return elements.assemble(kept)
