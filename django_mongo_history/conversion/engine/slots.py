"""
Where steps stand among the live versions of their document.

Note [Where a step belongs]
Live versions say what the tracker saw, and their links say whether anything went past it. Steps from before the first live
version stand in front of it, their last state being the one that it begins with. Of later ones, those that a live version
tells already are left to it; where a link between live versions is missing, steps fill the gap; and what is left, say a row
that was stored a moment after the baseline that saw its write, goes in front of it. Nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from django_mongo_history.conversion.base import UNKNOWN, Edit, Step
from django_mongo_history.conversion.engine.node import Node, Nodes, is_same_unordered
from django_mongo_history.conversion.engine.surroundings import Surroundings
from django_mongo_history.conversion.scrubbing import scrubbed_edits
from django_mongo_history.conversion.unapply import undo
from django_mongo_history.core import values
from django_mongo_history.core.model import Operation
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading import DocumentHistory

_STAMPED: Final = timedelta(seconds=10)
"""By how much the moment of a row may lie in front of the write that it tells of."""
_NEAR: Final = 5
"""How many live versions around a row are looked at for the one that tells the same."""


class Slots:
    """Which steps stand where, see Note [Where a step belongs]. `told`: the rows of those that live versions tell."""

    def __init__(
        self, live: DocumentHistory, surroundings: Surroundings, nodes: Nodes, policy: Policy
    ) -> None:
        self._live = live
        self._surroundings = surroundings
        self._nodes = nodes
        self._policy = policy
        self._telling: set[int] = set()
        self.told: list[Any] = []

    def filled(self, steps: Sequence[Step]) -> dict[int, list[Step]]:
        """Steps by the number of live versions in front of them, in their order."""
        slots: dict[int, list[Step]] = {}
        moments = [entry.at for entry in self._surroundings.entries]
        for step in steps:
            slots.setdefault(sum(1 for at in moments if at <= step.at), []).append(step)
        for number in range(len(moments), -1, -1):
            here = slots.pop(number, [])
            left = [step for step in reversed(here) if not self._is_told(step, number)][::-1]
            if left and (number == 0 or self._surroundings.has_gap(number)):
                slots[number] = left
            elif left:
                slots[number - 1] = slots.get(number - 1, []) + left
        return slots

    def _is_told(self, step: Step, number: int) -> bool:
        """
        Whether a live version near by says the same; then the step is its, and it is not told twice.

        A row may have been stamped a moment before the write that the first live version saw. A live version tells one
        step that says a whole state; of steps that say single changes it may tell several.
        """
        indexes = self._surroundings.indexes
        if number == 0 and not self._is_close(step, indexes[0]):
            return False
        edits, _hidden = scrubbed_edits(step.edits, self._policy)
        low, high = max(number - _NEAR, 0), min(number + 1, len(indexes))
        has_gap = number > 0 and self._surroundings.has_gap(number)
        for index in reversed(indexes[low:high]):
            if has_gap and not self._is_close(step, index):
                continue  # a write that went past the tracker may have done once more what was done long ago
            if self._may_tell(index, edits) and self._tells(step, edits, index):
                self._telling.add(index)
                self.told.extend(row.id for row in step.rows)
                return True
        return False

    def _is_close(self, step: Step, index: int) -> bool:
        entry = self._live.steps[index].entry
        return entry is not None and abs(entry.at - step.at) <= _STAMPED

    def _may_tell(self, index: int, edits: Sequence[Edit]) -> bool:
        if self._live.steps[index].operation is Operation.BASELINE:
            return False
        return bool(edits) or index not in self._telling

    def _tells(self, step: Step, edits: Sequence[Edit], index: int) -> bool:
        try:
            before, after = self._live.before(index), self._live.after(index)
        except BrokenChainError:
            return False
        if step.after is not UNKNOWN:
            return self._is_same(self._nodes.given(step.after), after)
        if step.before is not UNKNOWN and not edits:
            return self._is_same(self._nodes.given(step.before), before)
        if after is None or not edits:
            return False
        new = values.decode(after)
        old = {} if before is None else values.decode(before)
        return all(undo(new, [edit]).is_exact and not undo(old, [edit]).is_exact for edit in edits)

    def _is_same(self, told: Node, live: bytes | None) -> bool:
        if told.image is None or live is None:
            return told.image is None and live is None
        return is_same_unordered(told, Node(live, None))
