"""
`document.history.changes`: the list that projects used to keep on the document itself, drawn from versions.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from django.core.checks import run_checks
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import HIDDEN, changeset, history_of, runtime, suppress_history, track, untrack
from tests.judge import configured


class LogLight(mongoengine.EmbeddedDocument):
    colour = fields.StringField(db_field="c")
    notes = fields.MapField(fields.IntField(), db_field="nt")
    meta = {"allow_inheritance": True}


class LogBright(LogLight):
    power = fields.IntField(db_field="pw")


class LogLamp(mongoengine.Document):
    code = fields.StringField(primary_key=True)
    name = fields.StringField(db_field="nm")
    age = fields.IntField()
    light = fields.EmbeddedDocumentField(LogLight, db_field="li")
    lights = fields.EmbeddedDocumentListField(LogLight, db_field="ls")
    kinds = fields.ListField(fields.GenericEmbeddedDocumentField(choices=[LogLight, LogBright]))
    tags = fields.ListField(fields.StringField())
    free = fields.DictField(db_field="fr")
    secret = fields.StringField(db_field="se")
    hits = fields.IntField()
    meta = {"collection": "log_lamp", "allow_inheritance": True}


class LogTall(LogLamp):
    height = fields.IntField(db_field="he")


class LogOwn(mongoengine.Document):
    """Has a field where our attribute would be."""

    name = fields.StringField()
    history = fields.ListField(fields.StringField())
    meta = {"collection": "log_own"}


@pytest.fixture(autouse=True)
def _nothing_tracked(mongodb: Any) -> Iterator[None]:
    with configured():
        yield
        for tracked in list(runtime.current().environment.registry):
            untrack(tracked.document_class)


def lamps() -> list[LogLamp]:
    track(LogLamp, hidden=["secret"], untracked=["hits"])
    return [
        LogLamp(
            code=code,
            name=code.upper(),
            light=LogLight(colour="red", notes={"x": 1}),
            lights=[LogLight(colour="red"), LogLight(colour="blue")],
            tags=["t"],
            free={"a": {"b": 1}},
        ).save()
        for code in "abc"
    ]


def shown(document: Any) -> list[tuple[str, Any, Any]]:
    return [(one.field, one.old_value, one.new_value) for one in document.history.changes]


def test_changes_are_listed_newest_last() -> None:
    """Of three documents that change in turn each lists its own."""
    documents = lamps()
    before = datetime.datetime.now(datetime.UTC)
    for name in ("one", "two"):
        for d in documents:
            d.name = f"{d.code} {name}"
            d.save()
    for d in documents:
        assert shown(d) == [
            ("name", d.code.upper(), f"{d.code} one"),
            ("name", f"{d.code} one", f"{d.code} two"),
        ]
    changes = documents[1].history.changes
    assert before <= changes[0].timestamp <= changes[-1].timestamp <= datetime.datetime.now(datetime.UTC)
    assert [one.version for one in changes] == documents[1].history[1:]
    assert len(changes) == 2


@pytest.mark.parametrize(
    ("update", "wanted"),
    [
        ({"set__light__colour": "green"}, ("light.colour", "red", "green")),
        ({"set__lights__1__colour": "green"}, ("lights.1.colour", "blue", "green")),
        ({"set__light__notes__x": 2}, ("light.notes.x", 1, 2)),
        ({"set__light__notes__y": 2}, ("light.notes.y", None, 2)),
        ({"unset__light__notes__x": 1}, ("light.notes.x", 1, None)),
        ({"push__tags": "u"}, ("tags.1", None, "u")),
        ({"pull__tags": "t"}, ("tags.0", "t", None)),
        ({"set__free__a__b": 2}, ("free.a.b", 1, 2)),
        ({"set__age": 5}, ("age", None, 5)),
        ({"unset__light": 1}, ("light", {"_cls": "LogLight", "c": "red", "nt": {"x": 1}}, None)),
    ],
    ids=str,
)
def test_fields_of_every_depth(update: dict[str, Any], wanted: tuple[str, Any, Any]) -> None:
    """The deepest place that changed, by the names that Python code uses."""
    a, b, c = lamps()
    LogLamp.objects(code="b").update(**update)
    assert shown(b) == [(wanted[0], wanted[1], wanted[2])]
    assert shown(a) == shown(c) == []


def test_names_of_subclasses() -> None:
    """Of the document and of what is embedded in it."""
    lamps()
    tall = LogTall(code="t", height=1, kinds=[LogBright(power=1, colour="red"), LogLight()]).save()
    tall.height = 2
    tall.kinds[0].power = 3
    tall.save()
    assert sorted(shown(tall)) == [("height", 1, 2), ("kinds.0.power", 1, 3)]


def test_nothing_is_stored_on_the_document(mongodb: Database[Any]) -> None:
    a, *_others = lamps()
    a.name = "x"
    a.save()
    keys = set(mongodb["log_lamp"].find_one({"_id": "a"}) or ())
    assert len(a.history.changes) == 1
    a.save()
    assert set(mongodb["log_lamp"].find_one({"_id": "a"}) or ()) == keys
    assert keys == {"_id", "_cls", "nm", "li", "ls", "kinds", "tags", "fr"}


def test_what_is_hidden_and_untracked() -> None:
    a, *_others = lamps()
    a.secret, a.hits = "s3cret", 7
    a.save()
    assert shown(a) == [("secret", HIDDEN, HIDDEN)]


def test_who_and_why() -> None:
    a, *_others = lamps()
    with changeset(user="anna", reason="because"):
        a.name = "x"
        a.save()
    (change,) = a.history.changes
    assert (str(change.version.user), change.version.reason) == ("anna", "because")


def test_creates_and_deletes_are_no_changes_of_fields() -> None:
    a, b, _c = lamps()
    a.name = "x"
    a.save()
    a.delete()
    LogLamp(code="a", name="again").save()
    assert shown(a) == [("name", "A", "x")]
    assert shown(b) == []
    assert LogLamp(name="unsaved").history.changes == []


def test_documents_that_are_older_than_their_history() -> None:
    """The baseline is no change; what went round the tracker is one."""
    LogLamp(code="o", name="old").save()
    a, *_others = lamps()
    old = LogLamp.objects.get(code="o")
    assert old.history.changes == []
    with suppress_history("round it"):
        a.update(name="round")
    a.update(name="after")
    assert shown(a) == [("name", "A", "round"), ("name", "round", "after")]


def test_many_changes() -> None:
    """More than are read at once, each with the value that the one before it left."""
    documents = lamps()
    for age in range(250):
        LogLamp.objects.update(age=age)
    for d in documents:
        found = shown(d)
        assert [new for _field, _old, new in found] == list(range(250))
        assert [old for _field, old, _new in found] == [None, *range(249)]


def test_a_document_with_a_field_called_history() -> None:
    """A system check says so, and the field stays the document's own."""
    track(LogOwn)
    documents = [LogOwn(name=name, history=["mine"]).save() for name in "abc"]
    d = documents[0]
    d.name = "x"
    d.save()
    assert list(d.history) == ["mine"]
    assert [one.field for one in history_of(d).changes] == ["name"]
    messages = [one for one in run_checks() if one.id == "mongo_history.W002"]
    assert len(messages) == 1
    assert "LogOwn has something else named 'history'" in messages[0].msg
    assert "MONGO_HISTORY['ATTRIBUTE']" in (messages[0].hint or "")


def test_the_attribute_can_be_renamed() -> None:
    """The setting takes ours away from where it was, and the check is content."""
    lamps()
    with configured(ATTRIBUTE="log"):
        track(LogOwn)
        documents = [LogOwn(name=name, history=["mine"]).save() for name in "abc"]
        for d in documents:
            d.name += "!"
            d.save()
        d = documents[1]
        assert [(one.field, one.old_value, one.new_value) for one in d.log.changes] == [("name", "b", "b!")]
        assert list(d.history) == ["mine"]
        lamp = LogLamp.objects.get(code="a")
        assert lamp.log.changes == []
        assert not hasattr(lamp, "history")
        assert [one for one in run_checks() if one.id == "mongo_history.W002"] == []
    assert LogLamp.objects.get(code="a").history.changes == []
