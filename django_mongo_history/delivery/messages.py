"""
What a broker carries: finished versions as they will be stored, or the names of versions that wait in an outbox.

JSON-safe, with the BSON inside it, so that no value passes through a type that a broker knows. Knows no broker.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import ObjectId
from bson.errors import InvalidId

FORMAT: Final = 1
"""The number of this layout; a worker that does not know it lays the message aside instead of guessing."""


@dataclass(frozen=True, slots=True)
class Message:
    """
    `alias`, `database`: the MongoEngine connection and the database of the documents, by which a worker finds the
    store and the outbox. `rows`: versions, a row each. `ids`: versions in the outbox.
    """

    alias: str
    database: str
    rows: tuple[bytes, ...] = ()
    ids: tuple[ObjectId, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The message as a broker takes it."""
        return {
            "format": FORMAT,
            "alias": self.alias,
            "database": self.database,
            "rows": [base64.b64encode(row).decode() for row in self.rows],
            "ids": [str(one) for one in self.ids],
        }

    @classmethod
    def from_json(cls, carried: Any) -> Message:
        """The reverse. Raises: ValueError, which tells nothing of the content."""
        if not isinstance(carried, Mapping):
            raise ValueError("it is no object")  # noqa: TRY004 - one kind of error for all that may be wrong
        if carried.get("format") != FORMAT:
            raise ValueError(
                f"its format is {str(carried.get('format'))[:20]!r}, this package reads {FORMAT}"
            )
        try:
            return cls(
                _text(carried["alias"]),
                _text(carried["database"]),
                tuple(base64.b64decode(_text(row), validate=True) for row in _list(carried["rows"])),
                tuple(ObjectId(_text(one)) for one in _list(carried["ids"])),
            )
        except (KeyError, TypeError, InvalidId, binascii.Error) as error:
            raise ValueError(f"it cannot be read ({type(error).__name__})") from None

    def __repr__(self) -> str:
        """Without what it carries: messages are logged."""
        return f"<{len(self.rows)} versions, {len(self.ids)} by name, of {self.database}>"


def packed(rows: Sequence[bytes], max_bytes: int) -> list[tuple[bytes, ...]]:
    """The rows in as few groups as hold no more than `max_bytes` each, in their order; a larger row is one by itself."""
    groups: list[list[bytes]] = []
    size = 0
    for row in rows:
        if not groups or size + len(row) > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += len(row)
    return [tuple(group) for group in groups]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value
