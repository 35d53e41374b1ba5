"""
A program that writes tracked documents whose versions are delivered by workers, and says of each write what came of it;
run by `delivery_load`.

`python delivery_writer.py NAME COUNT DOCUMENTS CLASS…`: COUNT writes into DOCUMENTS documents of each class, which nobody
else writes; until SIGTERM where COUNT is 0. Every write is made by a user of its own, from an address of its own. At its
end it says which messages with versions in them the broker took.

In the environment: KILL_AT_SEND, it dies by its own hand when it is about to send that message, counted from 1;
BROKER_PAUSE_S, how long it leaves a broker alone that failed; WRITE_PAUSE_S, how long it rests between two writes;
READS_BACK=0, it does not tell what the server held after each write.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import sys
import time
from typing import Any, Final

import django
import mongoengine
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from mongoengine import fields
from pymongo.errors import PyMongoError

RAW: Final = CodecOptions(document_class=RawBSONDocument)


class DeliveryLoad(mongoengine.Document):
    """What all of them have."""

    name = fields.StringField(primary_key=True)
    write = fields.IntField()
    total = fields.IntField()
    writes = fields.ListField(fields.IntField())
    note = fields.DictField()
    meta = {"abstract": True}


class ByCelery(DeliveryLoad):
    """Its versions travel in messages."""

    meta = {"collection": "by_celery", "auto_create_index": False}


class ByOutbox(DeliveryLoad):
    """Its versions go by way of the outbox."""

    meta = {"collection": "by_outbox", "auto_create_index": False}


CLASSES: Final = {"celery": ByCelery, "outbox": ByOutbox}


def key_of(writer: str, number: int, documents: int) -> str:
    """The document that write `number` is about."""
    return f"{writer}-{number % documents}"


def user_of(writer: str, number: int) -> str:
    return f"{writer}/{number}"


def address_of(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def write_once(document_class: Any, key: str, number: int, step: int) -> bool:
    """One write in one of the ways that MongoEngine has; whether it changed something. `step` counts the document's."""
    one = document_class.objects(name=key)
    kind = step % 11
    if kind == 10:
        return bool(one.delete())
    if kind in (0, 9):
        document_class(name=key, write=number, note={"write": number, "by": "save"}).save()
    elif kind == 8:
        one.modify(upsert=True, set__write=number)
    elif kind in (3, 6, 7):
        one.update(upsert=True, set__write=number, inc__total=1, push__writes=number)
    else:
        one.update(upsert=True, set__write=number, set__note__write=number)
    return True


def image_of(document_class: Any, key: str) -> bytes | None:
    """What the server holds."""
    collection = mongoengine.get_db().get_collection(document_class._get_collection_name(), codec_options=RAW)
    found = collection.find_one({"_id": key})
    return None if found is None else bytes(found.raw)


def digest_of(image: bytes | None) -> str:
    return "" if image is None else hashlib.sha256(image).hexdigest()


def surely(read: Any) -> Any:
    """Read until a server answers."""
    while True:
        try:
            return read()
        except PyMongoError:  # elections, of whatever name
            time.sleep(0.05)


def attempt(writer: str, mode: str, number: int, documents: int) -> dict[str, Any]:
    """A write, and what is to be said of it."""
    from django_mongo_history import changeset

    document_class = CLASSES[mode]
    key = key_of(writer, number, documents)
    told: dict[str, Any] = {"number": number, "mode": mode, "key": key, "begun": time.time()}
    who = {"user": user_of(writer, number), "remote_addr": address_of(number), "reason": f"write {number}"}
    try:
        with changeset(**who) as opened:
            told["changeset"] = str(opened.id)
            told["has_effect"] = write_once(document_class, key, number, number // documents)
    except Exception as error:  # noqa: BLE001 - it is told, and looked at by the test
        return {**told, "error": f"{type(error).__name__}: {error}"}
    told["ended"] = time.time()
    if os.environ.get("READS_BACK") != "0":
        told["digest"] = digest_of(surely(lambda: image_of(document_class, key)))
    return told


def main(writer: str, count: int, documents: int, modes: list[str]) -> None:
    django.setup()
    from celery import signals

    from django_mongo_history import track
    from django_mongo_history.delivery import publishing

    publishing.PAUSE_S = float(os.environ.get("BROKER_PAUSE_S", publishing.PAUSE_S))
    pause_s = float(os.environ.get("WRITE_PAUSE_S", "0"))
    die_at_send(int(os.environ.get("KILL_AT_SEND", "0")))
    sent: list[str] = []
    signals.after_task_publish.connect(lambda **kwargs: note_sent(sent, **kwargs), weak=False)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    for mode in modes:
        track(CLASSES[mode], delivery=mode)
    for number in range(count) if count else itertools.count():
        if stopped:
            break
        for mode in modes:
            print(json.dumps(attempt(writer, mode, number, documents)), flush=True)
        time.sleep(pause_s)
    print(json.dumps({"sent": sent}), flush=True)


def note_sent(sent: list[str], *, body: Any, headers: Any, **_: Any) -> None:
    """Receiver of `after_task_publish`: the message's id, where there are versions in it."""
    if body[0][0]["rows"]:
        sent.append(headers["id"])


def die_at_send(wanted: int) -> None:
    """Be killed when that message is about to be sent."""
    from django_mongo_history import runtime, tasks

    if not wanted:
        return
    sent = itertools.count(1)

    def send(message: Any) -> None:
        if next(sent) == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
        tasks.send(message)

    runtime.use_broker(send, tasks.runs_inline)
    runtime.configure()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
