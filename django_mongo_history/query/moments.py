"""Moments as arguments: aware, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any


def aware(moment: Any, *, name: str = "moment") -> datetime:
    """
    The moment in UTC.

    Raises: TypeError for what is no datetime, ValueError for a naive one: which instant it means cannot be known.
    """
    if not isinstance(moment, datetime):
        raise TypeError(f"{name}: expected a datetime, got {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise ValueError(
            f"{name}: {moment.isoformat()} is naive, so which instant it means cannot be known; "
            "use an aware datetime, as django.utils.timezone.make_aware() gives one"
        )
    return moment.astimezone(UTC)


def rounded_up(bound: datetime) -> datetime:
    """An upper bound as the store can hold it: milliseconds, up, so that all before the bound stays before it."""
    return bound + timedelta(microseconds=-bound.microsecond % 1000)
