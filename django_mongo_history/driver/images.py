"""
The collection beneath a recording one, as bytes: find documents, and write one while seeing what it was before.

Three forms of the one collection: `plain` runs the caller's own calls; `raw` reads whole documents as they lie, from
the primary, with the caller's codec options for encoding so that nobody's decoder changes a byte.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection, ReturnDocument
from pymongo.errors import OperationFailure
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from django_mongo_history.core.model import ABSENT

_ALL: Final = 2**31 - 1
_BYPASSES_BY_TRUTH: Final = (
    inspect.signature(Collection.update_one).parameters["bypass_document_validation"].default is False
)
"""Whether this driver's updates send True for whatever is true, as PyMongo 4.9 does, or what they got."""


class Found(NamedTuple):
    """The document before a single write, None if none matched; and the `_id` that an upsert made, else ABSENT."""

    before: bytes | None
    upserted: Any = ABSENT


class Images(Protocol):
    """What capture needs of a driver's collection."""

    plain: Any
    codec_options: CodecOptions[Any]
    computes: bool
    """Whether after-images of `$set` and `$unset` may be computed for this server."""

    def find_one(self, query: Any, session: Any, **options: Any) -> bytes | None: ...

    def find(self, query: Any, session: Any, **options: Any) -> Iterator[bytes]: ...

    def command(self, session: Any, **parts: Any) -> Found:
        """`findAndModify` in a transaction: the only form that tells the `_id` of an upsert."""
        ...

    def find_one_and(self, session: Any, **parts: Any) -> Found:
        """The driver's retryable helper, for use outside a transaction."""
        ...

    def swap(self, before: bytes, session: Any, **parts: Any) -> bytes | None:
        """The document after an update that is made only if it is still `before`; None if it is not."""
        ...


class PyMongoImages:
    """Over a PyMongo collection. Raw documents may be views on a message: what is kept of them is copied."""

    def __init__(self, collection: Collection[Any], *, computes: bool) -> None:
        self.codec_options: CodecOptions[Any] = collection.codec_options
        self.computes = computes
        concern = collection.write_concern
        self.plain: Collection[Any] = Collection(
            collection.database,
            collection.name,
            codec_options=collection.codec_options,
            read_preference=collection.read_preference,
            # Unacknowledged writes have no images: they are made with an answer, which the caller is not shown.
            write_concern=concern if concern.acknowledged else WriteConcern(w=1),
            read_concern=collection.read_concern,
        )
        self._raw_options: CodecOptions[Any] = self.codec_options.with_options(document_class=RawBSONDocument)

    @property
    def _raw(self) -> Collection[Any]:
        return self.plain.with_options(
            codec_options=self._raw_options, read_preference=ReadPreference.PRIMARY
        )

    def find_one(self, query: Any, session: Any, **options: Any) -> bytes | None:
        found = self._raw.find_one(query, session=session, **options)
        return None if found is None else bytes(found.raw)

    def find(self, query: Any, session: Any, **options: Any) -> Iterator[bytes]:
        if self.plain.database.client.options.auto_encryption_opts is not None:
            # The driver decrypts documents, not batches of them.
            yield from (bytes(found.raw) for found in self._raw.find(query, session=session, **options))
            return
        # Whoever asks wants all of them: one answer, as far as they fit, instead of a first one of a hundred.
        options.setdefault("batch_size", _ALL)
        with self._raw.find_raw_batches(query, session=session, **options) as cursor:
            for batch in cursor:
                yield from documents_of(batch)

    def command(self, session: Any, **parts: Any) -> Found:
        command = {"findAndModify": self.plain.name, **_command_parts(parts)}
        try:
            reply = self.plain.database.command(
                command,
                codec_options=self._raw_options,
                session=session,
                read_preference=ReadPreference.PRIMARY,
            )
        except OperationFailure as error:
            raise _in_dicts(error) from None
        value, state = reply.get("value"), reply.get("lastErrorObject") or {}
        upserted = state.get("upserted", ABSENT)
        return Found(None if value is None else bytes(value.raw), upserted)

    def find_one_and(self, session: Any, **parts: Any) -> Found:
        found = self._find_one_and(session, ReturnDocument.BEFORE, parts)
        return Found(None if found is None else bytes(found.raw))

    def swap(self, before: bytes, session: Any, **parts: Any) -> bytes | None:
        same = {"$expr": {"$eq": ["$$ROOT", {"$literal": RawBSONDocument(before)}]}}
        guarded = {**parts, "query": {"$and": [parts["query"], same]}}
        found = self._find_one_and(session, ReturnDocument.AFTER, guarded)
        return None if found is None else bytes(found.raw)

    def _find_one_and(self, session: Any, wanted: bool, parts: Mapping[str, Any]) -> Any:  # noqa: FBT001
        options = _given(parts)
        query = options.pop("query")
        if options.pop("remove", False):
            return self._raw.find_one_and_delete(query, session=session, **options)
        update = options.pop("update")
        raw = self._raw
        method = raw.find_one_and_replace if _is_replacement(update) else raw.find_one_and_update
        return method(query, update, session=session, return_document=wanted, **options)


def _in_dicts(error: OperationFailure) -> OperationFailure:
    """The same error with details that are no raw document, as callers know them."""
    if not isinstance(error.details, RawBSONDocument):
        return error
    details = bson.decode(error.details.raw)
    message = str(error).partition(", full error: ")[0]
    return type(error)(message, error.code, details)


def documents_of(batch: bytes) -> Iterator[bytes]:
    """The documents that lie one behind the other."""
    position, end = 0, len(batch)
    while position < end:
        start = position
        position += int.from_bytes(batch[start : start + 4], "little")
        yield batch[start:position]


class MongomockImages:
    """Over a mongomock collection: no raw documents, no sessions, and commands are calls."""

    computes = False

    def __init__(self, collection: Any) -> None:
        self.plain = collection
        self.codec_options: CodecOptions[Any] = bson.codec_options.DEFAULT_CODEC_OPTIONS

    def find_one(self, query: Any, session: Any, **options: Any) -> bytes | None:
        found = self.plain.find_one(query, **_supported(options))
        return None if found is None else bson.encode(found)

    def find(self, query: Any, session: Any, **options: Any) -> Iterator[bytes]:
        for found in list(self.plain.find(query, **_supported(options))):
            yield bson.encode(found)

    def command(self, session: Any, **parts: Any) -> Found:
        return self.find_one_and(session, **parts)

    def find_one_and(self, session: Any, **parts: Any) -> Found:
        found = self._find_one_and(ReturnDocument.BEFORE, parts)
        return Found(None if found is None else bson.encode(found))

    def swap(self, before: bytes, session: Any, **parts: Any) -> bytes | None:
        found = self._find_one_and(ReturnDocument.AFTER, parts)
        return None if found is None else bson.encode(found)

    def _find_one_and(self, wanted: bool, parts: Mapping[str, Any]) -> Any:  # noqa: FBT001
        options = _supported(parts)
        query = options.pop("query")
        if options.pop("remove", False):
            return self.plain.find_one_and_delete(query, **options)
        update = options.pop("update")
        plain = self.plain
        method = plain.find_one_and_replace if _is_replacement(update) else plain.find_one_and_update
        return method(query, update, return_document=wanted, **options)


def _supported(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _is_replacement(update: Any) -> bool:
    if isinstance(update, RawBSONDocument):
        return not next(iter(update), "").startswith("$")
    return isinstance(update, Mapping) and not str(next(iter(update), "")).startswith("$")


def images_over(collection: Any) -> Images:
    """What reads whole documents of this collection, of PyMongo or mongomock."""
    if isinstance(collection, Collection):
        return PyMongoImages(collection, computes=False)
    return MongomockImages(collection)


def _given(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None; how an update passes validation by as the driver would send it, which helpers do not know."""
    found = {name: value for name, value in parts.items() if value is not None}
    if "bypass_document_validation" in found:
        value = found.pop("bypass_document_validation")
        found["bypassDocumentValidation"] = bool(value) if _BYPASSES_BY_TRUTH else value
    return found


def _command_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The helper's arguments as the command wants them."""
    command = _given(parts)
    if "array_filters" in command:
        command["arrayFilters"] = command.pop("array_filters")
    for name in ("sort", "hint"):
        if isinstance(command.get(name), (list, tuple)):
            command[name] = dict(command[name])
    collation = command.get("collation")
    if collation is not None and not isinstance(collation, Mapping):
        command["collation"] = collation.document
    return command
