"""
A patch, in dictdiffer's format with the order of keys beside it, and how it lies in storage: as BSON, values spliced in.

`core.diff` makes them and applies them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from django_mongo_history.core import elements, values
from django_mongo_history.core.align import Leaf
from django_mongo_history.core.elements import ARRAY, DOCUMENT, Element
from django_mongo_history.core.model import PatchEntries, Path, PathPart, Replaced


class PatchError(ValueError):
    """A patch does not fit the state that it is applied to."""


@dataclass(frozen=True, slots=True)
class Patch:
    """
    Edits from one state to the next, with both sides of every edit.

    `entries`: dictdiffer triples with list paths. `key_order`: `[path, old_keys | None, new_keys | None]` for each
    document whose keys the entries alone would leave in another order, on the side where they would.
    """

    entries: PatchEntries
    key_order: list[Any]

    def __bool__(self) -> bool:
        return bool(self.entries or self.key_order)


def encode_entries(entries: PatchEntries) -> bytes:
    """Entries as the BSON that `decode_entries` reads."""
    return values.encode(
        {"p": [[operation, list(path), _as_lists(payload)] for operation, path, payload in entries]}
    )


def decode_entries(encoded: bytes) -> PatchEntries:
    """
    Entries in dictdiffer's own shape, tuples included.

    Raises: PatchError for bytes that hold no patch.
    """
    try:
        stored = values.decode(encoded)["p"]
        return [_entry(*triple) for triple in stored]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PatchError(f"not a patch: {error}") from error


def _entry(operation: str, path: list[PathPart], payload: list[Any]) -> tuple[str, list[PathPart], Any]:
    if not isinstance(path, list):
        raise TypeError("a path is a list")
    if operation == "change":
        old, new = payload
        return operation, path, (old, new)
    if operation in ("add", "remove"):
        return operation, path, [(key, value) for key, value in payload]
    raise ValueError(f"unknown operation {operation!r}")


def _as_lists(payload: Any) -> list[Any]:
    if isinstance(payload, tuple):  # both sides of a change
        return list(payload)
    return [list(pair) for pair in payload]


def encode_leaves(entries: PatchEntries) -> bytes:
    """Entries with leaves for values (`align`), as the BSON that `decode_entries` reads."""
    return _encode_all(_encode_entry(*entry) for entry in entries)


def encode_changes(replaced: Sequence[Replaced]) -> bytes:
    """Entries that replace values, as the BSON that `decode_entries` reads; values are spliced, not decoded."""
    if len(replaced) == 1:
        return _encode_one(replaced[0])
    return _encode_all(_encode_sides("change", path, (old, new)) for path, old, new in replaced)


_BEFORE_ONE_ENTRY: Final = struct.Struct("<i3si3si")
_BEFORE_ITS_SIDES: Final = struct.Struct("<3si")
_BEHIND_ITS_SIDES: Final = b"\x00" * 4


def _encode_one(one: Replaced) -> bytes:
    """What `_encode_all` makes of one entry, in one go: most updates replace one value."""
    path, (old_kind, old), (new_kind, new) = one
    head = _encode_head("change", path)
    sides = b"%c0\x00%b%c1\x00%b" % (old_kind, old, new_kind, new)
    size = len(sides) + 5
    entry_size = len(head) + 3 + size + 5
    whole = entry_size + 16, b"\x04p\x00", entry_size + 8, b"\x040\x00", entry_size
    return b"%b%b%b%b%b" % (
        _BEFORE_ONE_ENTRY.pack(*whole),
        head,
        _BEFORE_ITS_SIDES.pack(b"\x042\x00", size),
        sides,
        _BEHIND_ITS_SIDES,
    )


def _encode_all(entries: Iterable[bytes]) -> bytes:
    return elements.assemble([(b"p", ARRAY, elements.assemble_array([(ARRAY, entry) for entry in entries]))])


def _encode_entry(operation: str, path: list[PathPart], payload: Any) -> bytes:
    if operation == "change":
        return _encode_sides(operation, tuple(path), [_raw(side) for side in payload])
    pairs = (elements.assemble_array([_raw(key), _raw(value)]) for key, value in payload)
    return _encode_sides(operation, tuple(path), [(ARRAY, pair) for pair in pairs])


def _encode_sides(operation: str, path: Path, sides: Iterable[tuple[int, bytes]]) -> bytes:
    head = _encode_head(operation, path)
    return elements.enclose([head, elements.element(b"2", ARRAY, elements.assemble_array(sides))])


@lru_cache(maxsize=1024)
def _encode_head(operation: str, path: Path) -> bytes:
    """What an entry begins with; the writes of a program touch the same paths again and again."""
    named = elements.element(b"0", *values.encode_value(operation))
    return named + elements.element(b"1", *values.encode_value(list(path)))


def _raw(value: Any) -> tuple[int, bytes]:
    if isinstance(value, Leaf):
        return value.kind, value.value
    if isinstance(value, dict):
        parts = ((key.encode("utf-8", "surrogateescape"), *_raw(inner)) for key, inner in value.items())
        return DOCUMENT, elements.assemble(Element(*part) for part in parts)
    return values.encode_value(value)
