"""
The blocks and functions with which code says who writes and why, and what a version takes from them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from bson import ObjectId

from django_mongo_history.context.frames import Block, Frame, Note, Slot, current, spend
from django_mongo_history.context.storable import storable, storable_key
from django_mongo_history.context.users import UNSET, Unset, User, user_ref
from django_mongo_history.core import values
from django_mongo_history.core.model import Context, DocumentKey, RequestRef

logger = logging.getLogger("django_mongo_history")

MAX_NOTED_DOCUMENTS: Final = 1000
"""How many documents may wait with appended info in one context; a script that never writes them must not grow."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What a version carries: the changeset that it belongs to, and its context."""

    changeset: ObjectId
    context: Context


def capture_context(key: DocumentKey | None = None) -> Captured:
    """
    What the write that is happening now carries; `key` is the document it writes, for the info appended to it.

    Outside of any changeset every call mints one of its own.
    """
    frame = current.get()
    context = Context(
        user=frame.user.now(),
        remote_addr=frame.remote_addr,
        reason=frame.reason,
        extra=dict(frame.extra),
        request=frame.request,
    )
    captured = Captured(frame.changeset or ObjectId(), context)
    return captured if key is None else noted(captured, key)


def noted(captured: Captured, key: DocumentKey) -> Captured:
    """
    The same for one document of several that a call writes: with the info that was appended to it.

    The info is read and not used up, since a write may fail or be tried again: see `consume_appended`.
    """
    notes = _notes(current.get(), key)
    if not notes:
        return captured
    extra = dict(captured.context.extra)
    for note in notes:
        extra.update(note.extra)
    return replace(captured, context=replace(captured.context, extra=extra))


def current_changeset() -> ObjectId | None:
    """The changeset that is open here, or None."""
    return current.get().changeset


def open_changeset(
    *,
    user: Any = UNSET,
    remote_addr: str | Unset | None = UNSET,
    reason: str | Unset | None = UNSET,
    extra: Mapping[str, Any] | None = None,
    request: RequestRef | Unset | None = UNSET,
    resolve_user: Callable[[], Any] | None = None,
    changeset: ObjectId | None = None,
) -> Block[ObjectId]:
    """
    A block whose writes belong together; gives the changeset's id.

    What is not given comes from the block around it, `extra` is merged with that one's. `user` is anything that
    `user_ref` takes; `resolve_user` is asked for the user at each write instead, and no more once the block has ended.
    `changeset` continues one that was begun elsewhere; without it every entry mints an id.

    Raises: TypeError or ValueError at once for values that no version can carry.
    """
    given = {"remote_addr": remote_addr, "reason": reason, "request": request}
    facts: dict[str, Any] = {name: value for name, value in given.items() if value is not UNSET}
    _check_facts(facts)
    added = storable(extra or {}, called="extra")
    fixed = None if user is UNSET else User(user_ref(user))

    def begin(outer: Frame) -> Frame:
        who = User(resolve=resolve_user) if resolve_user else fixed or outer.user
        # A copy of the id: identity tells this changeset's frame from one around it that has the same id.
        return replace(
            outer, changeset=ObjectId(changeset), user=who, extra={**outer.extra, **added}, **facts
        )

    return Block(begin, lambda frame: cast(ObjectId, frame.changeset))


def rationale(reason: str) -> Block[None]:
    """A block whose versions say why they were made. An inner reason stands in for an outer one."""
    _check_facts({"reason": _text(reason)})
    return Block(lambda outer: replace(outer, reason=reason), _nothing)


def extra_change_info(**extra: Any) -> Block[None]:
    """
    A block whose versions carry these values in `extra`, over those of the blocks around it.

    Raises: TypeError or ValueError at once for a value that BSON cannot hold.
    """
    added = storable(extra, called="extra")
    return Block(lambda outer: replace(outer, extra={**outer.extra, **added}), _nothing)


def suppress_history(reason: str) -> Block[None]:
    """
    A block whose writes are not recorded. Readers show what they changed as `external`; the reason goes to the log.

    Raises: TypeError or ValueError for a missing or empty reason.
    """
    if not _text(reason).strip():
        raise ValueError("suppress_history() needs a reason, which goes to the log; got an empty one")

    def begin(outer: Frame) -> Frame:
        logger.info("History is suppressed from here on: %s", reason)
        return replace(outer, suppressed=reason)

    return Block(begin, _nothing)


def is_suppressed() -> bool:
    """Whether writes made here are not recorded."""
    return current.get().suppressed is not None


def append_change_info(key: DocumentKey, info: Mapping[str, Any]) -> None:
    """
    Put values into `extra` of the next version of this document that is written in this context, and of no other.

    What no write has taken when the changeset around it ends is dropped.
    """
    added = storable(info, called="info")
    frame = current.get()
    notes = {slot: left for slot, waiting in frame.notes.items() if (left := _unspent(waiting))}
    slot = _slot(key)
    notes[slot] = (*notes.pop(slot, ()), Note(added))
    if len(notes) > MAX_NOTED_DOCUMENTS:
        oldest = next(iter(notes))
        logger.warning(
            "Appended info of %s is dropped: %d documents are waiting", oldest[0], MAX_NOTED_DOCUMENTS
        )
        spend(notes.pop(oldest))
    current.set(replace(frame, notes=notes))


def consume_appended(key: DocumentKey) -> None:
    """A version with this document's appended info is stored: no other shall carry it."""
    frame = current.get()
    if frame.notes and (waiting := frame.notes.get(slot := _slot(key))):
        spend(waiting)
        current.set(
            replace(frame, notes={other: note for other, note in frame.notes.items() if other != slot})
        )


def _notes(frame: Frame, key: DocumentKey | None) -> tuple[Note, ...]:
    return _unspent(frame.notes.get(_slot(key), ())) if frame.notes and key is not None else ()


def _unspent(notes: tuple[Note, ...]) -> tuple[Note, ...]:
    return tuple(note for note in notes if not note.is_spent)


def _slot(key: DocumentKey) -> Slot:
    """A key for a dict: ids may be documents, and to MongoDB 1, Int64(1) and 1.0 are one id, True is another."""
    document_id = storable_key(key.document_id)
    if isinstance(document_id, (int, float)) and not isinstance(document_id, bool):
        return key.collection, ("number", document_id)
    return key.collection, values.encode_value(document_id)


def _check_facts(facts: Mapping[str, Any]) -> None:
    for name, value in facts.items():
        expected = RequestRef if name == "request" else str
        if value is not None and not isinstance(value, expected):
            raise TypeError(f"{name}: expected {expected.__name__} or None, got {type(value).__name__}")
        if isinstance(value, str):
            storable({name: value}, called="context")


def _text(reason: Any) -> str:
    if not isinstance(reason, str):
        raise TypeError(f"reason: expected text, got {type(reason).__name__}")
    return reason


def _nothing(_frame: Frame) -> None:
    return None
