"""`history_convert`: what it says, what it asks, how it ends, and what it refuses before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from django.test import override_settings
from mongoengine import fields

from django_mongo_history import history_of, runtime
from django_mongo_history.management.commands.history_convert import DifferencesFoundError
from tests.commanding import run, stored, version_count
from tests.judge import HISTORY, tracking
from tests.old_histories import OldTracker, last_states, store


class CommandJar(mongoengine.Document):
    """With an old history."""

    name = fields.StringField()
    meta = {"collection": "command_jars"}


class CommandLid(mongoengine.Document):
    """With another one, in the same collection of rows."""

    name = fields.StringField()
    meta = {"collection": "command_lids"}


class CommandBox(mongoengine.Document):
    """Tracked, without any."""

    meta = {"collection": "command_boxes"}


class CommandTin(mongoengine.Document):
    """Not tracked."""

    meta = {"collection": "command_tins"}


JAR, LID, BOX, TIN = (
    f"{one.__module__}.{one.__name__}" for one in (CommandJar, CommandLid, CommandBox, CommandTin)
)
SOURCE = "mongoengine-history"


@pytest.fixture
def shelf(mongodb: Any) -> Iterator[OldTracker]:
    """Three jars and two lids with rows in local time of Paris."""
    with (
        override_settings(MONGO_HISTORY={}, TRACKED_DOCUMENTS=[], TIME_ZONE="Europe/Paris"),
        tracking(CommandJar),
        tracking(CommandLid),
        tracking(CommandBox),
    ):
        jars = OldTracker("command_jars", zone="Europe/Paris")
        lids = OldTracker("command_lids", zone="Europe/Paris", process=b"\7\7\7\7\7")
        for tracker, count in ((jars, 3), (lids, 2)):
            for _ in range(count):
                first = {"_id": ObjectId(), "name": "a"}
                tracker.begin(first)
                tracker.save(first, {**first, "name": "b"})
            store(mongodb, tracker, last_states(tracker))
        yield jars


def convert(*arguments: Any) -> Any:
    return run("history_convert", *arguments)


def test_without_a_source_it_finds_and_converts_all(shelf: OldTracker, mongodb: Any) -> None:
    """Says what it has found, with counts; the last line is how many documents it were."""
    said = convert("--no-input")
    assert said.error is None
    assert f"{JAR}: 3 documents, 3 rows in {mongodb.name}.history (mongoengine-history)" in said.lines
    assert f"{LID}: 2 documents, 2 rows in {mongodb.name}.history (mongoengine-history)" in said.lines
    assert said.lines[-1] == "5"
    assert f"{JAR}: without --source-timezone old local times are read as those of Europe/Paris." in said.err
    assert version_count() == 5
    for document_id, states in shelf.states.items():
        assert history_of(CommandJar, document_id)[1].at == states[1][0]
    assert convert("--no-input").lines[-1] == "0"


def test_without_a_source_it_asks(shelf: OldTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes nothing but a yes; without a terminal it says what to give."""
    assert "--no-input" in str(convert().error)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: "no")
    assert "Cancelled" in str(convert().error)
    assert version_count() == 0
    monkeypatch.setattr("builtins.input", lambda _question: "yes")
    assert convert().lines[-1] == "5"


def test_chunks_until_nothing_is_left(shelf: OldTracker) -> None:
    """One run converts so many documents of each source, the count is its last line, and 0 ends it."""
    counts = []
    while True:
        said = convert(SOURCE, "--chunked", "--chunk-size", 1)
        assert said.error is None
        counts.append(int(said.lines[-1]))
        if not counts[-1]:
            break
    assert counts == [2, 2, 1, 0]
    assert version_count() == 5


def test_chunks_in_a_loop_of_its_own(shelf: OldTracker) -> None:
    """`--until-done` is that loop."""
    assert convert(SOURCE, "--chunked", "--chunk-size", 1, "--until-done").lines[-1] == "5"
    assert convert(SOURCE, "--chunked", "--until-done").lines[-1] == "0"


def test_one_class(shelf: OldTracker) -> None:
    """The named one and no other."""
    assert convert(SOURCE, "--document", LID).lines[-1] == "2"
    assert version_count() == version_count(document_class="CommandLid") == 2


def test_a_dry_run_writes_nothing(shelf: OldTracker) -> None:
    """And says in full what would become of the rows."""
    before = stored()
    said = convert(SOURCE, "--document", JAR, "--dry-run")
    assert said.error is None
    assert "3 documents, 3 rows, 3 versions would be made" in said.out
    assert stored() == before
    assert version_count() == 0


def test_the_status(shelf: OldTracker) -> None:
    """Not begun, on its way, done, with counts; nothing is written by asking."""
    assert "not begun" in convert("--status").lines[0]
    assert version_count() == 0
    convert(SOURCE, "--document", JAR, "--chunked", "--chunk-size", 2)
    said = convert("--status", "--document", JAR)
    assert "converting, 2 documents, 2 rows, 2 versions, 0 gaps, 0 bad rows" in said.out
    convert(SOURCE, "--document", JAR)
    assert "done, 3 documents, 3 rows, 3 versions" in convert("--status", "--document", JAR).out


def test_verifying(shelf: OldTracker, mongodb: Any) -> None:
    """A table; and any difference is named and makes the exit code 1."""
    convert("--no-input")
    said = convert("--verify")
    assert said.error is None
    header, *rows = said.lines
    columns = ["documents", "rows", "versions", "gaps", "told", "untracked", "bad", "differences"]
    assert header.split() == ["class", *columns, "source"]
    assert sorted(int(row.split()[2]) for row in rows) == [2, 3]
    assert all(row.split()[8] == "0" for row in rows)
    jar = next(iter(shelf.states))
    mongodb["command_jars"].update_one({"_id": jar}, {"$set": {"name": "past the tracker"}})
    mongodb[HISTORY].delete_one({"document_class": "CommandLid"})
    said = convert("--verify")
    assert isinstance(said.error, DifferencesFoundError)
    assert said.error.returncode == 1
    assert f"difference: {JAR} {jar!r}: the last converted state is not that of the live document" in said.out
    assert "1 rows are in no version" in said.out
    assert sum(report.difference_count for report in said.error.reports) >= 2


def test_json(shelf: OldTracker) -> None:
    """One object for programs, whatever was asked."""
    assert [one["state"] for one in json.loads(convert("--status", "--json").out)["conversions"]] == [
        "not begun"
    ] * 2
    dry = json.loads(convert("--dry-run", "--json").out)["dry_run"]
    assert sum(one["counts"]["versions"] for one in dry) == 5
    made = json.loads(convert("--no-input", "--json").out)
    assert made["converted"] == 5
    assert {one["document"]: one["new_versions"] for one in made["sources"]} == {JAR: 3, LID: 2}
    assert [one["difference_count"] for one in json.loads(convert("--verify", "--json").out)["verify"]] == [
        0,
        0,
    ]


def test_catching_up(shelf: OldTracker, mongodb: Any) -> None:
    """With what came since; the moment may be too early."""
    convert("--no-input")
    jar = next(iter(shelf.states))
    mongodb["command_jars"].update_one({"_id": jar}, {"$set": {"name": "c"}})
    mongodb["history"].insert_one(shelf._row(("change", ["name"], ("b", "c")), jar, None))
    said = convert(SOURCE, "--update-from", "2020-02-08T23:03:00Z")
    assert said.lines[-1] == "1"
    assert [v["name"] for v in history_of(CommandJar, jar)] == ["a", "b", "c"]


def test_beginning_anew(shelf: OldTracker) -> None:
    """Other options are refused and both shown; `--restart` makes the versions anew."""
    convert("--no-input")
    said = convert(SOURCE, "--source-timezone", "Asia/Tokyo")
    assert '"Europe/Paris"' in str(said.error)
    assert '"Asia/Tokyo"' in str(said.error)
    assert "--restart" in str(said.error)
    assert "--no-input" in str(convert(SOURCE, "--source-timezone", "Asia/Tokyo", "--restart").error)
    said = convert(SOURCE, "--source-timezone", "Asia/Tokyo", "--restart", "--no-input")
    assert said.lines[-1] == "5"
    assert "-8.0 hours" in said.err
    assert version_count() == 5


def test_bad_rows_are_named(shelf: OldTracker, mongodb: Any) -> None:
    """On stderr, with id and reason, while the others go on: exit code 0."""
    bad = {**shelf.rows[0], "_id": ObjectId(), "action": "explode"}
    mongodb["history"].insert_one(bad)
    said = convert(SOURCE, "--document", JAR)
    assert said.error is None
    assert said.lines[-1] == "3"
    assert f"bad row {bad['_id']}" in said.err
    assert "its action is 'explode'" in said.err


def test_conversions_of_the_settings(shelf: OldTracker, mongodb: Any) -> None:
    """Named once, with their options; what else is there is found besides, and one's own is not found twice."""
    mongodb["jar_rows"].insert_many(list(mongodb["history"].find({"document_type": "command_jars"})))
    mongodb["history"].delete_many({"document_type": "command_jars"})
    entry = {"source": SOURCE, "document": JAR, "collection": "jar_rows", "source_timezone": "UTC"}
    with override_settings(MONGO_HISTORY={"CONVERSIONS": [entry]}):
        runtime.current()
        said = convert("--no-input", "--source-timezone", "Europe/Paris")
        assert f"{JAR}: 3 documents, 3 rows in {mongodb.name}.jar_rows (mongoengine-history)" in said.lines
        assert said.lines[-1] == "5"
        assert convert(SOURCE, "--document", JAR, "--source-timezone", "Europe/Paris").lines[-1] == "0"


def test_a_format_of_ones_own(shelf: OldTracker, mongodb: Any) -> None:
    """By its dotted path, with its options by `--option`."""
    jar = next(iter(shelf.states))
    mongodb["ledger"].insert_one({"of": jar, "at": shelf.now, "state": {"name": "b"}})
    path = "tests.integration.test_convert_loss_cases.Ledger"
    said = convert(path, "--document", JAR, "--option", "collection=ledger")
    assert said.error is None
    assert said.lines[-1] == "1"
    assert "expected NAME=VALUE" in str(convert(path, "--document", JAR, "--option", "ledger").error)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mongoengine"], ["'mongoengine' is no known format", "mongoengine-history"]),
        ([SOURCE, "--document", TIN], ["it is not tracked", JAR]),
        ([SOURCE, "--document", "no.such.Class"], ["no MongoEngine document of that name"]),
        ([SOURCE, "--document", BOX], ["holds no rows"]),
        ([SOURCE, "--document", JAR, "--collection", "nowhere"], ["there is no collection nowhere"]),
        ([SOURCE, "--source-timezone", "Mars/Olympus"], ["a time zone that exists", "'Mars/Olympus'"]),
        ([SOURCE, "--chunked", "--chunk-size", "0"], ["--chunk-size", "whole number from 1"]),
        ([SOURCE, "--chunked", "--chunk-size", "many"], ["--chunk-size", "whole number from 1"]),
        ([SOURCE, "--chunk-size", "5"], ["--chunk-size goes with --chunked"]),
        ([SOURCE, "--until-done"], ["--until-done goes with --chunked"]),
        ([SOURCE, "--update-from", "soon"], ["--update-from", "is no moment"]),
        ([SOURCE, "--update-from", "2020-01-01T00:00:00Z", "--chunked"], ["--update-from goes with none of"]),
        ([SOURCE, "--verify", "--chunked"], ["--chunked does not go with --verify"]),
        ([SOURCE, "--verify", "--dry-run"], ["not allowed with"]),
        ([SOURCE, "--using", "elsewhere"], ["there is no connection 'elsewhere'"]),
        ([SOURCE, "--option", "no_such=1"], ["--no-such is no option of mongoengine-history"]),
        ([SOURCE, "--no-such-flag"], ["unrecognized arguments"]),
        (["--document", BOX, "--no-input"], ["No old history was found", BOX]),
        (["datetime.datetime"], ["no class made from Format"]),
        (["no.such.module.Format"], ["cannot be imported"]),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    shelf: OldTracker, arguments: list[str], words: list[str]
) -> None:
    """One CommandError that says what is wrong and what there is."""
    before = stored()
    said = convert(*arguments)
    assert said.error is not None
    assert [word for word in words if word not in str(said.error)] == []
    assert stored() == before
    assert version_count() == 0


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"source": "nothing", "document": JAR}, "'nothing' is no known format"),
        ({"source": SOURCE, "document": TIN}, "is no tracked class"),
        ({"source": SOURCE, "document": JAR, "colection": "x"}, "Did you mean --collection"),
    ],
)
def test_wrong_conversions_of_the_settings_are_refused(
    shelf: OldTracker, entry: dict[str, Any], words: str
) -> None:
    """When the command meets them."""
    with override_settings(MONGO_HISTORY={"CONVERSIONS": [entry]}):
        assert words in str(convert("--no-input").error)
        assert version_count() == 0
