"""
BSON values exactly: decode and encode without losing a type, a bit or the key order; digests of states.

What PyMongo's decoder would lose (symbols, undefined, DBPointers, duplicate keys, reference-shaped documents in an
unusual order) stays a `RawValue`. Knows no database.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import bson
from bson import Decimal128
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError, InvalidDocument

from django_mongo_history.core import elements
from django_mongo_history.core.model import State

EXACT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""Codec options under which nearly every document survives decode and encode; the rest is found by comparing."""

_NUMBERS: Final = 3
_RANKS: Final = {
    0xFF: 0, 0x06: 1, 0x0A: 2, 0x01: _NUMBERS, 0x10: _NUMBERS, 0x12: _NUMBERS, 0x13: _NUMBERS, 0x02: 4, 0x0E: 4,
    0x03: 5, 0x04: 6, 0x05: 7, 0x07: 8, 0x08: 9, 0x09: 10, 0x11: 11, 0x0B: 12, 0x0C: 13, 0x0D: 14, 0x0F: 15, 0x7F: 16,
}  # fmt: skip
_BINARY: Final = 0x05
_TIMESTAMP: Final = 0x11
_SIGNED: Final = (0x08, 0x09)
_TEXTS: Final = (0x02, 0x0E, 0x0D)

_TEXT: Final = 0x02
_TEXT_ERRORS: Final = "surrogateescape"
"""How bytes that are no UTF-8 stand in keys and texts, so that paths, which are made of keys, can be stored."""


class DuplicateKeysError(ValueError):
    """A document in which a key stands twice at the top level is no mapping."""


@dataclass(frozen=True, slots=True)
class RawValue:
    """A value that no Python type stands for exactly: its BSON type byte and its bytes."""

    kind: int
    value: bytes


def encode(state: Mapping[str, Any]) -> bytes:
    """
    The BSON of a state, keys in the mapping's own order (PyMongo would pull a top-level `_id` to the front).

    Raises: bson.errors.InvalidDocument for what BSON cannot hold.
    """
    kind, value = encode_value(state)
    if kind != elements.DOCUMENT:
        raise InvalidDocument(f"a state is a document, not BSON type 0x{kind:02x}")
    return value


def decode(document: bytes) -> State:
    """
    The state that this BSON holds, such that `encode(decode(document)) == document`, always.

    Cost: one decode and one encode in C; the slow path is for documents that PyMongo cannot carry unchanged.
    """
    try:
        state = bson.decode(document, EXACT)
        if encode(state) == document:
            return state
    except (BSONError, ValueError, OverflowError):
        pass  # invalid text, out-of-range values: the slow path keeps what it cannot read as it is
    return _decode_document(document)


def encode_value(value: Any) -> tuple[int, bytes]:
    """One value as its BSON type byte and bytes."""
    try:
        whole = bson.encode({"": value}, codec_options=EXACT)
    except InvalidDocument:
        return _encode_slowly(value)
    except UnicodeEncodeError:
        return _encode_slowly(value)
    return whole[4], whole[6:-1]


def decode_value(kind: int, value: bytes) -> Any:
    """The reverse of `encode_value`, exact."""
    state = decode(elements.assemble([elements.Element(b"", kind, value)]))
    return state[""]


def decode_any(document: bytes) -> Any:
    """As `decode`; a document in which a key stands twice at the top level, which no mapping holds, stays a RawValue."""
    try:
        return decode(document)
    except DuplicateKeysError:
        return RawValue(elements.DOCUMENT, document)


def digest(document: bytes) -> bytes:
    """SHA-256 of a tracked state's BSON, 32 bytes: what links one version to the next."""
    return hashlib.sha256(document).digest()


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same BSON: type, bits and key order (`1 != 1.0 != True`, NaN is NaN)."""
    return encode_value(left) == encode_value(right)


def sort_key(value: Any) -> tuple[Any, ...]:
    """
    A key that sorts values as MongoDB does, across types: for stores and pages that walk by `_id`.

    Source: https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
    """
    kind, raw = encode_value(value)
    rank = _RANKS.get(kind, 99)
    if rank == _NUMBERS:
        return rank, _number(value)
    if kind in (elements.DOCUMENT, elements.ARRAY):
        inner = elements.elements(raw)
        return rank, tuple(
            (_RANKS.get(part.kind, 99), part.name, sort_key(decode_value(*part[1:]))) for part in inner
        )
    if kind == _BINARY:
        return rank, (len(raw), raw[4], raw[5:])
    if kind in _SIGNED:
        return rank, int.from_bytes(raw, "little", signed=True)
    if kind == _TIMESTAMP:
        return rank, int.from_bytes(raw, "little")
    return rank, raw[4:-1] if kind in _TEXTS else raw


def _number(value: Any) -> tuple[int, Any]:
    number = value.to_decimal() if isinstance(value, Decimal128) else value
    is_nan = number.is_nan() if isinstance(number, Decimal) else math.isnan(number)
    return (0, 0) if is_nan else (1, number)  # NaN sorts before all numbers


def _encode_slowly(value: Any) -> tuple[int, bytes]:
    if isinstance(value, RawValue):
        return value.kind, value.value
    if isinstance(value, str):
        return _TEXT, elements.text(value.encode("utf-8", _TEXT_ERRORS))
    if isinstance(value, Mapping):
        parts = ((_name_bytes(name), *encode_value(inner)) for name, inner in value.items())
        return elements.DOCUMENT, elements.assemble(elements.Element(*part) for part in parts)
    if isinstance(value, (list, tuple)):
        return elements.ARRAY, elements.assemble_array(encode_value(inner) for inner in value)
    raise InvalidDocument(f"cannot encode {type(value).__name__!r} as BSON")


def _name_bytes(name: Any) -> bytes:
    if not isinstance(name, str):
        raise InvalidDocument(f"keys of a document are text, not {type(name).__name__!r}")
    if "\x00" in name:
        raise InvalidDocument("keys of a document hold no null character")
    return name.encode("utf-8", _TEXT_ERRORS)


def _decode_document(document: bytes) -> State:
    return {part.name.decode("utf-8", _TEXT_ERRORS): _decode_slowly(part) for part in _unique(document)}


def _unique(document: bytes) -> list[elements.Element]:
    parts = elements.elements(document)
    if len({part.name for part in parts}) != len(parts):
        raise DuplicateKeysError("a key stands twice at the top level of the document")
    return parts


def _decode_slowly(part: elements.Element) -> Any:
    try:
        value = bson.decode(elements.assemble([part._replace(name=b"v")]), EXACT)["v"]
        if encode_value(value) == (part.kind, part.value):
            return value
    except (BSONError, ValueError, OverflowError):
        pass
    return _decode_odd(part)


def _decode_odd(part: elements.Element) -> Any:
    """A value that PyMongo cannot carry: as much of what is inside of it as it can."""
    if part.kind == elements.DOCUMENT:
        try:
            return _decode_document(part.value)
        except ValueError:
            return RawValue(part.kind, part.value)
    if part.kind == elements.ARRAY:
        inner = elements.elements(part.value)
        if all(child.name == b"%d" % index for index, child in enumerate(inner)):
            return [_decode_slowly(child) for child in inner]
    if part.kind == _TEXT:
        return part.value[4:-1].decode("utf-8", _TEXT_ERRORS)
    return RawValue(part.kind, part.value)
