"""
Documents of a moment: instances whose references lead to documents of that same moment, once they are looked at.

MongoEngine's descriptors ask the fields of an instance whether to dereference, and then look for the value again: it is
there that the documents of the moment are put. What is never looked at is never read.
"""

# ruff: noqa: SLF001 - this package is where it is done, so that no other has to

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

from bson import DBRef
from mongoengine import EmbeddedDocument, fields
from mongoengine.base import BaseDict, BaseDocument, BaseList, LazyReference
from mongoengine.errors import DoesNotExist

from django_mongo_history.documents import relations
from django_mongo_history.documents.classes import class_count
from django_mongo_history.documents.paths import family_of
from django_mongo_history.documents.relations import Reference

Fetch = Callable[[Sequence[Reference]], list[Any]]
"""The documents that references lead to, None for those that lead nowhere. Keys are as Python sees them."""

_LAZY: Final = (fields.LazyReferenceField, fields.GenericLazyReferenceField)
_SINGLE: Final = (fields.ReferenceField, fields.CachedReferenceField, fields.GenericReferenceField)
_PLAIN: Final = (type(None), str, int, float, bytes, datetime)
_MARK: Final = "_history_reference"
_Change = Callable[[Reference, Any], Any]
_made: dict[type[Any], type[Any]] = {}
_cached_in: WeakKeyDictionary[type[Any], tuple[bool, int]] = WeakKeyDictionary()


class LazyReferenceThen(LazyReference):  # type: ignore[misc]
    """A lazy reference that fetches the document as it was at its moment."""

    __slots__ = ("_fetch_then",)

    def __init__(self, document_type: Any, pk: Any, *, passthrough: bool, fetch: Fetch) -> None:
        super().__init__(document_type, pk, passthrough=passthrough)
        self._fetch_then = fetch

    def fetch(self, force: bool = False) -> Any:  # noqa: FBT001, FBT002 - MongoEngine's signature
        found = None if force else self._cached_doc  # type: ignore[has-type]
        if found is None:
            reference = Reference(self.document_type, self.document_type._class_name, self.pk)
            found = _one(reference, self._fetch_then)
            self._cached_doc = found  # type: ignore[misc]
        return found


def lead(document: Any, fetch: Fetch) -> None:
    """
    Let the references of an instance, and of the documents embedded in it, lead to what `fetch` gives.

    As with MongoEngine, access to a single reference that leads nowhere raises DoesNotExist, and in lists and maps it
    stays what is stored. Left alone are fields of dynamic documents that their class does not declare.
    """
    if "_fields" not in vars(
        document
    ):  # MongoEngine makes some embedded documents without fields of their own
        document._fields = copy.deepcopy(document._fields)
    for name, declared in list(document._fields.items()):
        value = document._data.get(name)
        if not isinstance(value, _PLAIN):
            _lead(document, declared, value, fetch)


def placeholder(document_class: type[Any], cached: Mapping[str, Any]) -> Any:
    """What a cached reference is until somebody looks at it: a document of what was cached, made without a query."""
    document = document_class._from_son(dict(cached), _auto_dereference=False, created=True)
    reference = Reference(type(document), type(document)._class_name, document.pk)
    object.__setattr__(document, _MARK, reference)
    return document


def without_fetching(
    document_class: type[Any], state: Mapping[str, Any], make: Callable[[Any, Any], Any]
) -> dict[str, Any]:
    """
    A state in which cached references are what `make(class, cached state)` gives: MongoEngine fetches them on loading.

    `make` may give the cached state back. Only what lies in declared fields is seen.
    """
    chosen = relations.class_of(document_class, state)
    if not _has_cached(chosen):
        return dict(state)
    by_name = {declared.db_field: declared for declared in chosen._fields.values()}
    return {name: _replaced(by_name.get(name), value, make) for name, value in state.items()}


def _replaced(declared: Any, value: Any, make: Callable[[Any, Any], Any]) -> Any:
    if isinstance(declared, fields.CachedReferenceField) and isinstance(value, Mapping) and "_id" in value:
        return make(declared.document_type, value)
    if isinstance(value, list) and isinstance(declared, fields.ListField):
        return [_replaced(declared.field, one, make) for one in value]
    if isinstance(value, Mapping) and isinstance(declared, fields.DictField):
        return {key: _replaced(declared.field, one, make) for key, one in value.items()}
    if isinstance(value, Mapping) and isinstance(declared, fields.EmbeddedDocumentField):
        return without_fetching(declared.document_type, value, make)
    return value


def _has_cached(document_class: type[Any]) -> bool:
    known, count = _cached_in.get(document_class, (False, -1))
    if count != class_count():  # classes that are imported late may be embedded, too
        known = any(_leads_to_cached(declared, set()) for declared in document_class._fields.values())
        _cached_in[document_class] = known, class_count()
    return known


def _leads_to_cached(declared: Any, seen: set[type[Any]]) -> bool:
    while isinstance(declared, (fields.ListField, fields.DictField)):
        declared = declared.field
    if isinstance(declared, fields.EmbeddedDocumentField):
        fresh = [one for one in family_of(declared.document_type) if one not in seen]
        seen.update(fresh)
        return any(_leads_to_cached(one, seen) for member in fresh for one in member._fields.values())
    return isinstance(declared, fields.CachedReferenceField)


def _lead(document: Any, declared: Any, value: Any, fetch: Fetch) -> None:
    inner = declared
    while isinstance(inner, (fields.ListField, fields.DictField)):
        inner = inner.field
    if isinstance(inner, _LAZY) and (inner is declared or isinstance(inner, fields.LazyReferenceField)):
        document._data[declared.name] = _mapped(inner, value, functools.partial(_lazy, inner, fetch))
        return
    for embedded in _embedded(value):
        lead(embedded, fetch)
    if isinstance(declared, _SINGLE) or _references(inner, value):
        declared.__class__ = _leading(type(declared))
        declared.then = weakref.ref(document), fetch


def _lazy(declared: Any, fetch: Fetch, reference: Reference, value: Any) -> Any:
    if reference.document_class is None:
        return value
    return LazyReferenceThen(
        reference.document_class, reference.key, passthrough=declared.passthrough, fetch=fetch
    )


def _embedded(value: Any) -> list[Any]:
    if isinstance(value, EmbeddedDocument):
        return [value]
    if isinstance(value, (list, tuple)):
        return [one for part in value for one in _embedded(part)]
    return [one for part in value.values() for one in _embedded(part)] if isinstance(value, dict) else []


class _Leading:
    """What a field of one instance is made to be, so that access leads to the documents of its moment."""

    then: tuple[Callable[[], Any], Fetch]

    @property
    def _auto_dereference(self) -> bool:
        document = self.then[0]()
        if document is not None and not self._no_dereference_context_is_set:  # type: ignore[attr-defined]
            _resolve(document, self, self.then[1])
        return False


def _leading(field_class: type[Any]) -> type[Any]:
    """The class of fields that is this one and leads; made once."""
    if issubclass(field_class, _Leading):
        return field_class
    if field_class not in _made:
        made = type(field_class.__name__, (_Leading, field_class), {"__module__": field_class.__module__})
        _made[field_class] = made
    return _made[field_class]


def _resolve(document: Any, declared: Any, fetch: Fetch) -> None:
    value = document._data.get(declared.name)
    if isinstance(declared, _SINGLE):
        reference = _reference(declared, value)
        if reference is not None:
            document._data[declared.name] = _one(reference, fetch)
        return
    if getattr(value, "_dereferenced", False):
        return
    inner = declared
    while isinstance(inner, (fields.ListField, fields.DictField)):
        inner = inner.field
    wanted = _references(inner, value)
    answers = iter(fetch(wanted) if wanted else ())
    led = _mapped(inner, value, lambda _reference, stored: _or_stored(next(answers), stored))
    wrapped = (BaseDict if isinstance(led, dict) else BaseList)(led, document, declared.name)
    wrapped._dereferenced = True
    document._data[declared.name] = wrapped


def _or_stored(found: Any, stored: Any) -> Any:
    return stored if found is None else found


def _one(reference: Reference, fetch: Fetch) -> Any:
    (found,) = fetch([reference])
    if found is None:
        raise DoesNotExist(
            f"{reference.class_name} {reference.key!r} did not exist at the moment of the document that refers to it"
        )
    return found


def _references(inner: Any, value: Any) -> list[Reference]:
    found: list[Reference] = []

    def collect(reference: Reference, stored: Any) -> Any:
        found.append(reference)
        return stored

    _mapped(inner, value, collect)
    return found


def _mapped(inner: Any, value: Any, change: _Change) -> Any:
    """A value as Python sees it, with its references changed; `inner` is the field of what is no list and no dict."""
    reference = _reference(inner, value)
    if reference is not None:
        return change(reference, value)
    if isinstance(value, (list, tuple)):
        return [_mapped(inner, one, change) for one in value]
    if isinstance(value, dict):
        return {key: _mapped(inner, one, change) for key, one in value.items()}
    return value


def _reference(inner: Any, value: Any) -> Reference | None:
    if isinstance(value, LazyReferenceThen):
        return None
    if isinstance(value, BaseDocument):
        marked: Reference | None = vars(value).get(_MARK)
        return marked
    if isinstance(value, DBRef) or (isinstance(value, Mapping) and "_ref" in value):
        found = relations.reference_in(inner, value)
        # Of a null in a list MongoEngine makes a reference to nothing.
        return None if found is None or found.key is None else found
    return None
