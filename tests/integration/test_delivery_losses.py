"""What may fail after the write, one thing or two at once: the version is somewhere, or the caller hears that it is not."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mongoengine
import pytest
from celery import Celery
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import DeliveryError, changeset, depots, history_of, runtime
from django_mongo_history.delivery import moving
from django_mongo_history.delivery.messages import Message
from django_mongo_history.errors import StoreError
from django_mongo_history.storage.mongo import MongoStore
from management.listening import HOST
from management.servers import Standalone
from tests.celery_parts import connected_app
from tests.commanding import run
from tests.conftest import CLIENT_OPTIONS
from tests.judge import configured, tracking
from tests.overheard import overhear

HISTORY = "document_history"
OUTBOX = "document_history_outbox"
DEAD = "document_history_dead"
SOON = "?serverSelectionTimeoutMS=300"
Mongo = Database[dict[str, Any]]


class Ballast(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    body = fields.StringField()
    meta = {"collection": "ballast"}


class Bilge(mongoengine.Document):
    """Lies on another server than ballast."""

    number = fields.IntField(primary_key=True)
    meta = {"collection": "bilge", "db_alias": "bilge"}


@contextmanager
def connection(alias: str, server: Standalone, name: str) -> Iterator[Mongo]:
    """Another server, of which MongoEngine gives up soon."""
    mongoengine.connect(name, host=f"{server.uri}{SOON}", alias=alias, **CLIENT_OPTIONS)
    try:
        yield mongoengine.get_db(alias)
    finally:
        mongoengine.disconnect(alias)


@pytest.fixture
def no_broker(celery_app: Celery) -> Iterator[None]:
    with connected_app(celery_app, f"redis://{HOST}:1/0"):
        yield


# -- two things at once -----------------------------------------------------------------------------------------------


def test_neither_broker_nor_store(mongodb: Mongo, no_broker: None) -> None:
    """The store is on another server and has never been reached: what was written before that is known is kept."""
    with Standalone() as archive, connection("versions", archive, mongodb.name):
        archive.kill()
        with configured(DELIVERY="celery", ALIAS="versions"), tracking(Ballast):
            for number in (1, 2, 3):
                with pytest.raises(DeliveryError) as raised:
                    Ballast(number=number, name="a").save()
                assert (raised.value.written, raised.value.kept_in) == (True, f"{mongodb.name}.{OUTBOX}")
            assert mongodb[OUTBOX].count_documents({}) == 3
            assert mongodb["ballast"].count_documents({}) == 3


def test_a_server_that_dies_between_write_and_version(
    mongodb: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither store nor outbox can be reached then: the caller hears that the document is written."""
    with Standalone() as server, connection("bilge", server, mongodb.name):
        append = MongoStore.append

        def die_first(self: MongoStore, records: Any, **options: Any) -> None:
            if records:
                server.kill()
            append(self, records, **options)

        with configured(DELIVERY="sync"), tracking(Bilge):
            runtime.store_of(Bilge._get_collection())
            monkeypatch.setattr(MongoStore, "append", die_first)
            with pytest.raises(DeliveryError) as raised:
                Bilge(number=1).save()
    assert (raised.value.written, raised.value.kept_in) == (True, None)
    assert [record.document_id for record in raised.value.records] == [1]


def test_an_outbox_that_refuses_large_versions(mongodb: Mongo, celery_app: Celery, caplog: Any) -> None:
    """The others of the same write go to the broker all the same, and those straight into the store."""
    mongodb.create_collection(OUTBOX, validator={"operation": "never"})
    with configured(DELIVERY="celery"), tracking(Ballast):
        Ballast.objects.insert(
            [Ballast(number=one, body="x" * size) for one, size in ((1, 1), (2, 300_000), (3, 1))]
        )
        assert mongodb[HISTORY].distinct("document_id") == [2]
        assert len(history_of(Ballast, 2)) == 1
        assert len(carried(celery_app)) == 2


@pytest.mark.parametrize("delivery", ["atomic", "sync", "celery", "outbox"])
def test_a_version_that_no_server_takes(delivery: str, mongodb: Mongo, no_broker: None) -> None:
    """A reason of 17 MB: where the write is not undone with it, the caller hears that it is done."""
    with configured(DELIVERY=delivery), tracking(Ballast):
        Ballast(number=1).save()
        with pytest.raises((DeliveryError, StoreError)) as raised, changeset(reason="x" * 17_000_000):
            Ballast(number=2).save()
    is_written = delivery in ("sync", "celery")
    assert isinstance(raised.value, DeliveryError) == is_written
    assert mongodb["ballast"].count_documents({}) == 1 + is_written
    assert "too large" in "".join(traceback.format_exception(raised.value))


def test_a_large_version_of_which_a_part_is_refused(roomy: None, mongodb: Mongo) -> None:
    """Its first row is not stored without the others, or nothing of the document could be read any more."""
    with configured(DELIVERY="sync"), tracking(Ballast):
        Ballast(number=1, name="a").save()
        mongodb.command("collMod", HISTORY, validator={"operation": {"$exists": True}})
        with pytest.raises(DeliveryError) as raised:
            Ballast.objects(number=1).update(set__name="b", set__body="x" * 9_000_000)
        assert raised.value.kept_in == f"{mongodb.name}.{OUTBOX}"
        assert [one.operation.value for one in history_of(Ballast, 1)] == ["create", "external"]
        assert history_of(Ballast, 1)[-1]["name"] == "b"
        mongodb.command("collMod", HISTORY, validator={})
        assert run("history_flush").error is None
        assert [one.operation.value for one in history_of(Ballast, 1)] == ["create", "update"]


# -- moving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["outbox", "message"])
def test_a_store_that_dies_as_soon_as_it_has_it(by: str, mongodb: Mongo, celery_app: Celery) -> None:
    """What has been moved is gone from where it was, so it must have reached the disk of a server without a replica."""
    delivery = {"outbox": "auto", "message": "celery"}[by]
    with (
        Standalone() as archive,
        connection("versions", archive, mongodb.name) as there,
        configured(DELIVERY=delivery, ALIAS="versions"),
        tracking(Ballast),
    ):
        runtime.store_of(Ballast._get_collection())
        for number in range(6):
            Ballast(number=number).save()
            (depot,) = depots.each()
            if by == "outbox":
                assert moving.sweep(depot).stored == 1
            else:
                assert moving.receive(depot, carried(celery_app)) == []
            archive.kill()
            archive.restart()
        assert sorted(there[HISTORY].distinct("document_id")) == list(range(6))
        assert mongodb[OUTBOX].count_documents({}) == 0


def carried(app: Celery) -> list[bytes]:
    """The versions in the next message of the queue, which is taken out."""
    with app.connection_for_read() as broker:
        message = broker.channel().basic_get("celery", no_ack=True)
    return list(Message.from_json(message.decode()[0][0]).rows) if message else []


def test_a_server_that_is_away_stops_no_other(mongodb: Mongo, celery_app: Celery) -> None:
    """`history_flush`, in the place of a worker: what waits on other servers is moved, again and again."""
    with (
        Standalone() as away,
        connection("bilge", away, "a_tenant"),
        configured(DELIVERY="outbox"),
        tracking(Bilge),
        tracking(Ballast),
    ):
        Bilge(number=1).save()
        for number in (1, 2, 3):
            Ballast(number=number).save()
        assert mongodb[OUTBOX].count_documents({}) == 3
        away.kill()
        said = run("history_flush")
    assert said.error is not None
    assert mongodb[OUTBOX].count_documents({}) == 0
    assert mongodb[HISTORY].count_documents({}) == 3


def test_a_database_that_may_not_be_asked_stops_no_other(mongodb: Mongo) -> None:
    """An account may list more databases than it may look into: what waits in the others is moved."""
    tenants = [f"{mongodb.name}_{number}" for number in (1, 2, 3)]
    with configured(DELIVERY="outbox"), tracking(Ballast):
        for number, name in enumerate(tenants):
            mongodb.client[name][OUTBOX].insert_one({"_id": number})
        denied = {"failCommands": ["listCollections"], "errorCode": 13}
        mongodb.client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=denied)
        found = {depot.outbox.name.partition(".")[0] for depot in depots.each()}
        for name in tenants:
            mongodb.client.drop_database(name)
    assert found >= {mongodb.name, *tenants}


def test_a_dead_letter_for_no_database_stops_no_other(mongodb: Mongo) -> None:
    """`history_flush --dead` tries all of them, whatever the first one says."""
    with configured(DELIVERY="outbox"), tracking(Ballast):
        (depot,) = depots.each()
        for number in (1, 2, 3):
            Ballast(number=number).save()
        message = Message("default", "no $ database", rows=(b"any",))
        moving.bury_message(depot, message.to_json(), "a test wants it to")
        for version_id, packet in list(depot.outbox.packets()):
            moving.bury(depot, packet, "a test wants it to", 1)
            depot.outbox.remove({version_id: packet})
        said = run("history_flush", "--dead")
    assert mongodb[HISTORY].count_documents({}) == 3
    (letter,) = mongodb[DEAD].find()
    assert letter["is_message"]
    assert "database names cannot contain" in letter["error"]
    assert "1 versions could not be stored" in str(said.error)


def test_what_is_taken_out_leaves_nothing(roomy: None, mongodb: Mongo, mongodb_uri: str) -> None:
    """One command: who is killed after the first of two leaves parts behind that nobody finds any more."""
    listener = overhear(mongodb.name, mongodb_uri)
    with configured(DELIVERY="outbox"), tracking(Ballast):
        for number, size in ((1, 1), (2, 9_000_000), (3, 1)):
            Ballast(number=number, body="x" * size).save()
        (depot,) = depots.each()
        packets = dict(depot.outbox.packets())
        assert sorted(map(len, packets.values())) == [1, 1, 2]
        listener.commands.clear()
        depot.outbox.remove(packets)
        assert [name for name, _collection in listener.commands] == ["delete"]
        assert mongoengine.get_db()[OUTBOX].count_documents({}) == 0
