"""What queries need of a class: its indexes as it declares them, and its queryset on another collection."""

# ruff: noqa: SLF001 - this package is where it is done, so that no other has to

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mongoengine.queryset import QuerySet
from mongoengine.queryset.base import BaseQuerySet
from pymongo import IndexModel

from django_mongo_history.documents.classes import base_of_collection, sharing


def declared_indexes(document_class: type[Any]) -> Iterator[dict[str, Any]]:
    """The indexes that the class, and those that share its collection, declare: as the server describes indexes."""
    for member in dict.fromkeys([document_class, *sharing(base_of_collection(document_class))]):
        common = member._meta.get("index_opts") or {}
        starts_with_class = False
        for spec in member._meta.get("index_specs") or ():
            options = {
                **common,
                **{name: value for name, value in spec.items() if name not in ("fields", "cls")},
            }
            options.pop("cls", None)
            starts_with_class = starts_with_class or next(iter(spec["fields"]), ("",))[0] == "_cls"
            yield dict(IndexModel(spec["fields"], **options).document)
        wants_class = member._meta.get("index_cls", True) and member._meta.get("allow_inheritance")
        if wants_class and not starts_with_class:
            yield dict(IndexModel("_cls", **{k: v for k, v in common.items() if k != "cls"}).document)


def queryset_on(document_class: type[Any], collection: Any) -> Any:
    """The class's own queryset, with what its manager asks for, on another collection."""
    own = getattr(document_class, "objects", None)
    if not isinstance(own, BaseQuerySet):  # a manager of another name, or one that wants arguments
        own = document_class._meta.get("queryset_class", QuerySet)(document_class, collection)
    return own._clone_into(type(own)(document_class, collection))
