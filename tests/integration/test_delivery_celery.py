"""
Versions that go by a broker or an outbox to real workers: what a write costs, what a version says, and that it is one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import mongoengine
import pytest
import redis
from celery import Celery
from django.test import RequestFactory
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import changeset, history_of, runtime
from django_mongo_history.delivery import moving
from tests.celery_parts import MakeWorker, Program, eventually
from tests.fault import delivery_load as loads
from tests.fault.delivery_load import load
from tests.fault.delivery_writer import ByCelery
from tests.judge import RAW, configured, tracking
from tests.overheard import Overheard, overhear

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

EXPECTED = {"celery": ["findAndModify"], "outbox": ["findAndModify", "insert", "commitTransaction"]}


def test_a_write_is_one_command_and_one_message(
    mode: str, mongodb_uri: str, mongodb: Mongo, queue: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted at both ends: by the driver's own events, and by the broker's own counters."""
    listener = overhear(mongodb.name, mongodb_uri)
    Freight(number=1, name="first").save()
    messages(queue, 1)
    listener.commands.clear()
    before = calls(queue)
    Freight.objects(number=1).update(set__name="second")
    messages(queue, 2)
    spent = calls(queue) - before
    said = [name for name, _collection in listener.commands]
    with capsys.disabled():
        print("COST", mode, said, spent)
    assert said == EXPECTED[mode]
    assert spent["lpush"] == 1
