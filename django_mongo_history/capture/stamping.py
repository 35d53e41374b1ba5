"""
Collections that put the latest who and when on the documents which are written through them: for `RecordChanges`.

They stand in front of a recording collection or of the driver's own: each write gets the two fields and goes on as it
was, so that what is recorded is what was sent. See `core/stamps.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.collection import Collection

from django_mongo_history import context
from django_mongo_history.capture import arguments
from django_mongo_history.capture.calls import Subject
from django_mongo_history.capture.collection import RecordingCollection, recording
from django_mongo_history.capture.methods import RecordingMethods
from django_mongo_history.capture.strictness import pinned_ids
from django_mongo_history.core.model import DocumentKey
from django_mongo_history.core.stamps import Stamp
from django_mongo_history.delivery.environment import Environment

_seen: ContextVar[list[tuple[Any, Stamp]] | None] = ContextVar("django_mongo_history_stamps", default=None)


@dataclass(frozen=True, slots=True)
class Stamper:
    """Whose documents they are, and the environment in force now."""

    document_class: type[Any]
    environment: Callable[[], Environment]

    @contextmanager
    def stamps(self, namespace: str) -> Iterator[Callable[..., Stamp]]:
        """
        One call: gives the stamp for a document, or for those whose `_id` is not known.

        Who and why is found out once, for the recording collection behind this one too.
        """
        environment = self.environment()
        captured = environment.capture(
            self.document_class, environment.registry.concerned(self.document_class)
        )
        now = environment.now()

        def stamp(*ids: Any) -> Stamp:
            told = captured
            for document_id in ids:
                told = context.noted(told, DocumentKey(namespace, document_id))
            made = stamp_of(told, now)
            if ids and (seen := _seen.get()) is not None:
                seen.append((ids[0], made))
            return made

        with environment.holding(self.document_class, captured):
            yield stamp


def stamp_of(captured: context.Captured, now: datetime) -> Stamp:
    """Who and why as a document carries it: what a version stores, without request and task. The moment as of a version."""
    told = captured.context.to_bson()
    told.pop("request", None)
    told.pop("task", None)
    return Stamp(told, now + timedelta(microseconds=-now.microsecond % 1000))


@contextmanager
def watching() -> Iterator[list[tuple[Any, Stamp]]]:
    """The `_id`s and stamps of documents that are written one by one while the block lasts."""
    stamps: list[tuple[Any, Stamp]] = []
    token = _seen.set(stamps)
    try:
        yield stamps
    finally:
        _seen.reset(token)


class StampingMethods:
    """The writing methods that leave a document, over those of the next class."""

    _stamper: Stamper

    def _stamps(self) -> Any:
        return self._stamper.stamps(str(self.full_name))  # type: ignore[attr-defined]

    def _next(self, name: str) -> Callable[..., Any]:
        """The method of this name behind this one."""
        method: Callable[..., Any] = getattr(super(), name)
        return method

    def insert_one(self, document: Any, *args: Any, **options: Any) -> Any:
        if not arguments.is_document(document):
            return self._next("insert_one")(document, *args, **options)
        with self._stamps() as stamp:
            return self._next("insert_one")(_inserted(document, stamp), *args, **options)

    def insert_many(self, documents: Any, *args: Any, **options: Any) -> Any:
        given = list(documents) if isinstance(documents, Iterable) and not _is_one(documents) else None
        if not given or not all(map(arguments.is_document, given)):
            return self._next("insert_many")(documents if given is None else given, *args, **options)
        with self._stamps() as stamp:
            sent = [_inserted(document, stamp) for document in given]
            return self._next("insert_many")(sent, *args, **options)

    def update_one(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        return self._updated("update_one", filter, update, args, options)

    def update_many(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        return self._updated("update_many", filter, update, args, options)

    def find_one_and_update(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        return self._updated("find_one_and_update", filter, update, args, options)

    def replace_one(self, filter: Any, replacement: Any, *args: Any, **options: Any) -> Any:
        return self._replaced("replace_one", filter, replacement, args, options)

    def find_one_and_replace(self, filter: Any, replacement: Any, *args: Any, **options: Any) -> Any:
        return self._replaced("find_one_and_replace", filter, replacement, args, options)

    def bulk_write(self, requests: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(requests, list):
            return self._next("bulk_write")(requests, *args, **options)
        with self._stamps() as stamp:
            sent = [_requested(request, stamp) for request in requests]
            return self._next("bulk_write")(sent, *args, **options)

    def _updated(self, name: str, query: Any, update: Any, args: Any, options: Any) -> Any:
        if not arguments.is_update(update):
            return self._next(name)(query, update, *args, **options)
        with self._stamps() as stamp:
            return self._next(name)(query, stamp(*pinned_ids(query)).on_update(update), *args, **options)

    def _replaced(self, name: str, query: Any, document: Any, args: Any, options: Any) -> Any:
        if not arguments.is_replacement(document):
            return self._next(name)(query, document, *args, **options)
        with self._stamps() as stamp:
            return self._next(name)(query, _stamped(document, stamp(*pinned_ids(query))), *args, **options)


class StampedCollection(StampingMethods, Collection[Any]):
    """A PyMongo collection that stamps and does not record."""

    def __init__(self, collection: Collection[Any], stamper: Stamper) -> None:
        Collection.__init__(
            self,
            collection.database,
            collection.name,
            codec_options=collection.codec_options,
            read_preference=collection.read_preference,
            write_concern=collection.write_concern,
            read_concern=collection.read_concern,
        )
        self._stamper = stamper

    def with_options(self, *args: Any, **options: Any) -> StampedCollection:
        return StampedCollection(Collection.with_options(self, *args, **options), self._stamper)


class StampedRecordingCollection(StampingMethods, RecordingCollection):
    """A recording collection that stamps first."""

    def __init__(self, collection: Collection[Any], subject: Subject, stamper: Stamper) -> None:
        super().__init__(collection, subject)
        self._stamper = stamper

    def with_options(self, *args: Any, **options: Any) -> StampedRecordingCollection:
        plain = Collection.with_options(self, *args, **options)
        return StampedRecordingCollection(plain, self._subject, self._stamper)


class StampedMock(StampingMethods):
    """A mongomock collection, recording or not, that stamps."""

    def __init__(self, collection: Any, stamper: Stamper) -> None:
        self._collection = collection
        self._stamper = stamper

    def _next(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._collection, name)
        return method

    def _beneath(self) -> Any:
        """The same collection, not stamping."""
        return self._collection

    def with_options(self, *args: Any, **options: Any) -> StampedMock:
        return StampedMock(self._collection.with_options(*args, **options), self._stamper)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def __getitem__(self, name: str) -> Any:
        return self._collection[name]

    def __eq__(self, other: object) -> bool:
        return bool(self._collection == getattr(other, "_collection", other))

    def __hash__(self) -> int:
        return hash(self._collection)


def stamping(collection: Any, stamper: Stamper) -> Any:
    """The stamping form of a collection; one that stamps already stays as it is."""
    if isinstance(collection, StampingMethods):
        return collection
    if isinstance(collection, RecordingCollection):
        return StampedRecordingCollection(collection, collection._subject, stamper)  # noqa: SLF001
    if type(collection) is Collection:
        return StampedCollection(collection, stamper)
    return StampedMock(collection, stamper)


def recorded(collection: Any, subject: Subject) -> Any:
    """The recording form of a collection that may stamp, which it goes on doing."""
    if not isinstance(collection, StampingMethods) or isinstance(collection, RecordingMethods):
        return recording(collection, subject)
    beneath = collection._beneath() if isinstance(collection, StampedMock) else plainly(collection)  # noqa: SLF001
    return stamping(recording(beneath, subject), collection._stamper)  # noqa: SLF001


def plainly(collection: Any) -> Any:
    """The driver's own collection beneath a stamping one, or a recording mock; any other as it is."""
    if isinstance(collection, StampedMock):
        return collection._beneath()  # noqa: SLF001
    return Collection.with_options(collection) if isinstance(collection, StampedCollection) else collection


def _is_one(documents: Any) -> bool:
    return isinstance(documents, (Mapping, str))


def _inserted(document: Any, stamp: Callable[..., Stamp]) -> Any:
    """The document to send. The caller's own gets its `_id`, as the driver does it, and nothing else."""
    if isinstance(document, RawBSONDocument):
        return _stamped(document, stamp())
    document.setdefault("_id", ObjectId())
    return stamp(document["_id"]).on_document(document)


def _stamped(document: Any, stamp: Stamp) -> Any:
    if isinstance(document, RawBSONDocument):
        return RawBSONDocument(stamp.on_image(bytes(document.raw)))
    return stamp.on_document(document)


def _requested(request: Any, stamp: Callable[..., Stamp]) -> Any:
    """The same request of a `bulk_write`, with the fields; removals and what the driver refuses as they are."""
    sent = getattr(request, "_doc", None)
    changed = copy.copy(request)
    if isinstance(request, InsertOne) and arguments.is_document(sent):
        changed._doc = _inserted(sent, stamp)  # noqa: SLF001 - requests show what they hold by no public name
    elif isinstance(request, (UpdateOne, UpdateMany)) and arguments.is_update(sent):
        changed._doc = stamp(*pinned_ids(request._filter)).on_update(sent)  # noqa: SLF001
    elif isinstance(request, ReplaceOne) and arguments.is_replacement(sent):
        changed._doc = _stamped(sent, stamp(*pinned_ids(request._filter)))  # noqa: SLF001
    return changed
