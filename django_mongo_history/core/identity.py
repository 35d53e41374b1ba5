"""Which document an image is of, and of which class: read from its bytes without decoding the rest. Pure."""

from __future__ import annotations

from typing import Any

from django_mongo_history.core import elements, values
from django_mongo_history.core.model import DocumentKey, Write


def id_bytes(image: bytes) -> tuple[int, bytes]:
    """The `_id` as its BSON type byte and bytes: hashable, whatever its type."""
    identity = elements.find_value(image, b"_id")
    if identity is None:
        raise ValueError("a stored document has no _id")
    return identity.kind, identity.value


def id_of(image: bytes) -> Any:
    """The `_id`, exact."""
    return values.decode_value(*id_bytes(image))


def class_name(image: bytes | None) -> str | None:
    """The `_cls` of a stored document, or None."""
    found = None if image is None else elements.find_value(image, b"_cls")
    if found is None:
        return None
    name = values.decode_value(found.kind, found.value)
    return name if isinstance(name, str) else None


def write_of(namespace: str, before: bytes | None, after: bytes | None) -> Write:
    """The write with its document's key, read from whichever image there is."""
    image = after if before is None else before
    if image is None:
        raise ValueError("a write has an image on at least one side")
    return Write(DocumentKey(namespace, id_of(image)), before, after)
