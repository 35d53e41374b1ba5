"""
What recording needs of the world, as values: who is tracked, where versions go, how and how long.

Made by `runtime` from the settings; nothing below reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history import context, documents
from django_mongo_history.core.finders import NO_FINDERS, Finders
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import DocumentKey, VersionRecord, Write
from django_mongo_history.core.recording import Circumstances, record_write
from django_mongo_history.delivery.base import Destination
from django_mongo_history.delivery.destinations import Direct
from django_mongo_history.delivery.queues import NO_QUEUES, Queues
from django_mongo_history.driver import topology
from django_mongo_history.errors import ReasonRequiredError
from django_mongo_history.registry import Registry, Tracked
from django_mongo_history.storage.base import Store

IN_TRANSACTION: Final = frozenset({"atomic", "outbox"})
"""The modes in which a document and what is kept of its write commit in one transaction."""

_held: ContextVar[tuple[type, context.Captured] | None] = ContextVar(
    "django_mongo_history_held", default=None
)


@dataclass(slots=True)
class Environment:
    """
    One per configuration.

    `store_of` gives the store for a plain collection's database. `delivery`: the project's mode. `now`: the clock.
    Units: `timeout_s` seconds of retries; `chunk_size` documents in one transaction.
    """

    registry: Registry
    store_of: Callable[[Any], Store]
    now: Callable[[], datetime]
    delivery: str = "auto"
    chunk_size: int = 1000
    timeout_s: float = 100.0
    raises: bool = True
    on_reverted: Callable[[type, Any, VersionRecord], None] = lambda document_class, key, record: None
    """Called with class, primary key and new version for each document that a revert has written."""
    refused: set[str] = field(default_factory=set)
    """Namespaces on which the server refused a transaction: capped collections, for one."""
    finders: Finders = NO_FINDERS
    """Whom the writes of all classes ask for user, address and extra."""
    requires_reason: bool = False
    queues: Queues = NO_QUEUES
    """What stands between a write and the store, where something does."""

    def records(self, document_class: type) -> bool:
        """Whether writes through this class are recorded here: it is tracked, and if in scopes only, one is open."""
        if not self.registry.concerns(document_class):
            return False
        return not self.needs_scope(document_class) or context.has_scope()

    def needs_scope(self, document_class: type) -> bool:
        """Whether this class, and all that share its collection, are recorded in scopes only."""
        return self.registry.has_scoped and self.registry.is_scoped(document_class, documents.sharing)

    def mode_for(self, tracked: Tracked, collection: Any) -> str:
        """
        `atomic`, `sync`, `celery` or `outbox`: the class's own mode, else the project's, as far as server and collection
        can.
        """
        asked = tracked.delivery or self.delivery
        if asked == "celery":
            return "celery" if self.queues.can_queue(collection) else "sync"
        if asked == "sync" or collection.full_name in self.refused or not self.has_transactions(collection):
            return "sync"
        return "outbox" if asked == "outbox" or self.queues.is_foreign else "atomic"

    def destination(self, mode: str, collection: Any, session: Any) -> Destination:
        """Where the versions of a write of this collection go, under this mode, in this session of the caller's."""
        is_joined = session is not None and session.in_transaction
        if mode == "outbox" or (is_joined and (mode == "celery" or self.queues.is_foreign)):
            return self.queues.via_outbox(collection)
        if mode == "celery":
            return self.queues.via_broker(collection, partial(self.store_of, collection))
        return Direct(self.store_of(collection), partial(self.queues.open_outbox, collection))

    def capture(
        self, document_class: type, tracked: Tracked | None, changeset: ObjectId | None = None
    ) -> context.Captured:
        """Who and why, of a write of this class as it is tracked; part of `changeset` where none is open."""
        held = _held.get()
        if held is not None and held[0] is document_class:
            return held[1]
        return context.capture_context(
            finders=self.finders_of(tracked), document_class=document_class, changeset=changeset
        )

    @contextmanager
    def holding(self, document_class: type, captured: context.Captured) -> Iterator[None]:
        """What was captured once holds for all that is asked about this class while the block lasts: one write."""
        token = _held.set((document_class, captured))
        try:
            yield
        finally:
            _held.reset(token)

    def finders_of(self, tracked: Tracked | None) -> Finders:
        """Whom a write of this class asks: nobody, most of the time."""
        own = context.still_to_ask(self.finders)
        if tracked is None or not tracked.finders:
            return own
        return tracked.finders.before(own) if own else tracked.finders

    def may_require_reason(self) -> bool:
        """Whether any write needs a reason: what is asked first, at every write."""
        return self.requires_reason or self.registry.may_require_reason()

    def is_strict(self, tracked: Tracked | None) -> bool:
        """Whether versions of this class need a reason: by its own word, else by the project's."""
        if tracked is None:
            return False
        return self.requires_reason if tracked.requires_reason is None else tracked.requires_reason

    def refuse(self, tracked: Tracked, namespace: str) -> None:
        """Raise ReasonRequiredError for a write of this class."""
        raise ReasonRequiredError(
            f"This write to {namespace} has no reason, and the history of {tracked.label} requires one: it was refused "
            'before it reached the server. Put it into `with rationale("why"):` or `with changeset(reason="why"):`.',
            document_class=tracked.document_class,
            collection=namespace,
        )

    def has_transactions(self, collection: Any) -> bool:
        return topology.has_transactions(collection.database.client)


@dataclass(slots=True)
class Recorder:
    """
    Turns the writes of one call into versions; made for each call, begun anew with each attempt.

    `fallback`: the class through which the call came, which decides where a document carries no `_cls`.
    `captured`: who and why, found out once for the whole call; and once for each class that finds it out otherwise.
    """

    environment: Environment
    fallback: type
    captured: context.Captured
    revert_of: Any = None
    others: dict[type, context.Captured] = field(default_factory=dict)
    """What versions of classes with finders of their own carry, by class; shared by all recorders of one call."""
    at: datetime = field(init=False)
    _shared: dict[str | None, Circumstances | None] = field(init=False)
    """By class name, for documents to which nobody has appended anything."""

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """An attempt begins: its versions are of now."""
        # Up to the millisecond that BSON stores: a moment taken before the write stays before it.
        now = self.environment.now()
        self.at = now + timedelta(microseconds=-now.microsecond % 1000)
        self._shared = {}

    def __call__(self, writes: Sequence[Write], order: Timestamp | None) -> list[VersionRecord]:
        found = (self._record(write, order) for write in writes if write.before != write.after)
        return [made for made in found if made is not None]

    def _record(self, write: Write, order: Timestamp | None) -> VersionRecord | None:
        if not self._may_differ():
            around = self._around_all(class_name(write.before if write.after is None else write.after), order)
            if not self._may_differ():  # whom that has asked may have appended something to a document
                return None if around is None else record_write(write, around)
        return self._record_apart(write, order)

    def _may_differ(self) -> bool:
        """Whether one document of the call may carry what another of its class does not."""
        return self.environment.registry.has_scoped or context.tells_documents_apart()

    def _record_apart(self, write: Write, order: Timestamp | None) -> VersionRecord | None:
        image = write.before if write.after is None else write.after
        scope = context.scope_of(write.key, is_create=write.before is None)
        if scope is None and self.revert_of is None and self._needs_scope(image):
            return None
        around = self.circumstances(write.key, image, order, scope)
        return None if around is None else record_write(write, around)

    def _needs_scope(self, image: bytes | None) -> bool:
        """Whether documents of this class are recorded in scopes only."""
        registry = self.environment.registry
        if not registry.has_scoped:
            return False
        tracked = registry.of_image(class_name(image), self.fallback)
        return tracked is not None and tracked.only_in_scopes

    def circumstances(
        self,
        key: DocumentKey,
        image: bytes | None,
        order: Timestamp | None,
        scope: context.Scope | None = None,
    ) -> Circumstances | None:
        """All that a version of this document carries besides its images; None where its class is not tracked."""
        name = class_name(image)
        if scope is not None:
            return self._circumstances(name, order, key, scope)
        shared = self._around_all(name, order)  # first: whom it asks may append something to this document
        # Of the call's own class: whether there are notes does not depend on it.
        if context.noted(self.captured, key) is not self.captured:
            return self._circumstances(name, order, key, scope)
        return shared

    def _around_all(self, name: str | None, order: Timestamp | None) -> Circumstances | None:
        """What versions of all documents of this class carry to which nothing else was appended."""
        shared = self._shared.get(name)
        if shared is None or shared.order is not order:
            shared = self._circumstances(name, order, None)
            self._shared[name] = shared
        return shared

    def _circumstances(
        self,
        name: str | None,
        order: Timestamp | None,
        key: DocumentKey | None,
        scope: context.Scope | None = None,
    ) -> Circumstances | None:
        tracked = self.environment.registry.of_image(name, self.fallback)
        if tracked is None:
            return None
        captured = self.captured_of(tracked)
        if key is not None:
            captured = context.scoped(context.noted(captured, key), scope)
        return Circumstances(
            document_class=name
            or tracked.document_class.__dict__.get("_class_name", tracked.document_class.__name__),
            policy=tracked.policy,
            at=self.at,
            order=order,
            changeset=captured.changeset,
            context=captured.context,
            revert_of=self.revert_of,
        )

    def captured_of(self, tracked: Tracked) -> context.Captured:
        """Who and why, as this class finds it out: the call's own, where both do it in the same way."""
        mine, registry = tracked.document_class, self.environment.registry
        if mine is self.fallback or not (self.environment.finders or tracked.finders):
            return self.captured
        if tracked.finders == _finders_of(registry.concerned(self.fallback)) and not self.environment.finders:
            return self.captured
        found = self.others.get(mine)
        if found is None:
            found = self.environment.capture(mine, tracked, self.captured.changeset)
            self.others[mine] = found
        return found


def _finders_of(tracked: Tracked | None) -> Finders:
    return NO_FINDERS if tracked is None else tracked.finders
