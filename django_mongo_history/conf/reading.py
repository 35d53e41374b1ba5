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
        " first where the server can.",
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
        "What happens when a version cannot be stored after its document was written ('sync' delivery).",
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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, checked and with its default: `MONGO_HISTORY`'s keys in small letters, see `ROWS`."""

    delivery: str
    database: str | None
    collection: str
    snapshot_every: int
    chunk_size: int
    on_error: str
    drop_collection: str
    transaction_timeout_s: float
    attribute: str
    trusted_proxies: tuple[rules.Network, ...]
    request_id_header: str | None
    get_user: Named
    get_remote_addr: Named
    get_extra: Named
    require_reason: bool
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
