"""
Values as they will be stored: checked at once and copied, so that a write never fails over its context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import bson
from bson import ObjectId
from bson.binary import Binary, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.int64 import Int64

from django_mongo_history.core import values
from django_mongo_history.core.model import DocumentKey

Slot = tuple[str, Any]
"""A document's key where keys are looked up: see `slot_of`."""

_WRITABLE: Final[CodecOptions[dict[str, Any]]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)


def storable(given: Mapping[str, Any], *, called: str) -> dict[str, Any]:
    """The values as they will be stored: a copy, so that nobody changes them afterwards."""
    return {name: _storable_value(name, value, f"{called}[{name!r}]") for name, value in given.items()}


def storable_text(text: str) -> str:
    """The same where UTF-8 can hold it; what it cannot hold becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def storable_key(key: Any) -> Any:
    """A document's or user's key as MongoDB stores it: a UUID as binary, what BSON cannot hold as its text."""
    if isinstance(key, UUID):
        return Binary.from_uuid(key)
    if key is None or isinstance(key, (ObjectId, Int64)):
        return key
    try:
        values.encode_value(key)
    except (BSONError, ValueError, TypeError, OverflowError):
        return storable_text(str(key))
    return key


def slot_of(key: DocumentKey) -> Slot:
    """A key for a dict, of a document."""
    return key.collection, comparable_key(key.document_id)


def comparable_key(key: Any) -> Any:
    """Keys in a form that can be hashed: they may be documents, and to MongoDB 1, Int64(1) and 1.0 are one, True another."""
    stored = storable_key(key)
    if isinstance(stored, (int, float)) and not isinstance(stored, bool):
        return ("number", stored)
    return values.encode_value(stored)


def _storable_value(name: Any, value: Any, place: str) -> Any:
    if not isinstance(name, str):
        raise TypeError(f"{place}: expected text as the name, got {type(name).__name__}")
    try:
        encoded = bson.encode({name: value}, codec_options=_WRITABLE)
    except (OverflowError, RecursionError, UnicodeError) as error:
        raise ValueError(f"{place}: MongoDB cannot store it: {error}") from error
    except (BSONError, TypeError, ValueError) as error:
        raise TypeError(f"{place}: MongoDB cannot store {type(value).__name__}: {error}") from error
    return values.decode(encoded)[name]
