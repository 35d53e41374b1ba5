"""Versions as readers count them: stored ones and those that links tell of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.core import chain
from django_mongo_history.core.chain import Live, Step
from django_mongo_history.core.model import Entry, Operation

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(hours=1)


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)


def entry(number: int, before: str | None, after: str | None, operation: Operation | None = None) -> Entry:
    if operation is None:
        operation = (
            Operation.CREATE if before is None else Operation.DELETE if after is None else Operation.UPDATE
        )
    digests = [None if state is None else state.encode() for state in (before, after)]
    return Entry(ObjectId(), 1, Timestamp(number, 1), operation, minute(number), *digests)


def live(state: str | None) -> Live:
    return Live(None if state is None else state.encode(), NOW)


def shape(steps: list[Step]) -> list[str]:
    return [step.operation.value for step in steps]


def test_a_history_from_create_to_now_has_no_derived_version() -> None:
    """Where every link fits nothing is derived."""
    steps = chain.build([entry(0, None, "A"), entry(1, "A", "B")], live("B"))
    assert shape(steps) == ["create", "update"]


def test_a_document_older_than_its_history_has_a_baseline() -> None:
    """Before a first version that did not create the document stands how it was, without a moment."""
    first = entry(0, "A", "B")
    baseline = chain.build([first], live("B"))[0]
    assert baseline == Step(Operation.BASELINE, None, b"A", b"A", None, first.id)


def test_a_stored_baseline_needs_no_derived_one() -> None:
    """The stored one says the same."""
    assert shape(chain.build([entry(0, "A", "A", Operation.BASELINE)], live("A"))) == ["baseline"]


def test_a_document_that_was_never_written_has_its_baseline() -> None:
    """Its present state is its whole history."""
    assert chain.build([], live("A")) == [Step(Operation.BASELINE, None, b"A", b"A", None)]


@pytest.mark.parametrize("now", [live(None), None], ids=["absent", "not read"])
def test_a_document_without_versions_that_is_not_there_has_none(now: Live | None) -> None:
    """Nothing was and nothing is."""
    assert chain.build([], now) == []


def test_a_gap_is_an_external_version() -> None:
    """It leads from the state after one version to the state before the next, and has the next one's moment."""
    following = entry(5, "C", "D")
    steps = chain.build([entry(0, None, "A"), following], live("D"))
    assert steps[1] == Step(Operation.EXTERNAL, None, b"A", b"C", minute(5), following.id)


def test_several_gaps_are_several_external_versions() -> None:
    """One for each link that is missing, each with an id of its own."""
    steps = chain.build([entry(0, None, "A"), entry(1, "B", "C"), entry(2, "D", "E")], live("E"))
    assert shape(steps) == ["create", "external", "update", "external", "update"]
    assert len({step.id for step in steps}) == 5


def test_a_gap_at_the_end_has_the_moment_of_reading() -> None:
    """What the live document became since the last version is external; it stands before now."""
    last = chain.build([entry(0, None, "A")], live("B"))[-1]
    assert (last.operation, last.before, last.after, last.at, last.id) == (
        Operation.EXTERNAL,
        b"A",
        b"B",
        NOW,
        "before-now",
    )


def test_a_document_deleted_past_the_tracker_is_external() -> None:
    """No live document after a version that left one."""
    assert chain.build([entry(0, None, "A")], live(None))[-1].after is None


def test_a_document_created_anew_past_the_tracker_is_external() -> None:
    """A live document after a delete."""
    steps = chain.build([entry(0, None, "A"), entry(1, "A", None)], live("A"))
    assert shape(steps) == ["create", "delete", "external"]


def test_without_the_live_document_nothing_is_derived_at_the_end() -> None:
    """What was not read together with the versions says nothing."""
    assert shape(chain.build([entry(0, None, "A")], None)) == ["create"]


def test_a_changed_policy_is_no_change() -> None:
    """Where both sides are one state seen under two policies there is no external version."""
    asked = []

    def is_policy_change(position: int) -> bool:
        asked.append(position)
        return position == 0

    steps = chain.build([entry(0, None, "A"), entry(1, "a", "B")], live("C"), is_policy_change)
    assert (shape(steps), asked) == (["create", "update", "external"], [0, 1])


def test_the_id_of_a_derived_version_names_the_next() -> None:
    """So that it is the same on every reading."""
    first = entry(0, "A", "B")
    assert chain.build([first], None)[0].id == f"before-{first.id}"


STEPS = [entry(0, None, "A"), entry(10, "A", "B"), entry(20, "B", None), entry(30, None, "C")]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [(-1, None), (0, 0), (5, 0), (9.99, 0), (10, 1), (20, 2), (25, 2), (30, 3), (1e6, 3)],
)
def test_a_version_is_in_force_until_the_next(moment: float, expected: int | None) -> None:
    """Version n is in force over [at(n), at(n+1)); none is before a create."""
    assert chain.position_at(chain.build(STEPS, live("C")), minute(moment)) == expected


@pytest.mark.parametrize("operation", [Operation.UPDATE, Operation.BASELINE], ids=["derived", "stored"])
def test_a_baseline_answers_for_every_earlier_moment(operation: Operation) -> None:
    """The document was like that when tracking began, so nobody knows of another state before."""
    first = entry(0, "A", "A" if operation is Operation.BASELINE else "B", operation)
    assert chain.position_at(chain.build([first], None), minute(-1000)) == 0


def test_an_external_version_is_in_force_from_the_next_one_on() -> None:
    """Nobody knows when it happened: the state before it holds until the version after it."""
    steps = chain.build([entry(0, None, "A"), entry(10, "B", "C")], live("C"))
    assert [chain.position_at(steps, minute(moment)) for moment in (9, 10)] == [0, 2]


def test_an_external_version_at_the_end_is_in_force_when_it_was_read() -> None:
    """Before the reading the last stored version is."""
    steps = chain.build([entry(0, None, "A")], live("B"))
    assert [chain.position_at(steps, moment) for moment in (NOW - timedelta(seconds=1), NOW)] == [0, 1]


def test_no_version_is_in_force_where_there_is_none() -> None:
    """An empty history answers for no moment."""
    assert chain.position_at([], NOW) is None
