"""
Versions that go by a broker or an outbox to real workers: what a write costs, what a version says, and that it is one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import mongoengine
import pytest
import redis
from bson.raw_bson import RawBSONDocument
from celery import Celery
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import changeset, depots, history_of
from tests.celery_parts import MakeWorker, Program, eventually
from tests.celery_requests import Visitor, requested
from tests.fault import delivery_load as loads
from tests.fault.delivery_load import load
from tests.fault.delivery_writer import ByCelery
from tests.judge import RAW, configured, tracking
from tests.overheard import overhear
from tests.versions import NEEDS_BIND

HISTORY = "document_history"
OUTBOX = "document_history_outbox"
Mongo = Database[dict[str, Any]]


class Freight(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    body = fields.StringField()
    meta = {"collection": "freight"}


@pytest.fixture
def queue(broker_url: str) -> Iterator[redis.Redis]:
    """The broker's own view of its queue."""
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture(params=["celery", "outbox"])
def mode(request: pytest.FixtureRequest, mongodb: Mongo, celery_app: Celery) -> Iterator[str]:
    with configured(DELIVERY=request.param), tracking(Freight):
        yield request.param


@pytest.fixture
def by_celery(mongodb: Mongo, celery_app: Celery) -> Iterator[None]:
    with configured(DELIVERY="celery"), tracking(Freight):
        yield


@pytest.fixture
def by_outbox(mongodb: Mongo, celery_app: Celery) -> Iterator[None]:
    with configured(DELIVERY="outbox"), tracking(Freight):
        yield


@pytest.fixture
def roomy(mongodb: Mongo) -> Iterator[None]:
    """The server of the tests has too small a cache to take 9 MB with its version in one transaction."""
    set_parameter = partial(mongodb.client.admin.command, "setParameter", 1)
    set_parameter(wiredTigerEngineRuntimeConfig="cache_size=1GB")
    yield
    set_parameter(wiredTigerEngineRuntimeConfig="cache_size=256MB")


def stored(mongodb: Mongo) -> int:
    return mongodb[HISTORY].count_documents({"at": {"$exists": True}})


def operations(number: int) -> list[str]:
    return [version.operation.value for version in history_of(Freight, number)]


def messages(client: redis.Redis, count: int) -> list[dict[str, Any]]:
    """What waits in the queue, as soon as it is so many."""
    eventually(lambda: client.llen("celery") >= count, what=f"{count} messages")
    return [json.loads(one) for one in client.lrange("celery", 0, -1)]


def calls(client: redis.Redis) -> Counter[str]:
    """The commands that the broker has run so far; on all of its databases."""
    stats = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): facts["calls"] for name, facts in stats.items()})


# -- what a write costs ------------------------------------------------------------------------------------------------

OUR_OWN = {"info", "llen", "lrange"}
EXPECTED = {"celery": ["findAndModify"], "outbox": ["findAndModify", "insert", "commitTransaction"]}


def test_a_write_is_one_command_and_one_message(
    mode: str, mongodb_uri: str, mongodb: Mongo, queue: redis.Redis
) -> None:
    """Counted at both ends: by the driver's own events, and by the broker's own counters."""
    listener = overhear(mongodb.name, mongodb_uri)
    Freight(number=1, name="first").save()
    messages(queue, 1)
    listener.commands.clear()
    before = calls(queue)
    Freight.objects(number=1).update(set__name="second")
    assert [name for name, _collection in listener.commands] == EXPECTED[mode]
    messages(queue, 2)
    spent = calls(queue) - before
    assert {name: count for name, count in spent.items() if name not in OUR_OWN} == {"lpush": 1}


def test_a_request_is_one_command_and_one_message(
    mode: str, mongodb_uri: str, mongodb: Mongo, queue: redis.Redis
) -> None:
    """A view that saves one document, behind the middleware: who and why cost nothing more at either end."""
    listener = overhear(mongodb.name, mongodb_uri)
    Freight(number=1, name="first").save()
    messages(queue, 1)
    freight = Freight.objects.get(number=1)
    freight.name = "second"
    listener.commands.clear()
    before = calls(queue)
    requested(freight.save, user=Visitor(7))
    assert [name for name, _collection in listener.commands] == EXPECTED[mode]
    messages(queue, 2)
    spent = calls(queue) - before
    assert {name: count for name, count in spent.items() if name not in OUR_OWN} == {"lpush": 1}


def test_a_write_that_changes_nothing_sends_nothing(mode: str, mongodb: Mongo, queue: redis.Redis) -> None:
    """Neither a version nor a message."""
    Freight(number=1, name="same").save()
    messages(queue, 1)
    Freight.objects(number=1).update(set__name="same")
    Freight.objects(number=2).update(set__name="nobody")
    Freight(number=3).save()
    assert len(messages(queue, 2)) == 2


# -- what a version says -----------------------------------------------------------------------------------------------


def test_a_version_is_of_the_write_not_of_the_worker(
    mode: str, mongodb: Mongo, worker: MakeWorker, queue: redis.Redis
) -> None:
    """Moment, user, address, reason, extra and changeset: the worker comes later, and is nobody."""
    begun = datetime.now(UTC)
    with changeset(user="ann", remote_addr="192.0.2.7", reason="by hand", ticket=7) as opened:
        Freight(number=1, name="a").save()
        Freight.objects(number=1).update(set__name="b")
    with changeset(user="bob", remote_addr="192.0.2.8", reason="by foot"):
        Freight.objects(number=1).delete()
    ended = datetime.now(UTC)
    eventually(lambda: queue.llen("celery") >= 1, what="a message")
    assert stored(mongodb) == 0
    before = [facts(version) for version in history_of(Freight, 1)] if mode == "outbox" else None
    one = worker()
    eventually(lambda: stored(mongodb) == 3, what="three versions")
    found = [facts(version) for version in history_of(Freight, 1)]
    assert before is None or found == before
    assert [one[:5] for one in found] == [
        ("create", "ann", "192.0.2.7", "by hand", {"ticket": 7}),
        ("update", "ann", "192.0.2.7", "by hand", {"ticket": 7}),
        ("delete", "bob", "192.0.2.8", "by foot", {}),
    ]
    assert [version.changeset.id == opened.id for version in history_of(Freight, 1)] == [True, True, False]
    for version in history_of(Freight, 1):
        assert begun.timestamp() - 0.001 <= version.at.timestamp() <= ended.timestamp() + 0.001
    assert "ERROR" not in one.output


def facts(version: Any) -> tuple[Any, ...]:
    return (
        version.operation.value,
        version.user.pk,
        version.remote_addr,
        version.reason,
        dict(version.extra),
        version.changeset.id,
        version.at,
        version.id,
    )


# -- once --------------------------------------------------------------------------------------------------------------


def test_a_message_that_comes_three_times_is_stored_once(
    mode: str, mongodb: Mongo, worker: MakeWorker, queue: redis.Redis
) -> None:
    """By two workers at once, or by one after the other."""
    for number in range(20):
        Freight(number=number).save()
    if mode == "celery":
        messages(queue, 20)
    eventually(lambda: named(queue) == 20, what="twenty versions in messages")
    sent = queue.lrange("celery", 0, -1)
    queue.lpush("celery", *sent, *sent)
    workers = worker(), worker()
    loads.await_empty(queue, workers)
    assert sum(loads.received(*workers).values()) == 3 * len(sent)
    assert stored(mongodb) == 20
    assert mongodb[OUTBOX].count_documents({}) == 0
    assert [operations(number) for number in range(20)] == [["create"]] * 20
    queue.lpush("celery", *sent)
    loads.await_empty(queue, workers)
    assert stored(mongodb) == 20
    assert all("ERROR" not in one.output for one in workers)


def named(queue: redis.Redis) -> int:
    """How many versions the waiting messages carry or name."""
    bodies = [json.loads(b64decode(json.loads(one)["body"])) for one in queue.lrange("celery", 0, -1)]
    return sum(len(body[0][0]["rows"]) + len(body[0][0]["ids"]) for body in bodies)


@pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc")
def test_a_child_of_a_prefork_pool_is_killed(
    mode: str, mongodb: Mongo, worker: MakeWorker, queue: redis.Redis
) -> None:
    """The worker itself lives on: what its child was about comes again."""
    one = worker(pool="prefork", concurrency=2)
    for number in range(60):
        Freight(number=number).save()
        if number % 20 == 10:
            os.kill(one.children()[0], signal.SIGKILL)
    loads.await_empty(queue, [one])
    loads.flush()
    assert stored(mongodb) == 60
    assert [operations(number) for number in range(60)] == [["create"]] * 60


@pytest.mark.timeout(900)  # a minute on two cores that have nothing else to do
def test_ten_thousand_by_eight_producers_and_two_workers(
    by_celery: None,
    mongodb: Mongo,
    worker: MakeWorker,
    queue: redis.Redis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """10,000 messages: no version is missing, none is twice, all fit."""
    quick = {"READS_BACK": "0"}
    patient = {"MONGO_HISTORY": {"BROKER_TIMEOUT_S": 60}}  # ten programs on a small machine
    with tracking(ByCelery), ExitStack() as stack:
        workers = worker(), worker()
        writers = [
            stack.enter_context(
                load(f"p{number}", "celery", documents=50, count=1250, settings=patient, environ=quick)
            )
            for number in range(8)
        ]
        for writer in writers:
            writer.wait()
            assert (writer.exit_code, writer.failed) == (0, [])
        loads.await_empty(queue, workers)
        counts = loads.check(*writers)
    with capsys.disabled():
        print(
            f"\n{counts.acknowledged} writes by {len(writers)} producers to {counts.documents} documents,"
            f" {sum(len(writer.sent) for writer in writers)} messages, {len(loads.received(*workers))} received by"
            f" {len(workers)} workers, {loads.duplicates(*workers)} of them again; {counts.versions} versions"
        )
    assert counts.problems == []
    assert counts.acknowledged == counts.versions == stored(mongodb) == 10_000
    assert sum(len(writer.sent) for writer in writers) == 10_000


@contextmanager
def transaction() -> Iterator[Any]:
    """A transaction of the caller's that all writes in this context belong to."""
    client = mongoengine.get_connection()
    with client.start_session() as session, session.bind(end_session=False), session.start_transaction():
        yield session


# -- ways there --------------------------------------------------------------------------------------------------------


@NEEDS_BIND
def test_a_version_in_a_callers_transaction(
    mode: str, mongodb: Mongo, worker: MakeWorker, queue: redis.Redis
) -> None:
    """It goes into the outbox within it: with the document, or not at all. Workers hear of it with the next write."""
    Freight(number=0).save()
    messages(queue, 1)
    with transaction():
        Freight(number=1).save()
        assert mongodb[OUTBOX].count_documents({"document_id": 1}) == 1
    assert mongodb[OUTBOX].count_documents({"document_id": 1}) == 1
    with transaction() as session:
        Freight(number=2).save()
        session.abort_transaction()
    assert [row["document_id"] for row in mongodb[OUTBOX].find({"document_id": {"$ne": 0}})] == [1]
    assert operations(1) == ["create"]
    assert len(queue.lrange("celery", 0, -1)) == 1
    Freight(number=3).save()
    worker()
    eventually(lambda: stored(mongodb) == 3, what="three versions")
    eventually(lambda: mongodb[OUTBOX].count_documents({}) == 0, what="an empty outbox")
    assert [operations(number) for number in range(4)] == [["create"], ["create"], [], ["create"]]


@NEEDS_BIND
def test_the_sweep_finds_what_a_transaction_left(mode: str, mongodb: Mongo) -> None:
    """Without a next write of that process."""
    with transaction():
        Freight(number=1).save()
    assert (stored(mongodb), mongodb[OUTBOX].count_documents({})) == (0, 1)
    assert loads.sweep().stored == 1
    assert (stored(mongodb), mongodb[OUTBOX].count_documents({})) == (1, 0)
    assert operations(1) == ["create"]


@NEEDS_BIND
def test_beat_sweeps(
    by_outbox: None, mongodb: Mongo, worker: MakeWorker, beat: Callable[..., Program], queue: redis.Redis
) -> None:
    """What no message names is moved on by the entry of the documentation."""
    with transaction():
        Freight(number=1).save()
    worker()
    beat(
        settings={"CELERY_BEAT_SCHEDULE": {"sweep": {"task": "django_mongo_history.sweep", "schedule": 0.3}}}
    )
    eventually(lambda: stored(mongodb) == 1, what="the version")
    eventually(lambda: mongodb[OUTBOX].count_documents({}) == 0, what="an empty outbox")


def test_eager_tasks(mode: str, mongodb: Mongo, celery_app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """CELERY_TASK_ALWAYS_EAGER: stored when the write returns, as far as the write is committed."""
    monkeypatch.setitem(celery_app.conf, "task_always_eager", True)
    Freight(number=1, name="a").save()
    Freight.objects(number=1).update(set__name="b")
    assert (stored(mongodb), mongodb[OUTBOX].count_documents({})) == (2, 0)
    assert operations(1) == ["create", "update"]


def test_a_queue_of_its_own(
    mongodb: Mongo, worker: MakeWorker, queue: redis.Redis, celery_app: Celery
) -> None:
    """CELERY_QUEUE: other workers never see the messages."""
    with configured(DELIVERY="celery", CELERY_QUEUE="history"), tracking(Freight):
        Freight(number=1).save()
        assert (queue.llen("history"), queue.llen("celery")) == (1, 0)
        worker(queues=["history"])
        eventually(lambda: stored(mongodb) == 1, what="the version")


SIZES = {"over MESSAGE_MAX_BYTES": 300 * 1024, "over 8 MB, in parts": 9 * 1024 * 1024}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_large_versions_go_by_the_outbox(
    size: int, roomy: None, mode: str, mongodb: Mongo, worker: MakeWorker, queue: redis.Redis
) -> None:
    """A message only names them; they arrive as they were."""
    Freight(number=1, name="small").save()
    Freight.objects(number=1).update(set__body="x" * size)
    eventually(lambda: named(queue) == 2, what="messages for both")
    assert all(len(one) < 4096 for one in queue.lrange("celery", 0, -1))
    assert mongodb[OUTBOX].count_documents({"document_id": 1, "operation": "update"}) == 1
    image = mongodb.get_collection("freight", codec_options=RAW).find_one({"_id": 1})
    rows = dict(one for depot in depots.each() for one in depot.outbox.packets())
    one = worker()
    eventually(lambda: stored(mongodb) == 2, what="both versions")
    eventually(lambda: mongodb[OUTBOX].count_documents({}) == 0, what="an empty outbox, parts included")
    found = history_of(Freight, 1)
    assert [version.operation.value for version in found] == ["create", "update"]
    assert found[-1]._chain.after(found[-1].index) == bytes(image.raw)
    raw = mongodb.get_collection(HISTORY, codec_options=RAW)
    for packet in rows.values():
        for row in packet:
            assert bytes(raw.find_one({"_id": bson_id(row)}).raw) == row
    assert "ERROR" not in one.output


def bson_id(row: bytes) -> Any:
    return RawBSONDocument(row)["_id"]
