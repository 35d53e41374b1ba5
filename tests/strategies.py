"""
Random BSON documents of every type, byte by byte, for laws that must hold for all of them.

They are made from a string of bytes that is read as a series of choices. Hypothesis draws that string (a shorter one
is a simpler document, so it shrinks), and a seeded generator draws it where twenty thousand are wanted in a minute.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any, Final

import bson
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.timestamp import Timestamp
from hypothesis import strategies as st

from django_mongo_history.core import elements
from django_mongo_history.core.elements import ARRAY, DOCUMENT, EMPTY_DOCUMENT, Element
from django_mongo_history.core.policy import Policy

Value = tuple[int, bytes]
"""A BSON type byte and the bytes of a value."""


def value(python: Any) -> Value:
    """A Python value as PyMongo writes it."""
    whole = bson.encode({"": python}, codec_options=CodecOptions())
    return whole[4], whole[6:-1]


def doc(*parts: tuple[str | bytes, Any]) -> bytes:
    """A document of these names and values (Python's own or a `Value`), in this order, twice the same name included."""
    return elements.assemble(
        Element(
            name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name,
            *(python if _is_value(python) else value(python)),
        )
        for name, python in parts
    )


def _is_value(python: Any) -> bool:
    return (
        isinstance(python, tuple)
        and len(python) == 2
        and isinstance(python[0], int)
        and isinstance(python[1], bytes)
    )


def _text(encoded: bytes) -> bytes:
    return struct.pack("<i", len(encoded) + 1) + encoded + b"\x00"


OBJECT_ID: Final = ObjectId("65f000000000000000000001")
UNSAYABLE: Final[dict[str, Value]] = {
    "undefined": (0x06, b""),
    "symbol": (0x0E, _text(b"sym")),
    "db_pointer": (0x0C, _text(b"db.c") + OBJECT_ID.binary),
    "unknown_regex_flag": (0x0B, b"a\x00ixz\x00"),
    "boolean_of_two": (0x08, b"\x02"),
    "duplicate_keys": (DOCUMENT, doc(("k", 1), ("x", True), ("k", 2))),
    "odd_array": (ARRAY, doc(("0", 1), ("2", 2))),
    "array_backwards": (ARRAY, doc(("1", 1), ("0", 2))),
}
"""Values that no type of PyMongo's carries exactly."""
SPECIAL: Final[dict[str, Value]] = {
    "null": value(None),
    "true": value(True),
    "false": value(False),
    "int": value(1),
    "int_zero": value(0),
    "int64": value(Int64(1)),
    "int64_zero": value(Int64(0)),
    "snowflake": value(Int64(1234567890123456789)),
    "next_snowflake": value(Int64(1234567890123456790)),
    "double": value(1.0),
    "zero": value(0.0),
    "minus_zero": value(-0.0),
    "nan": value(float("nan")),
    "nan_payload": (0x01, bytes.fromhex("010000000000f87f")),
    "signalling_nan": (0x01, bytes.fromhex("010000000000f07f")),
    "minus_nan": (0x01, bytes.fromhex("000000000000f8ff")),
    "infinity": value(float("-inf")),
    "one_ulp_more": value(0.1 + 0.2),
    "three_tenths": value(0.3),
    "decimal": value(Decimal128("1.10")),
    "decimal_shorter": value(Decimal128("1.1")),
    "decimal_nan": value(Decimal128("NaN")),
    "decimal_snan": value(Decimal128("sNaN")),
    "decimal_minus_zero": value(Decimal128("-0E+3")),
    "text": value("text"),
    "empty_text": value(""),
    "text_with_null": value("a\x00b"),
    "text_no_utf8": (0x02, _text(b"\xff\xfea")),
    "bytes": value(b"\x00\x01"),
    "empty_bytes": value(b""),
    "old_binary": value(Binary(b"old", 2)),
    "uuid": value(Binary(b"0123456789abcdef", 4)),
    "old_uuid": value(Binary(b"0123456789abcdef", 3)),
    "user_binary": value(Binary(b"u", 0x80)),
    "object_id": value(OBJECT_ID),
    "date": value(datetime(2024, 2, 29, 12, 0, 0, 123000, tzinfo=UTC)),
    "date_before_1970": value(datetime(1831, 5, 1, tzinfo=UTC)),
    "date_beyond_9999": value(DatetimeMS(2**61)),
    "date_of_the_distant_past": value(DatetimeMS(-(2**61))),
    "timestamp": value(Timestamp(1, 2)),
    "timestamp_zero": value(Timestamp(0, 0)),
    "timestamp_large": value(Timestamp(2**32 - 1, 2**32 - 1)),
    "regex": value(Regex("a.b", "imsx")),
    "code": value(Code("return 1")),
    "code_with_scope": value(Code("return x", {"x": 1})),
    "code_with_empty_scope": value(Code("return x", {})),
    "min_key": value(MinKey()),
    "max_key": value(MaxKey()),
    "empty_document": (DOCUMENT, EMPTY_DOCUMENT),
    "empty_list": (ARRAY, EMPTY_DOCUMENT),
    "reference": (DOCUMENT, doc(("$ref", "c"), ("$id", 1))),
    "reference_backwards": (DOCUMENT, doc(("$id", 1), ("$ref", "c"))),
    "reference_with_more": (DOCUMENT, doc(("$ref", "c"), ("$id", OBJECT_ID), ("$db", "d"), ("more", 1))),
    **UNSAYABLE,
}
"""One of everything that has cost somebody a bug."""

_SPECIALS: Final = list(SPECIAL.values())
_NAMES: Final = [
    b"a", b"b", b"c", b"d", b"_id", b"a.b", b"$set", b"", b"0", b"1", b"10", b"01", b"-1", "\u00e9".encode(), b"\xff",
    b"$id", b"$ref", b"*", b"secret",
]  # fmt: skip


class Choices:
    """A string of bytes as choices; at its end every choice is the first."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._position = 0

    def below(self, bound: int) -> int:
        if self._position >= len(self._source):
            return 0
        self._position += 1
        return self._source[self._position - 1] % bound


def random_document(choose: Choices, *, depth: int = 4) -> bytes:
    """A document whose keys differ at the top level."""
    names = {_name(choose): None for _ in range(choose.below(7))}
    return elements.assemble(Element(name, *random_value(choose, depth)) for name in names)


def random_value(choose: Choices, depth: int) -> Value:
    form = choose.below(8)
    if form == 0:
        return value(choose.below(4))
    if form < 4 or depth == 0:
        return _SPECIALS[choose.below(len(_SPECIALS))]
    if form < 6:
        return DOCUMENT, random_document(choose, depth=depth - 1)
    return ARRAY, elements.assemble_array([random_value(choose, depth - 1) for _ in range(choose.below(6))])


def mutated(choose: Choices, document: bytes) -> bytes:
    """The document after a few edits anywhere in it: most pairs in life are such."""
    for _ in range(1 + choose.below(3)):
        document = _edited(choose, DOCUMENT, document)
    return document


def random_pair(first: Choices, second: Choices) -> tuple[bytes, bytes]:
    """Two documents; in two of three cases the second is an edited copy of the first."""
    before = random_document(first)
    return before, random_document(second) if second.below(3) == 2 else mutated(second, before)


def random_path(choose: Choices) -> tuple[str, ...]:
    names = (_name(choose).decode("utf-8", "surrogateescape") for _ in range(1 + choose.below(3)))
    return tuple("*" if choose.below(5) == 4 else name for name in names)


def random_policy(choose: Choices) -> Policy:
    return Policy(
        untracked=tuple(random_path(choose) for _ in range(choose.below(3))),
        hidden=tuple(random_path(choose) for _ in range(choose.below(4))),
    )


def _name(choose: Choices) -> bytes:
    return _NAMES[choose.below(len(_NAMES))]


def _edited(choose: Choices, kind: int, document: bytes) -> bytes:
    parts = elements.elements(document)
    inner = [index for index, part in enumerate(parts) if part.kind in (DOCUMENT, ARRAY)]
    if inner and choose.below(2):
        index = inner[choose.below(len(inner))]
        part = parts[index]
        parts[index] = part._replace(value=_edited(choose, part.kind, part.value))
        return elements.assemble(parts)
    edit = choose.below(5)
    place = choose.below(len(parts) + 1)
    if edit == 0 or not parts:
        parts.insert(place, Element(_free_name(choose, parts), *random_value(choose, 2)))
    elif edit == 1:
        del parts[place % len(parts)]
    elif edit == 2:
        parts.append(parts.pop(place % len(parts)))
    elif edit == 3:
        del parts[place:]
    else:
        part = parts[place % len(parts)]
        parts[place % len(parts)] = Element(part.name, *random_value(choose, 2))
    if kind == ARRAY:
        return elements.assemble_array((part.kind, part.value) for part in parts)
    return elements.assemble(parts)


def _free_name(choose: Choices, parts: list[Element]) -> bytes:
    taken = {part.name for part in parts}
    return next((name for name in [_name(choose), *_NAMES] if name not in taken), b"free%d" % len(parts))


# Never short: drawn freely most strings would be, and most documents empty. Zeros make the simplest one all the same.
choices: st.SearchStrategy[Choices] = st.binary(min_size=40, max_size=80).map(Choices)
documents: st.SearchStrategy[bytes] = choices.map(random_document)
"""Documents of all BSON types, keys unique at the top level."""
values: st.SearchStrategy[Value] = choices.map(lambda choose: random_value(choose, 3))
pairs: st.SearchStrategy[tuple[bytes, bytes]] = st.builds(random_pair, choices, choices)
policies: st.SearchStrategy[Policy] = choices.map(random_policy)
specials: st.SearchStrategy[Value] = st.sampled_from(_SPECIALS)
