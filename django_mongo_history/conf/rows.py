"""
Rows of settings: how one key is read, and what is wrong with a value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django_mongo_history.conf.rules import Rule


class Kind(Enum):
    """What sort of mistake a problem is; the system checks have an id for each."""

    UNKNOWN_KEY = "unknown key"
    WRONG_VALUE = "wrong value"
    WRONG_ENTRY = "wrong entry"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the settings: where it is, what was expected and found, and what to do."""

    key: str
    message: str
    hint: str
    kind: Kind = Kind.WRONG_VALUE


@dataclass(frozen=True, slots=True)
class Row:
    """One key. `type`, `unit` and `meaning` are for readers of the documentation, `rule` is what counts."""

    key: str
    type: str
    rule: Rule
    default: Any
    meaning: str
    unit: str = ""

    @property
    def name(self) -> str:
        return self.key.lower()


def read_rows(
    rows: Iterable[Row], given: Mapping[Any, Any], *, place: str
) -> tuple[dict[str, Any], list[Problem]]:
    """The values by row name, the default where a key is missing or wrong, and what is wrong."""
    table = {row.key: row for row in rows}
    found = [_unknown(key, table, place) for key in given if key not in table]
    read = {row.name: row.default for row in table.values()}
    for key in table.keys() & given.keys():
        row = table[key]
        try:
            read[row.name] = row.rule(given[key])
        except ValueError as error:
            found.append(wrong(f"{place}[{key!r}]", str(error), given[key], hint=_sentence(row)))
    return read, sorted(found, key=lambda problem: problem.key)


def wrong(key: str, expected: str, value: Any, *, hint: str, kind: Kind = Kind.WRONG_VALUE) -> Problem:
    """A problem in the house's words: which key, what was expected, what was found."""
    shown = repr(value)
    return Problem(
        key, f"{key}: {expected}, got {shown if len(shown) <= 200 else shown[:200] + '...'}", hint, kind
    )


def _unknown(key: Any, table: Mapping[str, Row], place: str) -> Problem:
    near = difflib.get_close_matches(str(key).upper() if _is_upper(table) else str(key), table, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(table)}."
    return Problem(f"{place}[{key!r}]", f"{place}[{key!r}]: unknown key", hint, Kind.UNKNOWN_KEY)


def _is_upper(table: Mapping[str, Row]) -> bool:
    return all(key.isupper() for key in table)


def _sentence(row: Row) -> str:
    default = "It has no default." if row.default is ... else f"The default is {row.default!r}."
    return f"{row.meaning} {default}"
