"""
The port to where versions lie, and its shapes. Every store passes the same suite, `tests/contract/test_stores.py`.

A store is a set of versions by id: it never changes a row, knows no order of its own and takes a version twice as once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from bson import ObjectId

from django_mongo_history.core.model import (
    ABSENT,
    Context,
    DocumentKey,
    Entry,
    Operation,
    UserRef,
    VersionRecord,
)
from django_mongo_history.core.replay import Records
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import BrokenChainError


@dataclass(frozen=True, slots=True)
class Query:
    """
    Which stored versions: all conditions hold together, None asks for nothing. `changesets`, `ids`: one of these. No `ids` with `past`.

    Bounds: `after` and `before` are exclusive, aware. `touching` are dotted database paths without list indexes;
    a version that changed it or something below it matches. `user` matches by key, of a text by label too.
    `unreadable` is told of rows that cannot be read, which are then left out; without it they are raised.

    For pages: `past` is a version's (at, id), and only what comes behind it in the sort order is found, `limit` rows at
    most, those that cannot be read among them. `max_time_s`: how long the server may look for them, then the driver's
    `ExecutionTimeout` is raised. `user_keys` and `document_ids`: one of these. `reason_part`: somewhere in the reason,
    whatever the case of its letters.
    """

    collections: tuple[str, ...] | None = None
    document_id: Any = ABSENT
    document_ids: tuple[Any, ...] | None = None
    classes: tuple[str, ...] | None = None
    changeset: ObjectId | None = None
    changesets: tuple[ObjectId, ...] | None = None
    user: UserRef | None = None
    user_keys: tuple[Any, ...] | None = None
    user_label: str | None = None
    remote_addr: str | None = None
    reason: str | None = None
    reason_part: str | None = None
    operation: Operation | None = None
    after: datetime | None = None
    before: datetime | None = None
    touching: tuple[str, ...] | None = None
    newest_first: bool = False
    past: tuple[datetime, ObjectId] | None = None
    limit: int | None = None
    max_time_s: float | None = None
    unreadable: Callable[[BrokenChainError], None] | None = None
    ids: tuple[ObjectId, ...] | None = None


class Mark(NamedTuple):
    """Where a version belongs, without what it holds."""

    at: datetime
    id: ObjectId
    changeset: ObjectId | None


class Head(NamedTuple):
    """What a version did to which document, without what it holds."""

    at: datetime
    id: ObjectId
    operation: Operation
    collection: str
    document_class: str
    document_id: Any


@dataclass(frozen=True, slots=True)
class Summary:
    """
    A changeset without what its versions hold. `context` is that of its first version, by (at, id).

    `counts`: how many versions it has by (collection, document_class).
    """

    changeset: ObjectId
    first: tuple[datetime, ObjectId]
    last_at: datetime
    context: Context
    counts: Mapping[tuple[str, str], int]


class Store(Protocol):
    """What delivery and reading need. `session` is the driver's, for stores that take part in transactions."""

    name: str
    """What people call it: for MongoDB `database.collection`."""

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        """
        Store versions. One that is there already stays as it is.

        Raises: StoreError, and the driver's own errors inside a transaction, so that it can be retried.
        """
        ...

    def entries(self, key: DocumentKey, *, session: Any = None) -> list[Entry]:
        """What order needs of all versions of one document, in no particular order. Cost: one index scan."""
        ...

    def entries_of(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> Iterator[Entry]:
        """The same for these documents of a collection. Cost: one query."""
        ...

    def scan(
        self, collection: str, *, above: Any = ABSENT, upto: Any = ABSENT, session: Any = None
    ) -> Iterator[Entry]:
        """The same for all documents of a collection, grouped by document, ids ascending in BSON order."""
        ...

    def snapshots(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> frozenset[ObjectId]:
        """
        The ids of *updates* of these documents that hold a snapshot; creates, deletes and baselines always do.

        Cost: one index scan, and these rows.
        """
        ...

    def records(self, ids: Iterable[ObjectId], *, session: Any = None) -> Records:
        """Whole versions by id; what cannot be read comes as `Unreadable`, what is not there not at all."""
        ...

    def find(self, query: Query, *, session: Any = None) -> Iterator[VersionRecord]:
        """Versions by condition, streamed, sorted by (at, id). Raises: BrokenChainError at a row it cannot read."""
        ...

    def marks(self, query: Query, *, session: Any = None) -> Iterator[Mark]:
        """The same without what the versions hold: no state and no patch is read. `unreadable` asks for nothing."""
        ...

    def heads(self, query: Query) -> Iterator[Head]:
        """The same, with what they did to which document. A row that says none of it is left out."""
        ...

    def collections(self) -> list[str]:
        """The namespaces of which there are versions, sorted. Cost: a step in an index for each."""
        ...

    def summaries(self, changesets: Sequence[ObjectId]) -> list[Summary]:
        """What these changesets are, those that have a version, in no particular order. Cost: one query."""
        ...

    def append_tombstone(self, tombstone: Tombstone) -> None:
        """Store what a drop of a collection leaves. One that is there already stays. Raises: StoreError."""
        ...

    def tombstones(self, query: Query) -> list[Tombstone]:
        """
        Tombstones by condition, sorted by (at, id). They are no versions: no other method finds them.

        `classes` and `document_id` ask for nothing: a drop takes all documents of its collection. It counts as a
        delete that touches no path.
        """
        ...

    def missing(self) -> list[str]:
        """The names of what `prepare` would make."""
        ...

    def prepare(self) -> list[str]:
        """Make what the store needs (collection, indexes); the names of what was missing. Safe to repeat."""
        ...
