"""`history_flush` and `history_status`: what waits is moved on, and told of, with an exit code for monitoring."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from mongoengine import fields

from django_mongo_history import depots
from django_mongo_history.delivery import moving
from django_mongo_history.delivery.messages import Message
from management.cli import ROOT
from tests.celery_parts import eventually
from tests.commanding import RAW, run
from tests.conftest import CLIENT_OPTIONS
from tests.judge import configured, tracking

OUTBOX, DEAD, STORE = "document_history_outbox", "document_history_dead", "document_history"
REFUSED = {"operation": {"$ne": "update"}}
"""A rule by which the store refuses updates."""


class Consignment(mongoengine.Document):
    """What is on its way."""

    number = fields.IntField(primary_key=True)
    weight = fields.IntField()
    meta = {"collection": "consignments"}


@pytest.fixture
def depot(mongodb: Any) -> Iterator[Any]:
    """A database whose versions go by an outbox."""
    with configured(DELIVERY="outbox", DELIVERY_TRIES=2), tracking(Consignment):
        yield mongodb


def send(count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        Consignment(number=number, weight=1).save()


def counts(database: Any) -> tuple[int, int, int]:
    """How many versions are stored, wait, and are laid aside."""
    names = (STORE, OUTBOX, DEAD)
    return tuple(database[name].count_documents({}) for name in names)  # type: ignore[return-value]


def test_flush_moves_everything(depot: Any) -> None:
    send(3)
    assert counts(depot) == (0, 3, 0)
    said = run("history_flush")
    assert (said.error, said.lines) == (None, [f"{depot.name}.{OUTBOX}: 3 versions stored"])
    assert counts(depot) == (3, 0, 0)
    assert run("history_flush").lines == [f"{depot.name}.{OUTBOX}: 0 versions stored"]
    assert [version.weight for version in Consignment(number=1).history] == [1]


def test_what_is_refused_stays_then_is_laid_aside_then_is_stored(depot: Any) -> None:
    """Nothing is dropped on the way, and each time it is said what is left and why."""
    send(2)
    Consignment.objects(number=1).update(weight=2)
    run("history_flush")
    Consignment.objects(number=2).update(weight=2)
    send(1, first=3)
    depot.command("collMod", STORE, validator=REFUSED)

    said = run("history_flush")
    assert "1 versions could not be stored" in str(said.error)
    assert "Document failed validation" in said.err
    assert said.lines == [f"{depot.name}.{OUTBOX}: 1 versions stored, 1 refused and kept"]
    assert counts(depot) == (4, 1, 0)

    said = run("history_flush")
    assert (said.error, said.lines) == (None, [f"{depot.name}.{OUTBOX}: 0 versions stored"]), (
        "its time will come"
    )

    said = run("history_flush", "--all")
    assert said.lines == [f"{depot.name}.{OUTBOX}: 0 versions stored, 1 laid aside"]
    assert counts(depot) == (4, 0, 1)
    letter = depot[DEAD].find_one()
    assert "failed validation" in letter["error"]
    assert (letter["document_id"], letter["collection"], letter["tries"]) == (
        2,
        f"{depot.name}.consignments",
        2,
    )

    said = run("history_flush", "--dead")
    assert "1 versions could not be stored" in str(said.error)
    assert counts(depot) == (4, 0, 1)
    assert depot[DEAD].find_one()["tries"] == 3

    depot.command("collMod", STORE, validator={})
    said = run("history_flush", "--dead")
    assert (said.error, said.lines) == (None, [f"{depot.name}.{OUTBOX}: 1 versions stored"])
    assert counts(depot) == (5, 0, 0)
    assert [version.weight for version in Consignment(number=2).history] == [1, 2]


def test_flush_again_and_again_in_the_place_of_a_worker(depot: Any) -> None:
    """With --every it goes on until it is interrupted."""
    command = [sys.executable, "-m", "testproject.manage", "history_flush", "--every", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        for first in (1, 10):
            send(2, first=first)
            eventually(lambda: not depot[OUTBOX].count_documents({}), what="the outbox to be empty")
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert counts(depot) == (4, 0, 0)
    assert "2 versions stored" in said


def test_status_of_nothing(depot: Any) -> None:
    said = run("history_status")
    assert said.error is None
    assert said.lines == [f"{depot.name}.{OUTBOX}: nothing waits", f"{depot.name}.{DEAD}: 0 laid aside"]
    assert OUTBOX not in depot.list_collection_names(), "looking makes nothing"


def test_status_of_what_waits(depot: Any) -> None:
    """How much, since when, and how old; too old or too much is a problem with an exit code."""
    send(2)
    long_ago = datetime.now(UTC) - timedelta(seconds=90)
    depot[OUTBOX].update_one({"document_id": 1}, {"$set": {"at": long_ago}})
    said = run("history_status")
    assert said.error is None
    assert said.lines[0].startswith(f"{depot.name}.{OUTBOX}: 2 versions wait, the oldest since ")
    assert "(0:01:3" in said.lines[0]
    assert "has waited 9" in str(run("history_status", "--max-age", 60).error)
    assert "2 versions wait, more than 1" in str(run("history_status", "--max-waiting", 1).error)
    assert run("history_status", "--max-waiting", 2, "--max-age", 200).error is None
    facts = json.loads(run("history_status", "--json", "--max-age", 60).out)
    (outbox,) = facts["outboxes"]
    assert (outbox["waiting"], outbox["refused"], outbox["dead"], facts["is_well"]) == (2, 0, 0, False)
    assert 90 <= outbox["oldest_age_s"] < 120
    assert len(facts["problems"]) == 1


def test_status_of_what_was_laid_aside(depot: Any) -> None:
    (made,) = depots.each()
    moving.bury_message(made, {"format": 99}, "its format is '99', this package reads 1")
    said = run("history_status")
    assert "1 laid aside" in str(said.error)
    assert any("its format is '99'" in line for line in said.lines)
    assert "1 versions could not be stored" in str(run("history_flush", "--dead").error), (
        "no version is in it"
    )


def test_wrong_input(depot: Any) -> None:
    send(1)
    for command in ("history_flush", "history_status"):
        assert "--using: there is no connection 'nowhere'" in str(run(command, "--using", "nowhere").error)
    assert (
        "expected" in str(run("history_flush", "--every", "0").error)
        or run("history_flush", "--every", "0").error
    )
    assert counts(depot) == (0, 1, 0)


def test_databases_of_tenants_are_found(depot: Any, mongodb_client: Any) -> None:
    """An outbox is moved on wherever MongoEngine's servers have one, without a class that names its database."""
    other = f"test_{ObjectId()}"
    host, port = mongodb_client.address
    mongoengine.register_connection("tenant", other, host=host, port=port, **CLIENT_OPTIONS)
    try:
        with mongoengine.context_managers.switch_db(Consignment, "tenant"):
            Consignment(number=1, weight=1).save()
        assert mongodb_client[other][OUTBOX].count_documents({}) == 1
        said = run("history_flush")
        assert f"{other}.{OUTBOX}: 1 versions stored" in said.lines
        assert mongodb_client[other][STORE].count_documents({}) == 1
    finally:
        mongoengine.disconnect("tenant")
        mongodb_client.drop_database(other)


def test_flush_while_the_store_is_away(depot: Any, mongodb_client: Any) -> None:
    """A store that cannot be reached is no reason to count tries: it is said, and everything stays."""
    send(2)
    mongodb_client.admin.command(
        "configureFailPoint",
        "failCommand",
        mode={"times": 2},
        data={"failCommands": ["insert"], "errorCode": 11600, "namespace": f"{depot.name}.{STORE}"},
    )
    said = run("history_flush")
    assert "could not be stored" in str(said.error)
    assert counts(depot) == (0, 2, 0)
    assert depot[OUTBOX].count_documents({"failed": {"$exists": True}}) == 0
    assert run("history_flush").lines == [f"{depot.name}.{OUTBOX}: 2 versions stored"]


@pytest.mark.usefixtures("celery_app")
def test_status_of_the_broker(mongodb: Any, worker: Any) -> None:
    """How many messages wait; that the broker cannot be asked is a problem."""
    with configured(DELIVERY="celery", CELERY_QUEUE="history"), tracking(Consignment):
        send(3)
        said = run("history_status", "--max-messages", 2)
        assert said.lines[-1].startswith(
            "queue history of the broker: 3 messages wait, the oldest version since "
        )
        facts = json.loads(run("history_status", "--json").out)
        (queue,) = facts["queues"]
        assert (queue["queue"], queue["messages"], facts["is_well"]) == ("history", 3, True)
        assert 0 <= queue["oldest_age_s"] < 60
        late = eventually(
            lambda: run("history_status", "--max-age", 1).error, what="a version to be older than a second"
        )
        assert "queue history: the oldest version has waited 2 s, more than 1 s" in str(late)
        assert "queue history: 3 messages wait, more than 2" in str(said.error)
        worker(queues=["history"])
        eventually(lambda: counts(mongodb) == (3, 0, 0), what="the versions")
        assert run("history_status", "--max-messages", 2).error is None


def test_status_without_a_broker(mongodb: Any) -> None:
    with configured(DELIVERY="celery"), tracking(Consignment):
        assert "the broker cannot be asked" in str(run("history_status").error)


def test_a_message_that_can_be_read_by_now(depot: Any, mongodb_client: Any) -> None:
    """One for a connection that was missing is stored once it is there."""
    send(1)
    row = depot[OUTBOX].with_options(codec_options=RAW).find_one()
    depot[OUTBOX].delete_many({})
    (made,) = depots.each()
    message = Message("late", depot.name, rows=(bytes(row.raw),))
    moving.bury_message(made, message.to_json(), "there is no such connection")
    assert "MongoEngine has no connection 'late'" in run("history_flush", "--dead").err
    host, port = mongodb_client.address
    mongoengine.register_connection("late", depot.name, host=host, port=port, **CLIENT_OPTIONS)
    try:
        assert run("history_flush", "--dead").error is None
    finally:
        mongoengine.disconnect("late")
    assert counts(depot) == (1, 0, 0)
