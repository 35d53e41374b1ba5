"""
The composition root: settings in; registry, stores and recording classes out. Rebuilt when the settings change.

The one place with process-wide state. Everything below it takes values.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

from django.utils.module_loading import import_string
from pymongo.collection import Collection
from pymongo.write_concern import WriteConcern

from django_mongo_history import conf, documents
from django_mongo_history.capture.attach import Attachments
from django_mongo_history.capture.environment import Environment
from django_mongo_history.conf.tracked import read_tracked
from django_mongo_history.core.policy import Policy
from django_mongo_history.registry import Registry, Tracked, label_of
from django_mongo_history.storage.base import Store
from django_mongo_history.storage.mongo import MongoStore


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Runtime:
    """What is in force. `by_settings`: the classes that are tracked because the settings name them."""

    settings: conf.Settings
    environment: Environment
    attachments: Attachments
    by_settings: set[type] = field(default_factory=set)


_lock = RLock()
_runtime: Runtime | None = None
_stores: WeakKeyDictionary[Any, dict[tuple[str, str], Store]] = WeakKeyDictionary()
_attribute: Callable[[type, str | None], None] | None = None


def current() -> Runtime:
    """What is in force, configured at the first use."""
    if _runtime is None:
        configure()
    assert _runtime is not None
    return _runtime


def configure() -> None:
    """Read the settings and track what they name. Classes tracked by `track()` stay tracked, under the new settings."""
    global _runtime
    with _lock:
        kept = [] if _runtime is None else _release(_runtime)
        settings = conf.load()
        registry = Registry(documents.find_class)
        environment = Environment(
            registry=registry,
            store_of=store_of,
            now=_now,
            delivery=settings.delivery,
            chunk_size=settings.chunk_size,
            timeout_s=settings.transaction_timeout_s,
            raises=settings.on_error == "raise",
        )
        _runtime = Runtime(settings, environment, Attachments(lambda: current().environment))
        for tracked in kept:
            register(tracked)
        for spec in settings.tracked_documents:
            document_class = _import(spec.document)
            if document_class is not None:
                register(tracked_from(document_class, spec, settings))
                _runtime.by_settings.add(document_class)


def register(tracked: Tracked) -> None:
    """Track a class from its next write on."""
    with _lock:
        runtime = current()
        runtime.environment.registry.add(tracked)
        runtime.attachments.attach(tracked.document_class)
        if _attribute is not None:
            _attribute(tracked.document_class, runtime.settings.attribute)


def unregister(document_class: type) -> None:
    """Undo `register`. Stored versions stay. Raises: NotTrackedError."""
    with _lock:
        runtime = current()
        runtime.environment.registry.remove(document_class)
        runtime.attachments.detach(document_class)
        runtime.by_settings.discard(document_class)
        if _attribute is not None:
            _attribute(document_class, None)


def on_register(put_attribute: Callable[[type, str | None], None]) -> None:
    """Say how a tracked class gets its attribute (`None` for the name: take it away). Called once, by `api`."""
    global _attribute
    _attribute = put_attribute


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
        renamed=dict(spec.renamed),
        collections=spec.collections,
    )


def store_of(collection: Any) -> Store:
    """The store of the versions of documents in this collection; its indexes are made at the first use."""
    settings = current().settings
    database = collection.database
    name = (settings.database or database.name, settings.collection)
    stores = _stores.setdefault(database.client, {})
    store = stores.get(name)
    if store is None:
        store = stores[name] = _open(database.client, name)
        # In an empty context: indexes are not made in a transaction that the caller has bound to this one.
        contextvars.Context().run(store.prepare)
    return store


def _open(client: Any, name: tuple[str, str]) -> Store:
    collection = client[name[0]][name[1]]
    if isinstance(collection, Collection) and not collection.write_concern.acknowledged:
        collection = collection.with_options(write_concern=WriteConcern(w=1))
    return MongoStore(collection)


def _release(runtime: Runtime) -> list[Tracked]:
    """Let go of every class; those that were tracked by `track()` are given back."""
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
    except ImportError:
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
