"""
Which classes are tracked, and under which policy. Knows classes and names only, not MongoEngine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import NotTrackedError


@dataclass(frozen=True, slots=True)
class Tracked:
    """
    One class as it was registered.

    `label`: its dotted path. `policy`: its own rules, with those of its tracked bases. `delivery`: its own mode, or
    None for the project's. `renamed`: old database names to today's. `collections`: names its collection had before.
    """

    document_class: type
    label: str
    policy: Policy = field(default_factory=Policy)
    delivery: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    collections: tuple[str, ...] = ()


class Registry:
    """
    The tracked classes. A subclass of a tracked class is tracked with it, under its own rules and its bases'.

    `find_class` gives the class of a stored `_cls`, or None.
    """

    def __init__(self, find_class: Callable[[str], type | None]) -> None:
        self._find_class = find_class
        self._registered: dict[type, Tracked] = {}
        self._resolved: dict[type, Tracked | None] = {}
        self._neighbours: dict[type, type] = {}

    def __iter__(self) -> Iterator[Tracked]:
        return iter(list(self._registered.values()))

    def add(self, tracked: Tracked) -> None:
        """Register a class; registering it again replaces its rules."""
        self._registered[tracked.document_class] = tracked
        self._resolved.clear()

    def remove(self, document_class: type) -> None:
        """Undo `add`. Raises: NotTrackedError where the class itself was never registered."""
        if self._registered.pop(document_class, None) is None:
            raise not_tracked(document_class)
        self._resolved.clear()
        self._neighbours = {
            near: other for near, other in self._neighbours.items() if other is not document_class
        }

    def get(self, document_class: type) -> Tracked | None:
        """The class as it is tracked, itself or with a base; None where it is not."""
        if document_class not in self._resolved:
            self._resolved[document_class] = self._resolve(document_class)
        return self._resolved[document_class]

    def require(self, document_class: type) -> Tracked:
        """`get`, or NotTrackedError that says how to track the class."""
        tracked = self.get(document_class)
        if tracked is None:
            raise not_tracked(document_class)
        return tracked

    def concerns(self, document_class: type) -> bool:
        """Whether documents of this class, or of classes that share its collection, may be tracked."""
        return self.concerned(document_class) is not None

    def concerned(self, document_class: type) -> Tracked | None:
        """The class as tracked, or a tracked one that shares its collection: its subclass, or a stranger."""
        tracked = self.get(document_class)
        if tracked is not None:
            return tracked
        neighbour = next((base for base in document_class.__mro__ if base in self._neighbours), None)
        return None if neighbour is None else self.get(self._neighbours[neighbour])

    def adopt(self, neighbour: type, document_class: type) -> None:
        """Say that an untracked class writes to the collection of a tracked one."""
        self._neighbours[neighbour] = document_class

    def varies_below(self, document_class: type) -> bool:
        """Whether a class below this one is registered for itself, with rules of its own."""
        return any(issubclass(one, document_class) and one is not document_class for one in self._registered)

    def of_image(self, class_name: str | None, fallback: type) -> Tracked | None:
        """
        How a stored document is tracked: by the class that its `_cls` names.

        A document without one is of `fallback`, or of the tracked class into whose collection `fallback` writes.
        """
        found = None if class_name is None else self._find_class(class_name)
        return self.concerned(fallback) if found is None else self.get(found)

    def _resolve(self, document_class: type) -> Tracked | None:
        lineage = [self._registered[base] for base in document_class.__mro__ if base in self._registered]
        if not lineage:
            return None
        policy = lineage[0].policy
        for base in lineage[1:]:
            policy = policy.joined(base.policy)
        nearest = lineage[0]
        return Tracked(
            document_class=document_class,
            label=label_of(document_class),
            policy=policy,
            delivery=next((base.delivery for base in lineage if base.delivery), None),
            renamed={old: new for base in reversed(lineage) for old, new in base.renamed.items()},
            collections=nearest.collections,
        )


def label_of(document_class: type) -> str:
    """The dotted path of a class, as settings and commands name it."""
    return f"{document_class.__module__}.{document_class.__qualname__}"


def not_tracked(document_class: Any) -> NotTrackedError:
    """The error for a class without history, with the way to get one."""
    label = label_of(document_class) if isinstance(document_class, type) else repr(document_class)
    return NotTrackedError(
        f"{label} is not tracked, so it has no history. Add '{label}' to TRACKED_DOCUMENTS in the settings, or call "
        "django_mongo_history.track() on the class before it is written.",
        document_class=document_class,
    )
