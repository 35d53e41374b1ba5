"""Which document an image is of, and of which class: read from its bytes without decoding the rest. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, Final

from bson import ObjectId

from django_mongo_history.core import elements, values
from django_mongo_history.core.model import DocumentKey, Replaced, Write

_OBJECT_ID: Final = 0x07
_TEXT: Final = 0x02
_CLASS: Final = b"\x02_cls\x00"
_BEGINS_WITH_ID: Final = b"\x07_id\x00"
_ID_ENDS: Final = 4 + len(_BEGINS_WITH_ID) + 12


def id_bytes(image: bytes) -> tuple[int, bytes]:
    """The `_id` as its BSON type byte and bytes: hashable, whatever its type."""
    if image[4:9] == _BEGINS_WITH_ID and len(image) > _ID_ENDS:  # nearly all do
        return _OBJECT_ID, image[9:_ID_ENDS]
    identity = elements.find_value(image, b"_id")
    if identity is None:
        raise ValueError("a stored document has no _id")
    return identity.kind, identity.value


def id_of(image: bytes) -> Any:
    """The `_id`, exact."""
    return decoded(*id_bytes(image))


def decoded(kind: int, value: bytes) -> Any:
    """An `_id` given as type byte and bytes, exact."""
    return ObjectId(value) if kind == _OBJECT_ID else values.decode_value(kind, value)


def place_of(kind: int, value: bytes) -> Hashable:
    """What all `_id`s share that a collection takes for one: 1 and 1.0 do. Given as type byte and bytes."""
    return value if kind == _OBJECT_ID else values.sort_key(values.decode_value(kind, value))


def class_name(image: bytes | None) -> str | None:
    """The `_cls` of a stored document, or None."""
    if image is None or _CLASS not in image:
        return None
    found = elements.find_value(image, b"_cls")
    return None if found is None or found.kind != _TEXT else _class_name(found.value)


@lru_cache(maxsize=1024)
def _class_name(text: bytes) -> str | None:
    name = values.decode_value(_TEXT, text)
    return name if isinstance(name, str) else None


def write_of(
    namespace: str, before: bytes | None, after: bytes | None, replaced: Sequence[Replaced] | None = None
) -> Write:
    """The write with its document's key, read from whichever image there is."""
    image = after if before is None else before
    if image is None:
        raise ValueError("a write has an image on at least one side")
    return Write(DocumentKey(namespace, decoded(*id_bytes(image))), before, after, replaced)
