"""
Users' own tests on mongomock keep working when their classes are tracked, and have a history to look at.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Any

import mongoengine
import mongomock
import pytest
from bson import ObjectId
from mongoengine import fields

from django_mongo_history import changeset, history_of, rationale, runtime, suppress_history, track, untrack
from django_mongo_history.errors import ConflictError, HiddenFieldError
from tests.judge import configured


class Part(mongoengine.EmbeddedDocument):
    name = fields.StringField()


class Gadget(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    secret = fields.StringField()
    items = fields.ListField(fields.IntField())
    parts = fields.EmbeddedDocumentListField(Part)
    code = fields.StringField(unique=True, sparse=True)
    meta = {"collection": "gadget"}


class Owner(mongoengine.Document):
    name = fields.StringField()
    gadget = fields.ReferenceField(Gadget, reverse_delete_rule=mongoengine.CASCADE)
    meta = {"collection": "owner", "allow_inheritance": True}


class Keeper(Owner):
    pass


@pytest.fixture(autouse=True)
def _mocked() -> Iterator[None]:
    mongoengine.connect("mocked", mongo_client_class=mongomock.MongoClient, uuidRepresentation="standard")
    with configured():
        track(Gadget, hidden=["secret"])
        track(Owner)
        yield
        untrack(Gadget)
        untrack(Owner)
    mongoengine.disconnect()


def a_moment() -> datetime.datetime:
    """Later than what was written, earlier than what will be."""
    time.sleep(0.003)
    moment = datetime.datetime.now(datetime.UTC)
    time.sleep(0.003)
    return moment


def operations(key: Any = 1) -> list[str]:
    return [str(v.operation) for v in history_of(Gadget, key)]


@pytest.mark.parametrize("delivery", ["auto", "outbox", "celery"])
def test_versions_on_a_connection_of_their_own(delivery: str) -> None:
    """`ALIAS` names one that is mocked as well: they lie there, and readers find them."""
    mongoengine.connect(
        "versions",
        alias="versions",
        port=27018,  # or MongoEngine takes the client that it has
        mongo_client_class=mongomock.MongoClient,
        uuidRepresentation="standard",
    )
    try:
        with configured(DELIVERY=delivery, ALIAS="versions"):
            for number in (1, 2, 3):
                Gadget(id=number, name="a").save()
            Gadget.objects.update(set__name="b")
            assert [operations(number) for number in (1, 2, 3)] == [["create", "update"]] * 3
            assert history_of(Gadget, 2)[0]["name"] == "a"
        there = mongoengine.get_connection("versions")["mocked"]["document_history"]
        assert there.count_documents({}) == 6
        assert "document_history" not in mongoengine.get_db().list_collection_names()
    finally:
        mongoengine.disconnect("versions")


def test_the_delivery_is_sync() -> None:
    """There are no transactions to be had."""
    tracked = runtime.current().environment.registry.require(Gadget)
    assert runtime.current().environment.mode_for(tracked, Gadget._get_collection()) == "sync"


def test_saves_updates_and_deletes() -> None:
    """The everyday writes, each with its version."""
    with changeset(user="ann", reason="why"):
        one = Gadget(number=1, name="a", items=[1], parts=[Part(name="p")]).save()
    one.name = "b"
    one.items.append(2)
    one.save()
    one.save()
    Gadget.objects(number=1).update(name="c")
    Gadget.objects(number=1).update(inc__number=0, push__items=3)
    assert Gadget.objects(number=1).update_one(set__name="d") == 1
    assert Gadget.objects(number=1).modify(name="e", new=True).name == "e"
    assert Gadget.objects(number=1).only("name").modify(name="f").name == "e"
    Gadget.objects(number=2).upsert_one(name="x")
    one.reload()
    one.delete()
    h = history_of(Gadget, 1)
    assert operations() == ["create"] + ["update"] * 6 + ["delete"]
    assert [v["name"] for v in h[:-1]] == ["a", "b", "c", "c", "d", "e", "f"]
    assert [v["items"] for v in h[:-1]] == [[1], [1, 2], [1, 2]] + [[1, 2, 3]] * 4
    assert (h[0].user.pk, h[0].reason) == ("ann", "why")
    assert operations(2) == ["create"]


def test_inserts_and_writes_of_many() -> None:
    """Lists of documents, queries, and errors half way."""
    Gadget.objects.insert([Gadget(number=n, name="a") for n in range(5)])
    assert Gadget.objects(number__gte=2).update(name="b") == 3
    assert Gadget.objects(number__gte=3).delete() == 2
    assert [operations(n) for n in range(5)] == [
        ["create"], ["create"], ["create", "update"], ["create", "update", "delete"], ["create", "update", "delete"],
    ]  # fmt: skip
    with pytest.raises(mongoengine.NotUniqueError):
        Gadget(number=1).save(force_insert=True)
    with pytest.raises((mongoengine.NotUniqueError, mongoengine.errors.BulkWriteError)):
        Gadget.objects.insert([Gadget(number=10), Gadget(number=1), Gadget(number=11)])
    assert operations(10) == ["create"]
    assert operations(1) == ["create"]
    assert operations(11) == []


def test_cascades_and_subclasses() -> None:
    """What goes with a document is recorded, too."""
    gadget = Gadget(number=1).save()
    keeper = Keeper(name="k", gadget=gadget).save()
    gadget.delete()
    assert [v.operation for v in history_of(keeper)] == ["create", "delete"]
    assert isinstance(history_of(Owner, keeper.pk)[0].document, Keeper)


def test_reading() -> None:
    """Moments, states, documents, references, the class."""
    before = a_moment()
    gadget = Gadget(number=1, name="a", secret="s").save()
    owner = Owner(name="o", gadget=gadget).save()
    between = a_moment()
    gadget.update(name="b")
    Gadget(number=2, name="late").save()
    h = history_of(gadget)
    assert h.version_at(before) is None
    assert h.version_at(between)["name"] == "a"
    assert h.version_at(a_moment())["name"] == "b"
    assert h.has_changed_since(between)
    assert [(change.old, change.new) for change in h.diff(between)] == [("a", "b")]
    assert isinstance(h[0].document, Gadget)
    assert [found.name for found in history_of(Gadget).as_of(between)] == ["a"]
    assert history_of(owner)[0].follow("gadget")["name"] == "a"
    with pytest.raises(HiddenFieldError):
        _ = h[0]["secret"]
    assert "secret" not in h[0].state
    gadget.delete()
    assert [v.document_id for v in history_of(Gadget).deleted()] == [1]


def test_reverting() -> None:
    """Both ways back."""
    gadget = Gadget(number=1, name="a", items=[1]).save()
    moment = a_moment()
    gadget.update(name="b")
    gadget.update(items=[2])
    h = history_of(Gadget, 1)
    assert h[1].take_back()["name"] == "a"
    assert Gadget.objects.get(number=1).items == [2]
    h.revert(since=moment)
    assert Gadget.objects.get(number=1).items == [1]
    Gadget.objects.delete()
    h.revert(since=moment)
    assert Gadget.objects.get(number=1).name == "a"
    with rationale("twice"), changeset() as c:
        Gadget.objects(number=1).update(name="z")
    c.take_back()
    assert Gadget.objects.get(number=1).name == "a"
    Gadget.objects(number=1).update(name="other")
    with pytest.raises(ConflictError):
        c.take_back()


def test_writes_past_the_tracker() -> None:
    """They are derived as on a server."""
    gadget = Gadget(number=1, name="a").save()
    with suppress_history("by hand"):
        gadget.update(name="b")
    assert operations() == ["create", "external"]
    assert history_of(gadget)[1]["name"] == "b"


def test_the_collection_itself() -> None:
    """The driver's methods that mongomock has."""
    collection = Gadget._get_collection()
    made = collection.insert_one({"name": "own"}).inserted_id
    assert isinstance(made, ObjectId)
    collection.insert_many([{"_id": 5}, {"_id": 6}])
    collection.replace_one({"_id": 5}, {"name": "r"})
    collection.find_one_and_update({"_id": 5}, {"$set": {"name": "s"}})
    collection.find_one_and_delete({"_id": 6})
    collection.update_many({}, {"$set": {"x": 1}})
    collection.delete_one({"_id": 5})
    assert operations(5) == ["create", "update", "update", "update", "delete"]
    assert operations(6) == ["create", "delete"]
    assert collection.count_documents({}) == 1
    assert collection.name == "gadget"
    assert collection == mongoengine.get_db()["gadget"]


def test_untracked_again() -> None:
    """The mock is what it was."""
    untrack(Gadget)
    try:
        assert type(Gadget._get_collection()) is mongomock.Collection
        Gadget(number=1).save()
    finally:
        track(Gadget)
    assert operations() == ["baseline"]
