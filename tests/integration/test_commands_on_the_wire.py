"""
What each operation costs on the wire: the exact commands, as data, so that the documentation shows what is tested.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mongoengine
import pymongo
import pytest
from mongoengine import fields
from pymongo.database import Database
from pymongo.monitoring import CommandListener

from django_mongo_history import changeset, history_of, track, untrack
from tests.judge import configured
from tests.versions import NEEDS_BIND

OWN = "ledger"
HISTORY = "document_history"
CHUNK_SIZE = 4

F, V, COMMIT, ABORT = f"findAndModify {OWN}", f"insert {HISTORY}", "commitTransaction", "abortTransaction"
FIND, INSERT, UPDATE, DELETE = f"find {OWN}", f"insert {OWN}", f"update {OWN}", f"delete {OWN}"


class Ledger(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    count = fields.IntField(default=0)
    items = fields.ListField(fields.IntField())
    hits = fields.IntField()
    other = fields.ReferenceField("self")
    meta = {"collection": OWN}


class Heard(CommandListener):
    """Every command that a client sends, with the collection that it is about."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def started(self, event: Any) -> None:
        target = event.command.get(event.command_name)
        self.commands.append(
            f"{event.command_name} {target}" if isinstance(target, str) else event.command_name
        )

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@pytest.fixture
def heard(mongodb: Database, mongodb_uri: str) -> Heard:
    """MongoEngine's default connection, overheard; two ledgers are there, written untracked."""
    listener = Heard()
    name = mongodb.name
    mongoengine.disconnect()
    mongoengine.connect(
        name, host=mongodb_uri, event_listeners=[listener], uuidRepresentation="standard", tz_aware=True
    )
    Ledger.drop_collection()
    Ledger.objects.insert([Ledger(number=1, name="a", items=[1]), Ledger(number=2, name="a", items=[1])])
    return listener


@contextmanager
def tracking(delivery: str, **options: Any) -> Iterator[None]:
    """The class tracked and everything that is done once (topology, indexes) done."""
    with configured(DELIVERY=delivery, CHUNK_SIZE=CHUNK_SIZE):
        track(Ledger, **options)
        Ledger(number=99).save()
        Ledger.objects(number=99).delete()
        try:
            yield
        finally:
            untrack(Ledger)


class Row(NamedTuple):
    """One operation: what an untracked class sends, and what a tracked one does in each mode."""

    operation: str
    call: Callable[[Ledger], Any]
    plain: list[str]
    atomic: list[str]
    sync: list[str]


def _saved(ledger: Ledger, **values: Any) -> None:
    for name, value in values.items():
        setattr(ledger, name, value)
    ledger.save()


def _raw() -> Any:
    return Ledger._get_collection()


COSTS = [
    Row("save, nothing changed", lambda one: one.save(), [], [], []),
    Row("save, fields set or unset", lambda one: _saved(one, name="b", count=None), [UPDATE], [F, V, COMMIT], [F, V]),
    Row("save, an element of a list", lambda one: _saved(one, items=[1, 2]), [UPDATE], [F, V, COMMIT], [F, V]),
    Row(
        "save, new with own key",
        lambda _one: Ledger(number=5).save(),
        [F, INSERT],
        [F, ABORT, INSERT, V, COMMIT],
        [F, INSERT, V],
    ),
    Row("save, new with force_insert", lambda _one: Ledger(number=5).save(force_insert=True), [INSERT], [INSERT, V, COMMIT], [INSERT, V]),
    Row("save, over an existing one", lambda _one: Ledger(number=1, name="c").save(), [F], [F, V, COMMIT], [F, V]),
    Row("update by key, $set", lambda _one: Ledger.objects(number=1).update(name="b"), [UPDATE], [F, V, COMMIT], [F, V]),
    Row("update by key, $set, no change", lambda _one: Ledger.objects(number=1).update(name="a"), [UPDATE], [F, ABORT], [F]),
    Row("update by key, nothing found", lambda _one: Ledger.objects(number=77).update(name="a"), [UPDATE], [F, ABORT], [F]),
    Row("update by key, $inc", lambda _one: Ledger.objects(number=1).update(inc__count=1), [UPDATE], [F, FIND, V, COMMIT], [F, FIND, COMMIT, V]),
    Row("update_one by query, $set", lambda _one: Ledger.objects(name="a").update_one(count=5), [UPDATE], [F, V, COMMIT], [F, V]),
    Row("update of many, $set", lambda _one: Ledger.objects(name="a").update(count=5), [UPDATE], [FIND, UPDATE, V, COMMIT], [FIND, UPDATE, COMMIT, V]),
    Row("update of many, $inc", lambda _one: Ledger.objects(name="a").update(inc__count=5), [UPDATE], [FIND, UPDATE, FIND, V, COMMIT], [FIND, UPDATE, FIND, COMMIT, V]),
    Row("modify", lambda _one: Ledger.objects(number=1).modify(name="b"), [F], [F, V, COMMIT], [F, V]),
    Row("modify, new=True", lambda _one: Ledger.objects(number=1).modify(inc__count=1, new=True), [F], [F, FIND, V, COMMIT], [F, FIND, COMMIT, V]),
    Row("modify with only()", lambda _one: Ledger.objects(number=1).only("name").modify(name="b"), [F], [FIND, F, V, COMMIT], [FIND, F, COMMIT, V]),
    Row("modify, remove=True", lambda _one: Ledger.objects(number=1).modify(remove=True), [F], [F, V, COMMIT], [F, V]),
    Row("upsert_one, made", lambda _one: Ledger.objects(number=7).upsert_one(name="b"), [UPDATE, FIND], [F, FIND, V, COMMIT, FIND], [F, V, FIND]),
    Row("insert of one", lambda _one: Ledger.objects.insert(Ledger(number=5), load_bulk=False), [INSERT], [INSERT, V, COMMIT], [INSERT, V]),
    Row("insert of a chunk", lambda _one: Ledger.objects.insert([Ledger(number=5 + n) for n in range(CHUNK_SIZE)], load_bulk=False), [INSERT], [INSERT, V, COMMIT], [INSERT, V]),
    Row("insert of two chunks", lambda _one: Ledger.objects.insert([Ledger(number=5 + n) for n in range(2 * CHUNK_SIZE)], load_bulk=False), [INSERT], [INSERT, V, COMMIT] * 2, [INSERT, V] * 2),
    Row("delete of a document", lambda one: one.delete(), [DELETE], [F, V, COMMIT], [F, V]),
    Row("delete by query", lambda _one: Ledger.objects(name="a").delete(), [DELETE], [FIND, DELETE, V, COMMIT], [FIND, DELETE, COMMIT, V]),
    Row("delete, nothing found", lambda _one: Ledger.objects(name="z").delete(), [DELETE], [FIND, DELETE, ABORT], [FIND, DELETE, ABORT]),
    Row("bulk_write of two updates", lambda _one: _raw().bulk_write([pymongo.UpdateOne({"_id": n}, {"$set": {"name": "b"}}) for n in (1, 2)]), [UPDATE], [F, F, V, COMMIT], [F, F, COMMIT, V]),
    Row(
        "bulk_write of a chunk of updates by key",
        lambda _one: _raw().bulk_write([pymongo.UpdateOne({"_id": 50 + n}, {"$inc": {"count": 1}}, upsert=True) for n in range(CHUNK_SIZE)]),
        [UPDATE],
        [FIND, UPDATE, FIND, V, COMMIT],
        [FIND, UPDATE, FIND, COMMIT, V],
    ),
    Row("read", lambda _one: list(Ledger.objects(name="a")), [FIND], [FIND], [FIND]),
    Row("reload", lambda one: one.reload(), [FIND], [FIND], [FIND]),
    Row("count", lambda _one: Ledger.objects(name="a").count(), [f"aggregate {OWN}"], [f"aggregate {OWN}"], [f"aggregate {OWN}"]),
]  # fmt: skip


@pytest.mark.parametrize("row", COSTS, ids=lambda row: row.operation)
@pytest.mark.parametrize("mode", ["plain", "atomic", "sync"])
def test_commands(heard: Heard, row: Row, mode: str) -> None:
    """Exactly these commands, and nothing of ours for a class that nobody tracks."""
    if mode == "plain":
        assert _commands(heard, row) == row.plain
    else:
        with tracking(mode):
            assert _commands(heard, row) == getattr(row, mode)


def _commands(heard: Heard, row: Row) -> list[str]:
    one = Ledger.objects.get(number=1)
    heard.commands.clear()
    row.call(one)
    return list(heard.commands)


def test_writes_of_untracked_paths_only(heard: Heard) -> None:
    """They take no transaction and leave no version."""
    with tracking("atomic", untracked=["hits"]):
        heard.commands.clear()
        Ledger.objects(number=1).update(set__hits=5)
        assert heard.commands == [UPDATE]
        assert len(history_of(Ledger, 1)) == 1


def test_a_changeset_costs_nothing(heard: Heard) -> None:
    """Who and why travel with the version."""
    with tracking("atomic"):
        heard.commands.clear()
        with changeset(user="ann", reason="why", ticket=1):
            Ledger.objects(number=1).update(name="b")
        assert heard.commands == [F, V, COMMIT]


@NEEDS_BIND
def test_the_callers_transaction_gets_no_second_one(heard: Heard) -> None:
    """The version goes with the write, the commit is the caller's."""
    with tracking("atomic"):
        client = mongoengine.get_connection()
        heard.commands.clear()
        with client.start_session() as session, session.bind(end_session=False), session.start_transaction():
            Ledger.objects(number=1).update(name="b")
            Ledger.objects(number=2).delete()
        assert heard.commands == [F, V, F, V, COMMIT]


def test_reading_a_history(heard: Heard) -> None:
    """Its length takes two finds in one snapshot; all its states one more for all rows, and one for the snapshots."""
    with tracking("atomic"):
        for number in range(30):
            Ledger.objects(number=1).update(count=number + 1)
        heard.commands.clear()
        assert len(history_of(Ledger, 1)) == 31
        assert heard.commands == [FIND, f"find {HISTORY}", ABORT]
        heard.commands.clear()
        assert [v.state["count"] for v in history_of(Ledger, 1)][-1] == 30
        assert len(heard.commands) <= 8, heard.commands


def test_the_first_write_makes_the_indexes_once(heard: Heard) -> None:
    """What is made at first is not made again."""
    with configured(DELIVERY="atomic"):
        track(Ledger)
        Ledger.objects(number=1).update(name="b")
        assert f"createIndexes {HISTORY}" in heard.commands
        heard.commands.clear()
        Ledger.objects(number=1).update(name="c")
        assert heard.commands == [F, V, COMMIT]
        untrack(Ledger)


def test_the_documentation_shows_this_table() -> None:
    """Where a page of the docs has the table of commands, it is this one."""
    for page in (Path(__file__).parents[2] / "docs").rglob("*.md"):
        shown = re.search(
            r"<!-- commands -->\n(.*?)<!-- /commands -->", page.read_text(encoding="utf-8"), re.DOTALL
        )
        if shown is not None:
            assert shown.group(1).strip() == as_markdown().strip(), (
                f"{page.name}: `python -m management bench commands --write` brings it into step"
            )


def as_markdown() -> str:
    """The table for the docs."""
    lines = ["| operation | untracked | `atomic` | `sync` |", "|---|---|---|---|"]
    lines += [
        f"| {row.operation} | {' · '.join(row.plain) or 'nothing'} | {' · '.join(row.atomic) or 'nothing'} | "
        f"{' · '.join(row.sync) or 'nothing'} |"
        for row in COSTS
    ]
    return "\n".join(lines)
