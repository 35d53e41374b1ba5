"""
System checks of deliveries: whether server, connections and broker can do what the settings ask of them.

Only the check tagged `database` talks to a server, so `check --database default` (or `migrate`) runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import mongoengine
import pymongo
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - Django's names
from pymongo.errors import PyMongoError

from django_mongo_history import conf
from django_mongo_history.checks.entries import TAG, TrackedEntry, tracked_entries
from django_mongo_history.documents import connection_aliases, connection_of, database_of, is_mock_connection

HELLO_TIMEOUT_S: Final = 5.0
_NEED_TRANSACTIONS: Final = ("atomic", "outbox")


@register(TAG)
def check_celery(**_: Any) -> list[CheckMessage]:
    """E012: delivery by Celery, which is not installed. W005: by a Celery app that names no broker."""
    asked = [place for place, delivery in _deliveries() if delivery == "celery"]
    if not asked:
        return []
    if find_spec("celery") is None:
        return [
            Error(
                f"{place}: 'celery' delivery needs Celery, which is not installed; versions are stored by 'sync'",
                hint="pip install 'django-mongo-history[celery]'; or use the delivery 'auto', 'sync' or 'outbox'.",
                id="mongo_history.E012",
            )
            for place in asked
        ]
    tasks = import_module("django_mongo_history.tasks")
    if tasks.has_broker():
        return []
    return [
        Warning(
            f"{asked[0]}: 'celery' delivery, and the Celery app in force names no broker",
            hint="Is the project's Celery app imported when Django starts, as in `from .celery import app`, and has it a "
            "broker_url?",
            id="mongo_history.W005",
        )
    ]


@register(TAG)
def check_alias(**_: Any) -> list[CheckMessage]:
    """
    E013: versions on a connection that there is not, or on another server in one transaction with documents, or of
    documents on a server in the memory of a process.
    """
    alias = conf.load().alias
    if alias is None:
        return []
    messages: list[CheckMessage] = []
    if alias not in connection_aliases():
        known = ", ".join(map(repr, connection_aliases())) or "none"
        text = f"MONGO_HISTORY['ALIAS']: MongoEngine has no connection {alias!r}"
        hint = f"Call mongoengine.connect(..., alias={alias!r}) when Django starts. There are: {known}."
        messages.append(Error(text, hint=hint, id="mongo_history.E013"))
    elif is_mock_connection(alias):
        messages += _mocked(alias)
    messages += [
        Error(
            f"{place}: 'atomic' delivery, while MONGO_HISTORY['ALIAS'] puts the versions on another connection",
            hint="No transaction spans two servers. Use the delivery 'outbox' (which 'auto' is then) or 'sync'.",
            id="mongo_history.E013",
        )
        for place, delivery in _deliveries()
        if delivery == "atomic"
    ]
    return messages


def _mocked(alias: str) -> list[CheckMessage]:
    """Where documents are mocked as well, as in tests, nothing is wrong."""
    lasting = (
        one.spec for one in tracked_entries() if not is_mock_connection(connection_of(one.document_class))
    )
    return [
        Error(
            f"MONGO_HISTORY['ALIAS']: {alias!r} is a connection of mongomock's, and {spec.document} is stored on a server",
            hint="Versions on mongomock are gone when the process ends, a worker's with the worker. Name a connection to a "
            "server; or have tests mock the connection of the documents, too.",
            id="mongo_history.E013",
        )
        for spec in lasting
    ]


@register(TAG, Tags.database)
def check_servers(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E010: a server without transactions for a delivery that needs them. W004: a server that does not answer."""
    if not databases:  # the SQL databases to check: none are given where no server shall be asked
        return []
    project = conf.load().delivery
    asked = ((entry, entry.spec.delivery or project) for entry in tracked_entries())
    return [
        message
        for entry, delivery in asked
        if delivery in _NEED_TRANSACTIONS
        for message in _server_messages(entry, delivery)
    ]


def _deliveries() -> Iterator[tuple[str, str]]:
    """Each delivery that is asked for, and where."""
    settings = conf.load()
    yield "MONGO_HISTORY['DELIVERY']", settings.delivery
    for spec in settings.tracked_documents:
        if spec.delivery is not None:
            yield f"TRACKED_DOCUMENTS: 'delivery' of {spec.document!r}", spec.delivery


def _server_messages(tracked: TrackedEntry, delivery: str) -> list[CheckMessage]:
    place = f"{tracked.spec.document}: {delivery!r} delivery"
    try:
        with pymongo.timeout(HELLO_TIMEOUT_S):
            hello = _hello(tracked.document_class)
    except (PyMongoError, mongoengine.connection.ConnectionFailure) as error:
        text = f"{place} cannot be checked, the server does not answer: {error}"
        return [
            Warning(
                text, hint="Is MongoDB running, and mongoengine.connect() called?", id="mongo_history.W004"
            )
        ]
    if _has_transactions(hello):
        return []
    hint = "Use a replica set (one node is enough) or a sharded cluster; or the delivery 'auto' or 'sync'."
    return [
        Error(
            f"{place} needs transactions, which the server does not have", hint=hint, id="mongo_history.E010"
        )
    ]


def _hello(document_class: type[Any]) -> dict[str, Any]:
    hello: Callable[[str], dict[str, Any]] = database_of(document_class).client.admin.command
    try:
        return hello("hello")
    except NotImplementedError:  # mongomock
        return {}


def _has_transactions(hello: dict[str, Any]) -> bool:
    return bool(hello.get("setName")) or hello.get("msg") == "isdbgrid"
