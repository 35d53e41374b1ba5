"""What a server can do, asked once per client."""

from __future__ import annotations

import math
from contextvars import Context
from typing import Any, Final
from weakref import ReferenceType, ref

from pymongo import MongoClient, _csot
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

_MONGODB_5: Final = 13
"""The wire version of MongoDB 5.0: from there on `$set` puts new fields in the order that `after_image` knows."""

# By identity: clients of one address compare equal, and tests put another server behind an address.
_known: dict[int, tuple[ReferenceType[Any], tuple[bool, bool]]] = {}


def has_transactions(client: Any) -> bool:
    """Whether this is a replica set or a sharded cluster. False for mongomock and for a standalone server."""
    return _facts(client)[0]


def computes_images(client: Any) -> bool:
    """Whether the server's rules for `$set` and `$unset` are those that `after_image` computes by."""
    return _facts(client)[1]


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


def forget() -> None:
    """Ask again: for tests that exchange the server behind an address."""
    _known.clear()


def _facts(client: Any) -> tuple[bool, bool]:
    if not isinstance(client, MongoClient):
        return False, False
    known = _known.get(id(client))
    if known is not None and known[0]() is client:
        return known[1]
    try:
        # In an empty context: a transaction that the caller has bound to this one must not begin with our question.
        hello = Context().run(client.admin.command, "hello")
    except ServerSelectionTimeoutError:
        raise  # it is what the write would raise, and another wait would double the time that it takes
    except PyMongoError:
        return True, False  # no server answers: the write will say so in its own words
    facts = "setName" in hello or hello.get("msg") == "isdbgrid", hello.get("maxWireVersion", 0) >= _MONGODB_5
    name = id(client)
    _known[name] = ref(client, lambda _gone: _forget(name)), facts
    return facts


def _forget(name: int) -> None:
    _known.pop(name, None)
