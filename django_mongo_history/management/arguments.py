"""
From the text of a command line to values. What is wrong is a CommandError that says so, before anything is done.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from bson import ObjectId
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from django_mongo_history import documents, runtime
from django_mongo_history.context import user_ref
from django_mongo_history.core.model import UserRef
from django_mongo_history.query import Selection

Say = Callable[[str], object]

MOMENT_HELP: Final = (
    "ISO 8601: 2026-02-08T23:03:00Z, with an offset, or without any zone, which is then Django's current one; "
    "a date alone is its midnight."
)
_INT64: Final = 2**63


def add_documents(parser: CommandParser) -> None:
    """`--document`, which may be given several times."""
    parser.add_argument(
        "--document",
        metavar="LABEL",
        action="append",
        default=[],
        help="Only this class, by its dotted path, as in shop.documents.Order; subclasses come with it. May be given "
        "several times. Without it: all tracked classes.",
    )


def positive(text: str) -> int:
    """The type of counts: a whole number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


positive.__name__ = "whole number from 1"


def parse_selection(labels: Sequence[str], ids: Sequence[str] = (), *, using: str | None = None) -> Selection:
    """Which documents are meant."""
    classes = list(dict.fromkeys(map(parse_label, labels)))
    check_alias(using)
    if ids and len(classes) != 1:
        raise CommandError("--id: name exactly one --document with it, for an id belongs to a class.")
    selection = Selection(runtime.sources(), classes, using=using)
    if not ids:
        return selection
    return Selection(selection.sources, classes, _parse_ids(selection, ids), using)


def check_alias(using: str | None) -> None:
    """Refuse the name of a connection that there is not."""
    if using is not None and using not in documents.connection_aliases():
        known = ", ".join(documents.connection_aliases()) or "none"
        raise CommandError(f"--using: there is no connection {using!r}. Connections: {known}.")


def parse_label(label: str) -> type[Any]:
    """The tracked class of a dotted path."""
    registry = runtime.current().environment.registry
    found = documents.find_label(label)
    if found is not None and registry.get(found) is not None:
        return found
    known = sorted(tracked.label for tracked in registry)
    near = difflib.get_close_matches(label, known, n=1)
    problem = "no MongoEngine document of that name is imported" if found is None else "it is not tracked"
    hint = f" Did you mean {near[0]}?" if near else ""
    raise CommandError(f"--document {label}: {problem}.{hint} Tracked: {', '.join(known) or 'nothing'}.")


def _parse_ids(selection: Selection, ids: Sequence[str]) -> list[Any]:
    document_class = selection.classes[0]
    codec_options = selection.sources.of_class(document_class, using=selection.using).codec_options
    try:
        keys = [documents.parse_id(document_class, text) for text in ids]
        return [documents.exact_id(document_class, key, codec_options) for key in keys]
    except ValueError as error:
        raise CommandError(f"--id: {error}") from error


def parse_moment(text: str | None, *, name: str, say: Say) -> datetime | None:
    """
    The moment of an option; None where it is not given. `say` is told how a moment without a zone was read.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise CommandError(f"{name}: {text!r} is no moment. Expected {MOMENT_HELP}") from error
    if moment.utcoffset() is None:
        moment = _in_current_zone(moment, name=name)
        zone = timezone.get_current_timezone_name()
        say(f"{name}: {text} is read in the time zone {zone}, so it is {moment.isoformat()}.")
    try:
        if moment > datetime.now(UTC):
            raise CommandError(f"{name}: {text} lies in the future.")
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise CommandError(f"{name}: {text!r} is out of range.") from error


def _in_current_zone(moment: datetime, *, name: str) -> datetime:
    """A wall clock's time in Django's current time zone; refused where the clock was changed and it means none or two."""
    zone = timezone.get_current_timezone()
    first, second = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first
    offsets = " or ".join(f"{one:%z}" for one in (first, second))
    raise CommandError(
        f"{name}: clocks were changed in {timezone.get_current_timezone_name()} at {moment.isoformat()}; "
        f"say which moment is meant with an offset: {offsets}."
    )


def until(moment: datetime | None) -> datetime | None:
    """The exclusive bound behind a moment, in the milliseconds that versions have."""
    if moment is None:
        return None
    return moment + timedelta(microseconds=1000 - moment.microsecond % 1000)


def parse_changeset(text: str | None) -> ObjectId | None:
    """The id of a changeset."""
    if text is None:
        return None
    if not ObjectId.is_valid(text):
        raise CommandError(f"--changeset: {text!r} is no id of a changeset; expected 24 hexadecimal digits.")
    return ObjectId(text)


def parse_user(text: str | None) -> list[UserRef]:
    """Everything that a user's text may be: the label, or a key of each type that is written so."""
    if text is None:
        return []
    if not text:
        raise CommandError("--user: expected the name or the key of a user.")
    keys: list[Any] = [text]
    if text.removeprefix("-").isdecimal() and abs(int(text)) < _INT64:
        keys.append(int(text))
    if ObjectId.is_valid(text):
        keys.append(ObjectId(text))
    with suppress(ValueError):
        keys.append(UUID(text))
    return [found for found in map(user_ref, keys) if found is not None]
