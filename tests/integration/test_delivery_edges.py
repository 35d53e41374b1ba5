"""What goes wrong at the edges of delivery: a session of another client, a write concern that is not met, a race."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import mongoengine
import pytest
from celery import Celery
from celery.exceptions import Retry
from mongoengine import fields
from pymongo.database import Database
from pymongo.write_concern import WriteConcern

from django_mongo_history import changesets, depots, history_of, runtime, tasks
from django_mongo_history.delivery import moving
from django_mongo_history.delivery.messages import Message
from django_mongo_history.errors import StoreError
from django_mongo_history.storage.base import Query
from django_mongo_history.storage.mongo import MongoStore
from management.servers import Standalone
from tests.commanding import run
from tests.conftest import CLIENT_OPTIONS
from tests.judge import configured, tracking
from tests.versions import NEEDS_BIND

HISTORY = "document_history"
OUTBOX = "document_history_outbox"
Mongo = Database[dict[str, Any]]


class Brink(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    body = fields.StringField()
    meta = {"collection": "brink"}


@pytest.fixture
def other(mongodb: Mongo, standalone: Standalone) -> Iterator[Mongo]:
    """The server of the versions."""
    mongoengine.connect(mongodb.name, host=standalone.uri, alias="versions", **CLIENT_OPTIONS)
    yield mongoengine.get_db("versions")
    with standalone.client() as client:
        client.drop_database(mongodb.name)


@pytest.fixture
def waiting(mongodb: Mongo) -> Iterator[None]:
    """Versions wait in the outbox until a test moves them."""
    with configured(DELIVERY="outbox"), tracking(Brink):
        yield


@NEEDS_BIND
@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("mode", ["auto", "sync", "celery"])
def test_a_session_of_the_documents_and_versions_elsewhere(
    mode: str, in_transaction: bool, mongodb: Mongo, other: Mongo, celery_app: Celery
) -> None:
    """The driver refuses all other clients where a session is bound; all that is asked is answered all the same."""
    with configured(DELIVERY=mode, ALIAS="versions"), tracking(Brink):
        Brink(number=1, name="a").save()
        run("history_flush")
        with mongoengine.get_connection().start_session() as session, session.bind(end_session=False):
            with session.start_transaction() if in_transaction else nullcontext():
                Brink.objects(number=1).update(set__name="b")
                found = history_of(Brink, 1)
                assert (found[0].user, found[-1]["name"]) == (None, "b")
                stored = len(list(history_of(Brink).versions()))
                assert stored == (int(in_transaction) if mode == "celery" else 2), (
                    "messages wait for a worker"
                )
                assert [one.name for one in history_of(Brink).as_of(datetime.now(UTC))] == ["b"]
                assert len(list(changesets())) == stored
            if not in_transaction:
                Brink.drop_collection()
                operations = [one.operation.value for one in history_of(Brink, 1)]
                assert operations == ([] if mode == "celery" else ["create", "update", "delete"])


def test_an_unmet_write_concern_is_not_taken_for_stored(waiting: None, mongodb: Mongo) -> None:
    """
    What only the primary has may vanish when it steps down: it stays in the outbox, and no try is counted.

    Nor at the second try, which finds it there: of one document alone the driver reports the duplicate only.
    """
    Brink(number=1).save()
    Brink(number=2).save()
    (depot,) = depots.each()
    target = mongodb[HISTORY].with_options(write_concern=WriteConcern(w=2, wtimeout=100))
    weak = moving.Depot(depot.outbox, depot.dead_letters, lambda _name: MongoStore(target), depot.now, 1)
    ids = [version_id for version_id, _packet in depot.outbox.packets()]
    for some in (ids[:1], ids[:1], ids, ids):
        with pytest.raises(StoreError, match="could not be stored"):
            moving.sweep(weak, some)
    assert (depot.outbox.waiting().count, depot.outbox.waiting().refused) == (2, 0)
    assert depot.dead_letters.count() == 0
    assert moving.sweep(depot).stored == 2


@pytest.mark.parametrize("number", [1, 2])
def test_a_clash_in_an_index_of_somebody_else_is_no_version_that_is_there(
    waiting: None, mongodb: Mongo, number: int
) -> None:
    """Two versions may have one value in an index that a project has made: the second is refused, not taken as stored."""
    mongodb[HISTORY].create_index("snapshot.name", unique=True, sparse=True)
    mongodb[HISTORY].insert_one({"snapshot": {"name": "a"}})
    Brink.objects.insert([Brink(number=one, name="a") for one in range(number)])
    (depot,) = depots.each()
    counts = moving.sweep(depot)
    assert (counts.stored, counts.refused, mongodb[OUTBOX].count_documents({})) == (0, number, number)
    mongodb[HISTORY].drop_index("snapshot.name_1")
    assert moving.sweep(depot, with_postponed=True).stored == number
    assert [len(history_of(Brink, one)) for one in range(number)] == [1] * number


def test_a_worker_that_starts_while_its_server_is_away(mongodb: Mongo, celery_app: Celery) -> None:
    """A task that fails is acknowledged, and what it carried is gone: the message is tried again instead."""
    carried = Message("away", "away", rows=(b"any",)).to_json()
    with Standalone() as away:
        uri = f"{away.uri}?serverSelectionTimeoutMS=100"
        mongoengine.connect("away", host=uri, alias="away", **CLIENT_OPTIONS)
        away.kill()
        tasks.deliver.push_request(id="1", args=(carried,), kwargs={}, called_directly=False, retries=0)
        try:
            with pytest.raises(Retry) as caught:
                tasks.deliver.run(carried)
        finally:
            tasks.deliver.pop_request()
            mongoengine.disconnect("away")
    assert caught.value.__context__ is None, "events show it, and drivers put documents into their errors"
    assert [waiting.messages for waiting in tasks.waiting_messages().values()] == [1]


def test_a_large_version_that_is_moved_while_it_is_read(roomy: None, waiting: None, mongodb: Mongo) -> None:
    """Its first row is read in the outbox, then another process takes the rest out: the store has it whole."""
    Brink(number=1, body="x" * 9_000_000).save()
    (depot,) = depots.each()
    ((version_id, packet),) = depot.outbox.packets()
    depot.store_of(f"{mongodb.name}.brink").append_rows(packet)
    mongodb[OUTBOX].delete_many({"at": {"$exists": False}})  # as a reader in between may see it
    store = runtime.open_store(mongodb["brink"])
    assert [one.id for one in store.find(Query())] == [version_id]
    assert len(history_of(Brink, 1)[0]["body"]) == 9_000_000
    mongodb[HISTORY].delete_many({})
    unreadable: list[Any] = []
    assert list(store.find(Query(unreadable=unreadable.append))) == []
    assert [error.facts["version"] for error in unreadable] == [version_id]


def test_of_a_long_outbox_a_part_is_held_at_a_time(waiting: None, mongodb: Mongo) -> None:
    """Whoever reads a long way streams it; what is moved meanwhile is found in the store, each version once."""
    for start in range(0, 1500, 100):
        Brink.objects.insert([Brink(number=one, body="x" * 5_000) for one in range(start, start + 100)])
    (depot,) = depots.each()
    store = runtime.open_store(mongodb["brink"])
    tracemalloc.start()
    try:
        assert sum(1 for _ in store.find(Query())) == 1500
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000, "bytes, where 8 million wait"
    streamed = store.find(Query())
    found = [next(streamed).document_id for _ in range(150)]
    assert moving.sweep(depot).stored == 1500
    found += [record.document_id for record in streamed]
    assert found == list(range(1500))


def test_what_another_sweep_has_moved_meanwhile_is_not_refused(waiting: None, mongodb: Mongo) -> None:
    """Read here, moved there, refused here: nothing is left to be done, and nothing is said to be wrong."""
    Brink(number=1).save()
    (depot,) = depots.each()
    packets = dict(depot.outbox.packets())
    depot.outbox.remove(packets)
    mongodb.create_collection("empty", validator={"operation": "never"})
    elsewhere = moving.Depot(
        depot.outbox, depot.dead_letters, lambda _name: MongoStore(mongodb["empty"]), depot.now, 1
    )
    counts = moving._move(elsewhere, packets)
    assert (counts.refused, counts.dead, counts.errors, counts.left) == (0, 0, [], [])
    assert depot.dead_letters.count() == 0


@NEEDS_BIND
@pytest.mark.parametrize("in_transaction", [False, True])
def test_moving_has_no_part_in_a_bound_session(
    waiting: None, mongodb: Mongo, other: Mongo, eager_tasks: None, in_transaction: bool
) -> None:
    """Commands and an eager sweep, with another client beside the bound one: they move what is committed, and only that."""
    Brink(number=1, name="a").save()
    client = mongoengine.get_connection()
    with (
        client.start_session() as session,
        session.bind(),
        session.start_transaction() if in_transaction else nullcontext(),
    ):
        if in_transaction:
            Brink(number=2, name="b").save()
        assert run("history_status").error is None
        assert run("history_flush").error is None
        tasks.sweep.delay().get()
        if in_transaction:
            session.abort_transaction()
    assert [row["document_id"] for row in mongodb[HISTORY].find()] == [1]
    assert mongodb[OUTBOX].count_documents({}) == 0
