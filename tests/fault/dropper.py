"""
A program that fills a tracked collection and drops it, again and again, and says what it has done; run by
`test_drop_kills`.

`python dropper.py URI DATABASE between`: dies by its own hand between the tombstone and the drop.
`python dropper.py URI DATABASE anywhere`: goes on until it is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import django
import mongoengine
from django.conf import settings
from mongoengine import fields
from pymongo.database import Database

DOCUMENTS = 3


class Shelf(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    life = fields.IntField()
    meta = {"collection": "shelf"}


def die(*_arguments: Any, **_options: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(uri: str, database: str, where: str) -> None:
    settings.configure(INSTALLED_APPS=["django_mongo_history"])
    django.setup()
    from django_mongo_history import track

    mongoengine.connect(database, host=uri, uuidRepresentation="standard", tz_aware=True)
    track(Shelf)
    life = 0
    while True:
        life += 1
        for number in range(DOCUMENTS):
            Shelf(number=number, life=life).save()
        print(life, "filled", flush=True)
        if where == "between":
            Database.drop_collection = die
        Shelf.drop_collection()
        print(life, "dropped", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
