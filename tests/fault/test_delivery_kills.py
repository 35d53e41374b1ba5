"""
Workers, writers, brokers and servers that die in the middle of delivery: nothing acknowledged is lost, nothing is twice.

Note [What Redis loses]
Kombu's transport for Redis takes a message out of the queue, and notes in a second call that it is not worked off yet. A
worker, or a broker, that is killed between the two loses the message, whatever the task says of late acknowledgements;
a broker without persistence loses all. So in celery mode the writer has copies (`delivery.copies`), and puts into the
outbox what is not stored in time: here after two seconds, so that lost messages are missed while the writers write.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import mongoengine
import pytest
import redis
from celery import Celery
from pymongo.database import Database

from management.servers import ReplicaSet
from management.valkey import Broker
from tests.celery_parts import MakeWorker, Worker, connected_app, eventually
from tests.conftest import CLIENT_OPTIONS, _disconnect, _with_database
from tests.fault import delivery_load as loads
from tests.fault.delivery_load import Load, load
from tests.fault.delivery_writer import CLASSES
from tests.judge import configured, tracking

pytestmark = pytest.mark.timeout(600)  # about 20 s each on a machine that has nothing else to do
KILLS = 20
WRITERS = 12
BROKER_KILLS = 4
ELECTIONS = 3
SEED = 20261122
QUICK = {"MONGO_HISTORY": {"CONFIRM_AFTER_S": 2}}
Says = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _tracked() -> Iterator[None]:
    """The writers' classes, in the modes that the writers use."""
    with configured(), ExitStack() as stack:
        for mode, document_class in CLASSES.items():
            stack.enter_context(tracking(document_class, delivery=mode))
        yield


def settle(url: str, *workers: Worker) -> None:
    """
    Wait until the workers have done all that the broker has for them; sweep the rest.

    A worker that has ended is started again, as supervisors do: Celery's own may, when it loses its connection with
    messages in hand (an AttributeError in kombu 5.7.0).
    """
    with redis.Redis.from_url(url) as client:
        loads.await_empty(client, workers)
    loads.flush()


def judge(capsys: Says, what: str, *writers: Load, workers: tuple[Worker, ...] = ()) -> loads.Counts:
    """The counts, printed. Messages that were lost are told, too: see Note [What Redis loses]."""
    loads.await_versions(*writers)
    counts = loads.check(*writers)
    lost = {one for writer in writers for one in writer.sent} - loads.received(*workers).keys()
    with capsys.disabled():
        print(
            f"\n{what}: {counts.acknowledged} acknowledged writes to {counts.documents} documents, {counts.unsure} that"
            f" failed, {counts.versions} versions, {loads.stored()} rows, {counts.missing} missing; {len(lost)} messages"
            f" came to no worker, {loads.duplicates(*workers)} once more"
        )
    assert counts.problems == []
    assert counts.missing == 0
    assert (loads.waiting(), loads.dead(), loads.stored()) == (0, 0, counts.versions)
    return counts


def test_workers_are_killed(
    worker: MakeWorker, mongodb: Database[dict[str, Any]], broker_url: str, capsys: Says
) -> None:
    """`kill -9` of the worker, 20 times at random moments, under load in both modes."""
    dice = random.Random(SEED)
    with load("one", "celery", "outbox", environ={"WRITE_PAUSE_S": "0.02"}, settings=QUICK) as writer:
        one = worker()
        for _kill in range(KILLS):
            writer.wait_for(20)
            time.sleep(dice.uniform(0, 0.1))
            one.kill()
            one.start()
        writer.wait_for(20)
        writer.stop()
    settle(broker_url, one)
    counts = judge(capsys, f"{KILLS} kills of the worker", writer, workers=(one,))
    assert counts.acknowledged >= KILLS * 20


def test_writers_are_killed(
    worker: MakeWorker, celery_app: Celery, broker_url: str, capsys: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    `kill -9` of the writing process at random moments, with a worker at its heels: write and version, or neither.

    The server lets go early of what a killed writer has left open.
    """
    dice = random.Random(SEED)
    short = ("--setParameter", "transactionLifetimeLimitSeconds=1")
    with ReplicaSet(arguments=short) as servers, connected(servers.uri, monkeypatch), ExitStack() as stack:
        one = worker()
        writers = []
        for number in range(WRITERS):
            writer = stack.enter_context(load(f"w{number}", "outbox", documents=4))
            writer.wait_for(5)
            time.sleep(dice.uniform(0, 0.1))
            writer.kill()
            assert writer.exit_code == -9
            writers.append(writer)
        settle(broker_url, one)
        judge(capsys, f"{WRITERS} kills of the writer", *writers, workers=(one,))


def test_a_writer_is_killed_between_commit_and_publish(
    celery_app: Celery, mongodb: Database[dict[str, Any]], broker_url: str, capsys: Says
) -> None:
    """What no worker was told of is in the outbox, where readers see it, and the sweep moves it on."""
    with load("w", "outbox", documents=1, environ={"KILL_AT_SEND": "1"}) as writer:
        eventually(lambda: writer.exit_code is not None, what="the writer to die")
        writer.kill()
    assert writer.exit_code == -9
    with redis.Redis.from_url(broker_url) as client:
        assert loads.at_broker(client) == 0
    assert (loads.stored(), loads.waiting()) == (0, len(loads.versions_of("outbox", "w-0")))
    assert loads.waiting() >= 1
    assert loads.check(writer).problems == []
    assert loads.sweep().stored >= 1
    judge(capsys, "killed between commit and publish", writer)


def test_brokers_are_killed_that_forget_everything(
    worker: MakeWorker, mongodb: Database[dict[str, Any]], celery_app: Celery, capsys: Says
) -> None:
    """A broker without persistence, both modes: the sweep finds what nobody remembers, and the writer's copies do."""
    with Broker() as broker, connected_app(celery_app, broker.url):
        one, writer = _with_broker_kills(broker, worker, "outbox", "celery")
        settle(broker.url, one)
        judge(capsys, f"{BROKER_KILLS} kills of a forgetful broker", writer, workers=(one,))


def test_brokers_are_killed_that_remember(
    worker: MakeWorker, mongodb: Database[dict[str, Any]], celery_app: Celery, capsys: Says
) -> None:
    """Celery mode, a broker that writes down what it acknowledges: meanwhile the writer stores versions itself."""
    with Broker(is_persistent=True) as broker, connected_app(celery_app, broker.url):
        one, writer = _with_broker_kills(broker, worker, "celery")
        settle(broker.url, one)
        counts = judge(capsys, f"{BROKER_KILLS} kills of a persistent broker", writer, workers=(one,))
    by_broker = len(writer.sent)
    assert 0 < by_broker < counts.acknowledged, "the broker was never down, or never up"


def _with_broker_kills(broker: Broker, worker: MakeWorker, *modes: str) -> tuple[Worker, Load]:
    """Kill the broker under load, and start it again, several times."""
    dice = random.Random(SEED)
    environ = {"BROKER_PAUSE_S": "0.3", "WRITE_PAUSE_S": "0.005"}
    with load("b", *modes, environ=environ, settings=QUICK) as writer:
        one = worker()
        for _kill in range(BROKER_KILLS):
            writer.wait_for(60)
            time.sleep(dice.uniform(0, 0.1))
            broker.kill()
            writer.wait_for(60)
            broker.restart()
            writer.wait_for(60)
        writer.wait_for(60)
        writer.stop()
    assert writer.failed == []
    return one, writer


def test_servers_step_down(
    worker: MakeWorker, celery_app: Celery, broker_url: str, capsys: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elections under load, in both modes, with two workers."""
    with ReplicaSet(nodes=3) as servers, connected(servers.uri, monkeypatch):
        with load("s", "celery", "outbox", environ={"WRITE_PAUSE_S": "0.01"}, settings=QUICK) as writer:
            workers = worker(), worker()
            for _round in range(ELECTIONS):
                writer.wait_for(60)
                servers.step_down(seconds=1)
            writer.wait_for(60)
            writer.stop()
        settle(broker_url, *workers)
        judge(capsys, f"{ELECTIONS} elections", writer, workers=workers)


@contextmanager
def connected(uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MongoEngine's default connection on these servers, in the programs of this test, too."""
    name = f"test_{secrets.token_hex(6)}"
    monkeypatch.setenv("MONGODB_URI", _with_database(uri, name))
    _disconnect()
    mongoengine.connect(name, host=uri, **CLIENT_OPTIONS)
    try:
        yield
    finally:
        _disconnect()
