"""
What converted versions are called: made from the rows that they come from, the same in every run. Pure.

Note [Ids of converted versions]
An id begins with the moment of its version, as every ObjectId does; the other eight bytes are a digest of the format, the
place and the first row. Ids that drivers mint hold five random bytes of their process there, so the two do not meet: among
10**9 of each that is less likely than one to 10.
"""

from __future__ import annotations

import hashlib
import math
from datetime import datetime
from typing import Any, Final

from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.core.model import CLOCK_BIT, HINT_BIT
from django_mongo_history.core.values import encode_value

_MOST_SECONDS: Final = 2**32 - 1
_LAST: Final = 0x3000_0000
"""Above every millisecond, below the bits that say how an order was made."""


class Names:
    """Ids of one source."""

    def __init__(self, format_name: str, place: str) -> None:
        self._seed = hashlib.sha256(f"converted {format_name} {place}".encode() + b"\0")

    def version(self, row_id: Any, at: datetime) -> ObjectId:
        """The id of the version whose first row this is."""
        return ObjectId(_seconds(at).to_bytes(4, "big") + self._digest(b"version", row_id)[:8])

    def changeset(self, shared: Any) -> ObjectId:
        """The changeset of steps that have this in common."""
        digest = self._digest(b"changeset", shared)
        return ObjectId(digest[:12])

    def unknown(self, row_id: Any) -> bytes:
        """A digest in the place of that of a state that nobody knows."""
        return self._digest(b"unknown", row_id)

    def _digest(self, what: bytes, named: Any) -> bytes:
        found = self._seed.copy()
        if type(named) is ObjectId:
            found.update(b"%b\7%b" % (what, named.binary))
        else:
            kind, value = encode_value(named)
            found.update(b"%b%c%b" % (what, kind, value))
        return found.digest()


def clock_order(at: datetime, last: Timestamp | None, *, shift_s: int) -> Timestamp:
    """
    Where a version stands: by its moment, and always behind `last`, the one in front of it.

    `shift_s`: seconds by which it is put forward. Cluster times have whole seconds only: a live version of the same second
    would come before it.
    """
    seconds = min(max(math.floor(at.timestamp()) - shift_s, 0), _MOST_SECONDS)
    found = Timestamp(seconds, CLOCK_BIT | at.microsecond // 1000)
    if last is not None and (found.time, found.inc) <= (last.time, last.inc):
        return Timestamp(last.time, last.inc + 1)
    return found


def behind(live: Timestamp, at: datetime, last: Timestamp | None) -> Timestamp:
    """
    Where a version stands that fills a gap behind a live one: before every live version of its second that comes later.

    Marked as a hint, which links may correct, where `live` is not a clock's.
    """
    seconds = min(max(math.floor(at.timestamp()), 0), _MOST_SECONDS)
    found = (live.time, (live.inc & ~HINT_BIT) + 1) if live.time >= seconds else (seconds, 0)
    if last is not None and found <= (last.time, last.inc & ~HINT_BIT):
        found = (last.time, (last.inc & ~HINT_BIT) + 1)
    return Timestamp(found[0], found[1] if found[1] & CLOCK_BIT else found[1] | HINT_BIT)


def before(order: Timestamp, number: int) -> Timestamp:
    """The `number`th place of those right before an order, whatever made it."""
    return Timestamp(max(order.time - 1, 0), CLOCK_BIT | (_LAST + number))


def _seconds(at: datetime) -> int:
    seconds = int(at.timestamp())
    return min(max(seconds, 0), _MOST_SECONDS)
