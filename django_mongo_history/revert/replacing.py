"""The write of a revert: documents replaced as wholes, past MongoEngine, only where they are still what was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, InsertOne, ReplaceOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from django_mongo_history.core import values
from django_mongo_history.core.identity import id_bytes, write_of
from django_mongo_history.core.model import Write
from django_mongo_history.delivery.base import Outcome
from django_mongo_history.reading import Source
from django_mongo_history.revert.plan import Decision


@dataclass(slots=True)
class Replacement:
    """
    Documents replaced as wholes. `together`: all or none; all out first, then all in, within one transaction.

    `stale`: those that were written after they were looked at, which the last attempt has left alone.
    """

    source: Source
    decisions: list[Decision]
    together: bool
    stale: set[tuple[int, bytes]] = field(default_factory=set)
    needs_transaction: bool = True

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        writes = self._fresh(session)
        requests = self._together(writes) if self.together else [self._request(write) for write in writes]
        try:
            if requests:
                self._send(requests, session)
        except BulkWriteError as error:
            if transactional:
                raise
            # What was done before the failure stays, and has its versions; the answer is the failure.
            return Outcome(error, writes[: error.details["writeErrors"][0]["index"]])
        return Outcome(None, writes)

    def _fresh(self, session: Any) -> list[Write]:
        """The writes whose documents are still what they were when they were looked at."""
        writes = [write_of(self.source.namespace, one.before, one.after) for one in self.decisions]
        ids = [write.key.document_id for write in writes]
        found = self.source.images.find({"_id": {"$in": ids}}, session)
        present = {id_bytes(image): image for image in found}
        names = [values.encode_value(document_id) for document_id in ids]
        pairs = list(zip(names, writes, strict=True))
        self.stale = {name for name, write in pairs if present.get(name) != write.before}
        if self.together and self.stale:
            self.stale = set(names)
        return [write for name, write in pairs if name not in self.stale]

    def original(self, session: Any) -> Any:
        return self.attempt(session, transactional=True)

    def _send(self, requests: list[Any], session: Any) -> None:
        collection = self.source.collection
        if isinstance(collection, Collection):
            options = values.EXACT.with_options(document_class=RawBSONDocument)
            collection.with_options(codec_options=options).bulk_write(requests, ordered=True, session=session)
            return
        for request in requests:  # mongomock's bulk_write refuses what PyMongo 4.11 and later make
            _send_to_mock(collection, request)

    def _request(self, write: Any) -> Any:
        query = {"_id": {"$eq": write.key.document_id}}
        if write.after is None:
            return DeleteOne(query)
        if write.before is None:
            return InsertOne(RawBSONDocument(write.after))
        return ReplaceOne(query, RawBSONDocument(write.after))

    def _together(self, writes: Sequence[Any]) -> list[Any]:
        out = [DeleteOne({"_id": {"$eq": write.key.document_id}}) for write in writes]
        return out + [InsertOne(RawBSONDocument(write.after)) for write in writes if write.after is not None]


def _send_to_mock(collection: Any, request: Any) -> None:
    if isinstance(request, DeleteOne):
        collection.delete_one(request._filter)  # noqa: SLF001 - requests have no public fields
    elif isinstance(request, InsertOne):
        collection.insert_one(values.decode(request._doc.raw))  # noqa: SLF001
    else:
        query = {"_id": request._filter["_id"]["$eq"]}  # noqa: SLF001 - mongomock takes the operator for a new `_id`
        collection.replace_one(query, values.decode(request._doc.raw))  # noqa: SLF001
