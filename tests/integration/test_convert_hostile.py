"""Sources that are odd on purpose: no row of theirs is lost without a word, and no value that is hidden comes along."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from bson.timestamp import Timestamp
from django.test import override_settings
from mongoengine import fields

from django_mongo_history import HistoryConverter, history_of
from tests.judge import HISTORY, configured, tracking
from tests.old_histories import OldTracker, store


class HostileJug(mongoengine.Document):
    """With keys of any type."""

    key = fields.DynamicField(primary_key=True)
    name = fields.StringField()
    secret = fields.StringField()
    meta = {"collection": "hostile_jugs", "strict": False}


@pytest.fixture
def database(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(HostileJug):
        yield mongodb


def converter() -> HistoryConverter:
    return HistoryConverter(HostileJug, "mongoengine-history", source_timezone="UTC")


def renamed_once(database: Any, keys: list[Any], field: str = "name") -> OldTracker:
    """A jug for each key, saved once."""
    tracker = OldTracker("hostile_jugs")
    for key in keys:
        tracker.now += tracker.pause
        tracker.rows.append(tracker._row(("change", [field], ("old", "new")), key, None))
    store(database, tracker, [{"_id": key, field: "new"} for key in keys if not isinstance(key, list)])
    return tracker


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_collection_that_sorts_texts_in_its_own_way(database: Any, limit: int) -> None:
    """Its order is not that of the keys' bytes, by which runs know how far they are."""
    keys = ["a", "B", "c", "D", "b", "A"]
    database.create_collection("history", collation={"locale": "en", "strength": 2})
    renamed_once(database, keys)
    made = converter()
    assert sum(iter(lambda: made.convert(limit), 0)) == len(keys)
    assert [len(history_of(HostileJug, key)) for key in keys] == [2] * len(keys)
    assert made.verify().is_ok


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_row_whose_key_is_a_list_stops_nobody(database: Any, limit: int) -> None:
    """MongoDB sorts lists among their items, and no document has one as its key: such rows are bad."""
    keys = ["a", ["b"], "c", ObjectId(), 5]
    tracker = renamed_once(database, keys)
    made = converter()
    bad: list[Any] = []
    while made.convert(limit):
        bad.extend(made.last_report.bad)
    assert [len(history_of(HostileJug, key)) for key in keys if key != ["b"]] == [2] * 4
    assert [one.row for one in bad][:1] == [tracker.rows[1]["_id"]]
    assert made.verify().is_ok


def test_old_names_of_hidden_fields_hide_too(mongodb: Any) -> None:
    """Rows call a field as it was called then; `renamed` says what that is today."""
    entry = {
        "document": f"{HostileJug.__module__}.HostileJug",
        "hidden": ["secret"],
        "renamed": {"pin": "secret", "title": "name"},
    }
    with override_settings(MONGO_HISTORY={}, TRACKED_DOCUMENTS=[entry]):
        tracker = OldTracker("hostile_jugs")
        for key in (1, 2, 3):
            tracker.now += tracker.pause
            tracker.rows.append(tracker._row(("change", ["pin"], ("SECRET-1", "SECRET-2")), key, None))
            tracker.rows.append(tracker._row(("add", [], [("pin", "SECRET-0")]), key, None))
            tracker.now += tracker.pause
            tracker.rows.append(tracker._row(("change", ["title"], ("a", "b")), key, None))
        store(mongodb, tracker, [{"_id": key, "name": "b", "secret": "SECRET-2"} for key in (1, 2, 3)])
        made = converter()
        report = made.convert_all()
        assert "SECRET" not in str(list(mongodb[HISTORY].find())) + str(report)
        assert [version["name"] for version in history_of(HostileJug, 2)][-2:] == ["a", "b"]
        assert made.verify().is_ok


def test_a_live_version_of_long_ago_does_not_tell_what_was_done_again(database: Any) -> None:
    """A value came back, by a write that went past the tracker: its row fills the gap, and is not that of the first time."""
    tracker = OldTracker("hostile_jugs")
    for key in (1, 2, 3):
        database["hostile_jugs"].insert_one({"_id": key, "name": "a"})
        HostileJug.objects(pk=key).update(name="b")
        HostileJug.objects(pk=key).update(name="a")
    for version in list(database[HISTORY].find()):
        moved = {
            "at": version["at"] - timedelta(hours=1),
            "order": Timestamp(version["order"].time - 3600, version["order"].inc),
        }
        database[HISTORY].update_one({"_id": version["_id"]}, {"$set": moved})
    for key in (1, 2, 3):
        tracker.now = datetime.now(UTC) - timedelta(minutes=1)
        database["hostile_jugs"].update_one({"_id": key}, {"$set": {"name": "b"}})
        database["history"].insert_one(tracker._row(("change", ["name"], ("a", "b")), key, "old"))
        HostileJug.objects(pk=key).update(name="c")
    report = converter().convert_all()
    assert (report.counts.told, report.new_versions) == (0, 3)
    for key in (1, 2, 3):
        versions = list(history_of(HostileJug, key))
        assert [version["name"] for version in versions] == ["a", "b", "a", "b", "c"]
        assert str(versions[3].user) == "old"
    assert converter().verify().is_ok
