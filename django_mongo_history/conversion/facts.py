"""
Who, when and why, read from old rows by the names that a user gives: what all formats with nameable fields share. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django_mongo_history.conversion.options import Given, Option, text, timezone
from django_mongo_history.core.model import Context, UserRef
from django_mongo_history.errors import ConversionError


def names(value: Any) -> tuple[str, ...]:
    """Names separated by commas, or a list of them."""
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, str) and one.strip() for one in found):
        raise ValueError("names separated by commas")
    return tuple(one.strip() for one in found)


TIME_FIELD: Final = Option("time_field", "Where a row says when.", read=text, metavar="PATH")
KEY_FIELD: Final = Option("key_field", "Where a row says of which document it is.", read=text, metavar="PATH")
USER_FIELD: Final = Option("user_field", "Where a row says who.", read=text, metavar="PATH")
REMOTE_ADDR_FIELD: Final = Option(
    "remote_addr_field", "Where a row says from which address.", read=text, metavar="PATH"
)
REASON_FIELD: Final = Option("reason_field", "Where a row says why.", read=text, metavar="PATH")
EXTRA_FIELDS: Final = Option(
    "extra_fields",
    "What else of a row is to be kept as extra, separated by commas; a document is taken key by key.",
    read=names,
    metavar="PATHS",
)
SOURCE_TIMEZONE: Final = Option(
    "source_timezone",
    "The time zone in whose local time the old rows are; by default dates and texts without an offset are UTC.",
    read=timezone,
    metavar="ZONE",
)
IDENTITY_MODEL: Final = Option(
    "identity_model",
    "The model of the users whose keys the old rows hold, as in auth.user.",
    read=text,
    metavar="LABEL",
)
CONVERT_TEXTS: Final = Option(
    "convert_texts",
    "Turn texts into what the class's fields hold: dates, ids, numbers. For rows that went through JSON or CSV.",
    is_flag=True,
)

WHO: Final = (USER_FIELD, REMOTE_ADDR_FIELD, REASON_FIELD, EXTRA_FIELDS, IDENTITY_MODEL)


class Facts:
    """Reads the context of rows by `given`, the options of `WHO`."""

    def __init__(self, given: Given) -> None:
        self._given = given

    @property
    def paths(self) -> tuple[str, ...]:
        """Where in a row who and why are."""
        named = (self._given.get(name) for name in ("user_field", "remote_addr_field", "reason_field"))
        return (*(path for path in named if path is not None), *(self._given.get("extra_fields") or ()))

    def context(self, *places: Any) -> Context:
        """Who and why, from the first of these that says it."""
        user = self._first("user_field", places)
        reason = self._first("reason_field", places)
        address = self._first("remote_addr_field", places)
        return Context(
            user=None if user is None else UserRef(user, "", self._given.get("identity_model")),
            remote_addr=None if address is None else str(address),
            reason=None if reason is None else str(reason),
            extra=self._extra(places),
        )

    def _first(self, option: str, places: Sequence[Any]) -> Any:
        path = self._given.get(option)
        return None if path is None else first_at(places, path)

    def _extra(self, places: Sequence[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        taken = {self._given.get(option) for option in ("user_field", "reason_field", "remote_addr_field")}
        for path in self._given.get("extra_fields") or ():
            value = first_at(places, path)
            if isinstance(value, Mapping):
                found.update((name, one) for name, one in value.items() if f"{path}.{name}" not in taken)
            elif value is not None:
                found[path.rpartition(".")[2]] = value
        return found


def check_field(rows: Any, given: Given, name: str) -> None:
    """Raises: ConversionError where no row of a collection has the field that an option names."""
    path = given[name]
    if path is not None and rows.find_one({path: {"$exists": True}}, {"_id": 1}) is None:
        found = ", ".join(sorted(rows.find_one() or {}))
        raise ConversionError(
            f"--{name.replace('_', '-')}: no row of {rows.full_name} has {path!r}. The fields of one: {found}.",
            option=name,
        )


def at(row: Any, path: str) -> Any:
    """What lies at a dotted path; None where nothing does. Texts on the way that hold JSON are looked into."""
    for part in path.split("."):
        if isinstance(row, str):
            row = _parsed(row)
        row = row.get(part) if isinstance(row, Mapping) else None
    return row


def first_at(places: Iterable[Any], path: str) -> Any:
    """The same in the first place that has something there."""
    return next((found for place in places if (found := at(place, path)) is not None), None)


def _parsed(found: str) -> Any:
    if not found.lstrip().startswith("{"):
        return None
    try:
        return json.loads(found)
    except ValueError:
        return None
