"""
Writes of many documents by a filter: read what it finds, then the caller's own call, whole or chunk by chunk.

A work is made again from the start after a conflict, so it keeps nothing from one attempt to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo.errors import OperationFailure

from django_mongo_history.capture.works import Failure
from django_mongo_history.core import after_image
from django_mongo_history.core.identity import decoded, id_bytes, id_of, write_of
from django_mongo_history.core.model import ABSENT, DocumentKey, Write
from django_mongo_history.delivery.base import Outcome
from django_mongo_history.driver.images import Images

LARGEST_CHUNK: Final = 64 * 1024 * 1024
"""Bytes of documents in one transaction, whatever their number: the server keeps them and their versions in its cache."""
_PLAINLY_ORDERED: Final = frozenset({0x07, 0x10, 0x12})
"""ObjectId, int32, int64: no collation has a say in their order."""


@dataclass(slots=True)
class Many:
    """
    `update_many`, `delete_many`: read what the filter finds, then the caller's own call, in one snapshot.

    `call` takes a filter. More documents than `limit` are TooManyError, with nothing written: see `chunks`.
    """

    images: Images
    namespace: str
    query: Any
    options: dict[str, Any]
    call: Callable[[Any, Any], Any]
    update: Any = None
    limit: int | None = None
    has_filters: bool = False
    needs_transaction: bool = True
    is_callers_call: bool = False

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        befores = self._befores(session)
        query = self.query if transactional or not befores else _only(self.query, befores)
        return self._written(befores, query, session, transactional=transactional)

    def _written(self, befores: list[bytes], query: Any, session: Any, *, transactional: bool) -> Outcome:
        try:
            result = self.call(query, session)
        except OperationFailure as error:
            if transactional:
                raise
            # Outside a transaction the documents before the one that failed are written.
            return Outcome(Failure(error), self._read(befores, session))
        writes = self._deleted(befores) if self.update is None else self._updated(befores, result, session)
        return Outcome(result, writes)

    def original(self, session: Any) -> Any:
        return self.call(self.query, session)

    def _befores(self, session: Any) -> list[bytes]:
        if self.limit is None:
            return list(self.images.find(self.query, session, **self.options))
        found: list[bytes] = []
        size = 0
        for image in self.images.find(self.query, session, **self.options, limit=self.limit + 1):
            found.append(image)
            size += len(image)
            if len(found) > self.limit or (len(found) > 1 and size > LARGEST_CHUNK):
                raise TooManyError
        return found

    def _deleted(self, befores: Iterable[bytes]) -> list[Write]:
        return [write_of(self.namespace, before, None) for before in befores]

    def _updated(self, befores: list[bytes], result: Any, session: Any) -> list[Write]:
        writes, unknown = self._computed(befores)
        writes.extend(self._read(unknown, session))
        answer = getattr(result, "raw_result", None) or {}
        if not befores and "upserted" in answer:  # its value may be None; mongomock always has the key
            after = self.images.find_one({"_id": answer["upserted"]}, session)
            if after is not None:
                writes.append(write_of(self.namespace, None, after))
        return writes

    def _computed(self, befores: list[bytes]) -> tuple[list[Write], list[bytes]]:
        """The writes whose after-image is certain, and the documents that must be read again."""
        computes = self.images.computes and not self.has_filters
        update = after_image.ComputedUpdate.of(self.update, self.images.codec_options) if computes else None
        if update is None:
            return [], befores
        writes: list[Write] = []
        unknown: list[bytes] = []
        for before in befores:
            after = update.after(before)
            if after is None:
                unknown.append(before)
            else:
                writes.append(write_of(self.namespace, before, after.image, after.replaced))
        return writes, unknown

    def _read(self, befores: list[bytes], session: Any) -> list[Write]:
        if not befores:
            return []
        olds = {id_bytes(before): before for before in befores}
        ids = [decoded(*identity) for identity in olds]
        afters = {id_bytes(after): after for after in self.images.find({"_id": {"$in": ids}}, session)}
        return [
            Write(DocumentKey(self.namespace, document_id), before, afters.get(identity))
            for document_id, (identity, before) in zip(ids, olds.items(), strict=True)
        ]


@dataclass(slots=True)
class Chunk(Many):
    """
    The next documents of such a write, in the order of `_id` from `above` (exclusive): as many as one transaction holds.

    `call` writes existing documents only. `limit` is set.
    """

    above: Any = ABSENT
    last: Any = field(default=ABSENT, init=False)
    """The `_id` of the last one in the latest attempt; ABSENT where none was left."""
    has_more: bool = field(default=False, init=False)
    """Whether others come behind it."""
    _chosen: Any = field(default=None, init=False)

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        befores = self._next(session)
        self.last = id_of(befores[-1]) if befores else ABSENT
        self._chosen = _only(self.query, befores, is_snapshot=transactional) if befores else self.query
        if not befores:
            return Outcome(None)
        return self._written(befores, self._chosen, session, transactional=transactional)

    def original(self, session: Any) -> Any:
        return self.call(self.query if self._chosen is None else self._chosen, session)

    def _next(self, session: Any) -> list[bytes]:
        # $expr compares across types, in BSON order; a plain $gt would stay within one type.
        above = {"$expr": {"$gt": ["$_id", {"$literal": self.above}]}}
        query = self.query if self.above is ABSENT else {"$and": [self.query, above]}
        found: list[bytes] = []
        size, most = 0, self.limit or 1
        self.has_more = False
        for image in self.images.find(query, session, **self.options, sort=[("_id", 1)], limit=most + 1):
            size += len(image)
            self.has_more = len(found) == most or (bool(found) and size > LARGEST_CHUNK)
            if self.has_more:
                break
            found.append(image)
        return found


class TooManyError(Exception):
    """A write of many documents found more of them than one transaction shall hold, or larger ones."""


def _only(query: Any, befores: list[bytes], *, is_snapshot: bool = False) -> dict[str, Any]:
    """
    The filter on the documents that were read: no other may be written unseen.

    `is_snapshot`: they are all there are in the order of `_id` from the first to the last, and nothing can come between.
    """
    ends = id_bytes(befores[0]), id_bytes(befores[-1])
    if is_snapshot and all(kind in _PLAINLY_ORDERED for kind, _value in ends) and ends[0][0] == ends[1][0]:
        return {"$and": [query, {"_id": {"$gte": decoded(*ends[0]), "$lte": decoded(*ends[1])}}]}
    return {"$and": [query, {"_id": {"$in": [id_of(before) for before in befores]}}]}
