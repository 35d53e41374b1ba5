"""
The ten ways in which another converter lost or spoilt histories, one by one: none of them happens here.

With rows of mongoengine-history, and with a ledger of whole states, whose format is the one below: a user's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import mongoengine
import pytest
from bson import Decimal128, Int64, ObjectId
from mongoengine import fields

from django_mongo_history import HistoryConverter, changeset, history_of
from django_mongo_history.conversion import BadRow, Context, Format, Row, Step, UserRef, image
from django_mongo_history.conversion.base import UNKNOWN
from tests.judge import HISTORY, configured, tracking
from tests.old_histories import OldTracker, last_states, store

BEGAN = datetime(2021, 5, 1, 12, tzinfo=UTC)


class Ledger(Format):
    """Rows `{of, at, by, why, state}`: the state that a write led to, None of a delete."""

    name = "ledger"
    key = "of"
    sort = ("at", "_id")
    time = "at"

    def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterable[Step | BadRow]:
        before: Any = None
        for row in rows:
            stored = row.values
            after = None if stored["state"] is None else image(document_id, stored["state"])
            user = None if stored.get("by") is None else UserRef(stored["by"])
            yield Step(
                [row], stored["at"], before, after, context=Context(user=user, reason=stored.get("why"))
            )
            before = after


class Mood(Enum):
    """For a field of that kind."""

    GOOD = "good"


class LossPot(mongoengine.Document):
    """A pot with values of every kind that lost its type elsewhere."""

    name = fields.StringField()
    mood = fields.EnumField(Mood)
    price = fields.Decimal128Field()
    sold = fields.LongField()
    at = fields.DateTimeField()
    secret = fields.StringField()
    hits = fields.IntField()
    meta = {"collection": "loss_pots", "strict": False}


class LossBase(mongoengine.Document):
    """With a class below."""

    name = fields.StringField()
    meta = {"collection": "loss_bases", "allow_inheritance": True}


class LossChild(LossBase):
    """Below."""


LEDGER = f"{Ledger.__module__}.{Ledger.__qualname__}"


@pytest.fixture
def database(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(LossPot):
        yield mongodb


def converter(document_class: type[Any] = LossPot) -> HistoryConverter:
    return HistoryConverter(document_class, "mongoengine-history", source_timezone="UTC")


def ledger() -> HistoryConverter:
    return HistoryConverter(LossPot, Ledger, collection="ledger")


def pots(count: int = 3, saves: int = 2) -> OldTracker:
    """Pots that were saved a few times."""
    tracker = OldTracker("loss_pots")
    for _ in range(count):
        document = {"_id": ObjectId(), "name": "0"}
        tracker.begin(document)
        for number in range(1, saves + 1):
            tracker.save(document, {**document, "name": str(number)})
            document = {**document, "name": str(number)}
    return tracker


def names(document_id: Any) -> list[Any]:
    return [
        None if version.state is None else version["name"] for version in history_of(LossPot, document_id)
    ]


def add_row(database: Any, tracker: OldTracker, document_id: Any, old: str, new: str) -> None:
    """A write of the old system, now."""
    tracker.now = datetime.now(UTC)
    database["loss_pots"].update_one({"_id": document_id}, {"$set": {"name": new}})
    database["history"].insert_one(tracker._row(("change", ["name"], (old, new)), document_id, None))


def assert_each_row_once(database: Any, name: str = "history") -> None:
    found = database[HISTORY].find({"source.rows": {"$exists": True}}, {"source.rows": 1})
    counted = Counter(row for version in found for row in version["source"]["rows"])
    assert counted == Counter(row["_id"] for row in database[name].find({}, {"_id": 1}))


def test_1_a_live_version_with_a_high_id_hides_nobody(database: Any) -> None:
    """How far it is says its own record, not the highest id that is stored."""
    tracker = pots()
    store(database, tracker, last_states(tracker))
    LossPot(id=ObjectId("ffffffffffffffffffffffff"), name="live").save()
    assert converter().convert(10) == 3
    assert_each_row_once(database)


def test_2_a_document_with_a_low_id_that_came_later_is_found(database: Any) -> None:
    """Keys need not ascend."""
    tracker = pots()
    store(database, tracker, last_states(tracker))
    made = converter()
    made.convert_all()
    low = ObjectId("000000000000000000000001")
    database["loss_pots"].insert_one({"_id": low, "name": "a"})
    add_row(database, tracker, low, "a", "b")
    assert made.update() == 1
    assert names(low) == ["a", "b"]
    assert_each_row_once(database)


def test_3_a_document_that_was_made_and_changed_in_between_is_whole(database: Any) -> None:
    """From its first state on."""
    tracker = pots()
    store(database, tracker, last_states(tracker))
    made = converter()
    made.convert_all()
    new = ObjectId()
    database["loss_pots"].insert_one({"_id": new, "name": "first"})
    for old, name in (("first", "second"), ("second", "third")):
        add_row(database, tracker, new, old, name)
    made.update()
    assert names(new) == ["first", "second", "third"]


def test_4_a_delete_in_between_keeps_its_time_and_user(database: Any) -> None:
    """As a version, from the old history or from the live one."""
    of, other = ObjectId(), ObjectId()
    rows = [
        {
            "_id": number,
            "of": one,
            "at": BEGAN + timedelta(hours=number),
            "by": "ada",
            "state": {"name": str(number)},
        }
        for number, one in enumerate([of, other])
    ]
    database["ledger"].insert_many(rows)
    database["loss_pots"].insert_many([{"_id": of, "name": "0"}, {"_id": other, "name": "1"}])
    made = ledger()
    made.convert_all()
    database["loss_pots"].delete_one({"_id": of})
    database["ledger"].insert_one(
        {"_id": 9, "of": of, "at": BEGAN + timedelta(days=1), "by": "ben", "state": None}
    )
    with changeset(user="cleo"):
        LossPot.objects.get(id=other).delete()
    made.update(BEGAN)
    last = history_of(LossPot, of)[-1]
    assert (str(last.operation), last.at, last.user.pk) == ("delete", BEGAN + timedelta(days=1), "ben")
    live = history_of(LossPot, other)[-1]
    assert (str(live.operation), live.user.pk) == ("delete", "cleo")
    assert [str(v.operation) for v in history_of(LossPot, of)] == ["create", "delete"]
    assert made.verify().is_ok


def test_5_catching_up_from_the_start_of_the_pass_stores_nothing_twice(database: Any) -> None:
    """However often, with edits that fell into the pass."""
    tracker = pots()
    store(database, tracker, last_states(tracker))
    began = datetime.now(UTC)
    made = converter()
    made.convert(1)
    for document_id in list(tracker.states):
        add_row(database, tracker, document_id, "2", "during")
    made.convert_all()
    for _ in range(3):
        assert made.update(began) == 0
    assert [names(document_id) for document_id in tracker.states] == [["0", "1", "2", "during"]] * 3
    assert_each_row_once(database)


def test_6_hidden_and_untracked_values_of_the_live_document_are_nowhere(mongodb: Any) -> None:
    """Nor is what old states of it hold."""
    with configured(), tracking(LossPot, hidden=["secret"], untracked=["hits"]):
        for number in range(3):
            of = ObjectId()
            state = {"name": "a", "secret": f"old-pw-{number}", "hits": 4711}
            mongodb["ledger"].insert_one({"_id": number, "of": of, "at": BEGAN, "state": state})
            mongodb["loss_pots"].insert_one({"_id": of, **state, "secret": f"new-pw-{number}", "name": "b"})
        report = ledger().convert_all()
        assert report.counts.gaps == 3
    stored = str(list(mongodb[HISTORY].find())) + str(list(mongodb[f"{HISTORY}_conversions"].find()))
    assert "pw-" not in stored
    assert "4711" not in stored


def test_7_a_converted_state_next_to_a_live_one_differs_in_what_changed(database: Any) -> None:
    """Types, key order and times are those of the database, whoever wrote the version."""
    tracker = OldTracker("loss_pots")
    first = {
        "_id": ObjectId(),
        "name": "a",
        "mood": "good",
        "price": Decimal128("1.10"),
        "sold": Int64(3),
        "at": datetime(2020, 1, 1, tzinfo=UTC),
        "more": {"b": 1, "a": [1, 2.0, True]},
    }
    tracker.begin(first)
    tracker.save(first, {**first, "name": "b"})
    database["ledger"].insert_one(
        {
            "_id": 1,
            "of": ObjectId(),
            "at": BEGAN,
            "state": {name: first[name] for name in reversed(first) if name != "_id"},
        }
    )
    other = database["ledger"].find_one()["of"]
    store(database, tracker, [{**first, "name": "b"}, {**first, "_id": other}])
    converter().convert_all()
    ledger().convert_all()
    for document_id in (first["_id"], other):
        pot = LossPot.objects.get(id=document_id)
        pot.name = "live"
        pot.save()
        history = history_of(LossPot, document_id)
        assert [change.path for change in history.diff(history[-2], history[-1])] == [("name",)]
        assert "external" not in [str(v.operation) for v in history]
        assert history[-2].state == {**history[-1].state, "name": history[-2]["name"]}


def test_8_a_base_and_its_child_are_converted_once(mongodb: Any) -> None:
    """In whatever order, and found under either."""
    tracker = OldTracker("loss_bases")
    for name in ("LossBase", "LossBase.LossChild", "LossBase.LossChild"):
        document = {"_id": ObjectId(), "_cls": name, "name": "a"}
        tracker.begin(document)
        tracker.save(document, {**document, "name": "b"})
    store(mongodb, tracker, last_states(tracker))
    with configured(), tracking(LossBase), tracking(LossChild):
        converter(LossChild).convert_all()
        converter(LossBase).convert_all()
        converter(LossChild).convert_all()
        assert_each_row_once(mongodb)
        for document_id in list(tracker.states)[1:]:
            assert [v["name"] for v in history_of(LossChild, document_id)] == ["a", "b"]
            assert len(history_of(LossBase, document_id)) == 2


def test_9_who_and_why_are_on_the_version_that_they_made(database: Any) -> None:
    """The editor of 0 to 1 is on 1, and the newest version has somebody."""
    of = [ObjectId() for _ in range(3)]
    rows = [
        {
            "of": one,
            "at": BEGAN + timedelta(hours=n),
            "by": f"user {n}",
            "why": f"why {n}",
            "state": {"name": str(n)},
        }
        for one in of
        for n in range(3)
    ]
    database["ledger"].insert_many(rows)
    database["loss_pots"].insert_many([{"_id": one, "name": "2"} for one in of])
    ledger().convert_all()
    for one in of:
        assert [(v["name"], v.user.pk, v.reason) for v in history_of(LossPot, one)] == [
            (str(n), f"user {n}", f"why {n}") for n in range(3)
        ]


def test_10_states_of_one_moment_have_an_order(database: Any) -> None:
    """Also those of a document that is gone: each says what it changed."""
    of = [ObjectId() for _ in range(3)]
    states: list[Any] = [{"name": "a"}, {"name": "b"}, {"name": "a"}, {"name": "c"}, None]
    database["ledger"].insert_many(
        [
            {"_id": (number, str(one)).__repr__(), "of": one, "at": BEGAN, "state": state}
            for one in of
            for number, state in enumerate(states)
        ]
    )
    ledger().convert_all()
    for one in of:
        versions = list(history_of(LossPot, one))
        assert names(one) == ["a", "b", "a", "c", None]
        assert [str(v.operation) for v in versions] == ["create", "update", "update", "update", "delete"]
        history = history_of(LossPot, one)
        assert [(c.old, c.new) for c in history.diff(1, 2)] == [("a", "b")]
    assert ledger().verify().is_ok


def test_a_users_own_format_by_its_dotted_path(database: Any) -> None:
    """A class with one method."""
    of = ObjectId()
    database["ledger"].insert_one({"_id": 1, "of": of, "at": BEGAN, "state": {"name": "a"}})
    database["loss_pots"].insert_one({"_id": of, "name": "a"})
    made = HistoryConverter(LossPot, LEDGER, collection="ledger")
    assert made.convert_all().counts.versions == 1
    assert made.plan().source == "ledger"


def test_a_history_that_does_not_begin_with_a_create_begins_with_a_baseline(database: Any) -> None:
    """What was before its first state nobody knows."""

    class Late(Ledger):
        name = "late"

        def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterable[Step | BadRow]:
            for row in rows:
                yield Step([row], row.values["at"], UNKNOWN, image(document_id, row.values["state"]))

    of = ObjectId()
    database["ledger"].insert_many(
        [{"of": of, "at": BEGAN + timedelta(hours=n), "state": {"name": str(n)}} for n in range(3)]
    )
    database["loss_pots"].insert_one({"_id": of, "name": "2"})
    HistoryConverter(LossPot, Late, collection="ledger").convert_all()
    versions = list(history_of(LossPot, of))
    assert [(str(v.operation), v["name"]) for v in versions] == [
        ("baseline", "0"),
        ("update", "1"),
        ("update", "2"),
    ]
    assert versions[0].at == BEGAN


def test_what_changed_untracked_fields_alone_is_no_version(mongodb: Any) -> None:
    """As of live writes; a row that changed nothing at all is one, for somebody did something."""
    of = ObjectId()
    states = [
        {"name": "a", "hits": 1},
        {"name": "a", "hits": 2},
        {"name": "a", "hits": 2},
        {"name": "b", "hits": 2},
    ]
    mongodb["ledger"].insert_many(
        [{"of": of, "at": BEGAN + timedelta(hours=n), "state": state} for n, state in enumerate(states)]
    )
    mongodb["loss_pots"].insert_one({"_id": of, **states[-1]})
    with configured(), tracking(LossPot, untracked=["hits"]):
        report = ledger().convert_all()
        assert (report.counts.versions, report.counts.untracked) == (3, 1)
        assert names(of) == ["a", "a", "b"]
        assert ledger().verify().is_ok


def test_a_hidden_change_of_a_document_that_is_gone_is_a_fact(mongodb: Any) -> None:
    """Its state is not known, and its value is nowhere."""
    tracker = OldTracker("loss_pots")
    first = {"_id": ObjectId(), "name": "a", "secret": "pw-1"}
    tracker.begin(first)
    tracker.save(first, {**first, "secret": "pw-2"})
    store(mongodb, tracker, [])
    with configured(), tracking(LossPot, hidden=["secret"]):
        converter().convert_all()
        (version,) = [v for v in history_of(LossPot, first["_id"]) if not v.is_derived]
        assert [change.path for change in version.changes] == [("secret",)]
    assert "pw-" not in str(list(mongodb[HISTORY].find()))


def test_states_before_their_write_shift_by_one(database: Any) -> None:
    """An archive of what was replaced: the last state is the live document's, also where a live version follows."""

    class Replaced(Ledger):
        name = "replaced"

        def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterable[Step | BadRow]:
            for row in rows:
                yield Step([row], row.values["at"], image(document_id, row.values["state"]), UNKNOWN)

    pots_ = [ObjectId() for _ in range(3)]
    database["ledger"].insert_many(
        [
            {"of": of, "at": BEGAN + timedelta(hours=n), "state": {"name": str(n)}}
            for of in pots_
            for n in range(3)
        ]
    )
    database["loss_pots"].insert_many([{"_id": of, "name": "3"} for of in pots_])
    LossPot.objects(id=pots_[0]).update(name="live")
    made = HistoryConverter(LossPot, Replaced, collection="ledger")
    assert made.convert_all().counts.gaps == 0
    assert names(pots_[0]) == ["0", "1", "2", "3", "live"]
    assert names(pots_[1]) == ["0", "1", "2", "3"]
    assert made.verify().is_ok
