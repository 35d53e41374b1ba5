"""
Two documents side by side, as trees of what differs: what dictdiffer is given to compare.

Equal subtrees are cut out by their bytes, and every leaf is opaque: compared as Python values `1`, `1.0` and `True`
would be equal. Nothing is decoded. Pure.
"""

from __future__ import annotations

from typing import Any, Final

from django_mongo_history.core import elements
from django_mongo_history.core.elements import ARRAY, DOCUMENT, Element
from django_mongo_history.core.model import PathPart

WHOLE_LIST_FROM: Final = 100
"""A list with more differing places than this, and of another length than before, is one change of the whole list:
a shift by one place would otherwise cost many times the list."""

_REFERENCE: Final = b"$ref"


class Leaf:
    """A value that dictdiffer must neither look into nor copy; equal to itself alone."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: int, value: bytes) -> None:
        self.kind = kind
        self.value = value

    def __deepcopy__(self, memo: Any) -> Leaf:
        return self


SAME: Final = Leaf(0, b"")
"""Stands on both sides where the bytes are equal."""


def align(before: bytes, after: bytes) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """
    Both documents as trees of dicts, lists and leaves, with `SAME` wherever the bytes are equal.

    None where a key stands twice at the top level of one: no tree holds that.
    """
    return _align_documents(elements.elements(before), elements.elements(after))


def _align_documents(old: list[Element], new: list[Element]) -> tuple[dict[Any, Any], dict[Any, Any]] | None:
    old_parts = {part.name: part for part in old}
    new_parts = {part.name: part for part in new}
    if len(old_parts) != len(old) or len(new_parts) != len(new):
        return None
    if list(old_parts) == list(new_parts):
        return _align_differing([(_name(one.name), one, other) for one, other in _unequal(old, new)])
    left: dict[str, Any] = {}
    right: dict[str, Any] = {_name(name): None for name in new_parts}  # fixes the order of the right side
    for name, part in old_parts.items():
        other = new_parts.get(name)
        if other is None:
            left[_name(name)] = Leaf(part.kind, part.value)
        else:
            left[_name(name)], right[_name(name)] = _align_values(part, other)
    for name, part in new_parts.items():
        if name not in old_parts:
            right[_name(name)] = Leaf(part.kind, part.value)
    return left, right


def _align_values(old: Element, new: Element) -> tuple[Any, Any]:
    if old.kind == new.kind:
        if old.value == new.value:
            return SAME, SAME
        pair: tuple[Any, Any] | None = None
        if old.kind == DOCUMENT and not (is_reference(*old[1:]) or is_reference(*new[1:])):
            pair = _align_documents(elements.elements(old.value), elements.elements(new.value))
        elif old.kind == ARRAY:
            pair = _align_lists(elements.elements(old.value), elements.elements(new.value))
        if pair is not None:
            return pair
    return Leaf(old.kind, old.value), Leaf(new.kind, new.value)


def _align_lists(old: list[Element], new: list[Element]) -> tuple[Any, Any] | None:
    if not (_is_canonical(old) and _is_canonical(new)):
        return None
    if len(old) == len(new):
        return _align_differing([(int(one.name), one, other) for one, other in _unequal(old, new)])
    common = min(len(old), len(new))
    if len(_unequal(old, new)) > WHOLE_LIST_FROM:
        return None
    pairs = [_align_values(old[index], new[index]) for index in range(common)]
    left: list[Any] = [pair[0] for pair in pairs]
    right: list[Any] = [pair[1] for pair in pairs]
    left.extend(Leaf(part.kind, part.value) for part in old[common:])
    right.extend(Leaf(part.kind, part.value) for part in new[common:])
    return left, right


def _unequal(old: list[Element], new: list[Element]) -> list[tuple[Element, Element]]:
    return [(one, other) for one, other in zip(old, new, strict=False) if one != other]


def _align_differing(
    differing: list[tuple[PathPart, Element, Element]],
) -> tuple[dict[PathPart, Any], dict[PathPart, Any]]:
    """
    Only the places that differ, for documents of the same keys and lists of the same length (by index).

    Nothing comes or goes in them, so what is equal need not be walked again.
    """
    pairs = {place: _align_values(one, other) for place, one, other in differing}
    return (
        {place: left for place, (left, _right) in pairs.items()},
        {place: right for place, (_left, right) in pairs.items()},
    )


def is_reference(kind: int, value: bytes) -> bool:
    """Whether PyMongo would read the value as a DBRef, which no path leads into."""
    return (
        kind == DOCUMENT
        and _REFERENCE in value
        and any(inner.name == _REFERENCE for inner in elements.elements(value))
    )


def _is_canonical(parts: list[Element]) -> bool:
    return all(part.name == b"%d" % index for index, part in enumerate(parts))


def align_whole(
    left: dict[str, Any], right: dict[str, Any], before: bytes, after: bytes
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trees again, with every top-level key that differs inside as one leaf: both whole values."""
    old = {_name(part.name): Leaf(part.kind, part.value) for part in elements.elements(before)}
    new = {_name(part.name): Leaf(part.kind, part.value) for part in elements.elements(after)}
    return (
        {key: node if node is SAME else old[key] for key, node in left.items()},
        {key: node if node is SAME else new[key] for key, node in right.items()},
    )


def _name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
