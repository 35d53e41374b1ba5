"""Where a benchmark runs: its server, its database, Django, and the facts that belong beside its figures."""

from __future__ import annotations

import os
import platform
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import django
import mongoengine
import pymongo
from django.conf import settings

from management.servers import running_server

HISTORY = "document_history"


class Place(NamedTuple):
    """A server and a database of our own on it."""

    uri: str
    database: str


@contextmanager
def bench_place() -> Iterator[Place]:
    """A database that ends with the block, on MongoEngine's default connection."""
    with running_server() as uri:
        place = Place(uri, f"history_benchmark_{secrets.token_hex(4)}")
        connect(place)
        try:
            yield place
        finally:
            mongoengine.get_connection().drop_database(place.database)
            mongoengine.disconnect()


def connect(place: Place) -> None:
    """MongoEngine's default connection."""
    mongoengine.connect(place.database, host=place.uri, uuidRepresentation="standard")


def set_up_django(*, apps: Sequence[str] = (), **more: Any) -> None:
    """Django with as little as the package needs. Once in a process."""
    installed = ["django.contrib.contenttypes", "django.contrib.auth", *apps]
    settings.configure(INSTALLED_APPS=installed, USE_TZ=True, **more)
    django.setup()


def history_with_indexes(name: str = HISTORY) -> Any:
    """An empty collection with the indexes of our history, whatever was there."""
    from django_mongo_history.storage.indexes import INDEXES

    collection = mongoengine.get_db()[name]
    collection.drop()
    collection.create_indexes(INDEXES)
    return collection


def collection_of(document_class: Any) -> Any:
    """The collection that a class writes to: a recording one where it is tracked."""
    return document_class._get_collection()  # noqa: SLF001 - MongoEngine's own name for it


def facts() -> str:
    """The machine's kind, versions and date: what figures need beside them. No name and no path."""
    client = mongoengine.get_connection()
    kind = "replica set" if client.admin.command("hello").get("setName") else "standalone server"
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"Django {django.__version__}, MongoEngine {mongoengine.__version__}, PyMongo {pymongo.version}, "
        f"MongoDB {client.server_info()['version']} ({kind} on the same machine), {datetime.now(UTC).date()}."
    )


def say(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)
