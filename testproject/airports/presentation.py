"""
Versions as the pages show them.

Templates get plain rows, not versions: a template's `version.name` would ask the version for the airport's field first.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django_mongo_history import ABSENT, HIDDEN

TYPE_NAMES = {bool: "bool", int: "int", float: "double", str: "text", list: "list", dict: "document"}


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One changed path: the value on both sides, and a note where only the type tells them apart."""

    path: str
    old: str
    new: str
    note: str


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version."""

    number: int
    at: str
    operation: str
    user: str
    reason: str
    remote_addr: str
    changes: list[ChangeRow]


def version_row(version: Any) -> VersionRow:
    """A version as a row; what it does not know is an empty text."""
    return VersionRow(
        number=version.number,
        at=moment_text(version.at) if version.at else "",
        operation=str(version.operation),
        user=str(version.user or ""),
        reason=version.reason or "",
        remote_addr=version.remote_addr or "",
        changes=[change_row(change) for change in version.changes],
    )


def moment_text(moment: datetime) -> str:
    """A moment in UTC to the millisecond, as `datetime-local` inputs take it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def change_row(change: Any) -> ChangeRow:
    """A change as a row."""
    return ChangeRow(
        path=".".join(str(part) for part in change.path),
        old=shown(change.old),
        new=shown(change.new),
        note=type_note(change.old, change.new),
    )


def shown(value: object) -> str:
    """A value as text; a double always has its point, what is absent is a dash."""
    if value is ABSENT:
        return "–"
    if value is HIDDEN:
        return "hidden"
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return repr(value) if isinstance(value, (int, float)) else str(value)


def type_note(old: object, new: object) -> str:
    """`double → int` where two equal values differ in type alone, else nothing."""
    if old is ABSENT or new is ABSENT or type(old) is type(new) or old != new:
        return ""
    return (
        f"{TYPE_NAMES.get(type(old), type(old).__name__)} → {TYPE_NAMES.get(type(new), type(new).__name__)}"
    )


def state_rows(state: dict[str, Any] | None) -> list[tuple[str, str]]:
    """A state as (path, value) rows, embedded documents taken apart."""
    return list(_flattened(state or {}, prefix=""))


def _flattened(state: dict[str, Any], *, prefix: str) -> Iterable[tuple[str, str]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _flattened(value, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", shown(value)
