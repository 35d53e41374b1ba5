"""
The nouns of the package: what a write was, what is stored of it, and who was behind it.

The stored layout (design §4) is documented here once, on `VersionRecord`. Knows no database and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final, NamedTuple

from bson import ObjectId
from bson.timestamp import Timestamp

FORMAT: Final = 1
"""The number of the stored layout. Raising it needs a conversion in the same commit."""

State = dict[str, Any]
"""A document at one moment: database field names to BSON-ready values, in key order."""

PathPart = str | int
Path = tuple[PathPart, ...]
"""Where a value lies: keys of documents as `str`, indexes of lists as `int`."""

PatchEntry = tuple[str, list[PathPart], Any]
PatchEntries = list[PatchEntry]
"""Edits in dictdiffer's format with list paths: `("change", path, (old, new))`, `("add" | "remove", path, [(key, value)])`."""


CLOCK_BIT: Final = 0x8000_0000
"""Set in the increment of an `order` that was made from a clock. A cluster's own increments never get there."""


HINT_BIT: Final = 0x4000_0000
"""Set in the increment of an `order` of a write without a transaction: what the session had seen by then, which may
lie behind the order of a later write. Those of transactions are strict. A cluster's increments never get there."""


def hinted(order: Timestamp | None) -> Timestamp | None:
    """A cluster time as the `order` of a write that no transaction held apart from others."""
    return None if order is None else Timestamp(order.time, order.inc | HINT_BIT)


def order_from_clock(at: datetime) -> Timestamp:
    """An `order` where the server gives no cluster time: to the millisecond, marked as a clock's."""
    milliseconds = at.microsecond // 1000
    return Timestamp(int(at.timestamp()), CLOCK_BIT | milliseconds)


class Operation(StrEnum):
    """What a version did to its document. The last two are derived on reading, `baseline` may also be stored."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    BASELINE = "baseline"
    EXTERNAL = "external"


class Marker(Enum):
    """Values that stand for what is not there to be shown."""

    ABSENT = "absent"
    HIDDEN = "hidden"

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__

    def __bool__(self) -> bool:
        return False


ABSENT: Final = Marker.ABSENT
"""The side of a change on which the path does not exist (a stored null is `None`)."""

HIDDEN: Final = Marker.HIDDEN
"""The side of a change whose value is hidden by policy."""


@dataclass(frozen=True, slots=True)
class Change:
    """
    One path that a version changed, as readers see it.

    `old` is the value before the version, `new` the value after it; `op` is `add`, `remove` or `change`.
    """

    path: Path
    old: Any
    new: Any
    op: str


@dataclass(frozen=True, slots=True)
class UserRef:
    """
    The user behind a write, as plain values that outlive the account.

    `pk`: the primary key, any BSON type. `label`: what the user was called then. `model`: `app_label.model`, or None.
    """

    pk: Any
    label: str = ""
    model: str | None = None

    def __str__(self) -> str:
        return self.label or str(self.pk)


@dataclass(frozen=True, slots=True)
class RequestRef:
    """The HTTP request behind a write: its id (from a header or minted), its method and its path without the query."""

    id: str
    method: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class TaskRef:
    """The Celery task that wrote: its id, and the name under which Celery knows it."""

    id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """Who, from where and why: the values that a version carries. All of them may be missing."""

    user: UserRef | None = None
    remote_addr: str | None = None
    reason: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    request: RequestRef | None = None
    task: TaskRef | None = None

    def to_bson(self) -> dict[str, Any]:
        """The stored shape; a fact that is not there has no key."""
        stored: dict[str, Any] = {}
        if self.user is not None:
            stored["user"] = {"pk": self.user.pk, "label": self.user.label, "model": self.user.model}
        if self.remote_addr is not None:
            stored["remote_addr"] = self.remote_addr
        if self.reason is not None:
            stored["reason"] = self.reason
        if self.extra:
            stored["extra"] = dict(self.extra)
        if self.request is not None:
            stored["request"] = {
                "id": self.request.id,
                "method": self.request.method,
                "path": self.request.path,
            }
        if self.task is not None:
            stored["task"] = {"id": self.task.id, "name": self.task.name}
        return stored

    @classmethod
    def from_bson(cls, stored: Mapping[str, Any]) -> Context:
        """The reverse of `to_bson`; keys it does not know are left out."""
        user, request, task = stored.get("user"), stored.get("request"), stored.get("task")
        return cls(
            user=None
            if user is None
            else UserRef(user.get("pk"), user.get("label") or "", user.get("model")),
            remote_addr=stored.get("remote_addr"),
            reason=stored.get("reason"),
            extra=dict(stored.get("extra") or {}),
            request=None
            if request is None
            else RequestRef(request.get("id") or "", request.get("method") or "", request.get("path") or ""),
            task=None if task is None else TaskRef(task.get("id") or "", task.get("name") or ""),
        )


NO_CONTEXT: Final = Context()
"""Nothing is known."""


@dataclass(frozen=True, slots=True)
class DocumentKey:
    """Which document: the full namespace `db.collection` and its `_id`, of any BSON type."""

    collection: str
    document_id: Any


class Replaced(NamedTuple):
    """A value in the place of another one: each as its BSON type byte and its bytes."""

    path: Path
    old: tuple[int, bytes]
    new: tuple[int, bytes]


class Write(NamedTuple):
    """
    One document's write as capture saw it: the whole images on both sides, as BSON, before any pruning.

    `before` is None where the document did not exist before the write, `after` where it does not after it.
    """

    key: DocumentKey
    before: bytes | None
    after: bytes | None
    replaced: Sequence[Replaced] | None = None
    """All that differs, where it is known without comparing the images: see `leaves.replaced_values`."""

    @property
    def operation(self) -> Operation:
        if self.before is None:
            return Operation.CREATE
        return Operation.DELETE if self.after is None else Operation.UPDATE


class VersionRecord(NamedTuple):
    """
    One stored version. Every field but the last two is a field of the stored document of the same name.

    Sides: `patch` and `key_order` hold both (old, new); `snapshot` is the state *after* the version, of a delete the
    state *before* it; `before` and `after` are digests of the tracked state on each side, None where there was none.

    `patch` and `snapshot` are kept as BSON until somebody reads them: `patch` is a document `{"p": [entries]}`.
    `key_order` lists `[path, old_keys | None, new_keys | None]` for every document whose key order the patch alone
    would lose on that side.

    A tuple, because a write of many documents makes one of each, and a frozen dataclass takes eight times as long.
    """

    id: ObjectId
    collection: str
    document_id: Any
    order: Timestamp
    operation: Operation
    at: datetime
    before: bytes | None
    after: bytes | None
    document_class: str
    changeset: ObjectId | None = None
    context: Context = NO_CONTEXT
    policy: str = ""
    patch: bytes | None = None
    key_order: list[Any] | None = None
    snapshot: bytes | None = None
    changed: tuple[str, ...] = ()
    hidden_changed: tuple[str, ...] = ()
    revert_of: Any = None
    source: Any = None

    @property
    def key(self) -> DocumentKey:
        return DocumentKey(self.collection, self.document_id)


@dataclass(frozen=True, slots=True)
class Entry:
    """What order and links need of a stored version; read from an index alone, without fetching the row."""

    id: ObjectId
    document_id: Any
    order: Timestamp
    operation: Operation
    at: datetime
    before: bytes | None
    after: bytes | None
