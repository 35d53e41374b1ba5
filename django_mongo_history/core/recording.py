"""
From a write to the version that is stored of it: prune both images, compare, digest, decide on a snapshot. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.core import diff, patches, policy, values
from django_mongo_history.core.model import (
    Context,
    DocumentKey,
    Operation,
    PatchEntries,
    Path,
    Replaced,
    VersionRecord,
    Write,
    order_from_clock,
)
from django_mongo_history.core.policy import Policy

MOST_CHANGED_PATHS = 100
"""More changed paths than this are indexed by their top-level names only."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that a version carries and that its images do not say. `order` None: made from the clock."""

    document_class: str
    policy: Policy
    at: datetime
    order: Timestamp | None
    changeset: ObjectId
    context: Context
    revert_of: Any = None
    source: Any = None


def record_write(
    write: Write, around: Circumstances, *, new_id: Callable[[], ObjectId] = ObjectId
) -> VersionRecord | None:
    """
    The version to be stored of this write; None where nothing that is tracked changed.

    Cost: linear in the images; values are spliced, not decoded.
    """
    key, before, after, replaced = write
    rules = around.policy
    hidden: tuple[str, ...] = ()
    if rules.untracked or rules.hidden:
        before, after = _pruned(before, rules), _pruned(after, rules)
        if write.before != write.after:
            hidden = policy.hidden_changes(write.before, write.after, rules)
        if before is not write.before or after is not write.after:
            replaced = None
    is_same = before == after
    if is_same and not hidden:
        return None
    version_id = new_id()
    patch: bytes | None = None
    key_order: list[Any] = []
    changed: tuple[str, ...] = ()
    if before is None or after is None:  # creates and deletes touch no path, hidden or not
        keeps_whole = True
    else:
        if not is_same:
            found = diff.diff_images(before, after, replaced)
            patch, key_order, changed = found.patch, found.key_order, _changed(found.paths)
        if hidden:
            changed = _limited({*changed, *_prefixes_of(hidden)})
        keeps_whole = patch is not None and len(patch) >= len(after)
    whole = before if after is None else after
    return VersionRecord(
        version_id,
        key.collection,
        key.document_id,
        around.order or order_from_clock(around.at),
        write.operation,
        around.at,
        None if before is None else values.digest(before),
        None if after is None else values.digest(after),
        around.document_class,
        around.changeset,
        around.context,
        rules.fingerprint,
        patch,
        key_order or None,
        whole if keeps_whole or rules.wants_snapshot(version_id) else None,
        changed,
        hidden,
        around.revert_of,
        around.source,
    )


def record_baseline(
    key: DocumentKey, image: bytes, around: Circumstances, *, new_id: Callable[[], ObjectId] = ObjectId
) -> VersionRecord:
    """The version that says: this is how the document was when tracking began. Both sides are the same state."""
    state = _pruned(image, around.policy)
    return _record(
        key,
        Operation.BASELINE,
        around,
        id=new_id(),
        before=_digest(state),
        after=_digest(state),
        snapshot=state,
    )


class Sides(NamedTuple):
    """
    What an old history says of one write, pruned already: the state on both sides, None where there was no document.

    `hidden`: dotted hidden paths that changed. Digests are given where the caller has them. `told`: entries that lead from
    `before` to `after` and back, of values that replace each other and of items at the end of lists, where the caller
    knows that this is all. `keeps_whole`: store the whole state, for what comes next does not lead to it.
    """

    before: bytes | None
    after: bytes | None
    hidden: tuple[str, ...] = ()
    before_digest: bytes | None = None
    after_digest: bytes | None = None
    told: PatchEntries | None = None
    keeps_whole: bool = False


def record_converted(
    key: DocumentKey, sides: Sides, around: Circumstances, version_id: ObjectId
) -> VersionRecord:
    """The version of a write that another history tells of: one also where the two states are the same."""
    before, after = sides.before, sides.after
    if sides.told and before is not None and after is not None:
        patch: bytes | None = patches.encode_entries(sides.told)
        key_order: list[Any] = []
        changed = _changed(_paths(sides.told))
    else:
        patch, key_order, changed = _patch(before, after, None)
    if sides.hidden and before is not None and after is not None:
        changed = _limited({*changed, *_prefixes_of(sides.hidden)})
    whole = before if after is None else after
    keeps_whole = sides.keeps_whole or before is None or after is None
    keeps_whole = keeps_whole or (patch is not None and after is not None and len(patch) >= len(after))
    operation = (
        Operation.CREATE if before is None else Operation.DELETE if after is None else Operation.UPDATE
    )
    return _record(
        key,
        operation,
        around,
        id=version_id,
        before=sides.before_digest or _digest(before),
        after=sides.after_digest or _digest(after),
        patch=patch,
        key_order=key_order or None,
        snapshot=whole if keeps_whole or around.policy.wants_snapshot(version_id) else None,
        changed=changed,
        hidden_changed=sides.hidden,
    )


def record_unknown(
    key: DocumentKey, sides: Sides, around: Circumstances, version_id: ObjectId
) -> VersionRecord:
    """
    The version of a write of which only the change is told (`sides.told`, `sides.hidden`). The digests are None where there
    was no document; where its state is not known, what the caller has put in its place.
    """
    told, digests = sides.told or [], (sides.before_digest, sides.after_digest)
    changed = {*_changed(_paths(told)), *_prefixes_of(sides.hidden)}
    return _record(
        key,
        _operation(*digests),
        around,
        id=version_id,
        before=digests[0],
        after=digests[1],
        patch=patches.encode_entries(told) if told else None,
        changed=_limited(changed),
        hidden_changed=sides.hidden,
    )


def _paths(told: PatchEntries) -> list[Path]:
    paths: list[Path] = []
    for action, path, payload in told:
        paths.extend([tuple(path)] if action == "change" else ((*path, name) for name, _value in payload))
    return paths


def _operation(before: bytes | None, after: bytes | None) -> Operation:
    if before is None:
        return Operation.CREATE
    return Operation.DELETE if after is None else Operation.UPDATE


def _record(key: DocumentKey, operation: Operation, around: Circumstances, **stored: Any) -> VersionRecord:
    return VersionRecord(
        collection=key.collection,
        document_id=key.document_id,
        order=around.order or order_from_clock(around.at),
        operation=operation,
        at=around.at,
        document_class=around.document_class,
        changeset=around.changeset,
        context=around.context,
        policy=around.policy.fingerprint,
        revert_of=around.revert_of,
        source=around.source,
        **stored,
    )


def _pruned(image: bytes | None, rules: Policy) -> bytes | None:
    return None if image is None else policy.prune(image, rules)


def _digest(state: bytes | None) -> bytes | None:
    return None if state is None else values.digest(state)


def _patch(
    before: bytes | None, after: bytes | None, replaced: Sequence[Replaced] | None
) -> tuple[bytes | None, list[Any], tuple[str, ...]]:
    """The patch of an update, its key order and its changed paths; creates and deletes have none."""
    if before is None or after is None or before == after:
        return None, [], ()
    found = diff.diff_images(before, after, replaced)
    return found.patch, found.key_order, _changed(found.paths)


def _prefixes_of(dotted: tuple[str, ...]) -> set[str]:
    return {prefix for path in dotted for prefix in _with_prefixes(tuple(path.split(".")))}


def _changed(paths: list[Path]) -> tuple[str, ...]:
    """The paths without list indexes, dotted, with all their prefixes; sorted, and few."""
    if len(paths) == 1 and len(paths[0]) <= MOST_CHANGED_PATHS:
        return _with_prefixes(paths[0])
    return _limited({prefix for path in paths for prefix in _with_prefixes(path)})


@lru_cache(maxsize=1024)
def _with_prefixes(path: Path) -> tuple[str, ...]:
    names = [part for part in path if isinstance(part, str)]
    return tuple(".".join(names[: length + 1]) for length in range(len(names)))


def _limited(changed: set[str]) -> tuple[str, ...]:
    if len(changed) > MOST_CHANGED_PATHS:
        changed = {path.split(".", 1)[0] for path in changed}
    return tuple(sorted(changed))
