"""States between two steps, pruned by the rules of their class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django_mongo_history.conversion.base import UNKNOWN, Side
from django_mongo_history.conversion.identity import Names
from django_mongo_history.core import policy as policies
from django_mongo_history.core import values
from django_mongo_history.core.model import State
from django_mongo_history.core.policy import Policy


@dataclass(slots=True)
class Node:
    """A state between two steps, pruned. `is_known`: whether anything is known of it but its digest."""

    image: bytes | None
    digest: bytes | None
    whole: bytes | None = None
    is_known: bool = True
    _state: State | None = None

    @property
    def state(self) -> State:
        if self._state is None:
            assert self.image is not None
            self._state = values.decode(self.image)
        return self._state


class Nodes:
    """Makes nodes by the rules of one class. `names`: what states are called that nobody knows."""

    def __init__(self, policy: Policy, names: Names) -> None:
        self._policy = policy
        self._names = names

    def whole(self, image: bytes | None) -> Node:
        """A whole image as a node."""
        if image is None:
            return Node(None, None)
        pruned = policies.prune(image, self._policy)
        return Node(pruned, values.digest(pruned), image)

    def given(self, side: Side) -> Node:
        """What a row says of one side."""
        assert side is not UNKNOWN
        if side is None or isinstance(side, bytes):
            return self.whole(side)
        assert isinstance(side, Mapping)
        return self.whole(values.encode(side))

    def made(self, state: State) -> Node:
        """A state that was computed from a pruned one."""
        image = values.encode(state)
        return Node(image, values.digest(image), _state=state)

    def unknown(self, named: Any) -> Node:
        """A state that nobody knows, called after a row."""
        return Node(None, self._names.unknown(named), is_known=False)


def is_same_unordered(one: Node, other: Node) -> bool:
    """Whether two known states differ in the order of keys at most."""
    if one.image is None or other.image is None:
        return one.image is other.image
    return _same(one.state, other.state)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return values.same(one, other)
