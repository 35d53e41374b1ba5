"""
What MongoEngine knows about a class: its fields and their database names, its identity, its database.
"""

# ruff: noqa: SLF001 - this module is where it is done, so that no other has to

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import mongoengine
from mongoengine import fields
from mongoengine.base import BaseField, GeoJsonBaseField

NamePath = tuple[str, ...]
"""Database names from the outside in. Lists leave no part; `*` stands for any key."""

ANY_KEY: Final = "*"

_LEAVES: Final = (
    fields.StringField,
    fields.IntField,
    fields.FloatField,
    fields.DecimalField,
    fields.Decimal128Field,
    fields.BooleanField,
    fields.DateTimeField,
    fields.ObjectIdField,
    fields.ReferenceField,
    fields.GenericReferenceField,
    fields.LazyReferenceField,
    fields.BinaryField,
    fields.FileField,
    fields.SequenceField,
    fields.UUIDField,
    fields.EnumField,
)
_CLASS_FIELD: Final = "_cls"


class _Anything:
    """The interior of a value that its class says nothing about."""


_ANYTHING: Final = _Anything()
_Inside: TypeAlias = Any
"""Where a path has come to: `_ANYTHING`, a tuple of classes whose fields can be named, or a single field."""


def translate_path(document_class: type[Any], path: str) -> NamePath:
    """
    The database names of a path: `"stats.hits"` to `("s", "h")`.

    Parts are attribute names, or database names where no attribute is named so. Fields of subclasses count too, for
    their documents lie in the same collection. Inside of dynamic documents, and of dicts without a field, every name
    is taken as it is.
    Raises: ValueError with the reason.
    """
    inside: _Inside = family_of(document_class)
    names: list[str] = []
    for part in path.split("."):
        if not part or part.startswith("$") or "\0" in part:
            raise ValueError(f"{path!r}: {part!r} is no name of a field")
        name, inside = _step(inside, part, path=path)
        names.append(name)
    return tuple(names)


def binary_fields(document_class: type[Any]) -> frozenset[str]:
    """The database names of fields of the class, and of those below it, that hold bytes."""
    return frozenset(
        declared.db_field
        for one in family_of(document_class)
        for declared in one._fields.values()
        if isinstance(declared, fields.BinaryField)
    )


def attribute_path(document_class: type[Any], path: Sequence[str | int]) -> str:
    """
    The attribute names of a path of database names and list indexes, joined by dots: `("s", 0, "h")` to `"stats.0.hits"`.

    What no field is stored as, or fields of several names in subclasses, keeps its database name.
    """
    inside: _Inside = family_of(document_class)
    names: list[str] = []
    for part in path:
        if isinstance(part, int):
            names.append(str(part))
            continue
        name, inside = _attribute_step(inside, part)
        names.append(name)
    return ".".join(names)


def identity_paths(document_class: type[Any]) -> tuple[NamePath, ...]:
    """What a history cannot do without: the primary key, the class name, and the shard key."""
    shard_key = document_class._meta.get("shard_key") or ()
    return (("_id",), (_CLASS_FIELD,), *(translate_path(document_class, part) for part in shard_key))


def is_identity(document_class: type[Any], path: NamePath) -> bool:
    """Whether a path is, holds, or lies in the primary key, a class name (of embedded documents too), or the shard key."""
    return path[-1] == _CLASS_FIELD or any(_overlap(path, other) for other in identity_paths(document_class))


def is_document_class(candidate: Any) -> bool:
    """Whether it is a class whose documents lie in a collection, their own or their base's."""
    is_document = isinstance(candidate, type) and issubclass(candidate, mongoengine.Document)
    return is_document and not candidate._meta.get("abstract", False)


def is_time_series(document_class: type[Any]) -> bool:
    return bool(document_class._meta.get("timeseries"))


def field_names(document_class: type[Any]) -> frozenset[str]:
    """The attribute names of all its fields and its subclasses', without the primary key's."""
    return frozenset(
        name
        for member in family_of(document_class)
        for name, declared in member._fields.items()
        if name not in (_CLASS_FIELD, member._meta.get("id_field"))
    )


def database_of(document_class: type[Any]) -> Any:
    """The PyMongo database that its documents lie in; connects, if that is still to be done."""
    return document_class._get_db()


def _step(inside: _Inside, part: str, *, path: str) -> tuple[str, _Inside]:
    """The database name of one part, and what lies inside of it."""
    if isinstance(inside, _Anything):
        return part, _ANYTHING
    if isinstance(inside, tuple):
        return _field_step(inside, part, path=path)
    if isinstance(inside, fields.DictField):
        return part, _interior(inside.field)
    raise ValueError(f"{path!r}: nothing lies inside of the field before {part!r}")


def _field_step(family: tuple[type[Any], ...], part: str, *, path: str) -> tuple[str, _Inside]:
    # Subclasses share the field objects that they inherit.
    found = list({id(field): field for member in family for field in fields_named(member, part)}.values())
    if not found:
        if any(member._dynamic for member in family):
            return part, _ANYTHING
        if part.isdigit():
            raise ValueError(f"{path!r}: {part!r} is no field; paths go through lists without an index")
        raise ValueError(f"{path!r}: {_owner(family)} has no field {part!r}")
    names = {declared.db_field for declared in found}
    if len(names) > 1:
        raise ValueError(f"{path!r}: subclasses store {part!r} as {sorted(names)}; give the database name")
    return names.pop(), _union([_interior(declared) for declared in found])


def _attribute_step(inside: _Inside, stored: str) -> tuple[str, _Inside]:
    """The attribute name of one part, and what lies inside of it."""
    if isinstance(inside, fields.DictField):
        return stored, _interior(inside.field)
    if not isinstance(inside, tuple):
        return stored, _ANYTHING
    found = [
        (name, declared)
        for member in inside
        for name, declared in member._fields.items()
        if declared.db_field == stored
    ]
    names = {name for name, _declared in found}
    if not found:
        return stored, _ANYTHING
    return names.pop() if len(names) == 1 else stored, _union(
        [_interior(declared) for _name, declared in found]
    )


def _union(interiors: list[_Inside]) -> _Inside:
    """What may lie inside where subclasses declare one name each in their own way."""
    if all(isinstance(inside, tuple) for inside in interiors):
        return tuple(dict.fromkeys(member for family in interiors for member in family))
    return _ANYTHING if any(isinstance(inside, _Anything) for inside in interiors) else interiors[0]


def fields_named(member: type[Any], part: str) -> Iterator[BaseField]:
    """The fields that a class has by this attribute name, else by this database name."""
    declared = member._fields
    if part in declared:
        yield declared[part]
    elif part == "pk" and member._meta.get("id_field"):
        yield declared[member._meta["id_field"]]
    else:
        yield from (candidate for candidate in declared.values() if candidate.db_field == part)


def _interior(declared: Any) -> _Inside:
    """What lies inside of a field's value: through lists, for these leave no part in a path."""
    while isinstance(declared, fields.ListField):
        declared = declared.field
    if declared is None or isinstance(declared, fields.DynamicField):
        return _ANYTHING
    if isinstance(declared, (fields.EmbeddedDocumentField, fields.CachedReferenceField)):
        return family_of(declared.document_type)
    if isinstance(declared, fields.GenericEmbeddedDocumentField):
        return _choices(declared)
    is_known = isinstance(declared, (fields.DictField, *_LEAVES)) and not isinstance(
        declared, GeoJsonBaseField
    )
    return declared if is_known else _ANYTHING


def _choices(declared: Any) -> _Inside:
    """The classes that a generic embedded field may hold; without choices it may be any."""
    classes = [choice for choice in declared.choices or () if isinstance(choice, type)]
    members = tuple(member for choice in classes for member in family_of(choice))
    return members if members and len(classes) == len(declared.choices) else _ANYTHING


def family_of(document_class: type[Any]) -> tuple[type[Any], ...]:
    """The class and all below it."""
    below = (member for subclass in document_class.__subclasses__() for member in family_of(subclass))
    return tuple(dict.fromkeys((document_class, *below)))


def _owner(family: Sequence[type[Any]]) -> str:
    return " or ".join(member.__name__ for member in family[:5])


def _overlap(path: NamePath, other: NamePath) -> bool:
    return all(ANY_KEY in (one, two) or one == two for one, two in zip(path, other, strict=False))
