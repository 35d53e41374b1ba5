"""The write of a revert: documents replaced as wholes, past MongoEngine, only where they are still what was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, InsertOne, ReplaceOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError
from pymongo.results import BulkWriteResult

from django_mongo_history.core import values
from django_mongo_history.core.identity import id_bytes, write_of
from django_mongo_history.core.model import Write
from django_mongo_history.delivery.base import Outcome
from django_mongo_history.reading import Source
from django_mongo_history.revert.plan import Decision

_LARGEST_GUARD: Final = 7 * 1024 * 1024
"""Bytes of a document that still fits into a filter beside what replaces it."""


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
    is_callers_call: bool = False

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        writes = self._fresh(session)
        if not transactional:
            return self._one_by_one(writes, session)
        requests = self._together(writes) if self.together else [self._request(write) for write in writes]
        if requests:
            self._send(requests, session)
        return Outcome(None, writes)

    def _one_by_one(self, writes: list[Write], session: Any) -> Outcome:
        """
        Without transactions each write asks once more whether the document is still what it was.

        What was done before a failure stays, and has its versions; the answer is the failure.
        """
        done: list[Write] = []
        for write in writes:
            try:
                answer = self._send([self._request(write, is_guarded=True)], session)
            except BulkWriteError as error:
                return Outcome(error, done)
            if answer is None or answer.inserted_count + answer.matched_count + answer.deleted_count:
                done.append(write)
            else:
                self.stale.add(values.encode_value(write.key.document_id))
        return Outcome(None, done)

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

    def _send(self, requests: list[Any], session: Any) -> BulkWriteResult | None:
        """What the server answered; None for mongomock, which does as it is told."""
        collection = self.source.collection
        if isinstance(collection, Collection):
            options = values.EXACT.with_options(document_class=RawBSONDocument)
            exact = collection.with_options(codec_options=options)
            return exact.bulk_write(requests, ordered=True, session=session)
        for request in requests:  # mongomock's bulk_write refuses what PyMongo 4.11 and later make
            _send_to_mock(collection, request)
        return None

    def _request(self, write: Write, *, is_guarded: bool = False) -> Any:
        query: dict[str, Any] = {"_id": {"$eq": write.key.document_id}}
        if is_guarded and write.before is not None and len(write.before) < _LARGEST_GUARD:
            query["$expr"] = {"$eq": ["$$ROOT", {"$literal": RawBSONDocument(write.before)}]}
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
