"""
`ALIAS`: the versions belong to another server than the documents. The outbox brings them there; nobody sees the journey.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import mongoengine
import mongomock
import pytest
from celery import Celery
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import changeset, changesets, depots, history_of
from django_mongo_history.delivery import moving
from management.servers import Standalone
from tests.celery_parts import MakeWorker, eventually
from tests.commanding import run
from tests.conftest import CLIENT_OPTIONS
from tests.judge import RAW, configured, tracking
from tests.overheard import overhear
from tests.versions import NEEDS_BIND

HISTORY = "document_history"
OUTBOX = "document_history_outbox"
Mongo = Database[dict[str, Any]]


class Emigrant(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "emigrant"}


@pytest.fixture
def other(mongodb: Mongo, standalone: Standalone) -> Iterator[Mongo]:
    """The server of the versions: one without transactions, which has no part in them."""
    mongoengine.connect(mongodb.name, host=standalone.uri, alias="versions", **CLIENT_OPTIONS)
    yield mongoengine.get_db("versions")
    with standalone.client() as client:
        client.drop_database(mongodb.name)


@contextmanager
def delivering(mode: str) -> Iterator[None]:
    with configured(DELIVERY=mode, ALIAS="versions"), tracking(Emigrant):
        yield


@pytest.fixture(params=["auto", "outbox"])
def emigrating(request: pytest.FixtureRequest, other: Mongo, celery_app: Celery) -> Iterator[str]:
    """`auto` is `outbox` here."""
    with delivering(request.param):
        yield request.param


def places(mongodb: Mongo, other: Mongo) -> tuple[int, int, int]:
    """Versions on the documents' server, in its outbox, and on the other server."""
    return (
        mongodb[HISTORY].count_documents({}),
        mongodb[OUTBOX].count_documents({}),
        other[HISTORY].count_documents({}),
    )


def write(number: int = 1) -> None:
    for name in ("a", "b", "c"):
        with changeset(user=name, reason=f"made {name}"):
            Emigrant(number=number, name=name).save()


def shown(number: int = 1) -> list[tuple[str, str, str]]:
    found = history_of(Emigrant, number)
    return [(one.operation.value, one["name"], one.user.pk) for one in found]


WHOLE = [("create", "a", "a"), ("update", "b", "b"), ("update", "c", "c")]


def test_versions_go_to_the_other_server(emigrating: str, mongodb: Mongo, other: Mongo) -> None:
    """One by one, and at every moment readers have all."""
    write()
    assert places(mongodb, other) == (0, 3, 0)
    assert shown() == WHOLE
    (depot,) = depots.each()
    packets = dict(depot.outbox.packets())
    for moved, version_id in enumerate(packets, start=1):
        assert moving.sweep(depot, [version_id]).stored == 1
        assert places(mongodb, other) == (0, 3 - moved, moved)
        assert shown() == WHOLE
        assert len(list(history_of(Emigrant).versions())) == 3
        assert len(list(changesets())) == 3
    rows = other.get_collection(HISTORY, codec_options=RAW).find()
    assert {row["_id"]: bytes(row.raw) for row in rows} == {
        one: packet[-1] for one, packet in packets.items()
    }
    assert run("history_flush").error is None


def test_a_write_costs_the_other_server_nothing(
    mongodb: Mongo, mongodb_uri: str, other: Mongo, celery_app: Celery
) -> None:
    """Two commands and a commit on the documents' own server, as in outbox mode."""
    listener = overhear(mongodb.name, mongodb_uri)
    with delivering("auto"):
        Emigrant(number=1, name="a").save()
        listener.commands.clear()
        Emigrant.objects(number=1).update(set__name="b")
        assert [name for name, _collection in listener.commands] == [
            "findAndModify", "insert", "commitTransaction"
        ]  # fmt: skip
    assert other[HISTORY].count_documents({}) == 0


def test_a_worker_brings_them(
    emigrating: str, mongodb: Mongo, other: Mongo, worker: MakeWorker, standalone: Standalone
) -> None:
    """A real one, which has both connections."""
    uri = f"{standalone.uri}{mongodb.name}"
    one = worker(
        settings={"MONGO_HISTORY": {"ALIAS": "versions"}},
        environ={"WORKER_ALIASES": json.dumps({"versions": uri})},
    )
    write()
    eventually(lambda: places(mongodb, other) == (0, 0, 3), what="the versions on the other server")
    assert shown() == WHOLE
    assert "ERROR" not in one.output


@pytest.mark.parametrize("mode", ["auto", "outbox", "sync"])
def test_versions_on_mongomock(mode: str, mongodb: Mongo) -> None:
    """A system check refuses it, since they end with the process. They are whole as long as that lasts."""
    mongoengine.connect(
        "versions", alias="versions", mongo_client_class=mongomock.MongoClient, **CLIENT_OPTIONS
    )
    try:
        with configured(DELIVERY=mode, ALIAS="versions"), tracking(Emigrant):
            for number in (1, 2, 3):
                write(number)
            assert run("history_flush").error is None
            assert [shown(number) for number in (1, 2, 3)] == [WHOLE] * 3
        there = mongoengine.get_connection("versions")[mongodb.name][HISTORY]
        assert (there.count_documents({}), mongodb[OUTBOX].count_documents({})) == (9, 0)
    finally:
        mongoengine.disconnect("versions")


def test_reverts_and_moments(emigrating: str, mongodb: Mongo, other: Mongo) -> None:
    """`as_of`, `revert`, `take_back` and `version_at`, with versions here, there, and in both places."""
    moments = []
    for name in ("a", "b", "c"):
        with changeset(user=name) as opened:
            Emigrant(number=1, name=name).save()
        time.sleep(0.005)
        moments.append(datetime.now(UTC))
        time.sleep(0.005)
        if name == "b":
            assert run("history_flush").error is None
    assert places(mongodb, other) == (0, 1, 2)
    assert [[one.name for one in history_of(Emigrant).as_of(moment)] for moment in moments] == [
        ["a"],
        ["b"],
        ["c"],
    ]
    assert [history_of(Emigrant, 1).version_at(moment)["name"] for moment in moments] == ["a", "b", "c"]
    history_of(Emigrant, 1)[0].revert()
    assert Emigrant.objects.get(number=1).name == "a"
    assert [one.operation.value for one in history_of(Emigrant, 1)] == [
        "create",
        "update",
        "update",
        "update",
    ]
    assert history_of(Emigrant, 1)[-1].id != history_of(Emigrant, 1)[0].id
    assert places(mongodb, other) == (0, 2, 2)
    assert run("history_flush").error is None
    history_of(Emigrant, 1)[-1].take_back()
    assert Emigrant.objects.get(number=1).name == "c"
    assert [one["name"] for one in history_of(Emigrant, 1)] == ["a", "b", "c", "a", "c"]
    assert opened.id in {one.id for one in changesets()}


@NEEDS_BIND
def test_a_callers_transaction(emigrating: str, mongodb: Mongo, other: Mongo) -> None:
    """The version goes into the outbox within it, where readers of that transaction see it; or it has never been."""
    Emigrant(number=1, name="a").save()
    client = mongoengine.get_connection()
    with client.start_session() as session, session.bind(end_session=False):
        with session.start_transaction():
            Emigrant.objects(number=1).update(set__name="b")
        with session.start_transaction():
            Emigrant.objects(number=1).update(set__name="c")
            session.abort_transaction()
    assert places(mongodb, other) == (0, 2, 0)
    assert [version["name"] for version in history_of(Emigrant, 1)] == ["a", "b"]
    assert run("history_flush").error is None
    assert places(mongodb, other) == (0, 0, 2)
    assert [version["name"] for version in history_of(Emigrant, 1)] == ["a", "b"]


def test_an_other_server_that_is_away_loses_nothing(mongodb: Mongo, celery_app: Celery) -> None:
    """Writes go on; a flush says what is wrong; when it is back they arrive."""
    with Standalone() as away:
        uri = f"{away.uri}?serverSelectionTimeoutMS=300"
        mongoengine.connect(mongodb.name, host=uri, alias="versions", **CLIENT_OPTIONS)
        with delivering("auto"):
            write(1)
            away.kill()
            write(2)
            assert mongodb[OUTBOX].count_documents({}) == 6
            said = run_flush()
            assert "StoreError" in said or "cannot be reached" in said or "could not be stored" in said
            assert mongodb[OUTBOX].count_documents({}) == 6
            away.restart()
            eventually(lambda: run_flush() == "", what="the other server")
            assert mongodb[OUTBOX].count_documents({}) == 0
            assert (shown(1), shown(2)) == (WHOLE, WHOLE)


def run_flush() -> str:
    """What went wrong, if anything did."""
    try:
        said = run("history_flush")
    except Exception as error:  # noqa: BLE001 - the test says which are good
        return f"{type(error).__name__}: {error}"
    return "" if said.error is None else str(said.error)


def test_writers_beside_a_sweep(emigrating: str, mongodb: Mongo, other: Mongo) -> None:
    """Four threads write while the versions go over: none is missing, none is twice."""
    (depot,) = depots.each()
    with ThreadPoolExecutor(4) as writers:
        written = [writers.submit(write, number) for number in range(40)]
        while not all(one.done() for one in written):
            moving.sweep(depot)
        for one in written:
            one.result()
    moving.sweep(depot)
    assert places(mongodb, other) == (0, 0, 120)
    assert [shown(number) for number in range(40)] == [WHOLE] * 40
