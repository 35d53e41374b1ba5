"""
The blocks and functions with which code says who writes and why, and what a version takes from them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from bson import ObjectId

from django_mongo_history.context.finding import NOTHING, Found, find, lifted
from django_mongo_history.context.frames import Block, Frame, Note, current, spend
from django_mongo_history.context.scopes import Scope
from django_mongo_history.context.storable import slot_of, storable
from django_mongo_history.context.users import UNSET, Unset, User, user_ref
from django_mongo_history.core.finders import NO_FINDERS, Finders
from django_mongo_history.core.model import Context, DocumentKey, RequestRef

logger = logging.getLogger("django_mongo_history")

MAX_NOTED_DOCUMENTS: Final = 1000
"""How many documents may wait with appended info in one context; a script that never writes them must not grow."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What a version carries: the changeset that it belongs to, and its context."""

    changeset: ObjectId
    context: Context

    @property
    def has_reason(self) -> bool:
        """Whether it says why; blank text does not."""
        return bool((self.context.reason or "").strip())


def capture_context(
    key: DocumentKey | None = None,
    *,
    finders: Finders = NO_FINDERS,
    document_class: type[Any] = object,
    changeset: ObjectId | None = None,
) -> Captured:
    """
    What the write that is happening now carries; `key` is the document it writes, for the info appended to it.

    `finders` are asked, with the class, for what no block has said; before the request's own user and address.
    Outside of any changeset every call mints one of its own, or takes `changeset`, that of a write which it is part of.
    """
    frame = current.get()
    found = find(finders, document_class, but=frame.given) if finders else NOTHING
    captured = Captured(frame.changeset or changeset or ObjectId(), told_by(frame, found))
    return captured if key is None else noted(captured, key)


def told_by(frame: Frame, found: Found) -> Context:
    """Who and why by this frame, and by what was found out otherwise."""
    return Context(
        user=frame.user.now() if found.user is UNSET else found.user,
        remote_addr=frame.remote_addr if found.remote_addr is UNSET else found.remote_addr,
        reason=found.reason if frame.reason is None else frame.reason,
        extra={**found.extra, **frame.extra},
        request=frame.request,
        task=frame.task,
    )


def noted(captured: Captured, key: DocumentKey) -> Captured:
    """
    The same for one document of several that a call writes: with the info that was appended to it.

    The info is read and not used up, since a write may fail or be tried again: see `consume_appended`.
    """
    notes = _notes(current.get(), key)
    if not notes:
        return captured
    info: dict[str, Any] = {}
    for note in notes:
        info.update(note.extra)
    reason, info = lifted(info)
    told = captured.context
    context = replace(told, extra={**told.extra, **info}, reason=told.reason if reason is UNSET else reason)
    return replace(captured, context=context)


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
    `user_ref` takes; `resolve_user` is asked for the user at each write instead, and no more once the block has ended:
    this and the address beside it is how requests are found out about, and gives way to finders of the project's own.
    A text in `extra` that is called `reason` or `rationale` is the reason where none is given.
    `changeset` continues one that was begun elsewhere; without it every entry mints an id.

    Raises: TypeError or ValueError at once for values that no version can carry.
    """
    given = {"remote_addr": remote_addr, "reason": reason, "request": request}
    facts: dict[str, Any] = {name: value for name, value in given.items() if value is not UNSET}
    _check_facts(facts)
    added = storable(extra or {}, called="extra")
    if reason is UNSET:
        reason, added = lifted(added)
        facts |= {} if reason is UNSET else {"reason": reason}
    said = {"remote_addr"} & facts.keys() | (set() if user is UNSET else {"user"})
    found = {"user", "remote_addr"} if resolve_user else set()
    fixed = None if user is UNSET else User(user_ref(user))

    def begin(outer: Frame) -> Frame:
        who = User(resolve=resolve_user) if resolve_user else fixed or outer.user
        # A copy of the id: identity tells this changeset's frame from one around it that has the same id.
        return replace(
            outer,
            changeset=ObjectId(changeset),
            user=who,
            extra={**outer.extra, **added},
            given=(outer.given | said) - found,
            **facts,
        )

    return Block(begin, lambda frame: cast(ObjectId, frame.changeset))


def rationale(reason: str) -> Block[None]:
    """A block whose versions say why they were made. An inner reason stands in for an outer one."""
    _check_facts({"reason": _text(reason)})
    return Block(lambda outer: replace(outer, reason=reason), _nothing)


def extra_change_info(**extra: Any) -> Block[None]:
    """
    A block whose versions carry these values in `extra`, over those of the blocks around it.

    A text called `reason` or `rationale` is their reason, as in `rationale()`.
    Raises: TypeError or ValueError at once for a value that BSON cannot hold.
    """
    reason, added = lifted(storable(extra, called="extra"))
    facts: dict[str, Any] = {} if reason is UNSET else {"reason": reason}
    return Block(lambda outer: replace(outer, extra={**outer.extra, **added}, **facts), _nothing)


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


def open_scope(
    key: Callable[[], DocumentKey], *, user: Any = UNSET, extra: Mapping[str, Any] | None = None
) -> Block[None]:
    """
    A block in which one document is recorded, also where its class is recorded in scopes only.

    `key` gives where the document lies at each write, with ABSENT as the id while it has none. The versions of this
    document, and of no other, carry `user` (UNSET: that of the block around) and `extra`.
    Raises: TypeError or ValueError at once for values that no version can carry.
    """
    who = UNSET if user is UNSET else user_ref(user)
    added = storable(extra or {}, called="extra")
    return Block(
        lambda outer: replace(outer, scopes=(Scope(key, who, added), *outer.scopes)),
        _nothing,
    )


def has_scope(collection: str | None = None) -> bool:
    """Whether any scope is open here; where a namespace is given, of a document that lies in it."""
    scopes = (scope for scope in current.get().scopes if scope.is_open)
    return any(collection is None or scope.key().collection == collection for scope in scopes)


def scope_of(key: DocumentKey, *, is_create: bool) -> Scope | None:
    """The innermost scope of this document, or None. Cost: nothing where no scope is open."""
    scopes = current.get().scopes
    return next((one for one in scopes if one.covers(key, is_create=is_create)), None) if scopes else None


def tells_documents_apart() -> bool:
    """Whether anything here is said of single documents: a scope, or appended info that waits for its version."""
    frame = current.get()
    return bool(frame.scopes or frame.notes)


def scoped(captured: Captured, scope: Scope | None) -> Captured:
    """The same for a version that is made in this scope."""
    if scope is None:
        return captured
    around = captured.context
    user = around.user if scope.user is UNSET else scope.user
    extra = {**around.extra, **scope.extra}
    return replace(captured, context=replace(around, user=user, extra=extra))


def is_suppressed() -> bool:
    """Whether writes made here are not recorded."""
    return current.get().suppressed is not None


def append_change_info(key: DocumentKey, info: Mapping[str, Any]) -> None:
    """
    Put values into `extra` of the next version of this document that is written in this context, and of no other.

    A text called `reason` or `rationale` is its reason. What no write has taken when the changeset around it ends is
    dropped.
    """
    added = storable(info, called="info")
    frame = current.get()
    notes = {slot: left for slot, waiting in frame.notes.items() if (left := _unspent(waiting))}
    slot = slot_of(key)
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
    if frame.notes and (waiting := frame.notes.get(slot := slot_of(key))):
        spend(waiting)
        current.set(
            replace(frame, notes={other: note for other, note in frame.notes.items() if other != slot})
        )


def _notes(frame: Frame, key: DocumentKey | None) -> tuple[Note, ...]:
    return _unspent(frame.notes.get(slot_of(key), ())) if frame.notes and key is not None else ()


def _unspent(notes: tuple[Note, ...]) -> tuple[Note, ...]:
    return tuple(note for note in notes if not note.is_spent)


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
