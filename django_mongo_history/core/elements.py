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

_new = tuple.__new__
"""Makes an `Element` without the detour through its own `__new__`."""

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
    return [
        _new(Element, (document[start + 1 : name_end], document[start], document[name_end + 1 : stop]))
        for start, name_end, stop in spans(document)
    ]


def spans(document: bytes) -> list[tuple[int, int, int]]:
    """
    Where the elements of a document or array lie: its type byte, the null behind its name, the end of its value.

    Cost: half of `elements`, since nothing is copied. Raises: as `elements`.
    """
    found: list[tuple[int, int, int]] = []
    append, find = found.append, document.index
    fixed, prefixed = _FIXED.get, _LENGTH_PREFIXED.get
    position, end = 4, len(document) - 1
    if end < 4 or _read_int32(document, 0)[0] != end + 1 or document[end]:
        raise ValueError("not a BSON document: its length does not fit")
    try:
        while position < end:
            kind = document[position]
            name_end = find(0, position + 1)
            # `value_end`, unrolled: this loop is what every write and every read goes through.
            size = fixed(kind)
            if size is not None:
                stop = name_end + 1 + size
            elif (extra := prefixed(kind)) is not None and (
                length := _read_int32(document, name_end + 1)[0]
            ) >= 0:
                stop = name_end + 1 + extra + length
            else:
                stop = value_end(document, kind, name_end + 1)
            append((position, name_end, stop))
            position = stop
    except struct.error as error:
        raise ValueError("not a BSON document: it ends inside an element") from error
    if position != end:
        raise ValueError("not a BSON document: an element runs over its end")
    return found


Layout = tuple[tuple[bytes, int, int, bool], ...]
"""
The elements of a document without their values, each name once: type byte and name as they lie, the bytes of these, the
bytes of the value, and whether a length at its begin comes on top.
"""


def layout_of(document: bytes) -> Layout | None:
    """
    What `fits` asks of other documents; None where a key stands twice, or a value has an end that must be searched for.

    Raises: as `elements`.
    """
    found = []
    for start, name_end, _stop in spans(document):
        kind = document[start]
        size = _FIXED.get(kind)
        extra = _LENGTH_PREFIXED.get(kind) if size is None else size
        if extra is None:
            return None
        found.append((document[start : name_end + 1], name_end + 1 - start, extra, size is None))
    return tuple(found) if len({head[1:] for head, *_rest in found}) == len(found) else None


def fits(document: bytes, layout: Layout) -> list[int] | None:
    """
    Where the elements of a document begin that is laid out so, and where the last one ends; None where it is not, or
    no document at all: `spans` then tells.

    Documents of one collection mostly have the same keys in the same order: this costs half of `spans`, and what is
    known of the keys of one is known of the next.
    """
    position, end = 4, len(document) - 1
    found: list[int] = []
    append = found.append
    try:
        for head, head_size, size, is_prefixed in layout:
            append(position)
            value = position + head_size
            if document[position:value] != head:
                return None
            position = value + size
            if is_prefixed:
                length = _read_int32(document, value)[0]
                if length < 0:
                    return None
                position += length
        if position != end or document[end] or _read_int32(document, 0)[0] != end + 1:
            return None
    except (struct.error, IndexError):
        return None
    append(position)
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


def element(name: bytes, kind: int, value: bytes) -> bytes:
    """One element as it lies in its document."""
    return b"%c%b\x00%b" % (kind, name, value)


def enclose(pieces: Iterable[bytes]) -> bytes:
    """A document of elements that are laid out already, one or several to a piece."""
    body = b"".join(pieces)
    return b"%b%b\x00" % (_pack_int32(len(body) + 5), body)


def assemble(parts: Iterable[tuple[bytes, int, bytes]]) -> bytes:
    """A document (or array) of these elements (name, kind, value), byte for byte."""
    return enclose([b"%c%b\x00%b" % (kind, name, value) for name, kind, value in parts])


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
