"""
What documents point to: which documents the references of a state name.

Works on states as they lie in the database, with every kind of reference that MongoEngine has. Nothing is fetched but
by `live_document`.
"""

# ruff: noqa: SLF001 - this package is where it is done, so that no other has to

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import bson
from bson import DBRef
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions
from mongoengine import fields
from mongoengine.base import LazyReference

from django_mongo_history.core import values
from django_mongo_history.core.model import State
from django_mongo_history.documents.classes import find_class, find_collection_class
from django_mongo_history.documents.paths import ANY_KEY, fields_named
from django_mongo_history.documents.pointing import POINTING, Parts, target_of

Shape: TypeAlias = Any
"""What a relation holds: one leaf, None where it is empty, a list of shapes for a list, a dict for a map."""


@dataclass(frozen=True, slots=True)
class Reference:
    """
    Which document a reference names.

    `document_class`: None where it is not known any more; `class_name`: what the reference, or its field, calls it.
    `key`: the `_id`. `collection`: where the reference itself says so, else None: the class's own.
    """

    document_class: type[Any] | None
    class_name: str
    key: Any
    collection: str | None = None


@dataclass(frozen=True, slots=True)
class Pointer:
    """A reference in a state, and the parts of the path that go on in the document that it points to."""

    reference: Reference
    rest: Parts = ()


def pointers_in(document_class: type[Any], state: State, parts: Parts) -> Shape:
    """
    What a relation holds in a state: `Pointer` as leaves, None where it is empty or holds no reference.

    Shape: that of the state. Lists are lists, None inside kept; a map that is named as a whole, or by `*`, is a dict.
    The class is that of the state's `_cls` where it has one that is known.
    """
    declared = _field_of(class_of(document_class, state), parts[0])
    name = parts[0] if declared is None else declared.db_field
    return _pointers(declared, state.get(name), parts[1:])


def leaves(shape: Shape) -> Iterator[Any]:
    """The leaves of a shape, in order."""
    if isinstance(shape, (list, tuple)):
        for one in shape:
            yield from leaves(one)
    elif isinstance(shape, dict):
        for one in shape.values():
            yield from leaves(one)
    elif shape is not None:
        yield shape


def filled(shape: Shape, answers: Iterator[Any]) -> Shape:
    """The same shape with these in the place of its leaves."""
    if isinstance(shape, (list, tuple)):
        return [filled(one, answers) for one in shape]
    if isinstance(shape, dict):
        return {key: filled(one, answers) for key, one in shape.items()}
    return None if shape is None else next(answers)


def reference_in(declared: Any, value: Any) -> Reference | None:
    """The reference that a value is, by its field or by what it says of itself; None for what is none."""
    if isinstance(value, LazyReference):
        name = str(value.document_type._class_name)
        return Reference(value.document_type, name, value.pk, value.collection)
    if isinstance(value, Mapping) and "_ref" in value and "_cls" in value:
        target = _as_dbref(value["_ref"])
        key, collection = (target.id, target.collection) if target else (value["_ref"], None)
        return Reference(find_class(str(value["_cls"])), str(value["_cls"]), key, collection)
    dbref = _as_dbref(value)
    if dbref is not None:
        return _of_dbref(declared, dbref)
    if isinstance(declared, fields.CachedReferenceField):
        is_cached = isinstance(value, Mapping) and "_id" in value
        return _declared(declared, value["_id"], None) if is_cached else None
    return _declared(declared, value, None) if isinstance(declared, POINTING) else None


def class_of(document_class: type[Any], state: Mapping[str, Any]) -> type[Any]:
    """The class that a state's `_cls` names where it is known, else the one given."""
    name = state.get("_cls")
    found = find_class(name) if isinstance(name, str) else None
    return found or document_class


def namespace_of(reference: Reference) -> str:
    """`database.collection` of the document that it names."""
    found = reference.document_class
    if found is None:
        return reference.collection or reference.class_name
    return f"{found._get_db().name}.{reference.collection or found._get_collection_name()}"


def shown_key(reference: Reference) -> Any:
    """Its key as the codec options of its class's collection read it."""
    found = reference.document_class
    if found is None:
        return reference.key
    options = codec_options_of(found).with_options(document_class=dict)
    return bson.decode(values.encode({"v": reference.key}), options)["v"]


def codec_options_of(document_class: type[Any]) -> CodecOptions[Any]:
    """How the documents of a class are read; mongomock has no options."""
    found = document_class._get_collection().codec_options
    return found if isinstance(found, CodecOptions) else DEFAULT_CODEC_OPTIONS


def live_document(reference: Reference) -> tuple[Any, State] | None:
    """
    The document that it names as it is now, loaded as MongoEngine would, and its state; None where there is none.

    Cost: one query.
    """
    found = reference.document_class
    if found is None:
        return None
    collection = found._get_collection()
    if reference.collection not in (None, collection.name):
        collection = found._get_db()[reference.collection]
    son = collection.find_one({"_id": {"$eq": reference.key}})
    if son is None:
        return None
    state = values.decode(bson.encode(son, codec_options=codec_options_of(found)))
    return found._from_son(son), state


def _field_of(document_class: type[Any], part: str) -> Any:
    return next(fields_named(document_class, part), None)


def _pointers(declared: Any, value: Any, parts: Parts) -> Shape:
    if isinstance(value, list):
        inner = declared.field if isinstance(declared, fields.ListField) else None
        return [_pointers(inner, one, parts) for one in value]
    reference = None if value is None else reference_in(declared, value)
    if reference is not None:
        return Pointer(reference, parts)
    if not isinstance(value, Mapping):
        return None
    embedded = embedded_class(declared, value)
    if embedded is not None:
        return pointers_in(embedded, dict(value), parts) if parts else None
    inner = declared.field if isinstance(declared, fields.DictField) else None
    if parts and parts[0] != ANY_KEY:
        return _pointers(inner, value.get(parts[0]), parts[1:])
    return {key: _pointers(inner, one, parts[1:]) for key, one in value.items()}


def embedded_class(declared: Any, value: Mapping[str, Any]) -> type[Any] | None:
    """The class of an embedded document, declared or by its `_cls`; None for a plain dict."""
    if isinstance(declared, fields.EmbeddedDocumentField):
        return class_of(declared.document_type, value)
    name = value.get("_cls")
    return find_class(name) if isinstance(name, str) else None


def _as_dbref(value: Any) -> DBRef | None:
    if isinstance(value, DBRef):
        return value
    if isinstance(value, Mapping) and "$ref" in value and "$id" in value:
        further = {key: one for key, one in value.items() if key not in ("$ref", "$id", "$db")}
        return DBRef(value["$ref"], value["$id"], value.get("$db"), further)
    return None


def _of_dbref(declared: Any, dbref: DBRef) -> Reference:
    name = getattr(dbref, "cls", None)
    if isinstance(name, str):
        return Reference(find_class(name), name, dbref.id, dbref.collection)
    if isinstance(declared, POINTING):
        return _declared(declared, dbref.id, dbref.collection)
    found = find_collection_class(dbref.collection)
    return Reference(found, found._class_name if found else dbref.collection, dbref.id, dbref.collection)


def _declared(declared: Any, key: Any, collection: str | None) -> Reference:
    target = target_of(declared)
    name = str(declared.document_type_obj) if target is None else str(target._class_name)
    return Reference(target, name, key, collection)
