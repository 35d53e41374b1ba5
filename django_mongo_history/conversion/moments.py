"""
Moments as old rows have them: dates, texts, numbers, ids. Pure.

Local times without a zone are read in the one that the user names. Where clocks were put back and it was the same time
twice, and where they were put forward and it never was, the moment comes with a note that says so.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from bson import ObjectId
from bson.timestamp import Timestamp

NEVER: Final = "its local time did not exist: clocks were put forward then"
TWICE: Final = "its local time was there twice: clocks were put back then"

_SHORT_OFFSET: Final = re.compile(r"[+-]\d\d$")
_MILLISECONDS_FROM: Final = 100_000_000_000
"""Numbers from here on are milliseconds since 1970, those below it seconds: it is 1973 as the one and 5138 as the other."""


class Moment(NamedTuple):
    """An aware moment in UTC, to the millisecond, and what is not certain about it."""

    at: datetime
    note: str = ""


class Moments:
    """Reads moments. `zone`: the name of the zone of local times; None: whatever has no zone is UTC."""

    def __init__(self, zone: str | None) -> None:
        self._zone = None if zone in (None, "UTC", "Etc/UTC") else ZoneInfo(str(zone))

    def read(self, value: Any) -> Moment | None:
        """The moment that a value means; None where it means none. A number is seconds or milliseconds since 1970."""
        if isinstance(value, datetime):
            return self._local(value.replace(tzinfo=None))  # BSON's dates are naive, read as if they were UTC
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, ObjectId):
            return Moment(value.generation_time)
        if isinstance(value, Timestamp):
            return Moment(value.as_datetime())
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _number(value)
        return None

    def read_text(self, text: str) -> datetime | None:
        """The moment that a text means."""
        found = self._text(text)
        return None if found is None else found.at

    def _text(self, text: str) -> Moment | None:
        trimmed = text.strip()
        if len(trimmed) < len("2024-01-01") or trimmed.isdigit():
            return None
        if ":" in trimmed and _SHORT_OFFSET.search(trimmed):
            trimmed += ":00"
        try:
            found = datetime.fromisoformat(trimmed)
            return self._local(found) if found.utcoffset() is None else Moment(_short(found.astimezone(UTC)))
        except (ValueError, OverflowError):
            return None

    def _local(self, naive: datetime) -> Moment | None:
        if self._zone is None:
            return Moment(_short(naive.replace(tzinfo=UTC)))
        try:
            first = naive.replace(tzinfo=self._zone).astimezone(UTC)
            second = naive.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        except OverflowError:
            return None
        note = "" if first == second else NEVER if second < first else TWICE
        return Moment(_short(first), note)


def _number(value: float) -> Moment | None:
    if not math.isfinite(value):
        return None
    milliseconds = value if abs(value) >= _MILLISECONDS_FROM else value * 1000
    try:
        return Moment(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round(milliseconds)))
    except OverflowError:
        return None


def _short(moment: datetime) -> datetime:
    """As BSON holds it."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
