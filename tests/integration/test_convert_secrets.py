"""What is hidden or untracked leaves no trace in what conversion stores: neither a value nor a digest of one to guess it by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from mongoengine import fields

from django_mongo_history import HistoryConverter, history_of
from tests.commanding import stored
from tests.judge import HISTORY, configured, tracking

BEGIN = datetime(2023, 5, 1, 8, tzinfo=UTC)
IDS = [ObjectId(f"5e3f0000000000000000000{number}") for number in range(3)]
RULES: dict[str, Any] = {"hidden": ["password"], "untracked": ["hits", "log"]}

State = dict[str, Any]
Layout = Callable[[Any, str, int], dict[str, Any]]


class SecretKey(mongoengine.Document):
    """With something that nobody may see, and something that nobody wants to."""

    name = fields.StringField()
    password = fields.StringField()
    hits = fields.IntField()
    log = fields.ListField(fields.DictField())
    meta = {"collection": "secret_keys", "strict": False}


class SecretLock(mongoengine.Document):
    """Hides nothing."""

    name = fields.StringField()
    password = fields.StringField()
    log = fields.ListField(fields.DictField())
    meta = {"collection": "secret_locks", "allow_inheritance": True}


class SecretVault(SecretLock):
    """Hides something."""


class SecretGate(SecretLock):
    """Hides something else."""


def states(document_id: ObjectId, secret: str, hits: int) -> Iterator[State]:
    """Four states, the same but for the secret and what is untracked."""
    for number in range(4):
        yield {
            "_id": document_id,
            "name": f"n{number // 2}",
            "password": f"{secret}{number}",
            "hits": hits + number,
        }


def at(number: int) -> datetime:
    return BEGIN + timedelta(minutes=number)


def minted(document_id: ObjectId, number: int) -> ObjectId:
    return ObjectId(f"5e3f{document_id!s:.4}0{str(document_id)[-1]}00{number:012d}")


def put_documents(database: Any, secret: str, hits: int, **logs: Any) -> None:
    """As they are now; the name was written past the old tracker, so that rows are kept beside a gap."""
    for document_id in IDS:
        *_, last = states(document_id, secret, hits)
        more = {name: make(document_id) for name, make in logs.items()}
        database["secret_keys"].insert_one({**last, "name": "past", **more})


def mongoengine_history(database: Any, secret: str, hits: int) -> dict[str, Any]:
    rows = []
    for document_id in IDS:
        known = list(states(document_id, secret, hits))
        for number, (before, after) in enumerate(pairwise(known)):
            for place, name in enumerate(("name", "password", "hits")):
                if before[name] != after[name]:
                    rows.append(
                        {
                            "_id": minted(document_id, number * 10 + place),
                            "document_id": document_id,
                            "document_type": "secret_keys",
                            "action": "change",
                            "path": name,
                            "data": {"old": before[name], "new": after[name]},
                            "created_at": at(number),
                        }
                    )
    database["history"].insert_many(rows)
    put_documents(database, secret, hits)
    return {"source": "mongoengine-history", "source_timezone": "UTC"}


def archive(database: Any, secret: str, hits: int) -> dict[str, Any]:
    database["secret_keys_history"].insert_many(
        {"_id": minted(one, number), "t": at(number), "o": "u" if number else "i", "d": state}
        for one in IDS
        for number, state in enumerate(states(one, secret, hits))
    )
    put_documents(database, secret, hits)
    return {"source": "snapshots", "preset": "mongoose-history"}


def archive_of_lists(database: Any, secret: str, hits: int) -> dict[str, Any]:
    """Copies in one list for each document, without ids of their own."""
    database["copies"].insert_many(
        {
            "_id": minted(one, 0),
            "of": one,
            "copies": [
                {**{name: value for name, value in state.items() if name != "_id"}, "on": at(number)}
                for number, state in enumerate(states(one, secret, hits))
            ],
        }
        for one in IDS
    )
    put_documents(database, secret, hits)
    return {
        "source": "snapshots",
        "collection": "copies",
        "image": "after",
        "key_field": "of",
        "array_field": "copies",
        "time_field": "on",
    }


def _changes(document_id: ObjectId, secret: str, hits: int) -> Iterator[tuple[int, State]]:
    known = list(states(document_id, secret, hits))
    for number, (before, after) in enumerate(pairwise(known)):
        for name in ("name", "password", "hits"):
            if before[name] != after[name]:
                yield number, {"field": name, "old_value": before[name], "new_value": after[name]}


def flat_list(database: Any, secret: str, hits: int) -> dict[str, Any]:
    put_documents(
        database,
        secret,
        hits,
        log=lambda one: [
            {**change, "timestamp": at(number), "user": "ada"}
            for number, change in _changes(one, secret, hits)
        ],
    )
    return {"source": "embedded-changes", "list_field": "log", "user_field": "user"}


def list_with_bad_entries(database: Any, secret: str, hits: int) -> dict[str, Any]:
    put_documents(
        database,
        secret,
        hits,
        log=lambda one: [
            *({**change, "timestamp": at(number)} for number, change in _changes(one, secret, hits)),
            {"field": "password", "old_value": f"{secret}3", "new_value": f"{secret}4"},
            {"field": "hits", "new_value": hits + 4, "timestamp": "some day"},
            [secret, hits],
        ],
    )
    return {"source": "embedded-changes", "list_field": "log"}


def grouped_list(database: Any, secret: str, hits: int) -> dict[str, Any]:
    """Newest first; an entry holds several changes, and things that nobody reads."""

    def log(document_id: ObjectId) -> list[State]:
        saves: dict[int, list[State]] = {}
        for number, change in _changes(document_id, secret, hits):
            saves.setdefault(number, []).append(change)
        return [
            {"timestamp": at(number), "changes": changes, "text": f"{secret} and {hits}"}
            for number, changes in saves.items()
        ][::-1]

    put_documents(database, secret, hits, log=log)
    return {"source": "embedded-changes", "list_field": "log", "changes_field": "changes", "order": "desc"}


def patches(database: Any, secret: str, hits: int) -> dict[str, Any]:
    rows = []
    for document_id in IDS:
        front: State = {}
        for number, state in enumerate(states(document_id, secret, hits)):
            ops = [
                {"op": "replace" if front else "add", "path": f"/{name}", "value": state[name]}
                for name in ("name", "password", "hits")
                if front.get(name) != state[name]
            ]
            rows.append(
                {"_id": minted(document_id, number), "ref": document_id, "date": at(number), "ops": ops}
            )
            front = state
        wrong = {"op": "test", "path": "/password", "value": f"{secret} not"}
        rows.append({"_id": minted(document_id, 9), "ref": document_id, "date": at(9), "ops": [wrong]})
    database["patches"].insert_many(rows)
    put_documents(database, secret, hits)
    return {"source": "json-patch", "collection": "patches"}


LAYOUTS = [
    mongoengine_history,
    archive,
    archive_of_lists,
    flat_list,
    list_with_bad_entries,
    grouped_list,
    patches,
]
by_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda one: one.__name__)


def converter(options: dict[str, Any]) -> HistoryConverter:
    return HistoryConverter(SecretKey, **options)


def everything_stored(database: Any, layout: Layout, secret: str, hits: int) -> Any:
    """What a conversion leaves, byte for byte: versions, and the record but for its own moments."""
    for name in database.list_collection_names():
        database[name].delete_many({})
    with tracking(SecretKey, **RULES):
        made = converter(layout(database, secret, hits))
        report = made.convert_all()
        assert report.counts.documents == 3
        assert report.counts.gaps >= 3
    record = database[f"{HISTORY}_conversions"].find_one()
    return (
        stored(HISTORY),
        {name: record[name] for name in ("_id", "options", "counts", "bad")},
        report.to_dict(),
    )


@by_layout
def test_what_is_stored_does_not_depend_on_what_is_hidden(mongodb: Any, layout: Layout) -> None:
    """Two histories that differ in hidden and untracked values alone become the same versions, with the same ids."""
    with configured():
        one = everything_stored(mongodb, layout, "s3cret-", 100)
        other = everything_stored(mongodb, layout, "hunter2-", 7_000_000)
    assert one == other


CHANGED_RULES = [
    ({}, RULES),
    (RULES, {}),
    ({"untracked": ["log"]}, RULES),
    (RULES, {"hidden": ["name"], "untracked": ["log"]}),
]


@by_layout
@pytest.mark.parametrize(("before", "after"), CHANGED_RULES)
def test_changed_rules_make_nothing_twice(mongodb: Any, layout: Layout, before: Any, after: Any) -> None:
    """What was converted under other rules is known again, by every call."""
    with configured():
        with tracking(SecretKey, **before):
            made = converter(options := layout(mongodb, "s3cret-", 100))
            made.convert_all()
        rows = _rows(mongodb)
        with tracking(SecretKey, **after):
            again = converter(options)
            again.update(datetime(2000, 1, 1, tzinfo=UTC))
            again.restart()
            again.convert_all()
            found = again.verify()
            assert [one for one in found.differences if "rows" in one.reason] == []
            for document_id in IDS:
                list(history_of(SecretKey, document_id))
    now = _rows(mongodb)
    assert len(now) == len(set(now))
    assert set(rows) <= set(now)


def _rows(database: Any) -> list[str]:
    """The rows of all versions by where they lie: what rules of before left out may have come since."""
    return [repr(row) for version in database[HISTORY].find() for row in version["source"]["rows"]]


def test_entries_without_anything_of_their_own(mongodb: Any) -> None:
    """Changes of one moment that differ in what is hidden only are still two, and one that comes later is a third."""

    def entry(number: int) -> State:
        return {
            "field": "password",
            "old_value": f"p{number}",
            "new_value": f"p{number + 1}",
            "timestamp": BEGIN,
        }

    with configured(), tracking(SecretKey, **RULES):
        for document_id in IDS:
            mongodb["secret_keys"].insert_one(
                {"_id": document_id, "password": "p2", "log": [entry(0), entry(1)]}
            )
        made = converter({"source": "embedded-changes", "list_field": "log"})
        assert made.convert_all().counts.versions == 6
        mongodb["secret_keys"].update_many({}, {"$push": {"log": entry(2)}, "$set": {"password": "p3"}})
        made.update(BEGIN)
        assert [len(history_of(SecretKey, one)) for one in IDS] == [4] * 3  # a baseline in front
        assert made.verify().is_ok


def put_locks(database: Any, secret: str, *, has_copies: bool) -> dict[str, Any]:
    """A document of each class, with copies in a list or with changes in it."""
    for number, document_class in enumerate((SecretLock, SecretVault, SecretGate)):
        known = [
            {
                "_id": IDS[number],
                "_cls": document_class._class_name,
                "name": "n",
                "password": f"{secret}{step}",
            }
            for step in range(3)
        ]
        log = [
            {
                "field": "password",
                "old_value": one["password"],
                "new_value": other["password"],
                "timestamp": at(step),
            }
            for step, (one, other) in enumerate(pairwise(known))
        ]
        database["secret_locks"].insert_one({**known[-1], "log": [] if has_copies else log})
        if has_copies:
            copies = [{"state": one, "on": at(step)} for step, one in enumerate(known)]
            database["lock_copies"].insert_one({"_id": number, "of": IDS[number], "copies": copies})
    if not has_copies:
        return {"source": "embedded-changes", "list_field": "log"}
    return {"source": "snapshots", "collection": "lock_copies", "image": "after", "key_field": "of",
            "array_field": "copies", "state_field": "state", "time_field": "on"}  # fmt: skip


@pytest.mark.parametrize("has_copies", [False, True])
def test_each_class_by_its_own_rules(mongodb: Any, has_copies: bool) -> None:
    """What one of them hides is in no digest of its documents; other rules of another one make nothing of it twice."""

    def convert(**gates: Any) -> HistoryConverter:
        with (
            tracking(SecretLock, untracked=["log"]),
            tracking(SecretVault, untracked=["log"], hidden=["password"]),
            tracking(SecretGate, untracked=["log"], **gates),
        ):
            made = HistoryConverter(SecretLock, **options)
            made.update(datetime(2000, 1, 1, tzinfo=UTC))
            assert [one for one in made.verify().differences if "rows" in one.reason] == []
        return made

    def of_vault() -> list[bytes]:
        rows = mongodb[HISTORY].find_raw_batches(
            {"document_class": SecretVault._class_name}, sort=[("_id", 1)]
        )
        return list(rows)

    with configured():
        options = put_locks(mongodb, "s3cret-", has_copies=has_copies)
        convert(hidden=["name"])
        one, count = of_vault(), mongodb[HISTORY].count_documents({})
        assert convert(hidden=["password"]).last_report.new_versions == 0
        assert mongodb[HISTORY].count_documents({}) == count
        for name in mongodb.list_collection_names():
            mongodb[name].delete_many({})
        put_locks(mongodb, "hunter2-", has_copies=has_copies)
        convert(hidden=["name"])
        assert of_vault() == one
