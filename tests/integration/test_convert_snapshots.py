"""Archives of whole states, brought along: every state, and who and when with the version that they made."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from bson import ObjectId, json_util
from django.test import override_settings
from mongoengine import fields

from django_mongo_history import BrokenChainError, HistoryConverter, history_of, track, untrack
from django_mongo_history.errors import ConversionError
from tests import old_archives as archives
from tests.commanding import run
from tests.judge import configured, tracking
from tests.old_archives import Life, fields_of, random_lives

AWARE = json_util.JSONOptions(tz_aware=True)
GOLDEN = Path(__file__).parent / "golden_conversions"
LABEL = "tests.integration.test_convert_snapshots"


class OldBook(mongoengine.Document):
    """Had its history in an archive."""

    name = fields.StringField()
    tags = fields.ListField(fields.StringField())
    info = fields.DictField()
    when = fields.DateTimeField()
    price = fields.DynamicField()
    seen = fields.IntField()
    password = fields.StringField()
    meta = {"collection": "old_books", "strict": False}


class NumberedBook(mongoengine.Document):
    """Its keys are numbers, negative ones too."""

    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "numbered_books", "strict": False}


class NamedBook(mongoengine.Document):
    key = fields.StringField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "named_books", "strict": False}


class PolicyBook(mongoengine.Document):
    """Known to its archive by a key of its own, with the number and the date of the pattern."""

    book_id = fields.IntField(db_field="bookId")
    name = fields.StringField()
    revision = fields.IntField()
    date_set = fields.DateTimeField(db_field="dateSet")
    meta = {"collection": "policy_books", "strict": False}


class HeirBook(mongoengine.Document):
    name = fields.StringField()
    meta = {"collection": "heir_books", "allow_inheritance": True}


class GoldenTransfer(mongoengine.Document):
    """That of the golden files."""

    meta = {"collection": "golden_transfers", "strict": False}


class GoldenNumber(mongoengine.Document):
    """The same with numbers as keys."""

    number = fields.IntField(primary_key=True)
    meta = {"collection": "golden_transfers", "strict": False}


@pytest.fixture
def database(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(OldBook):
        yield mongodb


CLASSES: dict[type, Callable[[int], Any]] = {
    OldBook: lambda number: ObjectId(),
    NumberedBook: lambda number: number - 5,
    NamedBook: lambda number: f"{number:024x}" if number % 2 else f"book/{number}",
}
IDS = [one.__name__ for one in CLASSES]
LAYOUTS: dict[str, tuple[str, Callable[[Life, str], Any], dict[str, Any]]] = {
    "mongoose-history": (
        "{}_history",
        lambda life, name: archives.mongoose_history(life),
        {"user_field": "user"},
    ),
    "mongo-thingy": ("revision", archives.mongo_thingy, {}),
    "mongoose-version": ("versions", lambda life, name: archives.mongoose_version(life), {}),
    "versioning-pattern": (
        "book_revisions",
        lambda life, name: archives.versioning_pattern(life),
        {"collection": "book_revisions", "key_field": "bookId"},
    ),
}


def store(database: Any, document_class: type, collection: str, lives: list[Life], layout: Any) -> None:
    """Rows in an order of their own, and the documents as they are now."""
    rows = [row for life in lives for row in layout(life)]
    random.Random(1).shuffle(rows)
    database[collection].insert_many(rows)
    alive = [life.last for life in lives if life.last is not None]
    if alive:
        database[document_class._get_collection_name()].insert_many(deepcopy(alive))


def told(document_class: type, document_id: Any) -> list[tuple[Any, ...]]:
    return [
        (str(version.operation), version.at, version.user and version.user.pk, version.state)
        for version in history_of(document_class, document_id)
    ]


def recorded(life: Life) -> list[tuple[Any, ...]]:
    found, front = [], None
    for write in life.writes:
        kind = "delete" if write.state is None else "create" if front is None else "update"
        found.append((kind, write.at, write.user, write.state))
        front = write.state
    return found


@pytest.mark.parametrize("document_class", CLASSES, ids=IDS)
@pytest.mark.parametrize("preset", ["mongoose-history", "mongo-thingy"])
def test_states_after(mongodb: Any, preset: str, document_class: type) -> None:
    """Every write of every document: operation, moment, user and state, deletes with their own time."""
    collection, layout, options = LAYOUTS[preset]
    lives = random_lives(random.Random(preset), CLASSES[document_class])
    name = document_class._get_collection_name()
    with configured(), tracking(document_class):
        store(
            mongodb,
            document_class,
            collection.format(name),
            lives,
            lambda life: layout(life, document_class.__name__),
        )
        made = HistoryConverter(document_class, "snapshots", preset=preset, **options)
        report = made.convert_all()
        assert (report.counts.gaps, report.counts.bad) == (0, 0)
        assert report.counts.versions == sum(len(life.writes) for life in lives)
        for life in lives:
            assert told(document_class, life.id) == recorded(life)
        assert made.verify().is_ok
        assert made.convert(1000) == 0


@pytest.mark.parametrize("document_class", CLASSES, ids=IDS)
def test_states_before(mongodb: Any, document_class: type) -> None:
    """A row says who and when of the version that follows its state: both shift by one; a delete has its own."""
    lives = random_lives(random.Random(7), CLASSES[document_class])
    name = document_class._get_collection_name()
    with configured(), tracking(document_class):
        store(mongodb, document_class, f"{name}_history", lives, archives.chrononaut)
        made = HistoryConverter(document_class, "snapshots", preset="chrononaut")
        report = made.convert_all()
        assert (report.counts.gaps, report.counts.bad) == (0, 0)
        for life in lives:
            expected = recorded(life)
            expected[0] = ("baseline", None, None, life.writes[0].state)
            assert told(document_class, life.id) == expected
            for number, version in enumerate(list(history_of(document_class, life.id))[1:]):
                assert (version.reason, version.remote_addr) == (f"why {number}", "10.0.0.9")
                assert version.extra == {"ticket": number}
        assert made.verify().is_ok


@pytest.mark.parametrize("layout", [archives.mongoose_version, archives.mongoose_version_rows])
def test_mongoose_version(database: Any, layout: Any) -> None:
    """Both strategies of it; what is told by ids is told to the second, and a document's first copy is no create."""
    lives = random_lives(random.Random(3), CLASSES[OldBook], deletes=False)
    store(database, OldBook, "versions", lives, layout)
    made = HistoryConverter(OldBook, "snapshots", preset="mongoose-version")
    report = made.convert_all()
    assert (report.counts.gaps, report.counts.bad) == (0, 0)
    for life in lives:
        versions = list(history_of(OldBook, life.id))
        assert [version.state for version in versions] == [write.state for write in life.writes]
        assert [version.at for version in versions] == [
            write.at.replace(microsecond=0) for write in life.writes
        ]
        assert str(versions[0].operation) == "baseline"
    assert made.verify().is_ok
    assert made.convert(1000) == 0
    assert made.plan().rows == sum(len(life.writes) for life in lives)


def test_lists_that_lose_their_first_entries(database: Any) -> None:
    """What is converted stays converted when the archive drops old copies and gets new ones: nothing twice, nothing less."""
    life = random_lives(random.Random(5), CLASSES[OldBook], 1, deletes=False)[0]
    while len(life.writes) < 8:
        life.write({**(life.last or {}), "name": f"more {len(life.writes)}"})
    early = Life(life.id, life.writes[:5])
    store(database, OldBook, "versions", [early], archives.mongoose_version)
    made = HistoryConverter(OldBook, "snapshots", preset="mongoose-version")
    made.convert_all()
    row = next(archives.mongoose_version(life))
    row["versions"] = row["versions"][3:]
    database["versions"].update_one({"refId": life.id}, {"$set": {"versions": row["versions"]}})
    database["old_books"].replace_one({"_id": life.id}, life.last)
    made.update()
    assert [version.state for version in history_of(OldBook, life.id)] == [
        write.state for write in life.writes
    ]


def test_versioning_pattern_by_id(database: Any) -> None:
    """The first number is the create; what has number and date of the pattern in its documents keeps them in its states."""
    lives = random_lives(random.Random(4), CLASSES[OldBook], deletes=False)
    store(database, OldBook, "book_revisions", lives, archives.versioning_pattern)
    made = HistoryConverter(
        OldBook, "snapshots", preset="versioning-pattern", collection="book_revisions", key_field="bookId"
    )
    report = made.convert_all()
    assert (report.counts.gaps, report.counts.bad) == (0, 0)
    for life in lives:
        expected = [(kind, at, None, state) for kind, at, _user, state in recorded(life)]
        assert told(OldBook, life.id) == expected
    assert made.verify().is_ok


def test_versioning_pattern_by_another_key(mongodb: Any) -> None:
    """Copies have ids of their own and a business key: documents are found by it, and what is found nowhere is said."""
    moment = datetime(2022, 2, 1, tzinfo=UTC)
    with configured(), tracking(PolicyBook):
        for number in (11, 12):
            document = {"bookId": number, "name": "v2", "revision": 2, "dateSet": moment + timedelta(days=1)}
            mongodb["policy_books"].insert_one(dict(document))
            first = {**document, "name": "v1", "revision": 1, "dateSet": moment}
            mongodb["policyBookRevisions"].insert_many([first, dict(document)])
        mongodb["policyBookRevisions"].insert_one(
            {"bookId": 99, "name": "v1", "revision": 1, "dateSet": moment}
        )
        made = HistoryConverter(
            PolicyBook,
            "snapshots",
            preset="versioning-pattern",
            collection="policyBookRevisions",
            key_field="bookId",
            match_field="bookId",
        )
        report = made.convert_all()
        assert (report.counts.bad, report.counts.gaps, report.counts.versions) == (1, 0, 4)
        for document in mongodb["policy_books"].find():
            versions = list(history_of(PolicyBook, document["_id"]))
            assert [str(version.operation) for version in versions] == ["create", "update"]
            assert versions[-1].state == document
            assert versions[0].state == {**document, "name": "v1", "revision": 1, "dateSet": moment}


@pytest.mark.parametrize("name", ["chrononaut", "mongoose_history", "versions_array"])
def test_golden(mongodb: Any, name: str) -> None:
    """Written by hand: rows as the tool leaves them, and what the history is then."""
    golden = json_util.loads(
        (GOLDEN / f"snapshots_{name}.json").read_text(encoding="utf-8"), json_options=AWARE
    )
    for collection, documents in golden["before"].items():
        mongodb[collection].insert_many(documents)
    golden_class = GoldenNumber if name == "chrononaut" else GoldenTransfer
    with configured(), tracking(golden_class):
        made = HistoryConverter(golden_class, "snapshots", **golden["options"])
        report = made.convert_all()
        found = [
            {
                "document": document_id,
                "operation": str(version.operation),
                "at": version.at,
                "user": None if version.user is None else version.user.pk,
                "reason": version.reason,
                "state": version.state,
            }
            for document_id in golden["documents"]
            for version in history_of(golden_class, document_id)
        ]
        assert found == golden["after"]
        assert {key: value for key, value in report.counts.to_dict().items() if value} == golden["counts"]
        for collection, documents in golden["before"].items():
            assert list(mongodb[collection].find()) == documents


def test_hidden_values_are_nowhere(mongodb: Any) -> None:
    """Neither in versions nor in rows that are kept beside gaps; a change of them is known, what is untracked is not."""
    life = Life(ObjectId())
    base = {"_id": life.id, "name": "n", "password": "SECRET-1", "seen": 777001}
    for number in (1, 2, 3):
        life.write(
            {**base, "name": f"n{number}", "password": f"SECRET-{number}", "seen": 777000 + number}, "u"
        )
    with configured():
        track(OldBook, hidden=["password"], untracked=["seen"])
        try:
            store(mongodb, OldBook, "old_books_history", [life], archives.mongoose_history)
            mongodb["old_books"].update_one({"_id": life.id}, {"$set": {"name": "past the archive"}})
            made = HistoryConverter(OldBook, "snapshots", preset="mongoose-history")
            report = made.convert_all()
            assert report.counts.gaps == 1
            everything = "".join(
                str(row)
                for name in mongodb.list_collection_names()
                if name.startswith("document_history")
                for row in mongodb[name].find()
            )
            assert "SECRET" not in everything
            assert "77700" not in everything
            stored = list(mongodb["document_history"].find({"operation": "update"}))
            assert all(row["hidden_changed"] == ["password"] for row in stored)
            assert any(
                row["source"]["raw"][0]["state"]["name"] == "n3" for row in stored if "raw" in row["source"]
            )
        finally:
            untrack(OldBook)


def test_hidden_columns_that_the_archive_leaves_out(mongodb: Any) -> None:
    """
    Rows name them where they changed: that is a change of a hidden field. That the live document has a value is none.
    """
    life = Life(ObjectId())
    for number in range(4):
        life.write({"_id": life.id, "name": f"n{number}"}, f"u{number}")
    rows = list(archives.chrononaut(life))
    rows[1]["change_info"]["hidden_cols_changed"] = ["password", "unknown"]
    with configured():
        track(OldBook, hidden=["password"])
        try:
            mongodb["old_books_history"].insert_many(rows)
            mongodb["old_books"].insert_one({**(life.last or {}), "password": "SECRET"})
            made = HistoryConverter(OldBook, "snapshots", preset="chrononaut")
            assert made.convert_all().counts.gaps == 0
            versions = list(history_of(OldBook, life.id))
            stored = [mongodb["document_history"].find_one({"_id": version.id}) for version in versions[1:]]
            assert [row.get("hidden_changed") or [] for row in stored] == [[], ["password"], []]
            assert "SECRET" not in str(stored)
            assert made.verify().is_ok
        finally:
            untrack(OldBook)


def test_bad_rows_and_gaps(database: Any) -> None:
    """Bad rows go to the report with id and reason, the others go on; their neighbours say that they do not know all."""
    life = Life(ObjectId())
    for number in range(5):
        life.write({"_id": life.id, "name": f"n{number}"}, "u")
    store(database, OldBook, "old_books_history", [life], archives.mongoose_history)
    rows = list(database["old_books_history"].find().sort("t", 1))
    database["old_books_history"].update_one({"_id": rows[2]["_id"]}, {"$set": {"d": "gone"}})
    database["old_books_history"].update_one({"_id": rows[3]["_id"]}, {"$set": {"o": "?"}})
    database["old_books_history"].insert_one(
        {"_id": 5, "t": archives.BEGIN, "o": "u", "d": {"name": "by update"}}
    )
    made = HistoryConverter(OldBook, "snapshots", preset="mongoose-history")
    report = made.convert_all()
    assert {one.row: one.reason for one in report.bad} == {
        rows[2]["_id"]: "it does not say which document it is of",
        5: "it does not say which document it is of",
        rows[3]["_id"]: "its operation is none of those that are known",
    }
    stored = list(database["document_history"].find().sort("order", 1))
    assert [row["operation"] for row in stored] == ["create", "update", "update"]
    assert "could not be read" in stored[2]["source"]["gap"]
    assert stored[2]["source"]["raw"][0]["d"]["name"] == "n4"
    assert [version.state["name"] for version in history_of(OldBook, life.id)] == ["n0", "n1", "n4"]
    assert made.convert(10) == 0


def test_missing_numbers_are_gaps(database: Any) -> None:
    """An archive that counts says where it has lost rows: of states before, the write behind the hole is not known."""
    life = Life(ObjectId())
    for number in range(6):
        life.write({"_id": life.id, "name": f"n{number}"}, f"u{number}")
    store(database, OldBook, "old_books_history", [life], archives.chrononaut)
    database["old_books_history"].delete_one({"version": 2})
    report = HistoryConverter(OldBook, "snapshots", preset="chrononaut").convert_all()
    assert report.counts.gaps == 1
    versions = list(history_of(OldBook, life.id))
    assert [version.state["name"] for version in versions] == ["n0", "n1", "n3", "n4", "n5"]
    gapped = database["document_history"].find_one({"source.gap": {"$exists": True}})
    assert gapped["source"]["gap"] == "there are no rows of the numbers 2 to 2"
    assert gapped["_id"] == versions[2].id


def test_deleted_and_made_again(database: Any) -> None:
    """Numbers that begin anew: the row in front is taken for the delete, at its own time, and says so."""
    life = Life(ObjectId())
    for name in ("a", "b"):
        life.write({"_id": life.id, "name": name}, "u")
    life.write(None, "remover")
    rows = list(archives.chrononaut(life))
    again = Life(
        life.id, [archives.Wrote(life.writes[-1].at + timedelta(days=1), "u", {"_id": life.id, "name": "c"})]
    )
    again.write({"_id": life.id, "name": "d"}, "late")
    database["old_books_history"].insert_many([*rows, *archives.chrononaut(again)])
    database["old_books"].insert_one({"_id": life.id, "name": "d"})
    HistoryConverter(OldBook, "snapshots", preset="chrononaut").convert_all()
    versions = list(history_of(OldBook, life.id))
    assert [(str(one.operation), one.state and one.state["name"]) for one in versions] == [
        ("baseline", "a"), ("update", "b"), ("delete", None), ("external", "c"), ("update", "d"),
    ]  # fmt: skip
    assert versions[2].at == life.writes[-1].at
    assert versions[2].user.pk == "remover"


def test_partial_rows(database: Any) -> None:
    """Rows of changed fields are put onto the state in front of them; where there is none, it is said."""
    whole, torn, gone = ObjectId(), ObjectId(), ObjectId()
    t = archives.BEGIN
    database["old_books_history"].insert_many([
        {"t": t, "o": "i", "d": {"_id": whole, "name": "a", "seen": 1}},
        {"t": t + timedelta(1), "o": "u", "d": {"_id": whole, "name": "b"}},
        {"t": t + timedelta(2), "o": "r", "d": {"_id": whole}},
        {"t": t, "o": "u", "d": {"_id": torn, "name": "b"}},
        {"t": t, "o": "r", "d": {"_id": gone}},
    ])  # fmt: skip
    database["old_books"].insert_one({"_id": torn, "name": "b", "seen": 5})
    made = HistoryConverter(OldBook, "snapshots", preset="mongoose-history", partial=True)
    report = made.convert_all()
    assert told(OldBook, whole) == [
        ("create", t, None, {"_id": whole, "name": "a", "seen": 1}),
        ("update", t + timedelta(1), None, {"_id": whole, "name": "b", "seen": 1}),
        ("delete", t + timedelta(2), None, None),
    ]
    assert report.counts.gaps == 1
    first, last = history_of(OldBook, gone)
    assert (str(last.operation), last.at, last.state) == ("delete", t, None)
    with pytest.raises(BrokenChainError):
        _ = first.state


def test_texts_of_exports(mongodb: Any) -> None:
    """Rows that went through JSON: dates, ids and times as texts, the change as a text of JSON; naive ones in their zone."""
    document_id = ObjectId()
    with configured(), tracking(OldBook):
        mongodb["old_books"].insert_one(
            {"_id": document_id, "name": "b", "when": datetime(2021, 1, 2, tzinfo=UTC)}
        )
        mongodb["old_books_history"].insert_one({
            "_id": 1, "id": str(document_id), "version": 0, "name": "a", "when": "2021-01-01T12:30:00+02:00",
            "changed": "2023-07-01 10:00:00.123456", "change_info": '{"user_id": "ann@example.org", "extra": {}}',
        })  # fmt: skip
        made = HistoryConverter(OldBook, "snapshots", preset="chrononaut")
        assert "--source-timezone" in "".join(made.plan().remarks)
        made = HistoryConverter(OldBook, "snapshots", preset="chrononaut", source_timezone="Europe/Paris")
        made.convert_all()
        first, second = history_of(OldBook, document_id)
        assert first.state == {
            "_id": document_id,
            "name": "a",
            "when": datetime(2021, 1, 1, 10, 30, tzinfo=UTC),
        }
        assert second.at == datetime(2023, 7, 1, 8, 0, 0, 123000, tzinfo=UTC)
        assert second.user.pk == "ann@example.org"


def test_columns_are_called_as_attributes(mongodb: Any) -> None:
    """Of an export: names in Python become those of the database, and what is hidden by the one is hidden by the other."""
    with configured():
        track(PolicyBook, hidden=["date_set"])
        try:
            document_id = mongodb["policy_books"].insert_one({"bookId": 5, "name": "b"}).inserted_id
            mongodb["policy_books_history"].insert_one({
                "id": document_id, "version": 0, "name": "a", "book_id": "5", "date_set": "2031-01-01T00:00:00",
                "changed": archives.BEGIN, "change_info": {"user_id": "u", "hidden_cols_changed": ["date_set"]},
            })  # fmt: skip
            HistoryConverter(PolicyBook, "snapshots", preset="chrononaut").convert_all()
            first, second = history_of(PolicyBook, document_id)
            assert (first.state, second.state) == (
                {"_id": document_id, "name": "a", "bookId": 5},
                {"_id": document_id, "bookId": 5, "name": "b"},
            )
            stored = mongodb["document_history"].find_one()
            assert stored["hidden_changed"] == ["dateSet"]
            assert "2031" not in str(stored)
        finally:
            untrack(PolicyBook)


def test_local_dates_and_a_layout_of_ones_own(database: Any) -> None:
    """Every field named by options; dates that `datetime.now()` left are local ones where a zone is given."""
    document_id = ObjectId()
    database["old_books"].insert_one({"_id": document_id, "name": "b"})
    database["copies"].insert_many([
        {"_id": n, "book": {"key": document_id}, "full": {"title": title}, "meta": {"when": datetime(2023, 7, 1, 10, n, tzinfo=UTC), "who": n,
         "what": what, "note": "why", "host": "h"}, "kind": kind}
        for n, title, what, kind in ((1, "a", "Insert", "book"), (2, "b", "CHANGED", "book"), (3, "x", "created", "other"))
    ])  # fmt: skip
    options = {
        "collection": "copies", "image": "after", "key_field": "book.key", "state_field": "full", "time_field": "meta.when",
        "user_field": "meta.who", "operation_field": "meta.what", "reason_field": "meta.note", "extra_fields": "meta.host",
        "type_field": "kind", "type": "book", "rename": "title=name", "source_timezone": "Europe/Paris",
        "identity_model": "auth.user",
    }  # fmt: skip
    made = HistoryConverter(OldBook, "snapshots", **options)
    made.convert_all()
    assert told(OldBook, document_id) == [
        ("create", datetime(2023, 7, 1, 8, 1, tzinfo=UTC), 1, {"_id": document_id, "name": "a"}),
        ("update", datetime(2023, 7, 1, 8, 2, tzinfo=UTC), 2, {"_id": document_id, "name": "b"}),
    ]
    last = history_of(OldBook, document_id)[-1]
    assert (last.user.model, last.reason, last.extra) == ("auth.user", "why", {"host": "h"})
    assert made.verify().is_ok


def test_classes_are_told(mongodb: Any) -> None:
    """Rows of tables have no `_cls`: they are of the class that is named, and meet the live document."""
    document_id = ObjectId()
    with configured(), tracking(HeirBook):
        mongodb["heir_books"].insert_one({"_id": document_id, "_cls": "HeirBook", "name": "b"})
        life = Life(document_id)
        for name in ("a", "b"):
            life.write({"_id": document_id, "name": name}, "u")
        mongodb["heir_books_history"].insert_many(list(archives.chrononaut(life)))
        made = HistoryConverter(HeirBook, "snapshots", preset="chrononaut")
        assert made.convert_all().counts.gaps == 0
        assert [version.state for version in history_of(HeirBook, document_id)] == [
            {"_id": document_id, "_cls": "HeirBook", "name": "a"},
            {"_id": document_id, "_cls": "HeirBook", "name": "b"},
        ]
        assert made.verify().is_ok


def test_renamed_fields_and_what_they_hide(mongodb: Any) -> None:
    """Old names of `renamed` are today's before anything is pruned, so that what is hidden today is hidden there, too."""
    document_id = ObjectId()
    entry = {
        "document": f"{LABEL}.OldBook",
        "hidden": ["password"],
        "renamed": {"pass_word": "password", "title": "name"},
    }
    with override_settings(MONGO_HISTORY={}, TRACKED_DOCUMENTS=[entry]):
        mongodb["old_books"].insert_one({"_id": document_id, "name": "b", "password": "SECRET-2"})
        mongodb["old_books_history"].insert_one(
            {"t": archives.BEGIN, "o": "u", "d": {"_id": document_id, "title": "b", "pass_word": "SECRET-1"}}
        )
        report = HistoryConverter(OldBook, "snapshots", preset="mongoose-history").convert_all()
        assert report.counts.gaps == 0
        assert "SECRET" not in str(list(mongodb["document_history"].find()))
        assert [version.state for version in history_of(OldBook, document_id)] == [
            {"_id": document_id, "name": "b"}
        ]


def test_rows_and_writes_that_come_later(database: Any) -> None:
    """An archive that goes on while it is converted, beside live versions: nothing twice, nothing less."""
    life = Life(ObjectId())
    for number in range(3):
        life.write({"_id": life.id, "name": f"n{number}"}, "u")
    store(database, OldBook, "old_books_history", [life], archives.mongoose_history)
    made = HistoryConverter(OldBook, "snapshots", preset="mongoose-history", user_field="user")
    made.convert_all()
    book = OldBook.objects.get(pk=life.id)
    book.name = "live"
    book.save()
    made.update()
    made.update(archives.BEGIN)
    made.convert_all()
    versions = list(history_of(OldBook, life.id))
    assert [version.state["name"] for version in versions] == ["n0", "n1", "n2", "live"]
    assert made.verify().is_ok


@pytest.mark.parametrize("seconds", [-2, 0, 2])
@pytest.mark.parametrize("preset", ["chrononaut", "mongoose-history"])
def test_rows_of_writes_that_live_versions_tell(database: Any, preset: str, seconds: int) -> None:
    """Both trackers saw a write, and their clocks differ a little, either way: it is one version, the live one."""
    document_id = ObjectId()
    database["old_books"].insert_one({"_id": document_id, "name": "a"})
    book = OldBook.objects.get(pk=document_id)
    book.name = "b"
    book.save()
    at = database["document_history"].find_one()["at"] + timedelta(seconds=seconds)
    early = at - timedelta(days=2)
    if preset == "chrononaut":
        rows = [
            {"id": document_id, "version": 0, "name": "z", "changed": early, "change_info": {"user_id": "u"}},
            {"id": document_id, "version": 1, "name": "a", "changed": at, "change_info": {"user_id": "u"}},
        ]
    else:
        rows = [
            {"t": early, "o": "u", "d": {"_id": document_id, "name": "a"}},
            {"t": at, "o": "u", "d": {"_id": document_id, "name": "b"}},
        ]
    database["old_books_history"].insert_many(rows)
    made = HistoryConverter(OldBook, "snapshots", preset=preset)
    counts = made.convert_all().counts
    assert (counts.told, counts.gaps, counts.versions) == (1, 0, 1)
    names = [version.state["name"] for version in history_of(OldBook, document_id)]
    assert names == (["z", "a", "b"] if preset == "chrononaut" else ["a", "b"])
    assert made.verify().is_ok


def test_bad_input(database: Any) -> None:
    """Refused with what is known, before anything is written."""
    database["old_books_history"].insert_one(
        {"t": archives.BEGIN, "o": "i", "d": {"_id": ObjectId(), "name": "a"}}
    )
    book = f"{LABEL}.OldBook"
    for arguments, said in (
        (
            ["--preset", "mongoos-history"],
            "chrononaut, mongoose-history, mongoose-version, mongo-thingy, versioning-pattern",
        ),
        (["--preset", "chrononaut"], "has the field id"),
        (["--preset", "mongoose-history", "--image", "both"], "before, after"),
        (["--preset", "mongoose-history", "--user-field", "who"], "The fields of one: _id, d, o, t"),
        (["--preset", "mongoose-history", "--source-timezone", "Mars/Base"], "a time zone that exists"),
        (["--preset", "mongoose-history", "--collection", "nowhere"], "there is no collection nowhere"),
        (["--preset", "mongoose-history", "--operations", "i=made"], "i=create,u=update,r=delete"),
        (["--preset", "mongoose-history", "--where", "{"], "a query in JSON"),
        (["--preset", "versioning-pattern"], "--key-field"),
        (["--collection", "old_books_history", "--key-field", "d._id"], "--image before or --image after"),
        (["--preset", "chrononaut", "--partial"], "--image after only"),
    ):
        answer = run("history_convert", "snapshots", "--document", book, "--no-input", *arguments)
        assert said in str(answer.error), (arguments, answer.error)
    assert database["document_history"].count_documents({}) == 0
    database["revision"].insert_one(
        {"document_id": 1, "document_type": "Other", "creation_date": archives.BEGIN}
    )
    thingy = HistoryConverter(OldBook, "snapshots", preset="mongo-thingy")
    with pytest.raises(ConversionError, match="There are rows of: Other"):
        thingy.convert_all()


def test_found_by_itself(mongodb: Any) -> None:
    """Each preset's archive is found for its class, and converted without being told anything."""
    with configured(), tracking(OldBook, NumberedBook, NamedBook, PolicyBook):
        count = 2
        for document_class, collection, layout in (
            (OldBook, "old_books_history", archives.mongoose_history),
            (NumberedBook, "numbered_books_history", archives.chrononaut),
            (NamedBook, "versions", archives.mongoose_version),
        ):
            lives = random_lives(random.Random(9), CLASSES[document_class], 3, deletes=False)
            store(mongodb, document_class, collection, lives, layout)
            count += sum(bool(list(layout(life))) for life in lives)
        mongodb["policy_books"].insert_one(
            {"bookId": 1, "name": "v1", "revision": 1, "dateSet": archives.BEGIN}
        )
        mongodb["policy_bookRevisions"].insert_one(
            {"bookId": 1, "name": "v1", "revision": 1, "dateSet": archives.BEGIN}
        )
        mongodb["revision"].insert_one(
            {
                "document_id": -9,
                "document_type": "NumberedBook",
                "operation": "delete",
                "creation_date": archives.BEGIN,
            }
        )
        answer = run("history_convert", "--no-input")
        assert answer.error is None
        for name in (
            "old_books_history",
            "numbered_books_history",
            "versions",
            "policy_bookRevisions",
            "revision",
        ):
            assert f".{name}" in answer.out
        assert answer.lines[-1] == str(count)
        assert (
            fields_of(next(iter(history_of(PolicyBook, PolicyBook.objects.first().pk))).state)["name"] == "v1"
        )
