"""
One document's whole history: stored and derived versions in order, and the state on both sides of each.

Read at one instant together with the live document; what is written later is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bson import ObjectId

from django_mongo_history.core import chain, order, policy, values
from django_mongo_history.core.chain import Live, Step
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import ABSENT, DocumentKey, Entry, Operation, VersionRecord
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.replay import Records, Replay, Unreadable, unreadable
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading.source import Source, View

MOST_ROWS: Final = 5000
"""Rows kept while a history is read; a longer one is read in passes."""


@dataclass(slots=True)
class _Rows:
    """Rows read so far; several histories that are read together share one."""

    source: Source
    records: dict[ObjectId, VersionRecord | Unreadable] = field(default_factory=dict)

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
        self._ordered = order.arrange(entries)
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
        self.steps: list[Step] = chain.build(self._ordered, seen, self._is_policy_change)
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
            return self.source.view.show(self._replay.before(self._positions[step.entry.id]))
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

    def prefetch(self, indexes: Iterable[int]) -> None:
        """Read the rows of these versions in one go."""
        entries = (self.steps[index].entry for index in indexes)
        self._rows.fetch([entry.id for entry in entries if entry is not None])

    def needed(self, index: int) -> list[ObjectId]:
        """The rows that the state after the version at `index` will be replayed from."""
        step = self.steps[index]
        if step.entry is not None:
            return self._replay.needed(self._positions[step.entry.id])
        following = self._next_stored(index)
        return [] if following is None else self._replay.needed(following, side="before")

    def index_at(self, moment: datetime) -> int | None:
        """The index of the version in force at `moment`; None before a create."""
        return chain.position_at(self.steps, moment)

    def index_of(self, version_id: Any) -> int | None:
        """Where the version of this id stands, stored or derived."""
        return next((index for index, step in enumerate(self.steps) if step.id == version_id), None)

    def know_snapshots(self, ids: frozenset[ObjectId]) -> None:
        """Take the ids of versions with snapshots from a caller that read them for many documents."""
        self._snapshots = ids

    # -- inside ----------------------------------------------------------------------------------------------------

    def _raw_after(self, index: int) -> bytes | None:
        step = self.steps[index]
        if step.entry is not None:
            return self._replay.after(self._positions[step.entry.id])
        following = self._next_stored(index)
        return self._today() if following is None else self._replay.before(following)

    def _next_stored(self, index: int) -> int | None:
        for step in self.steps[index + 1 :]:
            if step.entry is not None:
                return self._positions[step.entry.id]
        return None

    def _today(self) -> bytes | None:
        return None if self.image is None else policy.prune(self.image, self.source.policy)

    def _snapshot_ids(self) -> frozenset[ObjectId]:
        if self._snapshots is None:
            self._snapshots = self.source.snapshots([self.key.document_id])
        return self._snapshots

    def _live_under_last_policy(self) -> bytes | None:
        """The live document as the last version would see it, so that a changed policy is no change."""
        today = self._today()
        if today is None or not self._ordered or _digest(today) == self._ordered[-1].after:
            return today
        then = self._policy_of(len(self._ordered) - 1)
        return today if then is None else policy.prune(self.image or b"", then)

    def _policy_of(self, position: int) -> Policy | None:
        """The rules that a stored version was made under, None where its row cannot be read."""
        entry = self._ordered[position]
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
            left = self._replay.after(position)
            right = self._today() if is_last else self._replay.before(position + 1)
        except BrokenChainError:
            return False
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
    rows = _Rows(source)
    return DocumentHistory(_own(source, entries, image, rows), key, entries, image, rows)


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
    return max(entries, key=lambda entry: (entry.order, entry.id))


def prefetch_states(histories: Iterable[tuple[DocumentHistory, int]]) -> None:
    """Read the rows that these states (a history and an index) are replayed from, in one go for all."""
    wanted: list[ObjectId] = []
    rows: _Rows | None = None
    for history, index in histories:
        wanted.extend(history.needed(index))
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
