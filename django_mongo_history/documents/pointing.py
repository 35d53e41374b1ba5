"""
Relations: paths to the references of a class, and from there on into the classes that they point to.

Attribute or database names as in the settings, through lists without an index, `*` for any key. Knows classes alone.
"""

# ruff: noqa: SLF001 - this package is where it is done, so that no other has to

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mongoengine import fields
from mongoengine.errors import NotRegistered

from django_mongo_history.documents.classes import find_class
from django_mongo_history.documents.paths import NamePath, family_of, fields_named

Parts = tuple[str, ...]

POINTING: Final = (fields.ReferenceField, fields.LazyReferenceField, fields.CachedReferenceField)
"""The fields that name the class that they point to."""


@dataclass(frozen=True, slots=True)
class _Pointing:
    """A reference field. `to`: the classes that it may point to, None for any."""

    to: tuple[type[Any], ...] | None


@dataclass(frozen=True, slots=True)
class _Keys:
    """A dict field with a field for its values."""

    declared: Any


class _Anything:
    """What its class says nothing about."""


_ANYTHING: Final = _Anything()
_Place: TypeAlias = Any
"""Where a path has come to: `_ANYTHING`, `_Pointing`, `_Keys`, a tuple of classes, or None for what is no reference."""


def parts_of(relation: str) -> Parts:
    """The parts of a relation. Raises: ValueError for a part that no field can be called by."""
    parts = tuple(relation.split("."))
    for part in parts:
        if not part or part.startswith("$") or "\0" in part:
            raise ValueError(f"{relation!r}: {part!r} is no name of a field")
    return parts


def check_relation(document_class: type[Any], relation: str) -> None:
    """
    See that a path can lead to references, of this class or one below it, through references too.

    Raises: ValueError, with the part that no field is called by, or for what is no reference.
    """
    parts = parts_of(relation)
    _check(family_of(document_class), parts, relation)


def knows_relation(document_class: type[Any], parts: Parts) -> bool:
    """Whether a path can lead to references from this class."""
    try:
        _check(family_of(document_class), parts, ".".join(parts))
    except ValueError:
        return False
    return True


def relations_of(document_class: type[Any], *, depth: int = 3) -> list[str]:
    """
    The relations that a class declares, by attribute names: its references, those in lists, and those in embedded
    documents down to `depth` of them. What it says nothing about (dynamic fields, dicts without a field) is left out.
    """
    found: list[str] = []
    for name, declared in document_class._fields.items():
        place = _place_of(declared)
        if isinstance(place, _Pointing):
            found.append(name)
        elif isinstance(place, tuple) and depth > 1:
            below = (one for member in place for one in relations_of(member, depth=depth - 1))
            found.extend(f"{name}.{one}" for one in below)
    return list(dict.fromkeys(found))


def relation_names(document_class: type[Any], parts: Parts) -> tuple[NamePath, ...]:
    """The database names of the part of a path that lies in the document itself: up to its first reference."""
    ways = _ways(family_of(document_class), parts, ())
    return tuple(dict.fromkeys(names for names, _place, _rest in ways))


def leads_on(document_class: type[Any], parts: Parts) -> bool:
    """Whether a path goes on behind a reference."""
    return any(
        isinstance(place, _Pointing) and rest
        for _names, place, rest in _ways(family_of(document_class), parts, ())
    )


def target_of(declared: Any) -> type[Any] | None:
    """The class that a reference field names; None where it is not known."""
    try:
        found: type[Any] = declared.document_type
    except NotRegistered:
        return None
    return found


def _check(place: _Place, parts: Parts, relation: str) -> None:
    ways = list(_ways(place, parts, ()))
    owner = " or ".join(member.__name__ for member in place[:5])
    if not ways:
        missing = next(n for n in range(1, len(parts) + 1) if not list(_ways(place, parts[:n], ())))
        raise ValueError(f"{relation!r}: {owner} has no field {'.'.join(parts[:missing])!r}")
    ends = [(end, rest) for _names, end, rest in ways if _is_reference(end)]
    if not ends:
        raise ValueError(f"{relation!r}: {'.'.join(parts)!r} of {owner} is no reference")
    further = [(end.to, rest) for end, rest in ends if rest]
    if len(further) == len(ends) and all(to is not None for to, _rest in further):
        _check(_together(to for to, _rest in further), further[0][1], relation)


def _together(families: Iterator[tuple[type[Any], ...] | None]) -> tuple[type[Any], ...]:
    return tuple(dict.fromkeys(member for family in families for member in family or ()))


def _is_reference(place: _Place) -> bool:
    if isinstance(place, _Keys):
        return _is_reference(_place_of(place.declared))
    return isinstance(place, (_Pointing, _Anything))


def _ways(place: _Place, parts: Parts, names: NamePath) -> Iterator[tuple[NamePath, _Place, Parts]]:
    """Every way that a path can take through classes: its names up to a reference, what is there, and what is left."""
    if not parts or isinstance(place, _Pointing):
        yield names, place, parts
    elif isinstance(place, _Anything):
        yield (*names, *parts), place, ()
    elif isinstance(place, _Keys):
        yield from _ways(_place_of(place.declared), parts[1:], (*names, parts[0]))
    elif isinstance(place, tuple):
        found = {id(one): one for member in place for one in fields_named(member, parts[0])}
        for declared in found.values():
            yield from _ways(_place_of(declared), parts[1:], (*names, declared.db_field))
        if not found and any(member._dynamic for member in place):
            yield (*names, *parts), _ANYTHING, ()


def _place_of(declared: Any) -> _Place:
    while isinstance(declared, fields.ListField):
        declared = declared.field
    if declared is None or isinstance(declared, fields.DynamicField):
        return _ANYTHING
    if isinstance(declared, (*POINTING, fields.GenericReferenceField)):
        return _Pointing(_targets(declared))
    if isinstance(declared, fields.EmbeddedDocumentField):
        return family_of(declared.document_type)
    if isinstance(declared, fields.GenericEmbeddedDocumentField):
        return _families(declared.choices or ()) or _ANYTHING
    if isinstance(declared, fields.DictField):
        return _ANYTHING if declared.field is None else _Keys(declared.field)
    return None


def _targets(declared: Any) -> tuple[type[Any], ...] | None:
    """The classes that a reference field may point to, None for any."""
    if isinstance(declared, fields.GenericReferenceField):
        return _families([find_class(name) for name in declared.choices or ()])
    return _families([target_of(declared)])


def _families(classes: Sequence[Any]) -> tuple[type[Any], ...] | None:
    """These classes and those below them; None where one of them is not known, or none is named."""
    if not classes or not all(isinstance(one, type) for one in classes):
        return None
    return tuple(dict.fromkeys(member for one in classes for member in family_of(one)))
