"""What capture hands to delivery: work to be done in a session, and what came of it. Knows neither the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bson.timestamp import Timestamp

from django_mongo_history.core.model import VersionRecord, Write


@dataclass(slots=True)
class Outcome:
    """What an attempt did: the answer for the caller, and the writes of single documents, in order."""

    result: Any
    writes: list[Write] = field(default_factory=list)

    @property
    def is_without_effect(self) -> bool:
        return all(write.before == write.after for write in self.writes)


class Work(Protocol):
    """One call on the collection, repeatable: an attempt that failed in a transaction is made again from the start."""

    needs_transaction: bool
    """Whether images on both sides are certain only inside a transaction (not for a lone findAndModify)."""

    is_callers_call: bool
    """Whether an attempt is the caller's own call, so that its errors need not be asked for again."""

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        """Do the write in `session` (None: the driver's own) and see both images of every document it changed."""
        ...

    def original(self, session: Any) -> Any:
        """The caller's own call, untouched: for the exact exception that it raises."""
        ...


class Destination(Protocol):
    """Where the versions of one write go: straight into the store, or there by way of an outbox or a broker."""

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        """
        Hand versions on; in the transaction of `session` where there is one.

        Raises: StoreError where nothing of it took them, and the driver's own errors inside a transaction.
        """
        ...

    def settle(self, records: Sequence[VersionRecord], *, is_committed: bool) -> None:
        """The write is done, or will be when the caller commits: say so to who moves the versions on. Never raises."""
        ...

    def keep(self, records: Sequence[VersionRecord]) -> str | None:
        """Keep versions that `append` refused after their write; where they are now, None where they are nowhere."""
        ...


Recorder = Callable[[Sequence[Write], Timestamp | None], list[VersionRecord]]
"""From writes and the cluster time after them to the versions to be stored; empty where nothing tracked changed."""


@dataclass(frozen=True, slots=True)
class Job:
    """
    One write to be delivered.

    `destination`: where its versions go. `collection`: the plain PyMongo collection (or mongomock's) that is written.
    `session`: the caller's, or None.
    `begin` is called at the start of each attempt: the moment of a version is that of the attempt that succeeded.
    """

    work: Work
    record: Recorder
    destination: Destination
    collection: Any
    session: Any = None
    begin: Callable[[], None] = lambda: None


def cluster_time(session: Any) -> Timestamp | None:
    """
    The cluster time that the session has seen; None on a server without one.

    Between two transactions that touch one document it is strict, which `operation_time` is not: that one is the
    node's last applied time and can lag behind a commit that is already visible.
    """
    seen = getattr(session, "cluster_time", None)
    return None if seen is None else seen["clusterTime"]
