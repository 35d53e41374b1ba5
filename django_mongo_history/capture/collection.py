"""
The recording collection: what a tracked class's `_get_collection()` returns.

Every write of MongoEngine passes here, whatever it is called there. Reads, and writes that are not recorded, are the
driver's own methods. What a write answers or raises is what the driver would have answered or raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bson
from pymongo.collection import Collection, ReturnDocument
from pymongo.common import validate_ok_for_replace, validate_ok_for_update
from pymongo.results import InsertOneResult

from django_mongo_history import context
from django_mongo_history.capture import batch, bulk, works
from django_mongo_history.capture.environment import Environment
from django_mongo_history.capture.images import Found, Images, MongomockImages, PyMongoImages
from django_mongo_history.capture.projected import projected
from django_mongo_history.capture.running import Run
from django_mongo_history.core import policy
from django_mongo_history.core.after_image import touched_paths
from django_mongo_history.delivery import topology


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose collection it is, and the environment in force now."""

    document_class: type
    environment: Callable[[], Environment]


class RecordingMethods:
    """The writing methods, over `_images` (the collection beneath) and `_subject`."""

    _subject: Subject

    @property
    def _images(self) -> Images:
        raise TypeError("a recording collection stands on a driver's collection")

    def _beneath(self, name: str) -> Callable[..., Any]:
        """The driver's own method of this name."""
        raise TypeError("a recording collection stands on a driver's collection")

    def _is_recording(self) -> bool:
        environment = self._subject.environment()
        return not context.is_suppressed() and environment.registry.concerns(self._subject.document_class)

    def _run(self, session: Any, *, touches: Any = None) -> Run:
        environment = self._subject.environment()
        return Run(
            environment=environment,
            document_class=self._subject.document_class,
            images=self._images,
            acknowledged=self._acknowledged(),
            session=session if session is not None else topology.bound_session(self._images.plain.database.client),
            is_sync=touches is not None and self._is_untracked(environment, touches),
        )

    def _acknowledged(self) -> bool:
        return True

    def _is_untracked(self, environment: Environment, update: Any) -> bool:
        """Whether the update can change untracked paths only, of the class or any below it."""
        tracked = environment.registry.get(self._subject.document_class)
        paths = touched_paths(update)
        if tracked is None or not tracked.policy.untracked or not paths:
            return False
        return all(policy.is_untracked(path, tracked.policy) for path in paths)

    # -- inserts ---------------------------------------------------------------------------------------------------

    def insert_one(self, document: Any, *args: Any, **options: Any) -> Any:
        session = options.pop("session", None)
        if not self._is_recording() or not isinstance(document, Mapping):
            return self._beneath("insert_one")(document, *args, session=session, **options)
        run = self._run(session)
        sent = works.with_id(document)

        def call(session: Any) -> Any:
            done = run.images.plain.insert_one(sent, *args, **options, **run.session_option(session))
            return InsertOneResult(done.inserted_id, run.acknowledged)

        return run.deliver(works.Insert(run.images, run.namespace, [sent], call))

    def insert_many(self, documents: Any, ordered: bool = True, *args: Any, **options: Any) -> Any:
        session = options.pop("session", None)
        if not self._is_recording() or not _are_documents(documents):
            return self._beneath("insert_many")(documents, ordered, *args, session=session, **options)
        return bulk.insert_many(self._run(session), list(documents), ordered, args, options)

    # -- updates ---------------------------------------------------------------------------------------------------

    def update_one(self, filter: Any, update: Any, upsert: bool = False, **options: Any) -> Any:
        session = options.pop("session", None)
        if not self._is_recording():
            return self._beneath("update_one")(filter, update, upsert, session=session, **options)
        validate_ok_for_update(update)
        run = self._run(session, touches=update)
        return run.single(
            {"query": filter, "update": update, "upsert": upsert or None, **options},
            lambda session: run.images.plain.update_one(
                filter, update, upsert, **options, **run.session_option(session)
            ),
            self._update_answer(run),
        )

    def replace_one(self, filter: Any, replacement: Any, upsert: bool = False, **options: Any) -> Any:
        session = options.pop("session", None)
        if not self._is_recording():
            return self._beneath("replace_one")(filter, replacement, upsert, session=session, **options)
        validate_ok_for_replace(replacement)
        run = self._run(session)
        return run.single(
            {"query": filter, "update": replacement, "upsert": upsert or None, **options},
            lambda session: run.images.plain.replace_one(
                filter, replacement, upsert, **options, **run.session_option(session)
            ),
            self._update_answer(run),
        )

    def update_many(self, filter: Any, update: Any, upsert: bool = False, **options: Any) -> Any:
        session = options.pop("session", None)
        if not self._is_recording():
            return self._beneath("update_many")(filter, update, upsert, session=session, **options)
        validate_ok_for_update(update)
        run = self._run(session, touches=update)
        if works.pins_id(filter) and not options.get("array_filters"):
            parts = {"query": filter, "update": update, "upsert": upsert or None, **options}
            return run.single(
                parts,
                lambda session: run.images.plain.update_many(
                    filter, update, upsert, **options, **run.session_option(session)
                ),
                self._update_answer(run),
            )
        return bulk.update_many(run, filter, update, upsert, options)

    def _update_answer(self, run: Run) -> Callable[[Found, bytes | None], Any]:
        def decode(image: bytes) -> Any:
            return bson.decode(image, run.images.codec_options)

        return lambda found, after: works.update_result(found, after, acknowledged=run.acknowledged, decode=decode)

    # -- removals --------------------------------------------------------------------------------------------------

    def delete_one(self, filter: Any, **options: Any) -> Any:
        return self._delete("delete_one", filter, options)

    def delete_many(self, filter: Any, **options: Any) -> Any:
        if self._is_recording() and not works.pins_id(filter):
            return bulk.delete_many(self._run(options.pop("session", None)), filter, options)
        return self._delete("delete_many", filter, options)

    def _delete(self, name: str, filter: Any, options: dict[str, Any]) -> Any:
        session = options.pop("session", None)
        if not self._is_recording():
            return self._beneath(name)(filter, session=session, **options)
        run = self._run(session)
        return run.single(
            {"query": filter, "remove": True, **options},
            lambda session: getattr(run.images.plain, name)(filter, **options, **run.session_option(session)),
            lambda found, after: works.delete_result(found, acknowledged=run.acknowledged),
        )

    # -- find and modify -------------------------------------------------------------------------------------------

    def find_one_and_update(
        self,
        filter: Any,
        update: Any,
        projection: Any = None,
        sort: Any = None,
        return_document: bool = ReturnDocument.BEFORE,
        **options: Any,
    ) -> Any:
        validate_ok_for_update(update)
        return self._find_and("find_one_and_update", filter, update, projection, sort, return_document, options)

    def find_one_and_replace(
        self,
        filter: Any,
        replacement: Any,
        projection: Any = None,
        sort: Any = None,
        return_document: bool = ReturnDocument.BEFORE,
        **options: Any,
    ) -> Any:
        validate_ok_for_replace(replacement)
        return self._find_and("find_one_and_replace", filter, replacement, projection, sort, return_document, options)

    def find_one_and_delete(self, filter: Any, projection: Any = None, sort: Any = None, **options: Any) -> Any:
        return self._find_and("find_one_and_delete", filter, None, projection, sort, ReturnDocument.BEFORE, options)

    def _find_and(
        self,
        name: str,
        filter: Any,
        update: Any,
        projection: Any,
        sort: Any,
        return_document: bool,
        options: dict[str, Any],
    ) -> Any:
        session = options.pop("session", None)
        sent = () if update is None else (update,)
        shape: dict[str, Any] = {"projection": projection, "sort": sort}
        if update is not None:
            shape["return_document"] = return_document
        if not self._is_recording():
            return self._beneath(name)(filter, *sent, **shape, session=session, **options)
        run = self._run(session, touches=update)

        def call(session: Any, query: Any = filter, **changed: Any) -> Any:
            arguments = {**shape, **options, **changed, **run.session_option(session)}
            return getattr(run.images.plain, name)(query, *sent, **arguments)

        if projection is not None:
            return run.deliver(projected(run, filter, update, shape, options, call))
        removal = {"remove": True} if update is None else {"update": update}
        return run.single(
            {"query": filter, **removal, "sort": sort, **options},
            call,
            lambda found, after: run.decoded(after if return_document == ReturnDocument.AFTER else found.before),
        )

    # -- several at once -------------------------------------------------------------------------------------------

    def bulk_write(self, requests: Sequence[Any], ordered: bool = True, *args: Any, **options: Any) -> Any:
        session = options.pop("session", None)
        if not self._is_recording() or not isinstance(requests, (list, tuple)) or not requests:
            return self._beneath("bulk_write")(requests, ordered, *args, session=session, **options)
        return batch.bulk_write(self._run(session), list(requests), ordered, args, options)


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


def _are_documents(documents: Any) -> bool:
    return isinstance(documents, (list, tuple)) and all(isinstance(document, Mapping) for document in documents)


