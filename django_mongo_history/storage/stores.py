"""
Which store, outbox and dead letters belong to a collection of documents; opened once and kept.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import ConnectionFailure

from django_mongo_history.errors import StoreError
from django_mongo_history.storage.base import Store
from django_mongo_history.storage.concerns import acknowledged
from django_mongo_history.storage.foreign import ForeignStore
from django_mongo_history.storage.joined import JoinedStore
from django_mongo_history.storage.mongo import MongoStore
from django_mongo_history.storage.mongomock import MongomockStore
from django_mongo_history.storage.outbox import DeadLetters, Outbox

Place = tuple[int, str, str]
"""Client, database and collection; what is open keeps its client, so that its identity stays its own."""

_MOST_OPEN: Final = 256
"""Stores kept open; a project with a database for each tenant may have more, and opens those again."""


@dataclass(slots=True)
class Opened:
    """What is open, by place, and which of it has its indexes. Outlives changes of the settings."""

    stores: dict[Place, MongoStore] = field(default_factory=dict)
    outboxes: dict[Place, Outbox] = field(default_factory=dict)
    prepared: set[Place] = field(default_factory=set)

    def forget(self, place: Place) -> None:
        self.prepared.discard(place)


@dataclass(frozen=True, slots=True)
class Names:
    """Where versions lie. `database`: None for that of the documents. `client`: of another server, None for theirs."""

    database: str | None
    collection: str
    outbox: str
    dead: str
    client: Callable[[], Any] | None = None


@dataclass(slots=True)
class Stores:
    """
    The stores of one configuration. `reads_outbox`: whether versions may be on their way, so that readers look there.
    """

    names: Names
    opened: Opened
    reads_outbox: bool = False
    _joined: dict[Place, JoinedStore] = field(default_factory=dict)

    def open(self, collection: Any) -> Store:
        """The store of the versions of documents in this collection, to read from: nothing is made."""
        store = self.plain(collection)
        outbox = self.outbox(collection) if self.reads_outbox else None
        if outbox is None:
            return store
        place = self._place(collection, self.names.outbox)
        joined = self._joined.get(place)
        if joined is None or joined.store is not store:
            joined = JoinedStore(store, outbox, shares_sessions=self.names.client is None)
            self._joined[place] = joined
        return joined

    def ready(self, collection: Any) -> MongoStore:
        """The same to write to, without what is on its way: indexes are made at the first use."""
        store = self.plain(collection)
        self._prepare(self._home(collection), store)
        return store

    def plain(self, collection: Any) -> MongoStore:
        """The same to read from, without what is on its way."""
        place = self._home(collection)
        store = self.opened.stores.get(place)
        if store is None:
            _make_room(self.opened.stores, self.opened)
            there = self._client(collection)[place[1]][place[2]]
            store = self.opened.stores[place] = _open(there, is_foreign=self.names.client is not None)
        return store

    def outbox(self, collection: Any) -> Outbox | None:
        """The outbox for documents in this collection; None for mongomock, which has none."""
        if not isinstance(collection, Collection):
            return None
        place = self._place(collection, self.names.outbox)
        outbox = self.opened.outboxes.get(place)
        if outbox is None:
            _make_room(self.opened.outboxes, self.opened)
            there = collection.database.client[place[1]][place[2]]
            outbox = self.opened.outboxes[place] = Outbox(there)
        return outbox

    def ready_outbox(self, collection: Any) -> Outbox | None:
        """The same to write to: indexes are made at the first use. Raises: StoreError."""
        outbox = self.outbox(collection)
        if outbox is not None:
            self._prepare(self._place(collection, self.names.outbox), outbox)
        return outbox

    def dead_letters(self, collection: Collection[Any]) -> DeadLetters:
        """What of these documents could not be stored."""
        _client, database, name = self._place(collection, self.names.dead)
        return DeadLetters(collection.database.client[database][name])

    def _prepare(self, place: Place, store: MongoStore | Outbox) -> None:
        if place in self.opened.prepared:
            return
        # In an empty context: indexes are not made in a transaction that the caller has bound to this one.
        try:
            contextvars.Context().run(store.prepare)
        except StoreError as error:
            if isinstance(error.__cause__, ConnectionFailure):  # no server: the write's own error says so
                raise error.__cause__ from None
            raise
        self.opened.prepared.add(place)

    def beside(self, collection: Any, suffix: str) -> Any:
        """The driver's collection beside that of the versions, with this behind its name; without anything, that itself."""
        _client, database, name = self._home(collection)
        return self._client(collection)[database][f"{name}{suffix}"]

    def _client(self, collection: Any) -> Any:
        return collection.database.client if self.names.client is None else self.names.client()

    def _home(self, collection: Any) -> Place:
        """Where the versions lie in the end."""
        database = self.names.database or collection.database.name
        return id(self._client(collection)), database, self.names.collection

    def _place(self, collection: Any, name: str) -> Place:
        """What lies beside the documents, on their own server."""
        database = collection.database
        return id(database.client), self.names.database or database.name, name


def _open(collection: Any, *, is_foreign: bool) -> MongoStore:
    if not isinstance(collection, Collection):
        return MongomockStore(collection)
    collection = acknowledged(collection)
    return ForeignStore(collection) if is_foreign else MongoStore(collection)


def _make_room(kept: dict[Place, Any], opened: Opened) -> None:
    while len(kept) >= _MOST_OPEN:
        oldest = next(iter(kept))
        del kept[oldest]
        opened.forget(oldest)
