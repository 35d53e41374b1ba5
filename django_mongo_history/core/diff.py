"""
Exact, reversible patches between two BSON documents, in dictdiffer's format.

dictdiffer is the engine and sees only what differs: equal subtrees are cut out by their bytes first and every leaf is
opaque to it, because compared as Python values `1`, `1.0` and `True` would be equal. What dictdiffer's format does not
say, the order of keys, is kept beside it. Its own `patch` and `revert` are not used: they apply blindly, and revert
lists wrongly (https://github.com/inveniosoftware/dictdiffer/issues/178).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import dictdiffer

from django_mongo_history.core import elements, patches, values
from django_mongo_history.core.align import SAME, Leaf, align, align_whole
from django_mongo_history.core.elements import DOCUMENT
from django_mongo_history.core.leaves import replaced_values
from django_mongo_history.core.model import Path, PathPart, Replaced, State
from django_mongo_history.core.patches import Patch, PatchError


def diff(before: Mapping[str, Any] | bytes, after: Mapping[str, Any] | bytes) -> Patch:
    """
    The patch that leads from `before` to `after` and, inverted, back: byte for byte.

    Shape: states as mappings or as their BSON.
    Cost: linear in the bytes of both; dictdiffer sees only the parts that differ.
    """
    old = before if isinstance(before, bytes) else values.encode(before)
    new = after if isinstance(after, bytes) else values.encode(after)
    found = diff_images(old, new)
    return Patch(patches.decode_entries(found.patch), found.key_order)


class EncodedPatch(NamedTuple):
    """A patch as it is stored: the entries as BSON (`{"p": [entries]}`), the key order, and the paths it touches."""

    patch: bytes
    key_order: list[Any]
    paths: list[Path]

    @property
    def size(self) -> int:
        """Bytes that it takes in a stored version."""
        return len(self.patch) + (len(values.encode_value(self.key_order)[1]) if self.key_order else 0)


def diff_images(before: bytes, after: bytes, replaced: Sequence[Replaced] | None = None) -> EncodedPatch:
    """
    `diff` between two BSON documents, ready to be stored.

    `replaced`: what `leaves.replaced_values` would find between them, from a caller that knows it.

    Nothing is decoded on the way: values are spliced from the images into the patch. A patch much larger than both
    documents gives way to whole values of the top-level keys that differ.
    """
    if replaced is None:
        replaced = replaced_values(before, after)
    if replaced is not None:
        found = _replacing(replaced)
        if len(found.patch) <= len(before) + len(after) + _MOST_BEYOND:
            return found
    return _diff_trees(before, after)


_MOST_BEYOND: Final = 1024
"""Bytes by which a patch may be larger than both documents."""


def _diff_trees(before: bytes, after: bytes) -> EncodedPatch:
    """The same by dictdiffer, for every kind of difference."""
    trees = align(before, after)
    if trees is None:
        return _whole(before, after)
    left, right = trees
    found = _encoded(left, right)
    if found is None or found.size > len(before) + len(after) + _MOST_BEYOND:
        found = _encoded(*align_whole(left, right, before, after))
    if found is None:
        raise PatchError("no patch leads from one document to the other and back")
    return found


def _whole(before: bytes, after: bytes) -> EncodedPatch:
    """Both documents as one change at the root: no path tells apart what a key that stands twice holds."""
    sides = Leaf(DOCUMENT, before), Leaf(DOCUMENT, after)
    old, new = (
        Counter((part.name, part.kind, part.value) for part in elements.elements(side))
        for side in (before, after)
    )
    names = {name.decode("utf-8", "surrogateescape") for name, _kind, _value in ((old - new) + (new - old))}
    return EncodedPatch(
        patches.encode_leaves([("change", [], sides)]), [], [(name,) for name in sorted(names)]
    )


def _encoded(left: dict[str, Any], right: dict[str, Any]) -> EncodedPatch | None:
    """The patch between two aligned trees; None where it does not prove to lead both ways."""
    patch = Patch(
        list(dictdiffer.diff(left, right, dot_notation=False, tolerance=0)), list(_orders((), left, right))
    )
    if not _proves(patch, left, right):
        return None
    return EncodedPatch(patches.encode_leaves(patch.entries), patch.key_order, _paths(patch))


def _paths(patch: Patch) -> list[Path]:
    paths: list[Path] = [tuple(entry[0]) for entry in patch.key_order]
    for operation, path, payload in patch.entries:
        paths.extend([tuple(path)] if operation == "change" else ((*path, key) for key, _value in payload))
    return paths


def apply(patch: Patch, state: Mapping[str, Any]) -> State:
    """
    The state after the patch; `state` stays as it is and shares nothing with the result.

    Raises: PatchError where the patch does not fit: a key that should (not) be there, a list of another length.
    """
    result: State = copy(dict(state))
    return apply_in_place(patch, result)


def apply_in_place(patch: Patch, state: State) -> State:
    """`apply` on the state itself, for replays that own it. After a PatchError the state is spoilt."""
    root: dict[str, Any] = {"": state}
    for operation, path, payload in patch.entries:
        _EDITS[operation](root, path, payload)
    for path, _old_keys, new_keys in patch.key_order:
        if new_keys is not None:
            _reorder(root, path, new_keys)
    result: State = root[""]
    return result


def invert(patch: Patch) -> Patch:
    """The patch that leads back: entries and the items of lists in reverse order, sides exchanged."""
    return Patch(
        [_INVERSIONS[operation](path, payload) for operation, path, payload in reversed(patch.entries)],
        [[path, new_keys, old_keys] for path, old_keys, new_keys in patch.key_order],
    )


def arrange_keys(state: State, path: list[PathPart], keys: list[str]) -> None:
    """Put the keys of the document at `path` in this order, as far as they are there; others go behind them."""
    try:
        holder = _container({"": state}, path)
    except PatchError:
        return
    if isinstance(holder, dict):
        for key in [key for key in keys if key in holder] + [key for key in holder if key not in keys]:
            holder[key] = holder.pop(key)


def copy(value: Any) -> Any:
    """The same value with documents and lists of its own; BSON's other values are immutable and are shared."""
    if isinstance(value, dict):
        return {key: copy(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [copy(inner) for inner in value]
    return value


# -- beside dictdiffer: the key order, the proof --------------------------------------------------------------------


def _orders(path: tuple[PathPart, ...], left: Any, right: Any) -> Iterator[list[Any]]:
    """`[path, old_keys | None, new_keys | None]` where the entries alone would lose the order of that side."""
    if isinstance(left, dict) and isinstance(right, dict):
        old_keys, new_keys = list(left), list(right)
        if old_keys != new_keys:
            kept = [key for key in old_keys if key in right]
            forward = kept + [key for key in new_keys if key not in left]
            backward = [key for key in new_keys if key in left] + [
                key for key in old_keys if key not in right
            ]
            lost_new = None if forward == new_keys else new_keys
            lost_old = None if backward == old_keys else old_keys
            if lost_new is not None or lost_old is not None:
                yield [list(path), lost_old, lost_new]
        for key in old_keys:
            if key in right and left[key] is not SAME:
                yield from _orders((*path, key), left[key], right[key])
    elif isinstance(left, list) and isinstance(right, list):
        for index in range(min(len(left), len(right))):
            if left[index] is not SAME:
                yield from _orders((*path, index), left[index], right[index])


def _proves(patch: Patch, left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether the patch leads from one tree to the other and back: the last line of defence, on trees alone."""
    try:
        return _identical(apply(patch, left), right) and _identical(apply(invert(patch), right), left)
    except PatchError:
        return False


def _identical(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_identical(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_identical, one, other))
    return one is other


def _replacing(replaced: Sequence[Replaced]) -> EncodedPatch:
    """No proof needed: every value goes where the other one lay, both ways."""
    return EncodedPatch(patches.encode_changes(replaced), [], [one.path for one in replaced])


# -- apply ------------------------------------------------------------------------------------------------------------


def _container(root: dict[str, Any], path: list[PathPart]) -> Any:
    node = root[""]
    for part in path:
        node = _child(node, part, path)
    return node


def _child(node: Any, part: PathPart, path: list[PathPart]) -> Any:
    if isinstance(node, dict) and part in node:
        return node[part]
    if isinstance(node, list) and isinstance(part, int) and 0 <= part < len(node):
        return node[part]
    raise PatchError(f"nothing lies at {path!r} (stopped at {part!r})")


def _change(root: dict[str, Any], path: list[PathPart], payload: tuple[Any, Any]) -> None:
    holder: Any = root
    last: PathPart = ""
    if path:
        holder, last = _container(root, path[:-1]), path[-1]
        _child(holder, last, path)
    holder[last] = copy(payload[1])


def _add(root: dict[str, Any], path: list[PathPart], payload: list[tuple[PathPart, Any]]) -> None:
    holder = _container(root, path)
    for key, value in payload:
        if isinstance(key, int) and isinstance(holder, list) and 0 <= key <= len(holder):
            holder.insert(key, copy(value))
        elif isinstance(key, str) and isinstance(holder, dict) and key not in holder:
            holder[key] = copy(value)
        else:
            raise PatchError(f"cannot add {key!r} at {path!r}")


def _remove(root: dict[str, Any], path: list[PathPart], payload: list[tuple[PathPart, Any]]) -> None:
    holder = _container(root, path)
    for key, _value in payload:
        _child(holder, key, [*path, key])
        del holder[key]


def _reorder(root: dict[str, Any], path: list[PathPart], keys: list[str]) -> None:
    holder = _container(root, path)
    if not isinstance(holder, dict) or len(keys) != len(holder) or any(key not in holder for key in keys):
        raise PatchError(f"the keys at {path!r} are not those that the patch puts in order")
    for key in keys:
        holder[key] = holder.pop(key)


def _invert_change(path: list[PathPart], payload: Any) -> tuple[str, list[PathPart], Any]:
    return "change", path, (payload[1], payload[0])


def _invert_add(path: list[PathPart], payload: Any) -> tuple[str, list[PathPart], Any]:
    return "remove", path, _undo_order(payload)


def _invert_remove(path: list[PathPart], payload: Any) -> tuple[str, list[PathPart], Any]:
    return "add", path, _undo_order(payload)


def _undo_order(payload: list[tuple[PathPart, Any]]) -> list[tuple[PathPart, Any]]:
    # Of a list the highest index goes first and comes back last; keys of a document come back in their own order.
    return payload[::-1] if payload and isinstance(payload[0][0], int) else payload


_EDITS: Final[dict[str, Callable[..., None]]] = {"change": _change, "add": _add, "remove": _remove}
_INVERSIONS: Final = {"change": _invert_change, "add": _invert_add, "remove": _invert_remove}
