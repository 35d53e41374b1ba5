"""
A version as the BSON of its row, and back. The layout is design §4; a golden file in the tests holds it still.

Patch and snapshot are spliced in as they are: no value passes through a Python type on its way into the store.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import NoneType
from typing import Any, Final

from bson import Binary, ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.core import elements, values
from django_mongo_history.core.elements import ARRAY, DOCUMENT, Element
from django_mongo_history.core.model import FORMAT, Context, Operation, VersionRecord
from django_mongo_history.core.replay import Unreadable

_PAYLOAD: Final[frozenset[str]] = frozenset({"patch", "key_order", "snapshot"})

_pack_size: Final = struct.Struct("<i").pack
_PATCH_STARTS: Final = len(b"\x00\x00\x00\x00\x04p\x00")
_TYPE_OF_ID: Final = len(b"\x00\x00\x00\x00")

LARGEST_ROW: Final = 8 * 1024 * 1024
"""Bytes. A version that would be larger is stored as parts: two images near MongoDB's 16 MB do not fit one row."""


MOST_PARTS: Final = 100
"""More than two images and a patch between them can be; a row that claims more is broken."""


def encode(record: VersionRecord) -> list[bytes]:
    """The rows of one version: one, or several parts of which the first carries everything but the payload."""
    return next(encode_all([record]))


def encode_all(records: Iterable[VersionRecord]) -> Iterator[list[bytes]]:
    """`encode` for each; what the versions of one call have in common is encoded once."""
    shared = None
    for record in records:
        if shared is None or not shared.is_of(record):
            shared = _Shared(record, shared)
        head, payload = _head(record, shared), _payload(record)
        row = elements.enclose(head + payload)
        yield [row] if len(row) <= LARGEST_ROW else _parts(record, head, payload)


def _parts(record: VersionRecord, head: Sequence[bytes], payload: Sequence[bytes]) -> list[bytes]:
    whole = elements.enclose(payload)
    chunks = [whole[start : start + LARGEST_ROW] for start in range(0, len(whole), LARGEST_ROW)]
    # `snapshot` stays present in the first part: the index over versions with a snapshot goes by its presence.
    marker = {"snapshot": None} if record.snapshot is not None else {}
    tail = values.encode({"part": 1, "parts": len(chunks), **marker, "payload": chunks[0]})
    first = elements.enclose([*head, tail[4:-1]])
    rest = [
        values.encode({"_id": {"version": record.id, "part": number}, "payload": Binary(chunk)})
        for number, chunk in enumerate(chunks[1:], start=2)
    ]
    return [first, *rest]


def part_ids(row: bytes) -> list[dict[str, Any]]:
    """The ids of the further parts that this first row names; mostly none."""
    parts = elements.find_value(row, b"parts")
    if parts is None:
        return []
    identity, number_of_parts = elements.find_value(row, b"_id"), values.decode_value(*parts[1:])
    if identity is None or not isinstance(number_of_parts, int) or number_of_parts > MOST_PARTS:
        return []  # `decode` says that it cannot be read
    version = values.decode_value(*identity[1:])
    return [{"version": version, "part": number} for number in range(2, number_of_parts + 1)]


def is_further_part(row: bytes) -> bool:
    """Whether a row is a further part of a large version, by the type of its `_id`, which comes first."""
    return row[_TYPE_OF_ID] == DOCUMENT


def decode(row: bytes, further: Sequence[bytes] = ()) -> VersionRecord | Unreadable:
    """The version of a row and its further parts, in order; `Unreadable` with the reason where there is none."""
    try:
        found = {part.name.decode(): part for part in elements.elements(row)}
        payload: dict[str, Element] = {name: found.pop(name) for name in _PAYLOAD & found.keys()}
        head = values.decode(elements.assemble(found.values()))
        if head.get("format") != FORMAT:
            return Unreadable(
                head.get("_id"), f"its format is {head.get('format')!r}, this package reads {FORMAT}"
            )
        if "parts" in head:
            payload = _joined(head, further)
        return _record(head, payload)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        identity = elements.find_value(row, b"_id")
        name = None if identity is None else values.decode_value(identity.kind, identity.value)
        return Unreadable(name, f"{type(error).__name__}: {error}")


class _Shared:
    """What versions of one call have in common, laid out as it stands in their rows."""

    __slots__ = ("before_digests", "before_id", "behind_digests", "context", "record")

    def __init__(self, record: VersionRecord, last: _Shared | None = None) -> None:
        self.record = record
        self.before_id = _place_fields(record.collection)
        self.before_digests = _fields(order=record.order, at=record.at, operation=record.operation.value)
        if last is not None and last.record.context is record.context:
            self.context: bytes = last.context
        else:
            self.context = _fields(context=record.context.to_bson())
        rules = _rules_fields(record.document_class, record.policy)
        self.behind_digests = rules + _fields(changeset=record.changeset) + self.context

    def is_of(self, record: VersionRecord) -> bool:
        """Whether the record has the same: where equal values may be of different BSON types, the very same."""
        mine = self.record
        return (
            mine.context is record.context
            and mine.operation is record.operation
            and mine.at is record.at
            and mine.changeset is record.changeset
            and (mine.order is record.order or mine.order == record.order)
            and mine.collection == record.collection
            and mine.document_class == record.document_class
            and mine.policy == record.policy
        )


def _head(record: VersionRecord, shared: _Shared) -> list[bytes]:
    """Everything but the payload, in the order of the layout."""
    identity = record.document_id
    before, after = record.before, record.after
    pieces = [
        b"\x07_id\x00",
        record.id.binary,
        shared.before_id,
        b"\x07document_id\x00" + identity.binary
        if type(identity) is ObjectId
        else elements.element(b"document_id", *values.encode_value(identity)),
        shared.before_digests,
        b"\x0abefore\x00"
        if before is None
        else b"\x05before\x00%b\x00%b" % (_pack_size(len(before)), before),
        b"\x0aafter\x00" if after is None else b"\x05after\x00%b\x00%b" % (_pack_size(len(after)), after),
        shared.behind_digests,
    ]
    if record.changed:  # without one there is no key: so versions that change no path are not in its index
        pieces.append(_changed_field(record.changed))
    if record.hidden_changed:
        pieces.append(_fields(hidden_changed=list(record.hidden_changed)))
    for name, value in (("revert_of", record.revert_of), ("source", record.source)):
        if value is not None:
            pieces.append(_fields(**{name: value}))
    return pieces


def _fields(**named: Any) -> bytes:
    return values.encode(named)[4:-1]


@lru_cache(maxsize=1024)
def _place_fields(collection: str) -> bytes:
    return _fields(format=FORMAT, collection=collection)


@lru_cache(maxsize=1024)
def _rules_fields(document_class: str, policy: str) -> bytes:
    return _fields(document_class=document_class, policy=policy)


@lru_cache(maxsize=1024)
def _changed_field(changed: tuple[str, ...]) -> bytes:
    return _fields(changed=list(changed))


def _payload(record: VersionRecord) -> list[bytes]:
    payload = []
    if record.patch is not None:  # a document of one array: only its name changes
        payload.append(b"\x04patch\x00%b" % record.patch[_PATCH_STARTS:-1])
    if record.key_order:
        payload.append(elements.element(b"key_order", *values.encode_value(record.key_order)))
    if record.snapshot is not None:
        payload.append(b"\x03snapshot\x00%b" % record.snapshot)
    return payload


def _joined(head: Mapping[str, Any], further: Sequence[bytes]) -> dict[str, Element]:
    if len(further) != head["parts"] - 1:
        raise ValueError(f"{head['parts'] - 1 - len(further)} of its parts are missing")
    chunks = [head["payload"], *(values.decode(row)["payload"] for row in further)]
    return {part.name.decode(): part for part in elements.elements(b"".join(chunks))}


def _record(head: Mapping[str, Any], payload: Mapping[str, Element]) -> VersionRecord:
    return VersionRecord(
        id=_typed(head["_id"], ObjectId),
        collection=_typed(head["collection"], str),
        document_id=head["document_id"],
        order=_typed(head["order"], Timestamp),
        operation=Operation(head["operation"]),
        at=_typed(head["at"], datetime),
        before=_digest(head["before"]),
        after=_digest(head["after"]),
        document_class=_typed(head["document_class"], str),
        policy=_typed(head["policy"], str),
        changeset=head["changeset"],
        context=Context.from_bson(head["context"]),
        patch=_patch(payload.get("patch")),
        key_order=_key_order(payload.get("key_order")),
        snapshot=_snapshot(payload.get("snapshot")),
        changed=tuple(head.get("changed") or ()),
        hidden_changed=tuple(head.get("hidden_changed") or ()),
        revert_of=head.get("revert_of"),
        source=head.get("source"),
    )


def _typed(value: Any, wanted: Any) -> Any:
    if not isinstance(value, wanted):
        raise TypeError(f"expected {getattr(wanted, '__name__', wanted)}, found {type(value).__name__}")
    return value


def _digest(value: Any) -> bytes | None:
    return None if value is None else bytes(_typed(value, bytes))


def _patch(stored: Element | None) -> bytes | None:
    if stored is None:
        return None
    if stored.kind != ARRAY:
        raise ValueError("its patch is no array")
    return elements.assemble([stored._replace(name=b"p")])


def _key_order(stored: Element | None) -> list[Any] | None:
    if stored is None:
        return None
    lists = [_typed(entry, list) for entry in _typed(values.decode_value(stored.kind, stored.value), list)]
    for path, old_keys, new_keys in lists:
        _typed(path, list)
        for keys in (old_keys, new_keys):
            _typed(keys, list | NoneType)
    return lists


def _snapshot(stored: Element | None) -> bytes | None:
    if stored is None:
        return None
    if stored.kind != DOCUMENT:
        raise ValueError("its snapshot is no document")
    return stored.value
