"""
What cannot be stored, or not even read: it is tried again, laid aside with the reason, and never dropped; and what must
not leave the process is nowhere.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import mongoengine
import pytest
import redis
from bson.raw_bson import RawBSONDocument
from celery import Celery
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import depots, history_of, runtime, tasks
from django_mongo_history.delivery import moving
from django_mongo_history.delivery.messages import Message
from django_mongo_history.errors import DeliveryError, StoreError
from management.listening import HOST
from tests.celery_parts import MakeWorker, connected_app, eventually
from tests.commanding import run
from tests.conftest import CLIENT_OPTIONS
from tests.fault import delivery_load as loads
from tests.judge import RAW, configured, tracking

HISTORY = "document_history"
OUTBOX = "document_history_outbox"
DEAD = "document_history_dead"
Mongo = Database[dict[str, Any]]
FEW_TRIES = {"MONGO_HISTORY": {"DELIVERY_TRIES": 2}}


class Toxin(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    secret = fields.StringField()
    cards = fields.ListField(fields.DictField())
    seen = fields.StringField()
    body = fields.StringField()
    meta = {"collection": "toxin"}


@pytest.fixture(params=["celery", "outbox"])
def mode(request: pytest.FixtureRequest, mongodb: Mongo, celery_app: Celery) -> Iterator[str]:
    with configured(DELIVERY=request.param), tracking(Toxin):
        yield request.param


@pytest.fixture
def by_outbox(mongodb: Mongo) -> Iterator[None]:
    """Versions wait in the outbox until a test moves them."""
    with configured(DELIVERY="outbox"):
        environment = runtime.current().environment
        environment.queues = replace(environment.queues, publisher=None)
        with tracking(Toxin):
            yield


@pytest.fixture
def queue(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


def refuse(mongodb: Mongo, *numbers: int) -> None:
    """Have the server refuse versions of these documents; without any, have it mended."""
    if HISTORY not in mongodb.list_collection_names():
        mongodb.create_collection(HISTORY)
    mongodb.command("collMod", HISTORY, validator={"document_id": {"$nin": list(numbers)}} if numbers else {})


def counts(mongodb: Mongo) -> tuple[int, int, int]:
    """Versions in the store, in the outbox, and laid aside."""
    return tuple(mongodb[name].count_documents({}) for name in (HISTORY, OUTBOX, DEAD))  # type: ignore[return-value]


def operations(number: int) -> list[str]:
    return [version.operation.value for version in history_of(Toxin, number)]


def the_depot() -> moving.Depot:
    (depot,) = depots.each()
    return depot


# -- refused by the store ----------------------------------------------------------------------------------------------


def test_what_the_store_refuses_is_laid_aside_by_the_worker(
    mode: str, mongodb: Mongo, worker: MakeWorker, queue: redis.Redis
) -> None:
    """The others are stored; the refused ones are tried again, then dead letters with the reason; mended, they go on."""
    refuse(mongodb, 1, 3)
    Toxin.objects.insert([Toxin(number=number, name="together") for number in range(5)])
    Toxin(number=5).save()
    one = worker(settings=FEW_TRIES)
    eventually(lambda: counts(mongodb)[0] == 4, what="what can be stored")
    eventually(lambda: counts(mongodb) == (4, 0, 2), what="the dead letters")
    loads.await_empty(queue, [one])
    letters = list(the_depot().dead_letters.letters())
    assert sorted(letter.document_id for letter in letters) == [1, 3]
    for letter in letters:
        assert "failed validation" in letter.error
        assert (letter.tries, letter.collection, letter.is_message) == (2, f"{mongodb.name}.toxin", False)
    assert [operations(number) for number in (0, 2, 4, 5)] == [["create"]] * 4
    still = run("history_flush", "--dead")
    assert still.error is not None
    assert "failed validation" in still.err
    assert counts(mongodb) == (4, 0, 2)
    refuse(mongodb)
    assert run("history_flush", "--dead").error is None
    assert counts(mongodb) == (6, 0, 0)
    assert [operations(number) for number in range(6)] == [["create"]] * 6
    assert [version["name"] for version in history_of(Toxin, 1)] == ["together"]


def test_tries_are_counted_and_spaced(by_outbox: None, mongodb: Mongo) -> None:
    """Longer and longer pauses, in which nobody tries; at the last try it is a dead letter. Readers see it meanwhile."""
    Toxin(number=1).save()
    refuse(mongodb, 1)
    moment = datetime.now(UTC) + timedelta(seconds=1)
    depot = replace(the_depot(), now=lambda: moment)
    pauses = []
    for tries in range(1, depot.tries):
        assert moving.sweep(depot).refused == 1
        assert moving.sweep(depot) == moving.Counts()
        assert depot.outbox.waiting().refused == 1
        assert operations(1) == ["create"]
        pause = moving.pause_after(tries)
        pauses.append(pause.total_seconds())
        moment += pause - timedelta(seconds=1)
        assert moving.sweep(depot) == moving.Counts()
        moment += timedelta(seconds=2)
    assert pauses == [4, 8, 16, 32, 64, 128, 256]
    assert moving.sweep(depot).dead == 1
    assert counts(mongodb) == (0, 0, 1)
    assert moving.revive(depot, depots.of).dead == 1
    (letter,) = depot.dead_letters.letters()
    assert letter.tries == depot.tries + 1
    refuse(mongodb)
    assert moving.revive(depot, depots.of).stored == 1
    assert counts(mongodb) == (1, 0, 0)
    assert operations(1) == ["create"]


def test_one_of_many_is_refused(by_outbox: None, mongodb: Mongo) -> None:
    """A thousand in one sweep: the 997 others are stored, exactly as they were."""
    Toxin.objects.insert([Toxin(number=number) for number in range(1000)])
    rows = {version_id: packet[-1] for version_id, packet in the_depot().outbox.packets()}
    refuse(mongodb, 0, 500, 999)
    found = moving.sweep(the_depot())
    assert (found.stored, found.refused, found.dead) == (997, 3, 0)
    refuse(mongodb)
    found = moving.sweep(the_depot(), with_postponed=True)
    assert (found.stored, found.refused, found.dead) == (3, 0, 0)
    stored = {one["_id"]: bytes(one.raw) for one in mongodb.get_collection(HISTORY, codec_options=RAW).find()}
    assert stored == rows


def test_large_versions_are_laid_aside_and_come_back(roomy: None, by_outbox: None, mongodb: Mongo) -> None:
    """Over 8 MB, in parts: whole in the outbox, in the dead letters, and in the store."""
    Toxin(number=1, body="x" * 9_000_000).save()
    ((version_id, packet),) = the_depot().outbox.packets()
    assert len(packet) > 1
    refuse(mongodb, 1)
    depot = replace(the_depot(), tries=1)
    assert moving.sweep(depot).dead == 1
    assert mongodb[OUTBOX].count_documents({}) == 0
    (letter,) = depot.dead_letters.letters()
    assert (letter.id, list(letter.packet)) == (version_id, list(packet))
    assert "failed validation" in letter.error
    assert len(letter.error) < 2000, "the driver's message has the whole version in it"
    assert moving.revive(depot, depots.of).dead == 1
    refuse(mongodb)
    assert moving.revive(depot, depots.of).stored == 1
    assert (mongodb[OUTBOX].count_documents({}), mongodb[DEAD].count_documents({})) == (0, 0)
    assert mongodb[HISTORY].count_documents({}) == len(packet)
    assert [len(version["body"]) for version in history_of(Toxin, 1)] == [9_000_000]


def test_a_store_that_cannot_be_reached_is_waited_for(by_outbox: None, mongodb: Mongo) -> None:
    """No try is counted, nothing is laid aside."""
    Toxin(number=1).save()
    fail = {"failCommands": ["insert"], "errorCode": 262, "namespace": f"{mongodb.name}.{HISTORY}"}
    the_depot().store_of(f"{mongodb.name}.toxin")
    mongodb.client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": fail})
    try:
        for _try in range(3):
            with pytest.raises(StoreError, match="could not be stored"):
                moving.sweep(the_depot())
    finally:
        mongodb.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert counts(mongodb) == (0, 1, 0)
    assert the_depot().outbox.waiting().refused == 0
    assert moving.sweep(the_depot()).stored == 1


# -- unreadable --------------------------------------------------------------------------------------------------------


def with_field(row: bytes, **fields: Any) -> bytes:
    return bson.encode({**bson.decode(row), **fields})


def bad_rows(row: bytes) -> dict[str, bytes]:
    """Rows that are no versions, from one that is."""
    return {
        "nothing": b"",
        "garbage": b"MARKER-of-garbage",
        "cut off": row[:-20],
        "a later format": with_field(row, _id=bson.ObjectId(), format=99),
        "no version": bson.encode({"_id": bson.ObjectId(), "MARKER": 1}),
        "nowhere": with_field(row, _id=bson.ObjectId(), collection=""),
        "an impossible name": with_field(row, _id=bson.ObjectId(), collection="a b.c..d"),
        "no name": with_field(row, _id=bson.ObjectId(), collection=7),
    }


def bad_messages(database: str) -> list[Any]:
    """Payloads that are no messages."""
    good = Message("default", database).to_json()
    return [
        None, 7, "MARKER", [], {}, ["MARKER"],
        {**good, "format": 99}, {**good, "rows": ["MARKER@@"]}, {**good, "rows": 7}, {**good, "ids": ["MARKER"]},
        {**good, "alias": 7}, {**good, "alias": "another site"},
    ]  # fmt: skip


def test_what_cannot_be_read_is_laid_aside(
    mode: str, mongodb: Mongo, worker: MakeWorker, queue: redis.Redis
) -> None:
    """Each by itself: the worker goes on, and what came with it in one message is stored. Nothing of it is logged."""
    Toxin(number=1).save()
    one = worker(settings=FEW_TRIES)
    eventually(lambda: counts(mongodb)[0] == 1, what="the version")
    row = bytes(mongodb.get_collection(HISTORY, codec_options=RAW).find_one().raw)
    good = with_field(row, _id=bson.ObjectId(), document_id=2)
    bad = bad_rows(row)
    for payload in bad_messages(mongodb.name):
        tasks.deliver.apply_async(args=(payload,), argsrepr="…")
    tasks.deliver.apply_async(
        args=(Message("default", mongodb.name, (*bad.values(), good)).to_json(),), argsrepr="…"
    )
    # Before the last message is noted as not worked off it is nowhere at the broker, for a moment.
    eventually(
        lambda: {version["document_id"] for version in mongodb[HISTORY].find()} == {1, 2}, what="the good one"
    )
    loads.await_empty(queue, [one])
    assert one.is_running()
    letters = list(the_depot().dead_letters.letters())
    messages = [letter for letter in letters if letter.is_message]
    assert len(messages) == len(bad_messages(mongodb.name))
    laid_aside = {bytes(letter.packet[-1]) for letter in letters if not letter.is_message}
    waiting = {packet[-1] for _id, packet in the_depot().outbox.packets()}
    assert laid_aside | waiting == set(bad.values())
    assert all(letter.error for letter in letters)
    assert "MARKER" not in one.output


def test_dead_messages_stay_until_somebody_looks(by_outbox: None, mongodb: Mongo) -> None:
    """`history_flush --dead` says why, and drops nothing."""
    moving.bury_message(the_depot(), {"format": 99}, "its format is '99'")
    for _time in range(2):
        said = run("history_flush", "--dead")
        assert said.error is not None
        assert "its format is '99'" in said.err
        assert counts(mongodb)[2] == 1


def test_a_message_for_a_connection_that_comes_later(by_outbox: None, mongodb: Mongo) -> None:
    """Laid aside while nobody knows it; stored once somebody does."""
    Toxin(number=1).save()
    ((version_id, packet),) = the_depot().outbox.packets()
    the_depot().outbox.remove({version_id: packet})
    depot = the_depot()
    moving.bury_message(depot, Message("later", mongodb.name, tuple(packet)).to_json(), "no such connection")
    assert moving.revive(depot, depots.of).dead == 1
    assert counts(mongodb) == (0, 0, 1)
    mongoengine.connect(mongodb.name, alias="later", host=os.environ["MONGODB_URI"], **CLIENT_OPTIONS)
    try:
        assert moving.revive(depot, depots.of).stored == 1
    finally:
        mongoengine.disconnect("later")
    assert counts(mongodb) == (1, 0, 0)
    assert operations(1) == ["create"]


def test_rows_of_a_later_format_wait_in_the_outbox_for_a_later_release(
    by_outbox: None, mongodb: Mongo
) -> None:
    """They are refused and laid aside, never stored by a release that does not know them."""
    Toxin(number=1).save()
    Toxin(number=2).save()
    mongodb[OUTBOX].update_one({"document_id": 1}, {"$set": {"format": 99}})
    depot = replace(the_depot(), tries=1)
    found = moving.sweep(depot)
    assert (found.stored, found.dead) == (1, 1)
    assert [row["document_id"] for row in mongodb[HISTORY].find()] == [2]


# -- what must not leave the process -----------------------------------------------------------------------------------

SECRET = "S3CRETMARKER"
SHOWN = "SH0WNMARKER"
_TOKEN = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")


def unfolded(data: bytes) -> Iterator[bytes]:
    """The bytes, and all that is Base64 inside them."""
    yield data
    for token in _TOKEN.findall(data):
        try:
            inside = base64.b64decode(token, validate=True)
        except binascii.Error:
            continue
        yield from unfolded(inside)


def holds(marker: str, blobs: Sequence[bytes]) -> bool:
    return any(marker.encode() in one for blob in blobs for one in unfolded(blob))


def everything_at(queue: redis.Redis) -> list[bytes]:
    """All that the broker holds in this database: queues, what is not acknowledged, bindings."""
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"list": lambda key: queue.lrange(key, 0, -1),
        b"hash": lambda key: [one for pair in queue.hgetall(key).items() for one in pair],
        b"set": lambda key: list(queue.smembers(key)),
        b"zset": lambda key: queue.zrange(key, 0, -1),
        b"string": lambda key: [queue.get(key)],
    }
    return [one for key in queue.keys("*") for one in (key, *read[queue.type(key)](key))]


@contextmanager
def overhearing(queue: redis.Redis) -> Iterator[list[bytes]]:
    """What is published to whoever listens: Celery's events."""
    heard: list[bytes] = []
    listener = queue.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("*")
    stopped = threading.Event()

    def listen() -> None:
        while not stopped.is_set():
            message = listener.get_message(timeout=0.05)
            if message:
                heard.append(bytes(message["data"]))

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        stopped.set()
        thread.join()
        listener.close()


def everything_in(mongodb: Mongo) -> list[bytes]:
    """All that the database holds, but for the documents themselves."""
    return [
        bytes(found.raw)
        for name in mongodb.list_collection_names()
        if name != "toxin"
        for found in mongodb.get_collection(name, codec_options=RAW).find()
    ]


@pytest.mark.parametrize("delivery", ["celery", "outbox"])
def test_hidden_and_untracked_values_are_nowhere(
    delivery: str,
    mongodb: Mongo,
    celery_app: Celery,
    worker: MakeWorker,
    queue: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    In no message, event, log line down to DEBUG, version, outbox or dead letter; large versions and refused ones too.

    That the search finds what is there: it finds the values that are shown.
    """
    monkeypatch.setitem(celery_app.conf, "task_send_sent_event", True)
    caplog.set_level(logging.DEBUG, "django_mongo_history")
    caplog.set_level(logging.DEBUG, "celery")
    options = {"hidden": ["secret", "cards.number"], "untracked": ["seen"]}
    with configured(DELIVERY=delivery), tracking(Toxin, **options), overhearing(queue) as events:
        refuse(mongodb, 3)
        for number in (1, 2, 3):
            write_secrets(number, large=number == 2)
        eventually(lambda: queue.llen("celery") > 0, what="messages")
        on_the_way = everything_at(queue) + everything_in(mongodb)
        one = worker(settings=FEW_TRIES, arguments=["--loglevel=DEBUG", "--task-events"])
        eventually(lambda: counts(mongodb)[1:] == (0, 4), what="the dead letters")
        loads.await_empty(queue, [one])
        eventually(lambda: holds("task-succeeded", list(events)), what="events")
        arrived = everything_at(queue) + everything_in(mongodb)
        logged = [one.output.encode(), caplog.text.encode()]
    for blobs in (on_the_way, arrived, events, logged):
        assert not holds(SECRET, blobs)
    assert holds(SHOWN, on_the_way)
    assert holds(SHOWN, arrived)
    assert not holds(SHOWN, events), "what messages carry is in events"
    assert holds("task-received", events)
    assert "DEBUG" in one.output


def write_secrets(number: int, *, large: bool) -> None:
    """A create, updates and a delete, with what must not be seen."""
    body = SHOWN + ("x" * 300_000 if large else "")
    cards = [{"number": SECRET, "name": SHOWN}]
    Toxin(number=number, name=SHOWN, secret=SECRET, seen=SECRET, cards=cards, body=body).save()
    one = Toxin.objects(number=number)
    one.update(set__secret=SECRET * 2, set__seen=SECRET * 2, set__name=SHOWN * 2)
    one.update(push__cards={"number": SECRET, "name": SHOWN})
    one.delete()


# -- ON_ERROR ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["sync", "celery"])
def test_an_error_after_the_write_says_all(delivery: str, mongodb: Mongo, celery_app: Celery) -> None:
    """`raise`: written, where the versions are, and which; a save repeated after it records nothing twice."""
    with ExitStack() as stack:
        stack.enter_context(connected_app(celery_app, f"redis://{HOST}:1/0"))
        stack.enter_context(configured(DELIVERY=delivery))
        stack.enter_context(tracking(Toxin))
        refuse(mongodb, 1)
        document = Toxin(number=1, name="a")
        with pytest.raises(DeliveryError, match="history_flush") as raised:
            document.save()
        error = raised.value
        assert (error.written, error.kept_in) == (True, f"{mongodb.name}.{OUTBOX}")
        assert [(record.document_id, record.operation.value) for record in error.records] == [(1, "create")]
        assert mongodb["toxin"].count_documents({}) == 1
        assert [row["_id"] for row in mongodb[OUTBOX].find()] == [record.id for record in error.records]
        document.save()
        Toxin(number=1, name="a").save()
        assert counts(mongodb) == (0, 1, 0)
        with pytest.raises(DeliveryError):
            Toxin.objects(number=1).update(set__name="b")
        refuse(mongodb)
        Toxin.objects(number=1).update(set__name="c")
        assert counts(mongodb) == (1, 2, 0)
        assert run("history_flush").error is None
        assert counts(mongodb) == (3, 0, 0)
        found = history_of(Toxin, 1)
        assert [(version.operation.value, version["name"]) for version in found] == [
            ("create", "a"),
            ("update", "b"),
            ("update", "c"),
        ]


@pytest.mark.parametrize("delivery", ["sync", "celery"])
def test_an_error_after_the_write_may_be_logged(
    delivery: str, mongodb: Mongo, celery_app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    """`log`: the same words, and the version is kept as well."""
    with ExitStack() as stack:
        stack.enter_context(connected_app(celery_app, f"redis://{HOST}:1/0"))
        stack.enter_context(configured(DELIVERY=delivery, ON_ERROR="log"))
        stack.enter_context(tracking(Toxin))
        refuse(mongodb, 1)
        Toxin(number=1, name="a").save()
        assert counts(mongodb) == (0, 1, 0)
        assert "Do not repeat the write" in caplog.text
        refuse(mongodb)
        assert run("history_flush").error is None
        assert operations(1) == ["create"]


def test_rows_keep_their_bytes(by_outbox: None, mongodb: Mongo) -> None:
    """A version that was refused twice, laid aside and revived is, byte for byte, the one that was captured."""
    Toxin(number=1, name="a").save()
    ((version_id, packet),) = the_depot().outbox.packets()
    refuse(mongodb, 1)
    depot = replace(the_depot(), tries=2)
    moving.sweep(depot)
    ((_id, again),) = depot.outbox.packets()
    assert list(again) == list(packet)
    moving.sweep(depot, with_postponed=True)
    refuse(mongodb)
    assert moving.revive(depot, depots.of).stored == 1
    found = mongodb.get_collection(HISTORY, codec_options=RAW).find_one({"_id": version_id})
    assert isinstance(found, RawBSONDocument)
    assert bytes(found.raw) == packet[-1]
