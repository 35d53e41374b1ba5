"""
`TRACKED_DOCUMENTS`: which classes are tracked, and what of them is not.

Reads shapes only; whether the classes and their fields exist is for the system checks, which may import them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django_mongo_history.conf import rules
from django_mongo_history.conf.callables import Named
from django_mongo_history.conf.rows import Kind, Problem, Row, read_rows, wrong

SETTING: Final = "TRACKED_DOCUMENTS"
DELIVERIES: Final = ("auto", "atomic", "sync", "celery", "outbox")

ENTRY_ROWS: Final = (
    Row(
        "document",
        "str",
        rules.dotted_path,
        ...,
        "The dotted path of the class. Its subclasses are tracked with it.",
    ),
    Row(
        "untracked",
        "list of str",
        rules.texts,
        (),
        "Paths of which neither the values nor the fact of a change is kept.",
    ),
    Row(
        "hidden",
        "list of str",
        rules.texts,
        (),
        "Paths of which the fact of a change is kept, and never the value.",
    ),
    Row(
        "delivery",
        "str or None",
        rules.optional(rules.one_of(*DELIVERIES)),
        None,
        "As `DELIVERY`, for this class.",
    ),
    Row(
        "renamed",
        "dict",
        rules.mapping_of_texts,
        rules.mapping_of_texts({}),
        "Paths as they were once, and as they are today.",
    ),
    Row("collections", "list of str", rules.texts, (), "Collections in which the documents lay once."),
    Row(
        "get_user",
        "callable, dotted path or None",
        rules.optional(rules.callable_or_path),
        None,
        "As `GET_USER`, for this class; asked first.",
    ),
    Row(
        "get_remote_addr",
        "callable, dotted path or None",
        rules.optional(rules.callable_or_path),
        None,
        "As `GET_REMOTE_ADDR`, for this class; asked first.",
    ),
    Row(
        "get_extra",
        "callable, dotted path or None",
        rules.optional(rules.callable_or_path),
        None,
        "As `GET_EXTRA`, for this class; its values go over the project's.",
    ),
    Row(
        "require_reason",
        "bool or None",
        rules.optional(rules.flag),
        None,
        "As `REQUIRE_REASON`, for this class and those below it.",
    ),
)


@dataclass(frozen=True, slots=True)
class TrackedSpec:
    """One entry of `TRACKED_DOCUMENTS` as it was written: paths are not translated yet."""

    document: str
    untracked: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    delivery: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    collections: tuple[str, ...] = ()
    get_user: Named = None
    get_remote_addr: Named = None
    get_extra: Named = None
    require_reason: bool | None = None


def read_tracked(given: Any) -> tuple[tuple[TrackedSpec, ...], list[Problem]]:
    """
    The entries and what is wrong with them. A wrong entry is left out whole: with a mistake in what is to be hidden,
    secrets would be stored.
    """
    if not isinstance(given, (list, tuple)):
        return (), [_wrong(SETTING, "expected a list of dotted paths and dicts", given)]
    specs: list[TrackedSpec] = []
    found: list[Problem] = []
    for index, entry in enumerate(given):
        spec, mistakes = _read_entry(entry, place=f"{SETTING}[{index}]")
        if spec is not None and any(spec.document == other.document for other in specs):
            mistakes = [_duplicate(spec, place=f"{SETTING}[{index}]")]
        found.extend(mistakes)
        if spec is not None and not mistakes:
            specs.append(spec)
    return tuple(specs), found


def _read_entry(entry: Any, *, place: str) -> tuple[TrackedSpec | None, list[Problem]]:
    if not isinstance(entry, (str, Mapping)):
        return None, [_wrong(place, "expected a dotted path or a dict", entry)]
    shaped = {"document": entry} if isinstance(entry, str) else entry
    if "document" not in shaped:
        return None, [_wrong(place, "expected the key 'document'", entry)]
    read, found = read_rows(ENTRY_ROWS, shaped, place=place)
    if found:
        return None, found
    spec = TrackedSpec(**read)
    both = sorted(set(spec.hidden) & set(spec.untracked))
    if both:
        return None, [_wrong(place, "expected a path to be hidden or untracked, not both", both)]
    return spec, []


def _duplicate(spec: TrackedSpec, *, place: str) -> Problem:
    message = f"{place}: {spec.document!r} has an entry already"
    return Problem(place, message, "Put everything about a class into one entry.", Kind.WRONG_ENTRY)


def _wrong(key: str, expected: str, value: Any) -> Problem:
    hint = "For example: TRACKED_DOCUMENTS = ['shop.documents.Order', {'document': 'shop.documents.Account', 'hidden': ['password']}]"
    return wrong(key, expected, value, hint=hint, kind=Kind.WRONG_ENTRY)
