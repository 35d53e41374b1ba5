"""
What a document shall become: the state of a moment, a given state, or the present without certain versions.

A goal is asked anew each time a document is looked at, so a write in between is never overwritten unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from bson import ObjectId

from django_mongo_history.core import diff, elements, values
from django_mongo_history.core.model import Operation, PatchEntries, Path, State, VersionRecord
from django_mongo_history.core.patches import Patch, PatchError
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.replay import patch_of
from django_mongo_history.documents import Reference
from django_mongo_history.reading import DocumentHistory, Source
from django_mongo_history.reading.changes import exact_entries


class ObstacleError(Exception):
    """Something stands in the way of a goal. `can_be_forced`: whether going on is possible at all."""

    def __init__(self, reason: str, *, can_be_forced: bool) -> None:
        super().__init__(reason)
        self.can_be_forced = can_be_forced


class Goal(Protocol):
    """What the tracked state of a document shall be, None to remove it. Raises: ObstacleError, BrokenChainError."""

    def __call__(self, history: DocumentHistory, *, force: bool) -> bytes | None: ...

    def needs(self, history: DocumentHistory) -> list[int]:
        """The versions whose states or rows will be asked for, so that rows are read for many documents at once."""
        ...

    def rules(self, history: DocumentHistory) -> Policy:
        """What the state does not know of: today's rules, and those under which it was recorded."""
        ...


_MOST_PATHS: Final = 5
"""Paths that a message names."""


@dataclass(frozen=True, slots=True)
class Target:
    """
    One document and the tracked state that it shall have; `fields` (database names) limits what is written.

    `rules`: what the state was pruned by, None for today's rules alone. `is_coming`: which documents will be there with
    it, whether they are there now or not.
    """

    source: Source
    document_id: Any
    state: bytes | None
    fields: Sequence[str] | None = None
    rules: Policy | None = None
    is_coming: Callable[[Reference], bool] | None = None


@dataclass(frozen=True, slots=True)
class StateAt:
    """The state in force at a moment; nothing where there was no document then."""

    moment: datetime

    def __call__(self, history: DocumentHistory, *, force: bool) -> bytes | None:
        index = history.index_at(self.moment)
        return None if index is None else history.after(index)

    def needs(self, history: DocumentHistory) -> list[int]:
        index = history.index_at(self.moment)
        return [] if index is None else [index]

    def rules(self, history: DocumentHistory) -> Policy:
        index = history.index_at(self.moment)
        return history.source.policy if index is None else history.rules_at(index)


@dataclass(frozen=True, slots=True)
class GivenState:
    """
    A state that is known already; only some fields of it, where `fields` says so. `known_under`: its rules.

    `is_coming`: which documents will be there with it.
    """

    state: bytes | None
    fields: Sequence[str] | None = None
    known_under: Policy | None = None
    is_coming: Callable[[Reference], bool] | None = None

    def __call__(self, history: DocumentHistory, *, force: bool) -> bytes | None:
        now = history.now()
        if self.fields is None or self.state is None:
            return self.state
        if now is None:
            raise ObstacleError(
                "the document does not exist now, so single fields of it cannot be reverted; revert all of it",
                can_be_forced=False,
            )
        return _with_fields(now, self.state, [name.encode() for name in self.fields])

    def needs(self, history: DocumentHistory) -> list[int]:
        return []

    def rules(self, history: DocumentHistory) -> Policy:
        return self.known_under or history.source.policy


def _with_fields(now: bytes, then: bytes, names: Sequence[bytes]) -> bytes:
    """The present with these fields as they were: in their present place, or at the end where they have none."""
    old = {part.name: part for part in elements.elements(then) if part.name in names}
    parts = [old.pop(part.name, None) if part.name in names else part for part in elements.elements(now)]
    return elements.assemble([part for part in parts if part is not None] + list(old.values()))


@dataclass(frozen=True, slots=True)
class Without:
    """
    The present without these versions of the document, or without a drop of its collection, by the tombstone's id.

    What others changed again since stands in the way.
    """

    versions: frozenset[ObjectId]

    def needs(self, history: DocumentHistory) -> list[int]:
        places = self._places(history)
        return [places[0] - 1, *places] if places and places[0] else places

    def rules(self, history: DocumentHistory) -> Policy:
        found = history.source.policy
        for place in self._places(history):
            is_stored = history.steps[place].entry is not None
            found = history.rules_at(place if is_stored else max(place - 1, 0)).joined(found)
        return found

    def __call__(self, history: DocumentHistory, *, force: bool) -> bytes | None:
        places = self._places(history)
        if not places:
            return history.now()
        later = [index for index in range(places[0] + 1, len(history.steps)) if index not in places]
        if not later:
            return history.before(places[0])
        for place in places:
            self._check(history, place, [index for index in later if index > place], force=force)
        return self._undone(history, places)

    def _places(self, history: DocumentHistory) -> list[int]:
        return [
            index
            for index, step in enumerate(history.steps)
            if (found := step.entry or step.tombstone) is not None and found.id in self.versions
        ]

    def _check(self, history: DocumentHistory, place: int, later: Iterable[int], *, force: bool) -> None:
        mine = _touched(history, place)
        for index in later:
            if force and mine is not None:
                return
            theirs = _touched(history, index)
            if mine is None or theirs is None or _overlap(mine, theirs):
                raise ObstacleError(
                    f"version {history.steps[index].id} ({history.steps[index].operation}) changed the same again "
                    f"after version {history.steps[place].id}{_at_paths(mine, theirs)}",
                    can_be_forced=mine is not None,
                )

    def _undone(self, history: DocumentHistory, places: Sequence[int]) -> bytes:
        now = history.now()
        if now is None:
            raise ObstacleError("the document does not exist any more", can_be_forced=False)
        try:
            state = values.decode(now)
        except values.DuplicateKeysError as error:
            raise ObstacleError(
                f"single changes cannot be taken back: {error}", can_be_forced=False
            ) from error
        for place in reversed(places):
            record = history.record(place)
            assert record is not None
            state = _without(record, state, history)
        return values.encode(state)


def _without(record: VersionRecord, state: State, history: DocumentHistory) -> State:
    """The state without what this version did, keys in the old order as far as they are the same ones."""
    entries = exact_entries(record, history.source.view)
    inverse = diff.invert(Patch(entries, []))
    try:
        undone = diff.apply(inverse, state)
    except PatchError as error:
        raise ObstacleError(
            f"what version {record.id} did no longer fits the document: {error}", can_be_forced=False
        ) from error
    for path, old_keys, _new_keys in patch_of(record).key_order:
        if old_keys is not None:
            diff.arrange_keys(undone, path, old_keys)
    return undone


def _touched(history: DocumentHistory, index: int) -> list[Path] | None:
    """The paths that a version claims; None where it is all of the document: it came, went, or nobody knows."""
    step = history.steps[index]
    if step.operation is Operation.BASELINE:
        return []
    if step.before is None or step.after is None:
        return None
    record = history.record(index)
    if record is not None:
        return _claims(exact_entries(record, history.source.view))
    before, after = history.before(index), history.after(index)
    assert before is not None
    assert after is not None
    return _claims(diff.diff(before, after).entries)


def _claims(entries: PatchEntries) -> list[Path]:
    """What entries claim: elements that come or go move all behind them, so they claim their whole list."""
    claimed: list[Path] = []
    for operation, path, payload in entries:
        if operation == "change" or isinstance(payload[0][0], int):
            claimed.append(tuple(path))
        else:
            claimed.extend((*path, key) for key, _value in payload)
    return claimed


def _at_paths(mine: Iterable[Path] | None, theirs: Sequence[Path] | None) -> str:
    """Where two versions meet, for a message; nothing where one of them is all of the document."""
    met = [path for path in mine or () if theirs is not None and _overlap([path], theirs)]
    shown = [".".join(map(str, path)) or "the whole document" for path in met[:_MOST_PATHS]]
    more = f" and {len(met) - _MOST_PATHS} more" if len(met) > _MOST_PATHS else ""
    return f", at {', '.join(shown)}{more}" if shown else ""


def _overlap(one: Iterable[Path], other: Sequence[Path]) -> bool:
    return any(mine[: len(theirs)] == theirs[: len(mine)] for mine in one for theirs in other)
