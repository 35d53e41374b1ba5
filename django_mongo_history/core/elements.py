"""
BSON as it lies: walk, cut and splice the elements of a document without decoding their values.

Images are compared, pruned and edited here, because a decode and encode round trip is not the identity for every
document that a server may hold. Layout: https://bsonspec.org/spec.html. Knows bytes only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

DOCUMENT: Final = 0x03
ARRAY: Final = 0x04

_FIXED: Final = {
    0x01: 8,  # double
    0x06: 0,  # undefined
    0x07: 12,  # ObjectId
    0x08: 1,  # boolean
    0x09: 8,  # date
    0x0A: 0,  # null
    0x10: 4,  # int32
    0x11: 8,  # timestamp
    0x12: 8,  # int64
    0x13: 16,  # decimal128
    0x7F: 0,  # MaxKey
    0xFF: 0,  # MinKey
}
_LENGTH_PREFIXED: Final = {
    0x02: 4,  # string: length counts the final null, not the prefix
    0x03: 0,  # document: length counts itself
    0x04: 0,  # array
    0x05: 5,  # binary: prefix and subtype come on top
    0x0C: 16,  # DBPointer: prefix and ObjectId come on top
    0x0D: 4,  # code
    0x0E: 4,  # symbol
    0x0F: 0,  # code with scope
}
_int32 = struct.Struct("<i")
_read_int32 = _int32.unpack_from
_pack_int32 = _int32.pack

EMPTY_DOCUMENT: Final = b"\x05\x00\x00\x00\x00"


class Element(NamedTuple):
    """One name and value of a document: the name and the value as they lie, `kind` is the BSON type byte."""

    name: bytes
    kind: int
    value: bytes


def elements(document: bytes) -> list[Element]:
    """
    The elements of a document or array, in order.

    Cost: linear in the number of elements of this level; nested values are copied, not entered.
    Raises: ValueError for a type byte that BSON does not know or a length that does not fit.
    """
    found: list[Element] = []
    append, find = found.append, document.index
    position, end = 4, len(document) - 1
    if len(document) < 5 or _read_int32(document, 0)[0] != len(document) or document[end]:
        raise ValueError("not a BSON document: its length does not fit")
    try:
        while position < end:
            kind = document[position]
            name_end = find(0, position + 1)
            start = name_end + 1
            stop = value_end(document, kind, start)
            append(Element(document[position + 1 : name_end], kind, document[start:stop]))
            position = stop
    except struct.error as error:
        raise ValueError("not a BSON document: it ends inside an element") from error
    if position != end:
        raise ValueError("not a BSON document: an element runs over its end")
    return found


def value_end(document: bytes, kind: int, start: int) -> int:
    """Where the value of type `kind` that begins at `start` ends (exclusive)."""
    size = _FIXED.get(kind)
    if size is not None:
        return start + size
    extra = _LENGTH_PREFIXED.get(kind)
    if extra is not None:
        length: int = _read_int32(document, start)[0]
        if length < 0:
            raise ValueError(f"BSON value of type 0x{kind:02x} with a negative length")
        return start + extra + length
    if kind == 0x0B:  # regular expression: two null-terminated strings
        return document.index(0, document.index(0, start) + 1) + 1
    raise ValueError(f"unknown BSON type 0x{kind:02x}")


def assemble(parts: Iterable[tuple[bytes, int, bytes]]) -> bytes:
    """A document (or array) of these elements (name, kind, value), byte for byte."""
    pieces = [b""]
    for name, kind, value in parts:
        pieces.append(b"%c%b\x00%b" % (kind, name, value))
    pieces.append(b"\x00")
    body = b"".join(pieces)
    return _pack_int32(len(body) + 4) + body


def assemble_array(values: Iterable[tuple[int, bytes]]) -> bytes:
    """An array of these values, each a type byte and its bytes, under the canonical names 0, 1, 2…"""
    return assemble((b"%d" % index, kind, value) for index, (kind, value) in enumerate(values))


def text(encoded: bytes) -> bytes:
    """The value bytes of a string."""
    return _pack_int32(len(encoded) + 1) + encoded + b"\x00"


def find_value(document: bytes, name: bytes) -> Element | None:
    """The first element of this name, or None. Stops there: finding `_id` costs one step."""
    position, end = 4, len(document) - 1
    while position < end:
        kind = document[position]
        name_end = document.index(0, position + 1)
        start = name_end + 1
        stop = value_end(document, kind, start)
        if document[position + 1 : name_end] == name:
            return Element(name, kind, document[start:stop])
        position = stop
    return None
