"""
From raw states to documents and keys, and back: as MongoEngine would read them, or leniently where it would not.
"""

# ruff: noqa: SLF001, BLE001 - privates are touched here so that no other has to; fields raise whatever they like

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from mongoengine import FileField, ObjectIdField, StringField
from mongoengine.errors import ValidationError

from django_mongo_history.core import values
from django_mongo_history.core.model import State
from django_mongo_history.documents.classes import find_class
from django_mongo_history.documents.leading import Fetch, lead, placeholder, without_fetching
from django_mongo_history.documents.paths import is_document_class
from django_mongo_history.documents.relations import Reference, codec_options_of


def user_values(document: bytes, codec_options: CodecOptions[Any]) -> State:
    """A state as the collection's own codec options read it, in plain dicts."""
    return bson.decode(document, codec_options.with_options(document_class=dict))


def exact_id(document_class: type[Any], key: Any, codec_options: CodecOptions[Any]) -> Any:
    """
    A primary key as it lies in the database.

    Raises: ValueError where the class's primary key cannot have this value.
    """
    stored = _to_database(document_class, key)
    try:
        whole = bson.encode({"v": stored}, codec_options=codec_options)
    except (BSONError, ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"{key!r} is no primary key of {document_class.__name__}: {error}") from error
    return values.decode(whole)["v"]


def parse_id(document_class: type[Any], text: str) -> Any:
    """
    A primary key from the text of a command line.

    Raises: ValueError where it is none of this class.
    """
    declared = _id_field(document_class)
    if declared is None:
        return text
    try:
        key = declared.to_python(text)
        declared.validate(key)
    except Exception as error:
        raise ValueError(f"{text!r} is no primary key of {document_class.__name__}: {error}") from error
    return key


def spelled_id(document_class: type[Any], key: Any) -> Any:
    """
    A key that was kept elsewhere as the class's documents have it: ObjectIds that were kept as texts, and texts as
    ObjectIds. Any other key stays as it is.
    """
    declared = _id_field(document_class)
    if isinstance(declared, ObjectIdField) and isinstance(key, str) and ObjectId.is_valid(key):
        return ObjectId(key)
    if isinstance(declared, StringField) and isinstance(key, ObjectId):
        return str(key)
    return key


def spellings_of(document_class: type[Any], document_id: Any) -> list[Any]:
    """The keys that `spelled_id` takes for this one: itself first. Texts of ObjectIds in small or in capital letters."""
    declared = _id_field(document_class)
    if isinstance(declared, ObjectIdField) and isinstance(document_id, ObjectId):
        return list(dict.fromkeys([document_id, str(document_id), str(document_id).upper()]))
    if isinstance(declared, StringField) and isinstance(document_id, str) and ObjectId.is_valid(document_id):
        found = ObjectId(document_id)
        return [document_id, found] if str(found) == document_id else [document_id]
    return [document_id]


def primary_key_of(document: Any) -> Any:
    """The primary key of an instance, None where it has none yet."""
    return document.pk


def collection_of(document: Any) -> Any:
    """The collection that an instance is saved to: its class's, or the one that it was switched to."""
    return document._get_collection()


def instance_of(document_class: type[Any], state: Mapping[str, Any], fetch: Fetch | None = None) -> Any:
    """
    An unsaved instance of this state, of the class that its `_cls` names where that class is known.

    What today's class cannot load is left out instead of failing: the state itself has it. Nothing is queried; with
    `fetch` its references lead to what that gives, once they are looked at.
    """
    found = find_class(state["_cls"]) if isinstance(state.get("_cls"), str) else None
    chosen = found if found is not None and issubclass(found, document_class) else document_class
    try:
        document = _from_son(chosen, state)
    except Exception:
        known = {declared.db_field for declared in chosen._fields.values()} | {"_id"}
        lenient = {
            name: value for name, value in state.items() if name in known and _loads(chosen, name, value)
        }
        document = _from_son(chosen, {**lenient, **({"_cls": chosen._class_name} if "_cls" in state else {})})
    if fetch is not None:
        lead(document, fetch)
    return document


def load_problem(
    document_class: type[Any], state: Mapping[str, Any], is_coming: Callable[[Reference], bool] | None = None
) -> str | None:
    """
    Why today's class cannot load this state; None where it can.

    `is_coming` says of what a cached reference points to that it will be there: MongoEngine fetches it on loading.
    """
    name = state.get("_cls")
    if isinstance(name, str) and find_class(name) is None:
        return f"its class {name!r} is not known any more"
    chosen = find_class(name) if isinstance(name, str) else document_class
    if chosen is None or not is_document_class(chosen):
        return "its class is not known any more"

    def made(target: type[Any], cached: Any) -> Any:
        document = placeholder(target, cached)
        key = exact_id(target, cached["_id"], codec_options_of(target))
        is_there = is_coming is not None and is_coming(Reference(target, target._class_name, key))
        return document if is_there else cached

    try:
        # As MongoEngine's own queries load it. Without references being followed on access it would copy every field
        # of the class for each document, and nobody accesses this one.
        chosen._from_son(state if is_coming is None else without_fetching(chosen, state, made), created=True)
    except Exception as error:
        return f"today's class cannot load it: {' '.join(str(error).split())}"
    return None


def state_key(document_class: type[Any], name: str) -> str:
    """The database name of a field, whichever of both names is given."""
    declared = document_class._fields.get("id" if name == "pk" and "id" in document_class._fields else name)
    if name == "pk":
        return "_id"
    return str(declared.db_field) if declared is not None else name


def missing_files(document_class: type[Any], state: Mapping[str, Any], database: Any) -> list[str]:
    """The file fields whose GridFS file is gone: their content cannot come back."""
    missing = []
    for name, declared in document_class._fields.items():
        value = state.get(declared.db_field)
        if isinstance(declared, FileField) and value is not None:
            files = database[f"{declared.collection_name}.files"]
            if files.find_one({"_id": value}, {"_id": 1}) is None:
                missing.append(name)
    return missing


def _from_son(document_class: type[Any], state: Mapping[str, Any]) -> Any:
    fetched = without_fetching(document_class, state, placeholder)
    document = document_class._from_son(fetched, _auto_dereference=False, created=True)
    document._created = True
    return document


def _loads(document_class: type[Any], name: str, value: Any) -> bool:
    try:
        _from_son(document_class, {name: value})
    except Exception:
        return False
    return True


def _id_field(document_class: type[Any]) -> Any:
    name = document_class._meta.get("id_field")
    return None if name is None else document_class._fields[name]


def _to_database(document_class: type[Any], key: Any) -> Any:
    declared = _id_field(document_class)
    if declared is None:
        return key
    try:
        declared.validate(key)
    except ValidationError:
        key = _converted(declared, key, document_class)
    except Exception:  # a validation that needs a document, for one
        return key
    return declared.to_mongo(key)


def _converted(declared: Any, key: Any, document_class: type[Any]) -> Any:
    try:
        converted = declared.to_python(key)
        declared.validate(converted)
    except Exception as error:
        raise ValueError(f"{key!r} is no primary key of {document_class.__name__}: {error}") from error
    return converted
