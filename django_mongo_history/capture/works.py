"""
The kinds of write that a collection knows, each seen with the document on both sides.

A work is made again from the start after a conflict, so it keeps nothing from one attempt to the next.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError, WriteConcernError
from pymongo.results import DeleteResult, UpdateResult

from django_mongo_history.core import after_image, elements, values
from django_mongo_history.core.identity import id_of, write_of
from django_mongo_history.core.model import ABSENT
from django_mongo_history.delivery.base import Outcome
from django_mongo_history.driver import topology
from django_mongo_history.driver.images import Found, Images

logger: Final = logging.getLogger("django_mongo_history")
_TRIES: Final = 5
_LARGEST_GUARD: Final = 7 * 1024 * 1024
"""Bytes of a document that still fits into a filter beside an update."""
_OPERATORS: Final = "$"
Call = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is an exception: raised once what was written all the same has been recorded."""

    error: PyMongoError


@dataclass(slots=True)
class Insert:
    """`insert_one`, `insert_many`: the caller's own call; what was sent is what is stored, `_id` in front."""

    images: Images
    namespace: str
    documents: list[Any]
    call: Call
    needs_transaction: bool = False
    is_callers_call: bool = True

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        answer: Any
        stored = self.documents
        try:
            answer = self.call(session)
        except BulkWriteError as error:
            if transactional:
                raise
            # Outside a transaction the documents before the error, and unordered those after it, are stored.
            failed = {failure["index"] for failure in error.details["writeErrors"]}
            reached = error.details["nInserted"] + len(failed)
            stored = [sent for index, sent in enumerate(stored[:reached]) if index not in failed]
            answer = Failure(error)
        except OperationFailure as error:
            if transactional:
                raise
            # An unmet write concern says so after the write; anything else instead of it.
            stored = stored if isinstance(error, WriteConcernError) else []
            answer = Failure(error)
        return Outcome(
            answer, [write_of(self.namespace, None, self._after(sent, session)) for sent in stored]
        )

    def original(self, session: Any) -> Any:
        return self.call(session)

    def _after(self, sent: Any, session: Any) -> bytes:
        image = encoded(sent, self.images)
        if not after_image.has_server_time(image):
            return image
        stored = self.images.find_one({"_id": sent["_id"]}, session)
        return image if stored is None else stored


def encoded(document: Any, images: Images) -> bytes:
    """A document as the driver sends it; a raw one as it is."""
    if not isinstance(document, dict) and isinstance(
        document, RawBSONDocument
    ):  # the second alone is not cheap
        return bytes(document.raw)
    return bson.encode(document, codec_options=images.codec_options)


def with_id(document: Any) -> Any:
    """The document with an `_id`: as the driver does it, and for raw documents, which it leaves to the server."""
    if isinstance(document, dict) or not isinstance(document, RawBSONDocument):
        if "_id" not in document:
            document["_id"] = ObjectId()
        return document
    raw = bytes(document.raw)
    if elements.find_value(raw, b"_id") is not None:
        return document
    identity = elements.Element(b"_id", *values.encode_value(ObjectId()))
    return RawBSONDocument(elements.assemble([identity, *elements.elements(raw)]))


@dataclass(slots=True)
class Refused:
    """What the server refuses in the caller's form, though it would do it in ours: the caller's own call."""

    call: Call
    needs_transaction: bool = False
    is_callers_call: bool = True

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        return Outcome(self.call(session))

    def original(self, session: Any) -> Any:
        return self.call(session)


@dataclass(slots=True)
class Single:
    """
    A write of at most one document: update, replacement or removal.

    `parts` are the arguments of findAndModify by the names of PyMongo's helpers; `call` is the caller's own call.
    `answer` makes the caller's result of the document before, the one after, and the `_id` an upsert made.
    """

    images: Images
    namespace: str
    parts: dict[str, Any]
    call: Call
    answer: Callable[[Found, bytes | None], Any]
    needs_transaction: bool = field(init=False)
    is_callers_call: bool = field(default=False, init=False)
    _swaps: bool = field(init=False)

    def __post_init__(self) -> None:
        self._swaps = not (
            self.parts.get("remove") or (self._is_computable() and not self._may_insert_unknown())
        )
        # A WriteConcernError does not bring the document that was written; a transaction has it before the error.
        self.needs_transaction = self._swaps or topology.may_fail_late(self.images.plain.write_concern)

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        if transactional:
            found = self.images.command(session, **self.parts)
        elif self._swaps:
            return self._compare_and_swap(session)
        else:
            found = self.images.find_one_and(session, **self.parts)
        return self._outcome(found, session)

    def original(self, session: Any) -> Any:
        return self.call(session)

    def _outcome(self, found: Found, session: Any) -> Outcome:
        after = self.after(found, session)
        if found.before is None and after is None:
            return Outcome(self.answer(found, None))
        return Outcome(self.answer(found, after), [write_of(self.namespace, found.before, after)])

    def after(self, found: Found, session: Any) -> bytes | None:
        """The document after the write: computed where that is certain, else read in the same session."""
        if self.parts.get("remove"):
            return None
        if found.before is not None:
            return self._computed(found.before) or self._read(found.before, session)
        if found.upserted is not ABSENT:
            return self.images.find_one({"_id": found.upserted}, session)
        if self.parts.get(
            "upsert"
        ):  # the helper does not tell the id, but `needs_transaction` saw to it that we know
            made = encoded({"_id": self.parts["query"]["_id"]}, self.images)
            return self._computed(made) or self._read(made, session)
        return None

    def _computed(self, before: bytes) -> bytes | None:
        if not self._is_computable():
            return None
        update = self.parts["update"]
        if _is_replacement(update):
            sent = encoded(update, self.images)
            return after_image.after_replacement(before, sent)
        return after_image.after_update(before, update, self.images.codec_options)

    def _is_computable(self) -> bool:
        update = self.parts.get("update")
        if not self.images.computes or not isinstance(update, Mapping) or self.parts.get("array_filters"):
            return False
        return _is_replacement(update) or after_image.is_certain(update)

    def _may_insert_unknown(self) -> bool:
        """Whether an upsert may make a document of more than a known `_id` and the update."""
        query = self.parts["query"]
        return bool(self.parts.get("upsert")) and not (pins_id(query) and len(query) == 1)

    def _read(self, before: bytes, session: Any) -> bytes | None:
        return self.images.find_one({"_id": id_of(before)}, session)

    def _compare_and_swap(self, session: Any) -> Outcome:
        """Without transactions: find, then write what was found if it is still the same, so that both images hold."""
        names = ("sort", "hint", "collation", "let")
        options = {name: self.parts[name] for name in names if self.parts.get(name)}
        for _try in range(_TRIES):
            before = self.images.find_one(self.parts["query"], session, **options)
            if before is None:
                return self._upsert(session) if self.parts.get("upsert") else Outcome(self.call(session))
            found = {**self.parts, "query": self._guarded(before), "sort": None, "upsert": None}
            after = self.images.swap(before, session, **found) if len(before) < _LARGEST_GUARD else None
            if after is not None:
                answer = self.answer(Found(before), after)
                return Outcome(answer, [write_of(self.namespace, before, after)])
        logger.warning(
            "%s: a document changed again and again while it was written; what its version says came before or after "
            "may belong to another writer. A replica set has transactions for this.",
            self.namespace,
        )
        return self._outcome(self.images.find_one_and(session, **self.parts), session)

    def _upsert(self, session: Any) -> Outcome:
        """Where nothing matched: the form that tells the `_id` it made."""
        names = ("hint", "collation", "array_filters", "let", "comment", "bypass_document_validation")
        options = {name: self.parts[name] for name in names if self.parts.get(name)}
        update = self.parts["update"]
        plain = self.images.plain
        method = plain.replace_one if _is_replacement(update) else plain.update_one
        result = method(self.parts["query"], update, upsert=True, **options)
        upserted = (result.raw_result or {}).get("upserted", ABSENT)
        if upserted is ABSENT and result.matched_count:
            logger.warning(
                "%s: another writer made the document that an upsert was about to make; what it was before is not "
                "known, its next version shows the change as external.",
                self.namespace,
            )
            return Outcome(self.answer(Found(None), None))
        return self._outcome(Found(None, upserted), session)

    def _guarded(self, before: bytes) -> dict[str, Any]:
        return {"$and": [self.parts["query"], {"_id": id_of(before)}]}


def pins_id(query: Any) -> bool:
    """Whether the filter can match one document only: `_id` equal to a plain value."""
    if not isinstance(query, Mapping) or "_id" not in query:
        return False
    wanted = query["_id"]
    if isinstance(wanted, Mapping):
        return not any(str(key).startswith(_OPERATORS) for key in wanted)
    return not isinstance(wanted, (Regex, re.Pattern))


def _is_replacement(update: Any) -> bool:
    return isinstance(update, Mapping) and not str(next(iter(update), "")).startswith(_OPERATORS)


def update_result(
    found: Found,
    after: bytes | None,
    *,
    acknowledged: bool,
    decode: Callable[[Any], Any],
    replacement: bytes | None = None,
) -> UpdateResult:
    """
    What `update_one` and `replace_one` answer. A `replacement` counts as a change unless it is sent byte for byte as
    the document lies there, though the server may make the same document of it.
    """
    if not acknowledged:
        return UpdateResult(None, acknowledged)
    matched = found.before is not None
    raw: dict[str, Any] = {"n": 1 if after is not None or matched else 0}
    upserted = not matched and after is not None
    raw["nModified"] = int(matched and found.before != (after if replacement is None else replacement))
    raw["ok"] = 1.0
    raw["updatedExisting"] = matched
    if upserted:
        assert after is not None
        raw["upserted"] = decode(after)["_id"]
    return UpdateResult(raw, acknowledged)


def delete_result(found: Found, *, acknowledged: bool) -> DeleteResult:
    """What `delete_one` and a `delete_many` of one document answer."""
    if not acknowledged:
        return unanswered_delete()
    return DeleteResult({"n": int(found.before is not None), "ok": 1.0}, acknowledged)


def unanswered_delete() -> DeleteResult:
    """What the driver makes of a delete that nobody waits for."""
    return DeleteResult({"ok": 1}, acknowledged=False)
