"""
What a document becomes by `$set` and `$unset`, computed exactly as the server (5.0 and later) does it.

Works on raw elements and splices the values that were sent, so nothing is decoded on the way. Anything whose result
is not certain is declined (None): the caller then reads the document in the same transaction. The rules were measured
against a real server and are held to it by a property test, `tests/integration/test_after_image.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cmp_to_key
from itertools import takewhile
from typing import Any, Final, NamedTuple

import bson
from bson.codec_options import CodecOptions

from django_mongo_history.core import elements
from django_mongo_history.core.align import is_reference
from django_mongo_history.core.elements import ARRAY, DOCUMENT, EMPTY_DOCUMENT
from django_mongo_history.core.model import Path, Replaced

_NULL: Final = (0x0A, b"")
_TIMESTAMP: Final = 0x11
_ZERO_TIMESTAMP: Final = b"\x00" * 8
_ZERO_TIMESTAMP_BEHIND_A_NAME: Final = b"\x00" + _ZERO_TIMESTAMP
_LONGEST_INDEX: Final = 7
_MOST_PADDING: Final = 1_500_000
_UNSET: Final = object()

_Tree = dict[bytes, Any]
"""Path components to what happens there: a value as (kind, bytes), `_UNSET`, or a tree again."""


_Value = tuple[int, bytes]
_Noted = list[Replaced | None]
"""What was replaced; None stands for anything else that was done."""


class _DeclinedError(Exception):
    """The result is not certain."""


def after_update(before: bytes, update: Any, codec_options: CodecOptions[Any]) -> bytes | None:
    """
    The document after this update, or None where only the server can say.

    Precondition: the server has accepted the update for this document; errors are not foreseen here.
    """
    computed = ComputedUpdate.of(update, codec_options)
    found = None if computed is None else computed.after(before)
    return None if found is None else found.image


class AfterImage(NamedTuple):
    """
    A document after an update.

    `replaced`: the values that took the place of others, in the order in which they lie, where the update did nothing
    else; None where it did, or where only a comparison can tell (a list or a document in the place of another one).
    """

    image: bytes
    replaced: list[Replaced] | None


class _Edit(NamedTuple):
    """A value that takes the place of another one, where documents are laid out alike: `place` of the old one."""

    place: int
    path: Path
    head_size: int
    old_kind: int
    new: _Value
    element: bytes


class _Plan(NamedTuple):
    """What an update that only replaces top-level values does to documents of one layout."""

    layout: elements.Layout
    edits: list[_Edit]

    @classmethod
    def of(cls, before: bytes, tree: _Tree) -> _Plan | None:
        """Made of one document, to be tried on the next; None where the update does anything else to it."""
        values = {name: edit for name, edit in tree.items() if isinstance(edit, tuple)}
        if len(values) < len(tree):
            return None
        layout = elements.layout_of(before)
        if layout is None:
            return None
        places = {head[1:-1]: index for index, (head, *_sizes) in enumerate(layout)}
        edits = []
        for name, edit in values.items():
            index = places.get(name)
            if index is None:
                return None
            head, head_size, *_sizes = layout[index]
            if head[0] == edit[0] and head[0] in (DOCUMENT, ARRAY):
                return None  # only a comparison tells what is replaced
            made = elements.element(name, *edit)
            edits.append(_Edit(index, (name.decode(),), head_size, head[0], edit, made))
        return cls(layout, sorted(edits))

    def after(self, before: bytes) -> AfterImage | None:
        """The document after the update; None for one of another layout."""
        places = elements.fits(before, self.layout)
        if places is None:
            return None
        pieces = []
        replaced = []
        copied = 4
        for place, path, head_size, old_kind, new, element in self.edits:
            start, stop = places[place], places[place + 1]
            old = old_kind, before[start + head_size : stop]
            if old != new:
                replaced.append(Replaced(path, old, new))
            pieces.append(before[copied:start])
            pieces.append(element)
            copied = stop
        if not replaced:
            return AfterImage(before, replaced)
        pieces.append(before[copied:-1])
        return AfterImage(elements.enclose(pieces), replaced)


_MOST_PLANS: Final = 50
"""Where each document is laid out in another way than the last, plans cost and bring nothing."""


@dataclass(slots=True)
class ComputedUpdate:
    """An update whose results can be computed: read once, for any number of documents."""

    tree: _Tree
    _plan: _Plan | None = field(default=None, init=False)
    _plans_left: int = field(default=_MOST_PLANS, init=False)

    @classmethod
    def of(cls, update: Any, codec_options: CodecOptions[Any]) -> ComputedUpdate | None:
        """The update by `$set` and `$unset`, ready to be applied; None where only the server can say."""
        if not isinstance(update, Mapping) or not update or set(update) - {"$set", "$unset"}:
            return None
        try:
            return cls(_tree_of(update, codec_options))
        except _DeclinedError:
            return None

    def after(self, before: bytes) -> AfterImage | None:
        """The document after this update, or None where only the server can say; see `after_update`."""
        planned = None if self._plan is None else self._plan.after(before)
        if planned is not None:
            return planned
        found = self._worked_out(before)
        if found is not None and found.replaced is not None and self._plans_left:
            self._plans_left -= 1
            if self._plans_left < _MOST_PLANS - 1:  # of one document alone a plan is for nothing
                self._plan = _Plan.of(before, self.tree)
        return found

    def _worked_out(self, before: bytes) -> AfterImage | None:
        noted: list[Replaced | None] = []
        try:
            image = _edit_document(before, self.tree, (), noted)
        except _DeclinedError:
            return None
        replaced = [one for one in noted if one is not None]
        return AfterImage(image, replaced if len(replaced) == len(noted) else None)


def is_certain(update: Mapping[str, Any]) -> bool:
    """Whether `after_update` can say what this update makes, whatever the document: only its paths are looked at."""
    if not update or set(update) - {"$set", "$unset"}:
        return False
    tree: _Tree = {}
    try:
        for edits in update.values():
            for path in edits:
                _plant(tree, path, _UNSET)
        _check_siblings(tree)
    except (_DeclinedError, TypeError, AttributeError):  # the last two: what the server will refuse
        return False
    return True


def after_replacement(before: bytes, replacement: bytes) -> bytes | None:
    """The document after being replaced: `_id` in front as it was, then the rest as sent; None where not certain."""
    identity = elements.find_value(before, b"_id")
    sent = [part for part in elements.elements(replacement) if part.name != b"_id"]
    if identity is None or has_server_time(replacement):
        return None
    return elements.assemble([identity, *sent])


def has_server_time(document: bytes) -> bool:
    """Whether the server puts its own time into this document: a top-level `Timestamp(0, 0)` on insert or replace."""
    if b"\x11" not in document or _ZERO_TIMESTAMP_BEHIND_A_NAME not in document:
        return False
    return any(
        part.kind == _TIMESTAMP and part.value == _ZERO_TIMESTAMP for part in elements.elements(document)
    )


def touched_paths(update: Any) -> list[tuple[str, ...]] | None:
    """
    The paths that an update by operators names, each up to its first list index or number (which may also be a key);
    None for anything else (a pipeline).
    """
    if not isinstance(update, Mapping) or not update:
        return None
    paths: list[tuple[str, ...]] = []
    for operator, edits in update.items():
        if not str(operator).startswith("$") or not isinstance(edits, Mapping) or operator == "$rename":
            return None
        paths.extend(tuple(takewhile(_is_name, str(path).split("."))) for path in edits)
    return paths


def _is_name(part: str) -> bool:
    return not (part.isdigit() or part.startswith("$"))


def _tree_of(update: Mapping[str, Any], codec_options: CodecOptions[Any]) -> _Tree:
    root: _Tree = {}
    for path, value in (update.get("$set") or {}).items():
        whole = bson.encode({"v": value}, codec_options=codec_options)
        _plant(root, path, (whole[4], whole[7:-1]))
    for path in update.get("$unset") or {}:
        _plant(root, path, _UNSET)
    _check_siblings(root)
    return root


def _plant(root: _Tree, path: str, edit: Any) -> None:
    parts = [part.encode() for part in path.split(".")]
    if parts[0] == b"_id" or any(not part or part.startswith(b"$") or _is_odd_number(part) for part in parts):
        raise _DeclinedError
    node = root
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise _DeclinedError
    if parts[-1] in node:
        raise _DeclinedError
    node[parts[-1]] = edit


def _is_odd_number(part: bytes) -> bool:
    return part.isdigit() and (len(part) > _LONGEST_INDEX or (len(part) > 1 and part.startswith(b"0")))


def _check_siblings(tree: _Tree) -> None:
    """Numbers beside names that begin with a digit compare in a cycle: the result depends on how they arrive."""
    if any(name.isdigit() for name in tree) and any(
        name[:1].isdigit() and not name.isdigit() for name in tree
    ):
        raise _DeclinedError
    for below in tree.values():
        if isinstance(below, dict):
            _check_siblings(below)


def _in_server_order(tree: _Tree) -> Iterable[tuple[bytes, Any]]:
    return [(name, tree[name]) for name in sorted(tree, key=cmp_to_key(_compare))]


def _compare(one: bytes, other: bytes) -> int:
    if one.isdigit() and other.isdigit():
        return int(one) - int(other)
    return -1 if one < other else 1


def _edit_document(document: bytes, tree: _Tree, path: Path, noted: _Noted) -> bytes:
    spans = elements.spans(document)
    places = {document[start + 1 : name_end]: (start, name_end, stop) for start, name_end, stop in spans}
    if len(places) != len(spans):
        raise _DeclinedError
    pieces = [b""]
    copied = 4
    for (start, name_end, stop), name in sorted((places[name], name) for name in tree if name in places):
        pieces.append(document[copied:start])
        old = document[start], document[name_end + 1 : stop]
        if tree[name] is _UNSET:
            noted.append(None)
        else:
            edited = _edit_value(old, tree[name], (*path, name.decode()), noted)
            pieces.append(elements.element(name, *edited))
        copied = stop
    pieces.append(document[copied:-1])
    if not tree.keys() <= places.keys():
        noted.append(None)
        pieces.extend(_created_elements({name: tree[name] for name in tree if name not in places}))
    return elements.enclose(pieces)


def _created_elements(missing: _Tree) -> Iterable[bytes]:
    for name, edit in _in_server_order(missing):
        created = _created(edit)
        if created is not None:
            yield elements.element(name, *created)


def _edit_value(old: _Value, edit: Any, path: Path, noted: _Noted) -> _Value:
    kind, value = old
    if isinstance(edit, tuple):
        if old != edit:
            is_comparable = kind == edit[0] and kind in (DOCUMENT, ARRAY)
            noted.append(None if is_comparable else Replaced(path, old, edit))
        return edit
    if kind == DOCUMENT:
        if is_reference(kind, value):  # which no path leads into
            noted.append(None)
        return kind, _edit_document(value, edit, path, noted)
    if kind == ARRAY:
        noted.append(None)
        return kind, _edit_array(value, edit)
    if _sets(edit):
        raise _DeclinedError
    return old


def _edit_array(array: bytes, tree: _Tree) -> bytes:
    values = [(part.kind, part.value) for part in elements.elements(array)]
    for name, edit in _in_server_order(tree):
        if not name.isdigit():
            if _sets(edit):
                raise _DeclinedError
            continue
        index = int(name)
        if index < len(values):
            values[index] = _NULL if edit is _UNSET else _edit_value(values[index], edit, (), [])
        elif (created := _created(edit)) is not None:
            if index - len(values) > _MOST_PADDING:
                raise _DeclinedError
            values.extend([_NULL] * (index - len(values)))
            values.append(created)
    return elements.assemble_array(values)


def _created(edit: Any) -> tuple[int, bytes] | None:
    """What an edit makes where nothing lies: nested documents, for numeric names too; nothing for `$unset`."""
    if edit is _UNSET or not _sets(edit):
        return None
    if isinstance(edit, tuple):
        return edit
    return DOCUMENT, _edit_document(EMPTY_DOCUMENT, edit, (), [])


def _sets(edit: Any) -> bool:
    if isinstance(edit, dict):
        return any(_sets(below) for below in edit.values())
    return edit is not _UNSET
