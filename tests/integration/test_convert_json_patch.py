"""JSON patches, replayed forward from the create; and what is said where a patch does not fit."""

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

from django_mongo_history import HistoryConverter, history_of, track, untrack
from tests.commanding import run
from tests.judge import configured, tracking

AWARE = json_util.JSONOptions(tz_aware=True)
GOLDEN = Path(__file__).parent / "golden_conversions" / "json_patch.json"
BEGIN = datetime(2023, 5, 1, 8, tzinfo=UTC)
LABEL = "tests.integration.test_convert_json_patch.OldPost"

State = dict[str, Any]


class OldPost(mongoengine.Document):
    """Had patches written of it, which know JSON's types only."""

    title = fields.StringField()
    tags = fields.ListField(fields.StringField())
    notes = fields.DictField()
    made = fields.DateTimeField()
    author = fields.ObjectIdField()
    secret = fields.StringField()
    meta = {"collection": "old_posts", "strict": False}


class GoldenPost(mongoengine.Document):
    """That of the golden file."""

    made = fields.DateTimeField()
    meta = {"collection": "golden_posts", "strict": False}


@pytest.fixture
def database(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(OldPost):
        yield mongodb


def converter(**options: Any) -> HistoryConverter:
    return HistoryConverter(OldPost, "json-patch", **{"collection": "post_patches", **options})


def row(document_id: Any, number: int, *ops: State, user: Any = None) -> State:
    return {
        "ref": document_id,
        "ops": list(ops),
        "date": BEGIN + timedelta(hours=number),
        "user": user,
        "__v": 0,
    }


def op(action: str, path: str, value: Any = None, **more: Any) -> State:
    return (
        {"op": action, "path": path, **more}
        if action in ("remove", "move", "copy")
        else {"op": action, "path": path, "value": value, **more}
    )


def as_json(value: Any) -> Any:
    """What is left of a value in a patch: JSON's types."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value) if isinstance(value, ObjectId) else deepcopy(value)


def random_save(state: State, chance: random.Random) -> list[State]:
    """Change the state, and the operations that say how; all six of them."""
    tags, notes = state["tags"], state["notes"]
    match chance.randrange(8):
        case 0:
            state["title"] = f"t{chance.randrange(99)}"
            return [op("add", "/title", state["title"]), op("test", "/title", state["title"])]
        case 1:
            position = chance.randrange(len(tags) + 1)
            tags.insert(position, f"x{chance.randrange(99)}")
            return [
                op("add", "/tags/-" if position == len(tags) - 1 else f"/tags/{position}", tags[position])
            ]
        case 2 if tags:
            position = chance.randrange(len(tags))
            del tags[position]
            return [op("remove", f"/tags/{position}")]
        case 3:
            notes["a/b~c"] = [chance.randrange(9), {"": None}]
            return [op("add", "/notes/a~1b~0c", deepcopy(notes["a/b~c"]))]
        case 4 if "a/b~c" in notes:
            notes["0"] = notes.pop("a/b~c")
            return [op("move", "/notes/0", **{"from": "/notes/a~1b~0c"})]
        case 5 if "0" in notes:
            notes["copy"] = deepcopy(notes["0"])
            return [op("copy", "/notes/copy", **{"from": "/notes/0"})]
        case 6:
            state["made"] = BEGIN + timedelta(seconds=chance.randrange(10**6))
            return [op("replace" if chance.random() < 0 else "add", "/made", as_json(state["made"]))]
        case _:
            state["author"] = ObjectId()
            return [op("add", "/author", as_json(state["author"]))]


def test_every_state(database: Any) -> None:
    """Whatever patches did: every state is the recorded copy, in the class's types, with who and when."""
    chance = random.Random(11)
    recorded: dict[Any, list[Any]] = {}
    rows: list[State] = []
    for _ in range(20):
        state: State = {"_id": ObjectId(), "title": "t", "tags": [], "notes": {}, "made": BEGIN}
        create = [op("add", f"/{name}", as_json(value)) for name, value in state.items() if name != "_id"]
        rows.append(row(state["_id"], 0, *create, user="u0"))
        recorded[state["_id"]] = [("create", BEGIN, "u0", deepcopy(state))]
        for number in range(1, chance.randrange(2, 12)):
            ops = random_save(state, chance)
            rows.append(row(state["_id"], number, *ops, user=f"u{number}"))
            recorded[state["_id"]].append(
                ("update", BEGIN + timedelta(hours=number), f"u{number}", deepcopy(state))
            )
        database["old_posts"].insert_one(deepcopy(state))
    chance.shuffle(rows)
    database["post_patches"].insert_many(rows)
    made = converter(user_field="user")
    report = made.convert_all()
    assert (report.counts.gaps, report.counts.bad, report.counts.versions) == (0, 0, len(rows))
    for document_id, expected in recorded.items():
        found = [
            (str(version.operation), version.at, version.user.pk, version.state)
            for version in history_of(OldPost, document_id)
        ]
        assert found == expected
    assert made.verify().is_ok
    assert made.convert(100) == 0


def test_golden(mongodb: Any) -> None:
    """Written by hand: rows as mongoose-patch-history leaves them, and what the history is then."""
    golden = json_util.loads(GOLDEN.read_text(encoding="utf-8"), json_options=AWARE)
    mongodb["golden_posts"].insert_many(golden["documents"])
    mongodb["golden_patches"].insert_many(golden["rows"])
    with configured(), tracking(GoldenPost):
        report = HistoryConverter(GoldenPost, "json-patch", **golden["options"]).convert_all()
        found = [
            {"operation": str(version.operation), "at": version.at, "state": version.state}
            for version in history_of(GoldenPost, golden["documents"][0]["_id"])
        ]
    assert found == golden["versions"]
    assert {key: value for key, value in report.counts.to_dict().items() if value} == golden["counts"]


def test_older_than_its_patches(database: Any) -> None:
    """The first patch is no create: walked back to where old values are told; where they are not, it is said."""
    told, untold = ObjectId(), ObjectId()
    database["old_posts"].insert_many([{"_id": told, "title": "c"}, {"_id": untold, "title": "c"}])
    database["post_patches"].insert_many([
        row(told, 1, op("replace", "/title", "b", originalValue="a")),
        row(told, 2, op("replace", "/title", "c", originalValue="b")),
        row(untold, 1, op("replace", "/title", "b")),
        row(untold, 2, op("replace", "/title", "c")),
    ])  # fmt: skip
    report = converter().convert_all()
    assert [version.state["title"] for version in history_of(OldPost, told)] == ["a", "b", "c"]
    assert report.counts.gaps == 2
    assert {gap.document_id for gap in report.gaps} == {untold}
    assert [version.at for version in history_of(OldPost, untold)][-1] == BEGIN + timedelta(hours=2)
    assert history_of(OldPost, untold)[-1].state == {"_id": untold, "title": "c"}
    kept = [
        one["source"]["raw"][0]["ops"] for one in database["document_history"].find({"document_id": untold})
    ]
    assert len(kept) == 2
    assert all(kept)


def test_a_patch_that_does_not_fit(database: Any) -> None:
    """None of a patch counts that cannot be applied as a whole; what follows it is not made up."""
    document_id = ObjectId()
    database["old_posts"].insert_one({"_id": document_id, "title": "d", "tags": ["z"]})
    database["post_patches"].insert_many([
        row(document_id, 0, op("add", "/title", "a")),
        row(document_id, 1, op("replace", "/title", "b"), op("test", "/title", "other")),
        row(document_id, 2, op("replace", "/title", "c")),
        row(document_id, 3, op("replace", "/title", "d", originalValue="c")),
    ])  # fmt: skip
    report = converter().convert_all()
    assert (report.counts.bad, report.counts.versions) == (0, 4)
    versions = list(history_of(OldPost, document_id))
    assert versions[0].state == {"_id": document_id, "title": "a"}
    assert versions[-1].state == {"_id": document_id, "title": "d", "tags": ["z"]}
    assert {gap.row for gap in report.gaps} >= {
        versions_row["_id"] for versions_row in database["post_patches"].find().skip(1).limit(2)
    }


def test_bad_rows(database: Any) -> None:
    document_id = ObjectId()
    database["old_posts"].insert_one({"_id": document_id, "title": "b"})
    rows = [
        row(document_id, 0, op("add", "/title", "a")),
        {**row(document_id, 1), "ops": "none"},
        row(document_id, 2, {"op": "jump", "path": "/title"}),
        row(document_id, 3, {"op": "add", "path": "title", "value": 1}),
        {**row(document_id, 4, op("add", "/title", "b")), "date": "soon"},
        {**row(document_id, 5, op("add", "/title", "b")), "ref": None},
    ]
    database["post_patches"].insert_many(rows)
    report = converter().convert_all()
    reasons = {one.row: one.reason for one in report.bad}
    assert [reasons[one["_id"]] for one in rows[1:]] == [
        "it holds no patch", "it holds no patch", "it holds no patch", "it does not say when", "it does not say which document it is of",
    ]  # fmt: skip
    assert [version.state for version in history_of(OldPost, document_id)] == [
        {"_id": document_id, "title": title} for title in "ab"
    ]


def test_deletes_and_what_comes_after_them(database: Any) -> None:
    """The whole document removed, with its own time; patches that go on begin with nothing."""
    document_id = ObjectId()
    database["post_patches"].insert_many([
        row(document_id, 0, op("add", "", {"title": "a"})),
        row(document_id, 1, op("remove", "")),
        row(document_id, 2, op("add", "/title", "b")),
        row(document_id, 3, op("remove", "")),
    ])  # fmt: skip
    report = converter().convert_all()
    assert report.counts.gaps == 0
    assert [
        (str(one.operation), one.at, one.state and one.state["title"])
        for one in history_of(OldPost, document_id)
    ] == [
        ("create", BEGIN, "a"),
        ("delete", BEGIN + timedelta(hours=1), None),
        ("create", BEGIN + timedelta(hours=2), "b"),
        ("delete", BEGIN + timedelta(hours=3), None),
    ]


def test_hidden_values_are_nowhere(mongodb: Any) -> None:
    document_id = ObjectId()
    with configured():
        track(OldPost, hidden=["secret"])
        try:
            mongodb["old_posts"].insert_one({"_id": document_id, "title": "past", "secret": "SECRET-3"})
            mongodb["post_patches"].insert_many([
                row(document_id, 0, op("add", "", {"title": "a", "secret": "SECRET-0"})),
                row(document_id, 1, op("replace", "/secret", "SECRET-1"), op("copy", "/title", **{"from": "/secret"}), op("replace", "/title", "b")),
                row(document_id, 2, op("replace", "/secret", "SECRET-2"), op("test", "/title", "no")),
                row(document_id, 3, op("replace", "", {"secret": "SECRET-3"}), op("replace", "/title", "c")),
            ])  # fmt: skip
            report = converter().convert_all()
            assert report.counts.gaps >= 2
            stored = list(mongodb["document_history"].find())
            assert "SECRET" not in str(stored)
            assert {"op": "replace", "path": "/title", "value": "c"} in stored[-1]["source"]["raw"][0]["ops"]
        finally:
            untrack(OldPost)


def test_renamed_fields_and_what_they_hide(mongodb: Any) -> None:
    """Old names are today's, in states as in patches that are kept."""
    document_id = ObjectId()
    entry = {"document": LABEL, "hidden": ["secret"], "renamed": {"pw": "secret", "headline": "title"}}
    with override_settings(MONGO_HISTORY={}, TRACKED_DOCUMENTS=[entry]):
        mongodb["old_posts"].insert_one({"_id": document_id, "title": "c", "secret": "SECRET-2"})
        mongodb["post_patches"].insert_many([
            row(document_id, 0, op("add", "/headline", "a"), op("add", "/pw", "SECRET-0")),
            row(document_id, 1, op("replace", "/headline", "b"), op("replace", "/pw", "SECRET-1")),
            row(document_id, 2, op("replace", "/pw", "SECRET-2"), op("replace", "/headline", "c"), op("test", "/headline", "d")),
        ])  # fmt: skip
        report = converter().convert_all()
        assert report.counts.gaps == 1
        assert "SECRET" not in str(list(mongodb["document_history"].find()))
        assert [version.state["title"] for version in history_of(OldPost, document_id)] == ["a", "b", "c"]


def test_found_by_itself(database: Any) -> None:
    document_id = ObjectId()
    database["old_posts"].insert_one({"_id": document_id, "title": "a"})
    database["old_post_patches"].insert_one(row(document_id, 0, op("add", "/title", "a")))
    answer = run("history_convert", "--no-input")
    assert answer.error is None, answer.error
    assert "old_post_patches" in answer.out
    assert answer.lines[-1] == "1"


def test_bad_input(database: Any) -> None:
    database["post_patches"].insert_one({"ref": 1, "patch": []})
    for arguments, said in (
        ([], "--collection"),
        (["--collection", "nowhere"], "nowhere"),
        (["--collection", "post_patches"], "The fields of one: _id, patch, ref"),
        (["--collection", "post_patches", "--source-timezone", "Mars/Base"], "a time zone that exists"),
        (["--collection", "post_patches", "--strip"], "--strip is no option of json-patch"),
    ):
        answer = run("history_convert", "json-patch", "--document", LABEL, "--no-input", *arguments)
        assert said in str(answer.error), (arguments, answer.error)
    assert database["document_history"].count_documents({}) == 0
