"""
A program that writes tracked documents until it is stopped and says of each write what came of it; run by `test_kills`.

`python writer.py URI DATABASE FIRST`: writes number FIRST, FIRST + 1, … into a few documents.
"""

from __future__ import annotations

import sys

import django
import mongoengine
from django.conf import settings
from mongoengine import fields

DOCUMENTS = 4


class Entry(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    write = fields.IntField()
    total = fields.IntField()
    writes = fields.ListField(fields.IntField())
    meta = {"collection": "entry"}


def write_once(number: int) -> None:
    """One write, in one of the ways that MongoEngine has; each leaves its number in the document."""
    one = Entry.objects(number=number % DOCUMENTS)
    kind = number % 13
    if kind == 0:
        one.delete()
        Entry(number=number % DOCUMENTS, write=number).save()
    elif kind < 5:
        one.update(upsert=True, set__write=number)
    elif kind < 9:
        one.update(upsert=True, set__write=number, inc__total=1, push__writes=number)
    else:
        Entry(number=number % DOCUMENTS, write=number).save()


def main(uri: str, database: str, first: int) -> None:
    settings.configure(MONGO_HISTORY={"DELIVERY": "atomic"}, INSTALLED_APPS=["django_mongo_history"])
    django.setup()
    from django_mongo_history import track

    mongoengine.connect(
        database, host=uri, uuidRepresentation="standard", tz_aware=True, serverSelectionTimeoutMS=5000
    )
    track(Entry)
    number = first
    while True:
        try:
            write_once(number)
        except Exception as error:  # noqa: BLE001 - it is told, and looked at by the test
            print(number, type(error).__name__, flush=True)
        else:
            print(number, "done", flush=True)
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
