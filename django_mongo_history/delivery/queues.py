"""What stands between a write and the store: the outbox, the broker, and when which is used. Values, made by `runtime`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django_mongo_history.delivery.copies import Copies
from django_mongo_history.delivery.destinations import Direct, ViaBroker, ViaOutbox
from django_mongo_history.delivery.publishing import Place, Publisher
from django_mongo_history.storage.base import Store
from django_mongo_history.storage.outbox import Outbox


def _no_outbox(_collection: Any) -> Outbox | None:
    return None


def _no_place(_collection: Any) -> Place | None:
    return None


@dataclass(frozen=True, slots=True)
class Queues:
    """
    `open_outbox` gives the outbox for a plain collection's database, ready to be written; None where there can be none
    (mongomock). `place_of` gives alias and database of a collection, by which a worker finds both again; None for a
    client that MongoEngine has no name for. `publisher`: None without Celery; `copies` keeps what it has sent.
    `is_foreign`: the versions lie on another server than the documents.
    """

    open_outbox: Callable[[Any], Outbox | None] = _no_outbox
    place_of: Callable[[Any], Place | None] = _no_place
    publisher: Publisher | None = None
    is_foreign: bool = False
    when_down: str = "sync"
    max_bytes: int = 256 * 1024
    copies: Copies | None = None

    def can_queue(self, collection: Any) -> bool:
        """Whether versions of documents in this collection can go by way of a broker."""
        return self.publisher is not None and self.place_of(collection) is not None

    def via_outbox(self, collection: Any) -> ViaOutbox:
        """The way by the outbox. Where no worker could find it, none is told: `history_flush` moves it on."""
        place = self.place_of(collection)
        publisher = None if place is None else self.publisher
        return ViaOutbox(self._outbox(collection), publisher, place or ("", ""))

    def via_broker(self, collection: Any, store: Callable[[], Store]) -> ViaBroker | Direct:
        """The way by the broker, with the outbox and the store itself behind it."""
        place = self.place_of(collection)
        if self.publisher is None or place is None:
            return Direct(store(), lambda: self.open_outbox(collection))
        return ViaBroker(
            store=store,
            outbox=lambda: self._outbox(collection),
            publisher=self.publisher,
            place=place,
            when_down=self.when_down,
            max_bytes=self.max_bytes,
            copies=self.copies,
        )

    def _outbox(self, collection: Any) -> Outbox:
        outbox = self.open_outbox(collection)
        assert outbox is not None, "collections with transactions or a broker before them are a real server's"
        return outbox


NO_QUEUES: Final = Queues()
