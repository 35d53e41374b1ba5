"""
Two long texts side by side, their changed words marked. What is alike is found by the standard library's `difflib`, which
may take the cube of what it is given; so a page has a bound.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

_SHORTEST: Final = 20
"""Characters from which on two texts are compared word by word."""
_MOST_WORDS: Final = 600
"""Words between the ends that are alike, of both texts together. Beyond it all of them count as changed."""
_LONGEST: Final = 10_000
_WORD: Final = re.compile(r"\s+|\w+|[^\w\s]")
MOST_WORK: Final = 10_000_000
"""
What one page may spend on comparing texts, in rounds of comparing two words: half a second where each of them is needed.
"""
_OF_A_CHARACTER: Final = 2
"""What cutting a text into words costs, in the same unit."""


def is_worth_marking(old: str, new: str) -> bool:
    """Whether both are long enough for marks to help, and short enough to be compared."""
    return min(len(old), len(new)) >= _SHORTEST and max(len(old), len(new)) <= _LONGEST


class Marking:
    """What one page may still spend on marking changed words; shared by all that it shows."""

    def __init__(self, room: int = MOST_WORK) -> None:
        self._room = room

    def marked(self, old: str, new: str) -> tuple[SafeString, SafeString] | None:
        """
        Both texts, escaped, what is gone in `del` and what has come in `ins`; None where there is no room left.

        Cost: the first text has all it needs, see `_MOST_WORDS`; then as long as there is room.
        """
        if self._room <= 0:
            return None
        one, other = _WORD.findall(old), _WORD.findall(new)
        start = _alike(one, other)
        end = _alike(one[start:][::-1], other[start:][::-1])
        left, right = one[start : len(one) - end], other[start : len(other) - end]
        self._room -= _OF_A_CHARACTER * (len(old) + len(new)) + _work(left, right)
        old_parts, new_parts = _between(left, right)
        head, tail = "".join(one[:start]), "".join(one[len(one) - end :])
        return _whole(head, old_parts, tail), _whole(head, new_parts, tail)


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _is_too_long(left: Sequence[str], right: Sequence[str]) -> bool:
    return len(left) + len(right) > _MOST_WORDS


def _work(left: Sequence[str], right: Sequence[str]) -> int:
    """At most so much is compared: a round for each word that both have, in each every two that are the same."""
    if _is_too_long(left, right):
        return 0
    one, other = (Counter(word for word in words if not word.isspace()) for words in (left, right))
    rounds = (one & other).total()
    return rounds * (len(left) + len(right) + sum(one[word] * other[word] for word in one))


def _between(left: Sequence[str], right: Sequence[str]) -> tuple[list[SafeString], list[SafeString]]:
    if _is_too_long(left, right):
        return [_gone("".join(left))], [_come("".join(right))]
    old: list[SafeString] = []
    new: list[SafeString] = []
    for operation, a, b, c, d in SequenceMatcher(str.isspace, left, right, autojunk=False).get_opcodes():
        before, after = "".join(left[a:b]), "".join(right[c:d])
        old.append(format_html("{}", before) if operation == "equal" else _gone(before))
        new.append(format_html("{}", after) if operation == "equal" else _come(after))
    return old, new


def _gone(text: str) -> SafeString:
    return format_html("<del>{}</del>", text) if text else mark_safe("")


def _come(text: str) -> SafeString:
    return format_html("<ins>{}</ins>", text) if text else mark_safe("")


def _whole(head: str, parts: Sequence[SafeString], tail: str) -> SafeString:
    return format_html("{}{}{}", head, mark_safe("".join(parts)), tail)  # noqa: S308 - each part is escaped above
