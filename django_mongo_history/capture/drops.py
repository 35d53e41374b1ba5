"""
`drop_collection()` of a tracked class: one tombstone before it, or a delete version of each document.

See Note [A tombstone comes before its drop] in `core/tombstones.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history import context, documents
from django_mongo_history.capture.strictness import Check, Reach
from django_mongo_history.core.model import order_from_clock
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.delivery.base import cluster_time
from django_mongo_history.delivery.environment import IN_TRANSACTION, Environment
from django_mongo_history.driver import collections, topology
from django_mongo_history.driver.images import images_over
from django_mongo_history.errors import StoreError

logger: Final = logging.getLogger("django_mongo_history")

_under_way: ContextVar[frozenset[tuple[int, str]]] = ContextVar("dropping", default=frozenset())
"""Collections that are being dropped here: a class's own `drop_collection` calls that of its base."""


@dataclass(frozen=True, slots=True)
class Drops:
    """What stands around `drop_collection()`. `way`: `tombstone` or `versions`; both are asked at each drop."""

    environment: Callable[[], Environment]
    way: Callable[[], str]

    def __call__(self, document_class: type[Any], drop: Callable[[], Any]) -> Any:
        """Record the drop, then make it; its answer."""
        environment = self.environment()
        if context.is_suppressed() or not environment.records(document_class):
            return drop()
        collection = documents.place_of(document_class)
        if collection is None or not _is_recorded(document_class, collection, environment):
            return drop()
        name = id(collection.database.client), str(collection.full_name)
        if name in _under_way.get():
            return drop()
        token = _under_way.set(_under_way.get() | {name})
        try:
            _record(document_class, collection, environment, self.way())
            return drop()
        finally:
            _under_way.reset(token)


def _is_recorded(document_class: type[Any], collection: Any, environment: Environment) -> bool:
    """Whether the drop is none of a class in scopes only, outside of one of a document that it takes."""
    return not environment.needs_scope(document_class) or context.has_scope(str(collection.full_name))


def _record(document_class: type[Any], collection: Any, environment: Environment, way: str) -> None:
    client = collection.database.client
    bound = topology.bound_session(client)
    if bound is not None and bound.in_transaction:
        return  # the server refuses what follows: it drops nothing in a transaction
    at = environment.now()
    at += timedelta(microseconds=-at.microsecond % 1000)  # as of a version
    facts, order = _look(collection, environment)
    if not facts.holds_documents:
        return  # nothing to drop, unless it is made between this moment and the drop
    if way == "versions":
        documents.recorded_collection(document_class).delete_many({})
        return
    captured = environment.capture(document_class, environment.registry.concerned(document_class))
    if not captured.has_reason and environment.may_require_reason():
        images = images_over(collection)
        Check(environment, document_class, images, captured)([Reach({})])
    tombstone = Tombstone(
        id=ObjectId(),
        collection=str(collection.full_name),
        order=order or order_from_clock(at),
        at=at,
        document_class=documents.class_name_of(document_class),
        changeset=captured.changeset,
        context=captured.context,
        uuid=facts.uuid,
        documents=collections.count(collection),
    )
    _store(tombstone, document_class, collection, environment)


def _look(collection: Any, environment: Environment) -> tuple[collections.Facts, Timestamp | None]:
    """What there is to drop, and the cluster time before it is."""
    if not environment.has_transactions(collection):
        return collections.look(collection), None
    with collection.database.client.start_session(causal_consistency=False) as session:
        return collections.look(collection, session), cluster_time(session)


def _store(
    tombstone: Tombstone, document_class: type[Any], collection: Any, environment: Environment
) -> None:
    tracked = environment.registry.concerned(document_class)
    must_store = (
        environment.raises or tracked is None or environment.mode_for(tracked, collection) in IN_TRANSACTION
    )
    try:
        environment.store_of(collection).append_tombstone(tombstone)
    except StoreError as error:
        if must_store:
            raise StoreError(
                f"{error}. {tombstone.collection} was not dropped. Look at the rights on and the state of the history "
                "collection.",
                store=error.facts.get("store"),
            ) from error.__cause__
        logger.error("%s is dropped without a trace in its history: %s", tombstone.collection, error)  # noqa: TRY400
