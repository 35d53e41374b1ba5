"""What a text that somebody has typed may stand for: ids of every type, and keys of users."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from bson import Binary, ObjectId, Regex, json_util
from bson.binary import UuidRepresentation
from bson.errors import BSONError
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist

from django_mongo_history import context
from django_mongo_history.core import values

_INT64: Final = 2**63
_NOT_JSON: Final = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, BSONError)
"""What reading extended JSON raises for a text that is none."""
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


def readings_of(text: str) -> list[Any]:
    """
    The BSON values that a text may stand for: itself, a number, an ObjectId, a UUID, true or false, or what it says as
    extended JSON.
    """
    found: list[Any] = [text]
    if _NUMBER.fullmatch(text):
        number = float(text) if "." in text else int(text)
        found.extend([number] if abs(number) < _INT64 else [])
    if ObjectId.is_valid(text):
        found.append(ObjectId(text))
    if text in ("true", "false"):
        found.append(text == "true")
    try:
        parsed = UUID(text)
    except ValueError:
        pass
    else:
        styles = (UuidRepresentation.STANDARD, UuidRepresentation.PYTHON_LEGACY)
        found.extend(Binary.from_uuid(parsed, style) for style in styles)
    if text[:1] in '{["':
        with suppress(*_NOT_JSON):
            found.append(json_util.loads(text, json_options=json_util.CANONICAL_JSON_OPTIONS))
    return [one for one in found if _is_storable(one)]


def _is_storable(value: Any) -> bool:
    """Whether a document can have it as its id: what BSON can hold, and MongoDB takes no lists and no patterns."""
    if isinstance(value, (list, Regex, re.Pattern)):
        return False
    try:
        values.encode_value(value)
    except (BSONError, ValueError, OverflowError, TypeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class UserKeys:
    """
    Keys that a user may have. `is_known`: whether these are all that the text can mean; else it may be the name of
    somebody whom only the versions know.
    """

    keys: list[Any]
    is_known: bool


def keys_of(text: str) -> UserKeys:
    """The keys that a text says itself: nobody is asked who there is."""
    keys = [reading for reading in readings_of(text) if isinstance(reading, (str, int, ObjectId, Binary))]
    return UserKeys(keys, len(keys) > 1)


def user_keys_of(text: str) -> UserKeys:
    """The same, and the key of the user of today who is called so. What comes of it tells whether there is one."""
    said = keys_of(text)
    known = _user_named(text) if text else None
    if known is None:
        return said
    found = context.user_ref(known)
    return UserKeys([*said.keys, *([] if found is None else [found.pk])], is_known=True)


def _user_named(name: str) -> Any:
    """The user of today who is called so, or None."""
    try:
        users: Any = get_user_model()
        return users._default_manager.get_by_natural_key(name)  # noqa: SLF001 - Django's own name for it
    except (ImproperlyConfigured, AttributeError, ObjectDoesNotExist, ValueError):
        return None
