"""
The recording collection: what a tracked class's `_get_collection()` returns.

Every write of MongoEngine passes here, whatever it is called there. Reads, and writes that are not recorded, are the
driver's own methods. What a write answers or raises is what the driver would have answered or raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymongo import InsertOne, UpdateMany, UpdateOne
from pymongo.collection import Collection, ReturnDocument
from pymongo.errors import OperationFailure
from pymongo.results import InsertOneResult

from django_mongo_history import context
from django_mongo_history.capture import arguments, batch, bulk, works
from django_mongo_history.capture.projected import projected
from django_mongo_history.capture.running import Run
from django_mongo_history.capture.strictness import Check, Reach
from django_mongo_history.capture.wording import as_of_a_write
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

    def _plain(self) -> Any:
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
        return not context.is_suppressed() and environment.records(self._subject.document_class)

    def _run(self, session: Any, reach: Callable[[], Iterable[Reach]], update: Any = None) -> Run:
        """The call on its way. `reach`: what it is about, asked only where a reason may be required."""
        environment = self._subject.environment()
        document_class = self._subject.document_class
        client = self._images.plain.database.client
        in_transaction = session is not None and session.in_transaction
        session = session if session is not None else topology.bound_session(client)
        captured = self._captured(session, reach)
        return Run(
            environment=environment,
            document_class=document_class,
            images=self._images,
            acknowledged=in_transaction or self._acknowledged(),  # transactions have a concern of their own
            session=session,
            captured=captured,
            is_sync=update is not None and self._is_untracked(update),
        )

    def _captured(self, session: Any, reach: Callable[[], Iterable[Reach]]) -> context.Captured:
        """Who and why. Raises: ReasonRequiredError."""
        environment, document_class = self._subject.environment(), self._subject.document_class
        captured = environment.capture(document_class, environment.registry.concerned(document_class))
        if not captured.has_reason and environment.may_require_reason():
            Check(environment, document_class, self._images, captured, session)(reach())
        return captured

    def _refuse_removal(self, query: Callable[[], Any]) -> None:
        """Raise what a removal of these documents would raise for want of a reason."""
        if self._is_recording():
            self._captured(
                topology.bound_session(self._images.plain.database.client), lambda: [Reach(query())]
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
        named = arguments.named("insert_one", 1, args, options)
        if not self._is_recording() or named is None or not _is_fit(named, document):
            return self._beneath("insert_one")(document, *args, **options)
        run = self._run(named.pop("session", None), lambda: [Reach(document=document)])
        sent = works.with_id(document)

        def call(session: Any) -> Any:
            done = run.images.plain.insert_one(sent, **named, **run.session_option(session))
            return InsertOneResult(done.inserted_id, run.acknowledged)

        done = run.deliver(works.Insert(run.images, run.namespace, [sent], call))
        return InsertOneResult(sent["_id"], acknowledged=False) if done is None else done

    def insert_many(self, documents: Any, *args: Any, **options: Any) -> Any:
        named = arguments.named("insert_many", 1, args, options)
        if isinstance(documents, Iterable) and not isinstance(documents, (Mapping, str)):
            given = documents
            documents = list(documents) or given  # an iterator that has nothing is refused in other words
        if not self._is_recording() or named is None or not _is_fit(named, *_sequence(documents)):
            return self._beneath("insert_many")(documents, *args, **options)
        sent = list(documents)
        run = self._run(named.pop("session", None), lambda: [Reach(document=one) for one in sent])
        return bulk.insert_many(run, sent, named)

    # -- updates ---------------------------------------------------------------------------------------------------

    def update_one(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("update_one", filter, args, options)
        if named is None or not arguments.is_update(update) or self._passes(update, named):
            return self._beneath("update_one")(filter, update, *args, **options)
        return self._record_update("update_one", filter, update, named)

    def replace_one(self, filter: Any, replacement: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("replace_one", filter, args, options)
        if named is None or not arguments.is_replacement(replacement) or not self._is_recording():
            return self._beneath("replace_one")(filter, replacement, *args, **options)
        return self._record_update("replace_one", filter, replacement, named)

    def update_many(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("update_many", filter, args, options)
        if named is None or not arguments.is_update(update) or self._passes(update, named):
            return self._beneath("update_many")(filter, update, *args, **options)
        if works.pins_id(filter):
            return self._record_update("update_many", filter, update, named)
        run = self._run(named.pop("session", None), lambda: [Reach(filter, options=named)], update)
        with _worded(run):
            return bulk.update_many(run, filter, update, named)

    def _taken(
        self, method: str, query: Any, args: tuple[Any, ...], options: dict[str, Any], given: int = 2
    ) -> dict[str, Any] | None:
        """The options by name; None where the driver refuses them, or the filter, before it asks the server."""
        named = arguments.named(method, given, args, options)
        if named is None or arguments.are_refused(query, named, acknowledged=self._is_answered(named)):
            return None
        if named.get("sort") is not None and not topology.sorts_updates(self._images.plain.database.client):
            return None  # findAndModify would obey where the server refuses it of an update
        return named

    def _record_update(self, name: str, filter: Any, update: Any, options: dict[str, Any]) -> Any:
        """An update or replacement of one document at most."""
        is_replacement = name == "replace_one"
        run = self._run(
            options.pop("session", None),
            lambda: [Reach(filter, options=options)],
            None if is_replacement else update,
        )
        replacement = works.encoded(update, run.images) if is_replacement else None

        def call(session: Any) -> Any:
            return getattr(run.images.plain, name)(filter, update, **options, **run.session_option(session))

        def answer(found: Found, after: bytes | None) -> Any:
            return works.update_result(
                found,
                after,
                acknowledged=run.acknowledged,
                decode=run.decoded_reply,
                replacement=replacement,
            )

        with _worded(run):
            return run.single({**options, "query": filter, "update": update}, call, answer)

    # -- removals --------------------------------------------------------------------------------------------------

    def delete_one(self, filter: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("delete_one", filter, args, options, given=1)
        if named is None or not self._is_recording():
            return self._beneath("delete_one")(filter, *args, **options)
        return self._record_removal("delete_one", filter, named)

    def delete_many(self, filter: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("delete_many", filter, args, options, given=1)
        if named is None or not self._is_recording():
            return self._beneath("delete_many")(filter, *args, **options)
        if works.pins_id(filter):
            return self._record_removal("delete_many", filter, named)
        run = self._run(named.pop("session", None), lambda: [Reach(filter, options=named)])
        with _worded(run):
            return bulk.delete_many(run, filter, named)

    def _record_removal(self, name: str, filter: Any, options: dict[str, Any]) -> Any:
        """A removal of one document at most."""
        run = self._run(options.pop("session", None), lambda: [Reach(filter, options=options)])

        def call(session: Any) -> Any:
            return getattr(run.images.plain, name)(filter, **options, **run.session_option(session))

        def answer(found: Found, _after: bytes | None) -> Any:
            return works.delete_result(found, acknowledged=run.acknowledged)

        with _worded(run):
            return run.single({**options, "query": filter, "remove": True}, call, answer)

    # -- find and modify -------------------------------------------------------------------------------------------

    def find_one_and_update(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        is_fit = arguments.is_update(update)
        return self._find_and("find_one_and_update", filter, (update,), args, options, is_fit=is_fit)

    def find_one_and_replace(self, filter: Any, replacement: Any, *args: Any, **options: Any) -> Any:
        is_fit = arguments.is_replacement(replacement)
        return self._find_and("find_one_and_replace", filter, (replacement,), args, options, is_fit=is_fit)

    def find_one_and_delete(self, filter: Any, *args: Any, **options: Any) -> Any:
        return self._find_and("find_one_and_delete", filter, (), args, options, is_fit=True)

    def _find_and(
        self,
        name: str,
        filter: Any,
        sent: tuple[Any, ...],
        args: tuple[Any, ...],
        options: dict[str, Any],
        *,
        is_fit: bool,
    ) -> Any:
        named = arguments.named(name, 1 + len(sent), args, options) if is_fit else None
        if (
            named is None
            or arguments.are_refused_found(filter, named, acknowledged=self._is_answered(named))
            or self._passes(sent[0] if sent else None, named)
        ):
            return self._beneath(name)(filter, *sent, *args, **options)
        return self._record_find_and(name, filter, sent, named)

    def _record_find_and(self, name: str, filter: Any, sent: tuple[Any, ...], options: dict[str, Any]) -> Any:
        query = options.get("query", filter)
        run = self._run(options.pop("session", None), lambda: [Reach(query, options=options)], *sent)
        asked = options.pop(
            "query", filter
        )  # as the driver has it: the keyword goes before the first argument
        change: dict[str, Any] = {"update": sent[0]} if sent else {"remove": True}

        def call(session: Any, query: Any = asked, **changed: Any) -> Any:
            given = {**options, **changed, **run.session_option(session)}
            return getattr(run.images.plain, name)(query, *sent, **given)

        if arguments.are_for_the_server_alone(options):
            done = run.deliver(projected(run, asked, change, options, call))
            return done if run.acknowledged else None
        is_after = options.get("return_document", ReturnDocument.BEFORE) == ReturnDocument.AFTER
        others = {key: value for key, value in options.items() if key != "return_document"}
        image = run.single(
            {**others, "query": asked, **change},
            call,
            lambda found, after: after if is_after else found.before,
        )
        if not run.acknowledged:
            return None
        # Only now: what the caller cannot decode is written all the same, as the driver does it.
        return run.decoded(image) if isinstance(image, bytes) else image

    # -- several at once -------------------------------------------------------------------------------------------

    def bulk_write(self, requests: Any, *args: Any, **options: Any) -> Any:
        named = arguments.named("bulk_write", 1, args, options)
        if (
            not self._is_recording()
            or named is None
            or arguments.are_refused({}, named, acknowledged=True)
            or not isinstance(requests, list)
            or not requests
            or not all(arguments.is_request(one, acknowledged=self._is_answered(named)) for one in requests)
        ):
            return self._beneath("bulk_write")(requests, *args, **options)
        run = self._run(named.pop("session", None), lambda: self._reaches(requests))
        with _worded(run):
            return batch.bulk_write(run, list(requests), named)

    def _reaches(self, requests: Iterable[Any]) -> Iterator[Reach]:
        """What the requests of a `bulk_write` are about, without those that can change untracked paths only."""
        for request in requests:
            if isinstance(request, InsertOne):
                yield Reach(document=request._doc)  # noqa: SLF001 - requests show what they hold by no public name
                continue
            upserts = bool(getattr(request, "_upsert", False))
            is_update = isinstance(request, (UpdateOne, UpdateMany))
            if upserts or not is_update or not self._is_untracked(request._doc):  # noqa: SLF001
                collation = getattr(request, "_collation", None)
                yield Reach(request._filter, options={"upsert": upserts, "collation": collation})  # noqa: SLF001

    def _is_answered(self, options: dict[str, Any]) -> bool:
        session = options.get("session")
        return bool(getattr(session, "in_transaction", False)) or self._acknowledged()


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

    def _plain(self) -> Collection[Any]:
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

    def _plain(self) -> Any:
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


def _is_fit(options: dict[str, Any], *documents: Any) -> bool:
    """Whether the driver sends these documents with these options."""
    return (
        bool(documents)
        and all(map(arguments.is_document, documents))
        and not arguments.are_refused({}, options, acknowledged=True)
    )


def _sequence(documents: Any) -> Any:
    return documents if isinstance(documents, list) else ()


@contextmanager
def _worded(run: Run) -> Iterator[None]:
    """In the caller's transaction, errors of our form of a write in the words of his."""
    try:
        yield
    except OperationFailure as error:
        if not run.is_joined() and not run.session:
            raise
        worded = as_of_a_write(error)
        if worded is error:
            raise
        raise worded from None
