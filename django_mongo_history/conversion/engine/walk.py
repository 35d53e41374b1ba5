"""
Both sides of each step.

Note [Walking backwards]
The state after the last step is what follows it: a live version or the live document. From there each step leads to the one
in front, by its own sides or by undoing its edits. Where a row says something else than the walk has found, somebody wrote
past the old tracker in between. The row is right about its own time, so its version says what the row says; it also says that
there is a gap, and keeps the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from django_mongo_history.conversion.base import UNKNOWN, Edit, Step
from django_mongo_history.conversion.engine.node import Node, Nodes, is_same_unordered
from django_mongo_history.conversion.engine.surroundings import Surroundings
from django_mongo_history.conversion.scrubbing import scrubbed_edits
from django_mongo_history.conversion.unapply import Simple, Undone, invert, matches, undo
from django_mongo_history.core import values
from django_mongo_history.core.model import PatchEntries, State
from django_mongo_history.core.policy import Policy

GONE: Final = "nothing says what the document was; only the change itself is known"
ANOTHER: Final = "what follows is not the state that this row leads to: something was written in between"
MISFIT: Final = "the state that follows has another value here: something was written in between"
LEFT_OUT: Final = "what this row says does not fit the state that follows, and is in no state"


@dataclass(slots=True)
class Resolved:
    """A step with both sides."""

    step: Step
    edits: list[Edit]
    hidden: tuple[str, ...]
    before: Node
    after: Node
    gaps: list[str] = field(default_factory=list)
    is_baseline: bool = False
    ends_live: bool = False
    is_exact: bool = True
    told: PatchEntries | None = None


class Walk:
    """Through the steps of one document."""

    def __init__(self, nodes: Nodes, surroundings: Surroundings, policy: Policy) -> None:
        self._nodes = nodes
        self._surroundings = surroundings
        self._policy = policy

    def resolved(self, steps: Sequence[Step], slot: int) -> list[Resolved]:
        """The steps of one slot with both their sides, see Note [Walking backwards]."""
        found: list[Resolved] = []
        current = self._surroundings.behind(slot)
        for number in range(len(steps) - 1, -1, -1):
            one = self._with_after(steps[number], current, is_last=not found)
            if one.step.before is not UNKNOWN:
                one.before = self._nodes.given(one.step.before)
            elif one.step.edits:
                self._undo(one, found[-1] if found else None, is_first=slot == 0 and number == 0)
            else:
                self._take_before(one, steps[number - 1] if number else None, slot)
            found.append(one)
            current = one.before
        found.reverse()
        return found

    def _with_after(self, step: Step, following: Node, *, is_last: bool) -> Resolved:
        edits, hidden = scrubbed_edits(step.edits, self._policy)
        one = Resolved(step, edits, hidden, following, following, [step.gap] if step.gap else [])
        if step.after is not UNKNOWN:
            self._take_after(one, following)
        else:
            one.ends_live = is_last and step.before is not UNKNOWN
        return one

    def _take_after(self, one: Resolved, following: Node) -> None:
        told = self._nodes.given(one.step.after)
        if told.digest == following.digest:
            one.after = replace(following, whole=told.whole)
        elif following.is_known and is_same_unordered(told, following):
            one.after = replace(following, whole=told.whole)  # another order of keys and nothing else
        else:
            one.after = told
            one.gaps.append(ANOTHER)

    def _take_before(self, one: Resolved, previous: Step | None, slot: int) -> None:
        """The state before a step that says nothing of it is the one after the step, or the live version, in front."""
        if previous is not None and previous.after is not UNKNOWN:
            one.before = self._nodes.given(previous.after)
        elif previous is None and slot == 0 and one.after.image is not None:
            one.before, one.is_baseline = one.after, True
        elif previous is None and slot:
            one.before = self._surroundings.front(slot) or self._unknown(one)
        else:
            one.before = self._unknown(one)

    def _unknown(self, one: Resolved) -> Node:
        return self._nodes.unknown(one.step.rows[0].id)

    def _undo(self, one: Resolved, later: Resolved | None, *, is_first: bool) -> None:
        if not one.after.is_known or one.after.image is None:
            self._leave_unknown(one)
            return
        undone = undo(one.after.state, one.edits)
        if undone.misfits and later is not None and self._is_rebased(one, later, undone.misfits):
            return
        self._take_undone(one, undone, is_first=is_first)

    def _leave_unknown(self, one: Resolved) -> None:
        """Nothing is known behind it, so nothing is in front of it."""
        if one.after.is_known:  # gone: no state leads here
            one.after = self._nodes.unknown(["after", one.step.rows[0].id])
        one.before = self._unknown(one)
        one.gaps.append(GONE)
        one.is_exact = False

    def _take_undone(self, one: Resolved, undone: Undone, *, is_first: bool) -> None:
        one.is_exact = undone.is_exact
        if undone.misfits:
            one.gaps.append(MISFIT)
        if undone.left_out:
            one.gaps.append(LEFT_OUT)
        if undone.after is not one.after.state:
            one.after = self._nodes.made(undone.after)
        if is_first and _is_create(undone.before, one.edits):
            one.before = Node(None, None)
            return
        one.before = self._nodes.made(undone.before) if undone.before is not undone.after else one.after
        if undone.simple and undone.is_exact:
            one.told = _entries_of(undone.simple)

    def _is_rebased(self, one: Resolved, later: Resolved, misfits: Sequence[Edit]) -> bool:
        """
        Whether both steps were told against one and the same earlier state, as blocks do that save twice: 1 to 2, 1 to 3.

        Then the later one really leads from where this one ends.
        """
        if not later.is_exact or later.before.image is None:
            return False
        if not all(any(_is_counterpart(edit, other) for other in later.edits) for edit in misfits):
            return False
        base = later.before
        redone = undo(base.state, invert(one.edits))
        if not redone.is_exact:
            return False
        one.after = later.before = self._nodes.made(redone.before)
        later.told = None
        one.before = base
        return True


def _is_create(before: State, edits: Sequence[Edit]) -> bool:
    """Whether nothing was there before: rows of the first save of a document that was tracked unsaved."""
    is_whole = any(edit.action == "add" and edit.path in ("", ()) for edit in edits)
    return is_whole and before.keys() <= {"_id", "_cls"}


def _is_counterpart(edit: Edit, other: Edit) -> bool:
    """Whether both were told against the same earlier value."""
    if (edit.action, edit.path) != (other.action, other.path):
        return False
    if edit.action in ("change", "set"):
        return matches(edit.payload[0], other.payload[0])
    return {key for key, _value in edit.payload} <= {key for key, _value in other.payload}


def _entries_of(simple: Sequence[Simple]) -> PatchEntries | None:
    """Entries of a patch, in the order of the edits; None where one of them should be looked into."""
    entries: PatchEntries = []
    for action, place, payload in reversed(simple):
        if action == "change" and not _is_plain(*payload):
            return None
        entries.append((action, list(place), payload))
    return entries


def _is_plain(old: Any, new: Any) -> bool:
    """Whether one value replaces another as a whole: patches go into documents and lists."""
    if isinstance(old, (dict, list)) or isinstance(new, (dict, list)):
        return False
    return type(old) is not type(new) or old != new or not values.same(old, new)
