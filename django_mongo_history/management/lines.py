"""Versions as lines of text and of JSON, for people and for programs. Hidden values are in neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from bson import json_util
from bson.binary import UuidRepresentation
from django.utils import timezone

from django_mongo_history.core.model import (
    ABSENT,
    HIDDEN,
    Change,
    Context,
    Operation,
    Path,
)
from django_mongo_history.core.policy import name_path
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.query import Version
from django_mongo_history.registry import label_of

_JSON: Final = json_util.CANONICAL_JSON_OPTIONS.with_options(uuid_representation=UuidRepresentation.STANDARD)
_WIDTH: Final = 100
_MOST_PATHS: Final = 5
DROP: Final = "drop"
"""In the place of an operation, where a whole collection was dropped."""


def summary(version: Version) -> str:
    """One line: when, what, which document, who, why, where it changed."""
    at = version.at
    when = "-" if at is None else timezone.localtime(at).isoformat(timespec="milliseconds")
    parts = [when, f"{version.operation:8}", label_of(version.document_class), repr(version.document_id)]
    if version.user is not None:
        parts.append(f"by {version.user}")
    if version.reason:
        parts.append(f"({version.reason})")
    if version.task is not None:
        parts.append(f"in {version.task.name}")
    if version.operation in (Operation.UPDATE, Operation.EXTERNAL):
        parts.append(_changed(version))
    if version.changeset is not None:
        parts.append(f"changeset {version.changeset}")
    return " ".join(" ".join(parts).split())


def dropped(tombstone: Tombstone) -> str:
    """One line for a drop of a collection."""
    when = timezone.localtime(tombstone.at).isoformat(timespec="milliseconds")
    parts = [when, f"{DROP:8}", tombstone.collection]
    if tombstone.documents is not None:
        parts.append(f"{tombstone.documents} documents")
    if tombstone.context.user is not None:
        parts.append(f"by {tombstone.context.user}")
    if tombstone.context.reason:
        parts.append(f"({tombstone.context.reason})")
    if tombstone.context.task is not None:
        parts.append(f"in {tombstone.context.task.name}")
    if tombstone.changeset is not None:
        parts.append(f"changeset {tombstone.changeset}")
    return " ".join(" ".join(parts).split())


def dropped_json(tombstone: Tombstone) -> str:
    """The same as one JSON object: what a version has, as far as a drop has it, and `collection` and `documents`."""
    context = tombstone.context
    return json_util.dumps(
        {
            "id": tombstone.id,
            "at": tombstone.at,
            "operation": DROP,
            "collection": tombstone.collection,
            "documents": tombstone.documents,
            "class": tombstone.document_class,
            **_who(context),
            "changeset": tombstone.changeset,
        },
        json_options=_JSON,
        ensure_ascii=False,
    )


def change_lines(version: Version) -> Iterator[str]:
    """A line for each path that the version changed, with both sides."""
    try:
        changes = version.changes
    except BrokenChainError as error:
        yield f"    {error}"
        return
    for change in changes:
        yield f"    {_dotted(change.path)}: {_short(change.old)} -> {_short(change.new)}"


def json_line(version: Version) -> str:
    """All of a version as one JSON object, its values in canonical extended JSON."""
    return json_util.dumps(
        {
            "id": version.id,
            "at": version.at,
            "operation": version.operation.value,
            "derived": version.is_derived,
            "class": label_of(version.document_class),
            "document_id": version.document_id,
            **_who(version),
            "changeset": version.changeset and version.changeset.id,
            "revert_of": version.revert_of,
            **_changes(version),
        },
        json_options=_JSON,
        ensure_ascii=False,
    )


def _who(told: Version | Context) -> dict[str, Any]:
    user, request, task = told.user, told.request, told.task
    return {
        "user": user and {"pk": user.pk, "label": user.label, "model": user.model},
        "remote_addr": told.remote_addr,
        "reason": told.reason,
        "extra": dict(told.extra),
        "request": request and {"id": request.id, "method": request.method, "path": request.path},
        "task": task and {"id": task.id, "name": task.name},
    }


def _changed(version: Version) -> str:
    try:
        names = list(dict.fromkeys(name_path(change.path) for change in version.changes))
    except BrokenChainError as error:
        return f"[{error}]"
    more = f" and {len(names) - _MOST_PATHS} more" if len(names) > _MOST_PATHS else ""
    return f"[{', '.join(names[:_MOST_PATHS])}{more}]"


def _changes(version: Version) -> dict[str, Any]:
    try:
        return {"changes": [_change(change) for change in version.changes]}
    except BrokenChainError as error:
        return {"changes": None, "problem": str(error)}


def _change(change: Change) -> dict[str, Any]:
    """A side that is not there has no key; a hidden one says so instead of its value."""
    shown: dict[str, Any] = {"path": list(change.path), "op": change.op}
    if HIDDEN in (change.old, change.new):
        return {**shown, "hidden": True}
    sides = {"old": change.old, "new": change.new}
    return {**shown, **{name: value for name, value in sides.items() if value is not ABSENT}}


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
