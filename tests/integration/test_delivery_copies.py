"""
Celery mode, and a broker that loses what it took: the process that published it has a copy until the store has it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
import redis
from celery import Celery
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import changeset, depots, history_of
from django_mongo_history.delivery import copies as copies_module
from django_mongo_history.delivery import moving
from management.servers import Standalone
from tests.celery_parts import MakeWorker, eventually
from tests.commanding import run
from tests.conftest import CLIENT_OPTIONS
from tests.fault import delivery_load as loads
from tests.fault.delivery_load import load
from tests.judge import configured, tracking
from tests.overheard import overhear
from tests.versions import NEEDS_BIND

HISTORY = "document_history"
OUTBOX = "document_history_outbox"
DEAD = "document_history_dead"
Mongo = Database[dict[str, Any]]


class Satchel(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    secret = fields.StringField()
    meta = {"collection": "satchels"}


class InboundParcel(mongoengine.Document):
    """On a server without transactions."""

    number = fields.IntField(primary_key=True)
    meta = {"collection": "inbound_parcel", "db_alias": "alone"}


@pytest.fixture
def queue(celery_app: Celery, broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def publishing(mongodb: Mongo, queue: redis.Redis) -> Iterator[None]:
    with configured(DELIVERY="celery"), tracking(Satchel, hidden=["secret"]):
        yield


def write(*names: str) -> None:
    for name in names:
        with changeset(user=name, reason=f"made {name}"):
            Satchel(number=1, name=name, secret="swordfish").save()


def kept_rows() -> list[bytes]:
    shelves = depots.copies._shelves.values()
    return [row for shelf in shelves for copy in shelf.copies for row in copy.rows]


def shown() -> list[tuple[str, str | None, bool]]:
    found = history_of(Satchel, 1)
    return [(one.operation.value, one.reason, one.is_on_its_way) for one in found]


@pytest.mark.usefixtures("publishing")
def test_what_the_broker_has_lost_is_stored_all_the_same(
    mongodb: Mongo, queue: redis.Redis, worker: MakeWorker
) -> None:
    write("a", "b", "c")
    assert depots.copies.count() == 3
    queue.flushdb()
    depots.copies.look()
    assert shown() == [
        ("create", "made a", True),
        ("update", "made b", True),
        ("update", "made c", True),
    ]
    assert (mongodb[OUTBOX].count_documents({}), queue.llen("celery")) == (3, 1)
    worker()
    eventually(
        lambda: mongodb[OUTBOX].count_documents({}) == 0, what="the worker to store what it was told of"
    )
    assert shown() == [
        ("create", "made a", False),
        ("update", "made b", False),
        ("update", "made c", False),
    ]


@pytest.mark.usefixtures("publishing")
def test_what_is_stored_is_not_kept(mongodb: Mongo, queue: redis.Redis, worker: MakeWorker) -> None:
    worker()
    write("a", "b")
    eventually(lambda: mongodb[HISTORY].count_documents({}) == 2, what="two versions")
    depots.copies.look()
    assert depots.copies.count() == 0
    assert mongodb[OUTBOX].count_documents({}) == 0


@pytest.mark.usefixtures("publishing")
def test_a_worker_that_was_only_slow_stores_nothing_twice(
    mongodb: Mongo, queue: redis.Redis, worker: MakeWorker
) -> None:
    write("a", "b")
    depots.copies.look()
    assert (mongodb[OUTBOX].count_documents({}), queue.llen("celery")) == (2, 3)
    worker()
    eventually(lambda: loads.at_broker(queue) == 0, what="the messages to be worked off")
    eventually(lambda: mongodb[OUTBOX].count_documents({}) == 0, what="an empty outbox")
    assert mongodb[HISTORY].count_documents({}) == 2
    assert shown() == [("create", "made a", False), ("update", "made b", False)]


@pytest.mark.usefixtures("publishing")
def test_nobody_moves_it_but_the_sweep_without_a_broker(mongodb: Mongo, queue: redis.Redis) -> None:
    write("a")
    queue.flushdb()
    depots.copies.look()
    queue.flushdb()
    assert run("history_flush").error is None
    assert shown() == [("create", "made a", False)]


@pytest.mark.usefixtures("publishing")
def test_what_was_laid_aside_stays_there(mongodb: Mongo) -> None:
    """It has had its tries, and waits for somebody."""
    write("a", "b")
    (depot,) = depots.each()
    moving.bury(depot, [kept_rows()[0]], "refused", 8)
    depots.copies.look()
    assert mongodb[OUTBOX].count_documents({}) == 1
    assert mongodb[DEAD].count_documents({}) == 1
    assert not set(mongodb[OUTBOX].distinct("_id")) & set(mongodb[DEAD].distinct("_id"))


@pytest.mark.usefixtures("publishing")
def test_copies_hold_no_hidden_value(mongodb: Mongo) -> None:
    write("a")
    assert b"swordfish" not in b"".join(kept_rows())
    assert b"made a" in b"".join(kept_rows())


@pytest.mark.usefixtures("publishing")
def test_a_database_that_was_dropped_does_not_come_back(mongodb: Mongo, caplog: Any) -> None:
    write("a", "b")
    mongodb.client.drop_database(mongodb.name)
    depots.copies.look()
    assert mongodb.name not in mongodb.client.list_database_names()
    assert f"{mongodb.name} has been dropped, and 2 versions on their way with it" in caplog.text
    assert depots.copies.count() == 0


def test_versions_that_lie_in_a_database_of_their_own_outlive_that_of_the_documents(
    mongodb: Mongo, queue: redis.Redis
) -> None:
    audit = mongodb.client[f"{mongodb.name}_audit"]
    try:
        with configured(DELIVERY="celery", DATABASE=audit.name), tracking(Satchel):
            write("a", "b")
            audit.create_collection("of_others")
            mongodb.client.drop_database(mongodb.name)
            depots.copies.look()
            assert audit[OUTBOX].count_documents({}) == 2
            assert mongodb.name not in mongodb.client.list_database_names()
    finally:
        mongodb.client.drop_database(audit.name)


def test_a_database_for_the_versions_that_is_not_there_yet(mongodb: Mongo, queue: redis.Redis) -> None:
    """The first versions of a project: no worker has stored any, and nothing has made that database."""
    name = f"{mongodb.name}_fresh"
    try:
        with configured(DELIVERY="celery", DATABASE=name), tracking(Satchel):
            write("a")
            queue.flushdb()
            depots.copies.look()
            assert mongodb.client[name][OUTBOX].count_documents({}) == 1
            assert run("history_flush").error is None
            assert shown() == [("create", "made a", False)]
    finally:
        mongodb.client.drop_database(name)


@pytest.mark.usefixtures("publishing")
def test_what_the_store_has_refused_keeps_its_time(mongodb: Mongo, queue: redis.Redis) -> None:
    """It waits in the outbox for its next try: nobody is sent to try it before."""
    write("a", "b")
    (depot,) = depots.each()
    mongodb.create_collection(HISTORY, validator={"operation": "delete"})
    assert len(moving.receive(depot, kept_rows()[:1])) == 1
    queue.flushdb()
    depots.copies.look()
    assert mongodb[OUTBOX].count_documents({}) == 2
    (message,) = [
        json.loads(base64.b64decode(json.loads(one)["body"])) for one in queue.lrange("celery", 0, -1)
    ]
    assert len(message[0][0]["ids"]) == 1, "the one that was lost, not the one that was refused"
    assert mongodb[OUTBOX].distinct("failed.tries") == [1]


def test_the_thread_looks_by_itself(mongodb: Mongo, celery_app: Celery, queue: redis.Redis) -> None:
    """Nobody calls, and the process goes on."""
    with configured(DELIVERY="celery", CONFIRM_AFTER_S=0.2), tracking(Satchel):
        write("a", "b")
        queue.flushdb()
        eventually(lambda: mongodb[OUTBOX].count_documents({}) == 2, what="two versions in the outbox")
        assert shown() == [("create", "made a", True), ("update", "made b", True)]


@pytest.mark.usefixtures("publishing")
def test_a_connection_that_was_closed_is_waited_for(mongodb: Mongo, mongodb_uri: str, caplog: Any) -> None:
    write("a")
    mongoengine.disconnect()
    depots.copies.look()
    assert depots.copies.count() == 1
    assert "1 versions that the broker took" in caplog.text
    mongoengine.connect(mongodb.name, host=mongodb_uri, **CLIENT_OPTIONS)
    depots.copies.look()
    assert (depots.copies.count(), mongoengine.get_db()[OUTBOX].count_documents({})) == (0, 1)


@pytest.mark.usefixtures("publishing")
def test_a_look_costs_one_command_where_all_is_well(mongodb: Mongo, mongodb_uri: str) -> None:
    """However many are kept; and the writes themselves cost what they did."""
    write("a")
    overheard = overhear(mongodb.name, mongodb_uri)
    write("b", "c")
    assert overheard.writes() == [("findAndModify", "satchels")] * 2
    (depot,) = depots.each()
    for row in kept_rows():
        depot.store_of(f"{mongodb.name}.any").append_rows([row])
    overheard.commands.clear()
    depots.copies.look()
    assert overheard.commands == [("find", HISTORY)]
    mongoengine.disconnect()


def test_large_versions_and_those_of_a_transaction_need_no_copy(mongodb: Mongo, queue: redis.Redis) -> None:
    """They are in the outbox already."""
    with configured(DELIVERY="celery", MESSAGE_MAX_BYTES=1024), tracking(Satchel):
        Satchel(number=1, name="x" * 5000).save()
        assert mongodb[OUTBOX].count_documents({}) == 1
        assert depots.copies.count() == 0
        Satchel(number=2, name="x").save()
        assert depots.copies.count() == 1


@NEEDS_BIND
@pytest.mark.usefixtures("publishing")
def test_a_writer_that_must_look_itself_does_so_outside_of_its_transaction(
    mongodb: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a session bound that has no transaction yet: the look is none of its commands."""
    monkeypatch.setattr(copies_module, "MOST_BYTES", 1)
    with mongoengine.get_connection().start_session() as session, session.bind(end_session=False):
        write("a", "b")
        assert depots.copies.count() == 0
        with session.start_transaction():
            assert Satchel.objects.get(number=1).name == "b"
    assert shown() == [("create", "made a", True), ("update", "made b", True)]


def test_none_where_tasks_run_at_once_or_the_broker_is_relied_upon(
    mongodb: Mongo, celery_app: Celery, eager_tasks: None
) -> None:
    with configured(DELIVERY="celery"), tracking(Satchel):
        Satchel(number=1).save()
        assert depots.copies.count() == 0
    celery_app.conf.task_always_eager = False
    with configured(DELIVERY="celery", CONFIRM_AFTER_S=None), tracking(Satchel):
        Satchel(number=2).save()
        assert depots.copies.count() == 0


def test_a_server_without_transactions(
    celery_app: Celery, queue: redis.Redis, standalone: Standalone
) -> None:
    """One node is its own majority."""
    mongoengine.connect("alone", host=standalone.uri, alias="alone", **CLIENT_OPTIONS)
    there = mongoengine.get_db("alone")
    try:
        with configured(DELIVERY="celery"), tracking(InboundParcel):
            InboundParcel(number=1).save()
            InboundParcel(number=2).save()
            stored = kept_rows()[:1]
            (depot,) = depots.each(using="alone")
            depot.store_of("alone.inbound_parcel").append_rows(stored)
            depots.copies.look()
            assert there[OUTBOX].distinct("document_id") == [2]
    finally:
        there.client.drop_database("alone")
        mongoengine.disconnect("alone")


def test_a_store_elsewhere_that_is_away(
    mongodb: Mongo, celery_app: Celery, queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be asked: the outbox, which is beside the documents, takes them all."""
    with Standalone() as away:
        uri = f"{away.uri}?serverSelectionTimeoutMS=100"
        mongoengine.connect("away", host=uri, alias="versions", **CLIENT_OPTIONS)
        with configured(DELIVERY="celery", ALIAS="versions"), tracking(Satchel):
            write("a")
            away.kill()
            monkeypatch.setattr(copies_module, "_LOOK_S", 0.5)
            depots.copies.look()
            assert (depots.copies.count(), mongodb[OUTBOX].count_documents({})) == (0, 1)
    mongoengine.disconnect("versions")


def test_the_end_of_a_process_does_not_wait_for_a_server_that_hangs(
    celery_app: Celery, queue: redis.Redis, caplog: Any
) -> None:
    """It accepts connections and says nothing; without a bound this would wait until it does."""
    with Standalone() as server:
        mongoengine.connect("hanging", host=server.uri, alias="alone", **CLIENT_OPTIONS)
        with configured(DELIVERY="celery"), tracking(InboundParcel):
            InboundParcel(number=1).save()
            (node,) = server.nodes
            node.pause()
            try:
                depots.copies.finish(timeout_s=0.3)
            finally:
                node.resume()
        assert "The process ends, and 1 versions are with the broker alone" in caplog.text
        mongoengine.disconnect("alone")


@pytest.mark.parametrize("confirm_after_s", [30.0, None])
def test_a_program_that_ends(
    confirm_after_s: float | None, mongodb: Mongo, celery_app: Celery, queue: redis.Redis
) -> None:
    """Its last copies go into the outbox, unless the broker is relied upon."""
    settings = {"MONGO_HISTORY": {"CONFIRM_AFTER_S": confirm_after_s}}
    with load("w", "celery", documents=1, count=4, settings=settings) as writer:
        writer.wait()
    assert writer.exit_code == 0
    assert mongodb[OUTBOX].count_documents({}) == (0 if confirm_after_s is None else 4)
    assert queue.llen("celery") == (4 if confirm_after_s is None else 5)


def test_a_process_of_a_pool_that_ends(
    mongodb: Mongo, celery_app: Celery, queue: redis.Redis, worker: MakeWorker
) -> None:
    """Such a one ends without what Python calls at the end of a process."""
    from tests.celery_tasks import see

    settings = {"MONGO_HISTORY": {"DELIVERY": "celery", "CELERY_QUEUE": "history"}}
    one = worker(pool="prefork", concurrency=1, settings=settings)
    see.delay("x")
    eventually(lambda: queue.llen("history") == 1, what="the message of the task's version")
    assert mongodb[OUTBOX].count_documents({}) == 0
    one.terminate()
    assert mongodb[OUTBOX].count_documents({}) == 1
