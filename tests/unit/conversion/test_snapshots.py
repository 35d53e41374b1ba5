"""Rows of archives as steps: which state is on which side, with whose who and when. No server, no engine."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import bson
import mongoengine
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from mongoengine import fields

from django_mongo_history.conversion.base import UNKNOWN, BadRow, Target
from django_mongo_history.conversion.formats.snapshots import Snapshots
from django_mongo_history.conversion.moments import NEVER, TWICE, Moment, Moments
from django_mongo_history.conversion.options import read_options
from django_mongo_history.conversion.presets import PRESETS
from django_mongo_history.conversion.rows import Row
from django_mongo_history.core import values
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import ConversionError
from tests import old_archives as archives
from tests.old_archives import Life, random_lives


class UnitBook(mongoengine.Document):
    name = fields.StringField()
    revision = fields.IntField()
    when = fields.DateTimeField()
    meta = {"collection": "unit_books"}


def target() -> Target:
    tracked = SimpleNamespace(document_class=UnitBook, label="unit.UnitBook", renamed={}, policy=Policy())
    collection = SimpleNamespace(name="unit_books", database=SimpleNamespace(name="unit"))
    return Target(SimpleNamespace(tracked=tracked, collection=collection, codec_options=values.EXACT))  # type: ignore[arg-type]


def snapshots(**given: Any) -> Snapshots:
    return Snapshots(target(), read_options(Snapshots.options, given, format_name="snapshots"))


def steps(found: Snapshots, document_id: Any, rows: list[Any]) -> list[Any]:
    return list(found.steps(document_id, [Row(row["_id"], row) for row in rows]))


def state(side: Any) -> Any:
    return values.decode(side) if isinstance(side, bytes) else side


@given(st.integers(0, 10_000))
def test_states_before(seed: int) -> None:
    """
    Each step begins with its row's state, and carries the who and the when of that row: the next step's state came of it.
    """
    chance = random.Random(seed)
    (life,) = random_lives(chance, lambda number: ObjectId(), 1)
    rows = list(archives.chrononaut(life))
    chance.shuffle(rows)
    found = steps(snapshots(preset="chrononaut"), life.id, rows)
    assert [(state(step.before), step.after) for step in found] == [
        (write.state, UNKNOWN) for write in life.writes[:-1]
    ]
    assert [(step.at, step.context.user.pk) for step in found] == [
        (write.at, write.user) for write in life.writes[1:]
    ]


@given(st.integers(0, 10_000))
def test_states_after(seed: int) -> None:
    """Both sides of each step are the copies around it; a create has nothing before it, a delete nothing after it."""
    chance = random.Random(seed)
    (life,) = random_lives(chance, lambda number: ObjectId(), 1)
    rows = list(archives.mongoose_history(life))
    chance.shuffle(rows)
    found = steps(snapshots(preset="mongoose-history", user_field="user"), life.id, rows)
    fronts = [None, *(write.state for write in life.writes)]
    assert [(state(step.before), state(step.after)) for step in found] == [
        (front, write.state) for front, write in zip(fronts, life.writes, strict=False)
    ]
    assert [(step.at, step.context.user.pk) for step in found] == [
        (write.at, write.user) for write in life.writes
    ]
    assert not any(step.gap for step in found)


@given(st.integers(0, 10_000))
def test_a_prefix_gives_the_same_steps(seed: int) -> None:
    """Rows that come later give further steps; those that are made already stay what they are."""
    (life,) = random_lives(random.Random(seed), lambda number: ObjectId(), 1, deletes=False)
    rows = list(archives.mongo_thingy(life, "UnitBook"))
    found = snapshots(preset="mongo-thingy")
    whole = steps(found, life.id, rows)
    for count in range(len(rows)):
        assert steps(found, life.id, rows[:count]) == whole[:count]


def test_the_first_copy_without_a_create_is_not_called_one() -> None:
    rows = [{"_id": 1, "t": archives.BEGIN, "o": "u", "d": {"_id": 5, "name": "a"}}]
    (step,) = steps(snapshots(preset="mongoose-history"), 5, rows)
    assert (step.before, state(step.after)) == (UNKNOWN, {"_id": 5, "name": "a"})


def test_bookkeeping_stays_where_the_class_has_it() -> None:
    """UnitBook has a revision of its own; the date it has not."""
    row = {"_id": 1, "bookId": 5, "revision": 1, "dateSet": archives.BEGIN, "name": "a"}
    given: dict[str, Any] = {"preset": "versioning-pattern", "key_field": "bookId", "collection": "x"}
    (step,) = steps(snapshots(**given), 5, [row])
    assert state(step.after) == {"_id": 5, "revision": 1, "name": "a"}
    (step,) = steps(snapshots(**given, drop_fields="revision,dateSet,bookId", rename="name=title"), 5, [row])
    assert state(step.after) == {"_id": 5, "title": "a"}


def test_numbers_before_times() -> None:
    """Clocks may be wrong, numbers are not; only where they are there twice times decide."""
    life = Life(5)
    for number in range(4):
        life.write({"_id": 5, "name": f"n{number}"}, "u")
    rows = list(archives.chrononaut(life))
    rows[0]["changed"], rows[2]["changed"] = rows[2]["changed"], rows[0]["changed"]
    found = steps(snapshots(preset="chrononaut"), 5, rows[::-1])
    assert [state(step.before)["name"] for step in found] == ["n0", "n1", "n2"]
    rows[1]["version"] = 0
    found = steps(snapshots(preset="chrononaut"), 5, rows)
    assert [state(step.before)["name"] for step in found] == ["n2", "n1", "n0"]


def test_numbers_that_begin_anew_and_numbers_that_are_there_twice() -> None:
    """Only a beginning anew is a delete; two writers of one number are not, and no numbers at all say nothing."""
    life = Life(5)
    for number in range(4):
        life.write({"_id": 5, "name": f"n{number}"}, "u")
    rows = list(archives.chrononaut(life))

    def told(*numbers: int | None) -> list[tuple[bool, str]]:
        for row, number in zip(rows, numbers, strict=True):
            row["version"] = number
        found = steps(snapshots(preset="chrononaut"), 5, rows)
        return [(step.after is None, step.gap.partition(":")[0]) for step in found]

    again = "the row behind it has the same number"
    anew = "the numbers of its rows begin anew behind it, so it is taken for the delete"
    assert told(None, 1, 2) == [(False, ""), (False, ""), (False, "")]
    assert told(None, None, None) == [(False, ""), (False, ""), (False, "")]
    assert told(0, 0, 1) == [(False, again), (False, ""), (False, "")]
    assert told(0, 1, 0) == [(False, ""), (True, anew), (False, "")]
    assert told(1, 3, 3)[0] == (False, "there are no rows of the numbers 2 to 2")


def test_bad_rows_have_reasons_without_values() -> None:
    base = {"t": archives.BEGIN, "o": "i", "d": {"_id": 5, "name": "SECRET"}}
    rows = [
        {**base, "_id": 1, "t": None},
        {**base, "_id": 2, "o": "SECRET"},
        {**base, "_id": 3, "d": "SECRET"},
        {**base, "_id": 4, "t": float("nan")},
    ]
    found = steps(snapshots(preset="mongoose-history"), 5, rows)
    assert {one.id for one in found if isinstance(one, BadRow)} == {1, 2, 3, 4}
    assert "SECRET" not in str(found)


def test_unknown_names_are_refused_with_known_ones() -> None:
    with pytest.raises(ConversionError, match=", ".join(PRESETS)):
        snapshots(preset="mongoose")
    with pytest.raises(ConversionError, match="Did you mean --time-field"):
        snapshots(time_fields="t")


PARIS = Moments("Europe/Paris")


@pytest.mark.parametrize(
    ("told", "at", "note"),
    [
        ("2023-07-01T10:00:00", "2023-07-01T08:00:00+00:00", ""),
        ("2023-07-01 10:00:00.123999", "2023-07-01T08:00:00.123+00:00", ""),
        ("2023-07-01T10:00:00Z", "2023-07-01T10:00:00+00:00", ""),
        ("2023-07-01 10:00:00+00", "2023-07-01T10:00:00+00:00", ""),
        ("2023-07-01 10:00:00-02:30", "2023-07-01T12:30:00+00:00", ""),
        ("2023-07-01", "2023-06-30T22:00:00+00:00", ""),
        ("2023-10-29T02:30:00", "2023-10-29T00:30:00+00:00", TWICE),
        ("2023-03-26T02:30:00", "2023-03-26T01:30:00+00:00", NEVER),
        (datetime(2023, 1, 1, 12, tzinfo=UTC), "2023-01-01T11:00:00+00:00", ""),
        (1688205600, "2023-07-01T10:00:00+00:00", ""),
        (1688205600.5, "2023-07-01T10:00:00.500+00:00", ""),
        (1688205600123, "2023-07-01T10:00:00.123+00:00", ""),
        (ObjectId("64a00000" + "0" * 16), "2023-07-01T10:29:20+00:00", ""),
    ],
)
def test_moments(told: Any, at: str, note: str) -> None:
    assert PARIS.read(told) == Moment(datetime.fromisoformat(at), note)


@pytest.mark.parametrize(
    "told", [None, "", "soon", "20230701", True, float("inf"), 1e300, {}, "2023-13-01", bson.MinKey()]
)
def test_what_is_no_moment(told: Any) -> None:
    assert PARIS.read(told) is None


@given(st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - local times
def test_moments_survive_their_texts(naive: datetime) -> None:
    """A text, a date and a number of one moment mean the same."""
    utc = Moments(None)
    short = naive.replace(tzinfo=UTC, microsecond=naive.microsecond // 1000 * 1000)
    assert (
        utc.read(short) == utc.read(naive.isoformat()) == utc.read(f"{naive.isoformat()}Z") == Moment(short)
    )
    milliseconds = (short - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert utc.read(milliseconds) == Moment(short)
