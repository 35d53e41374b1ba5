"""
Texts into what the fields of a class hold: for states that went through JSON or a table of texts on their way here.
"""

# ruff: noqa: SLF001 - this package is where it is done, so that no other has to

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from mongoengine import fields

from django_mongo_history.core import values
from django_mongo_history.documents.paths import family_of

_FITTED: Final = (
    fields.DateTimeField,
    fields.ObjectIdField,
    fields.ReferenceField,
    fields.LazyReferenceField,
    fields.UUIDField,
    fields.DecimalField,
    fields.Decimal128Field,
    fields.IntField,
    fields.FloatField,
)
ReadMoment = Callable[[str], datetime | None]


class Fitting:
    """
    Fits values to the fields of one class. `read_moment` reads the texts of dates, None where one is none.

    Only texts are touched, and only where a field holds something else that the whole text is one of: a text that its
    field cannot read stays as it is. What the class does not declare stays as it is, too.
    """

    def __init__(
        self, document_class: type[Any], codec_options: CodecOptions[Any], read_moment: ReadMoment
    ) -> None:
        self._class = document_class
        self._codec_options = codec_options
        self._read_moment = read_moment
        self._known: dict[tuple[type[Any], str], Any] = {}

    def state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A whole document; its `_cls` says which of the classes below counts."""
        found: dict[str, Any] = self._document(self._class, state)
        return found

    def value(self, path: Sequence[str | int], value: Any) -> Any:
        """What lies at a path of database names and indexes."""
        found: Any = self._class
        for part in path:
            found = self._step(found, part)
            if found is None:
                return value
        return self._document(found, value) if isinstance(found, type) else self._field(found, value)

    def _step(self, inside: Any, part: str | int) -> Any:
        if isinstance(inside, fields.EmbeddedDocumentField):
            inside = inside.document_type
        if isinstance(inside, type):
            return None if isinstance(part, int) else self._declared(inside, part)
        if isinstance(inside, fields.ListField):
            is_index = isinstance(part, int) or part.isdigit()
            return inside.field if is_index else self._step(inside.field, part)
        return inside.field if isinstance(inside, fields.DictField) else None

    def _document(self, document_class: type[Any], value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        chosen = _chosen(document_class, value)
        return {name: self._field(self._declared(chosen, name), inner) for name, inner in value.items()}

    def _field(self, declared: Any, value: Any) -> Any:
        if isinstance(declared, fields.ListField) and isinstance(value, list):
            return [self._field(declared.field, one) for one in value]
        if isinstance(declared, fields.EmbeddedDocumentField):
            return self._document(declared.document_type, value)
        if isinstance(declared, fields.DictField) and isinstance(value, Mapping):
            return {name: self._field(declared.field, one) for name, one in value.items()}
        if isinstance(value, str) and isinstance(declared, _FITTED):
            return self._text(declared, value)
        return value

    def _declared(self, document_class: type[Any], name: str) -> Any:
        """The field that is stored by this name, of the class or of the first below it that has one."""
        key = document_class, name
        if key not in self._known:
            declared = (one for member in family_of(document_class) for one in member._fields.values())
            self._known[key] = next((one for one in declared if one.db_field == name), None)
        return self._known[key]

    def _text(self, declared: Any, text: str) -> Any:
        try:
            if isinstance(declared, fields.DateTimeField):
                found: Any = self._read_moment(text)
                return text if found is None else found
            if isinstance(declared, (fields.ReferenceField, fields.LazyReferenceField)):
                if getattr(declared, "dbref", False):
                    return text
                declared = declared.document_type._fields[declared.document_type._meta["id_field"]]
            key = declared.to_python(text)
            declared.validate(key)
            whole = bson.encode({"v": declared.to_mongo(key)}, codec_options=self._codec_options)
            return values.decode(whole)["v"]
        except Exception:  # noqa: BLE001 - whatever a field raises at a text that it cannot read
            return text


def stored_field_names(document_class: type[Any]) -> frozenset[str]:
    """The database names of the fields of the class and of those below it, at the top level."""
    return frozenset(
        declared.db_field for member in family_of(document_class) for declared in member._fields.values()
    )


def _chosen(document_class: type[Any], value: Mapping[str, Any]) -> type[Any]:
    name = value.get("_cls")
    return next((one for one in family_of(document_class) if one._class_name == name), document_class)
