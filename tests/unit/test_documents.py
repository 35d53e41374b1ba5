"""Paths of documents: attribute names into database names. MongoEngine, and no server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pytest
from mongoengine.base.common import _document_registry as registry

from django_mongo_history.documents import (
    field_names,
    identity_paths,
    is_document_class,
    is_identity,
    translate_path,
)


class Classes:
    """One of everything that a path may lead through."""

    def __init__(self) -> None:
        class Stats(me.EmbeddedDocument):
            hits = me.IntField(db_field="h")
            self_ref = me.EmbeddedDocumentField("self", db_field="sr")
            meta = {"allow_inheritance": True}

        class MoreStats(Stats):
            more = me.StringField(db_field="m")

        class Place(me.Document):
            code = me.StringField(primary_key=True)
            name = me.StringField(db_field="n")
            n2 = me.StringField(db_field="name2")
            stats = me.EmbeddedDocumentField(Stats, db_field="s")
            list_of = me.ListField(me.EmbeddedDocumentField(Stats), db_field="lo")
            lists = me.ListField(me.ListField(me.EmbeddedDocumentField(Stats)))
            anything = me.ListField()
            free = me.DictField(db_field="f")
            mapped = me.MapField(me.EmbeddedDocumentField(Stats))
            dynamic = me.DynamicField()
            reference = me.ReferenceField("self")
            generic = me.GenericEmbeddedDocumentField(choices=[MoreStats])
            any_embedded = me.GenericEmbeddedDocumentField()
            point = me.PointField(db_field="p")
            meta = {"allow_inheritance": True, "shard_key": ("name", "stats.hits")}

        class City(Place):
            mayor = me.StringField(db_field="may")
            twin = me.StringField(db_field="t1")

        class Village(Place):
            twin = me.StringField(db_field="t2")

        class Unbound(me.DynamicDocument):
            known = me.StringField(db_field="k")

        self.Stats, self.Place, self.City, self.Unbound = Stats, Place, City, Unbound


@pytest.fixture(scope="module")
def classes() -> Iterator[Classes]:
    made = Classes()
    yield made
    for name in ("Stats", "Stats.MoreStats", "Place", "Place.City", "Place.Village", "Unbound"):
        registry.pop(name, None)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("name", ("n",)),
        ("n", ("n",)),
        ("code", ("_id",)),
        ("pk", ("_id",)),
        ("_id", ("_id",)),
        ("_cls", ("_cls",)),
        ("stats", ("s",)),
        ("stats.hits", ("s", "h")),
        ("s.h", ("s", "h")),
        ("stats.self_ref.hits", ("s", "sr", "h")),
        ("stats.more", ("s", "m")),
        ("list_of.hits", ("lo", "h")),
        ("lists.hits", ("lists", "h")),
        ("anything.a.b", ("anything", "a", "b")),
        ("free.a.0.b", ("f", "a", "0", "b")),
        ("free.*.b", ("f", "*", "b")),
        ("mapped.*.hits", ("mapped", "*", "h")),
        ("mapped.key.hits", ("mapped", "key", "h")),
        ("dynamic.a", ("dynamic", "a")),
        ("generic.more", ("generic", "m")),
        ("any_embedded.x", ("any_embedded", "x")),
        ("point.coordinates", ("p", "coordinates")),
        ("mayor", ("may",)),
    ],
)
def test_translates(classes: Classes, path: str, expected: tuple[str, ...]) -> None:
    """Attribute names become database names, lists vanish, `*` stays."""
    assert translate_path(classes.Place, path) == expected


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nope", "Place or City or Village has no field 'nope'"),
        ("stats.nope", "Stats or MoreStats has no field 'nope'"),
        ("list_of.0.hits", "lists without an index"),
        ("mapped.*.nope", "has no field 'nope'"),
        ("name.x", "nothing lies inside of the field before 'x'"),
        ("reference.name", "nothing lies inside"),
        ("*", "has no field"),
        ("", "is no name of a field"),
        ("stats.", "is no name of a field"),
        ("list_of.$[].hits", "is no name of a field"),
        ("twin", r"\['t1', 't2'\]; give the database name"),
    ],
)
def test_refuses_with_the_reason(classes: Classes, path: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        translate_path(classes.Place, path)


def test_dynamic_documents_take_any_name(classes: Classes) -> None:
    assert translate_path(classes.Unbound, "known") == ("k",)
    assert translate_path(classes.Unbound, "made.up") == ("made", "up")


def test_identity(classes: Classes) -> None:
    """The primary key, the class name and the shard key; what holds them and what lies in them."""
    assert identity_paths(classes.Place) == (("_id",), ("_cls",), ("n",), ("s", "h"))
    for path in [("_id",), ("_id", "x"), ("_cls",), ("s",), ("s", "h"), ("s", "*"), ("n",), ("lo", "_cls")]:
        assert is_identity(classes.Place, path), path
    for path in [("s", "m"), ("lo",), ("lo", "h"), ("name2",)]:
        assert not is_identity(classes.Place, path), path


@pytest.mark.parametrize("thing", [me.Document, me.EmbeddedDocument, int, "Place", None], ids=repr)
def test_what_is_no_document_class(thing: Any) -> None:
    assert not is_document_class(thing)


def test_what_is_one(classes: Classes) -> None:
    assert is_document_class(classes.City)
    assert not is_document_class(classes.Stats)


def test_field_names(classes: Classes) -> None:
    """Subclasses' too; the primary key is named by the document already."""
    names = field_names(classes.Place)
    assert {"name", "mayor", "twin"} <= names
    assert not {"code", "_cls"} & names
