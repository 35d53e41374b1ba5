"""
What recording needs of the world, as values: who is tracked, where versions go, how and how long.

Made by `runtime` from the settings; nothing below reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bson.timestamp import Timestamp

from django_mongo_history import context
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import DocumentKey, VersionRecord, Write
from django_mongo_history.core.recording import Circumstances, record_write
from django_mongo_history.driver import topology
from django_mongo_history.registry import Registry, Tracked
from django_mongo_history.storage.base import Store


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

    def mode_for(self, tracked: Tracked, collection: Any) -> str:
        """`atomic` or `sync`: the class's own mode, else the project's, as far as server and collection can."""
        asked = tracked.delivery or self.delivery
        if asked == "sync" or collection.full_name in self.refused or not self.has_transactions(collection):
            return "sync"
        return "atomic"

    def has_transactions(self, collection: Any) -> bool:
        return topology.has_transactions(collection.database.client)


@dataclass(slots=True)
class Recorder:
    """
    Turns the writes of one call into versions; made for each call, begun anew with each attempt.

    `fallback`: the class through which the call came, which decides where a document carries no `_cls`.
    `captured`: who and why, found out once for the whole call.
    """

    environment: Environment
    fallback: type
    captured: context.Captured
    revert_of: Any = None
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
        return [record for record in found if record is not None]

    def _record(self, write: Write, order: Timestamp | None) -> VersionRecord | None:
        image = write.before if write.after is None else write.after
        around = self.circumstances(write.key, image, order)
        return None if around is None else record_write(write, around)

    def circumstances(
        self, key: DocumentKey, image: bytes | None, order: Timestamp | None
    ) -> Circumstances | None:
        """All that a version of this document carries besides its images; None where its class is not tracked."""
        name = class_name(image)
        captured = context.noted(self.captured, key)
        if captured is not self.captured:
            return self._circumstances(name, order, captured)
        shared = self._shared.get(name)
        if shared is None or shared.order is not order:
            shared = self._circumstances(name, order, captured)
            self._shared[name] = shared
        return shared

    def _circumstances(
        self, name: str | None, order: Timestamp | None, captured: context.Captured
    ) -> Circumstances | None:
        tracked = self.environment.registry.of_image(name, self.fallback)
        if tracked is None:
            return None
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
