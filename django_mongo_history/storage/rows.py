"""
A version as the BSON of its row, and back. The layout is design §4; a golden file in the tests holds it still.

Patch and snapshot are spliced in as they are: no value passes through a Python type on its way into the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Any, Final

from bson import Binary, ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.core import elements, values
from django_mongo_history.core.elements import ARRAY, DOCUMENT, Element
from django_mongo_history.core.model import FORMAT, Context, Operation, VersionRecord
from django_mongo_history.core.replay import Unreadable

_PAYLOAD: Final[frozenset[str]] = frozenset({"patch", "key_order", "snapshot"})

LARGEST_ROW: Final = 8 * 1024 * 1024
"""Bytes. A version that would be larger is stored as parts: two images near MongoDB's 16 MB do not fit one row."""


MOST_PARTS: Final = 100
"""More than two images and a patch between them can be; a row that claims more is broken."""


def encode(record: VersionRecord) -> list[bytes]:
    """The rows of one version: one, or several parts of which the first carries everything but the payload."""
    payload = _payload(record)
    head = _head(record)
    if sum(len(part.value) for part in payload) + len(head) <= LARGEST_ROW:
        return [_extended(head, payload)]
    whole = elements.assemble(payload)
    chunks = [whole[start : start + LARGEST_ROW] for start in range(0, len(whole), LARGEST_ROW)]
    # `snapshot` stays present in the first part: the index over versions with a snapshot goes by its presence.
    marker = {"snapshot": None} if record.snapshot is not None else {}
    first = values.encode(
        {**values.decode(head), "part": 1, "parts": len(chunks), **marker, "payload": chunks[0]}
    )
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


def _head(record: VersionRecord) -> bytes:
    stored: dict[str, Any] = {
        "_id": record.id,
        "format": FORMAT,
        "collection": record.collection,
        "document_id": record.document_id,
        "order": record.order,
        "at": record.at,
        "operation": record.operation.value,
        "before": record.before,
        "after": record.after,
        "document_class": record.document_class,
        "policy": record.policy,
        "changeset": record.changeset,
        "context": record.context.to_bson(),
        "changed": list(record.changed),
    }
    optional = {
        "hidden_changed": list(record.hidden_changed) or None,
        "revert_of": record.revert_of,
        "source": record.source,
    }
    return values.encode(stored | {name: value for name, value in optional.items() if value is not None})


def _payload(record: VersionRecord) -> list[Element]:
    payload = []
    if record.patch is not None:
        payload.append(elements.elements(record.patch)[0]._replace(name=b"patch"))
    if record.key_order:
        payload.append(Element(b"key_order", *values.encode_value(record.key_order)))
    if record.snapshot is not None:
        payload.append(Element(b"snapshot", DOCUMENT, record.snapshot))
    return payload


def _extended(head: bytes, payload: Sequence[Element]) -> bytes:
    return elements.assemble([*elements.elements(head), *payload]) if payload else head


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
        changed=tuple(head["changed"]),
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
