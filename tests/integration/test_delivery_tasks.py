"""Celery's conventions: names that do not change, routing, late acknowledgement, the sweep by a beat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import celery
import mongoengine
import pytest
from bson import ObjectId
from mongoengine import fields

from django_mongo_history import DeliveryError, changeset, tasks
from django_mongo_history.delivery.messages import Message
from management.servers import Standalone
from tests.celery_parts import eventually
from tests.conftest import CLIENT_OPTIONS
from tests.judge import configured, tracking

OUTBOX, DEAD, STORE = "document_history_outbox", "document_history_dead", "document_history"


class Pallet(mongoengine.Document):
    """What is on its way."""

    number = fields.IntField(primary_key=True)
    weight = fields.IntField()
    meta = {"collection": "pallets"}


@pytest.fixture
def by_outbox(mongodb: Any) -> Iterator[Any]:
    with configured(DELIVERY="outbox"), tracking(Pallet):
        yield mongodb


def count(database: Any, name: str) -> int:
    return int(database[name].count_documents({}))


def read_routes(app: Any) -> None:
    """Celery reads them once, before its first task."""
    app.amqp.flush_routes()
    app.amqp.router = app.amqp.Router()


def test_their_names_and_promises() -> None:
    """Messages outlive releases, so names are for good; what a killed worker had is given to another."""
    from testproject.celery import app

    app.loader.import_default_modules()
    ours = {name for name in app.tasks if name.startswith("django_mongo_history.")}
    assert ours == {"django_mongo_history.deliver", "django_mongo_history.sweep"}
    for name in ours:
        task = app.tasks[name]
        assert (task.acks_late, task.reject_on_worker_lost, task.ignore_result, task.max_retries) == (
            True,
            True,
            True,
            None,
        )
        assert task.acks_on_failure_or_timeout is False


@pytest.mark.skipif(
    celery.VERSION < (5, 5), reason="Celery 5.5 brought that a message comes again after a hard time limit"
)
def test_a_time_limit(mongodb: Any, celery_app: Any, worker: Any) -> None:
    """
    A store that neither answers nor refuses: the worker's hard limit kills the task, whose message comes again.

    Nothing of it has reached the store by then, so that what is stored in the end was in the message.
    """
    with Standalone() as archive:
        uri = f"{archive.uri}{mongodb.name}"
        mongoengine.connect(host=uri, alias="versions", **CLIENT_OPTIONS)
        try:
            with configured(DELIVERY="celery", ALIAS="versions"), tracking(Pallet):
                one = worker(
                    pool="prefork",
                    settings={"MONGO_HISTORY": {"ALIAS": "versions"}},
                    environ={"WORKER_ALIASES": json.dumps({"versions": uri})},
                    arguments=["--time-limit=2"],
                )
                archive.nodes[0].pause()
                Pallet(number=1, weight=1).save()
                eventually(
                    lambda: (
                        one.output.count("Hard time limit (2.0s) exceeded for django_mongo_history.deliver")
                        > 1
                    ),
                    what="the limit, twice",
                )
                archive.nodes[0].resume()
                there = mongoengine.get_db("versions")
                eventually(lambda: count(there, STORE) == 1, what="the version")
                assert (count(mongodb, OUTBOX), count(mongodb, DEAD)) == (0, 0)
        finally:
            mongoengine.disconnect("versions")


def test_queue(mongodb: Any, celery_app: Any, worker: Any) -> None:
    """CELERY_QUEUE routes them; without it Celery's own routing does."""
    worker(queues=["history"])
    with configured(DELIVERY="celery", CELERY_QUEUE="history"), tracking(Pallet):
        Pallet(number=1).save()
        eventually(lambda: count(mongodb, STORE) == 1, what="the version from the queue `history`")
    with configured(DELIVERY="celery"), tracking(Pallet):
        Pallet(number=2).save()
        assert {name: waiting.messages for name, waiting in tasks.waiting_messages().items()} == {"celery": 1}
    celery_app.conf.task_routes = {"django_mongo_history.*": {"queue": "history"}}
    read_routes(celery_app)
    try:
        with configured(DELIVERY="celery"), tracking(Pallet):
            Pallet(number=3).save()
            eventually(lambda: count(mongodb, STORE) == 2, what="the version by the project's own routes")
    finally:
        celery_app.conf.task_routes = None
        read_routes(celery_app)


def test_sweep_by_a_beat(by_outbox: Any, worker: Any, beat: Any) -> None:
    """The beat entry of the documentation moves on what nobody was told of."""
    session = mongoengine.get_connection().start_session()
    with session, session.start_transaction():
        Pallet._get_collection().insert_one({"_id": 1, "weight": 2}, session=session)
    assert (count(by_outbox, OUTBOX), count(by_outbox, STORE)) == (1, 0)
    worker()
    beat(
        settings={
            "CELERY_BEAT_SCHEDULE": {"history-sweep": {"task": "django_mongo_history.sweep", "schedule": 0.5}}
        }
    )
    eventually(lambda: count(by_outbox, STORE) == 1, what="the sweep")
    eventually(lambda: count(by_outbox, OUTBOX) == 0, what="the sweep to take it out")


def test_a_worker_is_told_of_what_waits(by_outbox: Any, worker: Any) -> None:
    """Without a beat, too: the outbox empties as soon as the writes are committed."""
    worker()
    with changeset(user="ada", reason="in"):
        Pallet(number=1, weight=1).save()
    Pallet.objects.update(weight=2)
    eventually(lambda: count(by_outbox, STORE) == 2, what="both versions")
    eventually(lambda: count(by_outbox, OUTBOX) == 0, what="the outbox to be empty")
    assert [str(version.user) for version in Pallet(number=1).history] == ["ada", "None"]


@pytest.mark.usefixtures("eager_tasks")
def test_tasks_that_run_at_once(mongodb: Any) -> None:
    """CELERY_TASK_ALWAYS_EAGER: stored when the save returns, by either way."""
    for delivery in ("celery", "outbox"):
        with configured(DELIVERY=delivery), tracking(Pallet):
            Pallet(number=1, weight=1).save()
            Pallet(number=1).delete()
            assert (count(mongodb, OUTBOX), count(mongodb, DEAD)) == (0, 0)
    assert count(mongodb, STORE) == 4


@pytest.mark.usefixtures("eager_tasks")
def test_an_eager_task_that_fails(mongodb: Any, caplog: Any) -> None:
    """It is as a broker that is down: the version is stored without it, or kept."""
    with configured(DELIVERY="celery"), tracking(Pallet):
        Pallet(number=1, weight=1).save()
        mongodb.command("collMod", STORE, validator={"operation": "create"})
        with pytest.raises(DeliveryError) as caught:
            Pallet.objects.update(weight=2)
    assert caught.value.kept_in == f"{mongodb.name}.{OUTBOX}"
    assert count(mongodb, OUTBOX) == 1


def test_a_message_for_a_connection_that_the_worker_has_not(
    mongodb: Any, celery_app: Any, worker: Any
) -> None:
    """It is laid aside as it came, with the reason, and nothing else stops for it."""
    with configured(DELIVERY="celery"), tracking(Pallet):
        tasks.send(Message("nowhere", "shop", rows=(b"?",)))
        tasks.send(Message("default", mongodb.name, rows=(b"no BSON",), ids=(ObjectId(),)))
        tasks.deliver.apply_async(args=({"format": 99},))
        Pallet(number=1, weight=1).save()
        worker()
        eventually(lambda: count(mongodb, STORE) == 1, what="the version")
        eventually(lambda: count(mongodb, DEAD) == 3, what="what was laid aside")
    errors = sorted(letter["error"] for letter in mongodb[DEAD].find())
    assert errors[0].startswith("MongoEngine has no connection 'nowhere'")
    assert errors[1].startswith("it is no version")
    assert errors[2] == "its format is '99', this package reads 1"
