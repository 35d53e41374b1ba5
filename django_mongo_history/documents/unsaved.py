"""
What a save of an instance would send to the server, found out without a trace on the instance or anywhere else.

MongoEngine's own code says what that would be, on a shadow: a copy that shares every value and no container. On the
instance itself it would number sequences, load references and wrap lists.
"""

# ruff: noqa: SLF001 - this package is where it is done, so that no other has to

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mongoengine.base import BaseDocument
from mongoengine.base.datastructures import StrictDict
from mongoengine.document import EmbeddedDocument

_SLOTS: Final = ("_created", "_dynamic_fields", "_auto_id_field", "_db_field_map")


class Sent(NamedTuple):
    """
    `query`: the key, with the shard key; empty where the document gets its key by being inserted. `update`: by
    operators, upserting; or None, and `replacement` is the whole document, inserted where there is none.
    """

    query: Mapping[str, Any]
    replacement: Mapping[str, Any] | None = None
    update: Mapping[str, Any] | None = None


def unsaved(document: Any) -> Sent | None:
    """
    What `document.save()` would send now; None where that is nothing.

    Neither `clean()` nor validation nor signals run. A number that a sequence would give is left out.
    Raises: what MongoEngine raises for values that cannot be stored.
    """
    shadow = _shadow(document)
    stored = shadow.to_mongo()
    if stored.get("_id") is None:
        stored.pop("_id", None)
        return Sent({}, stored)
    query = shadow._integrate_shard_key(stored, {"_id": stored["_id"]})
    if shadow._created:
        return Sent(query, stored)
    update = shadow._get_update_doc()
    return Sent(query, update=update) if update else None


def _shadow(document: Any) -> Any:
    """The same document in containers of its own; uninitialised, so that looking at its fields does nothing more."""
    document_class: Any = type(document)
    shadow = document_class.__new__(document_class)
    shadow.__dict__.update(document.__dict__)
    for name in _SLOTS:
        if hasattr(document, name):
            object.__setattr__(shadow, name, getattr(document, name))
    if hasattr(document, "_changed_fields"):
        object.__setattr__(shadow, "_changed_fields", list(document._changed_fields))
    if isinstance(document, EmbeddedDocument):
        object.__setattr__(shadow, "_instance", None)
    object.__setattr__(shadow, "_initialised", False)
    object.__setattr__(shadow, "_data", _own_values(document._data))
    unnumbered = {
        name: _without_numbers(declared)
        for name, declared in document._fields.items()
        if declared._auto_gen and document._data.get(name) is None
    }
    if unnumbered:
        object.__setattr__(shadow, "_fields", {**document._fields, **unnumbered})
    return shadow


def _own_values(values: Any) -> Any:
    own = copy.copy(values) if isinstance(values, StrictDict) else {}
    for name in values:
        own[name] = _own(values[name])
    return own


def _own(value: Any) -> Any:
    """A value in containers of its own. Documents that are referred to are not contained."""
    if isinstance(value, BaseDocument):
        return _shadow(value) if isinstance(value, EmbeddedDocument) else value
    if isinstance(
        value, dict
    ):  # a list or dict of MongoEngine's wraps what is taken out of it, so not by index
        return {name: _own(inner) for name, inner in dict.items(value)}
    if isinstance(value, (list, tuple)):
        return [_own(inner) for inner in value]
    return value


def _without_numbers(declared: Any) -> Any:
    quiet = copy.copy(declared)
    quiet._auto_gen = False
    return quiet
