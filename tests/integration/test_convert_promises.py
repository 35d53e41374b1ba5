"""What conversion promises: never twice, never less, on a live system, whatever the keys, and checked."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine
import mongomock
import pytest
from bson import Decimal128, Int64, ObjectId
from mongoengine import fields

from django_mongo_history import (
    ConversionError,
    HistoryConverter,
    NotTrackedError,
    baseline,
    history_of,
    runtime,
    track,
)
from django_mongo_history.conversion import checkpoint, engine, record, run
from django_mongo_history.core import values
from tests.commanding import stored
from tests.judge import HISTORY, configured, tracking
from tests.old_histories import OldTracker, State, last_states, store
from tests.versions import NEEDS_BIND


class PromisedCup(mongoengine.Document):
    """Any key, any field."""

    key = fields.DynamicField(primary_key=True)
    name = fields.StringField()
    number = fields.IntField()
    meta = {"collection": "promised_cups", "strict": False}


class PromisedMug(mongoengine.Document):
    """With classes below it, in one collection."""

    name = fields.StringField()
    meta = {"collection": "promised_mugs", "allow_inheritance": True}


class PromisedSteinMug(PromisedMug):
    """Below."""

    litres = fields.IntField()


KEYS = [
    *range(-3, 3),
    2**40,
    Int64(7),
    1.5,
    Decimal128("1.25"),
    "a",
    "B",
    "",
    "é",
    ObjectId(),
    ObjectId(),
    b"bytes",
    {"a": 1, "b": [1]},
    {"b": 1},
    datetime(2020, 1, 1, tzinfo=UTC),
    True,
]


@pytest.fixture
def database(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(PromisedCup):
        yield mongodb


def converter(**options: Any) -> HistoryConverter:
    return HistoryConverter(PromisedCup, "mongoengine-history", source_timezone="UTC", **options)


def shelf(keys: list[Any], saves: int = 3) -> OldTracker:
    """A cup for each key, in any order, with so many saves."""
    tracker = OldTracker("promised_cups")
    for key in keys:
        document = {"_id": key, "name": "0", "number": 0}
        for number in range(1, saves + 1):
            following = {**document, "name": str(number)}
            _save(tracker, document, following)
            document = following
    return tracker


def _save(tracker: OldTracker, before: State, after: State) -> None:
    """As `save`, for keys that no dict takes as well."""
    tracker.now += tracker.pause
    tracker.rows.extend(tracker._row(entry, after["_id"], None) for entry in _diff(before, after))


def _diff(before: State, after: State) -> Any:
    return [
        ("change", [name], (before[name], after[name])) for name in after if before.get(name) != after[name]
    ]


def cups(keys: list[Any], saves: int = 3) -> list[State]:
    return [{"_id": key, "name": str(saves), "number": 0} for key in keys]


def names_of(key: Any) -> list[str]:
    return [version["name"] for version in history_of(PromisedCup, key)]


def rows_of_versions(database: Any) -> Counter[Any]:
    """How often each source row is in a version."""
    found = database[HISTORY].find({"source.rows": {"$exists": True}}, {"source.rows": 1})
    return Counter(row for version in found for row in version["source"]["rows"])


def assert_each_row_once(database: Any) -> None:
    rows = {row["_id"] for row in database["history"].find({}, {"_id": 1})}
    assert rows_of_versions(database) == Counter(rows)


# -- never twice, never less -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_keys_of_any_type_in_any_order(database: Any, limit: int) -> None:
    """In chunks of any size, until there are none left; documents are counted, not rows."""
    keys = random.Random(limit).sample(KEYS, len(KEYS))
    tracker = shelf(keys)
    store(database, tracker, cups(keys))
    made = converter()
    counts = []
    while count := made.convert(limit):
        counts.append(count)
        assert count <= limit
    assert sum(counts) == len(KEYS)
    assert counts[:-1] == [limit] * (len(counts) - 1)
    assert [key for key in keys if names_of(key) != list("0123")] == []
    assert_each_row_once(database)
    assert made.verify().is_ok


def test_another_process_goes_on(database: Any) -> None:
    """The record of how far it is lies in the database, so every chunk may be a new converter's."""
    tracker = shelf(list(range(10)))
    store(database, tracker, cups(list(range(10))))
    counts = [converter().convert(4) for _ in range(4)]
    assert counts == [4, 4, 2, 0]
    assert_each_row_once(database)


def test_everything_may_be_repeated(database: Any) -> None:
    """Any call, any number of times, with or without the record: the versions stay, bit for bit."""
    tracker = shelf(list(range(5)))
    store(database, tracker, cups(list(range(5))))
    converter().convert_all()
    before = stored(HISTORY)
    again = converter()
    again.convert_all()
    again.update(datetime(2000, 1, 1, tzinfo=UTC))
    again.restart()
    assert again.convert(2) == 2
    again.convert_all()
    database[f"{HISTORY}_conversions"].drop()
    assert converter().convert_all().counts.versions == 15
    assert stored(HISTORY) == before


def test_the_source_is_not_changed(database: Any) -> None:
    """Neither its rows, nor the documents, nor any index."""
    tracker = shelf(list(range(5)))
    store(database, tracker, cups(list(range(5))))
    before, indexes = stored("history", "promised_cups"), database["history"].index_information()
    converter().convert_all()
    assert stored("history", "promised_cups") == before
    assert database["history"].index_information() == indexes


def test_an_error_in_the_middle_loses_nothing(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored stays, and the next call goes on."""
    tracker = shelf(list(range(12)))
    store(database, tracker, cups(list(range(12))))
    monkeypatch.setattr(run, "PORTION", 2)
    made = converter()
    original = runtime.store_of
    calls = []

    class Failing:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def append(self, records: Any) -> None:
            calls.append(records)
            if len(calls) == 3:
                raise OSError("the disk is full")
            self.inner.append(records)

    monkeypatch.setattr("django_mongo_history.converter.PORTION", 2)
    monkeypatch.setattr(runtime, "store_of", lambda collection: Failing(original(collection)))
    with pytest.raises(OSError, match="disk is full"):
        made.convert_all()
    assert 0 < sum(rows_of_versions(database).values()) < 36
    assert made.convert_all().counts.documents < 12
    assert_each_row_once(database)
    assert made.status().counts.documents == 12


def test_two_at_once_share_the_work(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document is converted by one of them, and both end when all is done."""
    monkeypatch.setattr("django_mongo_history.converter.PORTION", 3)
    keys = list(range(60))
    store(database, shelf(keys), cups(keys))
    counts: Counter[int] = Counter()
    start = threading.Barrier(3)

    def work(number: int) -> None:
        start.wait()
        while count := converter().convert(3):
            counts[number] += count

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts.values()) == 60
    assert len(counts) > 1
    assert_each_row_once(database)
    assert converter().status().counts.versions == 180


def test_another_takes_fewer_than_were_read(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has left is taken next, by whoever: nothing that was read is lost on the way."""
    keys = list(range(20))
    store(database, shelf(keys), cups(keys))
    take = checkpoint.Checkpoint.take
    others: list[int] = []

    def late(self: Any, *arguments: Any) -> Any:
        if not others:
            others.append(2)
            assert converter().convert(2) == 2
        return take(self, *arguments)

    monkeypatch.setattr(checkpoint.Checkpoint, "take", late)
    assert converter().convert_all().counts.documents == 18
    assert_each_row_once(database)
    assert converter().verify().is_ok


def test_a_lease_of_somebody_who_is_gone_is_taken_over(database: Any) -> None:
    """Of this machine at once; of another one after its time."""
    keys = list(range(6))
    store(database, shelf(keys), cups(keys))
    first = converter()
    first.convert(2)
    database[f"{HISTORY}_conversions"].update_one(
        {},
        {
            "$push": {
                "pass.leases": {
                    "id": ObjectId(),
                    "above": {"key": 1},
                    "upto": {"key": 3},
                    "owner": {"id": ObjectId(), "host": "elsewhere", "pid": 1, "started": ""},
                    "until": datetime.now(UTC) + timedelta(seconds=1),
                }
            },
            "$set": {"pass.upto": {"key": 3}},
            "$inc": {"revision": 1},
        },
    )
    began = time.monotonic()
    assert first.convert_all().counts.documents == 4
    assert time.monotonic() - began >= 0.5
    assert_each_row_once(database)


# -- a live system ------------------------------------------------------------------------------------------------------


def test_converted_versions_come_before_live_ones(database: Any) -> None:
    """Whichever were first, and their last state is what the first live version begins with."""
    keys = list(range(3))
    store(database, shelf(keys), cups(keys))
    PromisedCup.objects(pk__in=keys).update(name="live")
    converter().convert_all()
    PromisedCup.objects(pk__in=keys).update(name="later")
    for key in keys:
        versions = list(history_of(PromisedCup, key))
        assert [v["name"] for v in versions] == ["0", "1", "2", "3", "live", "later"]
        assert [str(v.operation) for v in versions] == ["baseline"] + ["update"] * 5
    assert converter().verify().is_ok


def test_rows_of_the_very_second_of_a_live_version(database: Any) -> None:
    """Cluster times have whole seconds; the old row came first all the same."""
    keys = list(range(3))
    tracker = shelf(keys, saves=2)
    store(database, tracker, cups(keys, saves=2))
    now = datetime.now(UTC)
    database["history"].update_many({}, [{"$set": {"created_at": now}}])
    PromisedCup.objects(pk__in=keys).update(name="live")
    converter().convert_all()
    assert [names_of(key) for key in keys] == [["0", "1", "2", "live"]] * 3
    assert converter().verify().is_ok


def test_a_live_baseline_is_there_already(database: Any) -> None:
    """Converted versions stand before it, a row that was stored a moment after it, too."""
    keys = list(range(3))
    tracker = shelf(keys)
    store(database, tracker, cups(keys))
    baseline.write_baselines(runtime.sources().of_class(PromisedCup))
    late = datetime.now(UTC) + timedelta(milliseconds=5)
    for row in list(database["history"].find())[2::3]:
        database["history"].update_one({"_id": row["_id"]}, {"$set": {"created_at": late}})
    converter().convert_all()
    for key in keys:
        versions = list(history_of(PromisedCup, key))
        assert [v["name"] for v in versions] == ["0", "1", "2", "3", "3"]
        assert str(versions[-1].operation) == "baseline"
    assert converter().verify().is_ok


def test_what_a_live_version_tells_is_not_told_twice(database: Any) -> None:
    """Both trackers were at work: rows of writes that were seen live make no versions."""
    keys = list(range(3))
    tracker = shelf(keys)
    store(database, tracker, cups(keys))
    for key in keys:
        cup = PromisedCup.objects.get(pk=key)
        cup.name = "both"
        cup.save()
        tracker.now = datetime.now(UTC)
        database["history"].insert_one(tracker._row(("change", ["name"], ("3", "both")), key, None))
    made = converter()
    report = made.convert_all()
    assert report.counts.told == 3
    assert [names_of(key) for key in keys] == [["0", "1", "2", "3", "both"]] * 3
    assert made.verify().is_ok
    assert made.convert_all().new_versions == 0


def test_rows_fill_the_gap_between_live_versions(database: Any) -> None:
    """An old process wrote between two writes that were seen live: its row is the version that was missing there."""
    keys = list(range(3))
    tracker = shelf(keys)
    store(database, tracker, cups(keys))
    for key in keys:
        PromisedCup.objects(pk=key).update(name="live 1")
        time.sleep(0.002)
        tracker.now = datetime.now(UTC)
        database["promised_cups"].update_one({"_id": key}, {"$set": {"name": "old"}})
        database["history"].insert_one(tracker._row(("change", ["name"], ("live 1", "old")), key, None))
        time.sleep(0.002)
        PromisedCup.objects(pk=key).update(name="live 2")
    report = converter().convert_all()
    assert report.counts.gaps == 0
    for key in keys:
        versions = list(history_of(PromisedCup, key))
        assert [v["name"] for v in versions] == ["0", "1", "2", "3", "live 1", "old", "live 2"]
        assert "external" not in [str(v.operation) for v in versions]
    assert converter().verify().is_ok


def test_between_two_gaps_states_are_known(database: Any) -> None:
    """Rows on both sides of which somebody wrote past the old tracker keep their state whole."""
    keys = list(range(3))
    tracker = OldTracker("promised_cups")
    for key in keys:
        states = [
            {"_id": key, "name": name, "number": 0} for name in ("a", "b", "past", "c", "past again", "d")
        ]
        tracker.begin(states[0])
        for number in (0, 2, 4):
            tracker.save(states[number], states[number + 1])
    store(database, tracker, [{"_id": key, "name": "now", "number": 0} for key in keys])
    assert converter().convert_all().counts.gaps == 9
    assert [names_of(key) for key in keys] == [["a", "b", "past", "c", "past again", "d", "now"]] * 3


def test_rows_between_live_versions_of_one_second(database: Any) -> None:
    """They stand where they belong, whatever else was written past both: no time goes back."""
    keys = list(range(3))
    store(database, shelf(keys), cups(keys))
    tracker = OldTracker("promised_cups")
    for key in keys:
        for number in range(3):
            PromisedCup.objects(pk=key).update(name=f"live {number}")
            time.sleep(0.002)
            tracker.now = datetime.now(UTC)
            database["promised_cups"].update_one({"_id": key}, {"$set": {"name": f"old {number}"}})
            row = tracker._row(("change", ["name"], (f"live {number}", f"old {number}")), key, None)
            database["history"].insert_one(row)
            database["promised_cups"].update_one({"_id": key}, {"$set": {"name": f"past {number}"}})
            time.sleep(0.002)
        PromisedCup.objects(pk=key).update(name="last")
    converter().convert_all()
    for key in keys:
        names = [
            name for number in range(3) for name in (f"live {number}", f"old {number}", f"past {number}")
        ]
        assert names_of(key) == ["0", "1", "2", "3", *names, "last"]
    report = converter().verify()
    assert [one.reason for one in report.differences if "time" in one.reason] == []


def test_live_writers_and_old_writers_during_the_run(  # noqa: C901 - two writers and a converter
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents are written, made and deleted while it runs, by both: in the end every row is in one place, and no link is missing."""
    monkeypatch.setattr("django_mongo_history.converter.PORTION", 5)
    keys = list(range(60))
    tracker = shelf(keys)
    store(database, tracker, cups(keys))
    ended = threading.Event()
    lock = threading.Lock()

    def live(seed: int) -> None:
        chance = random.Random(seed)
        while not ended.is_set():
            key = chance.randrange(20)
            with lock:
                PromisedCup.objects(pk=key).update(name=f"live {chance.random()}")
            if chance.random() < 0.1:
                PromisedCup(key=f"new {chance.random()}", name="new").save()
            if chance.random() < 0.05:
                PromisedCup.objects(pk=chance.randrange(20, 30)).delete()
            time.sleep(0.002)

    def old(seed: int) -> None:
        chance = random.Random(seed)
        while not ended.is_set():
            key = chance.randrange(30, 60)
            name = f"old {chance.random()}"
            # Both at once: how long after a document its row may come is for the test below.
            with database.client.start_session() as session, session.start_transaction():
                found = database["promised_cups"].find_one_and_update(
                    {"_id": key}, {"$set": {"name": name}}, session=session
                )
                tracker.now = datetime.now(UTC)
                row = tracker._row(("change", ["name"], (found["name"], name)), key, None)
                database["history"].insert_one(row, session=session)
            time.sleep(0.002)

    threads = [threading.Thread(target=live, args=(1,)), threading.Thread(target=old, args=(2,))]
    for thread in threads:
        thread.start()
    made = converter()
    while made.convert(7) and made.status().state != "done":
        pass
    ended.set()
    for thread in threads:
        thread.join()
    made.update()
    for key in keys:
        operations = [str(version.operation) for version in history_of(PromisedCup, key)]
        assert "external" not in operations, (key, operations)
    assert made.status().counts.gaps == 0
    assert_each_row_once(database)
    assert made.verify().is_ok


def test_a_row_that_comes_after_its_document_was_read(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old tracker stores it a moment later: the document is looked at once more, and the write is no gap."""
    keys = list(range(3))
    tracker = shelf(keys)
    store(database, tracker, cups(keys))
    database["promised_cups"].update_one({"_id": 1}, {"$set": {"name": "just now"}})
    tracker.now = datetime.now(UTC)
    late = tracker._row(("change", ["name"], ("3", "just now")), 1, None)
    make = engine.Engine.convert

    def convert(self: Any, entity: Any) -> Any:
        made = make(self, entity)
        database["history"].update_one({"_id": late["_id"]}, {"$setOnInsert": late}, upsert=True)
        return made

    monkeypatch.setattr(engine.Engine, "convert", convert)
    assert converter().convert_all().counts.gaps == 0
    assert names_of(1) == ["0", "1", "2", "3", "just now"]
    assert_each_row_once(database)
    assert converter().verify().is_ok


def test_a_document_that_changes_while_it_is_read(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the old system, with its row: both states are in the history."""
    keys = list(range(3))
    tracker = shelf(keys)
    store(database, tracker, cups(keys))
    make = engine.Engine.convert
    written: list[int] = []

    def convert(self: Any, entity: Any) -> Any:
        made = make(self, entity)
        if entity.id == 1 and not written:
            written.append(1)
            database["promised_cups"].update_one({"_id": 1}, {"$set": {"name": "meanwhile"}})
            tracker.now = datetime.now(UTC)
            database["history"].insert_one(tracker._row(("change", ["name"], ("3", "meanwhile")), 1, None))
        return made

    monkeypatch.setattr(engine.Engine, "convert", convert)
    report = converter().convert_all()
    assert (report.counts.gaps, report.counts.documents, report.counts.versions) == (0, 3, 10)
    assert names_of(1) == ["0", "1", "2", "3", "meanwhile"]
    assert_each_row_once(database)


def test_catching_up_too_early_and_too_late(database: Any) -> None:
    """Too early repeats nothing, too late skips nothing: it is known how far the pass before has come."""
    keys = list(range(4))
    tracker = shelf(keys)
    store(database, tracker, cups(keys))
    made = converter()
    made.convert_all()
    for number, moment in enumerate(
        [datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1), None]
    ):
        tracker.now = datetime.now(UTC)
        name = f"more {number}"
        for key in keys[:2]:
            old = database["promised_cups"].find_one_and_update({"_id": key}, {"$set": {"name": name}})
            database["history"].insert_one(tracker._row(("change", ["name"], (old["name"], name)), key, None))
        assert made.update(moment) == 2
        assert made.update(moment) == 0
    assert names_of(0) == ["0", "1", "2", "3", "more 0", "more 1", "more 2"]
    assert names_of(3) == ["0", "1", "2", "3"]
    assert_each_row_once(database)


def test_rows_that_came_with_a_delay_join_what_is_there(database: Any) -> None:
    """Half of the rows of a save were there when it was converted: the others make a version of their own, and nothing twice."""
    tracker = OldTracker("promised_cups")
    first = {"_id": 1, "name": "a", "number": 1}
    tracker.begin(first)
    tracker.now = datetime.now(UTC)
    tracker.save(first, {"_id": 1, "name": "b", "number": 2})
    held = tracker.rows.pop()
    store(database, tracker, last_states(tracker))
    made = converter()
    made.convert_all()
    database["history"].insert_one(held)
    assert made.update() == 1
    assert_each_row_once(database)
    assert [(v["name"], v["number"]) for v in history_of(PromisedCup, 1)][-1] == ("b", 2)


# -- one collection, several classes ------------------------------------------------------------------------------------


def test_a_class_and_those_below_it(mongodb: Any) -> None:
    """A base brings its subclasses along, once; a subclass alone leaves the others."""
    tracker = OldTracker("promised_mugs")
    ids = [ObjectId() for _ in range(4)]
    classes = ["PromisedMug", "PromisedMug.PromisedSteinMug"] * 2
    for document_id, name in zip(ids, classes, strict=True):
        first = {"_id": document_id, "_cls": name, "name": "a"}
        tracker.begin(first)
        tracker.save(first, {**first, "name": "b"})
    store(mongodb, tracker, last_states(tracker))
    with configured(), tracking(PromisedSteinMug):
        report = HistoryConverter(
            PromisedSteinMug, "mongoengine-history", source_timezone="UTC"
        ).convert_all()
        assert (report.counts.documents, report.counts.skipped) == (2, 2)
    with configured(), tracking(PromisedMug), tracking(PromisedSteinMug, hidden=["litres"]):
        HistoryConverter(PromisedMug, "mongoengine-history", source_timezone="UTC").convert_all()
        found = {row["document_id"]: row["document_class"] for row in mongodb[HISTORY].find()}
        assert mongodb[HISTORY].count_documents({}) == 4
        assert found == dict(zip(ids, classes, strict=True))


def test_a_subclass_alone_has_its_deleted_documents(mongodb: Any) -> None:
    """Where the base is not tracked nobody else would take them."""
    tracker = OldTracker("promised_mugs")
    first = {"_id": ObjectId(), "_cls": "PromisedMug.PromisedSteinMug", "name": "a"}
    tracker.begin(first)
    tracker.save(first, {**first, "name": "b"})
    store(mongodb, tracker, [])
    with configured(), tracking(PromisedSteinMug):
        made = HistoryConverter(PromisedSteinMug, "mongoengine-history", source_timezone="UTC")
        assert made.convert_all().counts.versions == 1
        assert len(list(history_of(PromisedSteinMug).versions())) == 1


# -- what is refused ------------------------------------------------------------------------------------------------------


def test_other_options_are_refused_until_it_is_begun_anew(database: Any) -> None:
    """Both are shown; beginning anew takes out what the former options made."""
    store(database, shelf([1]), cups([1]))
    converter().convert_all()
    other = HistoryConverter(PromisedCup, "mongoengine-history", source_timezone="Asia/Tokyo")
    for call in (other.convert_all, other.update, other.plan, other.verify, lambda: other.convert(1)):
        with pytest.raises(ConversionError) as error:
            call()
        assert '"source_timezone": "UTC"' in str(error.value)
        assert '"source_timezone": "Asia/Tokyo"' in str(error.value)
        assert "--restart" in str(error.value)
    other.restart()
    other.convert_all()
    assert_each_row_once(database)
    assert history_of(PromisedCup, 1)[1].at == datetime(2024, 3, 1, 3, 1, tzinfo=UTC)


def test_other_rows_are_refused_while_those_are_unfinished(database: Any) -> None:
    """A slip in the name of a collection does not begin a second conversion beside the first."""
    keys = [1, 2, 3]
    store(database, shelf(keys), cups(keys))
    database["history_2"].insert_many(list(database["history"].find()))
    converter().convert(1)
    with pytest.raises(ConversionError) as error:
        converter(collection="history_2").convert(1)
    assert f"{database.name}.history is not finished" in str(error.value)
    assert f"{database.name}.history_2" in str(error.value)
    assert "--restart" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("no-such-source", {}), "no known format"),
        (("mongoengine-history", {"colection": "x"}), "Did you mean --collection"),
        (("mongoengine-history", {"source_timezone": "Mars/Olympus"}), "a time zone that exists"),
        (("mongoengine-history", {"collection": "not_there"}), "no collection not_there"),
        (("mongoengine-history", {"collection": "empty"}), "holds no rows"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(database: Any, arguments: Any, error: str) -> None:
    """With what is wrong and what there is."""
    store(database, shelf([1]), cups([1]))
    database.create_collection("empty")
    before = stored()
    with pytest.raises(ConversionError, match=error):
        HistoryConverter(PromisedCup, arguments[0], **arguments[1]).convert_all()
    assert stored() == before
    assert f"{HISTORY}_conversions" not in database.list_collection_names()


def test_a_class_that_is_not_tracked_is_refused(mongodb: Any) -> None:
    """As everywhere."""
    with configured(), pytest.raises(NotTrackedError):
        HistoryConverter(PromisedCup, "mongoengine-history")
    with configured(), pytest.raises(TypeError, match="document class"):
        HistoryConverter(str, "mongoengine-history")


def test_no_limit_but_a_whole_number(database: Any) -> None:
    """From 1."""
    store(database, shelf([1]), cups([1]))
    for wrong in (0, -1, 1.5, True, "3"):
        with pytest.raises(ConversionError, match="whole number"):
            converter().convert(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConversionError, match="aware"):
        converter().update(datetime(2020, 1, 1))  # noqa: DTZ001


def test_readers_of_histories_never_see_the_record(database: Any) -> None:
    """It lies in a collection of its own."""
    store(database, shelf([1]), cups([1]))
    converter().convert_all()
    assert len(list(history_of(PromisedCup).versions())) == 3
    assert record.SUFFIX == "_conversions"
    assert database[f"{HISTORY}{record.SUFFIX}"].count_documents({}) == 1


def test_a_converted_version_says_where_it_comes_from(database: Any) -> None:
    """Format, place and rows; live versions say nothing."""
    store(database, shelf([1], saves=1), cups([1], saves=1))
    converter().convert_all()
    PromisedCup.objects(pk=1).update(name="live")
    _baseline, converted, live = history_of(PromisedCup, 1)
    assert converted.source["format"] == "mongoengine-history"
    assert converted.source["place"] == f"{database.name}.history"
    assert [type(row) for row in converted.source["rows"]] == [ObjectId]
    assert live.source is None
    assert values.same(converted.state["_id"], 1)


def test_what_was_converted_can_be_reverted(database: Any) -> None:
    """Converted versions are versions."""
    keys = [1, 2, 3]
    store(database, shelf(keys), cups(keys))
    converter().convert_all()
    for key in keys:
        history_of(PromisedCup, key)[1].revert()
    assert [PromisedCup.objects.get(pk=key).name for key in keys] == ["1"] * 3


def test_on_a_server_without_transactions(standalone_mongodb: Any) -> None:
    """The same."""
    with configured(), tracking(PromisedCup):
        keys = list(range(3))
        store(standalone_mongodb, shelf(keys), cups(keys))
        PromisedCup.objects(pk__in=keys).update(name="live")
        assert converter().convert_all().counts.versions == 9
        assert [names_of(key) for key in keys] == [["0", "1", "2", "3", "live"]] * 3
        assert converter().verify().is_ok


def test_on_mongomock() -> None:
    """For users' own tests of what they convert."""
    mongoengine.connect("mocked", mongo_client_class=mongomock.MongoClient, uuidRepresentation="standard")
    try:
        with configured(), tracking(PromisedCup):
            keys = list(range(5))
            store(mongoengine.get_db(), shelf(keys), cups(keys))
            made = converter()
            assert [made.convert(2), made.convert(2), made.convert(2), made.convert(2)] == [2, 2, 1, 0]
            assert [names_of(key) for key in keys] == [list("0123")] * 5
            assert made.verify().is_ok
    finally:
        mongoengine.disconnect()


@NEEDS_BIND
def test_not_inside_of_a_transaction(database: Any) -> None:
    """Versions would be stored outside of it."""
    store(database, shelf([1]), cups([1]))
    with (
        database.client.start_session() as session,
        session.bind(),
        session.start_transaction(),
        pytest.raises(ConversionError, match="inside of a transaction"),
    ):
        converter().convert_all()


def test_times_of_any_year(database: Any) -> None:
    """Before there were clocks that count from 1970, too."""
    keys = list(range(3))
    tracker = shelf(keys)
    store(database, tracker, cups(keys))
    database["history"].update_many(
        {"document_id": 0}, [{"$set": {"created_at": datetime(1901, 1, 1, tzinfo=UTC)}}]
    )
    database["history"].update_many(
        {"document_id": 1}, [{"$set": {"created_at": datetime(2300, 1, 1, tzinfo=UTC)}}]
    )
    converter().convert_all()
    assert [names_of(key) for key in keys] == [list("0123")] * 3
    assert history_of(PromisedCup, 0)[1].at == datetime(1901, 1, 1, tzinfo=UTC)


def test_tracked_later_than_converted(mongodb: Any) -> None:
    """Converting needs a tracked class; tracking it in code does."""
    with configured():
        track(PromisedCup)
        try:
            store(mongodb, shelf([1]), cups([1]))
            assert converter().convert_all().counts.versions == 3
        finally:
            from django_mongo_history import untrack

            untrack(PromisedCup)
