"""Texts into what a class's fields hold, and nothing else into anything."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import mongoengine
import pytest
from bson import Binary, Decimal128, ObjectId
from bson.codec_options import CodecOptions
from mongoengine import fields

from django_mongo_history.conversion.moments import Moments
from django_mongo_history.documents import Fitting, stored_field_names

OID = ObjectId("5e3f00000000000000000001")
WHEN = datetime(2020, 1, 2, 3, tzinfo=UTC)


class FitPart(mongoengine.EmbeddedDocument):
    when = fields.DateTimeField(db_field="w")
    meta = {"allow_inheritance": True}


class FitOther(FitPart):
    size = fields.IntField()


class FitGoal(mongoengine.Document):
    pass


class FitThing(mongoengine.Document):
    when = fields.DateTimeField(db_field="at")
    who = fields.ObjectIdField()
    goal = fields.ReferenceField(FitGoal)
    old = fields.ReferenceField(FitGoal, dbref=True)
    uid = fields.UUIDField()
    price = fields.DecimalField(force_string=False)
    exact = fields.Decimal128Field()
    count = fields.IntField()
    ratio = fields.FloatField()
    text = fields.StringField()
    data = fields.DictField()
    anything = fields.DynamicField()
    goals = fields.ListField(fields.ReferenceField(FitGoal))
    part = fields.EmbeddedDocumentField(FitPart)
    parts = fields.EmbeddedDocumentListField(FitPart)
    whens = fields.MapField(fields.DateTimeField())


FITTING = Fitting(FitThing, CodecOptions(uuid_representation=4), Moments(None).read_text)
UID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


@pytest.mark.parametrize(
    ("name", "told", "fitted"),
    [
        ("at", "2020-01-02T03:00:00Z", WHEN),
        ("at", "yesterday", "yesterday"),
        ("at", 5, 5),
        ("when", "2020-01-02T03:00:00Z", "2020-01-02T03:00:00Z"),
        ("who", str(OID), OID),
        ("who", "nobody", "nobody"),
        ("goal", str(OID), OID),
        ("old", str(OID), str(OID)),
        ("uid", str(UID), Binary(UID.bytes, 4)),
        ("price", "1.5", 1.5),
        ("exact", "1.10", Decimal128("1.10")),
        ("count", "12", 12),
        ("count", "1.5", "1.5"),
        ("count", True, True),
        ("ratio", "0.5", 0.5),
        ("text", "2020-01-02T03:00:00Z", "2020-01-02T03:00:00Z"),
        ("data", {"at": "2020-01-02T03:00:00Z"}, {"at": "2020-01-02T03:00:00Z"}),
        ("anything", str(OID), str(OID)),
        ("nothing", str(OID), str(OID)),
        ("goals", [str(OID), None, 1], [OID, None, 1]),
        ("goals", str(OID), str(OID)),
        ("part", {"w": "2020-01-02T03:00:00Z"}, {"w": WHEN}),
        ("part", {"_cls": "FitPart.FitOther", "size": "3"}, {"_cls": "FitPart.FitOther", "size": 3}),
        ("parts", [{"w": "2020-01-02T03:00:00Z"}, 1], [{"w": WHEN}, 1]),
        ("whens", {"a.b": "2020-01-02T03:00:00Z"}, {"a.b": WHEN}),
    ],
)
def test_fields(name: str, told: Any, fitted: Any) -> None:
    found = FITTING.state({name: told})[name]
    assert (type(found), found) == (type(fitted), fitted)
    assert FITTING.value([name], told) == fitted


def test_paths() -> None:
    """Through embedded documents, lists (with an index, as a number or a text, or without) and maps."""
    text = "2020-01-02T03:00:00Z"
    for path in (["part", "w"], ["parts", 0, "w"], ["parts", "0", "w"], ["parts", "w"], ["whens", "x"]):
        assert FITTING.value(path, text) == WHEN, path
    for path in (["part", "when"], ["text", "w"], ["nothing", "w"], ["part", 0], ["data", "at"]):
        assert FITTING.value(path, text) == text, path
    assert FITTING.value(["parts", "0"], {"w": text}) == {"w": WHEN}


def test_stored_names() -> None:
    assert {"at", "who", "_id"} <= stored_field_names(FitThing)
    assert "when" not in stored_field_names(FitThing)
