"""What a version changed, path by path, as today's policy lets it be seen; values as the collection's codec reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import bson
from bson.codec_options import CodecOptions

from django_mongo_history.core import diff, elements, patches, policy, values
from django_mongo_history.core.drift import rename_entries
from django_mongo_history.core.elements import Element
from django_mongo_history.core.model import ABSENT, HIDDEN, Change, PatchEntries, Path, VersionRecord
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.replay import patch_of
from django_mongo_history.reading.source import View


def changes_of(record: VersionRecord, view: View) -> list[Change]:
    """
    The changes that a stored version made; of a create each key appears, of a delete each disappears.

    A hidden path that changed is there with `HIDDEN` on both sides. Keys put in another order and nothing else are a
    change with `op` "order" and the key lists as values.
    Raises: BrokenChainError for a patch that cannot be read.
    """
    found = list(_expanded(shown_entries(record, view)))
    found.extend(_reordered(record.key_order or (), view.policy))
    found.extend(
        Change(tuple(path.split(".")), HIDDEN, HIDDEN, "change")
        for path in record.hidden_changed
        if not policy.is_untracked(tuple(path.split(".")), view.policy)
    )
    return found


def changes_between(
    before: bytes | None, after: bytes | None, codec_options: CodecOptions[Any]
) -> list[Change]:
    """The changes from one state to another, both as today's policy shows them."""
    found = list(_expanded(patch_between(before, after, codec_options)))
    if before is not None and after is not None:
        found.extend(_reordered(diff.diff_images(before, after).key_order, Policy()))
    return found


def patch_between(
    before: bytes | None, after: bytes | None, codec_options: CodecOptions[Any]
) -> PatchEntries:
    """The same in dictdiffer's format."""
    if before is None or after is None:
        operation = "add" if before is None else "remove"
        whole = after if before is None else before
        return [] if whole is None else [(operation, [], list(_items(whole, codec_options)))]
    encoded = diff.diff_images(before, after).patch
    return [_read(entry, codec_options) for entry in patches.decode_entries(encoded)]


def shown_entries(record: VersionRecord, view: View) -> PatchEntries:
    """A version's patch in dictdiffer's format, without what today's policy hides or leaves untracked."""
    if record.before is None or record.after is None:
        snapshot = view.show(record.snapshot or elements.EMPTY_DOCUMENT)
        is_create = record.before is None
        return patch_between(
            None if is_create else snapshot, snapshot if is_create else None, view.codec_options
        )
    return [_read(entry, view.codec_options) for entry in exact_entries(record, view)]


def exact_entries(record: VersionRecord, view: View) -> PatchEntries:
    """The entries of an update, values exact, names as today, without what today's policy hides or leaves untracked."""
    entries = patch_of(record).entries
    if record.policy != view.policy.fingerprint:
        pruned = (_pruned(*entry, view.policy) for entry in entries)
        entries = [entry for entry in pruned if entry is not None]
    return rename_entries(entries, view.renamed)


def _items(document: bytes, codec_options: CodecOptions[Any]) -> Iterator[tuple[str, Any]]:
    yield from bson.decode(document, codec_options.with_options(document_class=dict)).items()


def _expanded(entries: PatchEntries) -> Iterator[Change]:
    for operation, path, payload in entries:
        if operation == "change":
            yield Change(tuple(path), payload[0], payload[1], operation)
        for key, value in payload if operation != "change" else ():
            old, new = (ABSENT, value) if operation == "add" else (value, ABSENT)
            yield Change((*path, key), old, new, operation)


def _reordered(key_order: Iterable[Any], rules: Policy) -> Iterator[Change]:
    """Documents whose keys changed places while none came or went."""
    for path, old_keys, new_keys in key_order:
        where: Path = tuple(path)
        is_same = bool(old_keys and new_keys and sorted(old_keys) == sorted(new_keys))
        if is_same and not _is_pruned(where, rules):
            yield Change(where, old_keys, new_keys, "order")


def _is_pruned(path: Path, rules: Policy) -> bool:
    return policy.is_hidden(path, rules) or policy.is_untracked(path, rules)


def _pruned(operation: str, path: list[Any], payload: Any, rules: Policy) -> Any:
    """An entry of a version that was made under other rules, under these; None where nothing of it is left."""
    if operation == "change":
        old, new = (_pruned_value(tuple(path), side, rules) for side in payload)
        is_seen = old is not ABSENT and new is not ABSENT and not values.same(old, new)
        return (operation, path, (old, new)) if is_seen else None
    kept = [(key, _pruned_value((*path, key), value, rules)) for key, value in payload]
    left = [(key, value) for key, value in kept if value is not ABSENT]
    return (operation, path, left) if left else None


def _pruned_value(path: Path, value: Any, rules: Policy) -> Any:
    pruned = policy.prune_value(path, *values.encode_value(value), rules)
    return ABSENT if pruned is None else values.decode_value(*pruned)


def _read(entry: Any, codec_options: CodecOptions[Any]) -> Any:
    operation, path, payload = entry
    if operation == "change":
        return operation, path, (read_value(payload[0], codec_options), read_value(payload[1], codec_options))
    return operation, path, [(key, read_value(value, codec_options)) for key, value in payload]


def read_value(value: Any, codec_options: CodecOptions[Any]) -> Any:
    """An exact value as the collection's codec options would have read it."""
    whole = elements.assemble([Element(b"v", *values.encode_value(value))])
    return bson.decode(whole, codec_options.with_options(document_class=dict))["v"]
