"""
The common change: the same keys in the same order, other values. Found by one walk, without trees and without dictdiffer.

What it finds is what `align` and dictdiffer would find; a property test holds it to that. Everything else (keys that
come, go or move, lists of another length, keys twice) it leaves to them. Pure.
"""

from __future__ import annotations

from typing import Final

from django_mongo_history.core import elements
from django_mongo_history.core.align import is_reference
from django_mongo_history.core.elements import ARRAY, DOCUMENT
from django_mongo_history.core.model import Path, Replaced

Value = tuple[int, bytes]


class _OtherKeysError(Exception):
    """The documents differ in more than values."""


def replaced_values(before: bytes, after: bytes) -> list[Replaced] | None:
    """
    The values that differ, in the order in which they lie; None where more than values differ.

    Cost: one walk over the keys of each level that holds a difference; equal values are compared by their bytes.
    """
    found: list[Replaced] = []
    layout = _known.layout
    is_small = max(len(before), len(after)) <= _MOST_TO_COMPARE_AGAIN
    starts = elements.fits(before, layout) if is_small else None
    try:
        if starts is None:
            _walk(before, after, (), found)
            _known.learn(before)
        else:
            _known.misses = 0
            _halve(before, after, layout, starts, found)
    except _OtherKeysError:
        return None
    return found


_MOST_TO_COMPARE_AGAIN: Final = 4096
"""Bytes of a document in which the rest may be compared anew behind each difference."""
_FEW_MISSES: Final = 8


class _Known:
    """
    How a document before this one was laid out: of the next one of its collection the keys are known then.

    Any layout is a good one, so threads that learn at once do no harm.
    """

    __slots__ = ("layout", "misses")

    def __init__(self) -> None:
        self.layout: elements.Layout = ()
        self.misses = 0

    def learn(self, document: bytes) -> None:
        """Of two in a row that were unknown, and then seldom: collections are written in turn, or hold no two alike."""
        self.misses += 1
        if len(document) <= _MOST_TO_COMPARE_AGAIN and (self.misses == 2 or not self.misses % _FEW_MISSES):
            self.layout = elements.layout_of(document) or self.layout


_known: Final = _Known()


def _halve(
    before: bytes, after: bytes, layout: elements.Layout, starts: list[int], found: list[Replaced]
) -> None:
    """What `_walk` does, for a layout that is known to have no key twice: equal stretches are compared at once."""
    index = shift = 0
    while before[starts[index] :] != after[starts[index] + shift :]:
        low, high, base = index, len(layout), starts[index]
        while low < high:  # up to the first element that is not in both
            middle = (low + high) // 2
            stop = starts[middle + 1]
            if before[base:stop] == after[base + shift : stop + shift]:
                low = middle + 1
            else:
                high = middle
        _require(low < len(layout))
        head, head_size, *_sizes = layout[low]
        start, stop = starts[low], starts[low + 1]
        value = start + shift + head_size
        _require(after[start + shift + 1 : value] == head[1:])
        kind = after[start + shift]
        new_stop = elements.value_end(after, kind, value)
        old, new = (head[0], before[start + head_size : stop]), (kind, after[value:new_stop])
        _compare(old, new, (head[1:-1].decode("utf-8", "surrogateescape"),), found)
        shift = new_stop - stop
        index = low + 1


def _walk(before: bytes, after: bytes, path: Path, found: list[Replaced], *, is_list: bool = False) -> None:
    spans = elements.spans(before)
    names = [before[start + 1 : name_end] for start, name_end, _stop in spans]
    if is_list:
        _require(all(name == b"%d" % index for index, name in enumerate(names)))
    else:
        _require(len(set(names)) == len(names))
    shift = 0
    for index, (start, name_end, stop) in enumerate(spans):
        if after[start + shift : stop + shift] == before[start:stop]:
            continue
        value = start + shift + (name_end - start) + 1
        _require(after[start + shift + 1 : value] == before[start + 1 : name_end + 1])
        kind = after[start + shift]
        new_stop = elements.value_end(after, kind, value)
        old, new = (before[start], before[name_end + 1 : stop]), (kind, after[value:new_stop])
        place = index if is_list else names[index].decode("utf-8", "surrogateescape")
        _compare(old, new, (*path, place), found)
        shift = new_stop - stop
    _require(len(after) == len(before) + shift)


def _compare(old: Value, new: Value, path: Path, found: list[Replaced]) -> None:
    kind = old[0]
    if kind == new[0] and kind in _CONTAINERS and not (is_reference(*old) or is_reference(*new)):
        _walk(old[1], new[1], path, found, is_list=kind == ARRAY)
    else:
        found.append(Replaced(path, old, new))


_CONTAINERS: Final = (DOCUMENT, ARRAY)


def _require(holds: bool) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise _OtherKeysError
