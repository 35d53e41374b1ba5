"""
Every way in which MongoEngine writes, under `tests.judge`: the application notices nothing, the history misses nothing.

Each test runs in every delivery on a replica set (`celery` with tasks that run at once), and on a standalone server.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import mongoengine
import pytest
from bson import Binary, Code, Decimal128, Int64, ObjectId, Regex, Timestamp
from mongoengine import fields, signals
from mongoengine.context_managers import switch_collection, switch_db
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.write_concern import WriteConcern

from django_mongo_history import history_of
from tests.judge import Do, Judge, configured, tracking

CHUNK_SIZE = 5
NO_BSON = ...


class Margin(mongoengine.EmbeddedDocument):
    """Something in the margin of a page."""

    text = fields.StringField(db_field="t")
    weight = fields.IntField()


class Scroll(mongoengine.Document):
    """A document with a bit of everything."""

    number = fields.IntField(primary_key=True)
    title = fields.StringField(db_field="ti")
    length = fields.DynamicField()
    tags = fields.ListField(fields.StringField())
    counts = fields.ListField(fields.IntField())
    margins = fields.EmbeddedDocumentListField(Margin)
    margin = fields.EmbeddedDocumentField(Margin)
    notes = fields.DictField()
    code = fields.StringField(unique=True, sparse=True)

    meta = {"collection": "scroll"}


class Scribe(mongoengine.Document):
    """What others refer to; its ids are generated."""

    name = fields.StringField()
    meta = {"collection": "scribe"}


class Copy(mongoengine.Document):
    """Refers to a scribe in every way that has a delete rule."""

    writer = fields.ReferenceField(Scribe, reverse_delete_rule=mongoengine.CASCADE)
    reader = fields.ReferenceField(Scribe, reverse_delete_rule=mongoengine.NULLIFY)
    helpers = fields.ListField(fields.ReferenceField(Scribe, reverse_delete_rule=mongoengine.PULL))
    text = fields.StringField()
    meta = {"collection": "copy"}


class Link(mongoengine.Document):
    """Refers to its own kind: deletes go in circles."""

    name = fields.StringField()
    other = fields.ReferenceField("self", reverse_delete_rule=mongoengine.CASCADE)
    meta = {"collection": "link"}


class Work(mongoengine.Document):
    """A base whose subclasses share its collection."""

    name = fields.StringField()
    meta = {"collection": "work", "allow_inheritance": True}


class Poem(Work):
    lines = fields.IntField()


class Sonnet(Poem):
    rhymes = fields.StringField()


class Ballad(Work):
    verses = fields.IntField()


class Loose(mongoengine.DynamicDocument):
    """Fields as they come."""

    meta = {"collection": "loose"}


class Keyed(mongoengine.Document):
    """A primary key of any type."""

    key = fields.DynamicField(primary_key=True)
    value = fields.IntField()
    meta = {"collection": "keyed"}


class Reel(mongoengine.Document):
    """A capped collection: no transactions there."""

    frame = fields.IntField()
    meta = {"collection": "reel", "max_documents": 100, "max_size": 100_000}


class Sharded(mongoengine.Document):
    """The shard key goes into the filter of each write."""

    place = fields.StringField()
    name = fields.StringField()
    meta = {"collection": "sharded", "shard_key": ("place",)}


@pytest.fixture(params=["atomic", "sync", "standalone", "outbox", "celery"])
def delivery(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database, and the way in which versions get into it."""
    request.getfixturevalue("standalone_mongodb" if request.param == "standalone" else "mongodb")
    if request.param == "celery":
        request.getfixturevalue("eager_tasks")
    mode = "auto" if request.param in ("atomic", "standalone") else request.param
    with configured(DELIVERY=mode, CHUNK_SIZE=CHUNK_SIZE):
        yield request.param


@pytest.fixture
def judge(delivery: str) -> Judge:
    return Judge()


def scroll(number: int = 1, **values: Any) -> Scroll:
    given: dict[str, Any] = {
        "title": "one",
        "tags": ["a", "b", "a"],
        "counts": [1, 5, 9],
        "margins": [Margin(text="x", weight=1), Margin(text="y", weight=2)],
        "notes": {"k": 1, "deep": {"er": [1, {"z": 0}]}},
    }
    return Scroll(number=number, **{**given, **values})


# -- save -------------------------------------------------------------------------------------------------------------


def test_save(judge: Judge) -> None:
    """A save is a create, an update, or nothing, as the server says, whatever the instance believes."""
    judge.is_fresh = True  # collections and indexes are made while the class is tracked

    def script(do: Do) -> None:
        one = Scribe(name="a")
        do("create", one.save)
        one.name = "b"
        do("update", one.save)
        do(None, one.save)
        one.name = None
        do("update", one.save)
        own = scroll(7)
        do("create", own.save)
        do("update", lambda: Scroll(number=7, title="replaced").save())
        do(None, lambda: Scroll(number=7, title="replaced").save())
        loaded = Scroll.objects.get(number=7)
        loaded.tags.append("x")
        loaded.notes["new"] = {"a": 1}
        do("update", loaded.save)
        loaded.tags[0] = "y"
        del loaded.notes["new"]
        do("update", loaded.save)
        changed = Scribe.objects.first()
        changed.name = "c"
        do("update", lambda: changed.save(validate=False, clean=False))
        with_id = Scribe(name="own")
        with_id.id = ObjectId("0123456789abcdef01234567")
        do("create", with_id.save)
        again = Scribe()
        again.id = ObjectId("0123456789abcdef01234567")
        do([], again.save)

    judge(script, Scroll, Scribe)


def test_save_after_a_concurrent_delete(judge: Judge) -> None:
    """What a save brings back in part is a create of that part."""

    def script(do: Do) -> None:
        one = scroll()
        do("create", one.save)
        do("delete", Scroll.objects(number=1).delete)
        one.title = "back"
        do("create", one.save)
        one.title = "again"
        do("update", one.save)

    judge(script, Scroll)


def test_save_condition(judge: Judge) -> None:
    """A condition that fails raises what it always raised and leaves no version."""

    def script(do: Do) -> None:
        one = scroll()
        do("create", one.save)
        one.title = "two"
        do(None, lambda: one.save(save_condition={"title": "wrong"}))
        do("update", lambda: one.save(save_condition={"title": "one"}))
        fresh = scroll(2)
        do("create", lambda: fresh.save(save_condition={"title": "none"}))

    judge(script, Scroll)


def test_duplicates(judge: Judge) -> None:
    """A duplicate key raises the same exception with the same words, and neither document nor version is there."""

    def script(do: Do) -> None:
        do("create", lambda: scroll(1, code="c").save())
        do(None, lambda: scroll(1).save(force_insert=True))
        do(None, lambda: scroll(2, code="c").save())
        do(None, lambda: scroll(2, code="c").save(force_insert=True))
        do("create", lambda: scroll(3, code="d").save())
        three = Scroll.objects.get(number=3)
        three.code = "c"
        do(None, three.save)
        do(None, lambda: Scroll.objects(number=3).update(code="c"))
        do(None, lambda: Scroll.objects(number=3).update_one(code="c"))
        do(None, lambda: Scroll.objects(number=3).modify(code="c"))
        do(None, lambda: Scroll.objects(number=4).upsert_one(code="c"))
        collection = Scroll._get_collection()
        do(None, lambda: collection.replace_one({"_id": 3}, {"code": "c"}))
        do(None, lambda: collection.update_one({"_id": 3}, {"$set": {"code": "c"}}))
        do(None, lambda: collection.find_one_and_update({"_id": 3}, {"$set": {"code": "c"}}))
        do(None, lambda: collection.find_one_and_update({"_id": 3}, {"$set": {"code": "c"}}, {"code": 1}))
        do(None, lambda: collection.insert_one({"_id": 3}))

    judge(script, Scroll)


def test_cascade_saves(judge: Judge) -> None:
    """A cascading save records every document that it writes."""

    def script(do: Do) -> None:
        writer = Scribe(name="w")
        do("create", writer.save)
        copy = Copy(writer=writer, text="t")
        do("create", copy.save)
        writer.name = "changed"
        copy.text = "u"
        do(["update", "update"], lambda: copy.save(cascade=True))
        writer.name = "again"
        do("update", lambda: copy.save(cascade=True))

    judge(script, Scribe, Copy)


def test_partly_loaded_documents(judge: Judge) -> None:
    """`only()` and `exclude()` leave an instance with defaults; the history holds what the database holds."""

    def script(do: Do) -> None:
        do("create", scroll().save)
        partly = Scroll.objects.only("title").get(number=1)
        partly.title = "two"
        do("update", partly.save)
        other = Scroll.objects.exclude("notes", "tags").get(number=1)
        other.counts = []
        do("update", other.save)

    judge(script, Scroll)


# -- insert -----------------------------------------------------------------------------------------------------------


def test_insert(judge: Judge) -> None:
    """A create for each document, with and without reading them back."""

    def script(do: Do) -> None:
        do("create", lambda: Scroll.objects.insert(scroll(1)))
        do(["create"] * 2, lambda: Scroll.objects.insert([scroll(2), scroll(3)]))
        do(["create"] * 2, lambda: Scroll.objects.insert([scroll(4), scroll(5)], load_bulk=False))
        do("create", lambda: Scroll.objects.insert(scroll(6), load_bulk=False))
        do(["create"] * 12, lambda: Scroll.objects.insert([scroll(number) for number in range(10, 22)]))
        do(["create"] * 3, lambda: Scribe.objects.insert([Scribe(name=str(number)) for number in range(3)]))
        collection = Scribe._get_collection()
        do(["create"] * 3, lambda: collection.insert_many({"name": str(number)} for number in range(3)))
        do(["create"] * 2, lambda: collection.insert_many(({"name": "x"}, {"name": "y"})))

    judge(script, Scroll, Scribe)


@pytest.mark.parametrize("count", [4, 12])
def test_insert_that_fails_half_way(judge: Judge, count: int) -> None:
    """What was inserted before the error (unordered: also after it) is there with its versions; the error is the same."""

    def script(do: Do) -> None:
        do("create", scroll(102).save)
        do(["create"] * 2, lambda: Scroll.objects.insert([scroll(100 + number) for number in range(count)]))
        collection = Scroll._get_collection()
        many = [{"_id": 200 + number % (count - 1)} for number in range(count)]
        do(["create"] * (count - 1), lambda: collection.insert_many(many))
        twice = [{"_id": 300 + number // 2} for number in range(count)]
        do(["create"] * (count // 2), lambda: collection.insert_many(twice, ordered=False))
        do([], lambda: collection.insert_many(twice, ordered=False))
        do([], lambda: collection.insert_many(twice))

    judge(script, Scroll)


# -- update -----------------------------------------------------------------------------------------------------------

UPDATES: dict[str, dict[str, Any]] = {
    "set": {"title": "two", "set__notes__k": 2},
    "unset": {"unset__title": 1, "unset__notes__deep": 1},
    "inc": {"inc__counts__0": 3},
    "dec": {"dec__length": 3},
    "mul": {"mul__counts__1": 3},
    "min": {"min__counts__2": 2},
    "max": {"max__counts__2": 20},
    "push": {"push__tags": "c"},
    "push at": {"push__tags__0": ["c"]},
    "push_all": {"push_all__tags": ["c", "d"]},
    "pull": {"pull__tags": "a"},
    "pull embedded": {"pull__margins__text": "x"},
    "pull_all": {"pull_all__tags": ["a", "b"]},
    "add_to_set": {"add_to_set__tags": "z"},
    "add_to_set in vain": {"add_to_set__tags": "a"},
    "pop": {"pop__counts": 1},
    "pop first": {"pop__counts": -1},
    "rename": {"rename__length": "long"},
    "several": {"title": "x", "inc__counts__0": 1, "push__tags": "n", "unset__margins": 1},
    "set list element": {"set__counts__5": 7},
    "set in list": {"set__margins__0__text": "q"},
    "raw": {"__raw__": {"$bit": {"counts.0": {"or": 6}}}},
    "raw set": {"__raw__": {"$set": {"fresh.a.b": 1, "ti": "raw"}}},
    "pipeline": {"__raw__": [{"$set": {"sum": {"$sum": "$counts"}}}, {"$unset": "tags"}]},
    "array filters": {
        "__raw__": {"$set": {"counts.$[big]": 0}},
        "array_filters": [{"big": {"$gt": 4}}],
    },
    "all positions": {"__raw__": {"$inc": {"counts.$[]": 1}}},
    "set on insert": {"set_on_insert__title": "never"},
}


@pytest.mark.parametrize("part", range(3))
def test_update_operators(judge: Judge, part: int) -> None:
    """Every operator, on one document by key, on the first of a query, on many, and on the instance."""

    def script(do: Do) -> None:
        for place, name in enumerate(list(UPDATES)[part::3], start=1):
            _update_every_way(do, name, place * 100)

    judge(script, Scroll)


def _update_every_way(do: Do, name: str, first: int) -> None:
    arguments = UPDATES[name]
    one = [] if name in ("add_to_set in vain", "set on insert") else ["update"]
    scrolls = [scroll(number, length=number) for number in range(first, first + 6)]
    do(["create"] * 6, lambda: Scroll.objects.insert(scrolls), name)
    do(one, lambda: Scroll.objects(number=first).update(**arguments), name)
    do(one, lambda: Scroll.objects(tags="a", number=first + 1).update_one(**arguments), name)
    do(one * 2, lambda: Scroll.objects(number__in=[first + 2, first + 3]).update(**arguments), name)
    own = Scroll.objects.get(number=first + 4)
    if "array_filters" not in arguments:
        do(one, lambda: own.update(**arguments), name)
    if name != "pipeline":  # MongoEngine's modify knows none
        do(one, lambda: Scroll.objects(number=first + 5).modify(**arguments), name)
    do([], lambda: Scroll.objects(number=99).update(**arguments), name)
    do([], lambda: Scroll.objects(number__lt=99).update_one(**arguments), name)
    do([], lambda: Scroll.objects(number__lt=99).modify(**arguments), name)


def test_positional_updates(judge: Judge) -> None:
    """`$` finds its place although the write is bound to the document by more than the caller's filter."""

    def script(do: Do) -> None:
        do("create", scroll().save)
        do("create", scroll(2).save)
        do("update", lambda: Scroll.objects(number=1, margins__text="y").update(set__margins__S__weight=9))
        do("update", lambda: Scroll.objects(margins__text="x").update_one(set__margins__S__weight=8))
        raw = {"$inc": {"counts.$": 1}}
        do(["update"] * 2, lambda: Scroll.objects(counts=5).update(__raw__=raw))
        do("update", lambda: Scroll.objects(number=2, counts=6).modify(__raw__=raw, new=True))
        do("update", lambda: Scroll.objects(number=2, counts=7).only("counts").modify(__raw__=raw))

    judge(script, Scroll)


def test_updates_that_the_server_refuses(judge: Judge) -> None:
    """The exception is the one that an untracked class raises, with its words and its code."""

    def script(do: Do) -> None:
        do("create", scroll().save)
        collection = Scroll._get_collection()
        for update in (
            {"$set": {"_id": 5}},
            {"$inc": {"ti": 1}},
            {"$set": {"ti.x": 1}},
            {"$push": {"ti": 1}},
            {"$nonsense": {"a": 1}},
            {"$set": {"a": 1, "a.b": 2}},
            {"$set": {"counts.$": 1}},
            [{"$nonsense": 1}],
        ):
            do([], lambda update=update: collection.update_one({"_id": 1}, update))
            do([], lambda update=update: collection.update_many({"_id": 1}, update))
            do([], lambda update=update: collection.update_many({"ti": "one"}, update))
            do([], lambda update=update: collection.find_one_and_update({"_id": 1}, update))
            do([], lambda update=update: collection.find_one_and_update({"_id": 1}, update, {"ti": 1}))
            do([], lambda update=update: collection.bulk_write([UpdateOne({"_id": 1}, update)]))
        do([], lambda: collection.update_one({"_id": 1}, {"ti": 1}))
        do([], lambda: collection.update_one({"_id": 1}, {}))
        do([], lambda: collection.replace_one({"_id": 1}, {"$set": {"a": 1}}))
        do([], lambda: collection.replace_one({"_id": 1}, {"_id": 2}))
        do([], lambda: collection.update_one({"_id": 1}, {"$set": {"a": 1}}, hint="none"))
        do([], lambda: collection.update_many({"ti": "one"}, {"$set": {"a": 1}}, hint="none"))
        do([], lambda: collection.delete_one({"_id": 1}, hint="none"))
        do([], lambda: collection.delete_many({"ti": "one"}, hint="none"))
        do([], lambda: collection.update_one({"$nonsense": 1}, {"$set": {"a": 1}}))
        do([], lambda: collection.delete_many({"$nonsense": 1}))
        do([], lambda: collection.update_one({"_id": 1}, {"$set": {"a": NO_BSON}}))
        do([], lambda: collection.insert_one({"_id": 5, "a": NO_BSON}))
        do([], lambda: collection.insert_one(5))
        do([], lambda: collection.insert_many([]))
        do([], lambda: collection.insert_many({}))
        do([], lambda: collection.bulk_write([]))
        do([], lambda: collection.update_one({"_id": 1}, {"$set": {"a": 1}}, unknown=1))
        do([], lambda: Scroll.objects(number=1).update())
        do([], lambda: Scroll.objects(number=1).update(nothing=1))

    judge(script, Scroll)


def test_upserts(judge: Judge) -> None:
    """An upsert is a create with the id that it made, or an update."""

    def script(do: Do) -> None:
        do("create", lambda: Scroll.objects(number=1).upsert_one(title="made"))
        do("update", lambda: Scroll.objects(number=1).upsert_one(title="met"))
        do([], lambda: Scroll.objects(number=1).upsert_one(title="met"))
        do("create", lambda: Scribe.objects(name="x").upsert_one(name="y"))
        do(
            "create",
            lambda: Scribe.objects(name="new").update_one(upsert=True, set__name="n", full_result=True),
        )
        do("create", lambda: Scribe.objects(name="many").update(upsert=True, set__name="m"))
        do("update", lambda: Scribe.objects(name="m").update(upsert=True, set__name="mm"))
        do("create", lambda: Scribe.objects(name="modified").modify(upsert=True, set__name="mod"))
        do("create", lambda: Scribe.objects(name="modified").modify(upsert=True, new=True, set__name="mod2"))
        do(
            "create",
            lambda: Scroll.objects(number=5).update_one(upsert=True, set_on_insert__title="t", inc__length=1),
        )
        do("create", lambda: Scroll.objects(number=6).update_one(upsert=True, push__tags="t"))
        do("create", lambda: Scroll.objects(number=7).modify(upsert=True, inc__length=1))
        do("create", lambda: Scroll.objects(number=8).only("title").modify(upsert=True, title="p"))
        do("create", lambda: Scroll.objects(number=9).only("title").modify(upsert=True, new=True, title="p"))
        collection = Keyed._get_collection()
        do("create", lambda: collection.update_one({"_id": None, "m": 1}, {"$set": {"a": 1}}, upsert=True))
        do("update", lambda: collection.update_one({"_id": None}, {"$set": {"a": 2}}, upsert=True))
        do("create", lambda: collection.replace_one({"m": 9, "z.y": 1}, {"b": 1, "_id": "r"}, upsert=True))
        do(
            "create",
            lambda: collection.update_one({"m": 5, "a.b": 2, "_id": 55, "z": 1}, {"$set": {"q": 1}}, True),
        )
        do("create", lambda: collection.update_one({"_id": {"$eq": 56}}, {"$set": {"q": 1}}, upsert=True))
        do("create", lambda: collection.update_many({"_id": 57}, {"$set": {"q": 1}}, upsert=True))
        do("create", lambda: collection.update_many({"w": 57}, {"$set": {"_id": 58}}, upsert=True))
        do("delete", lambda: collection.delete_one({"_id": None}))
        do("create", lambda: collection.update_many({"w": 60}, {"$set": {"_id": None}}, upsert=True))
        do("create", lambda: collection.update_one({"w": 1}, [{"$set": {"_id": 59, "n": 1}}], upsert=True))

    judge(script, Scroll, Scribe, Keyed)


def test_modify(judge: Judge) -> None:
    """`modify` answers with the old or the new document, or what `only()` leaves of it, and is recorded whole."""

    def script(do: Do) -> None:
        for number in range(1, 7):
            do("create", lambda number=number: scroll(number).save())
        do("update", lambda: Scroll.objects(number=1).modify(title="a"))
        do("update", lambda: Scroll.objects(number=1).modify(title="b", new=True))
        do("update", lambda: Scroll.objects(number=1).only("tags").modify(title="c"))
        do("update", lambda: Scroll.objects(number=1).only("title").modify(title="d", new=True))
        do("update", lambda: Scroll.objects(number=1).exclude("notes").modify(inc__counts__0=1, new=True))
        do([], lambda: Scroll.objects(number=1).modify(title="d", new=True))
        do("update", lambda: Scroll.objects.order_by("-number").modify(title="last", new=True))
        do("update", lambda: Scroll.objects.order_by("-number").only("title").modify(title="last one"))
        do("delete", lambda: Scroll.objects(number=6).modify(remove=True))
        do("delete", lambda: Scroll.objects(number=5).only("title").modify(remove=True))
        do("delete", lambda: Scroll.objects.order_by("-number").modify(remove=True))
        do([], lambda: Scroll.objects(number=99).modify(remove=True))
        one = Scroll.objects.get(number=1)
        do("update", lambda: (one.modify(title="e"), one))
        do([], lambda: (one.modify({"title": "wrong"}, title="f"), one))
        do("update", lambda: (one.modify({"title": "e"}, inc__counts__1=1), one))
        do("update", lambda: (one.update(title="g"), one))

    judge(script, Scroll)


# -- delete -----------------------------------------------------------------------------------------------------------


def _heard(*_arguments: Any, **_facts: Any) -> None:
    """A receiver of delete signals: with one, MongoEngine deletes document by document."""


@pytest.fixture(params=["without receivers", "with receivers"])
def receivers(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "without receivers":
        yield
        return
    for sender in (Scroll, Copy):
        signals.pre_delete.connect(_heard, sender=sender)
    yield
    signals.pre_delete._clear_state()  # blinker keeps a sender in mind whose last receiver went


def test_delete(judge: Judge, receivers: None) -> None:
    """One delete version for each document that went, none for those that were not there."""

    def script(do: Do) -> None:
        do(
            ["create"] * 20,
            lambda: Scroll.objects.insert([scroll(number) for number in range(20)], load_bulk=False),
        )
        one = Scroll.objects.get(number=0)
        do("delete", one.delete)
        do([], one.delete)
        do("delete", Scroll.objects(number=1).delete)
        do([], Scroll.objects(number=1).delete)
        do(["delete"] * 2, Scroll.objects(number__lt=4).delete)
        do(["delete"] * 2, Scroll.objects(number__lt=9).skip(1).limit(2).delete)
        do(["delete"] * 14, Scroll.objects.delete)
        do([], Scroll.objects.delete)

    judge(script, Scroll)


def test_projected_deletes(judge: Judge) -> None:
    """`scalar()` and `as_pymongo()` querysets can be deleted as they always could."""

    def script(do: Do) -> None:
        do(
            ["create"] * 4,
            lambda: Scroll.objects.insert([scroll(number) for number in range(4)], load_bulk=False),
        )
        do("delete", Scroll.objects(number=1).scalar("title").delete)
        do("delete", Scroll.objects(number=2).as_pymongo().delete)
        do(["delete"] * 2, lambda: Scroll.objects.delete(_from_doc_delete=False, write_concern={"w": 1}))

    judge(script, Scroll)


def test_delete_rules(judge: Judge, receivers: None) -> None:
    """CASCADE, NULLIFY and PULL write through other classes; each document that they touch has its version."""

    def script(do: Do) -> None:
        writers = [Scribe(name=str(number)) for number in range(3)]
        for writer in writers:
            do("create", writer.save)
        do("create", Copy(writer=writers[0], helpers=[writers[1]], text="a").save)
        do("create", Copy(writer=writers[1], reader=writers[0], text="b").save)
        do("create", Copy(writer=writers[1], helpers=[writers[0], writers[2], writers[0]], text="c").save)
        do(["delete"] * 2 + ["update"] * 2, writers[0].delete)
        do(["delete"] * 3, Scribe.objects(name="1").delete)

    judge(script, Scribe, Copy)


def test_circular_cascade(judge: Judge) -> None:
    """A cascade that comes back to where it began ends, and every delete is recorded."""

    def script(do: Do) -> None:
        one, two = Link(name="1"), Link(name="2")
        do("create", one.save)
        two.other = one
        do("create", two.save)
        one.other = two
        do("update", one.save)
        itself = Link(name="3")
        do("create", itself.save)
        itself.other = itself
        do("update", itself.save)
        do(["delete"] * 2, one.delete)
        do("delete", Link.objects(name="3").delete)

    judge(script, Link)


# -- the collection itself --------------------------------------------------------------------------------------------


def test_replace_one(judge: Judge) -> None:
    """A replacement keeps the `_id` and nothing else."""

    def script(do: Do) -> None:
        do("create", scroll().save)
        collection = Scroll._get_collection()
        do("update", lambda: collection.replace_one({"_id": 1}, {"ti": "r", "x": {"$y": 1, "": 2, "a.b": 3}}))
        do("update", lambda: collection.replace_one({"ti": "r"}, {"ti": "s", "_id": 1, "z": 1}))
        do([], lambda: collection.replace_one({"_id": 1}, {"_id": 1, "ti": "s", "z": 1}))
        do("update", lambda: collection.replace_one({"_id": 1}, {"_id": 1, "z": 1, "ti": "s"}))
        do("update", lambda: collection.replace_one({"_id": 1}, {}))
        do([], lambda: collection.replace_one({"_id": 5}, {"a": 1}))
        do("update", lambda: collection.replace_one({"_id": 1.0}, {"a": 1}))
        do("update", lambda: collection.replace_one({"_id": Int64(1)}, {"a": 1.0}))

    judge(script, Scroll)


def test_find_one_and(judge: Judge) -> None:
    """`find_one_and_*` with both sides, projections, sorts, upserts and `let`."""

    def script(do: Do) -> None:
        c = Keyed._get_collection()
        for number in range(1, 6):
            do("create", lambda number=number: c.insert_one({"_id": number, "ti": "t", "counts": [1, 5, 9]}))
        after = ReturnDocument.AFTER
        do("update", lambda: c.find_one_and_update({"_id": 1}, {"$set": {"ti": "a"}}))
        do("update", lambda: c.find_one_and_update({"_id": 1}, {"$inc": {"x": 1}}, return_document=after))
        do("update", lambda: c.find_one_and_update({}, {"$set": {"ti": "b"}}, sort=[("_id", -1)]))
        do(
            "update",
            lambda: c.find_one_and_update({}, {"$set": {"ti": "c"}}, {"ti": 1, "_id": 0}, [("_id", -1)]),
        )
        do("update", lambda: c.find_one_and_update({"counts": 5}, {"$set": {"counts.$": 6}}, {"counts.$": 1}))
        do("create", lambda: c.find_one_and_update({"_id": 50}, {"$set": {"a": 1}}, upsert=True))
        do("create", lambda: c.find_one_and_update({"q": 1}, {"$set": {"a": 1}}, {"a": 1}, upsert=True))
        do("create", lambda: c.find_one_and_update({"q": 2}, {"$set": {"a": 1}}, {"a": 1}, None, True, after))
        do("create", lambda: c.find_one_and_replace({"q": 3}, {"b": 1}, upsert=True, return_document=after))
        do("update", lambda: c.find_one_and_replace({"_id": 2}, {"b": 1}, {"_id": 1}))
        do("update", lambda: c.find_one_and_replace({"_id": 2}, {"b": 2}, return_document=after))
        do("delete", lambda: c.find_one_and_delete({"_id": 2}))
        do("delete", lambda: c.find_one_and_delete({"_id": {"$lt": 9}}, {"ti": 1}, sort=[("_id", -1)]))
        do([], lambda: c.find_one_and_delete({"_id": 99}))
        do([], lambda: c.find_one_and_update({"_id": 99}, {"$set": {"a": 1}}, {"a": 1}))
        do(
            "update",
            lambda: c.find_one_and_update(
                {"$expr": {"$eq": ["$_id", "$$wanted"]}}, [{"$set": {"v": "$$wanted"}}], let={"wanted": 3}
            ),
        )
        do(
            "update",
            lambda: c.find_one_and_update({"_id": 3}, {"$set": {"v": 0}}, comment="why", maxTimeMS=5000),
        )

    judge(script, Keyed)


def test_options_of_the_driver(judge: Judge) -> None:
    """`hint`, `collation`, `comment`, `let` and positional arguments reach the server as they were meant."""

    def script(do: Do) -> None:
        for number in range(1, 5):
            do("create", lambda number=number: scroll(number, title="Aa" if number % 2 else "aA").save())
        c = Scroll._get_collection()
        strength = {"locale": "en", "strength": 2}
        do("update", lambda: c.update_one({"ti": "AA"}, {"$set": {"a": 1}}, collation=strength))
        do(["update"] * 4, lambda: c.update_many({"ti": "AA"}, {"$set": {"b": 1}}, collation=strength))
        do(
            ["update"] * 4,
            lambda: c.update_many({"ti": "AA"}, {"$inc": {"b": 1}}, False, None, None, strength),
        )
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"a": 2}}, hint="_id_", comment={"why": 1}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"a": 3}}, hint=[("_id", 1)]))
        do(["update"] * 2, lambda: c.update_many({"_id": {"$gt": 2}}, {"$set": {"a": 3}}, hint=[("_id", 1)]))
        do(
            ["update"],
            lambda: c.update_many({"$expr": {"$eq": ["$_id", "$$n"]}}, {"$set": {"a": 9}}, let={"n": 2}),
        )
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"c": [1, 2, 3]}}, False, False))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"c.$[x]": 0}}, array_filters=[{"x": 2}]))
        do("delete", lambda: c.delete_one({"ti": "AA"}, strength))
        do("delete", lambda: c.delete_many({"_id": 2}, None, "_id_"))
        do(["delete"] * 2, lambda: c.delete_many({"ti": "AA"}, collation=strength, comment="bye"))
        do("create", lambda: c.insert_one({"_id": 77}, True, None, "note"))
        do(["create"] * 2, lambda: c.insert_many([{"_id": 78}, {"_id": 79}], False, True))

    judge(script, Scroll)


def test_bulk_write(judge: Judge) -> None:
    """Each request of a bulk is recorded; answers and counts are the driver's."""

    def script(do: Do) -> None:
        c = Keyed._get_collection()
        requests = [
            InsertOne({"_id": 1, "a": 1}),
            InsertOne({"_id": 2, "a": 1}),
            InsertOne({"_id": 3, "a": 1}),
        ]
        do(["create"] * 3, lambda: c.bulk_write(requests))
        changes = [
            UpdateOne({"_id": 1}, {"$set": {"a": 2}}),
            UpdateOne({"_id": 9}, {"$inc": {"a": 2}}, upsert=True),
            UpdateMany({"_id": {"$in": [2, 3]}}, {"$inc": {"a": 5}}),
            ReplaceOne({"_id": 10}, {"r": 1}, upsert=True),
            UpdateOne({"_id": 99}, {"$set": {"a": 2}}),
        ]
        do(["update"] * 3 + ["create"] * 2, lambda: c.bulk_write(changes))
        do(
            ["delete"] * 3,
            lambda: c.bulk_write([DeleteOne({"_id": 1}), DeleteMany({"a": 6}), DeleteOne({"_id": 1})]),
        )
        do(
            ["create"] * 8,
            lambda: c.bulk_write([InsertOne({"_id": 100 + n}) for n in range(8)], ordered=False),
        )
        do(
            ["update"] * 8,
            lambda: c.bulk_write([UpdateOne({"_id": 100 + n}, {"$inc": {"n": 1}}) for n in range(8)], False),
        )
        do("create", lambda: c.bulk_write([UpdateOne({"nobody": 1}, {"$set": {"a": 1}}, upsert=True)]))
        do("create", lambda: c.bulk_write([UpdateMany({"nobody": 2}, {"$set": {"a": 1}}, upsert=True)]))

    judge(script, Keyed)


@pytest.mark.parametrize("ordered", [True, False])
def test_bulk_write_that_fails_half_way(judge: Judge, ordered: bool) -> None:
    """What the driver leaves done is done and recorded; the error names the same requests."""

    def script(do: Do) -> None:
        c = Scroll._get_collection()
        do("create", lambda: c.insert_one({"_id": 1, "a": "x"}))
        requests = [
            InsertOne({"_id": 2}),
            InsertOne({"_id": 1}),
            UpdateOne({"_id": 1}, {"$inc": {"a": 1}}),
            InsertOne({"_id": 3}),
            UpdateOne({"_id": 1}, {"$set": {"b": 1}}),
            DeleteOne({"_id": 77}),
            InsertOne({"_id": 4}),
            InsertOne({"_id": 4, "again": 1}),
        ]
        wanted = ["create"] if ordered else ["create"] * 3 + ["update"]
        do(wanted, lambda: c.bulk_write(requests, ordered=ordered))

    judge(script, Scroll)


# -- other places -----------------------------------------------------------------------------------------------------


def test_switched_databases(delivery: str) -> None:
    """A version lies with its document, under the namespace that was really written."""
    database = mongoengine.get_db()
    uri = "mongodb://{}:{}/".format(*database.client.address)
    mongoengine.connect(
        f"{database.name}_other", alias="other", host=uri, uuidRepresentation="standard", tz_aware=True
    )
    judge = Judge(databases=("default", "other"))

    def script(do: Do) -> None:
        do("create", scroll(1).save)
        with switch_db(Scroll, "other") as other:
            do("create", lambda: other(number=1, title="there").save())
            do("update", lambda: other.objects(number=1).update(title="still there"))
        one = Scroll.objects.get(number=1)
        one.title = "both"
        one.switch_db("other")
        do("update", one.save)
        do("create", lambda: Scroll.objects.using("other").insert(scroll(2)))
        do(["update"] * 2, lambda: Scroll.objects.using("other").update(title="all"))
        do("delete", one.delete)
        do("update", lambda: Scroll.objects(number=1).update(title="here"))

    try:
        judge(script, Scroll)
    finally:
        mongoengine.get_db("other").client.drop_database(f"{database.name}_other")
        mongoengine.disconnect("other")


def test_switched_collections(delivery: str) -> None:
    """The class, or one instance of it, may write elsewhere."""
    judge = Judge(collections={"elsewhere": Scroll, "attic": Scroll})

    def script(do: Do) -> None:
        do("create", scroll(1).save)
        with switch_collection(Scroll, "elsewhere") as other:
            do("create", lambda: other(number=1, title="there").save())
            do(["update"], lambda: other.objects.update(title="still there"))
        one = Scroll.objects.get(number=1)
        one.switch_collection("attic", keep_created=False)
        do("create", one.save)
        one.title = "in the attic"
        do("update", one.save)
        do("delete", one.delete)
        do("update", lambda: Scroll.objects(number=1).update(title="here"))

    judge(script, Scroll)


def test_inheritance(judge: Judge) -> None:
    """A write through a base class is recorded for the class that the document is of; subclasses go with their base."""

    def script(do: Do) -> None:
        do("create", Work(name="w").save)
        do("create", Poem(name="p", lines=3).save)
        do("create", Sonnet(name="s", lines=14, rhymes="ab").save)
        do(["update"] * 3, lambda: Work.objects.update(name="all"))
        do(["update"] * 2, lambda: Poem.objects.update(inc__lines=1))
        sonnet = Work.objects(rhymes="ab").first()
        sonnet.rhymes = "cd"
        do("update", sonnet.save)
        do(["delete"] * 2, Poem.objects.delete)
        do("delete", Work.objects.delete)

    judge(script, Work)


@pytest.mark.parametrize("tracked", [Poem, Sonnet])
def test_untracked_siblings(delivery: str, tracked: type) -> None:
    """Of a collection that several classes share only documents of the tracked ones, and those below, are recorded."""
    judge = Judge(collections={"work": tracked})
    poems = 2 if tracked is Poem else 1

    def script(do: Do) -> None:
        do([], Work(name="w").save)
        do([], Ballad(name="b", verses=3).save)
        do(["create"] * (poems - 1), Poem(name="p", lines=3).save)
        do("create", Sonnet(name="s", lines=14).save)
        do(["update"] * poems, lambda: Work.objects.update(name="all"))
        do(["update"] * poems, lambda: Work.objects(lines__gt=0).update(inc__lines=1))
        do("update", lambda: Work.objects(lines=15).update_one(inc__lines=1))
        do([], lambda: Work.objects(verses=3).update_one(inc__verses=1))
        do([], lambda: Ballad.objects.modify(verses=9))
        do([], Ballad.objects.delete)
        do("create", lambda: Work.objects.insert([Work(name="x"), Sonnet(name="y")]) and None)
        do(["delete"] * (poems + 1), Work.objects.delete)

    judge(script, tracked, also=(Work,))


def test_dynamic_documents(judge: Judge) -> None:
    """Fields that no class declares come and go like any other."""

    def script(do: Do) -> None:
        one = Loose(a=1, b={"c": [1, 2]})
        do("create", one.save)
        one.d = "new"
        do("update", one.save)
        del one.a
        do("update", one.save)
        one.b["c"].append(3)
        do([], one.save)  # MongoEngine's delta misses it
        one.b = {"c": [1, 2, 3]}
        do("update", one.save)
        do("update", lambda: Loose.objects.update(set__e__f=1))
        one.reload()
        one.e = None
        do("update", one.save)

    judge(script, Loose)


KEYS = {
    "text": "k",
    "int": 5,
    "long": Int64(5_000_000_000),
    "double": 1.5,
    "UUID": uuid.UUID(int=7),
    "document": {"b": 1, "a": {"x": 2}},
    "empty document": {},
    "Decimal128": Decimal128("1.10"),
    "moment": datetime.datetime(2024, 2, 29, 12, 30, 15, 123_000, tzinfo=datetime.UTC),
    "bytes": b"\x00\x01",
    "binary": Binary(b"abc", 128),
    "boolean": True,
    "ObjectId": ObjectId("0123456789abcdef01234567"),
    "null": None,
    "Timestamp": Timestamp(5, 6),
    "Code": Code("x"),
    "date of old": datetime.datetime(1, 1, 1, tzinfo=datetime.UTC),
}


def test_primary_keys(judge: Judge) -> None:
    """A key may be of any BSON type, and the history is found by it."""

    def script(do: Do) -> None:
        for name, key in KEYS.items():
            _write_by_key(do, name, key)
        for key in (
            KEYS["text"],
            KEYS["int"],
            KEYS["UUID"],
            KEYS["document"],
            KEYS["Decimal128"],
            KEYS["bytes"],
        ):
            do("create", lambda key=key: Keyed(key=key, value=1).save())
            do("update", lambda key=key: Keyed.objects(key=key).update(inc__value=1))
            one = Keyed.objects.first()
            one.value = 7
            do("update", one.save)
            do("delete", one.delete)

    judge(script, Keyed)


def _write_by_key(do: Do, name: str, key: Any) -> None:
    c = Keyed._get_collection()
    do("create", lambda: c.insert_one({"_id": key, "value": 1}), name)
    do("update", lambda: c.update_one({"_id": {"$eq": key}}, {"$set": {"value": 2}}), name)
    do("update", lambda: c.update_one({"_id": key}, {"$inc": {"value": 2}}), name)
    do("update", lambda: c.update_many({"_id": key}, {"$set": {"value": 3}}), name)
    do("update", lambda: c.find_one_and_update({"_id": key}, {"$set": {"value": 4}}, {"value": 1}), name)
    do("update", lambda: c.update_many({"value": 4}, {"$inc": {"value": 1}}), name)
    do("delete", lambda: c.delete_one({"_id": key}), name)
    do("create", lambda: c.update_one({"_id": {"$eq": key}}, {"$set": {"value": 2}}, upsert=True), name)
    do("delete", lambda: c.delete_many({"value": 2}), name)


def test_keys_that_are_equal_to_the_server(judge: Judge) -> None:
    """`1`, `1.0` and `Int64(1)` find the same document."""

    def script(do: Do) -> None:
        c = Keyed._get_collection()
        do("create", lambda: c.insert_one({"_id": 1, "value": 1}))
        do("update", lambda: c.update_one({"_id": 1.0}, {"$set": {"value": 2}}, upsert=True))
        do("update", lambda: c.update_one({"_id": Int64(1)}, {"$inc": {"value": 2}}, upsert=True))
        do("update", lambda: c.replace_one({"_id": Decimal128("1")}, {"value": 5}))
        do("delete", lambda: c.delete_many({"_id": 1.0}))

    judge(script, Keyed)


def test_capped_collections(judge: Judge) -> None:
    """The server does no transactions there: versions follow their documents."""
    judge.is_fresh = True

    def script(do: Do) -> None:
        one = Reel(frame=1)
        do("create", one.save)
        one.frame = 2
        do("update", one.save)
        do(["create"] * 3, lambda: Reel.objects.insert([Reel(frame=n) for n in range(3)]))
        do(["update"] * 4, lambda: Reel.objects.update(inc__frame=1))
        do("update", lambda: Reel.objects(frame=3).modify(inc__frame=1))
        do("update", lambda: Reel.objects(frame=4).only("frame").modify(set__frame=8))
        do("create", lambda: Reel._get_collection().bulk_write([InsertOne({"frame": 5})]))

    judge(script, Reel)


def test_unacknowledged_writes(judge: Judge) -> None:
    """`w=0` answers nothing and raises nothing, as ever; what was written is recorded."""

    def script(do: Do) -> None:
        quiet = {"w": 0}
        one = scroll(1, code="c")
        do("create", lambda: one.save(write_concern=quiet))
        one.title = "two"
        do("update", lambda: one.save(write_concern=quiet))
        do("update", lambda: Scroll.objects(number=1).update(write_concern=quiet, inc__counts__0=1))
        do("create", lambda: Scroll.objects.insert(scroll(2), write_concern=quiet))
        do(
            ["create"] * 2,
            lambda: Scroll.objects.insert([scroll(3), scroll(4)], write_concern=quiet, load_bulk=False),
        )
        c = Scroll._get_collection().with_options(write_concern=WriteConcern(w=0))
        do([], lambda: c.insert_one({"_id": 1}))
        do("create", lambda: c.insert_many([{"_id": 5}, {"_id": 5}, {"_id": 6}]))
        do([], lambda: c.update_one({"_id": 2}, {"$set": {"code": "c"}}))
        do([], lambda: c.update_one({"_id": 2}, {"$inc": {"ti": 1}}))
        do([], lambda: c.update_many({"ti": "one"}, {"$inc": {"ti": 1}}))
        do([], lambda: c.replace_one({"_id": 2}, {"code": "c"}))
        do([], lambda: c.find_one_and_update({"_id": 2}, {"$set": {"code": "c"}}))
        do("update", lambda: c.find_one_and_update({"_id": 2}, {"$set": {"code": "d"}}))
        do("create", lambda: c.update_one({"_id": 9}, {"$set": {"code": "e"}}, upsert=True))
        do([], lambda: c.delete_one({"_id": 99}))
        do([], lambda: c.bulk_write([InsertOne({"_id": 9}), InsertOne({"_id": 10})]))
        do("create", lambda: c.bulk_write([InsertOne({"_id": 9}), InsertOne({"_id": 10})], ordered=False))
        do(["delete"] * 2, lambda: c.delete_many({"_id": {"$in": [9, 10]}}))
        do(["update"] * 4, lambda: c.update_many({"_id": {"$lt": 5}}, {"$set": {"w": 1}}))
        do("delete", lambda: c.delete_one({"_id": 5}))
        do(
            ["create", "update"],
            lambda: c.bulk_write([InsertOne({"_id": 8}), UpdateOne({"_id": 4}, {"$set": {"w": 2}})]),
        )
        do(["delete"] * 5, lambda: Scroll.objects.delete(write_concern=quiet))

    judge(script, Scroll)


def test_more_documents_than_a_chunk(judge: Judge) -> None:
    """Above a chunk a write walks in chunks by `_id`, of any type, and writes each document once."""
    count = CHUNK_SIZE * 3 + 2

    def script(do: Do) -> None:
        c = Keyed._get_collection()
        keys = [*range(count - 6), "text", "b", ObjectId("0" * 24), 2.5, {"a": 1}, None]
        do(["create"] * count, lambda: c.insert_many([{"_id": key, "value": 1} for key in keys]))
        do(["update"] * count, lambda: c.update_many({"value": 1}, {"$set": {"value": 2}}))
        do(["update"] * count, lambda: c.update_many({}, {"$inc": {"value": 1}}))
        do(
            ["update"] * (CHUNK_SIZE + 2),
            lambda: c.update_many({"_id": {"$lt": CHUNK_SIZE + 1}}, {"$inc": {"n": 1}}),
        )
        do([], lambda: c.update_many({"value": 3}, {"$set": {"value": 3}}))
        do(["delete"] * count, lambda: c.delete_many({"value": 3}))

    judge(script, Keyed)


def test_recreated_documents(judge: Judge) -> None:
    """A document that comes back under its old id goes on with its old history."""

    def script(do: Do) -> None:
        for _round in range(3):
            do("create", scroll(1).save)
            do("update", lambda: Scroll.objects(number=1).update(title="x"))
            do("delete", Scroll.objects(number=1).delete)
        do("create", lambda: Scroll(number=1, title="x").save())

    judge(script, Scroll)


def test_shard_keys(judge: Judge) -> None:
    """The shard key in the filter of a save changes nothing about what is recorded."""

    def script(do: Do) -> None:
        one = Sharded(place="p", name="n")
        do("create", one.save)
        one.name = "m"
        do("update", one.save)
        do("update", lambda: one.update(name="o"))
        do("delete", one.delete)

    judge(script, Sharded)


def test_values_of_every_kind(judge: Judge) -> None:
    """What lies in a document is kept bit by bit: types, key order, odd keys, depth."""
    deep: Any = 0
    for _level in range(45):
        deep = {"d": [deep]}
    odd = {
        "a.b": 1, "$dollar": 2, "": 3, "é\ud7ff": "ü", "nan": float("nan"), "zero": -0.0, "inf": float("inf"),
        "int": 1, "long": Int64(1), "double": 1.0, "true": True, "null": None, "bytes": b"\x00", "binary": Binary(b"1", 5),
        "re": Regex("a", "ix"), "code": Code("f()", {"x": 1}), "ts": Timestamp(1, 2), "dec": Decimal128("NaN"),
        "when": datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=datetime.UTC), "empty": {}, "none": [],
        "list": [[], [[]], {}, None, {"0": 1}], "ref": {"$id": 1, "$ref": "c"}, "deep": deep, "uuid": uuid.UUID(int=3),
    }  # fmt: skip

    def script(do: Do) -> None:
        c = Keyed._get_collection()
        allowed = {key: value for key, value in odd.items() if key != "$dollar"}
        do("create", lambda: c.insert_one({"_id": 1, **odd}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"int": Int64(1)}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"int": 1.0}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"int": True}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"empty": {"b": 1, "a": 2}}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"empty": {"a": 2, "b": 1}}}))
        do([], lambda: c.update_one({"_id": 1}, {"$set": {"nan": float("nan")}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"zero": 0.0}}))
        do(
            "update",
            lambda: c.update_one(
                {"_id": 1}, {"$unset": {"int": 1}, "$set": {"b": 1, "a": 1, "10": 1, "9": 1}}
            ),
        )
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"int": 1, "list.7": 1}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$unset": {"list.0": 1}}))
        do("update", lambda: c.replace_one({"_id": 1}, dict(reversed(allowed.items()))))
        do("delete", lambda: c.delete_one({"_id": 1}))

    judge(script, Keyed)


def test_zero_timestamps(delivery: str) -> None:
    """Where the server puts its own time into a document, the history holds that time."""
    with tracking(Keyed):
        c = Keyed._get_collection()
        c.insert_one({"_id": 1, "ts": Timestamp(0, 0), "inner": {"ts": Timestamp(0, 0)}})
        c.insert_many([{"_id": 2, "ts": Timestamp(0, 0)}])
        c.replace_one({"_id": 1}, {"ts": Timestamp(0, 0)})
        c.update_one({"_id": 2}, {"$set": {"other": Timestamp(0, 0)}})
        c.update_one({"_id": 2}, {"$currentDate": {"when": True}})
        for key, count in ((1, 2), (2, 3)):
            versions = list(history_of(Keyed, key))
            assert [version.operation for version in versions] == ["create"] + ["update"] * (count - 1)
            assert versions[-1].state == c.find_one({"_id": key})


def test_decimal_fields(judge: Judge) -> None:
    """MongoEngine's own conversions are recorded as they arrive at the server."""

    def script(do: Do) -> None:
        do("create", lambda: scroll(1, length=str(Decimal("1.10"))).save())
        do("update", lambda: Scroll.objects(number=1).update(length=Decimal128("1.10")))
        do("update", lambda: Scroll.objects(number=1).update(length=Decimal128("1.1")))
        do("update", lambda: Scroll.objects(number=1).update(length=2))
        do("update", lambda: Scroll.objects(number=1).update(length=2.0))

    judge(script, Scroll)


def test_updates_of_many_that_fail_half_way(delivery: str) -> None:
    """Whatever is left of a failed write of many documents, the history is what the database holds."""
    with tracking(Scroll):
        Scroll.objects.insert([scroll(1), scroll(2), scroll(3)])
        with pytest.raises(mongoengine.OperationError):
            Scroll.objects.update(code="same")
        for number in (1, 2, 3):
            states = [version.state for version in history_of(Scroll, number)]
            assert states[-1] == Scroll._get_collection().find_one({"_id": number})
