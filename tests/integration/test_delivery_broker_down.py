"""
Brokers that are gone, frozen or silent: a write returns, its version is where the policy says, and nobody waits twice.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import mongoengine
import pytest
import redis
from celery import Celery
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import history_of, runtime, tasks
from django_mongo_history.delivery import publishing
from django_mongo_history.delivery.messages import Message
from django_mongo_history.errors import DeliveryError
from management.listening import HOST
from management.valkey import Broker
from tests.celery_parts import connected_app, eventually
from tests.fault import delivery_load as loads
from tests.judge import configured, tracking

HISTORY = "document_history"
OUTBOX = "document_history_outbox"
Mongo = Database[dict[str, Any]]
TIMEOUT_S = 0.5
NEVER_S = 30
"""What would be hanging: sixty times the setting."""


class Cargo(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "cargo"}


class Sends:
    """What publishes in the place of `tasks.send`, and counts."""

    def __init__(self) -> None:
        self.tried = 0
        self.done = 0

    def __call__(self, message: Message) -> None:
        self.tried += 1
        tasks.send(message)
        self.done += 1


@pytest.fixture
def sends(mongodb: Mongo, celery_app: Celery) -> Iterator[Sends]:
    """Counts what this process sends."""
    counting = Sends()
    runtime.use_broker(counting, tasks.runs_inline)
    yield counting
    runtime.use_broker(tasks.send, tasks.runs_inline)
    runtime.configure()


@contextmanager
def delivering(celery_app: Celery, url: str, **settings: Any) -> Iterator[None]:
    """Celery mode, and this broker."""
    with ExitStack() as stack:
        stack.enter_context(connected_app(celery_app, url))
        stack.enter_context(configured(DELIVERY="celery", BROKER_TIMEOUT_S=TIMEOUT_S, **settings))
        stack.enter_context(tracking(Cargo))
        yield


class Down:
    """A broker that works once, and then is down in some way; `mend` brings it back."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def fail(self) -> None:
        raise NotImplementedError

    def mend(self) -> None:
        raise NotImplementedError


class Frozen(Down):
    """Stopped as a process: its connections stay open, and nobody answers."""

    def fail(self) -> None:
        self.broker.pause()

    def mend(self) -> None:
        self.broker.resume()


class Refused(Down):
    """Gone: its port refuses."""

    def fail(self) -> None:
        self.broker.kill()

    def mend(self) -> None:
        self.broker.restart()


class Silent(Down):
    """Another program has its port: it takes connections and says nothing."""

    def fail(self) -> None:
        self.broker.kill()
        self.listener = eventually(self._listen, what="the port")

    def _listen(self) -> socket.socket | None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, self.broker.port))
        except OSError:
            listener.close()
            return None
        listener.listen(64)
        return listener

    def mend(self) -> None:
        self.listener.close()
        self.broker.restart()


def places(mongodb: Mongo) -> tuple[int, int]:
    """Versions in the store, and in the outbox."""
    return mongodb[HISTORY].count_documents({}), mongodb[OUTBOX].count_documents({})


def operations(number: int) -> list[str]:
    return [version.operation.value for version in history_of(Cargo, number)]


def save(number: int, policy: str) -> None:
    """Save, and see what the policy says about errors; within a time that nobody would call hanging."""
    begun = time.monotonic()
    if policy == "raise":
        with pytest.raises(DeliveryError) as raised:
            Cargo(number=number).save()
        assert raised.value.written is True
        assert raised.value.kept_in.endswith(OUTBOX)
        assert [record.document_id for record in raised.value.records] == [number]
    else:
        Cargo(number=number).save()
    assert time.monotonic() - begun < NEVER_S


@pytest.mark.parametrize("policy", ["sync", "outbox", "raise"])
@pytest.mark.parametrize("kind", [Frozen, Refused, Silent])
def test_a_broker_that_is_down(
    kind: type[Down],
    policy: str,
    mongodb: Mongo,
    celery_app: Celery,
    sends: Sends,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The first write finds it out, those after it do not try; after the pause the broker is asked again.

    Whatever it was, every version is there once in the end.
    """
    with Broker() as broker, delivering(celery_app, broker.url, BROKER_DOWN=policy):
        Cargo(number=0).save()
        assert (sends.done, *places(mongodb)) == (1, 0, 0)
        monkeypatch.setattr(publishing, "PAUSE_S", 3600.0)
        down = kind(broker)
        down.fail()
        try:
            save(1, policy)
            tried = sends.tried
            assert tried == 2
            for number in (2, 3, 4):
                save(number, policy)
            assert sends.tried == tried, "somebody waited again"
        finally:
            down.mend()
        assert places(mongodb) == ((4, 0) if policy == "sync" else (0, 4))
        assert [operations(number) for number in range(1, 5)] == [["create"]] * 4
        _after_the_pause()
        Cargo(number=5).save()
        assert sends.done >= 2
        assert places(mongodb)[0] == (4 if policy == "sync" else 0)
        loads.flush()
        assert places(mongodb) == (4, 0)
        assert [operations(number) for number in range(1, 5)] == [["create"]] * 4


def _after_the_pause() -> None:
    """As if the pause were over."""
    publisher = runtime.current().environment.queues.publisher
    assert publisher is not None
    publisher._down_until = 0.0


def test_the_pause_ends_by_itself(
    mongodb: Mongo, celery_app: Celery, sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes go by the broker again, without anybody's doing."""
    monkeypatch.setattr(publishing, "PAUSE_S", 0.2)
    with Broker() as broker, delivering(celery_app, broker.url):
        broker.kill()
        Cargo(number=0).save()
        assert places(mongodb) == (1, 0)
        broker.restart()

        def is_sent() -> bool:
            Cargo.objects(number=0).update(inc__number=0, set__name=str(time.monotonic()))
            return sends.done > 0

        eventually(is_sent, what="the broker to be asked again")
        with redis.Redis.from_url(broker.url) as client:
            assert client.llen("celery") == sends.done


def test_outbox_mode_needs_no_broker(mongodb: Mongo, celery_app: Celery, sends: Sends) -> None:
    """A write does not even wait for it; what workers were not told of is swept."""
    with Broker() as broker, ExitStack() as stack:
        stack.enter_context(connected_app(celery_app, broker.url))
        stack.enter_context(configured(DELIVERY="outbox", BROKER_TIMEOUT_S=TIMEOUT_S))
        stack.enter_context(tracking(Cargo))
        broker.pause()
        for number in range(20):
            Cargo(number=number).save()
        assert places(mongodb) == (0, 20)
        broker.resume()
        loads.flush()
        assert places(mongodb) == (20, 0)


def test_many_threads_wait_once(
    mongodb: Mongo, celery_app: Celery, sends: Sends, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten writes at once before a silent broker: all return, all versions are there, one warning."""
    with Broker() as broker, delivering(celery_app, broker.url), caplog.at_level(logging.WARNING):
        Cargo(number=100).save()
        broker.pause()
        begun = time.monotonic()
        with ThreadPoolExecutor(10) as threads:
            list(threads.map(lambda number: Cargo(number=number).save(), range(10)))
        assert time.monotonic() - begun < NEVER_S
        broker.resume()
        assert mongodb[HISTORY].count_documents({"document_id": {"$lt": 100}}) == 10
    warnings = [one for one in caplog.messages if "takes no message" in one]
    assert len(warnings) == 1
    assert "left alone for 10 s" in warnings[0]
