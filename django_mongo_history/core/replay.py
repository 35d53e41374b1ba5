"""
States from snapshots and patches: the nearest known state, then patch by patch, each step proven by its digest.

A state between two versions is a *node* of its segment (a run of versions whose links fit). Nodes are known from
snapshots, from the live document, or not at all; from a known one the way leads forward or backward. Pure: rows come
through a function that the caller gives.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import ObjectId
from bson.errors import BSONError

from django_mongo_history.core import diff, patches, values
from django_mongo_history.core.model import DocumentKey, Entry, Operation, VersionRecord
from django_mongo_history.core.patches import Patch, PatchError
from django_mongo_history.errors import BrokenChainError

REMEMBERED: Final = 32
"""States kept while one history is read, so that reading it in order replays each patch once."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stored row that cannot be read, and why; takes the place of its record."""

    id: Any
    reason: str


Records = Mapping[ObjectId, "VersionRecord | Unreadable"]
FetchRecords = Callable[[Sequence[ObjectId]], Records]


def segments(ordered: Sequence[Entry]) -> list[tuple[int, int]]:
    """
    Half-open ranges of versions whose links fit one to the next, within one life of the document.

    A create after a delete fits, but no patch leads across: there is no state in between.
    """
    found: list[tuple[int, int]] = []
    start = 0
    for index in range(1, len(ordered) + 1):
        if (
            index == len(ordered)
            or ordered[index - 1].after != ordered[index].before
            or not ordered[index].before
        ):
            found.append((start, index))
            start = index
    return found


class Replay:
    """
    The states of one document's stored versions.

    `live`: the tracked state of the live document, given only where its digest is that of the last version's after.
    """

    def __init__(
        self,
        key: DocumentKey,
        ordered: Sequence[Entry],
        *,
        snapshots: Callable[[], frozenset[ObjectId]],
        fetch: FetchRecords,
        live: bytes | None = None,
    ) -> None:
        self._key = key
        self._ordered = ordered
        self._snapshots = snapshots
        self._fetch = fetch
        self._live = live
        self._states: dict[tuple[int, int], bytes] = {}
        self._told: dict[tuple[int, int], bytes] = {}
        self._anchors: dict[tuple[int, int], list[_Anchor]] = {}
        self._segment_of: dict[int, tuple[int, int]] = {
            position: bounds for bounds in segments(ordered) for position in range(*bounds)
        }

    def before(self, position: int) -> bytes | None:
        """The tracked state before the version at `position`, as BSON; None where there was no document."""
        return self._node(self._segment_of[position], position)

    def after(self, position: int) -> bytes | None:
        """The same after it."""
        return self._node(self._segment_of[position], position + 1)

    def tell(self, position: int, state: bytes, *, side: str) -> bool:
        """Take a state that the caller knows from elsewhere; False where its digest says that it is another one."""
        bounds = self._segment_of[position]
        node = position + (side == "after")
        if values.digest(state) != self._digest(bounds, node):
            return False
        self._told[bounds[0], node] = state
        return True

    def prove(self, position: int) -> None:
        """
        Look whether the row of a version leads from the state before it to the one after it, and holds none but these.

        Raises: BrokenChainError where it does not, with `reason`; without one where no state on its sides can be known.
        """
        entry = self._ordered[position]
        record = self._readable(self._fetch([entry.id]), entry.id)
        if record.snapshot is not None:
            self._proven(
                record,
                record.snapshot,
                record.before if entry.operation is Operation.DELETE else record.after,
            )
        if entry.before is None or entry.after is None or entry.before == entry.after:
            return
        before = self.before(position)
        assert before is not None
        self._apply(record, before)

    def needed(self, position: int, *, side: str = "after") -> list[ObjectId]:
        """The rows that the nearest way to this state reads: for callers that fetch for many documents at once."""
        bounds = self._segment_of[position]
        node = position + (side == "after")
        if self._digest(bounds, node) is None:
            return []
        for route in self._routes(bounds, node):
            return [self._ordered[index].id for index in route.rows()]
        return []

    def _digest(self, bounds: tuple[int, int], node: int) -> bytes | None:
        return self._ordered[node].before if node < bounds[1] else self._ordered[node - 1].after

    def _node(self, bounds: tuple[int, int], node: int) -> bytes | None:
        if self._digest(bounds, node) is None:
            return None
        known = self._states.get((bounds[0], node))
        if known is not None:
            return known
        failures: list[BrokenChainError] = []
        for route in self._routes(bounds, node):
            try:
                return self._remember((bounds[0], node), self._follow(route, bounds))
            except BrokenChainError as error:
                failures.append(error)
        raise self._unknown(node, bounds, failures)

    def _remember(self, name: tuple[int, int], state: bytes) -> bytes:
        if len(self._states) >= REMEMBERED:
            del self._states[next(iter(self._states))]
        self._states[name] = state
        return state

    def _unknown(
        self, node: int, bounds: tuple[int, int], failures: list[BrokenChainError]
    ) -> BrokenChainError:
        if failures:
            return failures[0]
        entry = self._ordered[min(node, bounds[1] - 1)]
        return BrokenChainError(
            f"The state of {self._key.document_id!r} in {self._key.collection} next to version {entry.id} cannot be "
            "known: writes that went round the tracker lie on both sides of it and no whole state was stored between. "
            "Its changes can still be read; set SNAPSHOT_EVERY to 1 for collections that others write too.",
            key=self._key,
            version=entry.id,
        )

    # -- ways from a known state -----------------------------------------------------------------------------------

    def _routes(self, bounds: tuple[int, int], node: int) -> Iterator[_Route]:
        """The ways to a node: from the nearest known one before it and from the nearest after it, shorter first."""
        anchors = {*self._nearest(self._stored(bounds), node), *self._nearest(self._remembered(bounds), node)}
        routes = [_Route(anchor, node) for anchor in anchors]
        return iter(sorted(routes, key=lambda route: (len(route.rows()), route.anchor.node, route.rows())))

    def _nearest(self, anchors: list[_Anchor], node: int) -> list[_Anchor]:
        """Two on each side (those at the node count for both), so that one broken row is no dead end."""
        low = bisect_left(anchors, node, key=lambda anchor: anchor.node)
        high = bisect_right(anchors, node, key=lambda anchor: anchor.node)
        return anchors[max(high - 2, 0) : high] + anchors[low : low + 2]

    def _remembered(self, bounds: tuple[int, int]) -> list[_Anchor]:
        start, stop = bounds
        nodes = {node for (segment, node) in (*self._states, *self._told) if segment == start}
        if self._live is not None and stop == len(self._ordered):
            nodes.add(stop)
        return [_Anchor(node, None) for node in sorted(nodes)]

    def _stored(self, bounds: tuple[int, int]) -> list[_Anchor]:
        if bounds not in self._anchors:
            self._anchors[bounds] = list(self._stored_anchors(bounds))
        return self._anchors[bounds]

    def _stored_anchors(self, bounds: tuple[int, int]) -> Iterator[_Anchor]:
        """In the order of their nodes."""
        stored = self._snapshots()
        for position in range(*bounds):
            entry = self._ordered[position]
            if entry.operation in (Operation.DELETE, Operation.BASELINE):
                yield _Anchor(position, position)
            if entry.operation is not Operation.DELETE and entry.id in stored:
                yield _Anchor(position + 1, position)

    def _follow(self, route: _Route, bounds: tuple[int, int]) -> bytes:
        records = self._fetch([self._ordered[index].id for index in route.rows()])
        state = self._anchor_state(route.anchor, bounds, records)
        node = route.anchor.node
        while node != route.node:
            step = 1 if node < route.node else -1
            entry = self._ordered[min(node, node + step)]
            if entry.before != entry.after:  # else a baseline, or only hidden paths changed
                record = self._readable(records, entry.id)
                state = self._apply(record, state) if step > 0 else self._unapply(record, state)
            node += step
        return state

    def _anchor_state(self, anchor: _Anchor, bounds: tuple[int, int], records: Records) -> bytes:
        if anchor.row is None:
            # By segment and node: where one segment ends and the next begins, two states have the same number.
            name = bounds[0], anchor.node
            known = self._states.get(name, self._told.get(name, self._live))
            assert known is not None
            return known
        record = self._readable(records, self._ordered[anchor.row].id)
        expected = record.before if record.operation is Operation.DELETE else record.after
        return self._proven(record, record.snapshot or b"", expected)

    def _readable(self, records: Records, version_id: ObjectId) -> VersionRecord:
        record = records.get(version_id)
        if record is None:
            record = Unreadable(version_id, "it is no longer in the store")
        if isinstance(record, Unreadable):
            raise unreadable(self._key, record)
        return record

    def _apply(self, record: VersionRecord, state: bytes) -> bytes:
        return self._step(record, state, patch_of(record), record.after)

    def _unapply(self, record: VersionRecord, state: bytes) -> bytes:
        return self._step(record, state, diff.invert(patch_of(record)), record.before)

    def _step(self, record: VersionRecord, state: bytes, patch: Patch, expected: bytes | None) -> bytes:
        try:
            result = values.encode(diff.apply_in_place(patch, values.decode_any(state)))
        except (BSONError, TypeError, ValueError) as error:
            raise unreadable(self._key, Unreadable(record.id, f"its patch does not fit: {error}")) from error
        return self._proven(record, result, expected)

    def _proven(self, record: VersionRecord, state: bytes, expected: bytes | None) -> bytes:
        if expected is None or values.digest(state) != expected:
            raise unreadable(self._key, Unreadable(record.id, "the state it leads to has another digest"))
        return state


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A node whose state is known: from the snapshot of the version at `row`, or (None) from memory or the live one."""

    node: int
    row: int | None


@dataclass(frozen=True, slots=True)
class _Route:
    anchor: _Anchor
    node: int

    def rows(self) -> list[int]:
        between = range(min(self.anchor.node, self.node), max(self.anchor.node, self.node))
        own = self.anchor.row
        return [*between] if own is None or own in between else [own, *between]


def patch_of(record: VersionRecord) -> Patch:
    """
    The patch that a record stores; empty where it stores none.

    Raises: BrokenChainError where the stored patch cannot be read.
    """
    if record.patch is None:
        return Patch([], list(record.key_order or []))
    try:
        return Patch(patches.decode_entries(record.patch), list(record.key_order or []))
    except PatchError as error:
        raise unreadable(record.key, Unreadable(record.id, str(error))) from error


def unreadable(key: DocumentKey, row: Unreadable) -> BrokenChainError:
    """The error for a stored row that cannot be used, naming row, document and version."""
    return BrokenChainError(
        f"The stored version {row.id} of {key.document_id!r} in {key.collection} cannot be read: {row.reason}. "
        "Other versions stay readable. Look at the row in the history collection; restore it from a backup.",
        key=key,
        version=row.id,
        reason=row.reason,
    )
