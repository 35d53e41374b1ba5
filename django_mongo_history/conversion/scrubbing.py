"""
Rows without what the policy hides or leaves untracked, for those that are kept beside a gap.

A dotted path may mean several places; a value stays only if none of them is hidden. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, Final

from django_mongo_history.conversion.base import Edit
from django_mongo_history.core import policy as policies
from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, Path, State
from django_mongo_history.core.policy import Policy

_MOST_DOTS: Final = 8
"""Paths with more of them keep no value: each dot doubles what could be meant."""


def scrubbed_row(row: State, policy: Policy) -> State:
    """A row of mongoengine-history (`path`, `data`) without values that shall not be kept."""
    if not policy.hidden and not policy.untracked:
        return row
    path, held = row.get("path"), row.get("data")
    if not isinstance(path, str) or not isinstance(held, Mapping):
        return {name: value for name, value in row.items() if name != "data"}
    if "items" in held:
        items = held["items"] if isinstance(held["items"], list) else []
        shown: Any = {"items": [one for one in (_item(path, item, policy) for item in items) if one]}
    else:
        sides = {name: scrubbed(path, value, policy) for name, value in held.items()}
        shown = {name: value for name, value in sides.items() if value is not ABSENT}
    return {**row, "data": shown}


def scrubbed(path: Path | str, value: Any, policy: Policy) -> Any:
    """A value that lies at a path, or ABSENT where it may be hidden or untracked, as a whole."""
    if isinstance(path, str) and path.count(".") > _MOST_DOTS:
        return ABSENT
    for meant in _meant(path):
        if _is_covered(meant, policy):
            return ABSENT
        pruned = policies.prune_value(meant, *values.encode_value(value), policy)
        if pruned is None:
            return ABSENT
        value = values.decode_value(*pruned)
    return value


def _item(path: str, item: Any, policy: Policy) -> Any:
    if not isinstance(item, Mapping):
        return None
    key = item.get("key", item.get("index"))
    below = f"{path}.{key}" if path else str(key)
    value = scrubbed(below, item.get("value"), policy)
    rest = {name: one for name, one in item.items() if name != "value"}
    return rest if value is ABSENT else {**rest, "value": value}


def _is_covered(path: Path, policy: Policy) -> bool:
    return policies.is_hidden(path, policy) or policies.is_untracked(path, policy)


def _meant(path: Path | str) -> Iterator[Path]:
    """The paths of names that it may mean: every split at dots, digits as keys and as indexes."""
    if not isinstance(path, str):
        yield path
        return
    tokens = path.split(".")
    for count in range(len(tokens)):
        for cuts in combinations(range(1, len(tokens)), count):
            bounds = [0, *cuts, len(tokens)]
            split = [".".join(tokens[low:high]) for low, high in pairwise(bounds)]
            yield tuple(split)
            yield tuple(part for part in split if not part.isdigit()) or tuple(split)


def scrubbed_edits(edits: Sequence[Edit], policy: Policy) -> tuple[list[Edit], tuple[str, ...]]:
    """
    What is left of edits without what the policy prunes, and the hidden paths that they touch.

    A path that may be hidden counts as hidden, one that may be untracked is left out without a word.
    """
    if not policy.hidden and not policy.untracked:
        return list(edits), ()
    kept: list[Edit] = []
    hidden: set[str] = set()
    for edit in edits:
        if edit.action in ("change", "set"):
            kept.extend(_scrubbed_change(edit, policy, hidden))
        else:
            items = [
                one for key, value in edit.payload for one in _scrubbed_item(edit, key, value, policy, hidden)
            ]
            if items:
                kept.append(Edit(edit.action, edit.path, items))
    return kept, tuple(sorted(hidden))


def _scrubbed_change(edit: Edit, policy: Policy, hidden: set[str]) -> Iterator[Edit]:
    if _covering(edit.path, policy, hidden):
        return
    sides = tuple(scrubbed(edit.path, side, policy) for side in edit.payload)
    if ABSENT in sides:
        return
    is_pruned = any(not values.same(one, other) for one, other in zip(sides, edit.payload, strict=True))
    if is_pruned:
        hidden.update(_hidden_below(edit.path, policy))
        if values.same(*sides):
            return
    yield Edit(edit.action, edit.path, sides)


def _scrubbed_item(
    edit: Edit, key: Any, value: Any, policy: Policy, hidden: set[str]
) -> Iterator[tuple[Any, Any]]:
    path: Path | str = f"{edit.path}.{key}" if edit.path else str(key)
    if not isinstance(edit.path, str):
        path = (*edit.path, key)
    if _covering(path, policy, hidden):
        return
    shown = scrubbed(path, value, policy)
    if shown is not ABSENT:
        if not values.same(shown, value):
            hidden.update(_hidden_below(path, policy))
        yield key, shown


def _covering(path: Path | str, policy: Policy, hidden: set[str]) -> bool:
    """Whether the path may lie at or below one that is pruned; hidden ones are noted."""
    meant = (
        list(_meant(path))
        if not isinstance(path, str) or path.count(".") <= _MOST_DOTS
        else [tuple(path.split("."))]
    )
    for rule in policy.hidden:
        if any(policies.is_hidden(one, Policy(hidden=(rule,))) for one in meant):
            hidden.add(".".join(rule))
    return any(_is_covered(one, policy) for one in meant)


def _hidden_below(path: Path | str, policy: Policy) -> Iterator[str]:
    """The hidden paths that begin with this one, by the first name."""
    first = next((part for part in next(_meant(path)) if isinstance(part, str)), "")
    top = first.partition(".")[0]
    yield from (".".join(rule) for rule in policy.hidden if rule[0] in (top, "*"))
