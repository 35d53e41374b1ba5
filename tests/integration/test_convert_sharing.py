"""Conversions that meet: classes of one collection with other options, ranges that another has left, versions on their way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from mongoengine import fields

from django_mongo_history import ConversionError, HistoryConverter, history_of
from django_mongo_history.conversion.engine import Engine
from tests.commanding import run, stored
from tests.judge import HISTORY, configured, tracking
from tests.old_histories import OldTracker, last_states, store


class SharedBowl(mongoengine.Document):
    """With classes below it, in one collection."""

    name = fields.StringField()
    meta = {"collection": "shared_bowls", "allow_inheritance": True}


class SharedDeepBowl(SharedBowl):
    """Below."""


class SharedFlatBowl(SharedBowl):
    """Beside it."""


class SharedDish(mongoengine.Document):
    """By itself."""

    key = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "shared_dishes"}


CLASSES = (SharedBowl, SharedDeepBowl, SharedFlatBowl)


@pytest.fixture
def bowls(mongodb: Any) -> Iterator[Any]:
    """One of each class, with two old rows each."""
    tracker = OldTracker("shared_bowls")
    for document_class in CLASSES:
        first = {"_id": ObjectId(), "_cls": document_class._class_name, "name": "a"}
        tracker.begin(first)
        tracker.save(first, {**first, "name": "b"})
        tracker.save({**first, "name": "b"}, {**first, "name": "c"})
    store(mongodb, tracker, last_states(tracker))
    with configured(), tracking(*CLASSES):
        yield mongodb


def converter(document_class: type, zone: str = "UTC") -> HistoryConverter:
    return HistoryConverter(document_class, "mongoengine-history", source_timezone=zone)


def zones(database: Any) -> dict[str, set[int]]:
    """By class, the hours at which its versions are."""
    found: dict[str, set[int]] = {}
    for row in database[HISTORY].find():
        found.setdefault(row["document_class"].rpartition(".")[2], set()).add(row["at"].hour)
    return found


UTC_HOUR, TOKYO_HOUR = 12, 3


def test_a_class_below_is_not_begun_anew_with_other_options(bowls: Any) -> None:
    """Its versions are those of the conversion of its base: refused with both options, by every call, and nothing is lost."""
    converter(SharedBowl).convert_all()
    before, record = stored(HISTORY), list(bowls[f"{HISTORY}_conversions"].find())
    other = converter(SharedDeepBowl, "Asia/Tokyo")
    for call in (other.restart, other.convert_all, other.update, other.plan, other.verify):
        with pytest.raises(ConversionError) as error:
            call()
        assert '"source_timezone": "UTC"' in str(error.value)
        assert '"source_timezone": "Asia/Tokyo"' in str(error.value)
        assert "--restart with the class SharedBowl" in str(error.value)
    said = run("history_convert", "mongoengine-history", "--document", f"{__name__}.SharedDeepBowl",
               "--source-timezone", "Asia/Tokyo", "--restart", "--no-input")  # fmt: skip
    assert "--restart with the class SharedBowl" in str(said.error)
    assert stored(HISTORY) == before
    assert list(bowls[f"{HISTORY}_conversions"].find()) == record


def test_a_class_below_may_go_on_with_the_same_options(bowls: Any) -> None:
    """Then there is nothing to be refused, and nothing is made twice."""
    converter(SharedBowl).convert_all()
    before = stored(HISTORY)
    below = converter(SharedDeepBowl)
    below.restart()
    assert below.convert_all().new_versions == 0
    assert below.verify().is_ok
    assert stored(HISTORY) == before


def test_to_begin_anew_touches_the_own_versions_only(bowls: Any) -> None:
    """Classes beside it were converted by themselves: theirs stay as they are."""
    converter(SharedDeepBowl).convert_all()
    converter(SharedFlatBowl).convert_all()
    assert zones(bowls) == {"SharedDeepBowl": {UTC_HOUR}, "SharedFlatBowl": {UTC_HOUR}}
    other = converter(SharedDeepBowl, "Asia/Tokyo")
    other.restart()
    assert zones(bowls) == {"SharedFlatBowl": {UTC_HOUR}}
    other.convert_all()
    assert zones(bowls) == {"SharedDeepBowl": {TOKYO_HOUR}, "SharedFlatBowl": {UTC_HOUR}}
    assert other.verify().is_ok
    assert converter(SharedFlatBowl).verify().is_ok


def test_a_base_takes_what_was_converted_below_it_along(bowls: Any) -> None:
    """With the same options at once; with others not before it is begun anew, and then all of it is."""
    converter(SharedDeepBowl, "Asia/Tokyo").convert_all()
    base = converter(SharedBowl)
    with pytest.raises(ConversionError, match=r"SharedDeepBowl from .* was begun with .*Asia/Tokyo"):
        base.convert_all()
    base.restart()
    base.convert_all()
    assert zones(bowls) == {one.__name__: {UTC_HOUR} for one in CLASSES}
    assert base.verify().is_ok
    assert converter(SharedDeepBowl).verify().is_ok


# -- ranges that another has left ----------------------------------------------------------------------------------------


@pytest.fixture
def dishes(mongodb: Any) -> Iterator[Any]:
    tracker = OldTracker("shared_dishes")
    for key in range(12):
        first = {"_id": key, "name": "a"}
        tracker.begin(first)
        tracker.save(first, {**first, "name": "b"})
    store(mongodb, tracker, last_states(tracker))
    with configured(), tracking(SharedDish):
        yield mongodb


def names_of(key: int) -> list[str]:
    return [version["name"] for version in history_of(SharedDish, key)]


@pytest.mark.parametrize("limit", [1, 2, 5, 9])
def test_what_is_taken_over_keeps_to_the_limit(dishes: Any, limit: int) -> None:
    """A large portion that somebody has left is converted in chunks of the size that is asked for."""
    made = converter(SharedDish)
    assert made.convert(1) == 1
    dishes[f"{HISTORY}_conversions"].update_one(
        {},
        {
            "$push": {
                "pass.leases": {
                    "id": ObjectId(),
                    "above": {"key": 0},
                    "upto": {"key": 9},
                    "owner": {"id": ObjectId(), "host": "elsewhere", "pid": 1, "started": ""},
                    "until": datetime.now(UTC) - timedelta(seconds=1),
                }
            },
            "$set": {"pass.upto": {"key": 9}},
            "$inc": {"revision": 1},
        },
    )
    counts = []
    while count := made.convert(limit):
        counts.append(count)
    assert max(counts) <= limit
    assert sum(counts) == 11
    assert made.status().counts.documents == 12
    assert [names_of(key) for key in range(12)] == [["a", "b"]] * 12
    rows = Counter(row for version in dishes[HISTORY].find() for row in version["source"]["rows"])
    assert set(rows.values()) == {1}
    assert made.verify().is_ok


# -- versions on their way -------------------------------------------------------------------------------------------------


def late_versions(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the versions of live writes come when documents and versions were read once already."""
    held = list(database[HISTORY].find())
    database[HISTORY].delete_many({})
    make = Engine.convert

    def convert(self: Any, entity: Any) -> Any:
        made = make(self, entity)
        if held:
            database[HISTORY].insert_many(held)
            held.clear()
        return made

    monkeypatch.setattr(Engine, "convert", convert)


def check_late_versions(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in range(3):
        SharedDish.objects(pk=key).update(name="live")
    late_versions(database, monkeypatch)
    report = converter(SharedDish).convert_all()
    assert report.counts.gaps == 0
    assert [names_of(key) for key in range(3)] == [["a", "b", "live"]] * 3
    assert [str(one.operation) for one in history_of(SharedDish, 0)] == ["baseline", "update", "update"]
    assert converter(SharedDish).verify().is_ok


def test_a_version_that_comes_after_its_document_was_read(
    dishes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for once more, as rows are: the write is no gap."""
    check_late_versions(dishes, monkeypatch)


def test_the_same_on_a_server_without_transactions(
    standalone_mongodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where versions follow their documents always."""
    tracker = OldTracker("shared_dishes")
    for key in range(3):
        tracker.begin({"_id": key, "name": "a"})
        tracker.save({"_id": key, "name": "a"}, {"_id": key, "name": "b"})
    store(standalone_mongodb, tracker, last_states(tracker))
    with configured(), tracking(SharedDish):
        check_late_versions(standalone_mongodb, monkeypatch)
