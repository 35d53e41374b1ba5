"""
Which classes are tracked, and under which policy. Knows classes and names only, not MongoEngine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django_mongo_history.core import stamps
from django_mongo_history.core.finders import NO_FINDERS, Finders
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import NotTrackedError


@dataclass(frozen=True, slots=True)
class Tracked:
    """
    One class as it was registered.

    `label`: its dotted path. `policy`: its own rules, with those of its tracked bases. `delivery`: its own mode, or
    None for the project's. `renamed`: old database names to today's. `collections`: names its collection had before.
    `finders`: whom its writes ask for user, address and extra. `requires_reason`: None as the project.
    """

    document_class: type
    label: str
    policy: Policy = field(default_factory=Policy)
    delivery: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    collections: tuple[str, ...] = ()
    finders: Finders = NO_FINDERS
    requires_reason: bool | None = None
    only_in_scopes: bool = False
    """Whether only what is written in a scope (`context.open_scope`) is recorded, and reverts."""


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
        self._may_require_reason = False
        self._scoped: dict[type, bool] = {}
        self.has_scoped = False
        """Whether any class is recorded in scopes only."""

    def __iter__(self) -> Iterator[Tracked]:
        return iter(list(self._registered.values()))

    def add(self, tracked: Tracked) -> None:
        """Register a class; registering it again replaces its rules."""
        self._registered[tracked.document_class] = tracked
        self._forget()

    def remove(self, document_class: type) -> None:
        """Undo `add`. Raises: NotTrackedError where the class itself was never registered."""
        if self._registered.pop(document_class, None) is None:
            raise not_tracked(document_class)
        self._forget()
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

    def may_require_reason(self) -> bool:
        """Whether any class was registered with a word of its own about reasons that asks for one."""
        return self._may_require_reason

    def is_scoped(self, document_class: type, sharing: Callable[[type], Iterable[type]]) -> bool:
        """Whether only scopes record this class and all that share its collection; `sharing` names those."""
        if document_class not in self._scoped:
            found = [self.concerned(document_class), *map(self.get, sharing(document_class))]
            self._scoped[document_class] = all(one is None or one.only_in_scopes for one in found)
        return self._scoped[document_class]

    def of_image(self, class_name: str | None, fallback: type) -> Tracked | None:
        """
        How a stored document is tracked: by the class that its `_cls` names.

        A document without one is of `fallback`, or of the tracked class into whose collection `fallback` writes.
        """
        found = None if class_name is None else self._find_class(class_name)
        return self.concerned(fallback) if found is None else self.get(found)

    def _forget(self) -> None:
        self._scoped.clear()
        self.has_scoped = any(one.only_in_scopes for one in self._registered.values())
        self._resolved.clear()
        self._may_require_reason = any(one.requires_reason for one in self._registered.values())

    def _resolve(self, document_class: type) -> Tracked | None:
        lineage = [self._registered[base] for base in document_class.__mro__ if base in self._registered]
        if not lineage:
            return None
        policy = lineage[0].policy
        for base in lineage[1:]:
            policy = policy.joined(base.policy)
        if has_stamps(document_class):
            policy = policy.joined(Policy(untracked=tuple((name,) for name in stamps.FIELDS)))
        nearest = lineage[0]
        return Tracked(
            document_class=document_class,
            label=label_of(document_class),
            policy=policy,
            delivery=next((base.delivery for base in lineage if base.delivery), None),
            renamed={old: new for base in reversed(lineage) for old, new in base.renamed.items()},
            collections=nearest.collections,
            only_in_scopes=all(base.only_in_scopes for base in lineage),
            finders=_finders(lineage),
            requires_reason=next(
                (base.requires_reason for base in lineage if base.requires_reason is not None), None
            ),
        )


def _finders(lineage: list[Tracked]) -> Finders:
    """The class's own first, then its bases'."""
    found = NO_FINDERS
    for base in reversed(lineage):
        found = base.finders.before(found) if base.finders else found
    return found


def has_stamps(document_class: type) -> bool:
    """Whether its documents carry the latest who and when, which are no part of their history: `RecordChanges`."""
    return bool(getattr(document_class, "_history_stamps", False))


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
