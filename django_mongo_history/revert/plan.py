"""
What a revert would do, document by document, and what stands in its way: made before anything is written.

A plan names documents and goals, not contents, so a plan for a whole class stays small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from itertools import chain
from typing import Any

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.core import after_image, overlay, policy, values
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import DocumentKey, VersionRecord
from django_mongo_history.core.overlay import AmbiguousListError
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading import DocumentHistory, Source, scan
from django_mongo_history.reading.class_names import stored_class_name
from django_mongo_history.reading.opening import prefetch_states
from django_mongo_history.revert.drops import Census, Drop, Dropped, Lost, dropped
from django_mongo_history.revert.goals import GivenState, Goal, ObstacleError, StateAt, Target, Without


class Kind(Enum):
    """What happens to a document. In this order over all of them, so that what is unique becomes free first."""

    REMOVE = "remove"
    UPDATE = "update"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Item:
    """
    One document that a plan writes. `previewed`: the digest of the decision that somebody saw, empty where there was
    nothing to do; then that is done or nothing. None where nobody asked.
    """

    source: Source
    document_id: Any
    kind: Kind
    goal: Goal
    previewed: bytes | None = None

    @property
    def key(self) -> DocumentKey:
        return self.source.key(self.document_id)


@dataclass(frozen=True, slots=True)
class Conflict:
    """One document that is left as it is, and why. `label` is the dotted path of its class."""

    key: DocumentKey
    label: str
    reason: str
    can_be_forced: bool = False

    def __str__(self) -> str:
        return f"{self.label} {self.key.document_id!r}: {self.reason}"


@dataclass(slots=True)
class Plan:
    """
    `items` in no particular order; `conflicts` grows while it is applied. `made`: the versions written by applying it
    (only with `keeps_versions`), `count`: how many.
    """

    items: list[Item] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    revert_of: Any = None
    force: bool = False
    keeps_versions: bool = True
    made: list[VersionRecord] = field(default_factory=list)
    count: int = 0

    def of_kind(self, kind: Kind) -> list[Item]:
        return [item for item in self.items if item.kind is kind]

    def source_of(self, key: DocumentKey) -> Source:
        return next(item.source for item in self.items if item.key == key)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a document is now and what it shall become, as whole documents."""

    before: bytes | None
    after: bytes | None

    @property
    def kind(self) -> Kind | None:
        if self.before == self.after:
            return None
        if self.before is None:
            return Kind.RESTORE
        return Kind.REMOVE if self.after is None else Kind.UPDATE


def plan_states(targets: Iterable[Target], *, revert_of: Any, force: bool = False) -> Plan:
    """The plan that gives these documents these states; each is named once."""
    plan = Plan(revert_of=revert_of, force=force)
    grouped: dict[int, list[Target]] = {}
    for target in targets:
        grouped.setdefault(id(target.source), []).append(target)
    for alike in grouped.values():
        source = alike[0].source
        goals = {
            values.encode_value(one.document_id): GivenState(one.state, one.fields, one.rules, one.is_coming)
            for one in alike
        }
        wanted = [one.document_id for one in alike]
        for histories in scan(source, document_ids=wanted, chunk_size=source.environment.chunk_size):
            _add(plan, source, [(one, goals[values.encode_value(one.key.document_id)]) for one in histories])
    return plan


def plan_since(
    sources: Iterable[tuple[Source, Sequence[Any] | None]],
    moment: datetime,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Plan:
    """
    The plan that puts the documents of these classes (or those of these ids) back to their state at `moment`.

    `progress` is called with the number of documents looked at since the last call.
    Cost: every document of the class is read once, in chunks.
    """
    plan = Plan(revert_of=moment, force=force, keeps_versions=False)
    seen: set[tuple[str, bytes]] = set()
    told: set[ObjectId] = set()
    for source, ids in sources:
        goal = StateAt(moment)
        wanted = None if ids is None else list(ids)
        census = Census()
        for histories in scan(source, document_ids=wanted, chunk_size=source.environment.chunk_size):
            census.see(histories)
            fresh = [history for history in histories if _is_ours(source, history) and _is_new(history, seen)]
            _add(plan, source, [(history, goal) for history in fresh])
            progress(len(histories))
        drops = [one for one in source.tombstones() if one.at > moment and one.id not in told]
        for one in drops if wanted is None else ():
            told.add(one.id)
            _add_lost(plan, census.lost(one, source.tracked.label))
    return plan


def plan_take_back(
    records: Iterable[tuple[Source, VersionRecord]],
    *,
    drops: Iterable[Drop] = (),
    revert_of: Any,
    force: bool = False,
    keeps_versions: bool = True,
    progress: Callable[[int], None] = lambda count: None,
) -> Plan:
    """
    The plan that takes these versions back, and these drops, and leaves everything that others did since.

    `progress` is called with the number of documents looked at since the last call.
    """
    plan = Plan(revert_of=revert_of, force=force, keeps_versions=keeps_versions)
    for source, goals in _grouped(chain(records, _all_dropped(plan, drops))):
        if source.environment.registry.get(source.tracked.document_class) is None:
            plan.conflicts.extend(
                _not_recordable(source, document_id) for document_id, _goal in goals.values()
            )
            continue
        wanted = [document_id for document_id, _goal in goals.values()]
        for histories in scan(source, document_ids=wanted, chunk_size=source.environment.chunk_size):
            pairs = [
                (history, goals[values.encode_value(history.key.document_id)][1]) for history in histories
            ]
            _add(plan, source, pairs)
            progress(len(histories))
    return plan


def _all_dropped(plan: Plan, drops: Iterable[Drop]) -> Iterator[tuple[Source, Dropped]]:
    """The documents that went with these drops; of those that have no version the plan gets a conflict."""
    for drop in drops:
        census, seen = Census(), set[tuple[str, bytes]]()
        for source, history in dropped(drop):
            if _is_ours(source, history) and _is_new(history, seen):
                census.see([history])
                yield source, Dropped(history.key.document_id, drop.tombstone.id)
        if drop.document_ids is None:
            _add_lost(plan, census.lost(drop.tombstone, drop.sources[0].tracked.label))


def _add_lost(plan: Plan, lost: Lost | None) -> None:
    if lost is not None:
        plan.conflicts.append(Conflict(lost.key, lost.label, str(lost)))


def _not_recordable(source: Source, document_id: Any) -> Conflict:
    reason = "its class is not tracked any more, so what is written now would have no version"
    return Conflict(source.key(document_id), source.tracked.label, reason)


def _grouped(
    records: Iterable[tuple[Source, VersionRecord | Dropped]],
) -> Iterator[tuple[Source, dict[tuple[int, bytes], tuple[Any, Goal]]]]:
    """Source by source the documents that these versions are of, each with its goal; a document comes once."""
    found: dict[tuple[str, tuple[int, bytes]], tuple[Source, Any, set[ObjectId]]] = {}
    for source, record in records:
        place = source.namespace, values.encode_value(record.document_id)
        found.setdefault(place, (source, record.document_id, set()))[2].add(record.id)
    grouped: dict[int, tuple[Source, dict[tuple[int, bytes], tuple[Any, Goal]]]] = {}
    for (_namespace, name), (source, document_id, ids) in found.items():
        goals = grouped.setdefault(id(source), (source, {}))[1]
        goals[name] = document_id, Without(frozenset(ids))
    yield from grouped.values()


def decide(source: Source, history: DocumentHistory, goal: Goal, *, force: bool) -> Decision:
    """
    What becomes of one document.

    Raises: ObstacleError, BrokenChainError.
    """
    state = goal(history, force=force)
    if state is None or history.image is None:
        decision = Decision(history.image, state)
    elif state == history.now():
        decision = Decision(history.image, history.image)
    else:
        decision = Decision(history.image, _laid_over(state, history.image, goal.rules(history)))
    if decision.kind in (Kind.UPDATE, Kind.RESTORE):
        _check_writable(source, decision.after or b"", goal, force=force)
    return decision


def digest_of(key: DocumentKey, decision: Decision) -> bytes:
    """What would be written over what, in 32 bytes."""
    kind, value = values.encode_value(key.document_id)
    found = hashlib.sha256()
    for piece in (key.collection.encode(), bytes([kind]), value, decision.before, decision.after):
        found.update(b"-" if piece is None else b"%d:" % len(piece) + piece)
    return found.digest()


def conflict(source: Source, history: DocumentHistory, error: Exception) -> Conflict:
    """What an obstacle is to the user."""
    forced = isinstance(error, ObstacleError) and error.can_be_forced
    return Conflict(history.key, source.tracked.label, str(error), can_be_forced=forced)


def _add(plan: Plan, source: Source, pairs: Sequence[tuple[DocumentHistory, Goal]]) -> None:
    prefetch(pairs)
    for history, goal in pairs:
        try:
            decision = decide(source, history, goal, force=plan.force)
        except (ObstacleError, BrokenChainError) as error:
            plan.conflicts.append(conflict(source, history, error))
            continue
        if decision.kind is not None:
            plan.items.append(Item(source, history.key.document_id, decision.kind, goal))


def prefetch(pairs: Iterable[tuple[DocumentHistory, Goal]]) -> None:
    """Read the rows that these goals will ask these histories for, in one go for all."""
    wanted = [(history, index) for history, goal in pairs for index in goal.needs(history)]
    prefetch_states(wanted, with_rules=True)


def _laid_over(state: bytes, image: bytes, rules: Policy) -> bytes:
    try:
        return overlay.lay_over(policy.prune(state, rules), image, rules)
    except AmbiguousListError as error:
        raise ObstacleError(
            f"hidden or untracked values lie in a list, and {error}; revert the other fields one by one",
            can_be_forced=False,
        ) from error


def _check_writable(source: Source, after: bytes, goal: Goal, *, force: bool) -> None:
    if after_image.has_server_time(after):
        raise ObstacleError(
            "it holds a zero timestamp, in whose place the server would put its own time", can_be_forced=False
        )
    if force:
        return
    state = documents.user_values(after, source.codec_options)
    document_class = source.tracked.document_class
    is_coming = goal.is_coming if isinstance(goal, GivenState) else None
    problem = documents.load_problem(document_class, state, is_coming)
    missing = [] if problem else documents.missing_files(document_class, state, source.collection.database)
    if missing:
        problem = f"the file of {', '.join(missing)} is no longer in GridFS"
    if problem:
        raise ObstacleError(problem, can_be_forced=True)


def _is_ours(source: Source, history: DocumentHistory) -> bool:
    """Whether a document in the class's collection is one of the class; one that is gone may be."""
    name = class_name(history.image)
    if history.image is None:
        name = _stored_class(source, history)
    tracked = source.environment.registry.of_image(name, source.tracked.document_class)
    return tracked is not None and documents.is_stored_as(source.tracked.document_class, name)


def _stored_class(source: Source, history: DocumentHistory) -> str | None:
    if not documents.uses_class_names(source.tracked.document_class):
        return None
    return stored_class_name(history)


def _is_new(history: DocumentHistory, seen: set[tuple[str, bytes]]) -> bool:
    """Whether no other class of the same collection has brought this document already."""
    kind, value = values.encode_value(history.key.document_id)
    name = history.key.collection, bytes([kind]) + value
    if name in seen:
        return False
    seen.add(name)
    return True


def chunks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Items of one source and goal at a time, `size` at most."""
    batch: list[Item] = []
    for item in items:
        if batch and (len(batch) == size or batch[0].source is not item.source):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
