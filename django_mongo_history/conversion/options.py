"""
What can be said about a source: each format names its options, and what is given is checked against them, once.

The command line makes its flags of the same rows. Knows no Django.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django_mongo_history.errors import ConversionError

Given = Mapping[str, Any]
"""Options by name, as a user gave them or as they were read."""


@dataclass(frozen=True, slots=True)
class Option:
    """
    One option of a format.

    `name`: as in Python; on the command line `--name-with-dashes`. `read`: from the text of a command line or the value of
    a setting to what the format uses; raises ValueError with what was expected. `is_flag`: given or not, without a value.
    """

    name: str
    help: str
    default: Any = None
    read: Callable[[Any], Any] = str
    choices: tuple[str, ...] = ()
    metavar: str = "NAME"
    is_flag: bool = False

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("a text that is not empty")
    return value


def timezone(value: Any) -> str:
    """The name of a time zone that exists."""
    if isinstance(value, ZoneInfo):
        value = value.key
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ValueError("a time zone that exists, as in Europe/Paris or UTC") from error
    return str(value)


COLLECTION = Option("collection", "The collection that the old rows lie in.", read=text)


def read_options(options: Iterable[Option], given: Given, *, format_name: str) -> dict[str, Any]:
    """
    Every option of a format with its value or default; a given None is as not given.

    Raises: ConversionError for an option that is not the format's, and for a value that it cannot have.
    """
    table = {option.name: option for option in options}
    read = {name: option.default for name, option in table.items()}
    for name, value in given.items():
        if value is None:
            continue
        if name not in table:
            raise ConversionError(_unknown(name, table, format_name), option=name)
        read[name] = _read(table[name], value, format_name)
    return read


def as_text(read: Given) -> str:
    """Options as they are compared and shown: those that differ from nothing, sorted."""
    shown = {name: value for name, value in sorted(read.items()) if value not in (None, False, ())}
    return json.dumps(shown, default=str, ensure_ascii=False)


def _read(option: Option, value: Any, format_name: str) -> Any:
    if option.is_flag:
        if not isinstance(value, bool):
            raise ConversionError(f"{option.flag}: expected True or False, got {value!r}", option=option.name)
        return value
    try:
        found = option.read(value)
    except ValueError as error:
        raise ConversionError(
            f"{option.flag} of {format_name}: expected {error}, got {value!r}.", option=option.name
        ) from error
    if option.choices and found not in option.choices:
        known = ", ".join(option.choices)
        raise ConversionError(f"{option.flag}: expected one of {known}, got {value!r}.", option=option.name)
    return found


def _unknown(name: str, table: Mapping[str, Option], format_name: str) -> str:
    near = difflib.get_close_matches(name, table, n=1)
    hint = f" Did you mean {table[near[0]].flag}?" if near else ""
    known = ", ".join(option.flag for option in table.values()) or "none"
    flag = f"--{name.replace('_', '-')}"
    return f"{flag} is no option of {format_name}.{hint} Its options: {known}."
