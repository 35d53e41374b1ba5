"""
What the tables of write paths have beside the everyday ones, under `tests.judge`: odd options, odd classes, odd places.

Each test runs in `atomic` and in `sync` delivery on a replica set, and on a standalone server.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId
from bson.binary import Binary
from bson.code import Code
from mongoengine import fields, signals
from mongoengine.context_managers import switch_db
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import BulkWriteError, WriteConcernError
from pymongo.write_concern import WriteConcern

from django_mongo_history import history_of
from django_mongo_history.capture import many
from tests.judge import Do, Judge, configured, tracking

CHUNK_SIZE = 4


class Nib(mongoengine.EmbeddedDocument):
    width = fields.IntField(db_field="w")


class LooseNib(mongoengine.DynamicEmbeddedDocument):
    """Fields as they come, below another document."""


class Pen(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField(db_field="nm")
    uses = fields.IntField()
    tags = fields.ListField(fields.StringField())
    counts = fields.ListField(fields.IntField())
    nibs = fields.EmbeddedDocumentListField(Nib)
    box = fields.DictField()
    loose = fields.EmbeddedDocumentField(LooseNib)
    code = fields.StringField(unique=True, sparse=True)
    meta = {"collection": "pen"}


class Case(mongoengine.Document):
    """Cascades by default, into lists and by generic reference."""

    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    first = fields.ReferenceField(Pen)
    other = fields.GenericReferenceField()
    meta = {"collection": "case", "cascade": True}


class Desk(mongoengine.Document):
    """The top of three levels of CASCADE, and one that DENY protects."""

    number = fields.IntField(primary_key=True)
    meta = {"collection": "desk"}


class Drawer(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    desk = fields.ReferenceField(Desk, reverse_delete_rule=mongoengine.CASCADE)
    meta = {"collection": "drawer"}


class Sheet(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    drawer = fields.ReferenceField(Drawer, reverse_delete_rule=mongoengine.CASCADE)
    meta = {"collection": "sheet"}


class Lock(mongoengine.Document):
    desk = fields.ReferenceField(Desk, reverse_delete_rule=mongoengine.DENY)
    meta = {"collection": "lock"}


class Ring(mongoengine.Document):
    """Refers to its own kind."""

    number = fields.IntField(primary_key=True)
    other = fields.ReferenceField("self", reverse_delete_rule=mongoengine.CASCADE)
    meta = {"collection": "ring"}


class Compound(mongoengine.EmbeddedDocument):
    b = fields.IntField()
    a = fields.StringField()


class Composed(mongoengine.Document):
    """A primary key of several parts, in an order of their own."""

    key = fields.EmbeddedDocumentField(Compound, primary_key=True)
    value = fields.IntField()
    meta = {"collection": "composed"}


class AnyKey(mongoengine.Document):
    key = fields.DynamicField(primary_key=True)
    value = fields.IntField()
    meta = {"collection": "any_key"}


class Spread(mongoengine.Document):
    """A shard key of two fields."""

    region = fields.StringField()
    number = fields.IntField()
    name = fields.StringField()
    meta = {"collection": "spread", "shard_key": ("region", "number")}


class ShortReel(mongoengine.Document):
    """A capped collection of three documents."""

    line = fields.IntField(primary_key=True)
    text = fields.StringField()
    meta = {"collection": "short_reel", "max_documents": 3, "max_size": 100_000}


@pytest.fixture(params=["atomic", "sync", "standalone"])
def delivery(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database, and the way in which versions get into it."""
    request.getfixturevalue("standalone_mongodb" if request.param == "standalone" else "mongodb")
    mode = "sync" if request.param == "sync" else "auto"
    with configured(DELIVERY=mode, CHUNK_SIZE=CHUNK_SIZE):
        yield request.param


@pytest.fixture
def judge(delivery: str) -> Judge:
    return Judge()


def pen(number: int = 1, **values: Any) -> Pen:
    given: dict[str, Any] = {
        "name": "pen", "uses": 1, "tags": ["a", "b"], "counts": [1, 5, 9], "nibs": [Nib(width=1), Nib(width=2)],
        "box": {"k": [1, {"z": 0}]}, "loose": LooseNib(x=1),
    }  # fmt: skip
    return Pen(number=number, **{**given, **values})


def heard(*_arguments: Any, **_facts: Any) -> None:
    """A receiver of delete signals."""


# -- save and insert --------------------------------------------------------------------------------------------------


def test_inserts_by_force(judge: Judge) -> None:
    """`force_insert` and explicit keys, where nothing is in the way and where something is."""

    def script(do: Do) -> None:
        do("create", lambda: pen(1).save(force_insert=True))
        do("create", lambda: Composed(key=Compound(b=1, a="x"), value=1).save(force_insert=True))
        do([], lambda: Composed(key=Compound(b=1, a="x"), value=2).save(force_insert=True))
        do("update", lambda: Composed(key=Compound(b=1, a="x"), value=2).save())
        do("update", lambda: Composed.objects(key=Compound(b=1, a="x")).update(inc__value=1))
        do("delete", lambda: Composed.objects.get(key=Compound(b=1, a="x")).delete())
        do("create", lambda: Composed.objects.insert(Composed(key=Compound(b=1, a="x"))))

    judge(script, Pen, Composed)


def test_cascades_by_the_class(judge: Judge) -> None:
    """A class that cascades by default writes what it refers to, inner first."""

    def script(do: Do) -> None:
        one, two = pen(1), pen(2)
        do("create", one.save)
        do("create", two.save)
        case = Case(number=1, name="c", first=one, other=two)
        do("create", case.save)
        one.name, two.name, case.name = "x", "y", "z"
        do(["update"] * 3, case.save)
        one.uses = 5
        do("update", case.save)
        case.name = "again"
        do("update", lambda: case.save(cascade=False))

    judge(script, Case, Pen)


def test_dynamic_embedded_documents(judge: Judge) -> None:
    """Fields that nobody declared, below another document."""

    def script(do: Do) -> None:
        one = pen(1)
        do("create", one.save)
        one.loose.y = [1, {"z": 2}]
        do("update", one.save)
        del one.loose.x
        do("update", one.save)
        one.loose = None
        do("update", one.save)

    judge(script, Pen)


def test_partly_loaded_lists(judge: Judge) -> None:
    """Slices, `only()` below a document and `exclude()` leave the rest of the document as it is."""

    def script(do: Do) -> None:
        do("create", pen(1).save)
        sliced = Pen.objects.fields(slice__counts=[1, 1]).get(number=1)
        sliced.name = "sliced"
        do("update", sliced.save)
        inner = Pen.objects.only("box.k", "nibs.width").get(number=1)
        inner.box["k"].append(2)
        inner.nibs[0].width = 7
        do("update", inner.save)
        without = Pen.objects.exclude("box", "tags", "counts").get(number=1)
        without.tags = ["new"]
        do("update", without.save)
        do([], lambda: Pen.objects.only("name").get(number=1).save())

    judge(script, Pen)


def test_what_mongoengine_does_not_notice(judge: Judge) -> None:
    """Changes in place that its delta misses write nothing; keys with dots write what it makes of them."""

    def script(do: Do) -> None:
        one = pen(1)
        do("create", one.save)
        one.tags.clear()
        do([], one.save)
        one.box |= {"more": 1}
        do([], one.save)
        again = Pen.objects.get(number=1)
        again.box["k"][1]["z"] = 5
        do("update", again.save)
        again.box = {"x.y": 1, "$z": 2}
        do([], again.save)  # refused by its validation
        stale = Pen.objects.get(number=1)
        do("update", lambda: Pen.objects(number=1).update(set__counts=[1]))
        stale.counts[2] = 7
        do("update", stale.save)

    judge(script, Pen)


@pytest.mark.parametrize("ordered", [True, False])
def test_inserts_with_several_failures(judge: Judge, ordered: bool) -> None:
    """Several duplicates over several chunks; unique indexes beside `_id`."""

    def script(do: Do) -> None:
        c = Pen._get_collection()
        do(["create"] * 2, lambda: c.insert_many([{"_id": 3, "code": "c"}, {"_id": 9, "code": "d"}]))
        many: list[dict[str, Any]] = [{"_id": number} for number in range(11)]
        many[7] = {"_id": 7, "code": "c"}
        wanted = 3 if ordered else 8
        do(["create"] * wanted, lambda: c.insert_many(many, ordered=ordered))
        do([], lambda: c.insert_many([{"_id": 3}], ordered=ordered))
        do([], lambda: Pen.objects.insert([pen(3), pen(9)]))
        do([], lambda: Pen.objects.insert([pen(3), pen(9)], load_bulk=False))
        do([], lambda: Pen.objects.insert(pen(3)))

    judge(script, Pen)


# -- update -----------------------------------------------------------------------------------------------------------

RAW_UPDATES: dict[str, Any] = {
    "push each": {"$push": {"counts": {"$each": [7, 3], "$sort": -1, "$slice": 3, "$position": 0}}},
    "add each": {"$addToSet": {"tags": {"$each": ["a", "q"]}}},
    "pull by condition": {"$pull": {"counts": {"$gte": 5}, "nibs": {"w": 1}}},
    "pull all": {"$pullAll": {"counts": [1, 9]}},
    "all positions": {"$set": {"nibs.$[].w": 3}},
    "mul": {"$mul": {"uses": Decimal128("1.5")}},
    "min": {"$min": {"uses": 0, "fresh": 3}},
    "max": {"$max": {"uses": 7}},
    "rename": {"$rename": {"uses": "used", "box.k": "box.j"}},
    "bit": {"$bit": {"uses": {"xor": 3}}},
    "unset below": {"$unset": {"box.k": "", "counts.1": "", "nibs.0.w": ""}},
    "several": {
        "$set": {"a.b.c": 1},
        "$inc": {"uses": Int64(1)},
        "$push": {"tags": "x"},
        "$unset": {"nm": 1},
    },
    "replace root": [{"$replaceWith": {"_id": "$_id", "nm": "root", "old": "$$ROOT.counts"}}],
    "add fields": [{"$addFields": {"total": {"$sum": "$counts"}}}, {"$project": {"tags": 0}}],
    "conditions": [{"$set": {"nm": {"$cond": [{"$gt": ["$uses", 0]}, "used", "new"]}, "box": "$$REMOVE"}}],
}


@pytest.mark.parametrize("part", range(3))
def test_raw_updates(judge: Judge, part: int) -> None:
    """What MongoEngine has no keyword for, through every method that takes an update."""

    def script(do: Do) -> None:
        for place, name in enumerate(list(RAW_UPDATES)[part::3], start=1):
            _raw_update_every_way(do, name, place * 100)

    judge(script, Pen)


def _raw_update_every_way(do: Do, name: str, first: int) -> None:
    update, c, after = RAW_UPDATES[name], Pen._get_collection(), ReturnDocument.AFTER
    keys = list(range(first, first + 12))
    do(["create"] * 12, lambda: Pen.objects.insert([pen(key) for key in keys], load_bulk=False), name)
    do("update", lambda: c.update_one({"_id": first}, update), name)
    do("update", lambda: c.update_one({"tags": "a", "_id": {"$gt": first}}, update), name)
    do(["update"] * 2, lambda: c.update_many({"_id": {"$in": keys[2:4]}}, update), name)
    do(["update"] * 5, lambda: c.update_many({"_id": {"$in": keys[4:9]}}, update), name)
    do("update", lambda: c.find_one_and_update({"_id": keys[9]}, update, return_document=after), name)
    do("update", lambda: c.find_one_and_update({"_id": keys[10]}, update, {"nm": 1}), name)
    do("update", lambda: c.bulk_write([UpdateOne({"_id": keys[11]}, update)]), name)
    made = [] if name == "all positions" else "create"  # of a list that is not there
    do(made, lambda: c.update_one({"_id": -first}, update, upsert=True), name)
    do([], lambda: c.update_many({"_id": 0}, update), name)


def test_array_filters_everywhere(judge: Judge) -> None:
    """Through each method that knows them."""

    def script(do: Do) -> None:
        c = Pen._get_collection()
        do(["create"] * 9, lambda: Pen.objects.insert([pen(number) for number in range(9)], load_bulk=False))
        update, filters = {"$inc": {"counts.$[big]": 1, "nibs.$[n].w": 1}}, [{"big": {"$gt": 4}}, {"n.w": 2}]
        do("update", lambda: c.update_one({"_id": 0}, update, array_filters=filters))
        do(["update"] * 7, lambda: c.update_many({"_id": {"$lt": 7}}, update, array_filters=filters))
        do("update", lambda: c.find_one_and_update({"_id": 1}, update, array_filters=filters))
        do("update", lambda: c.find_one_and_update({"_id": 2}, update, {"counts": 1}, array_filters=filters))
        do("update", lambda: c.bulk_write([UpdateOne({"_id": 7}, update, array_filters=filters)]))
        do(
            ["update"] * 2,
            lambda: c.bulk_write([UpdateMany({"_id": {"$gt": 6}}, update, array_filters=filters)]),
        )
        do([], lambda: c.update_one({"_id": 0}, update))
        do([], lambda: c.update_one({"_id": 0}, update, array_filters=[{"unused": 1}]))

    judge(script, Pen)


def test_unacknowledged_writes_with_options(judge: Judge) -> None:
    """What the driver refuses with `w=0` is refused in the same words; what it takes is recorded."""

    def script(do: Do) -> None:
        acknowledged = Pen._get_collection()
        c = acknowledged.with_options(write_concern=WriteConcern(w=0))
        do(["create"] * 3, lambda: acknowledged.insert_many([{"_id": n, "counts": [1, 5]} for n in range(3)]))
        update, filters = {"$set": {"counts.$[big]": 0}}, [{"big": {"$gt": 4}}]
        collation = {"locale": "en"}
        do([], lambda: c.update_one({"_id": 1}, update, array_filters=filters))
        do([], lambda: c.update_many({}, update, array_filters=filters))
        do([], lambda: c.find_one_and_update({"_id": 1}, update, array_filters=filters))
        do([], lambda: c.bulk_write([UpdateOne({"_id": 1}, update, array_filters=filters)]))
        do([], lambda: c.update_one({"_id": 1}, {"$set": {"a": 1}}, collation=collation))
        do([], lambda: c.update_many({}, {"$set": {"a": 1}}, collation=collation))
        do([], lambda: c.replace_one({"_id": 1}, {"a": 1}, collation=collation))
        do([], lambda: c.delete_one({"_id": 1}, collation=collation))
        do([], lambda: c.delete_many({}, collation=collation))
        do([], lambda: c.find_one_and_delete({"_id": 1}, collation=collation))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"a": 2}}))
        do(
            [],
            lambda: Pen.objects(number=1).update(
                __raw__=update, array_filters=filters, write_concern={"w": 0}
            ),
        )

    judge(script, Pen)


# -- delete -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_heard", [False, True], ids=["without receivers", "with receivers"])
def test_cascades_of_several_levels(judge: Judge, is_heard: bool) -> None:
    """CASCADE below CASCADE, more documents than a chunk, DENY in the way; each document that went has its version."""

    def script(do: Do) -> None:
        do(["create"] * 2, lambda: Desk.objects.insert([Desk(number=1), Desk(number=2)], load_bulk=False))
        drawers = [Drawer(number=number, desk=Desk(number=1)) for number in range(6)]
        do(["create"] * 6, lambda: Drawer.objects.insert(drawers, load_bulk=False))
        sheets = [Sheet(number=number, drawer=drawers[number % 6]) for number in range(12)]
        do(["create"] * 12, lambda: Sheet.objects.insert(sheets, load_bulk=False))
        lock = Lock(desk=Desk(number=2))
        do("create", lock.save)
        do([], Desk(number=2).delete)
        if not is_heard:  # else MongoEngine goes document by document, and stops at the lock
            do([], Desk.objects.delete)
        do(["delete"] * 3, Drawer.objects(number=5).delete)
        do(["delete"] * (1 + 5 + 10), Desk.objects(number=1).delete)
        do("delete", lock.delete)
        do("delete", Desk.objects.delete)

    if is_heard:
        for sender in (Desk, Drawer, Sheet):
            signals.post_delete.connect(heard, sender=sender)
    try:
        judge(script, Desk, Drawer, Sheet, Lock)
    finally:
        signals.post_delete._clear_state()


def test_longer_circles_of_cascades(judge: Judge) -> None:
    """Three that refer to each other in a ring, deleted by one of them and by a query."""

    def script(do: Do) -> None:
        for first in (1, 11):
            rings = [Ring(number=first + number) for number in range(3)]
            do(["create"] * 3, lambda rings=rings: Ring.objects.insert(rings, load_bulk=False))
            for number in range(3):
                rings[number].other = rings[number - 1]
                do("update", Ring.objects(number=rings[number].number).get().modify and rings[number].save)
        do(["delete"] * 3, lambda: Ring.objects.get(number=1).delete())
        do(["delete"] * 3, Ring.objects(number=12).delete)

    judge(script, Ring)


# -- keys -------------------------------------------------------------------------------------------------------------

MORE_KEYS: dict[str, Any] = {
    "NaN": float("nan"),
    "minus zero": -0.0,
    "infinity": float("inf"),
    "MinKey": MinKey(),
    "MaxKey": MaxKey(),
    "reference": DBRef("c", 1),
    "reference with more": DBRef("c", ObjectId("0" * 24), "d", more=1),
    "empty text": "",
    "text with a dollar": "$a.b",
    "old UUID": Binary(b"0123456789abcdef", 3),
    "MD5": Binary(b"0123456789abcdef", 5),
    "code with scope": Code("f()", {"x": 1}),
    "Decimal with an exponent": Decimal128("1E+3"),
    "document of documents": {"z": {"y": [1, {"x": None}]}, "a": 1},
    "date": datetime.datetime(2500, 1, 1, tzinfo=datetime.UTC),
    "long that is an int": Int64(7),
}


def test_more_primary_keys(judge: Judge) -> None:
    """Whatever the server takes for an `_id`, the history is found by it."""

    def script(do: Do) -> None:
        c = AnyKey._get_collection()
        for name, key in MORE_KEYS.items():
            do("create", lambda key=key: c.insert_one({"_id": key, "value": 1}), name)
            do("update", lambda: c.update_one({"value": 1}, {"$inc": {"value": 1}}), name)
            do("update", lambda key=key: c.update_one({"_id": {"$eq": key}}, {"$set": {"value": 3}}), name)
            do("update", lambda key=key: c.replace_one({"_id": {"$eq": key}}, {"value": 4}), name)
            do("update", lambda: c.update_many({"value": 4}, {"$set": {"value": 5}}), name)
            do(
                "update",
                lambda: c.find_one_and_update({"value": 5}, {"$inc": {"value": 1}}, {"value": 1}),
                name,
            )
            do("delete", lambda: c.delete_many({"value": 6}), name)

    judge(script, AnyKey)


# -- places -----------------------------------------------------------------------------------------------------------


def test_a_database_for_each_tenant(delivery: str) -> None:
    """The same key in three databases, written in turn: three histories, each with its documents."""
    database = mongoengine.get_db()
    tenants = ["one", "two", "three"]
    uri = "mongodb://{}:{}/".format(*database.client.address)
    for tenant in tenants:
        mongoengine.connect(
            f"{database.name}_{tenant}", alias=tenant, host=uri, uuidRepresentation="standard", tz_aware=True
        )

    try:
        with tracking(Pen):
            for tenant in tenants:
                Pen.objects.using(tenant).insert(pen(1, name=tenant))
            for turn in range(45):  # not in threads: MongoEngine switches the class for all of them
                tenant = tenants[turn % 3]
                if turn % 2:
                    Pen.objects.using(tenant).filter(number=1).update(inc__uses=1)
                    continue
                with switch_db(Pen, tenant) as there:
                    there.objects(number=1).update(inc__uses=1)
            for tenant in tenants:
                h = history_of(Pen, 1, using=tenant)
                assert [(v["name"], v["uses"]) for v in h] == [(tenant, uses) for uses in range(1, 17)]
                rows = mongoengine.get_db(tenant)["document_history"]
                assert rows.distinct("collection") == [f"{database.name}_{tenant}.pen"]
                assert rows.count_documents({}) == 16
            assert len(history_of(Pen, 1)) == 0
            history_of(Pen, 1, using="two")[0].revert()
            stored = {tenant: mongoengine.get_db(tenant)["pen"].find_one()["uses"] for tenant in tenants}
            assert stored == {"one": 16, "two": 1, "three": 16}
    finally:
        for tenant in tenants:
            mongoengine.get_db(tenant).client.drop_database(f"{database.name}_{tenant}")
            mongoengine.disconnect(tenant)


def test_compound_shard_keys(judge: Judge) -> None:
    """Saves carry the whole key in their filter, and a changed key raises what it always did."""

    def script(do: Do) -> None:
        one = Spread(region="r", number=1, name="n")
        do("create", one.save)
        one.name = "m"
        do("update", one.save)
        do("update", lambda: one.update(name="o"))
        do("update", lambda: Spread.objects(region="r").update_one(name="p"))
        again = Spread.objects.first()
        do([], lambda: setattr(again, "region", "other"))
        do("delete", one.delete)

    judge(script, Spread)


def test_what_a_capped_collection_pushes_out(delivery: str) -> None:
    """The server removes the oldest by itself: its history ends as with any write past the tracker, with all it was."""
    with tracking(ShortReel):
        for number in range(6):
            ShortReel(line=number, text=f"t{number}").save(force_insert=True)
        for number in range(6):
            found = list(history_of(ShortReel, number))
            gone = number < 3
            assert [str(v.operation) for v in found] == ["create"] + ["external"] * gone
            assert found[0]["text"] == f"t{number}"
            assert found[-1].state is None or not gone


def test_bulk_writes_of_every_request(judge: Judge) -> None:
    """Requests with options of their own, on documents that other requests of the batch have written."""

    def script(do: Do) -> None:
        c = Pen._get_collection()
        do(["create"] * 3, lambda: c.insert_many([{"_id": n, "nm": "Aa", "uses": n} for n in range(3)]))
        strength = {"locale": "en", "strength": 2}
        do(
            ["update"] * 3,
            lambda: c.bulk_write(
                [
                    UpdateOne({"nm": "aA", "_id": 0}, {"$inc": {"uses": 1}}, collation=strength),
                    UpdateMany({"nm": "AA", "_id": 1}, {"$inc": {"uses": 1}}, collation=strength),
                    ReplaceOne({"_id": 2}, {"nm": "r"}, hint="_id_"),
                    DeleteOne({"nm": "nobody"}, collation=strength),
                    DeleteMany({"_id": {"$gt": 90}}, hint=[("_id", 1)]),
                ],
                comment="why",
            ),
        )
        do(
            ["create"] * 6,
            lambda: c.bulk_write(
                [InsertOne({"_id": 10}), UpdateOne({"_id": 11}, {"$set": {"a": 1}}, upsert=True)]
                + [ReplaceOne({"_id": 12 + n}, {"b": 1}, upsert=True) for n in range(4)],
                ordered=False,
            ),
        )
        do("update", lambda: c.bulk_write([UpdateMany({"_id": 10}, [{"$set": {"n": "$_id"}}])]))
        do(["delete"] * 9, lambda: c.bulk_write([DeleteMany({})]))

    judge(script, Pen)


# -- write concerns that cannot be met --------------------------------------------------------------------------------

UNMET = WriteConcern(w=3, wtimeout=30)
UNMET_WRITES: dict[str, Any] = {
    "set": lambda c: c.update_one({"_id": 1}, {"$set": {"uses": 5}}),
    "inc": lambda c: c.update_one({"_id": 1}, {"$inc": {"uses": 1}}),
    "upsert": lambda c: c.update_one({"_id": 9}, {"$set": {"uses": 4}}, upsert=True),
    "replace": lambda c: c.replace_one({"_id": 1}, {"uses": 9}),
    "delete": lambda c: c.delete_one({"_id": 1}),
    "insert": lambda c: c.insert_one({"_id": 2}),
    "insert many": lambda c: c.insert_many([{"_id": 3}, {"_id": 4}]),
    "update many": lambda c: c.update_many({"uses": {"$gte": 0}}, {"$inc": {"uses": 1}}),
    "delete many": lambda c: c.delete_many({"uses": {"$gte": 0}}),
    "find and update": lambda c: c.find_one_and_update({"_id": 1}, {"$set": {"uses": 7}}),
    "find and update, projected": lambda c: c.find_one_and_update(
        {"_id": 1}, {"$inc": {"uses": 7}}, {"a": 1}
    ),
    "find and delete": lambda c: c.find_one_and_delete({"_id": 1}),
    "bulk": lambda c: c.bulk_write([UpdateOne({"_id": 1}, {"$inc": {"uses": 1}}), InsertOne({"_id": 8})]),
    "bulk unordered": lambda c: c.bulk_write([UpdateOne({"_id": 1}, {"$inc": {"uses": 1}})], ordered=False),
}


@pytest.mark.parametrize("mode", ["atomic", "sync"])
@pytest.mark.parametrize("name", UNMET_WRITES)
def test_write_concerns_that_cannot_be_met(mongodb: Database, mode: str, name: str) -> None:
    """The write is done, once, and has its version; what is raised is the error that it always was."""
    plain = _unmet(mongodb, name)
    mongodb["pen"].delete_many({})
    with configured(DELIVERY=mode), tracking(Pen):
        error, documents = _unmet(mongodb, name)
        assert documents == plain[1]
        assert (type(error), error.code) == (type(plain[0]), plain[0].code)
        if name.startswith("bulk"):
            assert _told(error) == _told(plain[0])
        for key in {1, *(found["_id"] for found in documents)}:
            found = [str(v.operation) for v in history_of(Pen, key)]
            assert found[0] == "create"
            assert "external" not in found


def _told(error: Any) -> dict[str, Any]:
    """The counts of a batch, and which concerns were not met: once for each command, which are others here."""
    late = {(one["code"], one["errmsg"]) for one in error.details["writeConcernErrors"]}
    return {**error.details, "writeConcernErrors": late}


def _unmet(database: Database, name: str) -> tuple[Any, list[Any]]:
    Pen._get_collection().insert_one({"_id": 1, "uses": 1})
    collection = Pen._get_collection().with_options(write_concern=UNMET)
    with pytest.raises((WriteConcernError, BulkWriteError)) as caught:
        UNMET_WRITES[name](collection)
    return caught.value, list(database["pen"].find())


# -- chunks by bytes --------------------------------------------------------------------------------------------------


def test_large_documents_go_in_smaller_chunks(mongodb: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is bounded in bytes, too: one transaction holds no more, and each document is written once."""
    monkeypatch.setattr(many, "LARGEST_CHUNK", 5_000)
    transactions: list[int] = []
    started = ClientSession.start_transaction
    monkeypatch.setattr(
        ClientSession,
        "start_transaction",
        lambda *args, **options: transactions.append(1) or started(*args, **options),
    )
    with configured(DELIVERY="atomic"), tracking(Pen):
        c = Pen._get_collection()
        c.insert_many([{"_id": n, "text": "x" * 1_000, "uses": 0} for n in range(20)])
        assert len(transactions) == 5
        transactions.clear()
        assert c.update_many({}, {"$inc": {"uses": 1}}).modified_count == 20
        assert len(transactions) == 1 + 5
        wanted = {"$expr": {"$eq": ["$uses", "$$now"]}}
        assert c.update_many(wanted, {"$set": {"uses": 7}}, let={"now": 1}).modified_count == 20
        assert c.delete_many({}).deleted_count == 20
        for n in range(20):
            assert [v.operation for v in history_of(Pen, n)] == ["create", "update", "update", "delete"]
            assert [v.state["uses"] for v in history_of(Pen, n)[:3]] == [0, 1, 7]
