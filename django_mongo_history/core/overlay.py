"""
A tracked state laid over a whole document: what the policy hides or leaves untracked keeps its present value and place.

Reverts write through here, so they never touch what they do not know. Pure; works on BSON elements.
"""

from __future__ import annotations

from collections import Counter

from django_mongo_history.core import elements
from django_mongo_history.core.elements import ARRAY, DOCUMENT, Element
from django_mongo_history.core.policy import Policy, Rules, prune_inside, rules_below, rules_of


class AmbiguousListError(ValueError):
    """Which element of a list a hidden or untracked value belongs to is not certain."""


def lay_over(state: bytes, image: bytes, policy: Policy) -> bytes:
    """
    The document whose tracked part is `state` and whose other values are those of `image`.

    Raises: AmbiguousListError where such a value lies in a list whose elements changed.
    """
    rules = rules_of(policy)
    return _documents(state, image, rules) if rules else state


def _documents(state: bytes, image: bytes, rules: Rules) -> bytes:
    parts = elements.elements(image)
    present = {part.name: part for part in parts}
    merged = [_inside(part, present.get(part.name), rules) for part in elements.elements(state)]
    place = {part.name: index for index, part in enumerate(merged)}
    kept: dict[int, list[Element]] = {}
    behind = -1
    for part in parts:
        behind = place.get(part.name, behind)
        if rules_below(rules, part.name) is None:
            kept.setdefault(behind, []).append(part)
    result = list(kept.get(-1, ()))
    for index, part in enumerate(merged):
        result.append(part)
        result.extend(kept.get(index, ()))
    return elements.assemble(result)


def _inside(part: Element, present: Element | None, rules: Rules) -> Element:
    below = rules_below(rules, part.name)
    if not below or present is None or present.kind != part.kind:
        return part
    return part._replace(value=_values(part.kind, part.value, present.value, below))


def _values(kind: int, state: bytes, image: bytes, rules: Rules) -> bytes:
    if kind == DOCUMENT:
        return _documents(state, image, rules)
    if kind == ARRAY:
        return _lists(elements.elements(state), elements.elements(image), rules)
    return state


def _lists(state: list[Element], image: list[Element], rules: Rules) -> bytes:
    shown = [_pruned(part, rules) for part in image]
    wanted = [(part.kind, part.value) for part in state]
    if wanted == shown:
        return _named_as(state, image)
    holders = [index for index, part in enumerate(image) if (part.kind, part.value) != shown[index]]
    if not holders:
        return elements.assemble(state)
    _check_certain(wanted, shown, image, holders)
    left: dict[tuple[int, bytes], list[Element]] = {}
    for index, part in enumerate(image):
        left.setdefault(shown[index], []).append(part)
    chosen = [left[one].pop(0) if left.get(one) else Element(b"", *one) for one in wanted]
    return _named_as(state, chosen)


def _named_as(state: list[Element], values: list[Element]) -> bytes:
    """The state's own names of places: a list need not count its elements from 0 upwards, though drivers make it so."""
    return elements.assemble(
        value._replace(name=part.name) for part, value in zip(state, values, strict=True)
    )


def _check_certain(
    wanted: list[tuple[int, bytes]], shown: list[tuple[int, bytes]], image: list[Element], holders: list[int]
) -> None:
    """Refuse where an element may be an edited form of another, or where equal ones hold different values."""
    ask, have = Counter(wanted), Counter(shown)
    gone = any(have[shown[index]] > ask[shown[index]] for index in holders)
    new = any(ask[one] > have[one] for one in ask)
    if gone and new:
        raise AmbiguousListError("elements that hold such values were changed as well")
    for index in holders:
        alike = {image[other].value for other, one in enumerate(shown) if one == shown[index]}
        if len(alike) > 1 and ask[shown[index]]:
            raise AmbiguousListError("elements that look alike hold different ones")


def _pruned(part: Element, rules: Rules) -> tuple[int, bytes]:
    return part.kind, prune_inside(part.kind, part.value, rules)
