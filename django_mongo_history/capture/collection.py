"""
The recording collection: what a tracked class's `_get_collection()` returns.

Every write of MongoEngine passes here, whatever it is called there. Reads, and writes that are not recorded, are the
driver's own methods. What a write answers or raises is what the driver would have answered or raised.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pymongo.collection import Collection, ReturnDocument
from pymongo.common import validate_ok_for_replace, validate_ok_for_update
from pymongo.results import InsertOneResult

from django_mongo_history import context
from django_mongo_history.capture import batch, bulk, works
from django_mongo_history.capture.projected import projected
from django_mongo_history.capture.running import Run
from django_mongo_history.core import policy
from django_mongo_history.core.after_image import touched_paths
from django_mongo_history.delivery.environment import Environment
from django_mongo_history.driver import topology
from django_mongo_history.driver.images import Found, Images, MongomockImages, PyMongoImages


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose collection it is, and the environment in force now."""

    document_class: type
    environment: Callable[[], Environment]


class RecordingMethods:
    """The writing methods, over `_images` (the collection beneath) and `_subject`."""

    _subject: Subject

    def plain(self) -> Any:
        """The same collection, not recording."""
        raise TypeError("a recording collection stands on a driver's collection")

    @property
    def _images(self) -> Images:
        raise TypeError("a recording collection stands on a driver's collection")

    def _beneath(self, name: str) -> Callable[..., Any]:
        """The driver's own method of this name."""
        raise TypeError("a recording collection stands on a driver's collection")

    def _is_recording(self) -> bool:
        environment = self._subject.environment()
        return not context.is_suppressed() and environment.registry.concerns(self._subject.document_class)

    def _run(self, session: Any, update: Any = None) -> Run:
        environment = self._subject.environment()
        client = self._images.plain.database.client
        return Run(
            environment=environment,
            document_class=self._subject.document_class,
            images=self._images,
            acknowledged=self._acknowledged(),
            session=session if session is not None else topology.bound_session(client),
            captured=context.capture_context(),
            is_sync=update is not None and self._is_untracked(update),
        )

    def _acknowledged(self) -> bool:
        return True

    def _passes(self, update: Any, options: dict[str, Any]) -> bool:
        """Whether the write is none of ours: not recorded here, or able to change untracked paths only."""
        return not self._is_recording() or (not options.get("upsert") and self._is_untracked(update))

    def _is_untracked(self, update: Any) -> bool:
        """Whether the update can change untracked paths only, of the class or any below it."""
        tracked = self._subject.environment().registry.get(self._subject.document_class)
        paths = touched_paths(update)
        if tracked is None or not tracked.policy.untracked or not paths:
            return False
        return all(policy.is_untracked(path, tracked.policy) for path in paths)

    # -- inserts ---------------------------------------------------------------------------------------------------

    def insert_one(self, document: Any, *args: Any, **options: Any) -> Any:
        options = _named("insert_one", 1, args, options)
        if not self._is_recording() or not isinstance(document, Mapping):
            return self._beneath("insert_one")(document, **options)
        run = self._run(options.pop("session", None))
        sent = works.with_id(document)

        def call(session: Any) -> Any:
            done = run.images.plain.insert_one(sent, **options, **run.session_option(session))
            return InsertOneResult(done.inserted_id, run.acknowledged)

        done = run.deliver(works.Insert(run.images, run.namespace, [sent], call))
        return InsertOneResult(sent["_id"], acknowledged=False) if done is None else done

    def insert_many(self, documents: Any, *args: Any, **options: Any) -> Any:
        options = _named("insert_many", 1, args, options)
        if isinstance(documents, Iterable) and not isinstance(documents, Mapping):
            documents = list(documents)
        if not self._is_recording() or not _are_documents(documents):
            return self._beneath("insert_many")(documents, **options)
        return bulk.insert_many(self._run(options.pop("session", None)), list(documents), options)

    # -- updates ---------------------------------------------------------------------------------------------------

    def update_one(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        options = _named("update_one", 2, args, options)
        if self._passes(update, options):
            return self._beneath("update_one")(filter, update, **options)
        validate_ok_for_update(update)
        return self._record_update(
            "update_one", filter, update, self._run(options.pop("session", None), update), options
        )

    def replace_one(self, filter: Any, replacement: Any, *args: Any, **options: Any) -> Any:
        options = _named("replace_one", 2, args, options)
        if not self._is_recording():
            return self._beneath("replace_one")(filter, replacement, **options)
        validate_ok_for_replace(replacement)
        return self._record_update(
            "replace_one", filter, replacement, self._run(options.pop("session", None)), options
        )

    def update_many(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        options = _named("update_many", 2, args, options)
        if self._passes(update, options):
            return self._beneath("update_many")(filter, update, **options)
        validate_ok_for_update(update)
        run = self._run(options.pop("session", None), update)
        if works.pins_id(filter):
            return self._record_update("update_many", filter, update, run, options)
        return bulk.update_many(run, filter, update, options)

    def _record_update(self, name: str, filter: Any, update: Any, run: Run, options: dict[str, Any]) -> Any:
        """An update or replacement of one document at most."""

        def call(session: Any) -> Any:
            return getattr(run.images.plain, name)(filter, update, **options, **run.session_option(session))

        def answer(found: Found, after: bytes | None) -> Any:
            return works.update_result(found, after, acknowledged=run.acknowledged, decode=run.decoded)

        return run.single({**options, "query": filter, "update": update}, call, answer)

    # -- removals --------------------------------------------------------------------------------------------------

    def delete_one(self, filter: Any, *args: Any, **options: Any) -> Any:
        options = _named("delete_one", 1, args, options)
        if not self._is_recording():
            return self._beneath("delete_one")(filter, **options)
        return self._record_removal("delete_one", filter, self._run(options.pop("session", None)), options)

    def delete_many(self, filter: Any, *args: Any, **options: Any) -> Any:
        options = _named("delete_many", 1, args, options)
        if not self._is_recording():
            return self._beneath("delete_many")(filter, **options)
        run = self._run(options.pop("session", None))
        if works.pins_id(filter):
            return self._record_removal("delete_many", filter, run, options)
        return bulk.delete_many(run, filter, options)

    def _record_removal(self, name: str, filter: Any, run: Run, options: dict[str, Any]) -> Any:
        """A removal of one document at most."""

        def call(session: Any) -> Any:
            return getattr(run.images.plain, name)(filter, **options, **run.session_option(session))

        def answer(found: Found, _after: bytes | None) -> Any:
            return works.delete_result(found, acknowledged=run.acknowledged)

        return run.single({**options, "query": filter, "remove": True}, call, answer)

    # -- find and modify -------------------------------------------------------------------------------------------

    def find_one_and_update(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        options = _named("find_one_and_update", 2, args, options)
        validate_ok_for_update(update)
        return self._record_find_and("find_one_and_update", filter, (update,), options)

    def find_one_and_replace(self, filter: Any, replacement: Any, *args: Any, **options: Any) -> Any:
        options = _named("find_one_and_replace", 2, args, options)
        validate_ok_for_replace(replacement)
        return self._record_find_and("find_one_and_replace", filter, (replacement,), options)

    def find_one_and_delete(self, filter: Any, *args: Any, **options: Any) -> Any:
        options = _named("find_one_and_delete", 1, args, options)
        return self._record_find_and("find_one_and_delete", filter, (), options)

    def _record_find_and(self, name: str, filter: Any, sent: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self._passes(sent[0] if sent else None, options):
            return self._beneath(name)(filter, *sent, **options)
        run = self._run(options.pop("session", None), *sent)
        change: dict[str, Any] = {"update": sent[0]} if sent else {"remove": True}

        def call(session: Any, query: Any = filter, **changed: Any) -> Any:
            arguments = {**options, **changed, **run.session_option(session)}
            return getattr(run.images.plain, name)(query, *sent, **arguments)

        if options.get("projection") is not None:
            done = run.deliver(projected(run, filter, change, options, call))
            return done if run.acknowledged else None
        is_after = options.get("return_document", ReturnDocument.BEFORE) == ReturnDocument.AFTER
        others = {
            key: value for key, value in options.items() if key not in ("projection", "return_document")
        }
        return run.single(
            {**others, "query": filter, **change},
            call,
            lambda found, after: (
                run.decoded(after if is_after else found.before) if run.acknowledged else None
            ),
        )

    # -- several at once -------------------------------------------------------------------------------------------

    def bulk_write(self, requests: Any, *args: Any, **options: Any) -> Any:
        options = _named("bulk_write", 1, args, options)
        if not self._is_recording() or not isinstance(requests, (list, tuple)) or not requests:
            return self._beneath("bulk_write")(requests, **options)
        return batch.bulk_write(self._run(options.pop("session", None)), list(requests), options)


class RecordingCollection(RecordingMethods, Collection[Any]):
    """A PyMongo collection that records."""

    def __init__(self, collection: Collection[Any], subject: Subject) -> None:
        Collection.__init__(
            self,
            collection.database,
            collection.name,
            codec_options=collection.codec_options,
            read_preference=collection.read_preference,
            write_concern=collection.write_concern,
            read_concern=collection.read_concern,
        )
        self._subject = subject
        self._cached_images: PyMongoImages | None = None

    @property
    def _images(self) -> Images:
        if self._cached_images is None:
            self._cached_images = PyMongoImages(self, computes=topology.computes_images(self.database.client))
        return self._cached_images

    def _beneath(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(super(RecordingMethods, self), name)
        return method

    def _acknowledged(self) -> bool:
        return bool(self.write_concern.acknowledged)

    def with_options(self, *args: Any, **options: Any) -> RecordingCollection:
        """As PyMongo's, and still recording: MongoEngine calls it before nearly every write."""
        return RecordingCollection(Collection.with_options(self, *args, **options), self._subject)

    def plain(self) -> Collection[Any]:
        """The same collection, not recording."""
        return Collection.with_options(self)


class RecordingMock(RecordingMethods):
    """A mongomock collection that records: it cannot be subclassed as PyMongo's can, so it is delegated to."""

    def __init__(self, collection: Any, subject: Subject) -> None:
        self._collection = collection
        self._subject = subject

    @property
    def _images(self) -> Images:
        return MongomockImages(self._collection)

    def _beneath(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._collection, name)
        return method

    def with_options(self, *args: Any, **options: Any) -> RecordingMock:
        return RecordingMock(self._collection.with_options(*args, **options), self._subject)

    def plain(self) -> Any:
        """The same collection, not recording."""
        return self._collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def __getitem__(self, name: str) -> Any:
        return self._collection[name]

    def __eq__(self, other: object) -> bool:
        return bool(self._collection == getattr(other, "_collection", other))

    def __hash__(self) -> int:
        return hash(self._collection)


def recording(collection: Any, subject: Subject) -> Any:
    """The recording form of a driver's collection; one that records already stays as it is."""
    if isinstance(collection, RecordingMethods):
        return collection
    if type(collection) is Collection:
        return RecordingCollection(collection, subject)
    return RecordingMock(collection, subject)


@lru_cache(maxsize=32)
def _names(method: str) -> tuple[str, ...]:
    """The names of a driver's method's parameters, without `self`."""
    return tuple(inspect.signature(getattr(Collection, method)).parameters)[1:]


def _named(method: str, given: int, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """All arguments behind the first `given` ones by name."""
    if not args:
        return options
    names = _names(method)[given : given + len(args)]
    if len(names) < len(args) or any(name in options for name in names):
        raise TypeError(f"{method}() got too many positional arguments, or one of them twice")
    return {**dict(zip(names, args, strict=True)), **options}


def _are_documents(documents: Any) -> bool:
    return isinstance(documents, list) and all(isinstance(document, Mapping) for document in documents)
