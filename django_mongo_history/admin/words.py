"""
Two long texts side by side, their changed words marked. What is alike is found by the standard library's `difflib`.
"""

from __future__ import annotations

import re
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


def is_worth_marking(old: str, new: str) -> bool:
    """Whether both are long enough for marks to help, and short enough to be compared."""
    return min(len(old), len(new)) >= _SHORTEST and max(len(old), len(new)) <= _LONGEST


def marked(old: str, new: str) -> tuple[SafeString, SafeString]:
    """Both texts, escaped, what is gone in `del` and what has come in `ins`."""
    one, other = _WORD.findall(old), _WORD.findall(new)
    start = _alike(one, other)
    end = _alike(one[start:][::-1], other[start:][::-1])
    left, right = one[start : len(one) - end], other[start : len(other) - end]
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


def _between(left: Sequence[str], right: Sequence[str]) -> tuple[list[SafeString], list[SafeString]]:
    if len(left) + len(right) > _MOST_WORDS:
        return [_gone("".join(left))], [_come("".join(right))]
    old: list[SafeString] = []
    new: list[SafeString] = []
    for operation, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
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
