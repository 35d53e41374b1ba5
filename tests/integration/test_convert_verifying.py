"""What `--verify` finds, what it remarks, and what it does not take for a difference."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import mongoengine
import pytest
from bson import ObjectId
from mongoengine import fields

from django_mongo_history import HistoryConverter, history_of
from tests.commanding import run
from tests.judge import HISTORY, configured, tracking
from tests.old_histories import OldTracker, last_states, store

BEGIN = datetime(2023, 5, 1, 8, tzinfo=UTC)


class CheckedJug(mongoengine.Document):
    """Keys are ObjectIds."""

    name = fields.StringField()
    log = fields.ListField(fields.DictField())
    meta = {"collection": "checked_jugs"}


class CheckedMug(mongoengine.Document):
    """Keys are texts."""

    key = fields.StringField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "checked_mugs"}


class CheckedNumber(mongoengine.Document):
    """Found by a number of its own, which is the key of another one."""

    key = fields.IntField(primary_key=True)
    number = fields.IntField()
    name = fields.StringField()
    meta = {"collection": "checked_numbers"}


LABEL = f"{CheckedJug.__module__}.CheckedJug"


@pytest.fixture
def database(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(CheckedJug, untracked=["log"]), tracking(CheckedMug), tracking(CheckedNumber):
        yield mongodb


def converter(document_class: type = CheckedJug) -> HistoryConverter:
    return HistoryConverter(document_class, "mongoengine-history", source_timezone="UTC")


def jugs(
    collection: str = "checked_jugs", *, count: int = 3, saves: int = 4, as_text: bool = False
) -> OldTracker:
    tracker = OldTracker(collection)
    for _ in range(count):
        key: Any = ObjectId()
        document = {"_id": str(key) if as_text else key, "name": "0"}
        tracker.begin(document)
        for number in range(1, saves + 1):
            tracker.save(document, {**document, "name": str(number)})
            document = {**document, "name": str(number)}
    return tracker


def names(document_class: type, document_id: Any) -> list[str]:
    return [version["name"] for version in history_of(document_class, document_id)]


def reasons(report: Any) -> list[tuple[Any, str]]:
    return [(one.document_id, one.reason) for one in report.differences]


# -- two spellings of one key ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("document_class", [CheckedJug, CheckedMug])
def test_two_spellings_of_one_key(database: Any, document_class: type, limit: int) -> None:
    """Rows that call a document by its ObjectId and by the text of it are its rows: converted, counted and checked once."""
    is_text = document_class is CheckedMug
    tracker = jugs(document_class._get_collection_name(), as_text=is_text)
    for number, row in enumerate(tracker.rows):
        if number % 2:
            row["document_id"] = ObjectId(row["document_id"]) if is_text else str(row["document_id"])
    store(database, tracker, last_states(tracker))
    made = converter(document_class)
    while made.convert(limit):
        pass
    assert [names(document_class, one) for one in tracker.states] == [list("01234")] * 3
    counts = made.status().counts
    assert (counts.documents, counts.rows, counts.versions, counts.gaps) == (3, 12, 12, 0)
    found = made.verify()
    assert reasons(found) == []
    assert (found.counts.documents, found.counts.rows) == (3, 12)
    assert database[HISTORY].count_documents({}) == 12


def test_a_row_in_the_other_spelling_that_comes_later(database: Any) -> None:
    """A later pass sees only that one, and makes its version all the same."""
    tracker = jugs()
    store(database, tracker, last_states(tracker))
    made = converter()
    made.convert_all()
    tracker.now = datetime.now(UTC)
    for document_id in tracker.states:
        (row,) = tracker.save({"_id": document_id, "name": "4"}, {"_id": document_id, "name": "5"})
        database["checked_jugs"].update_one({"_id": document_id}, {"$set": {"name": "5"}})
        database["history"].insert_one({**row, "document_id": str(document_id)})
    assert made.update() == 3
    assert [names(CheckedJug, one) for one in tracker.states] == [list("012345")] * 3
    for document_id in tracker.states:
        for number in (5, 6):
            front = {"_id": document_id, "name": str(number)}
            (row,) = tracker.save(front, {**front, "name": str(number + 1)})
            database["history"].insert_one(
                {**row, "document_id": [str(document_id), document_id][number % 2]}
            )
        database["checked_jugs"].update_one({"_id": document_id}, {"$set": {"name": "7"}})
    assert made.update() == 3
    assert made.last_report.new_versions == 6
    assert [names(CheckedJug, one) for one in tracker.states] == [list("01234567")] * 3
    assert made.verify().is_ok


def test_a_dry_run_counts_two_spellings_once(database: Any) -> None:
    """As the run itself would."""
    tracker = jugs()
    for row in tracker.rows[::2]:
        row["document_id"] = str(row["document_id"])
    store(database, tracker, last_states(tracker))
    for report in (converter().dry_run(), converter().convert_all()):
        counts = report.counts
        assert (counts.documents, counts.rows, counts.versions, report.new_versions) == (3, 12, 12, 12)


def test_keys_of_another_field_are_not_those_of_other_documents(database: Any) -> None:
    """The number of one document is the key of the next one: each has its own rows."""
    for key in (1, 2, 3):
        database["checked_numbers"].insert_one({"_id": key, "number": key % 3 + 1, "name": f"{key} now"})
        database["numbers"].insert_many(
            {"number": key % 3 + 1, "name": f"{key} {version}", "on": BEGIN + timedelta(days=version)}
            for version in range(3)
        )
    made = HistoryConverter(CheckedNumber, "snapshots", collection="numbers", image="before",
                            key_field="number", match_field="number", time_field="on",
                            drop_fields="on,number")  # fmt: skip
    assert made.convert_all().counts.versions == 9
    for key in (1, 2, 3):
        assert names(CheckedNumber, key) == [f"{key} 0", f"{key} 1", f"{key} 2", f"{key} now"]
    assert [one for one in reasons(made.verify()) if "rows" in one[1]] == []


# -- what is gone --------------------------------------------------------------------------------------------------------


def test_a_document_whose_rows_have_all_left_the_source(database: Any) -> None:
    """A difference, that names it; the others are as they should be."""
    tracker = jugs()
    store(database, tracker, last_states(tracker))
    made = converter()
    made.convert_all()
    first, *_ = tracker.states
    database["history"].delete_many({"document_id": first})
    assert reasons(made.verify()) == [(first, "none of the rows of its versions is in the source")]
    database["history"].delete_many({})
    assert sorted(one for one, _reason in reasons(made.verify())) == sorted(tracker.states)


def test_a_document_that_is_gone(database: Any) -> None:
    """The old rows cannot tell its deletion: no difference, but it is said."""
    tracker = jugs()
    store(database, tracker, last_states(tracker))
    made = converter()
    made.convert_all()
    first, *_ = tracker.states
    database["checked_jugs"].delete_one({"_id": first})
    found = made.verify()
    assert found.is_ok
    assert [one.document_id for one in found.remarks] == [first]
    said = run(
        "history_convert", "mongoengine-history", "--source-timezone", "UTC", "--document", LABEL, "--verify"
    )
    assert said.error is None
    assert f"{first!r}: it is gone, and no row and no version tells its deletion" in said.err
    assert '"remark_count": 1' in run(
        "history_convert", "mongoengine-history", "--source-timezone", "UTC", "--document", LABEL, "--verify", "--json"
    ).out  # fmt: skip


def test_lists_that_were_stripped(database: Any) -> None:
    """They are gone because they were converted: no difference, and it is said."""
    ids = [ObjectId() for _ in range(3)]
    for document_id in ids:
        log = [
            {"field": "name", "old_value": str(number), "new_value": str(number + 1),
             "timestamp": BEGIN + timedelta(days=number)} for number in range(3)
        ]  # fmt: skip
        database["checked_jugs"].insert_one({"_id": document_id, "name": "3", "log": log})
    HistoryConverter(CheckedJug, "embedded-changes", list_field="log", strip=True).convert_all()
    assert database["checked_jugs"].count_documents({"log": {"$exists": True}}) == 0
    found = HistoryConverter(CheckedJug, "embedded-changes", list_field="log").verify()
    assert found.is_ok
    assert sorted(one.document_id for one in found.remarks) == ids
    assert [names(CheckedJug, one) for one in ids] == [list("0123")] * 3


# -- what is stored ------------------------------------------------------------------------------------------------------


def damage(database: Any, version: Any) -> None:
    """Another value in the patch of a stored version, its digests as they were."""
    row = database[HISTORY].find_one({"_id": version.id})
    patch = bson.decode(row["patch"]) if isinstance(row["patch"], bytes) else row["patch"]
    text = bson.encode({"patch": patch}).replace(b"\x02\x00\x00\x002\x00", b"\x02\x00\x00\x00x\x00")
    damaged = bson.decode(text)["patch"]
    assert damaged != patch
    database[HISTORY].update_one({"_id": version.id}, {"$set": {"patch": damaged}})


def test_a_stored_version_that_does_not_fit_its_digests(database: Any) -> None:
    """Digests alone prove nothing: what is stored is computed with, on both sides of every version."""
    tracker = jugs()
    store(database, tracker, last_states(tracker))
    made = converter()
    made.convert_all()
    first, *_ = tracker.states
    damage(database, history_of(CheckedJug, first)[2])
    found = made.verify()
    assert {one for one, _reason in reasons(found)} == {first}
    assert all("the stored version cannot be read" in reason for _one, reason in reasons(found))


def test_versions_that_nobody_can_know_are_no_differences(database: Any) -> None:
    """Of documents that were gone before: changes without states, which nothing can be computed with."""
    tracker = jugs()
    store(database, tracker, [])
    made = converter()
    assert made.convert_all().counts.gaps == 12
    found = made.verify()
    assert reasons(found) == []
    assert sorted(one.document_id for one in found.remarks) == sorted(tracker.states)
