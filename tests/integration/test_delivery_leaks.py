"""
What a driver's error holds of documents gets nowhere: no log, no event, no dead letter, no message of an error.

Versions carry what documents hold. Where the server refuses one, the driver hangs the row on its error, validators the
value, unique indexes the key, and indexes of places the whole document.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import mongoengine
import pytest
from celery import Celery
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import DeliveryError, depots
from django_mongo_history.delivery import moving
from django_mongo_history.errors import StoreError
from management.listening import HOST
from tests.celery_parts import MakeWorker, connected_app, eventually
from tests.commanding import run
from tests.judge import configured, tracking

HISTORY = "document_history"
OUTBOX = "document_history_outbox"
DEAD = "document_history_dead"
SECRET = "between-you-and-me"
Mongo = Database[dict[str, Any]]


class Confidant(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "confidant"}


def by_validator(mongodb: Mongo, name: str = HISTORY) -> None:
    """The value that it took offence at is in the server's answer."""
    shown = {"snapshot.name": {"$exists": False}, "patch": {"$exists": False}}
    mongodb.create_collection(name, validator=shown)


def by_unique_index(mongodb: Mongo, name: str = HISTORY) -> None:
    """The key is, in words and as a value."""
    mongodb.create_collection(name)
    mongodb[name].create_index("snapshot.name", unique=True)
    mongodb[name].insert_one({"snapshot": {"name": SECRET}})


def by_place_index(mongodb: Mongo, name: str = HISTORY) -> None:
    """The whole document is, in words."""
    mongodb.create_collection(name)
    mongodb[name].create_index([("snapshot.name", "2dsphere")])


Refuse = Callable[..., None]
REFUSALS = [by_validator, by_unique_index, by_place_index]


def write(number: int, *, first: int = 1) -> None:
    """One version, or several in one call."""
    some = [Confidant(number=one, name=SECRET) for one in range(first, first + number)]
    if number == 1:
        some[0].save()
    else:
        Confidant.objects.insert(some)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("refuse", REFUSALS)
@pytest.mark.parametrize("delivery", ["sync", "celery"])
def test_an_error_that_is_logged(
    delivery: str,
    refuse: Refuse,
    number: int,
    mongodb: Mongo,
    celery_app: Celery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`ON_ERROR: log`, with and without an outbox that takes it: the reason is logged, and no version."""
    caplog.set_level(logging.DEBUG, "django_mongo_history")
    with ExitStack() as stack:
        stack.enter_context(connected_app(celery_app, f"redis://{HOST}:1/0"))
        stack.enter_context(configured(DELIVERY=delivery, ON_ERROR="log"))
        stack.enter_context(tracking(Confidant))
        refuse(mongodb)
        refuse(mongodb, OUTBOX)
        write(number)
    assert "could not be kept in the outbox either" in caplog.text
    assert "Do not repeat the write" in caplog.text
    assert f"Versions could not be stored in {mongodb.name}.{HISTORY}" in caplog.text
    assert f"Versions could not be stored in {mongodb.name}.{OUTBOX}" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("refuse", REFUSALS)
@pytest.mark.parametrize("delivery", ["sync", "celery", "atomic", "outbox"])
def test_an_error_that_is_raised(
    delivery: str, refuse: Refuse, number: int, mongodb: Mongo, celery_app: Celery
) -> None:
    """Whoever logs it, logs its causes too: projects, Celery, error trackers."""
    with ExitStack() as stack:
        stack.enter_context(connected_app(celery_app, f"redis://{HOST}:1/0"))
        stack.enter_context(configured(DELIVERY=delivery))
        stack.enter_context(tracking(Confidant))
        refuse(mongodb)
        refuse(mongodb, OUTBOX)
        with pytest.raises((DeliveryError, StoreError)) as raised:
            write(number)
    told = "".join(traceback.format_exception(raised.value))
    assert "WriteError" in told or "DuplicateKeyError" in told
    assert SECRET not in told
    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in repr(getattr(error, "details", None))
        error = error.__cause__


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("refuse", REFUSALS)
def test_an_error_in_a_callers_transaction(refuse: Refuse, number: int, mongodb: Mongo) -> None:
    """It is the driver's own, for he alone can begin anew."""
    with configured(DELIVERY="atomic"), tracking(Confidant):
        refuse(mongodb)
        with mongoengine.get_connection().start_session() as session, session.start_transaction():
            rows = [{"_id": one, "name": SECRET} for one in range(number)]
            with pytest.raises(Exception) as raised:  # noqa: PT011 - whichever it is
                Confidant._get_collection().insert_many(rows, session=session)
            session.abort_transaction()
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("refuse", REFUSALS)
def test_the_reason_of_a_dead_letter(
    refuse: Refuse, mongodb: Mongo, celery_app: Celery, worker: MakeWorker
) -> None:
    """And what `history_status`, `history_flush` and the worker say of it."""
    with configured(DELIVERY="celery", DELIVERY_TRIES=1), tracking(Confidant):
        refuse(mongodb)
        write(1)
        write(2, first=2)
        one = worker(settings={"MONGO_HISTORY": {"DELIVERY_TRIES": 1}}, arguments=["--task-events"])
        # A worker puts what is refused into the outbox, where a second try makes it a dead letter.
        eventually(lambda: mongodb[DEAD].count_documents({}) == 3, what="the dead letters")
        status = run("history_status")
        flush = run("history_flush", "--dead")
    letters = list(mongodb[DEAD].find())
    assert all(SECRET not in letter["error"] for letter in letters)
    assert all("WriteError" in letter["error"] or "DuplicateKey" in letter["error"] for letter in letters)
    for said in (repr(status), repr(flush), one.output):
        assert SECRET not in said
    assert "laid aside" in repr(status)


def test_dead_letters_that_cannot_be_laid_aside(mongodb: Mongo) -> None:
    """Their collection may have a validator, too."""
    mongodb.create_collection(DEAD, validator={"row": {"$exists": False}})
    with configured(DELIVERY="outbox"), tracking(Confidant):
        write(1)
        (depot,) = depots.each()
        ((_id, packet),) = depot.outbox.packets()
        with pytest.raises(StoreError, match="laid aside") as raised:
            moving.bury(depot, packet, "a test wants it to", 1)
    assert SECRET not in "".join(traceback.format_exception(raised.value))
