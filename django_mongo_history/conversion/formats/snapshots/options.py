"""The options of the format, and what a preset says where they say nothing."""

from __future__ import annotations

from typing import Any, Final

from bson import json_util

from django_mongo_history.conversion import facts
from django_mongo_history.conversion.base import Target
from django_mongo_history.conversion.options import COLLECTION, Given, Option, text
from django_mongo_history.conversion.presets import AFTER, BEFORE, PRESETS


def _pairs(value: Any) -> dict[str, str]:
    """Pairs as in "old=new,other=another", or a dict."""
    parts = [one.partition("=")[::2] for one in value.split(",")] if isinstance(value, str) else value
    try:
        found = {str(old).strip(): str(new).strip() for old, new in dict(parts).items()}
    except (TypeError, ValueError) as error:
        raise ValueError("pairs as in old=new,other=another") from error
    if not found or not all(old and new for old, new in found.items()):
        raise ValueError("pairs as in old=new,other=another")
    return found


def _operations(value: Any) -> dict[str, str]:
    found = _pairs(value)
    if not set(found.values()) <= {"create", "update", "delete"}:
        raise ValueError("pairs as in i=create,u=update,r=delete")
    return found


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise ValueError("a whole number") from error


def _query(value: Any) -> dict[str, Any]:
    """A query, as extended JSON where it is a text."""
    try:
        found = json_util.loads(value) if isinstance(value, str) else value
    except (ValueError, TypeError) as error:
        raise ValueError("a query in JSON") from error
    if isinstance(found, dict):
        return found
    raise ValueError("a query in JSON")


OPTIONS: Final[tuple[Option, ...]] = (
    Option("preset", "The tool that wrote the rows.", read=text, choices=tuple(PRESETS)),
    COLLECTION,
    Option("image", "Which state a row holds: that before the write that made it, or that after it.", read=text,
           choices=(BEFORE, AFTER), metavar="SIDE"),
    facts.KEY_FIELD,
    Option("match_field", "The documents' own field that the keys of the rows are in, if that is not _id.", read=text),
    Option("state_field", "Where in a row the state is, if that is not the row itself.", read=text, metavar="PATH"),
    Option("array_field", "The list of a row in which the copies are, if each row has many.", read=text, metavar="PATH"),
    facts.TIME_FIELD,
    Option("version_field", "Where a row has its number, counted by one.", read=text, metavar="PATH"),
    Option("first_version", "The number of the copy that was made when the document was created.", read=_number,
           metavar="N"),
    Option("operation_field", "Where a row says whether it was a create, an update or a delete.", read=text,
           metavar="PATH"),
    Option("operations", "How rows call these, as in i=create,u=update,r=delete.", read=_operations, metavar="PAIRS"),
    Option("type_field", "Where a row says of which class it is.", read=text, metavar="PATH"),
    Option("type", "What it says there for this class; by default the name of the class.", read=text),
    *facts.WHO,
    facts.SOURCE_TIMEZONE,
    Option("drop_fields", "What of a row is none of the document's, separated by commas.", read=facts.names,
           metavar="NAMES"),
    Option("rename", "Fields of the state that are called otherwise today, as in old=new.", read=_pairs, metavar="PAIRS"),
    Option("hidden_fields", "Where a row names fields that were changed and whose values it does not hold.",
           read=facts.names, metavar="PATHS"),
    Option("partial", "Rows hold only the fields that were changed.", is_flag=True),
    facts.CONVERT_TEXTS,
    Option("where", "Which rows are meant, as a query in JSON.", read=_query, metavar="JSON"),
)  # fmt: skip


def settled(target: Target, given: Given) -> dict[str, Any]:
    """The options with what the preset says where nothing was given."""
    preset = PRESETS.get(given["preset"] or "", {})
    found: dict[str, Any] = {**given, "bookkeeping": ()}
    for name, value in preset.items():
        if name == "bookkeeping" or found[name] is None or found[name] is False:
            found[name] = value
    if isinstance(found["collection"], str):
        found["collection"] = found["collection"].replace("{collection}", target.source.collection.name)
    return found


def type_of(target: Target, given: Given) -> str:
    """What rows of the class say in the field that tells of which class a row is."""
    return str(given["type"] or target.document_class.__name__)
