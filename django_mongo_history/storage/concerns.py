"""How surely a server must have what it says it has."""

from __future__ import annotations

from typing import Any, Final

from pymongo.collection import Collection
from pymongo.write_concern import WriteConcern

_PATIENCE_MS: Final = 60_000


def acknowledged(collection: Collection[Any]) -> Collection[Any]:
    """The collection, with a write concern that lets errors be known, whatever the connection asks for."""
    if collection.write_concern.acknowledged:
        return collection
    return collection.with_options(write_concern=WriteConcern(w=1))


def lasting(concern: WriteConcern) -> WriteConcern:
    """
    One that outlasts the death of a server: on the disks of a majority, of a lone server's own; what asks for more stays.

    A lone server acknowledges what lies in its memory, for up to 100 ms, and a primary what nobody else has. Bounded: a
    minute where the connection has no limit of its own, then the driver's `WTimeoutError` is raised.
    """
    asked: dict[str, Any] = concern.document
    nodes = asked.get("w", 1)
    asked = asked | {"w": "majority" if isinstance(nodes, int) and nodes < 2 else nodes}
    return WriteConcern(**{"wtimeout": _PATIENCE_MS, **asked})
