"""What lies around the steps of an old history: the live versions of its document, and the live document."""

from __future__ import annotations

from django_mongo_history.conversion.engine.entity import Entity
from django_mongo_history.conversion.engine.node import Node, Nodes
from django_mongo_history.core import values
from django_mongo_history.core.model import Entry
from django_mongo_history.errors import BrokenChainError


class Surroundings:
    """
    Of one document. Slots are numbered by how many live versions stand in front of them.

    `live`: the history of its live versions, None where there are none. `indexes`: where in it its stored versions are, and
    `entries` these.
    """

    def __init__(self, entity: Entity, nodes: Nodes) -> None:
        self._image = entity.image
        self._nodes = nodes
        self.live = entity.live
        steps = [] if entity.live is None else list(enumerate(entity.live.steps))
        self.indexes = [index for index, step in steps if step.entry is not None]
        self.entries: list[Entry] = [step.entry for _index, step in steps if step.entry is not None]

    def behind(self, slot: int) -> Node:
        """The state behind the steps of a slot: what the next live version begins with, or the live document."""
        if self.live is None or slot >= len(self.entries):
            return self._nodes.whole(self._image)
        entry = self.entries[slot]
        if entry.before is None:
            return Node(None, None)
        try:
            state = self.live.before(self.indexes[slot])
        except BrokenChainError:
            return Node(None, entry.before, is_known=False)
        return Node(state, entry.before if state is None else values.digest(state))

    def front(self, slot: int) -> Node | None:
        """The state after the live version in front of a slot; None where it cannot be known."""
        assert self.live is not None
        try:
            state = self.live.after(self.indexes[slot - 1])
        except BrokenChainError:
            return None
        return Node(state, None if state is None else values.digest(state))

    def entries_around(self, slot: int) -> tuple[Entry | None, Entry | None]:
        """The live versions in front of a slot and behind it."""
        front = self.entries[slot - 1] if slot else None
        return front, self.entries[slot] if slot < len(self.entries) else None

    def has_gap(self, slot: int) -> bool:
        """Whether a link is missing in front of a slot that has live versions in front of it."""
        assert self.live is not None
        if slot < len(self.entries):
            return self.entries[slot - 1].after != self.entries[slot].before
        return len(self.live.steps) > self.indexes[-1] + 1  # readers have derived what happened since
