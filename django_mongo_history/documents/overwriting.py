"""
A state put into an instance that somebody holds, for them to save; and what an instance says about itself meanwhile.
"""

# ruff: noqa: SLF001, BLE001 - privates are touched here so that no other has to; fields raise whatever they like

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from mongoengine.base import BaseDict, BaseList

from django_mongo_history.core import values
from django_mongo_history.documents.states import instance_of


def known_key_of(document: Any) -> Any:
    """The primary key of an instance, None where it has none; asking makes none, as it would of a sequence."""
    return document._data.get(document._meta.get("id_field"))


def overwrite(
    document: Any, state: Mapping[str, Any], present: Mapping[str, Any] | None, *, but: Container[str] = ()
) -> None:
    """
    Give an instance the values of a state, unsaved: its next save writes what differs from `present`.

    Shape: `state` and `present` (what the database holds now, None where the document is gone) have database field names.
    Bounds: the primary key and the class name stay, and the fields whose database names are in `but`. What today's
    class cannot load is left as it is. A field that the state does not have gets its default, as on any load.
    """
    document_class = type(document)
    own, loaded = document.to_mongo(), _loaded(document_class, state)
    kept = {"_id", "_cls"}
    names = {name: declared.db_field for name, declared in document_class._fields.items()}
    if document_class._dynamic:
        others = {*document._dynamic_fields, *loaded._dynamic_fields}
        names |= {name: name for name in others if name not in names}
    for name, stored in names.items():
        if stored in kept or stored in but:
            continue
        sides = (state.get(stored, _NOTHING), own.get(stored, _NOTHING))
        if present is not None and _is_same(*sides) and _is_same(sides[0], present.get(stored, _NOTHING)):
            continue
        setattr(document, name, _unbound(loaded._data.get(name)))
        document._mark_as_changed(name)  # also where Python calls the values equal: 1, 1.0 and True are not
    if present is None:
        document._created = True


_NOTHING = object()


def _loaded(document_class: type[Any], state: Mapping[str, Any]) -> Any:
    """As MongoEngine's own queries load it: references are followed on access; leniently where it cannot be."""
    try:
        return document_class._from_son(state, created=True)
    except Exception:
        return instance_of(document_class, state)


def _unbound(value: Any) -> Any:
    """Lists and dicts that do not report changes to the instance they were loaded into."""
    if isinstance(value, BaseList):
        return [_unbound(one) for one in value]
    if isinstance(value, BaseDict):
        return {key: _unbound(one) for key, one in value.items()}
    return value


def _is_same(one: Any, other: Any) -> bool:
    if one is _NOTHING or other is _NOTHING:
        return one is other
    try:
        return values.same(one, other)
    except Exception:  # what only the collection's own codec can encode
        return False
