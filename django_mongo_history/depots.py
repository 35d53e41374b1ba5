"""
Where versions wait on their way, under the configuration in force, and what becomes of those that a broker has lost.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pymongo
from bson import ObjectId
from pymongo.errors import ConnectionFailure

from django_mongo_history import documents, runtime
from django_mongo_history.delivery import moving
from django_mongo_history.delivery.copies import Copies
from django_mongo_history.delivery.messages import Message
from django_mongo_history.delivery.moving import Depot
from django_mongo_history.delivery.publishing import MOST_NAMES, BrokerError, Place
from django_mongo_history.driver import collections
from django_mongo_history.storage.mongo import MongoStore
from django_mongo_history.storage.outbox import Outbox

logger: Final = logging.getLogger("django_mongo_history")

_AT_EXIT_S: Final = 5.0


def of(alias: str, database: str) -> Depot:
    """Where versions of this database's documents wait, and where they belong. Raises: ValueError without such an alias."""
    there = documents.client_of(alias)[database]
    outbox = runtime.current().stores.ready_outbox(there["any"])
    if outbox is None:
        raise ValueError(f"the connection {alias!r} is mongomock's, which has no outbox")
    return _depot(there, outbox)


def each(*, using: str | None = None) -> Iterator[Depot]:
    """
    One for each database that has an outbox, or whose documents are tracked; `using` names one connection.

    Databases are looked for on every server that MongoEngine is connected with: tenants may have their own.
    """
    seen: set[str] = set()
    for database in _databases(using):
        outbox = runtime.current().stores.outbox(database["any"])
        name = "" if outbox is None else f"{id(database.client)} {outbox.name}"
        if outbox is not None and name not in seen:
            seen.add(name)
            yield _depot(database, outbox)


def _databases(using: str | None) -> Iterator[Any]:
    for source in runtime.sources().all(using=using):
        yield source.collection.database
    name = runtime.current().settings.outbox_collection
    away: ConnectionFailure | None = None
    for client in documents.open_clients() if using is None else [documents.client_of(using)]:
        try:
            yield from collections.databases_with(client, name)
        except ConnectionFailure as error:
            away = error  # told when those that are there have had their turn
    if away is not None:
        raise away


def secure(place: Place, carried: Sequence[bytes], timeout_s: float) -> None:
    """
    Put versions that a broker took, a row each, into the outbox where they are not stored by now; tell the workers.

    Raises: ValueError without such a connection; StoreError and the driver's errors where servers are away.
    """
    put = _put_missing(place, carried, timeout_s)
    publisher = runtime.current().environment.queues.publisher
    if publisher is not None:
        with contextlib.suppress(BrokerError):  # the sweep finds them
            for start in range(0, len(put), MOST_NAMES):
                publisher.publish(Message(*place, ids=tuple(put[start : start + MOST_NAMES])))


def _put_missing(place: Place, carried: Sequence[bytes], timeout_s: float) -> list[ObjectId]:
    """Those that were not stored, in the outbox now."""
    alias, name = place
    database = documents.client_of(alias)[name]
    current = runtime.current()
    outbox = current.stores.outbox(database["any"])
    if outbox is None:
        return []
    # `plain`: a look makes nothing, least of all in a database that has been dropped.
    depot = _depot(database, outbox, current.stores.plain)
    is_foreign = current.environment.queues.is_foreign
    missing = moving.missing(depot, carried, timeout_s=timeout_s, is_foreign=is_foreign)
    if not missing:
        return []
    with pymongo.timeout(timeout_s):
        # Both: that of the versions may be of their own, and have none yet.
        if not any(_has_collections(one) for one in (database, database.client[_database_of(outbox)])):
            logger.warning("%s has been dropped, and %d versions on their way with it", name, len(missing))
            return []
        outbox.put(
            [row for packet in missing.values() for row in packet]
        )  # whoever moves them makes the indexes
    logger.info(
        "%d versions that the broker took were not stored in time; they are in %s now",
        len(missing),
        outbox.name,
    )
    return list(missing)


def _has_collections(database: Any) -> bool:
    return bool(database.list_collection_names(authorizedCollections=True))


def _database_of(outbox: Outbox) -> str:
    return outbox.name.partition(".")[0]


copies: Final = Copies(secure)
"""Of what this process has given to the broker."""


def finish() -> None:
    """
    Have what the broker was given stored or in the outbox: this process ends. Takes some milliseconds; where servers do not
    answer 5 seconds for each answer, and no further database after 10.
    """
    copies.finish(timeout_s=_AT_EXIT_S)


def _depot(database: Any, outbox: Outbox, open_: Callable[[Any], MongoStore] | None = None) -> Depot:
    current = runtime.current()
    return Depot(
        outbox,
        current.stores.dead_letters(database["any"]),
        lambda namespace: (open_ or runtime.store_of)(_collection(database.client, namespace)),
        lambda: datetime.now(UTC),
        current.settings.delivery_tries,
    )


def _collection(client: Any, namespace: str) -> Any:
    database, _, name = namespace.partition(".")
    return client[database][name]
