"""
Conditions on rows as MongoEngine writes them, `path__startswith="a"` and `Q` objects, as functions of a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bson import ObjectId
from mongoengine.errors import InvalidQueryError
from mongoengine.queryset.visitor import Q, QCombination, QNode

from django_mongo_history import context

Condition = Callable[[Any], bool]

FIELDS: Final = (
    "id",
    "pk",
    "document_id",
    "document_type",
    "identity",
    "action",
    "path",
    "data",
    "created_at",
)
_KEYS: Final = ("document_id", "identity")
_MOMENT: Final = "created_at"
_NEAR: Final = timedelta(milliseconds=1)

_Operator = Callable[[Any, Any], bool]
"""Of a value and what is asked of it."""


def instant(moment: Any) -> datetime:
    """A moment in UTC; a naive one is local time. Raises: ValueError for what is no datetime."""
    if not isinstance(moment, datetime):
        raise ValueError(f"expected a datetime, got {type(moment).__name__}")  # noqa: TRY004 - as MongoEngine's fields
    return moment.astimezone(UTC)


def check_field(name: str) -> None:
    """Raises: InvalidQueryError for what is no field of a row."""
    if name not in FIELDS:
        raise InvalidQueryError(f"History has no field {name!r}; it has {', '.join(FIELDS)}")


def value_of(row: Any, name: str) -> Any:
    """A field as it is compared: moments in UTC."""
    return row.at if name == _MOMENT else getattr(row, name)


def of_names(given: Mapping[str, Any]) -> list[Condition]:
    """One condition for each name. Raises: InvalidQueryError, ValueError."""
    return [_condition(name, wanted) for name, wanted in given.items()]


def of_tree(tree: Any) -> Condition:
    """The condition of a `Q` object or of several that are combined. Raises: InvalidQueryError, ValueError."""
    if isinstance(tree, Q):
        found = of_names(tree.query)
        return lambda row: all(one(row) for one in found)
    if isinstance(tree, QCombination):
        children = [of_tree(child) for child in tree.children]
        if tree.operation == QNode.AND:
            return lambda row: all(one(row) for one in children)
        return lambda row: any(one(row) for one in children)
    raise InvalidQueryError(f"expected a Q object, got {type(tree).__name__}")


def bounds(given: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """Moments between which all lies that these names ask for, exclusive, as far as they say."""
    low = [instant(given[name]) for name in _names(("exact", "gt", "gte")) if name in given]
    high = [instant(given[name]) for name in _names(("exact", "lt", "lte")) if name in given]
    return (max(low) - _NEAR if low else None, min(high) + _NEAR if high else None)


def _names(operators: tuple[str, ...]) -> list[str]:
    return [_MOMENT, *(f"{_MOMENT}__{one}" for one in operators)]


def _condition(name: str, wanted: Any) -> Condition:
    field, *parts = name.split("__")
    check_field(field)
    operator = parts.pop() if parts and parts[-1] in _OPERATORS else "exact"
    is_turned = bool(parts) and parts[-1] == "not"
    if is_turned:
        parts.pop()
    if parts and field != "data":
        raise InvalidQueryError(
            f"{name!r}: History has no operator {parts[0]!r} and nothing lies inside of {field!r}"
        )
    holds, asked = _OPERATORS[operator], _prepared(field, operator, wanted)

    def condition(row: Any) -> bool:
        values = list(_inside(value_of(row, field), parts))
        if field in _KEYS:
            values = [_comparable(value) for value in values]
        if operator == "exists":
            return any(value is not None for value in values) is bool(asked)
        if operator in _NEGATIVE:
            return all(holds(value, asked) for value in values)
        return any(holds(value, asked) for value in values)

    return (lambda row: not condition(row)) if is_turned else condition


def _prepared(field: str, operator: str, wanted: Any) -> Any:
    """What is asked for as it is compared: moments in UTC, keys of documents and users."""
    if operator == "exists":
        return wanted
    if field == _MOMENT:
        prepare: Callable[[Any], Any] = instant
    elif field in _KEYS:
        prepare = _comparable
    else:
        return list(wanted) if operator in _OF_SEVERAL else wanted
    return [prepare(one) for one in wanted] if operator in _OF_SEVERAL else prepare(wanted)


def _comparable(key: Any) -> Any:
    """A key in the one form that two equal ones have: of a document or user its own, an ObjectId as one, not as text."""
    if key is None:
        return None
    key = getattr(key, "pk", key)
    if isinstance(key, str) and len(key) == 24 and ObjectId.is_valid(key):
        key = ObjectId(key)
    return context.comparable_key(key)


def _inside(value: Any, parts: list[str]) -> Iterator[Any]:
    """The values at a path as MongoDB finds them: through lists, of which each element counts too."""
    if not parts:
        yield value
        if isinstance(value, list):
            yield from value
        return
    head, rest = parts[0], parts[1:]
    if isinstance(value, Mapping) and head in value:
        yield from _inside(value[head], rest)
    elif isinstance(value, list):
        if head.isdecimal() and int(head) < len(value):
            yield from _inside(value[int(head)], rest)
        for one in value:
            yield from _inside(one, parts) if isinstance(one, Mapping) else ()
    else:
        yield None


def _ordered(compare: Callable[[Any, Any], bool]) -> _Operator:
    def holds(value: Any, wanted: Any) -> bool:
        try:
            return value is not None and compare(value, wanted)
        except TypeError:  # of two types, of which MongoDB compares none either
            return False

    return holds


def _text(pattern: str, flags: int = 0, *, is_pattern: bool = False) -> _Operator:
    def holds(value: Any, wanted: Any) -> bool:
        asked = wanted if is_pattern else re.escape(str(wanted))
        return isinstance(value, str) and re.search(pattern.format(asked), value, flags) is not None

    return holds


_OPERATORS: Final[dict[str, _Operator]] = {
    "exact": lambda value, wanted: bool(value == wanted),
    "ne": lambda value, wanted: bool(value != wanted),
    "in": lambda value, wanted: value in wanted,
    "nin": lambda value, wanted: value not in wanted,
    "gt": _ordered(lambda value, wanted: bool(value > wanted)),
    "gte": _ordered(lambda value, wanted: bool(value >= wanted)),
    "lt": _ordered(lambda value, wanted: bool(value < wanted)),
    "lte": _ordered(lambda value, wanted: bool(value <= wanted)),
    "exists": lambda value, wanted: (value is not None) is bool(wanted),
    "contains": _text("{}"),
    "icontains": _text("{}", re.IGNORECASE),
    "startswith": _text("^{}"),
    "istartswith": _text("^{}", re.IGNORECASE),
    "endswith": _text(r"{}\Z"),
    "iendswith": _text(r"{}\Z", re.IGNORECASE),
    "iexact": _text(r"^{}\Z", re.IGNORECASE),
    "regex": _text("{}", is_pattern=True),
    "iregex": _text("{}", re.IGNORECASE, is_pattern=True),
}
_NEGATIVE: Final = ("ne", "nin")
_OF_SEVERAL: Final = ("in", "nin")
