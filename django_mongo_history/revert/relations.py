"""
The documents that a revert takes with it: those that named relations pointed to, each back to what it was then.

They become targets of the one plan, so that conflicts are found for all of them before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django_mongo_history import documents
from django_mongo_history.core import values
from django_mongo_history.core.model import DocumentKey
from django_mongo_history.core.policy import Policy
from django_mongo_history.documents import Parts, Pointer, Reference
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading.relations import (
    Led,
    Locate,
    Place,
    check_known,
    lead_to,
    place_of,
    pointers_of,
)
from django_mongo_history.registry import label_of
from django_mongo_history.revert.goals import Target
from django_mongo_history.revert.plan import Conflict, Plan, conflict, plan_states


@dataclass(frozen=True, slots=True)
class _Stop:
    """A document whose relation is to be followed, with what is left of the path."""

    document_class: type[Any]
    state: bytes
    rules: Policy
    relation: str
    parts: Parts


@dataclass(slots=True)
class _Journey:
    """What has been come by so far; each document once, however many references lead to it."""

    locate: Locate
    moment: datetime | None
    targets: dict[Place, Target]
    conflicts: dict[Place, Conflict] = field(default_factory=dict)
    walked: set[tuple[Place, Parts]] = field(default_factory=set)

    def follow(self, stops: Sequence[_Stop]) -> list[_Stop]:
        """Take in what these lead to; the stops behind it."""
        pointers = [(one, pointer) for one in stops for pointer in _pointers(one)]
        led = lead_to([pointer.reference for _one, pointer in pointers], self.locate, self.moment)
        found = (
            self._take(one.relation, pointer, there)
            for (one, pointer), there in zip(pointers, led, strict=True)
        )
        return [one for one in found if one is not None]

    def _take(self, relation: str, pointer: Pointer, there: Led) -> _Stop | None:
        history = there.history
        if history is None:
            key = DocumentKey(documents.namespace_of(there.reference), there.reference.key)
            self.conflicts[place_of(key.collection, key.document_id)] = _without_history(
                there.reference, relation, key
            )
            return None
        place = place_of(history.key.collection, history.key.document_id)
        if place not in self.targets and place not in self.conflicts:
            try:
                self._aim(place, there, relation)
            except BrokenChainError as error:
                self.conflicts[place] = conflict(history.source, history, error)
        target = self.targets.get(place)
        if target is None or target.state is None or not pointer.rest or (place, pointer.rest) in self.walked:
            return None
        self.walked.add((place, pointer.rest))
        named = there.reference.document_class or history.source.tracked.document_class
        return _Stop(named, target.state, history.source.policy, relation, pointer.rest)

    def _aim(self, place: Place, there: Led, relation: str) -> None:
        """Make the document a target. One that did not exist yet and does now has nothing to go back to."""
        history, index = there.history, there.index
        assert history is not None
        if index is not None:
            rules = history.rules_at(index)
            source = self.locate(there.reference)
            assert source is not None
            self.targets[place] = Target(source, history.key.document_id, there.state, rules=rules)
        elif history.image is not None:
            reason = (
                f"{relation!r} pointed to it before it existed, so there is nothing that it could go back to; leave the "
                "relation out, or delete the document"
            )
            self.conflicts[place] = Conflict(history.key, history.source.tracked.label, reason)


def plan_related(
    root: Target,
    relations: Iterable[str],
    *,
    moment: datetime | None,
    locate: Locate,
    revert_of: Any,
) -> Plan:
    """
    The plan that gives a document a state, and every document that `relations` named in that state its state at
    `moment`; of a dotted relation those on the way, too.

    A document that a reference led to is put back, restored or removed as it was then. One of a class without history
    is a conflict, and so is one that exists now but did not yet.
    Cost: per part of a relation that is a reference two queries for up to 1,000 documents.
    Raises: ValueError for a relation that names no reference; TypeError; HiddenFieldError; UntrackedFieldError.
    """
    names = _checked(root, relations)
    own = place_of(root.source.namespace, root.document_id)
    journey = _Journey(locate, moment, {own: root})
    document_class, rules = root.source.tracked.document_class, root.source.policy
    stops = [
        _Stop(document_class, root.state, rules, name, documents.parts_of(name))
        for name in names
        if root.state is not None
    ]
    journey.walked.update((own, one.parts) for one in stops)
    while stops:
        stops = _known(journey.follow(stops))
    aimed = sorted(journey.targets.values(), key=lambda one: one.source.namespace)
    plan = plan_states(_together(aimed), revert_of=revert_of)
    plan.conflicts.extend(journey.conflicts.values())
    return plan


def _checked(root: Target, relations: Iterable[str]) -> list[str]:
    if isinstance(relations, str):
        raise TypeError(f"relations: expected a list of names, got the text {relations!r}")
    names = list(dict.fromkeys(relations))
    for name in names:
        documents.check_relation(root.source.tracked.document_class, name)
    return names


def _known(stops: list[_Stop]) -> list[_Stop]:
    """Those whose class knows the rest of the path. Raises: ValueError where not one of them knows it."""
    check_known((one.parts, _class_of(one)) for one in stops)
    return [one for one in stops if documents.knows_relation(_class_of(one), one.parts)]


def _class_of(stop: _Stop) -> type[Any]:
    return documents.class_of(stop.document_class, values.decode(stop.state))


def _pointers(stop: _Stop) -> list[Pointer]:
    return list(documents.leaves(pointers_of(stop.document_class, stop.state, stop.parts, stop.rules)))


def _together(targets: Sequence[Target]) -> list[Target]:
    """The same, each knowing which documents will be there with it."""
    there = {place_of(one.source.namespace, one.document_id) for one in targets if one.state is not None}

    def is_coming(reference: Reference) -> bool:
        return place_of(documents.namespace_of(reference), reference.key) in there

    return [replace(one, is_coming=is_coming) for one in targets]


def _without_history(reference: Reference, relation: str, key: DocumentKey) -> Conflict:
    found = reference.document_class
    if found is None:
        reason = f"{relation!r} pointed to it, and its class {reference.class_name!r} is not known any more"
        return Conflict(key, reference.class_name, reason)
    reason = f"{relation!r} pointed to it, and its class is not tracked, so what it was then is not known"
    return Conflict(key, label_of(found), reason)
