"""
One document's whole history: stored and derived versions in order, and the state on both sides of each.

Read at one instant together with the live document; what is written later is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId

from django_mongo_history.core import chain, order, policy, tombstones, values
from django_mongo_history.core.chain import Live, Step
from django_mongo_history.core.model import DocumentKey, Entry, Operation, VersionRecord
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.replay import Records, Replay, Unreadable, unreadable
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading.source import Source, View

MOST_ROWS: Final = 5000
"""Rows kept while a history is read; a longer one is read in passes."""


_RECENT: Final = timedelta(seconds=2)


@dataclass(slots=True)
class Rows:
    """Rows read so far; several histories that are read together share one."""

    source: Source
    records: dict[ObjectId, VersionRecord | Unreadable] = field(default_factory=dict)
    dropped: list[Tombstone] | None = None

    def drops(self) -> list[Tombstone]:
        """The drops of the collection, read when a document has a gap that one of them could explain."""
        if self.dropped is None:
            # Later than the documents, which is never too late: a drop's tombstone is stored before it.
            self.dropped = self.source.tombstones()
        return self.dropped

    def fetch(self, ids: Sequence[ObjectId]) -> Records:
        """Rows by id, these among them. Memory: the rows of one call, and `MOST_ROWS` from before it."""
        missing = [wanted for wanted in ids if wanted not in self.records]
        if missing:
            if len(self.records) > MOST_ROWS:
                self.records = {wanted: self.records[wanted] for wanted in ids if wanted in self.records}
            self.records.update(self.source.store.records(missing))
        return self.records


class DocumentHistory:
    """
    The versions of one document. `image` is the live document as the database holds it, None where there is none.

    Indexes count from 0 over stored and derived versions together.
    """

    def __init__(
        self, source: Source, key: DocumentKey, entries: Iterable[Entry], image: bytes | None, rows: Rows
    ) -> None:
        self.source = source
        self.key = key
        self.image = image
        self.read_at = source.now()
        self._rows = rows
        entries = list(entries)
        linked = self._live_as_linked(entries)
        self._ordered = order.arrange(entries, linked)
        drops = self._arrange_drops(linked)
        self._is_bridged = False
        self._snapshots: frozenset[ObjectId] | None = None
        live = self._live_under_last_policy()
        self._is_linked = bool(self._ordered) and _digest(live) == self._ordered[-1].after
        self._replay = Replay(
            key,
            self._ordered,
            snapshots=self._snapshot_ids,
            fetch=rows.fetch,
            live=live if self._is_linked else None,
        )
        seen = Live(self._ordered[-1].after if self._is_linked else _digest(self._today()), self.read_at)
        dropped = tombstones.explain(self._ordered, drops, seen.digest)
        self.steps: list[Step] = chain.build(self._ordered, seen, self._is_policy_change, dropped)
        self._positions = {entry.id: position for position, entry in enumerate(self._ordered)}

    def now(self) -> bytes | None:
        """The live document's tracked state, under today's policy and names."""
        return self.source.view.show(self.image)

    def after(self, index: int) -> bytes | None:
        """
        The tracked state after the version at `index`, under today's policy; None where the document did not exist.

        Raises: BrokenChainError where it cannot be known.
        """
        return self.source.view.show(self._raw_after(index))

    def before(self, index: int) -> bytes | None:
        """The same before it."""
        step = self.steps[index]
        if step.entry is not None:
            return self.source.view.show(self._state(self._positions[step.entry.id], side="before"))
        if index == 0:
            return self.after(0)  # a derived baseline changes nothing
        return self.after(index - 1)

    def record(self, index: int) -> VersionRecord | None:
        """The stored version at `index`, None for a derived one. Raises: BrokenChainError for an unreadable row."""
        entry = self.steps[index].entry
        if entry is None:
            return None
        record = self._rows.fetch([entry.id]).get(entry.id) or Unreadable(
            entry.id, "it is no longer in the store"
        )
        if isinstance(record, Unreadable):
            raise unreadable(self.key, record)
        return record

    def prove(self, index: int) -> None:
        """
        Look whether the stored version at `index` leads from the state before it to the one after it.

        Raises: BrokenChainError where it does not, with `reason` among its facts; without one where neither can be known.
        """
        step = self.steps[index]
        if step.entry is not None:
            self._replay.prove(self._positions[step.entry.id])

    def rules_at(self, index: int) -> Policy:
        """
        What the state after the version at `index` was pruned by: today's rules, and those that it was recorded under.

        Whatever lies at such a path is not known to that state, which is not to say that it was not there.
        """
        entry = self._rules_entry(index)
        then = None if entry is None else self._policy_at(entry)
        return self.source.policy if then is None else then.joined(self.source.policy)

    def prefetch(self, indexes: Iterable[int]) -> None:
        """Read the rows of these versions in one go."""
        entries = (self.steps[index].entry for index in indexes)
        self._rows.fetch([entry.id for entry in entries if entry is not None])

    def needed(self, index: int) -> list[ObjectId]:
        """The rows that the state after the version at `index` will be replayed from."""
        step = self.steps[index]
        if step.entry is not None:
            return self._replay.needed(self._positions[step.entry.id])
        following = None if step.after is None else self._next_stored(index)
        return [] if following is None else self._replay.needed(following, side="before")

    def index_at(self, moment: datetime) -> int | None:
        """The index of the version in force at `moment`; None before a create."""
        return chain.position_at(self.steps, moment)

    def index_of(self, version_id: Any) -> int | None:
        """Where the version of this id stands, stored or derived."""
        return next((index for index, step in enumerate(self.steps) if step.id == version_id), None)

    def is_torn(self) -> bool:
        """Whether something seems to have gone round the tracker at the end, or a moment ago: it may be on its way."""
        since = self.read_at - _RECENT
        return any(
            step.operation is Operation.EXTERNAL
            and (step.next_id is None or (step.at is not None and step.at > since))
            for step in self.steps
        )

    def know_snapshots(self, ids: frozenset[ObjectId]) -> None:
        """Take the ids of updates with snapshots, which may have been read for many documents."""
        self._snapshots = ids.union(
            entry.id for entry in self._ordered if entry.operation is not Operation.UPDATE
        )

    # -- inside ----------------------------------------------------------------------------------------------------

    def _arrange_drops(self, live: bytes | None) -> list[Tombstone]:
        """The drops of the collection where the history has a gap for one; then it is in the order that they leave."""
        if not tombstones.has_gap(self._ordered, live):
            return []
        drops = self._rows.drops()
        if drops:
            self._ordered = tombstones.arrange(self._ordered, drops, live)
        return drops

    def _raw_after(self, index: int) -> bytes | None:
        step = self.steps[index]
        if step.entry is not None:
            return self._state(self._positions[step.entry.id], side="after")
        if step.after is None:
            return None
        following = self._next_stored(index)
        return self._today() if following is None else self._state(following, side="before")

    def _state(self, position: int, *, side: str) -> bytes | None:
        """A stored version's state on one side; where its own surroundings do not tell it, from across changed rules."""
        ask = self._replay.after if side == "after" else self._replay.before
        try:
            return ask(position)
        except BrokenChainError:
            if self._is_bridged:
                raise
        self._bridge()
        return ask(position)

    def _bridge(self) -> None:
        """
        Carry states across links that do not fit because the rules changed: pruned by the other side's rules as well.

        From the live document backward, then forward. Where rules went and others came at once, it leads one way only.
        """
        self._is_bridged = True
        last = len(self._ordered) - 1
        rules = [self._policy_of(position) or Policy() for position in range(last + 1)]
        if self.image is not None:
            self._replay.tell(last, policy.prune(self.image, rules[last]), side="after")
        pairs = [
            (position, position + 1) for position in range(last) if rules[position] != rules[position + 1]
        ]
        for left, right in reversed(pairs):
            self._carry(right, "before", left, "after", rules[left])
        for left, right in pairs:
            self._carry(left, "after", right, "before", rules[right])

    def _carry(self, known: int, known_side: str, position: int, side: str, rules: Policy) -> None:
        try:
            state = (self._replay.after if known_side == "after" else self._replay.before)(known)
        except BrokenChainError:
            return
        if state is not None:
            self._replay.tell(position, policy.prune(state, rules), side=side)

    def _rules_entry(self, index: int) -> Entry | None:
        """The stored version whose row says by which rules the state after `index` was pruned."""
        step = self.steps[index]
        following = None if step.entry is not None else self._next_stored(index)
        return step.entry if following is None else self._ordered[following]

    def _next_stored(self, index: int) -> int | None:
        for step in self.steps[index + 1 :]:
            if step.entry is not None:
                return self._positions[step.entry.id]
        return None

    def _today(self) -> bytes | None:
        return None if self.image is None else policy.prune(self.image, self.source.policy)

    def _snapshot_ids(self) -> frozenset[ObjectId]:
        if self._snapshots is None:
            self.know_snapshots(self.source.snapshots([self.key.document_id]))
        return self._snapshots or frozenset()

    def _live_as_linked(self, entries: Sequence[Entry]) -> bytes | None:
        """The digest of the live document as versions would have it; cheap where one of them leads to it."""
        today = _digest(self._today())
        if today is None or not entries or any(entry.after == today for entry in entries):
            return today
        then = self._policy_at(last_of(entries))
        return today if then is None else _digest(policy.prune(self.image or b"", then))

    def _live_under_last_policy(self) -> bytes | None:
        """The live document as the last version would see it, so that a changed policy is no change."""
        today = self._today()
        if today is None or not self._ordered or _digest(today) == self._ordered[-1].after:
            return today
        then = self._policy_of(len(self._ordered) - 1)
        return today if then is None else policy.prune(self.image or b"", then)

    def _policy_of(self, position: int) -> Policy | None:
        """The rules that a stored version was made under, None where its row cannot be read."""
        return self._policy_at(self._ordered[position])

    def _policy_at(self, entry: Entry) -> Policy | None:
        record = self._rows.fetch([entry.id]).get(entry.id)
        return Policy.from_fingerprint(record.policy) if isinstance(record, VersionRecord) else None

    def _is_policy_change(self, position: int) -> bool:
        """Whether the states on both sides are one, pruned by the rules of both sides and under today's names."""
        one = self._policy_of(position)
        is_last = position + 1 == len(self._ordered)
        other = self.source.policy if is_last else self._policy_of(position + 1)
        if one is None or other is None:
            return False
        if one.fingerprint == other.fingerprint and not self.source.tracked.renamed:
            return False
        try:
            left = self._state(position, side="after")
            right = self._today() if is_last else self._state(position + 1, side="before")
        except BrokenChainError:
            return one.fingerprint != other.fingerprint  # nothing says that it was more than the rules
        both = View(one.joined(other), self.source.tracked.renamed, self.source.codec_options)
        return left is not None and right is not None and both.show(left) == both.show(right)


def _digest(state: bytes | None) -> bytes | None:
    return None if state is None else values.digest(state)


def last_of(entries: Iterable[Entry]) -> Entry:
    return max(entries, key=order.sort_key)
