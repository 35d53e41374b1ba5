"""Where versions go: straight into the store, by way of an outbox, or to a broker with the outbox behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import PyMongoError

from django_mongo_history.core.model import VersionRecord
from django_mongo_history.delivery.copies import Copies
from django_mongo_history.delivery.messages import Message, packed
from django_mongo_history.delivery.publishing import BrokerError, Place, Publisher
from django_mongo_history.errors import StoreError
from django_mongo_history.storage import rows
from django_mongo_history.storage.base import Store
from django_mongo_history.storage.outbox import Outbox
from django_mongo_history.storage.refusals import said_by

logger: Final = logging.getLogger("django_mongo_history")

OpenOutbox = Callable[[], Outbox | None]
"""The outbox, made ready to be written; None where there can be none (mongomock)."""


@dataclass(frozen=True, slots=True)
class Direct:
    """Into the store. `outbox` keeps what that refuses after the write."""

    store: Store
    outbox: OpenOutbox = lambda: None

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        self.store.append(records, session=session)

    def settle(self, records: Sequence[VersionRecord], *, is_committed: bool) -> None:
        """Nothing is left to be moved."""

    def keep(self, records: Sequence[VersionRecord]) -> str | None:
        return kept(records, self.outbox)


@dataclass(frozen=True, slots=True)
class ViaOutbox:
    """Into the outbox, in one transaction with the document where there is one; the workers are told of it."""

    outbox: Outbox
    publisher: Publisher | None
    place: Place

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        self.outbox.append(records, session=session)

    def settle(self, records: Sequence[VersionRecord], *, is_committed: bool) -> None:
        if self.publisher is not None and records:
            self.publisher.announce(self.place, [record.id for record in records], at_once=is_committed)

    def keep(self, records: Sequence[VersionRecord]) -> str | None:
        return None  # it has refused them already


@dataclass(frozen=True, slots=True)
class ViaBroker:
    """
    To the broker, as messages that carry the versions; large ones lie in the outbox and are named.

    `when_down`: `sync`, `outbox` or `raise`, see the setting BROKER_DOWN. Units: `max_bytes` of one version.
    `copies` keeps what the broker took until the store has it.
    """

    store: Callable[[], Store]
    outbox: Callable[[], Outbox]
    publisher: Publisher
    place: Place
    when_down: str
    max_bytes: int
    copies: Copies | None = None

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        light: dict[bytes, VersionRecord] = {}
        heavy: list[VersionRecord] = []
        for record, encoded in zip(records, rows.encode_all(records), strict=True):
            if len(encoded) == 1 and len(encoded[0]) <= self.max_bytes:
                light[encoded[0]] = record
            else:
                heavy.append(record)
        self._publish(light)
        if heavy and self._lie_by(heavy):
            self.publisher.announce(self.place, [record.id for record in heavy])

    def _publish(self, light: dict[bytes, VersionRecord]) -> None:
        groups = packed(list(light), self.max_bytes)
        for number, group in enumerate(groups):
            try:
                self.publisher.publish(Message(*self.place, rows=group))
            except BrokerError as error:
                left = [light[row] for later in groups[number:] for row in later]
                self._without_broker(left, error)
                return
            if self.copies is not None and not self.publisher.is_inline:
                self.copies.keep(self.place, group)

    def _without_broker(self, records: Sequence[VersionRecord], error: BrokerError) -> None:
        if self.when_down == "raise":
            raise StoreError(f"The broker took no message: {error}", store="broker") from error
        if self.when_down == "outbox":
            self._lie_by(records)
        else:
            self.store().append(records)

    def _lie_by(self, records: Sequence[VersionRecord]) -> bool:
        """Put versions into the outbox; into the store itself, and False, where that does not take them."""
        try:
            self.outbox().append(records)
        except (StoreError, PyMongoError):
            self.store().append(records)
            return False
        return True

    def settle(self, records: Sequence[VersionRecord], *, is_committed: bool) -> None:
        """The messages have said it."""

    def keep(self, records: Sequence[VersionRecord]) -> str | None:
        name = kept(records, self.outbox)
        if name is not None:
            self.publisher.announce(self.place, [record.id for record in records], at_once=False)
        return name


def kept(records: Sequence[VersionRecord], outbox: OpenOutbox) -> str | None:
    """Put into the outbox what nothing else took; its name, None where it does not take them either."""
    try:
        place = outbox()
        if place is None:
            return None
        place.append(records)
    except (StoreError, PyMongoError) as error:  # the driver's own where the outbox was to be made ready
        # Without a traceback, whose causes may say what documents hold.
        said = str(error) if isinstance(error, StoreError) else said_by(error)
        logger.error("%d versions could not be kept in the outbox either: %s", len(records), said)  # noqa: TRY400
        return None
    return place.name
