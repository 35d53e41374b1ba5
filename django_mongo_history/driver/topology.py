"""What a server can do, asked once per client."""

from __future__ import annotations

import math
from contextvars import Context
from typing import Any, Final, NamedTuple
from weakref import ReferenceType, ref

from pymongo import MongoClient, _csot
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError
from pymongo.write_concern import WriteConcern

_MONGODB_5: Final = 13
"""The wire version of MongoDB 5.0: from there on `$set` puts new fields in the order that `after_image` knows."""

_MONGODB_8: Final = 25
"""The wire version of MongoDB 8.0: from there on `update_one` and `replace_one` take a `sort`."""


class Facts(NamedTuple):
    """What is asked once."""

    has_transactions: bool
    computes_images: bool
    sorts_updates: bool


# By identity: clients of one address compare equal, and tests put another server behind an address.
_known: dict[int, tuple[ReferenceType[Any], Facts]] = {}


def has_transactions(client: Any) -> bool:
    """Whether this is a replica set or a sharded cluster. False for mongomock and for a standalone server."""
    return _facts(client).has_transactions


def computes_images(client: Any) -> bool:
    """Whether the server's rules for `$set` and `$unset` are those that `after_image` computes by."""
    return _facts(client).computes_images


def sorts_updates(client: Any) -> bool:
    """Whether the server takes a `sort` for an update of one document."""
    return _facts(client).sorts_updates


def bound_session(client: Any) -> Any:
    """The session that `ClientSession.bind()` (PyMongo 4.17) put in force in this context, or None."""
    if not isinstance(client, MongoClient):
        return None
    find = getattr(client, "_get_bound_session", None)
    return find() if callable(find) else None


def deadline() -> float:
    """When the caller's own time limit (`pymongo.timeout()`) ends, by the monotonic clock; infinity without one."""
    limit: float | None = _csot.get_deadline() if _csot.get_timeout() else None
    return math.inf if limit is None else limit


def may_fail_late(concern: WriteConcern) -> bool:
    """
    Whether a write that was done, or that found nothing to do, may still be answered by a WriteConcernError: more is
    asked for than the primary or a majority, or only for a time.
    """
    asked = concern.document
    return asked.get("w", 1) not in (0, 1, "majority") or bool(asked.get("wtimeout"))


def forget() -> None:
    """Ask again: for tests that exchange the server behind an address."""
    _known.clear()


def _facts(client: Any) -> Facts:
    if not isinstance(client, MongoClient):
        return Facts(has_transactions=False, computes_images=False, sorts_updates=False)
    known = _known.get(id(client))
    if known is not None and known[0]() is client:
        return known[1]
    try:
        # In an empty context: a transaction that the caller has bound to this one must not begin with our question.
        hello = Context().run(client.admin.command, "hello")
    except ServerSelectionTimeoutError:
        raise  # it is what the write would raise, and another wait would double the time that it takes
    except PyMongoError:
        return Facts(
            has_transactions=True, computes_images=False, sorts_updates=False
        )  # no server answers: the write will say so in its own words
    wire_version = hello.get("maxWireVersion", 0)
    facts = Facts(
        has_transactions="setName" in hello or hello.get("msg") == "isdbgrid",
        computes_images=wire_version >= _MONGODB_5,
        sorts_updates=wire_version >= _MONGODB_8,
    )
    name = id(client)
    _known[name] = ref(client, lambda _gone: _forget(name)), facts
    return facts


def _forget(name: int) -> None:
    _known.pop(name, None)
