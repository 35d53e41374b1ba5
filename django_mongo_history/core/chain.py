"""
A document's history as steps: the stored versions in order, and the derived ones that their links tell of.

Where the state after one version is not the state before the next, somebody wrote past the tracker: an `external`
step stands there; where a drop of the collection lies between, that is a `delete`. Where the first version did not
create the document, a `baseline` stands before it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from bson import ObjectId

from django_mongo_history.core.model import Entry, Operation
from django_mongo_history.core.tombstones import Tombstone


@dataclass(frozen=True, slots=True)
class Step:
    """
    One version as readers count them.

    `entry` is None for a derived one. `before` and `after` are digests of the states on both sides, None where the
    document did not exist. `at` is None for a derived baseline: it answers for every earlier moment. `tombstone`: what
    a derived delete is told by.
    """

    operation: Operation
    entry: Entry | None
    before: bytes | None
    after: bytes | None
    at: datetime | None
    next_id: ObjectId | None = None
    tombstone: Tombstone | None = None

    @property
    def id(self) -> ObjectId | str:
        """The stored version's id; of a derived one, a text that names the stored version it stands before, or the drop."""
        if self.entry is not None:
            return self.entry.id
        if self.tombstone is not None:
            return f"dropped-{self.tombstone.id}"
        return f"before-{self.next_id or 'now'}"


@dataclass(frozen=True, slots=True)
class Live:
    """The document as the database holds it at the moment of reading: digest of its tracked state, None if absent."""

    digest: bytes | None
    read_at: datetime


def build(
    ordered: Sequence[Entry],
    live: Live | None,
    is_policy_change: Callable[[int], bool] = lambda position: False,
    dropped: Mapping[int, Tombstone] = MappingProxyType({}),
) -> list[Step]:
    """
    The steps of one document, oldest first.

    `live`: None where the live document could not be read together with the versions; then nothing is derived at the
    end. `is_policy_change(n)` is asked where the links around `ordered[n]` and what follows it do not fit: True says
    that both sides are the same state seen under two policies. `dropped[n]`: the drop that lies behind `ordered[n]`.
    """
    if not ordered:
        return [] if live is None or live.digest is None else [_baseline(live.digest, None)]
    steps: list[Step] = []
    first = ordered[0]
    if first.before is not None and first.operation is not Operation.BASELINE:
        steps.append(_baseline(first.before, first.id))
    for position, entry in enumerate(ordered):
        steps.append(Step(entry.operation, entry, entry.before, entry.after, entry.at))
        following = ordered[position + 1] if position + 1 < len(ordered) else None
        external = _external(entry, following, live)
        if external is not None and not is_policy_change(position):
            tombstone = dropped.get(position)
            steps.extend([external] if tombstone is None else _dropped(entry, external, tombstone))
    return steps


def _baseline(digest: bytes, next_id: ObjectId | None) -> Step:
    return Step(Operation.BASELINE, None, digest, digest, None, next_id)


def _external(entry: Entry, following: Entry | None, live: Live | None) -> Step | None:
    if following is not None:
        if entry.after == following.before:
            return None
        return Step(Operation.EXTERNAL, None, entry.after, following.before, following.at, following.id)
    if live is None or live.digest == entry.after:
        return None
    return Step(Operation.EXTERNAL, None, entry.after, live.digest, live.read_at)


def _dropped(entry: Entry, external: Step, tombstone: Tombstone) -> list[Step]:
    """The drop behind a version, and who made the document anew where no version says so."""
    at = max(tombstone.at, entry.at)
    steps = [Step(Operation.DELETE, None, entry.after, None, at, external.next_id, tombstone)]
    if external.after is not None:
        steps.append(replace(external, before=None))
    return steps


def position_at(steps: Sequence[Step], moment: datetime) -> int | None:
    """
    The index of the step in force at `moment`: the one before the first whose `at` is later; None before all.

    A baseline in the first place, derived or stored, answers for every earlier moment too, and until the step after it:
    a write may have begun before its document was stored as a baseline and have been committed after that.
    """
    for index, step in enumerate(steps):
        if index == 0 and step.operation is Operation.BASELINE:
            continue
        if step.at is not None and step.at > moment:
            return index - 1 if index else None
    return len(steps) - 1 if steps else None
