"""What converted versions are called and where they stand: by their rows alone."""

from datetime import UTC, datetime, timedelta

from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.conversion.identity import Names, before, clock_order
from django_mongo_history.core.model import HINT_BIT, order_from_clock

AT = datetime(2020, 2, 8, 23, 3, tzinfo=UTC)


def test_ids_are_made_of_rows() -> None:
    """The same in every run, others for another row, format or place; any BSON value names a row."""
    names = Names("f", "db.rows")
    rows = [ObjectId(), 1, 1.0, "1", {"a": 1}, ["x", 1], None]
    ids = [names.version(row, AT) for row in rows]
    assert len(set(ids)) == len(rows)
    assert ids == [Names("f", "db.rows").version(row, AT) for row in rows]
    assert names.version(rows[0], AT) != Names("g", "db.rows").version(rows[0], AT)
    assert names.version(rows[0], AT) != Names("f", "db.others").version(rows[0], AT)


def test_an_id_says_when() -> None:
    """As ids do, and for any moment: those that ids cannot say are taken to their end."""
    names = Names("f", "p")
    assert names.version(1, AT).generation_time == AT
    assert names.version(1, datetime(1900, 1, 1, tzinfo=UTC)).generation_time.year == 1970
    assert names.version(1, datetime(2999, 1, 1, tzinfo=UTC)).generation_time.year == 2106


def test_orders_go_up_whatever_the_moments() -> None:
    """Several in one millisecond, and clocks that went back."""
    moments = [AT, AT, AT, AT - timedelta(hours=1), AT + timedelta(milliseconds=1)]
    last = None
    for moment in moments:
        order = clock_order(moment, last, shift_s=1)
        assert last is None or (order.time, order.inc) > (last.time, last.inc)
        last = order


def test_a_live_version_of_the_same_second_comes_behind() -> None:
    """Whether its order is the cluster's, a hint, or a clock's."""
    made = clock_order(AT, None, shift_s=1)
    for live in (
        Timestamp(int(AT.timestamp()), 1),
        Timestamp(int(AT.timestamp()), 1 | HINT_BIT),
        order_from_clock(AT),
    ):
        assert (made.time, made.inc) < (live.time, live.inc & ~HINT_BIT)


def test_places_right_before_an_order() -> None:
    """As many as are needed, ascending."""
    live = Timestamp(1000, 3)
    places = [before(live, number) for number in range(3)]
    assert all((one.time, one.inc) < (live.time, live.inc) for one in places)
    assert sorted(places, key=lambda one: (one.time, one.inc)) == places
    assert len({(one.time, one.inc) for one in places}) == 3
