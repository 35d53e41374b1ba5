"""
The settings as one frozen value, and everything that is wrong with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from django_mongo_history.conf import rules
from django_mongo_history.conf.callables import Named
from django_mongo_history.conf.rows import Problem, Row, read_rows, wrong
from django_mongo_history.conf.tracked import DELIVERIES, SETTING, TrackedSpec, read_tracked

NAME: Final = "MONGO_HISTORY"

ROWS: Final = (
    Row(
        "DELIVERY",
        "str",
        rules.one_of(*DELIVERIES),
        "auto",
        "How versions are stored: 'atomic' with the document in one transaction, 'sync' right after it, 'auto' the"
        " first where the server can; 'celery' by a worker, 'outbox' by way of a collection that the version is put into"
        " in one transaction with the document.",
    ),
    Row(
        "DATABASE",
        "str or None",
        rules.optional(rules.database),
        None,
        "The database of the versions, on the same client; None means that of the tracked document.",
    ),
    Row(
        "COLLECTION",
        "str",
        rules.collection,
        "document_history",
        "The collection of the versions of all classes.",
    ),
    Row(
        "ALIAS",
        "str or None",
        rules.optional(rules.text),
        None,
        "The MongoEngine connection to which the versions go; None means that of the tracked document. Another server has"
        " no part in the document's transactions: 'auto' is then 'outbox', and 'atomic' cannot be had.",
    ),
    Row(
        "SNAPSHOT_EVERY",
        "int",
        rules.whole(1),
        20,
        "About every how many versions the whole state is stored with one; 1 for collections that others write too.",
        "versions",
    ),
    Row(
        "CHUNK_SIZE",
        "int",
        rules.whole(1, 10_000),
        1000,
        "Up to how many documents one write of many documents is one command and one transaction, 64 MB of them at most.",
        "documents",
    ),
    Row(
        "ON_ERROR",
        "str",
        rules.one_of("raise", "log"),
        "raise",
        "What happens when a version cannot be stored after its document was written ('sync' and 'celery' delivery); it"
        " is kept in the outbox.",
    ),
    Row(
        "DROP_COLLECTION",
        "str",
        rules.one_of("tombstone", "versions"),
        "tombstone",
        "What `drop_collection()` leaves: 'tombstone' one row for the whole collection, 'versions' a delete version of"
        " every document, each deleted by itself before the drop.",
    ),
    Row(
        "TRANSACTION_TIMEOUT_S",
        "float",
        rules.seconds,
        100.0,
        "How long a transaction is tried again; a server holds the documents of a writer that was killed for up to 90.",
        "seconds",
    ),
    Row(
        "OUTBOX_COLLECTION",
        "str",
        rules.collection,
        "document_history_outbox",
        "The collection of versions on their way, in the database of the tracked document, or in DATABASE.",
    ),
    Row(
        "DEAD_COLLECTION",
        "str",
        rules.collection,
        "document_history_dead",
        "The collection of versions that could not be stored, beside the outbox.",
    ),
    Row(
        "DELIVERY_TRIES",
        "int",
        rules.whole(1, 100),
        8,
        "How often a version that the store refuses is tried, at longer and longer intervals, before it is laid aside in"
        " DEAD_COLLECTION. A store that cannot be reached is waited for without an end.",
        "tries",
    ),
    Row(
        "CELERY_QUEUE",
        "str or None",
        rules.optional(rules.text),
        None,
        "The queue of the package's Celery tasks; None means Celery's own routing.",
    ),
    Row(
        "BROKER_DOWN",
        "str",
        rules.one_of("sync", "outbox", "raise"),
        "sync",
        "What 'celery' delivery does where the broker takes no message: 'sync' stores the version itself, 'outbox' keeps"
        " it there for the sweep, 'raise' keeps it there and raises DeliveryError.",
    ),
    Row(
        "BROKER_TIMEOUT_S",
        "float",
        rules.seconds,
        1.0,
        "How long a write waits for the broker. After a failure writes do not wait at all for ten seconds.",
        "seconds",
    ),
    Row(
        "CONFIRM_AFTER_S",
        "float or None",
        rules.optional(rules.seconds),
        30.0,
        "How long after a message the process that sent it looks whether its versions are stored, and puts them into the"
        " outbox where they are not; None means that the broker is relied upon.",
        "seconds",
    ),
    Row(
        "MESSAGE_MAX_BYTES",
        "int",
        rules.whole(1024, 8 * 1024 * 1024),
        256 * 1024,
        "Up to how large versions travel in messages; a larger one goes into the outbox, and the message names it.",
        "bytes",
    ),
    Row(
        "ATTRIBUTE",
        "str",
        rules.attribute,
        "history",
        "The attribute of tracked classes that gives their history.",
    ),
    Row(
        "TRUSTED_PROXIES",
        "list of str",
        rules.networks,
        (),
        "Addresses and networks of one's own proxies, whose X-Forwarded-For is believed; nobody else's is.",
    ),
    Row(
        "REQUEST_ID_HEADER",
        "str or None",
        rules.optional(rules.header),
        "X-Request-ID",
        "The request header that names the request; None, or a value that is no plain text up to 128 characters,"
        " means a name of our own.",
    ),
    Row(
        "GET_USER",
        "callable, dotted path or None",
        rules.optional(rules.callable_or_path),
        None,
        "Called at each write with the document class: who is behind it, before the request's user is looked at.",
    ),
    Row(
        "GET_REMOTE_ADDR",
        "callable, dotted path or None",
        rules.optional(rules.callable_or_path),
        None,
        "The same for the remote address.",
    ),
    Row(
        "GET_EXTRA",
        "callable, dotted path or None",
        rules.optional(rules.callable_or_path),
        None,
        "The same for a dict of values for `extra`; a text called `reason` in it is the reason.",
    ),
    Row(
        "REQUIRE_REASON",
        "bool",
        rules.flag,
        default=False,
        meaning="Whether a write that would be recorded without a reason is refused before it reaches the server.",
    ),
    Row(
        "CONVERSIONS",
        "list of dict",
        rules.conversions,
        (),
        "Old histories that `history_convert` brings along when it is not told which: dicts of `source`, `document` and the"
        " options of the format, as in `{'source': 'mongoengine-history', 'document': 'shop.documents.Order',"
        " 'source_timezone': 'Europe/Paris'}`.",
    ),
    Row(
        "ADMIN_SCOPE",
        "callable, dotted path or None",
        rules.optional(rules.callable_or_path),
        None,
        "Called with the request and a `Scope` on every history page of the admin; answers with that scope, narrowed to"
        " the classes, documents and fields that the user may see.",
    ),
    Row(
        "PROPAGATE_CONTEXT",
        "bool",
        rules.flag,
        default=True,
        meaning="Whether Celery tasks inherit user, address, reason, `extra`, request and changeset from whoever publishes"
        " them: whether these are put into messages, and taken from them.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, checked and with its default: `MONGO_HISTORY`'s keys in small letters, see `ROWS`."""

    delivery: str
    database: str | None
    collection: str
    alias: str | None
    snapshot_every: int
    chunk_size: int
    on_error: str
    drop_collection: str
    transaction_timeout_s: float
    outbox_collection: str
    dead_collection: str
    delivery_tries: int
    celery_queue: str | None
    broker_down: str
    broker_timeout_s: float
    confirm_after_s: float | None
    message_max_bytes: int
    attribute: str
    trusted_proxies: tuple[rules.Network, ...]
    request_id_header: str | None
    get_user: Named
    get_remote_addr: Named
    get_extra: Named
    require_reason: bool
    conversions: tuple[Mapping[str, Any], ...]
    admin_scope: Named
    propagate_context: bool
    tracked_documents: tuple[TrackedSpec, ...]


def load(*, strict: bool = False) -> Settings:
    """
    What is set now. A wrong value gives way to its default and a wrong entry of `TRACKED_DOCUMENTS` is left out:
    the system checks tell of both.

    Raises: ImproperlyConfigured, if `strict`, which lists every mistake.
    """
    read, found = _read()
    if strict and found:
        raise ImproperlyConfigured("\n".join(f"{problem.message}. {problem.hint}" for problem in found))
    return read


def problems() -> list[Problem]:
    """Every mistake in `MONGO_HISTORY` and in the shape of `TRACKED_DOCUMENTS`."""
    return _read()[1]


def _read() -> tuple[Settings, list[Problem]]:
    given = getattr(django_settings, NAME, {})
    found: list[Problem] = []
    if not isinstance(given, Mapping):
        found.append(
            wrong(NAME, "expected a dict", given, hint="For example: MONGO_HISTORY = {'DELIVERY': 'auto'}")
        )
        given = {}
    read, mistakes = read_rows(ROWS, given, place=NAME)
    tracked, wrong_entries = read_tracked(getattr(django_settings, SETTING, []))
    values: dict[str, Any] = {**read, "tracked_documents": tracked}
    return Settings(**values), [*found, *mistakes, *wrong_entries]
