"""
From a state after a change to the state before it, by what a row says of the change.

Dotted paths may mean several places, for keys hold dots and digits too: a place counts where the state has what the row
says was put there. Where it has something else, the row is right about its own path at its own time: the state after it
is set right and the caller is told (`misfits`). Where no one place is meant, the change is left out, and the caller is told
that too. States are never changed in place. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from bson import Binary

from django_mongo_history.conversion.base import Edit
from django_mongo_history.core import values
from django_mongo_history.core.model import Path, PathPart, State

_ABSENT: Final = object()
_EMPTY: Final[tuple[Any, ...]] = ([], {}, None)
_MOST_SPLITS: Final = 12
"""Dots in a path beyond which it is not resolved: each split doubles what could be meant."""


class Simple(NamedTuple):
    """An edit at its place. As in `Edit`, but that the path is certain and the values are those of the states."""

    action: str
    place: Path
    payload: Any


@dataclass(slots=True)
class Undone:
    """
    Both sides of a step. `after` is the state that was given, set right where rows say otherwise. `misfits`: the edits that
    met another value; `left_out`: those that could not be applied at all.
    """

    after: State
    before: State
    misfits: list[Edit] = field(default_factory=list)
    left_out: list[Edit] = field(default_factory=list)
    simple: list[Simple] | None = field(default_factory=list)
    """The same as patches have it, where each edit fits and is a value in the place of another, or the end of a list."""

    @property
    def is_exact(self) -> bool:
        return not self.misfits and not self.left_out


def undo(after: State, edits: Sequence[Edit]) -> Undone:
    """The state before these edits, the last of which is undone first."""
    undone = Undone(after, after)
    for edit in reversed(edits):
        _UNDO[edit.action](undone, edit)
    return undone


def invert(edits: Sequence[Edit]) -> list[Edit]:
    """The edits that lead back: undoing these does the others again."""
    return [_inverted(edit) for edit in reversed(edits)]


def matches(value: Any, told: Any) -> bool:
    """
    Whether the value is what a row says; a row may have lost the order of keys, the type of a number, or that
    a list of numbers was bytes.
    """
    if type(value) is type(told) and value == told:
        return True
    if isinstance(value, dict) and isinstance(told, dict):
        return value.keys() == told.keys() and all(matches(value[key], told[key]) for key in value)
    if isinstance(value, list) and isinstance(told, list):
        return len(value) == len(told) and all(map(matches, value, told))
    if isinstance(value, bytes):
        return _as_bytes(told) == bytes(value)
    if isinstance(value, (int, float)) and isinstance(told, (int, float)):
        return isinstance(value, bool) is isinstance(told, bool) and (
            value == told or (value != value and told != told)  # noqa: PLR0124 - that is what NaN is
        )
    return values.same(value, told)


# -- the actions -----------------------------------------------------------------------------------------------------


def _undo_change(undone: Undone, edit: Edit) -> None:
    old, new = edit.payload
    places = _places(undone.before, edit.path)
    fitting = [place for place in places if matches(_at(undone.before, place), new)]
    if len(fitting) == 1:
        current = _at(undone.before, fitting[0])
        old = _like(current, old)
        undone.before = _with(undone.before, fitting[0], old)
        _note(undone, "change", fitting[0], (old, current))
        return
    undone.simple = None
    possible = fitting or places or _vacant(undone.before, edit.path)
    if len(possible) != 1:
        undone.left_out.append(edit)
        return
    _set_right(undone, edit, possible[0], lambda _current: new, lambda _current: old)


def _undo_set(undone: Undone, edit: Edit) -> None:
    """As a change, but None is null or absent."""
    undone.simple = None
    old, new = edit.payload
    places = _places(undone.before, edit.path)
    if new is None and not places:
        vacant = _vacant(undone.before, edit.path)
        if len(vacant) == 1:
            undone.before = _put(undone.before, vacant[0], old)
            return
    fitting = [place for place in places if matches(_at(undone.before, place), new)]
    if len(fitting) == 1:
        place = fitting[0]
        undone.before = _put(undone.before, place, _like(_at(undone.before, place), old))
        return
    possible = fitting or places or _vacant(undone.before, edit.path)
    if len(possible) != 1:
        undone.left_out.append(edit)
        return
    _set_right(undone, edit, possible[0], lambda _current: new, lambda _current: old, put=_put)


def _undo_add(undone: Undone, edit: Edit) -> None:
    holders = _holders(undone.before, edit)
    fitting = [place for place in holders if _has_items(_at(undone.before, place), edit.payload)]
    if len(fitting) == 1:
        holder = _at(undone.before, fitting[0])
        undone.before = _with(undone.before, fitting[0], _without(holder, edit.payload))
        if _is_list(edit.payload):
            _note(undone, "add", fitting[0], [(key, holder[key]) for key, _told in edit.payload])
        else:
            undone.simple = None
        return
    undone.simple = None
    possible = [place for place in fitting or holders if _reaches(_at(undone.before, place), edit.payload)]
    if len(possible) != 1:
        undone.left_out.append(edit)
        return
    items = edit.payload
    _set_right(
        undone,
        edit,
        possible[0],
        lambda holder: _with_items(_without(holder, items), items),
        lambda holder: _without(holder, items),
    )


def _undo_remove(undone: Undone, edit: Edit) -> None:
    holders = _holders(undone.before, edit)
    items = edit.payload
    undone.simple = None
    if not holders and _is_from_start(items):  # what MongoEngine empties it takes out
        vacant = _vacant(undone.before, edit.path)
        if len(vacant) == 1:
            holder: Any = [] if _is_list(items) else {}
            undone.before = _with(undone.before, vacant[0], _with_items(holder, items))
            return
    fitting = [place for place in holders if _has_room(_at(undone.before, place), items)]
    if len(fitting) == 1:
        undone.before = _with(undone.before, fitting[0], _with_items(_at(undone.before, fitting[0]), items))
        return
    possible = [place for place in fitting or holders if _reaches(_at(undone.before, place), items)]
    if len(possible) != 1:
        undone.left_out.append(edit)
        return
    _set_right(
        undone,
        edit,
        possible[0],
        lambda holder: _without(holder, items),
        lambda holder: _with_items(_without(holder, items), items),
    )


def _note(undone: Undone, action: str, place: Path, payload: Any) -> None:
    if undone.simple is not None:
        undone.simple.append(Simple(action, place, payload))


def _set_right(
    undone: Undone,
    edit: Edit,
    place: Path,
    then: Callable[[Any], Any],
    earlier: Callable[[Any], Any],
    *,
    put: Callable[[Any, Path, Any], Any] | None = None,
) -> None:
    """The row's own word on both sides of it: `then` and `earlier` give what lay at the place, from what lies there."""
    put = put or _with
    undone.misfits.append(edit)
    after = undone.after
    if _at(after, place[:-1]) is not _ABSENT:
        undone.after = put(after, place, then(_at(after, place)))
    undone.before = put(undone.before, place, earlier(_at(undone.before, place)))


_UNDO: Final[dict[str, Callable[[Undone, Edit], None]]] = {
    "change": _undo_change,
    "set": _undo_set,
    "add": _undo_add,
    "remove": _undo_remove,
}


def _inverted(edit: Edit) -> Edit:
    if edit.action in ("change", "set"):
        return Edit(edit.action, edit.path, (edit.payload[1], edit.payload[0]))
    return Edit("remove" if edit.action == "add" else "add", edit.path, edit.payload[::-1])


# -- places ----------------------------------------------------------------------------------------------------------


def _places(state: State, path: Path | str) -> list[Path]:
    """Where something lies that the path may mean."""
    if not isinstance(path, str):
        return [path] if _at(state, path) is not _ABSENT else []
    if path.count(".") > _MOST_SPLITS:
        return []
    return list(_search(state, path, ()))


def _search(node: Any, rest: str, prefix: Path) -> Iterator[Path]:
    if isinstance(node, dict):
        if rest in node:
            yield (*prefix, rest)
        position = rest.find(".")
        while position >= 0:
            head = rest[:position]
            if head in node:
                yield from _search(node[head], rest[position + 1 :], (*prefix, head))
            position = rest.find(".", position + 1)
    elif isinstance(node, list):
        head, dot, tail = rest.partition(".")
        if head.isascii() and head.isdigit() and int(head) < len(node):
            if dot:
                yield from _search(node[int(head)], tail, (*prefix, int(head)))
            else:
                yield (*prefix, int(head))


def _vacant(state: State, path: Path | str) -> list[Path]:
    """Where the path could lie in a document that has nothing there yet."""
    if not isinstance(path, str):
        holder = _at(state, path[:-1])
        return [path] if path and isinstance(holder, dict) and isinstance(path[-1], str) else []
    if not path:
        return []
    head, dot, last = path.rpartition(".")
    if not dot:
        return [(path,)]
    return [(*place, last) for place in _places(state, head) if isinstance(_at(state, place), dict)]


def _holders(state: State, edit: Edit) -> list[Path]:
    """The documents, or lists, that the path of an "add" or "remove" may mean."""
    kind = list if _is_list(edit.payload) else dict
    if edit.path in ("", ()):
        return [()] if kind is dict else []
    return [place for place in _places(state, edit.path) if isinstance(_at(state, place), kind)]


def _at(node: Any, place: Path) -> Any:
    for part in place:
        if isinstance(node, dict) and isinstance(part, str):
            node = node.get(part, _ABSENT)
        elif isinstance(node, list) and isinstance(part, int) and 0 <= part < len(node):
            node = node[part]
        else:
            return _ABSENT
    return node


def _with(node: Any, place: Path, value: Any) -> Any:
    """A copy with another value at a place; everything beside the way there is shared."""
    if not place:
        return value
    part: PathPart = place[0]
    copied: Any = dict(node) if isinstance(node, dict) else list(node)
    copied[part] = _with(copied.get(part) if isinstance(copied, dict) else copied[part], place[1:], value)
    return copied


def _put(state: Any, place: Path, value: Any) -> Any:
    """The same, where None means that the key is not there."""
    holder = _at(state, place[:-1])
    if value is None and isinstance(holder, dict):
        return _with(state, place[:-1], {key: one for key, one in holder.items() if key != place[-1]})
    return _with(state, place, value)


# -- items of documents and lists --------------------------------------------------------------------------------------


def _is_list(items: Any) -> bool:
    return bool(items) and isinstance(items[0][0], int)


def _low(items: Any) -> int:
    return min(int(key) for key, _value in items)


def _is_from_start(items: Any) -> bool:
    """Whether the items are all that a list had; of a document nobody can tell."""
    return not _is_list(items) or _low(items) == 0


def _has_items(holder: Any, items: Any) -> bool:
    """
    Whether the holder has these items; a list has them at its end, where dictdiffer puts what is new.

    What is empty MongoEngine does not store, though the old package saw it in the instance.
    """
    if isinstance(holder, dict):
        return all(matches(holder[key], value) if key in holder else value in _EMPTY for key, value in items)
    return len(holder) == _low(items) + len(items) and all(
        0 <= key < len(holder) and matches(holder[key], value) for key, value in items
    )


def _has_room(holder: Any, items: Any) -> bool:
    """Whether the items are what is missing."""
    if isinstance(holder, dict):
        return all(key not in holder for key, _value in items)
    return len(holder) == _low(items)


def _reaches(holder: Any, items: Any) -> bool:
    """Whether the holder says all of itself that the items do not."""
    return isinstance(holder, dict) or len(holder) >= _low(items)


def _without(holder: Any, items: Any) -> Any:
    if isinstance(holder, dict):
        keys = {key for key, _value in items}
        return {key: value for key, value in holder.items() if key not in keys}
    return holder[: _low(items)]


def _with_items(holder: Any, items: Any) -> Any:
    if isinstance(holder, dict):
        return {**holder, **dict(items)}
    return [*holder, *(value for _key, value in sorted(items, key=lambda item: item[0]))]


def _like(current: Any, told: Any) -> Any:
    """A row's value of the type that the state shows: bytes that a row could keep as numbers only."""
    if isinstance(current, bytes) and not isinstance(told, bytes):
        as_bytes = _as_bytes(told)
        if as_bytes is not None:
            return Binary(as_bytes, current.subtype) if isinstance(current, Binary) else as_bytes
    return told


def _as_bytes(told: Any) -> bytes | None:
    if isinstance(told, bytes):
        return bytes(told)
    if isinstance(told, list) and all(type(one) is int and 0 <= one < 256 for one in told):
        return bytes(told)
    return None
