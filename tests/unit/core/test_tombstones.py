"""Which gaps of a document a drop of its collection explains."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.core import chain, order, tombstones
from django_mongo_history.core.chain import Live
from django_mongo_history.core.model import CLOCK_BIT, Entry, Operation
from django_mongo_history.core.tombstones import Tombstone

START = datetime(2026, 1, 1, tzinfo=UTC)
UUID = b"u" * 16


def second(number: float) -> datetime:
    return START + timedelta(seconds=number)


def entry(number: int, before: str | None, after: str | None, increment: int = 1) -> Entry:
    operation = (
        Operation.CREATE if before is None else Operation.DELETE if after is None else Operation.UPDATE
    )
    digests = [None if state is None else state.encode() for state in (before, after)]
    return Entry(ObjectId(), 1, Timestamp(number, increment), operation, second(number), *digests)


def drop(number: int, uuid: bytes | None = UUID, increment: int = 1) -> Tombstone:
    return Tombstone(
        ObjectId(), "db.a", Timestamp(number, increment), second(number), "A", ObjectId(), uuid=uuid
    )


def shape(entries: Sequence[Entry], drops: Sequence[Tombstone], live: str | None) -> list[str]:
    """The steps as readers count them: their operations, derived deletes as `drop`."""
    return [
        step.operation.value if step.tombstone is None else "drop" for step in steps(entries, drops, live)
    ]


def steps(entries: Sequence[Entry], drops: Sequence[Tombstone], live: str | None) -> list[chain.Step]:
    digest = None if live is None else live.encode()
    ordered = order.arrange(entries, digest)
    if drops and tombstones.has_gap(ordered, digest):
        ordered = tombstones.arrange(ordered, drops, digest)
    explained = tombstones.explain(ordered, drops, digest)
    return chain.build(ordered, Live(digest, second(9999)), dropped=explained)


A, B = entry(10, None, "A"), entry(20, "A", "B")


def test_a_document_that_is_gone_was_dropped() -> None:
    """The step has the moment of the drop, nothing after it, and an identity of its own."""
    tomb = drop(30)
    *_, last = steps([A, B], [tomb], None)
    assert (last.operation, last.at, last.before, last.after) == (Operation.DELETE, second(30), b"B", None)
    assert (last.tombstone, last.id) == (tomb, f"dropped-{tomb.id}")


@pytest.mark.parametrize(
    ("entries", "drops", "live", "expected"),
    [
        ([A, B], [], None, ["create", "update", "external"]),
        ([A, B], [drop(30)], "B", ["create", "update"]),
        ([A], [drop(15), drop(30, b"v" * 16)], None, ["create", "drop"]),
        ([A, entry(40, None, "B")], [drop(30)], "B", ["create", "drop", "create"]),
        ([A, entry(20, "A", None)], [drop(30)], None, ["create", "delete"]),
        ([entry(40, None, "A")], [drop(30)], "A", ["create"]),
        ([], [drop(30)], None, []),
        ([], [drop(30)], "A", ["baseline"]),
        ([B], [drop(30)], None, ["baseline", "update", "drop"]),
    ],
    ids=[
        "no tombstone",
        "still there",
        "the first of two",
        "made anew",
        "deleted before",
        "made after",
        "never known",
        "never known, there now",
        "older than its history",
    ],
)
def test_a_drop_among_versions(
    entries: list[Entry], drops: list[Tombstone], live: str | None, expected: list[str]
) -> None:
    """A drop stands where the document went, and nowhere else."""
    assert shape(entries, drops, live) == expected


def test_a_link_that_fits_across_a_tombstone_proves_that_it_was_not_made() -> None:
    """The document was there all the time."""
    assert shape([A, entry(2000, "A", "B")], [drop(30)], "B") == ["create", "update"]


def test_a_document_that_is_there_again_in_another_state_needs_proof() -> None:
    """Only a collection that is known to be gone was certainly dropped; else it may have been changed by others."""
    again = [A, entry(40, "X", "Y")]
    assert shape(again, [drop(30)], "Y") == ["create", "drop", "external", "update"]
    assert shape(again, [drop(30, None)], "Y") == ["create", "external", "update"]
    assert shape([A], [drop(30)], "X") == ["create", "drop", "external"]
    assert shape([A], [drop(30, None)], "X") == ["create", "external"]


def test_what_comes_back_after_a_drop_comes_from_nothing() -> None:
    """The external version behind a drop makes the document: it has no state before it."""
    *_, dropped, external = steps([A], [drop(30)], "X")
    assert (dropped.after, external.before, external.after) == (None, None, b"X")


def test_a_drop_waits_for_what_is_being_written() -> None:
    """Versions up to a minute behind the tombstone may be older than the drop; later ones are not."""
    late = [A, entry(30 + tombstones.WAIT_S, "A", "B")]
    assert shape(late, [drop(30)], None) == ["create", "update", "drop"]
    too_late = [A, entry(31 + tombstones.WAIT_S, "A", "B")]
    assert shape(too_late, [drop(30)], None) == ["create", "update", "external"]


def test_a_document_made_while_a_drop_waits_goes_with_it() -> None:
    """By its order it came after the tombstone, and there is no other drop that it can have gone with."""
    drops = [drop(30), drop(40, b"v" * 16)]
    soon = [A, entry(40, None, "B", 2)]
    assert shape(soon, drops, None) == ["create", "drop", "create", "drop"]
    later = [A, entry(41 + tombstones.MOMENT_S, None, "B")]
    assert shape(later, drops, None) == ["create", "drop", "create", "external"]


def test_each_drop_has_its_own_gap_first() -> None:
    """One that took nothing of this document leaves the next life to the drop that lies behind it."""
    drops = [drop(30), drop(32, b"v" * 16), drop(36, b"w" * 16)]
    found = steps([A, entry(34, None, "B")], drops, None)
    assert [step.tombstone for step in found] == [None, drops[0], None, drops[2]]


def test_a_drop_is_never_before_what_it_dropped() -> None:
    """A version that was written while it waited has the later moment, which is the drop's too."""
    *_, last = steps([A, entry(40, "A", "B")], [drop(30)], None)
    assert last.at == second(40)


def test_clocks_may_be_off() -> None:
    """Where order comes from clocks a version may seem older than the drop that it came after."""
    entries = [
        entry(10, None, "A", CLOCK_BIT),
        entry(25, None, "B", CLOCK_BIT),
        entry(29, "B", "C", CLOCK_BIT),
    ]
    assert shape(entries, [drop(30, None, CLOCK_BIT)], "C") == ["create", "drop", "create", "update"]
    by_server = [entry(10, None, "A"), entry(25, None, "B"), entry(29, "B", "C")]
    assert shape(by_server, [drop(30)], "C") == ["create", "external", "create", "update"]


def test_no_trail_leads_across_a_drop() -> None:
    """Two lives close together: the delete of the second does not end the first."""
    entries = [entry(10, None, "A"), entry(12, None, "A"), entry(13, "A", None)]
    assert shape(entries, [drop(11)], None) == ["create", "drop", "create", "delete"]


def test_a_policy_change_is_no_drop() -> None:
    """Both sides are one state: neither is there a gap nor was anything dropped."""
    built = chain.build([A], Live(b"A'", second(9999)), lambda position: True, {0: drop(30)})
    assert [step.operation for step in built] == ["create"]


def test_a_collection_that_is_still_there_was_not_dropped() -> None:
    """By its UUID; and of two drops of one collection only the later can have been made."""
    first, second_one, third = drop(1), drop(2), drop(3, b"v" * 16)
    unknown = drop(4, None)
    found = [third, unknown, second_one, first]
    assert tombstones.standing(found, frozenset()) == [second_one, third, unknown]
    assert tombstones.standing(found, {UUID}) == [third, unknown]
    assert tombstones.standing(found, {UUID, b"v" * 16}) == [unknown]


def moment_index(found: Sequence[chain.Step], moment: datetime) -> Any:
    index = chain.position_at(found, moment)
    return None if index is None else found[index].operation.value


def test_moments_around_a_drop() -> None:
    """Before it the document is there, from it on it is deleted, until it is made anew."""
    found = steps([A, entry(40, None, "B")], [drop(30)], "B")
    asked = [second(29), second(30), second(39), second(40)]
    assert [moment_index(found, moment) for moment in asked] == ["create", "delete", "delete", "create"]
