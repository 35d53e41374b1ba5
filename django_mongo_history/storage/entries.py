"""Rows of which only a part was asked for: what order needs of them, what marks and heads hold."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from bson.timestamp import Timestamp

from django_mongo_history.core.model import DocumentKey, Entry, Operation
from django_mongo_history.core.replay import Unreadable, unreadable
from django_mongo_history.storage.base import Head, Mark

ENTRY_FIELDS: Final = dict.fromkeys(("_id", "document_id", "order", "at", "operation", "before", "after"), 1)
MARK_FIELDS: Final = {"at": 1, "changeset": 1}
HEAD_FIELDS: Final = dict.fromkeys(("at", "operation", "collection", "document_class", "document_id"), 1)


def read_entry(row: dict[str, Any]) -> Entry:
    """
    What order needs of a row.

    Raises: BrokenChainError for a row without it: where the version belongs, or what it links, cannot be known.
    """
    try:
        return Entry(
            row["_id"],
            row["document_id"],
            _typed(row["order"], Timestamp),
            Operation(row["operation"]),
            _typed(row["at"], datetime),
            row["before"],
            row["after"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(key_of(row), Unreadable(row["_id"], f"{type(error).__name__}: {error}")) from error


def read_mark(row: dict[str, Any]) -> Mark:
    """Where a row belongs."""
    return Mark(row["at"], row["_id"], row.get("changeset"))


def read_head(row: dict[str, Any]) -> Head | None:
    """What a row says it did; None where it says none of it, which `find` tells of."""
    try:
        operation = Operation(row["operation"])
        return Head(
            _typed(row["at"], datetime),
            row["_id"],
            operation,
            row["collection"],
            row["document_class"],
            row["document_id"],
        )
    except (KeyError, TypeError, ValueError):
        return None


def key_of(row: Any) -> DocumentKey:
    """Of which document a row is, as it says itself."""
    return DocumentKey(str(row.get("collection")), row.get("document_id"))


def _typed(value: Any, wanted: type) -> Any:
    if not isinstance(value, wanted):
        raise TypeError(f"expected {wanted.__name__}, found {type(value).__name__}")
    return value
