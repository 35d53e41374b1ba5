"""
Where a version stands in a list, as a part of an address: readable where the user may see the version, sealed where not.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from bson import ObjectId
from django.utils.crypto import constant_time_compare, salted_hmac

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_PLAIN: Final = re.compile(r"(-?[0-9]+)-([0-9a-fA-F]{24})")
_SALT: Final = "mongo_history.place"
_TAG, _MOMENT, _ID = 16, 8, 12
"""Bytes of a sealed place: what shows that it is ours and hides the rest, milliseconds since 1970, an id."""

Place = tuple[datetime, ObjectId]


def place_text(at: datetime, version_id: ObjectId) -> str:
    """The place of a version that the user may see."""
    return f"{_milliseconds(at)}-{version_id}"


def sealed_place(at: datetime, version_id: ObjectId) -> str:
    """
    The place of one that they may not see: from there the list goes on, and nobody learns when something happened.

    The same place gives the same text as long as the site has its key. How: the tag is a keyed digest of the place, and
    the place is hidden under a keyed digest of the tag.
    """
    plain = _milliseconds(at).to_bytes(_MOMENT, "big", signed=True) + version_id.binary
    tag = _digest("tag", plain)[:_TAG]
    return base64.urlsafe_b64encode(tag + _under(tag, plain)).decode("ascii")


def read_place(text: str) -> Place | None:
    """The reverse of both; None for an empty text. Raises: ValueError for what is no place."""
    if not text:
        return None
    plain = _PLAIN.fullmatch(text)
    try:
        if plain is not None:
            return _EPOCH + int(plain[1]) * _MILLISECOND, ObjectId(plain[2])
        return _opened(base64.b64decode(text, altchars=b"-_", validate=True))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no place in a list") from error


def _opened(sealed: bytes) -> Place:
    tag, hidden = sealed[:_TAG], sealed[_TAG:]
    if len(hidden) != _MOMENT + _ID:
        raise ValueError("of another length")
    plain = _under(tag, hidden)
    if not constant_time_compare(_digest("tag", plain)[:_TAG], tag):
        raise ValueError("not sealed here")
    milliseconds = int.from_bytes(plain[:_MOMENT], "big", signed=True)
    return _EPOCH + milliseconds * _MILLISECOND, ObjectId(plain[_MOMENT:])


def _under(tag: bytes, given: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(given, _digest("cover", tag), strict=False))


def _digest(purpose: str, given: bytes) -> bytes:
    found: bytes = salted_hmac(f"{_SALT}.{purpose}", given, algorithm="sha256").digest()
    return found


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MILLISECOND
