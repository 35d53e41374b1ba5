"""States from snapshots and patches, each step proven; broken rows named, the rest readable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.core import elements, values
from django_mongo_history.core.model import Context, DocumentKey, Entry, VersionRecord, Write
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.recording import Circumstances, record_baseline, record_write
from django_mongo_history.core.replay import REMEMBERED, Records, Replay, Unreadable, patch_of, segments
from django_mongo_history.errors import BrokenChainError
from tests.strategies import Choices, choices, doc, mutated, random_document

KEY = DocumentKey("db.things", 1)
AT = datetime(2026, 1, 1, tzinfo=UTC)
RULES = Policy(snapshot_every=2**40)
AROUND = Circumstances("Thing", RULES, AT, Timestamp(1, 1), ObjectId(), Context())


@dataclass
class History:
    """Versions recorded one after another, and a copy of every state beside them."""

    records: list[VersionRecord] = field(default_factory=list)
    before: list[bytes | None] = field(default_factory=list)
    after: list[bytes | None] = field(default_factory=list)
    fetched: list[ObjectId] = field(default_factory=list)
    broken: dict[ObjectId, Unreadable | None] = field(default_factory=dict)

    def write(self, before: bytes | None, after: bytes | None) -> None:
        record = record_write(Write(KEY, before, after), AROUND)
        assert record is not None
        self._keep(record, before, after)

    def baseline(self, state: bytes) -> None:
        self._keep(record_baseline(KEY, state, AROUND), state, state)

    def _keep(self, record: VersionRecord, before: bytes | None, after: bytes | None) -> None:
        self.records.append(record)
        self.before.append(before)
        self.after.append(after)

    def snapshot_at(self, positions: Sequence[int]) -> None:
        """Keep whole states on these updates and on no other."""
        for position, record in enumerate(self.records):
            if record.patch is not None:
                whole = self.after[position] if position in positions else None
                self.records[position] = record._replace(snapshot=whole)

    def replay(self, live: bytes | None = None) -> Replay:
        ordered = [
            Entry(one.id, 1, one.order, one.operation, one.at, one.before, one.after) for one in self.records
        ]
        stored = frozenset(one.id for one in self.records if one.snapshot is not None)
        return Replay(KEY, ordered, snapshots=lambda: stored, fetch=self.fetch, live=live)

    def fetch(self, ids: Sequence[ObjectId]) -> Records:
        self.fetched.extend(ids)
        rows: dict[ObjectId, Any] = {one.id: one for one in self.records}
        rows.update(self.broken)
        return {wanted: rows[wanted] for wanted in ids if rows[wanted] is not None}


def number(count: int, **more: Any) -> bytes:
    return values.encode({"_id": 1, "n": count, **more})


def counting(length: int, *, start: int = 0, is_created: bool = True) -> History:
    """A counter's history: created at `start` (or older than that), then one more with every version."""
    history = History()
    if is_created:
        history.write(None, number(start))
    for count in range(start, start + length - is_created):
        history.write(number(count), number(count + 1))
    history.snapshot_at(())
    return history


def readable(replay: Replay, history: History) -> list[bool]:
    """Which states after a version come out, each the one that was recorded; all others are BrokenChainError."""
    found = []
    for position, expected in enumerate(history.after):
        try:
            assert replay.after(position) == expected
            found.append(True)
        except BrokenChainError:
            found.append(False)
    return found


# -- laws -------------------------------------------------------------------------------------------------------------


@st.composite
def random_histories(draw: st.DrawFn) -> tuple[History, bytes | None]:
    """Lives of a document with creates, updates and deletes, snapshots anywhere, from its create or a baseline on."""
    history = History()
    state: bytes | None = None
    if draw(st.booleans()):
        state = random_document(draw(choices), depth=2)
        history.baseline(state)
    for choose in draw(st.lists(choices, min_size=1, max_size=8)):
        following = _next(state, choose)
        if following != state:
            history.write(state, following)
            state = following
    history.snapshot_at(draw(st.lists(st.integers(0, 8))))
    return history, state


def _next(state: bytes | None, choose: Choices) -> bytes | None:
    if state is None:
        return random_document(choose, depth=2)
    return None if choose.below(6) == 5 else mutated(choose, state)


@given(random_histories(), st.randoms(use_true_random=False))
def test_every_state_is_the_recorded_copy(found: tuple[History, bytes | None], source: Any) -> None:
    """Asked for in any order, from whatever anchors there are, each side of each version is what was."""
    history, _live = found
    replay = history.replay()
    positions = list(range(len(history.records)))
    source.shuffle(positions)
    for position in positions:
        assert replay.after(position) == history.after[position]
        assert replay.before(position) == history.before[position]


@pytest.mark.parametrize("snapshots", [(), (3,), (0, 9), tuple(range(10))], ids=repr)
@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("is_created", [False, True])
def test_a_state_is_known_from_any_anchor(
    snapshots: tuple[int, ...], is_live: bool, is_created: bool
) -> None:
    """A create, a snapshot before or behind, or the live document: one of them is enough for every state."""
    history = counting(10, is_created=is_created)
    history.snapshot_at(snapshots)
    replay = history.replay(live=history.after[-1] if is_live else None)
    expected = bool(snapshots) or is_live or is_created
    assert readable(replay, history) == [expected] * 10


def test_a_delete_is_an_anchor() -> None:
    """It keeps the state before it: a document older than its history is known from there backward."""
    history = counting(5, is_created=False)
    history.write(number(5), None)
    assert [history.replay().before(position) for position in range(6)] == history.before


def test_a_stored_baseline_is_an_anchor() -> None:
    """It keeps the state on both of its sides."""
    history = History()
    history.baseline(number(0))
    history.write(number(0), number(1))
    history.snapshot_at(())
    assert history.replay().after(1) == number(1)


def test_a_deleted_document_has_no_state() -> None:
    """After a delete, and before a create, there was no document."""
    history = counting(1)
    history.write(number(0), None)
    history.write(None, number(7))
    replay = history.replay()
    assert (replay.before(0), replay.after(1), replay.before(2)) == (None, None, None)


def test_states_on_both_sides_of_a_gap_are_two() -> None:
    """Where a write went round the tracker the state before it and the state after it have one place, and differ."""
    history = counting(3)
    for count in range(10, 13):
        history.write(number(count), number(count + 1))
    history.snapshot_at((5,))
    replay = history.replay()
    assert (replay.after(2), replay.before(3), replay.after(3)) == (number(2), number(10), number(11))


def test_what_lies_between_two_gaps_cannot_be_known() -> None:
    """Without a whole state between two writes that went round the tracker no patch has a place to start."""
    history = counting(2)
    history.write(number(10), number(11))
    history.write(number(20), number(21))
    history.snapshot_at((3,))
    with pytest.raises(BrokenChainError, match="cannot be known"):
        history.replay().after(2)


def test_a_hidden_change_needs_no_row() -> None:
    """A version whose tracked states are the same on both sides leads from one to the other whether it is readable or not."""
    history = counting(2)
    history.records.insert(1, history.records[0]._replace(id=ObjectId(), before=history.records[0].after))
    history.after.insert(1, number(0))
    history.records[1] = history.records[1]._replace(operation=history.records[2].operation, snapshot=None)
    history.broken[history.records[1].id] = None
    assert readable(history.replay(), history) == [True] * 3


def test_reading_in_order_reads_each_row_once() -> None:
    """States that were just read are remembered, so that a whole history costs one patch a version."""
    history = counting(100)
    replay = history.replay()
    for position in range(100):
        replay.after(position)
    assert len(history.fetched) == 100


def test_reading_backward_reads_each_row_once() -> None:
    """The same from the live document back."""
    history = counting(100, is_created=False)
    replay = history.replay(live=number(100))
    for position in reversed(range(100)):
        replay.before(position)
    assert len(history.fetched) == 100


def test_no_more_states_are_remembered_than_said() -> None:
    """A long history of large documents does not stay in memory."""
    replay = counting(3 * REMEMBERED).replay()
    for position in range(3 * REMEMBERED):
        replay.after(position)
    assert len(replay._states) <= REMEMBERED


def test_the_rows_that_a_state_needs_are_told_before() -> None:
    """Callers that read many documents fetch the rows of all in one go; nothing else is fetched then."""
    history = counting(10)
    history.snapshot_at((5,))
    replay = history.replay()
    needed = replay.needed(7)
    replay.after(7)
    assert needed == history.fetched == [history.records[position].id for position in (5, 6, 7)]


def test_the_nearest_anchor_is_taken() -> None:
    """Forward or backward, whichever reads fewer rows."""
    history = counting(20)
    history.snapshot_at((15,))
    history.replay().after(13)
    assert sorted(history.fetched) == sorted(history.records[position].id for position in (14, 15))


# -- broken rows ------------------------------------------------------------------------------------------------------


def test_a_broken_row_in_the_middle_cuts_nothing_off() -> None:
    """States before it are known from the one side, states after it from the other."""
    history = counting(10)
    history.broken[history.records[5].id] = None
    assert readable(history.replay(live=number(9)), history) == [True] * 10


def test_without_the_other_side_what_lies_behind_a_broken_row_is_unknown() -> None:
    """States before it stay readable."""
    history = counting(10)
    history.broken[history.records[5].id] = None
    assert readable(history.replay(), history) == [True] * 5 + [False] * 5


def test_between_two_broken_rows_a_snapshot_is_enough() -> None:
    """Both neighbours of a snapshot may be gone."""
    history = counting(10)
    history.snapshot_at((5,))
    history.broken.update({history.records[3].id: None, history.records[8].id: None})
    assert readable(history.replay(), history) == [True] * 3 + [True] * 5 + [False] * 2


def test_a_broken_snapshot_is_gone_round() -> None:
    """With every state stored, one broken row hides no state but the one that only it knows."""
    history = counting(10)
    history.snapshot_at(range(10))
    history.broken[history.records[5].id] = None
    assert readable(history.replay(), history) == [True] * 10


def test_a_broken_row_of_an_earlier_life_is_not_blamed_for_a_later_one() -> None:
    """No way leads across a delete: the row that is named is the one that is broken."""
    history = counting(1)
    history.write(number(0), None)
    history.write(None, number(5))
    history.write(number(5), number(6))
    history.snapshot_at(())
    history.broken[history.records[2].id] = Unreadable(history.records[2].id, "broken")
    with pytest.raises(BrokenChainError) as raised:
        history.replay().after(3)
    assert raised.value.version == history.records[2].id


def wrong(history: History, position: int, **changes: Any) -> None:
    history.records[position] = history.records[position]._replace(**changes)


def garbage(record: VersionRecord, how: str) -> dict[str, Any]:
    return {
        "patch of something else": {"patch": doc(("p", [["change", ["gone"], [1, 2]]]))},
        "patch to another state": {"patch": doc(("p", [["change", ["n"], [0, 77]]]))},
        "patch of the root": {"patch": doc(("p", [["change", [], [1, 2]]]))},
        "no patch": {"patch": None},
        "patch that is none": {"patch": doc(("p", 5))},
        "patch of bytes": {"patch": b"garbage"},
        "key order of other keys": {"key_order": [[[], None, ["x"]]]},
        "key order that is none": {"key_order": [5]},
    }[how]


BROKEN = [
    "patch of something else", "patch to another state", "patch of the root", "no patch", "patch that is none",
    "patch of bytes", "key order of other keys", "key order that is none",
]  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_row_that_leads_elsewhere_is_an_error_that_names_it(how: str) -> None:
    """Whatever is wrong with it: BrokenChainError with row, document and version, and no wrong state, ever."""
    history = counting(3)
    wrong(history, 1, **garbage(history.records[1], how))
    with pytest.raises(BrokenChainError) as raised:
        history.replay().after(1)
    assert (raised.value.version, raised.value.key) == (history.records[1].id, KEY)
    assert str(history.records[1].id) in str(raised.value)


@pytest.mark.parametrize("how", BROKEN)
def test_a_row_that_leads_elsewhere_is_gone_round(how: str) -> None:
    """The other states are read from the other side."""
    history = counting(3)
    wrong(history, 1, **garbage(history.records[1], how))
    assert readable(history.replay(live=number(2)), history) == [True] * 3


@pytest.mark.parametrize("snapshot", [number(99), elements.EMPTY_DOCUMENT, b"", None])
def test_a_snapshot_of_another_state_is_never_shown(snapshot: bytes | None) -> None:
    """The digest says what the state must be."""
    history = counting(1)
    stored = frozenset(one.id for one in history.records)
    wrong(history, 0, snapshot=snapshot)
    entries = [
        Entry(one.id, 1, one.order, one.operation, one.at, one.before, one.after) for one in history.records
    ]
    replay = Replay(KEY, entries, snapshots=lambda: stored, fetch=history.fetch)
    with pytest.raises(BrokenChainError, match="another digest"):
        replay.after(0)


@pytest.mark.parametrize("row", [None, Unreadable("row", "its format is 2")], ids=["missing", "unreadable"])
def test_a_row_that_is_not_readable_says_why(row: Unreadable | None) -> None:
    """The reason stands in the error, and as a fact of it."""
    history = counting(1)
    history.broken[history.records[0].id] = row
    with pytest.raises(BrokenChainError) as raised:
        history.replay().after(0)
    assert raised.value.reason == (row.reason if row else "it is no longer in the store")


def test_a_record_with_a_broken_patch_names_itself() -> None:
    """`patch_of` is for readers of changes: the same error."""
    history = counting(2)
    record = history.records[1]._replace(patch=b"garbage")
    with pytest.raises(BrokenChainError, match=str(record.id)):
        patch_of(record)


# -- segments -----------------------------------------------------------------------------------------------------------


def test_segments_end_at_gaps_and_between_lives() -> None:
    """Patches lead along links, within one life of the document."""
    history = counting(2)
    history.write(number(10), number(11))
    history.write(number(11), None)
    history.write(None, number(5))
    entries = [
        Entry(one.id, 1, one.order, one.operation, one.at, one.before, one.after) for one in history.records
    ]
    assert segments(entries) == [(0, 2), (2, 4), (4, 5)]


def test_no_versions_have_no_segments() -> None:
    """Nothing leads nowhere."""
    assert segments([]) == []
