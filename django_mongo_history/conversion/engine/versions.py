"""Versions of steps whose sides are known: their ids, their order, what they say of their source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.conversion import identity
from django_mongo_history.conversion.base import Edit, Format
from django_mongo_history.conversion.engine.entity import Entity, Gap, Made, Rules
from django_mongo_history.conversion.engine.node import Nodes
from django_mongo_history.conversion.engine.surroundings import Surroundings
from django_mongo_history.conversion.engine.walk import Resolved
from django_mongo_history.conversion.identity import Names
from django_mongo_history.conversion.rows import Row, exact_name
from django_mongo_history.core import policy as policies
from django_mongo_history.core.model import DocumentKey, PatchEntries, PathPart, VersionRecord
from django_mongo_history.core.recording import (
    Circumstances,
    Sides,
    record_baseline,
    record_converted,
    record_unknown,
)

LATE: Final = "this row came after the version of its step had been made, and is in no state"


@dataclass(frozen=True, slots=True)
class Maker:
    """What all versions of one document have in common. `converted`: the exact names of rows that stored versions are of."""

    format: Format
    names: Names
    rules: Rules
    entity: Entity
    converted: frozenset[Any]


class Versions:
    """Makes those of one document, and says in `made` what became of its rows."""

    def __init__(self, maker: Maker, nodes: Nodes, surroundings: Surroundings, made: Made) -> None:
        self._format = maker.format
        self._names = maker.names
        self._rules = maker.rules
        self._policy = maker.rules.policy
        self._entity = maker.entity
        self._converted = maker.converted
        self._nodes = nodes
        self._surroundings = surroundings
        self._made = made
        self._key = DocumentKey(maker.format.target.source.namespace, maker.entity.id)

    def make(self, resolved: Sequence[Resolved], last: Timestamp | None, slot: int) -> Timestamp | None:
        """
        Those of one slot, with times that do not go back and do not go beyond what follows.

        `last`: the order of the version made before; returns that of the last one now.
        """
        front, following = self._surroundings.entries_around(slot)
        at = None if front is None else front.at
        for number, one in enumerate(resolved):
            moment = one.step.at if at is None or one.step.at >= at else at
            if following is not None:
                moment = min(moment, following.at)
            at = moment
            if front is not None:
                order = identity.behind(front.order, moment, last)
            else:
                order = identity.clock_order(moment, last, shift_s=1)
                limit = None if following is None else following.order
                if limit is not None and (order.time, order.inc) >= (limit.time, limit.inc):
                    order = identity.before(limit, number)
            last = order
            self._make_one(one, moment, order)
        return last

    def _hidden(self, one: Resolved) -> tuple[str, ...]:
        """The hidden paths that changed. An archive may leave all of them out, where the live document has them."""
        before, after = one.before.whole, one.after.whole
        hidden = policies.hidden_changes(before, after, self._policy)
        if hidden and one.ends_live:
            there = policies.hidden_changes(one.before.image, before, self._policy)
            hidden = tuple(path for path in hidden if path in there)
        return hidden

    def _make_one(self, one: Resolved, at: datetime, order: Timestamp) -> None:
        step, made = one.step, self._made
        hidden = self._all_hidden(one)
        if self._is_silent(one, hidden):
            made.untracked.extend(row.id for row in step.rows)
            return
        made.steps += 1
        version_id = self._names.version(step.rows[0].id, step.at)
        late = self._late(step.rows)
        is_stored = len(late) < len(step.rows) or version_id in self._entity.stored
        made.gaps.extend(Gap(step.rows[0].id, reason, not is_stored) for reason in one.gaps)
        if is_stored:
            if late:
                self._make_late(one, late, at, order)
            return
        around = self._around(one, step.rows, version_id, at, order)
        made.records.append(self._record(one, hidden, around, version_id))

    def _late(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those that are in no stored version."""
        if not self._converted:
            return rows
        return [row for row in rows if exact_name(row.id) not in self._converted]

    def _all_hidden(self, one: Resolved) -> tuple[str, ...]:
        """The hidden paths that its sides tell, and those that its rows name."""
        is_whole = one.before.whole is not None and one.after.whole is not None
        hidden = self._hidden(one) if is_whole else one.hidden
        told = {".".join(path) for path in self._policy.hidden}.intersection(one.step.hidden)
        return tuple(sorted(told.union(hidden))) if told else hidden

    def _is_silent(self, one: Resolved, hidden: tuple[str, ...]) -> bool:
        """Whether nothing tracked was changed."""
        if hidden or one.is_baseline:
            return False
        if one.before.whole is not None and one.after.whole is not None:
            return one.before.digest == one.after.digest and one.before.whole != one.after.whole
        return bool(one.step.edits) and not one.edits

    def _make_late(self, one: Resolved, late: Sequence[Row], at: datetime, order: Timestamp) -> None:
        """Rows that belong to a version that is stored already: they are kept, the version stays as it is."""
        version_id = self._names.version(late[0].id, one.step.at)
        self._made.gaps.append(Gap(late[0].id, LATE, is_new=True))
        around = self._around(replace(one, gaps=[LATE]), late, version_id, at, order)
        sides = Sides(one.after.image, one.after.image, (), one.after.digest, one.after.digest)
        self._made.records.append(record_converted(self._key, sides, around, version_id))

    def _record(
        self, one: Resolved, hidden: tuple[str, ...], around: Circumstances, version_id: ObjectId
    ) -> VersionRecord:
        if one.is_baseline and one.after.image is not None:
            return record_baseline(self._key, one.after.image, around, new_id=lambda: version_id)
        if not one.before.is_known or not one.after.is_known:
            sides = Sides(None, None, hidden, one.before.digest, one.after.digest, _as_told(one.edits))
            return record_unknown(self._key, sides, around, version_id)
        if one.before.image is None and one.after.image is None:
            return self._gone(one, around, version_id)
        sides = Sides(
            one.before.image,
            one.after.image,
            hidden,
            one.before.digest,
            one.after.digest,
            one.told,
            bool(one.gaps),
        )
        return record_converted(self._key, sides, around, version_id)

    def _gone(self, one: Resolved, around: Circumstances, version_id: ObjectId) -> VersionRecord:
        """A step from nothing to nothing, as a delete of what was never seen: a state that nobody knows was before it."""
        unknown = self._nodes.unknown(one.step.rows[0].id)
        return record_unknown(self._key, Sides(None, None, (), unknown.digest), around, version_id)

    def _around(
        self, one: Resolved, rows: Sequence[Row], version_id: ObjectId, at: datetime, order: Timestamp
    ) -> Circumstances:
        step, source = one.step, self._format
        told: dict[str, Any] = {
            "format": source.name,
            "place": source.place,
            "rows": [row.id for row in rows],
        }
        if at != step.at:
            told["at"] = step.at
        if one.gaps:
            told["gap"] = "; ".join(dict.fromkeys(one.gaps))
            told["raw"] = [source.kept(row, self._policy) for row in rows]
        shared = step.changeset
        return Circumstances(
            document_class=self._rules.document_class,
            policy=self._policy,
            at=at,
            order=order,
            changeset=version_id if shared is None else self._names.changeset(shared),
            context=step.context,
            source=told,
        )


def _as_told(edits: Sequence[Edit]) -> PatchEntries:
    """Edits as entries of a patch that nothing is computed with: digits in paths are taken for indexes."""
    told: PatchEntries = []
    for action, path, payload in edits:
        parts: list[PathPart] = (
            [int(part) if part.isascii() and part.isdigit() else part for part in path.split(".")]
            if isinstance(path, str) and path
            else list(path)
        )
        told.append(("change" if action == "set" else action, parts, payload))
    return told
