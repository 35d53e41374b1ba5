"""
The composition root: settings in; registry, stores and recording classes out. Rebuilt when the settings change.

The one place with process-wide state. Everything below it takes values.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import RLock
from typing import Any, Final

from django.utils.module_loading import import_string
from pymongo.collection import Collection

from django_mongo_history import conf, documents
from django_mongo_history.capture.attach import Attachments, before_delete
from django_mongo_history.conf.tracked import read_tracked
from django_mongo_history.core.finders import Finders
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.core.policy import Policy
from django_mongo_history.delivery.copies import Copies
from django_mongo_history.delivery.environment import Environment
from django_mongo_history.delivery.messages import Message
from django_mongo_history.delivery.publishing import Publisher
from django_mongo_history.delivery.queues import Queues
from django_mongo_history.documents.guarding import guard_deletes
from django_mongo_history.query import Sources
from django_mongo_history.registry import Registry, Tracked, label_of
from django_mongo_history.signals import document_reverted
from django_mongo_history.storage.base import Store
from django_mongo_history.storage.mongo import MongoStore
from django_mongo_history.storage.stores import Names, Opened, Stores

logger: Final = logging.getLogger("django_mongo_history")


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Runtime:
    """What is in force. `by_settings`: the classes that are tracked because the settings name them."""

    settings: conf.Settings
    environment: Environment
    attachments: Attachments
    stores: Stores
    by_settings: set[type] = field(default_factory=set)


_lock = RLock()
_runtime: Runtime | None = None
_opened: Final = Opened()
_send: Callable[[Message], None] | None = None
_runs_inline: Callable[[], bool] = bool
_copies: Copies | None = None
QUEUED: Final = frozenset({"celery", "outbox"})
"""Deliveries by which a version is on its way for a time."""
_attribute: Callable[[type, str | None], None] | None = None
_on_configured: list[Callable[[], None]] = []


def current() -> Runtime:
    """What is in force, configured at the first use."""
    if _runtime is None:
        configure()
    assert _runtime is not None
    return _runtime


def is_configured() -> bool:
    """Whether the settings have been read; asking does not read them."""
    return _runtime is not None


def configure() -> None:
    """Read the settings and track what they name. Classes tracked by `track()` stay tracked, under the new settings."""
    global _runtime  # noqa: PLW0603 - the one place with process-wide state
    with _lock:
        kept = [] if _runtime is None else _release(_runtime)
        settings = conf.load()
        registry = Registry(documents.find_class)
        stores = _stores(settings)
        environment = Environment(
            registry=registry,
            store_of=store_of,
            now=_now,
            delivery=settings.delivery,
            chunk_size=settings.chunk_size,
            timeout_s=settings.transaction_timeout_s,
            raises=settings.on_error == "raise",
            on_reverted=_announce,
            finders=_finders(settings),
            requires_reason=settings.require_reason,
            queues=_queues(settings, stores),
        )
        _runtime = Runtime(settings, environment, _attachments(), stores)
        _guard(environment)
        for tracked in kept:
            register(tracked)
        for problem in conf.problems():
            logger.error("%s. %s", problem.message, problem.hint)
        for spec in settings.tracked_documents:
            document_class = _import(spec.document)
            if document_class is not None and _register_by_settings(document_class, spec, settings):
                _runtime.by_settings.add(document_class)
        for call in _on_configured:
            call()


def _stores(settings: conf.Settings) -> Stores:
    alias = settings.alias
    names = Names(
        settings.database,
        settings.collection,
        settings.outbox_collection,
        settings.dead_collection,
        None if alias is None else lambda: documents.client_of(alias),
    )
    return Stores(names, _opened, reads_outbox=_may_queue(settings))


def _may_queue(settings: conf.Settings) -> bool:
    """Whether versions may be on their way when somebody reads."""
    asked = {settings.delivery, *(spec.delivery for spec in settings.tracked_documents)}
    return settings.alias is not None or not asked.isdisjoint(QUEUED)


def _queues(settings: conf.Settings, stores: Stores) -> Queues:
    publisher = None
    if _copies is not None:
        _copies.after_s = settings.confirm_after_s
    if _send is not None:
        publisher = Publisher(_send, timeout_s=settings.broker_timeout_s, runs_inline=_runs_inline)
    return Queues(
        open_outbox=stores.ready_outbox,
        place_of=_worker_place,
        publisher=publisher,
        is_foreign=settings.alias is not None,
        when_down=settings.broker_down,
        max_bytes=settings.message_max_bytes,
        copies=_copies,
    )


def _worker_place(collection: Any) -> tuple[str, str] | None:
    """By which a worker finds the documents' server and database again."""
    if not isinstance(collection, Collection):
        return None
    alias = documents.alias_of(collection.database.client)
    return None if alias is None else (alias, collection.database.name)


def use_broker(
    send: Callable[[Message], None], runs_inline: Callable[[], bool], copies: Copies | None = None
) -> None:
    """
    Say what sends messages, when tasks run at once instead, and what keeps copies of what was sent. Called once, by
    `apps`, where there is Celery.
    """
    global _send, _runs_inline, _copies
    _send, _runs_inline, _copies = send, runs_inline, copies or _copies


def on_configured(call: Callable[[], None]) -> None:
    """Have `call` called each time the settings have been read: now too, where they have been."""
    _on_configured.append(call)
    if _runtime is not None:
        call()


def _attachments() -> Attachments:
    return Attachments(lambda: current().environment, lambda: current().settings.drop_collection)


def register(tracked: Tracked) -> None:
    """Track a class from its next write on."""
    with _lock:
        runtime = current()
        runtime.environment.registry.add(tracked)
        if tracked.delivery in QUEUED:
            runtime.stores.reads_outbox = True
        _guard(runtime.environment)
        runtime.attachments.attach(tracked.document_class)
        if _attribute is not None:
            _attribute(tracked.document_class, runtime.settings.attribute)


def _register_by_settings(document_class: type, spec: conf.TrackedSpec, settings: conf.Settings) -> bool:
    """Track a class as an entry says; not at all where a path of the entry is wrong, for it may have been to hide."""
    try:
        register(tracked_from(document_class, spec, settings))
    except ValueError as error:
        logger.error("%s is NOT tracked: %s. `manage.py check` says more.", spec.document, error)  # noqa: TRY400
        return False
    return True


def unregister(document_class: type) -> None:
    """Undo `register`. Stored versions stay. Raises: NotTrackedError."""
    with _lock:
        runtime = current()
        runtime.environment.registry.remove(document_class)
        _guard(runtime.environment)
        runtime.attachments.detach(document_class)
        runtime.by_settings.discard(document_class)
        if _attribute is not None:
            _attribute(document_class, None)


def _guard(environment: Environment) -> None:
    """Where a write may need a reason, a delete must say so before its cascades."""
    guard_deletes(before_delete if environment.may_require_reason() else None)


def on_register(put_attribute: Callable[[type, str | None], None]) -> None:
    """
    Say how a tracked class gets its attribute (`None` for the name: take it away). Called once, by `api`; classes that
    are tracked already get theirs now.
    """
    global _attribute  # noqa: PLW0603 - see above
    _attribute = put_attribute
    if _runtime is not None:
        for tracked in _runtime.environment.registry:
            put_attribute(tracked.document_class, _runtime.settings.attribute)


def tracked_from(document_class: type[Any], spec: conf.TrackedSpec, settings: conf.Settings) -> Tracked:
    """
    A class with the rules of its entry, in database names.

    Raises: ValueError for a path that names no field.
    """
    policy = Policy(
        untracked=_paths(document_class, spec.untracked),
        hidden=_paths(document_class, spec.hidden),
        snapshot_every=settings.snapshot_every,
    )
    return Tracked(
        document_class=document_class,
        label=label_of(document_class),
        policy=policy,
        delivery=spec.delivery,
        renamed={old: documents.translate_path(document_class, new)[0] for old, new in spec.renamed.items()},
        collections=spec.collections,
        finders=_finders(spec),
        requires_reason=spec.require_reason,
    )


def _finders(asked: conf.Settings | conf.TrackedSpec) -> Finders:
    """The functions that settings or an entry name."""
    return Finders(
        user=conf.as_callables(asked.get_user),
        remote_addr=conf.as_callables(asked.get_remote_addr),
        extra=conf.as_callables(asked.get_extra),
    )


def sources() -> Sources:
    """Where things lie, under the configuration in force."""
    return Sources(current().environment, open_store)


def store_of(collection: Any) -> MongoStore:
    """The store of the versions of documents in this collection, to write to: indexes are made at the first use."""
    return current().stores.ready(collection)


def open_store(collection: Any) -> Store:
    """The same to read from, with what is on its way there: nothing is made."""
    return current().stores.open(collection)


def uses_broker() -> bool:
    """Whether any class's versions are carried by a broker; those in an outbox are only named to it."""
    environment = current().environment
    asked = {environment.delivery, *(tracked.delivery for tracked in environment.registry)}
    return environment.queues.publisher is not None and "celery" in asked


def _announce(document_class: type, document_id: Any, record: VersionRecord) -> None:
    answers = document_reverted.send_robust(
        document_class, document_id=document_id, version_id=record.id, operation=record.operation.value
    )
    for receiver, answer in answers:
        if isinstance(
            answer, Exception
        ):  # the document is written: its receivers must not stop those to come
            logger.error("A receiver of document_reverted failed: %r", receiver, exc_info=answer)


def _release(runtime: Runtime) -> list[Tracked]:
    """Let go of every class, and of the broker; the classes that were tracked by `track()` are given back."""
    if runtime.environment.queues.publisher is not None:
        runtime.environment.queues.publisher.close()
    tracked = list(runtime.environment.registry)
    for one in tracked:
        runtime.attachments.detach(one.document_class)
        if _attribute is not None:
            _attribute(one.document_class, None)
    return [one for one in tracked if one.document_class not in runtime.by_settings]


def _import(label: str) -> type[Any] | None:
    """The class of a label; None where a system check will say what is wrong with it."""
    try:
        found = import_string(label)
    except Exception:
        logger.exception("%s is NOT tracked: it cannot be imported", label)
        return None
    return found if documents.is_document_class(found) and not documents.is_time_series(found) else None


def _paths(document_class: type[Any], paths: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(documents.translate_path(document_class, path) for path in paths)


def spec_of(label: str, options: Mapping[str, Any]) -> conf.TrackedSpec:
    """The entry that these options would be in the settings. Raises: ValueError for what they cannot be."""
    specs, problems = read_tracked([{"document": label, **options}])
    if problems:
        raise ValueError("; ".join(f"{problem.message}. {problem.hint}" for problem in problems))
    return specs[0]
