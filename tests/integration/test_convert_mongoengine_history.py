"""Histories of mongoengine-history, brought along: every state as it was recorded, and what the rows do not say is said."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from bson import ObjectId, json_util
from django.test import override_settings
from mongoengine import fields

from django_mongo_history import BrokenChainError, HistoryConverter, history_of
from django_mongo_history.compat import mongoengine_history as compat
from tests.judge import configured, tracking
from tests.old_histories import OldTracker, last_states, store

AWARE = json_util.JSONOptions(tz_aware=True)
GOLDEN = Path(__file__).parent / "golden_conversions" / "mongoengine_history.json"


class OldLamp(mongoengine.Document):
    """Had its history elsewhere."""

    name = fields.StringField()
    price = fields.FloatField()
    tags = fields.ListField(fields.StringField())
    info = fields.DictField()
    photo = fields.BinaryField()
    password = fields.StringField()
    seen = fields.IntField()
    meta = {"collection": "old_lamps", "strict": False}


class GoldenLamp(mongoengine.Document):
    """That of the golden file."""

    meta = {"collection": "golden_lamps", "strict": False}


class TextLamp(mongoengine.Document):
    """Its keys are texts that look like ids: the old package stored those as ObjectIds."""

    key = fields.StringField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "text_lamps"}


@pytest.fixture
def database(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(OldLamp):
        yield mongodb


def converter(**options: Any) -> HistoryConverter:
    return HistoryConverter(OldLamp, "mongoengine-history", **{"source_timezone": "UTC", **options})


def convert(
    database: Any, tracker: OldTracker, documents: list[Any] | None = None, **options: Any
) -> HistoryConverter:
    store(database, tracker, last_states(tracker) if documents is None else documents)
    made = converter(**options)
    made.convert_all()
    return made


def states(document_id: Any) -> list[Any]:
    return [version.state for version in history_of(OldLamp, document_id)]


def stored(database: Any, **wanted: Any) -> list[dict[str, Any]]:
    return list(database["document_history"].find(wanted).sort([("order", 1), ("_id", 1)]))


def test_golden(mongodb: Any) -> None:
    """Rows of both releases in one collection, a save of several rows as one version, local times, users, keys that came and went."""
    golden = json_util.loads(GOLDEN.read_text(encoding="utf-8"), json_options=AWARE)
    mongodb["golden_lamps"].insert_many(golden["documents"])
    mongodb["history"].insert_many(golden["rows"])
    with configured(), tracking(GoldenLamp):
        made = HistoryConverter(GoldenLamp, "mongoengine-history", **golden["options"])
        report = made.convert_all()
        found = [
            {
                "operation": str(version.operation),
                "at": version.at,
                "user": None if version.user is None else version.user.pk,
                "state": version.state,
            }
            for version in history_of(GoldenLamp, golden["documents"][0]["_id"])
        ]
        assert found == golden["versions"]
        assert (report.counts.rows, report.counts.versions, report.counts.gaps) == (6, 3, 0)
        assert made.verify().is_ok
    assert mongodb["history"].count_documents({}) == 6


@pytest.mark.parametrize("seed", range(6))
def test_random_histories_are_exact(database: Any, seed: int) -> None:
    """Whatever documents did: every state is the recorded copy, with dots and digits in keys, in either spelling."""
    chance = random.Random(seed)
    trackers = [
        OldTracker("old_lamps", "key", "Europe/Paris", process=b"\1\1\1\1\1"),
        OldTracker("old_lamps", "index", "Europe/Paris", process=b"\2\2\2\2\2"),
    ]
    for number in range(30):
        tracker = trackers[number % 2]
        document: dict[str, Any] = {"_id": ObjectId(), "name": "n", "tags": [], "info": {}}
        tracker.begin(document)
        for _ in range(chance.randrange(1, 15)):
            following = _changed(document, chance)
            if following != document:
                tracker.save(document, following, ObjectId() if chance.random() < 0.5 else None)
                document = following
    for tracker in trackers:
        store(database, tracker, last_states(tracker))
    made = converter(source_timezone="Europe/Paris")
    report = made.convert_all()
    assert (report.counts.gaps, report.counts.bad) == (0, 0)
    for tracker in trackers:
        for document_id, recorded in tracker.states.items():
            versions = list(history_of(OldLamp, document_id))
            assert [version.state for version in versions] == [state for _at, state in recorded]
            moments = [version.at for version in versions[1:]]
            assert moments == [_milliseconds(at) for at, _state in recorded[1:]]
    assert made.verify().is_ok


def _milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _changed(document: dict[str, Any], chance: random.Random) -> dict[str, Any]:  # noqa: C901 - a list of cases
    """The document after one to three random changes."""
    changed = deepcopy(document)
    for _ in range(chance.randrange(1, 4)):
        fresh = f"v{chance.randrange(10**9)}"
        kind = chance.randrange(9)
        info = changed["info"]
        if kind == 0:
            changed["name"] = fresh
        elif kind == 1:
            changed["tags"] = [fresh, *changed["tags"]]
        elif kind == 2:
            changed["tags"] = changed["tags"][chance.randrange(3) :]
        elif kind == 3:
            changed["tags"] = [*changed["tags"], fresh, fresh + "x"]
        elif kind == 4:
            info[chance.choice(["a", "a.b", "0", "1.0", "b"])] = fresh
        elif kind == 5 and info:
            del info[chance.choice(sorted(info))]
        elif kind == 6:
            info["deep"] = {"list": [{"k": fresh}, [fresh]], "c.d": {"e": fresh}}
        elif kind == 7 and "deep" in info:
            info["deep"]["list"][0]["k"] = fresh
            info["deep"]["c.d"]["e"] = fresh + "y"
        elif "price" in changed:
            del changed["price"]
        else:
            changed["price"] = chance.random()
    return changed


def three(tracker: OldTracker, *steps: dict[str, Any], identity: Any = None) -> list[ObjectId]:
    """Three documents at once that go through the same states, their saves in turns."""
    ids = [ObjectId() for _ in range(3)]
    documents = {document_id: {"_id": document_id, **steps[0]} for document_id in ids}
    for document in documents.values():
        tracker.begin(document)
    for step in steps[1:]:
        for document_id in ids:
            following = {"_id": document_id, **step}
            tracker.save(documents[document_id], following, identity)
            documents[document_id] = following
    return ids


def test_rows_of_one_save_are_one_version(database: Any) -> None:
    """However many; with the user and the moment of the first of them."""
    tracker, identity = OldTracker("old_lamps"), ObjectId()
    ids = three(
        tracker,
        {"name": "a", "price": 1.0, "tags": ["x"]},
        {"name": "b", "tags": ["x", "y"], "seen": 1, "info": {"k": 1}},
        identity=identity,
    )
    assert len(tracker.rows) == 12
    made = convert(database, tracker, identity_model="auth.user")
    for document_id in ids:
        (version,) = history_of(OldLamp, document_id).versions(operation="update")
        assert (version.user.pk, version.user.model) == (identity, "auth.user")
        assert sorted(change.path[0] for change in version.changes) == [
            "info",
            "name",
            "price",
            "seen",
            "tags",
        ]
    assert made.last_report.counts.versions == 3


def test_saves_of_one_second_stay_apart(database: Any) -> None:
    """Where a path comes again, dictdiffer would have told it in another order, or the user is another."""
    tracker = OldTracker("old_lamps", pause=timedelta(milliseconds=2))
    document_id = ObjectId()
    saves = [
        ({"name": "b"}, None),
        ({"name": "c"}, None),
        ({"name": "c", "price": 1.0}, ObjectId()),
        ({"name": "d", "price": 1.0}, None),
        ({"name": "d", "price": 1.0, "seen": 1}, None),
        ({"name": "e", "price": 1.0, "seen": 1}, None),
    ]
    document = {"_id": document_id, "name": "a"}
    tracker.begin(document)
    for fields_, identity in saves:
        following = {"_id": document_id, **fields_}
        tracker.save(document, following, identity)
        document = following
    tracker.states[document_id].pop(-3)  # a value that changes and one that comes: it may have been one save
    convert(database, tracker)
    assert states(document_id) == [state for _at, state in tracker.states[document_id]]


def test_versions_of_one_millisecond_keep_their_order(database: Any) -> None:
    """The old package replayed those wrongly."""
    tracker = OldTracker("old_lamps", pause=timedelta(0))
    document = {"_id": ObjectId(), "name": "0"}
    tracker.begin(document)
    for number in range(1, 6):
        following = {**document, "name": str(number)}
        tracker.save(document, following)
        tracker.now = datetime(2024, 3, 1, 12, tzinfo=UTC)
        document = following
    assert len({row["created_at"] for row in tracker.rows}) == 1
    convert(database, tracker)
    assert [state["name"] for state in states(document["_id"])] == list("012345")


def test_two_saves_of_one_block_are_a_chain(database: Any) -> None:
    """The old package told both against the state in which the block began: 1 to 2, 1 to 3."""
    tracker = OldTracker("old_lamps")
    first = {"_id": ObjectId(), "name": "1", "tags": ["a"]}
    second, third = (
        {**first, "name": "2", "tags": ["a", "b"]},
        {**first, "name": "3", "tags": ["a", "b", "c"]},
    )
    tracker.begin(first)
    tracker.save(first, second)
    tracker.save(first, third)
    made = convert(database, tracker)
    assert states(first["_id"]) == [first, second, third]
    assert made.last_report.counts.gaps == 0


def test_a_write_past_the_tracker_is_a_gap_and_not_a_guess(database: Any) -> None:
    """The row is right about its own time; its version says so and keeps the row, and readers show what came between."""
    tracker = OldTracker("old_lamps")
    ids = [ObjectId() for _ in range(3)]
    for document_id in ids:
        first = {"_id": document_id, "name": "A", "price": 1.0}
        second, past = {**first, "name": "B"}, {**first, "name": "C"}
        tracker.begin(first)
        tracker.save(first, second)
        tracker.untracked(past)
        tracker.save(past, {**past, "price": 2.0})
    made = convert(database, tracker)
    assert made.last_report.counts.gaps == 3
    for document_id in ids:
        history = history_of(OldLamp, document_id)
        assert [str(v.operation) for v in history] == ["baseline", "update", "external", "update"]
        assert [v.state for v in history] == [state for _at, state in tracker.states[document_id]]
    rows = stored(database, **{"source.gap": {"$exists": True}})
    assert {row["document_id"] for row in rows} == set(ids)
    assert rows[0]["source"]["raw"][0]["data"] == {"old": "A", "new": "B"}
    assert [str(v.operation) for v in history_of(OldLamp, ids[0]) if v.source and "gap" in v.source] == [
        "update"
    ]


def test_a_row_that_fits_nowhere_is_kept_and_said(database: Any) -> None:
    """No state is made up of it."""
    tracker = OldTracker("old_lamps")
    first = {"_id": ObjectId(), "name": "A", "tags": ["a", "b", "c", "d"]}
    second = {**first, "tags": ["a", "b", "c", "D"]}
    tracker.begin(first)
    tracker.save(first, second)
    convert(database, tracker, [{**first, "tags": ["a"]}])
    (row,) = stored(database)
    assert "does not fit" in row["source"]["gap"]
    assert row["source"]["raw"][0]["path"] == "tags.3"
    assert [state["tags"] for state in states(first["_id"])] == [["a"], ["a"]]


def test_of_a_document_that_is_gone_the_changes_are_known(database: Any) -> None:
    """Nothing says what it was, so no state is shown; who changed what, and when, is."""
    tracker, identity = OldTracker("old_lamps"), ObjectId()
    ids = three(tracker, {"name": "a"}, {"name": "b"}, {"name": "c", "tags": ["x"]}, identity=identity)
    made = convert(database, tracker, [])
    assert made.last_report.counts.gaps == 6
    for document_id in ids:
        versions = [v for v in history_of(OldLamp, document_id) if not v.is_derived]
        assert [(c.path, c.old, c.new) for c in versions[0].changes] == [(("name",), "a", "b")]
        assert versions[1].user.pk == identity
        with pytest.raises(BrokenChainError):
            _ = versions[0].state
    assert made.verify().is_ok


def test_a_document_that_was_tracked_before_its_first_save_is_created(database: Any) -> None:
    """Its rows tell of every key, and of nothing before."""
    tracker = OldTracker("old_lamps")
    document_id = ObjectId()
    made = {"_id": document_id, "name": "new", "tags": ["x"]}
    tracker.save({"_id": document_id}, made)
    tracker.save(made, {**made, "name": "newer"})
    convert(database, tracker)
    history = history_of(OldLamp, document_id)
    assert [str(v.operation) for v in history] == ["create", "update"]
    assert history[0].state == made


def test_rows_of_a_collection_that_was_renamed(mongodb: Any) -> None:
    """They say the name that it had then."""
    tracker = OldTracker("lamps_of_old")
    ids = three(tracker, {"name": "a"}, {"name": "b"})
    mongodb["history"].insert_many(tracker.rows)
    mongodb["old_lamps"].insert_many(last_states(tracker))
    label = f"{OldLamp.__module__}.OldLamp"
    with override_settings(
        MONGO_HISTORY={}, TRACKED_DOCUMENTS=[{"document": label, "collections": ["lamps_of_old"]}]
    ):
        assert converter().convert_all().counts.versions == 3
        assert [len(states(document_id)) for document_id in ids] == [2, 2, 2]


def test_hidden_and_untracked_values_do_not_come_along(mongodb: Any) -> None:
    """Neither in versions nor in rows that are kept beside a gap; the fact of a hidden change does."""
    tracker = OldTracker("old_lamps")
    ids = [ObjectId() for _ in range(3)]
    for document_id in ids:
        first = {"_id": document_id, "name": "A", "password": "s3cret-1", "seen": 777_333_001}
        tracker.begin(first)
        tracker.save(first, {**first, "password": "s3cret-2"})
        tracker.save({**first, "seen": 777_333_001}, {**first, "seen": 777_333_002})
        tracker.save(first, {**first, "name": "B", "password": "s3cret-3", "seen": 777_333_003})
        tracker.untracked({**first, "name": "C", "password": "s3cret-4"})
    with configured(), tracking(OldLamp, hidden=["password"], untracked=["seen"]):
        made = convert(mongodb, tracker)
        for document_id in ids:
            updates = list(history_of(OldLamp, document_id).versions(operation="update"))
            assert [[".".join(map(str, c.path)) for c in v.changes] for v in updates] == [
                ["password"],
                ["name", "password"],
            ]
        assert made.last_report.counts.untracked == 3
        assert made.last_report.counts.gaps == 3
        assert made.verify().counts.untracked == 3
    kept = json_util.dumps(list(mongodb["document_history"].find())) + json_util.dumps(
        list(mongodb["document_history_conversions"].find())
    )
    assert "s3cret" not in kept
    assert "777333" not in kept  # six digits: an id may hold three of them


def test_bytes_come_back(database: Any) -> None:
    """Rows hold them as numbers."""
    tracker = OldTracker("old_lamps")
    first = {"_id": ObjectId(), "photo": b"\0\1\xff"}
    second = {**first, "photo": b"\2"}
    tracker.begin(first)
    tracker.save(first, second)
    tracker.save(second, {"_id": first["_id"]})
    tracker.rows[0]["data"] = {"old": [0, 1, 255], "new": [2]}
    tracker.rows[1]["data"]["items"][0]["value"] = [2]
    convert(database, tracker, [{"_id": first["_id"]}])
    assert [state.get("photo") for state in states(first["_id"])] == [b"\0\1\xff", b"\2", None]


def test_keys_that_are_texts_are_found(mongodb: Any) -> None:
    """The old package stored a text that looks like an ObjectId as one."""
    keys = [ObjectId() for _ in range(3)]
    tracker = OldTracker("text_lamps")
    for key in keys:
        tracker.begin({"_id": key, "name": "a"})
        tracker.save({"_id": key, "name": "a"}, {"_id": key, "name": "b"})
    with configured(), tracking(TextLamp):
        store(mongodb, tracker, [{"_id": str(key), "name": "b"} for key in keys])
        made = HistoryConverter(TextLamp, "mongoengine-history", source_timezone="UTC")
        assert made.convert_all().counts.gaps == 0
        assert [[v["name"] for v in history_of(TextLamp, str(key))] for key in keys] == [["a", "b"]] * 3
        assert made.verify().is_ok


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"action": "rename"}, "its action is 'rename'"),
        ({"action": None}, "it has no action"),
        ({"path": 3}, "its path is no text"),
        ({"created_at": "yesterday"}, "it has no created_at"),
        ({"data": None}, "its data is not that of its action"),
        ({"data": {"items": []}}, "its data is not that of its action"),
        ({"action": "add", "data": {"items": [{"value": 1}]}}, "its data is not that of its action"),
    ],
)
def test_a_bad_row_is_named_and_the_others_go_on(database: Any, row: dict[str, Any], reason: str) -> None:
    """With its id and why, in the report and in the status, and no value of it."""
    tracker = OldTracker("old_lamps")
    ids = three(tracker, {"name": "a"}, {"name": "b"})
    bad = {**tracker.rows[0], "_id": tracker.mint(), "path": "seen", "data": {"old": 1, "new": 2}, **row}
    database["history"].insert_one(bad)
    made = convert(database, tracker)
    assert [(one.document_id, one.row, one.reason) for one in made.last_report.bad] == [
        (ids[0], bad["_id"], reason)
    ]
    assert made.last_report.counts.bad == 1
    assert made.status().bad == ((ids[0], bad["_id"], reason),)
    assert [len(states(document_id)) for document_id in ids] == [2, 2, 2]
    assert made.verify().is_ok


def test_a_row_that_names_no_document_is_bad(database: Any) -> None:
    """It is of nobody."""
    tracker = OldTracker("old_lamps")
    three(tracker, {"name": "a"}, {"name": "b"})
    nobodys = {name: value for name, value in tracker.rows[0].items() if name != "document_id"}
    nobodys["_id"] = tracker.mint()
    database["history"].insert_one(nobodys)
    made = convert(database, tracker)
    assert [one.row for one in made.last_report.bad] == [nobodys["_id"]]
    assert made.last_report.counts.documents == 3


# -- time ------------------------------------------------------------------------------------------------------------


def test_local_times_are_read_in_their_zone(database: Any) -> None:
    """In summer and in winter, and when the clocks were put back and an hour came twice: ids tell which it was."""
    tracker = OldTracker("old_lamps", zone="Europe/Paris", pause=timedelta(minutes=30))
    tracker.now = datetime(2023, 10, 28, 22, 30, tzinfo=UTC)
    document = {"_id": ObjectId(), "name": "0"}
    tracker.begin(document)
    for number in range(1, 12):
        tracker.save(document, {**document, "name": str(number)})
        document = {**document, "name": str(number)}
    locals_ = [row["created_at"] for row in tracker.rows]
    assert locals_ != sorted(locals_)
    made = convert(database, tracker, source_timezone="Europe/Paris")
    versions = list(history_of(OldLamp, document["_id"]))
    assert [v["name"] for v in versions] == [str(number) for number in range(12)]
    assert [v.at for v in versions[1:]] == [
        _milliseconds(at) for at, _state in tracker.states[document["_id"]][1:]
    ]
    assert made.last_report.counts.gaps == 0


def test_a_local_time_that_never_was_is_said(database: Any) -> None:
    """It is read as if the clocks had not been put forward, and its version says so."""
    tracker = OldTracker("old_lamps")
    three(tracker, {"name": "a"}, {"name": "b"})
    for row in tracker.rows:
        row["created_at"] = datetime(2024, 3, 31, 2, 30, tzinfo=UTC)
    convert(database, tracker, source_timezone="Europe/Paris")
    rows = stored(database)
    assert [row["at"] for row in rows] == [datetime(2024, 3, 31, 1, 30, tzinfo=UTC)] * 3
    assert all("did not exist" in row["source"]["gap"] for row in rows)


def test_the_wrong_time_zone_is_noticed(database: Any) -> None:
    """Ids of rows tell the time as well."""
    tracker = OldTracker("old_lamps", zone="Asia/Tokyo")
    three(tracker, {"name": "a"}, {"name": "b"})
    store(database, tracker, last_states(tracker))
    (remark,) = converter(source_timezone="Europe/Paris").plan().remarks
    assert "+8.0 hours" in remark
    assert converter(source_timezone="Asia/Tokyo").plan().remarks == ()


# -- the old package's own calls ------------------------------------------------------------------------------------------


def test_the_old_calls_show_the_old_rows(database: Any) -> None:
    """`History.objects`, `load_history` and `revert` answer as they did, with users, in the old shape."""
    tracker, identity = OldTracker("old_lamps", zone="UTC"), ObjectId()
    ids = three(tracker, {"name": "a", "tags": ["x"]}, {"name": "b", "tags": ["x", "y"]}, identity=identity)
    convert(database, tracker)
    for document_id in ids:
        rows = compat.History.objects(document_id=document_id, document_type="old_lamps")
        wanted = [
            (row["action"], row["path"], row["data"], row["identity"])
            for row in tracker.rows
            if row["document_id"] == document_id
        ]
        assert [(row.action, row.path, row.data, row.identity) for row in rows] == wanted
        lamp = OldLamp.objects.get(id=document_id)
        assert sorted(path for _action, path, _payload in compat.load_history(lamp)) == [["name"], ["tags"]]
        assert compat.revert(lamp).name == "a"
    assert compat.History.objects(identity=identity).count() == 6
    assert compat.History.objects(document_type="old_lamps", action="add").count() == 3
