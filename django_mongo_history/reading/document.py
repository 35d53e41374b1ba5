"""
One document's whole history: stored and derived versions in order, and the state on both sides of each.

Read at one instant together with the live document; what is written later is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId

from django_mongo_history.core import chain, order, policy, tombstones, values
from django_mongo_history.core.chain import Live, Step
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import ABSENT, DocumentKey, Entry, Operation, VersionRecord
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.replay import Records, Replay, Unreadable, unreadable
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading.source import Source, View

MOST_ROWS: Final = 5000
"""Rows kept while a history is read; a longer one is read in passes."""


_PAUSES_S: Final = (0.0, 0.002, 0.004, 0.008, 0.016, 0.032)
"""How long a version is waited for that is not stored in one transaction with its document."""
_RECENT: Final = timedelta(seconds=2)
_MOST_CUT: Final = 20
"""Versions of later writes that may have come in between."""


@dataclass(slots=True)
class _Rows:
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
        self, source: Source, key: DocumentKey, entries: Iterable[Entry], image: bytes | None, rows: _Rows
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
        then = self._policy_at(_last(entries))
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


def read_document(source: Source, document_id: Any) -> DocumentHistory:
    """The history of one document as of now. Cost: an index scan and one document; rows only when they are asked."""
    key = source.key(document_id)
    if document_id is ABSENT:  # of an instance that has no key yet
        return DocumentHistory(source, key, [], None, _Rows(source))

    def read(session: Any) -> tuple[list[Entry], bytes | None]:
        image = source.images.find_one({"_id": {"$eq": document_id}}, session)
        return source.entries(document_id, session), image

    entries, image = source.consistently(read)
    history = _history(source, key, entries, image)
    return _settled(history, entries) if history.is_torn() and source.may_lag() else history


def _history(
    source: Source, key: DocumentKey, entries: Sequence[Entry], image: bytes | None
) -> DocumentHistory:
    rows = _Rows(source)
    return DocumentHistory(_own(source, entries, image, rows), key, entries, image, rows)


def _settled(torn: DocumentHistory, entries: Sequence[Entry]) -> DocumentHistory:
    """
    The history as of one instant, where versions come a moment after their documents and nothing reads both at once.

    The document is read once more, then versions until one of them leads to it. Those that came since count only as
    far as that: they are of later writes. What no version leads to after a while was written past the tracker.
    """
    source, key = torn.source, torn.key
    known = {entry.id for entry in entries}
    image = source.images.find_one({"_id": {"$eq": key.document_id}}, None)
    later = list(entries)
    for pause_s in _PAUSES_S:
        time.sleep(pause_s)
        later = source.entries(key.document_id, None)
        fresh = sorted((entry for entry in later if entry.id not in known), key=order.sort_key)
        settled = [entry for entry in later if entry.id in known]
        for count in range(len(fresh), max(len(fresh) - _MOST_CUT, -1), -1):
            history = _history(source, key, [*settled, *fresh[:count]], image)
            if not history.is_torn():
                return history
    return _history(source, key, later, image)


def read_documents(
    source: Source, found: Iterable[tuple[Any, list[Entry], bytes | None]]
) -> list[DocumentHistory]:
    """Histories of documents whose entries and images are read already; they share one reading of snapshots."""
    rows, found = _Rows(source), list(found)
    if source.environment.registry.varies_below(source.tracked.document_class):
        rows.fetch([_last(entries).id for _document_id, entries, image in found if image is None and entries])
    histories = [
        DocumentHistory(_own(source, entries, image, rows), source.key(document_id), entries, image, rows)
        for document_id, entries, image in found
    ]
    stored = [history.key.document_id for history in histories if history.steps]
    if stored:
        snapshots = source.snapshots(stored)
        for history in histories:
            history.know_snapshots(snapshots)
    return histories


def _own(source: Source, entries: Sequence[Entry], image: bytes | None, rows: _Rows) -> Source:
    """The source under the rules of the document's own class: of the one it is now, or was when it was deleted."""
    if image is not None:
        return source.under_rules_of(class_name(image))
    if not entries or not source.environment.registry.varies_below(source.tracked.document_class):
        return source
    last = _last(entries)
    record = rows.fetch([last.id]).get(last.id)
    return source.under_rules_of(record.document_class) if isinstance(record, VersionRecord) else source


def _last(entries: Iterable[Entry]) -> Entry:
    return max(entries, key=order.sort_key)


def prefetch_states(histories: Iterable[tuple[DocumentHistory, int]], *, with_rules: bool = False) -> None:
    """
    Read the rows that these states (a history and an index) are replayed from, in one go for all.

    `with_rules`: and those that say by which rules they were pruned.
    """
    wanted: list[ObjectId] = []
    rows: _Rows | None = None
    for history, index in histories:
        wanted.extend(history.needed(index))
        entry = history._rules_entry(index) if with_rules else None  # noqa: SLF001 - of this module
        if entry is not None:
            wanted.append(entry.id)
        rows = history._rows  # noqa: SLF001 - of this module
    if rows is not None:
        rows.fetch(wanted)


def is_derived(step: Step) -> bool:
    """Whether readers derived the version and nobody stored it."""
    return step.entry is None


def is_change(step: Step) -> bool:
    """Whether the version changed anything: a baseline only says how things were."""
    return step.operation is not Operation.BASELINE


def _digest(state: bytes | None) -> bytes | None:
    return None if state is None else values.digest(state)
