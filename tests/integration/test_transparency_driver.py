"""
The collection beneath a class, as those use it who go round MongoEngine: every write and its options, sessions, codec
options, and what the driver says of wrong arguments. Compared by `tests.differential`, as documents and querysets are.
"""

# ruff: noqa: B023, PLW0108 - each call is run at once, by `see`

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import bson
import mongoengine
import pymongo
import pytest
from bson import SON, Binary, Decimal128, Int64
from bson.codec_options import CodecOptions, TypeCodec, TypeRegistry
from bson.raw_bson import RawBSONDocument
from mongoengine import fields
from pymongo import (
    DeleteMany,
    DeleteOne,
    IndexModel,
    InsertOne,
    ReadPreference,
    ReplaceOne,
    ReturnDocument,
    UpdateMany,
    UpdateOne,
    WriteConcern,
)
from pymongo.collation import Collation
from pymongo.read_concern import ReadConcern

from django_mongo_history import history_of
from tests import differential
from tests.differential import Case, Cases, See, World
from tests.judge import configured, tracking
from tests.versions import NEEDS_BIND

cases = Cases()
REPLICA_SETS = ("atomic", "sync")


class Parcel(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    weight = fields.IntField()
    stamps = fields.ListField(fields.IntField())
    meta = {
        "collection": "parcel",
        "strict": False,
        "indexes": ["name", {"fields": ["code"], "unique": True, "sparse": True}],
    }
    code = fields.StringField()


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with differential.world(request, (Parcel,)) as made:
        yield made


def parcels(**options: Any) -> Any:
    collection = Parcel._get_collection()
    return collection.with_options(**options) if options else collection


def four(**values: Any) -> Any:
    Parcel._get_db()["parcel"].insert_many(
        [{"_id": n, "name": "abab"[n - 1], "weight": n, "stamps": [n, n + 1], **values} for n in (1, 2, 3, 4)]
    )
    return parcels()


# -- arguments that the driver or the server refuses -----------------------------------------------------------------

BAD: dict[str, list[Any]] = {
    "upsert": ["yes", None, 1],
    "collation": ["en", {"locale": "nowhere"}, {"strength": 1}, 5],
    "hint": ["no_such_index", [("nothing", 1)], 5, {"name": 1}, {}],
    "array_filters": ["text", {}, [{"x": 1}], [{}], [5]],
    "let": ["text", {"a": "$$ROOT"}, 5, {"1": 2}],
    "comment": [{"a": 1}, "text", 5],
    "bypass_document_validation": ["yes", True, 5],
    "session": ["text", 5],
    "sort": ["name", [("name", -1)], {"name": 1}, 5],
    "bogus": [1],
}
CALLS: dict[str, tuple[Any, ...]] = {
    "update_one": ({"name": "a"}, {"$set": {"weight": 9}}),
    "update_many": ({"name": "a"}, {"$set": {"weight": 9}}),
    "replace_one": ({"name": "a"}, {"name": "c"}),
    "delete_one": ({"name": "a"},),
    "delete_many": ({"name": "a"},),
    "find_one_and_update": ({"name": "a"}, {"$set": {"weight": 9}}),
    "find_one_and_replace": ({"name": "a"}, {"name": "c"}),
    "find_one_and_delete": ({"name": "a"},),
}


def _bad_options(method: str) -> Any:
    def run(see: See) -> None:
        for option, values in BAD.items():
            for value in values:
                Parcel._get_db()["parcel"].delete_many({})
                collection = four()
                see(lambda: getattr(collection, method)(*CALLS[method], **{option: value}))
                see(lambda: list(collection.find()))

    run.__name__ = f"options_of_{method}"
    return run


def _bad_operands(method: str) -> Any:
    def run(see: See) -> None:
        collection = four()
        call = getattr(collection, method)
        rest = CALLS[method][1:]
        for query in (
            "text",
            None,
            5,
            [],
            {"$bad": 1},
            {"_id": {"$bad": 1}},
            {"a": {1}},
            {1: 2},
            {"_id": 1j},
        ):
            see(lambda: call(query, *rest))
        see(lambda: call())
        see(lambda: call(*CALLS[method], *[None] * 20))
        see(lambda: call(RawBSONDocument(b"\x05\x00\x00\x00\x00"), *rest))
        see(lambda: call(SON([("_id", 2)]), *rest))
        if rest:
            wrong = (
                {},
                [],
                None,
                "text",
                {"a": 1},
                {"$set": {}},
                {"$bad": {"a": 1}},
                {"$set": {"_id": 5}},
                {"$set": 3},
            )
            for update in (
                *wrong,
                {"_id": 77},
                {"$set": {"a": {1}}},
                {"$inc": {"name": 1}},
                [{"$bad": 1}],
                {"a": 1j},
                {5: 6},
            ):
                see(lambda: call({"_id": 3}, update))
            see(lambda: call({"_id": 3}, SON([("$set", SON([("z", 1), ("y", 2)]))])))

    run.__name__ = f"operands_of_{method}"
    return run


for _method in CALLS:
    cases(_bad_options(_method), images=None, modes=("atomic",))
    cases(_bad_operands(_method), images=None, modes=("atomic", "standalone"))


@cases(images=None)
def operands_of_inserts(see: See) -> None:
    collection = four()
    for document in (
        "text",
        None,
        5,
        [],
        [{"_id": 9}],
        {"a": {1}},
        {1: 2},
        {"_id": [1]},
        {"_id": None},
        {"$a": 1},
        {"a": 2**70},
    ):
        see(lambda: collection.insert_one(document))
    see(lambda: collection.insert_one({"_id": {"$a": 1}}))
    see(lambda: collection.insert_one())
    see(lambda: collection.insert_one({"_id": 20}, None, None, "comment"))
    see(lambda: collection.insert_one({"_id": 21}, bogus=1))
    see(lambda: collection.insert_one({"_id": 22}, session="text"))
    see(lambda: collection.insert_one({"_id": 23}, bypass_document_validation=True))
    see(lambda: collection.insert_one(document={"_id": 24}, comment={"a": 1}))
    big = differential.attempted(lambda: collection.insert_one({"a": "x" * 17_000_000}))
    see(lambda: type(big))
    for documents in (
        "text",
        None,
        5,
        [],
        {},
        {"_id": 9},
        [5],
        ["a"],
        [None],
        [{"_id": 30}, 5],
        (),
        iter(()),
    ):
        see(lambda: collection.insert_many(documents))
    see(lambda: collection.insert_many([{"_id": 40}, {"_id": 40}, {"_id": 41}]))
    see(
        lambda: collection.insert_many(
            [{"_id": 50}, {"_id": 50}, {"_id": 51}, {"_id": [1]}, {"_id": 52}], ordered=False
        )
    )
    see(lambda: collection.insert_many([{"_id": 60}, {"_id": 61}], ordered="no"))
    see(lambda: collection.insert_many({"_id": n} for n in (70, 71)))
    see(lambda: collection.insert_many(({"_id": 80}, {"_id": 81}), True, None, None, "comment"))
    see(lambda: collection.insert_many([{"_id": 90}], bogus=2))
    see(lambda: collection.insert_many([{"_id": 91}, {"a": {1}}]))
    see(lambda: collection.insert_many([{"_id": 92}, {"a": {1}}], ordered=False))


@cases(images=None)
def inserted_documents_get_their_ids(see: See) -> None:
    collection = four()
    for document in ({"a": 1}, SON([("b", 1), ("a", 2)]), {"a": 1, "_id": 70}):
        see(lambda: collection.insert_one(document))
        see(lambda: list(document))
    several = [{"a": 1}, {"_id": 71}, SON([("z", 1)])]
    see(lambda: collection.insert_many(several))
    see(lambda: [list(one) for one in several])
    requests = [{"c": 1}, {"_id": 72}]
    see(lambda: collection.bulk_write([InsertOne(one) for one in requests]))
    see(lambda: [list(one) for one in requests])
    see(lambda: collection.insert_one(RawBSONDocument(bson.encode({"_id": 73, "a": 1}))))
    see(lambda: collection.insert_many([RawBSONDocument(bson.encode({"_id": 74, "a": 1}))]))


@cases(images=None)
def requests(see: See) -> None:
    """`bulk_write`, with requests of every kind, and with such as are none."""
    collection = four()
    for bad in (
        None,
        [],
        "text",
        5,
        {},
        [5],
        [{"insertOne": 1}],
        (InsertOne({}),),
        [InsertOne(5)],
        [UpdateOne({}, {"$bad": 1})],
    ):
        see(lambda: collection.bulk_write(bad))
    every: list[Any] = [
        InsertOne({"_id": 10, "name": "n"}),
        UpdateOne({"_id": 1}, {"$set": {"weight": 5}}),
        UpdateOne({"_id": 11}, {"$set": {"weight": 5}}, upsert=True),
        UpdateMany({"name": "a"}, {"$inc": {"weight": 5}}),
        ReplaceOne({"_id": 2}, {"name": "r"}),
        ReplaceOne({"name": "nobody"}, {"_id": 12, "name": "s"}, upsert=True),
        DeleteOne({"_id": 3}),
        DeleteMany({"name": "zz"}),
    ]
    see(lambda: collection.bulk_write(every))
    see(
        lambda: collection.bulk_write(
            [UpdateOne({"_id": 10}, {"$set": {"a": 1}}), InsertOne({"_id": 10}), InsertOne({"_id": 13})]
        )
    )
    see(
        lambda: collection.bulk_write(
            [
                InsertOne({"_id": 10}),
                InsertOne({"_id": 14}),
                UpdateOne({"_id": 1}, {"$bad": 1}),
                DeleteOne({"_id": 4}),
            ],
            ordered=False,
        )
    )
    see(lambda: collection.bulk_write([UpdateOne({"_id": 1}, {"$inc": {"name": 1}})]))
    see(
        lambda: collection.bulk_write(
            [UpdateMany({}, {"$set": {"stamps.$[x]": 0}}, array_filters=[{"x": {"$gt": 2}}])], comment="c"
        )
    )
    see(
        lambda: collection.bulk_write(
            [UpdateOne({"name": "A"}, {"$set": {"c": 1}}, collation=Collation("en", strength=1))]
        )
    )
    see(
        lambda: collection.bulk_write(
            [
                UpdateOne({"name": "a"}, {"$set": {"h": 1}}, hint="name_1"),
                DeleteOne({"name": "a"}, hint=[("name", 1)]),
            ]
        )
    )
    see(lambda: collection.bulk_write([UpdateOne({"name": "a"}, {"$set": {"h": 1}}, hint="nothing")]))
    see(lambda: collection.bulk_write([DeleteOne({"$bad": 1})]))
    see(lambda: collection.bulk_write([InsertOne({"_id": 15})], bypass_document_validation=True))
    see(lambda: collection.bulk_write([InsertOne({"_id": 16})], session="text"))
    see(lambda: collection.bulk_write([InsertOne({"_id": 17})], let={"a": 1}))
    see(
        lambda: collection.bulk_write(
            [UpdateOne({"$expr": {"$eq": ["$_id", "$$a"]}}, {"$set": {"l": 1}})], let={"a": 1}
        )
    )
    see(lambda: collection.bulk_write([UpdateOne({"_id": 1}, [{"$set": {"p": "$weight"}}])]))
    see(
        lambda: collection.bulk_write(
            [
                UpdateOne({"code": "x"}, {"$set": {"code": "x"}}, upsert=True),
                UpdateOne({"_id": 1}, {"$set": {"code": "x"}}),
            ]
        )
    )
    see(lambda: collection.bulk_write(every, bogus=1))

    see(lambda: collection.update_one({"_id": 1}, {"$set": {"weight": 1}}))
    see(lambda: collection.update_one({"_id": 1}, {"$set": {"weight": 2}}))
    see(lambda: collection.update_one({"_id": 9}, {"$set": {"weight": 2}}, upsert=True))
    see(lambda: collection.update_one({"name": "x"}, {"$set": {"weight": 2}}, True))
    see(lambda: collection.update_one({"_id": None}, {"$set": {"weight": 2}}, upsert=True))
    see(lambda: collection.update_many({"name": "y"}, {"$set": {"weight": 2}}, upsert=True))
    see(lambda: collection.update_many({"weight": 2}, {"$inc": {"weight": 1}}))
    see(lambda: collection.update_many({}, [{"$set": {"twice": {"$multiply": ["$weight", 2]}}}]))
    see(lambda: collection.replace_one({"_id": 1}, {"name": "r"}))
    see(lambda: collection.replace_one({"_id": 1}, {"name": "r"}))
    see(lambda: collection.replace_one({"_id": 30}, {"name": "r"}, upsert=True))
    see(lambda: collection.replace_one({"name": "q"}, {"name": "r"}, upsert=True))
    see(lambda: collection.replace_one({"_id": 1}, {}))
    see(lambda: collection.replace_one({"_id": 1}, SON([("b", 1), ("_id", 1), ("a", 2)])))
    see(lambda: collection.delete_one({"_id": 1}))
    see(lambda: collection.delete_one({"_id": 1}))
    see(lambda: collection.delete_many({"name": "b"}))
    see(lambda: collection.delete_many({}))
    see(lambda: collection.update_many({}, {"$set": {"a": 1}}))


@cases(images=None)
def found_and_modified(see: See) -> None:
    collection = four()
    after = {"return_document": ReturnDocument.AFTER}
    see(lambda: collection.find_one_and_update({"name": "b"}, {"$set": {"weight": 7}}, sort=[("_id", -1)]))
    see(
        lambda: collection.find_one_and_update(
            {"name": "b"}, {"$inc": {"weight": 7}}, sort=[("weight", 1), ("_id", 1)], **after
        )
    )
    see(lambda: collection.find_one_and_update({"name": "b"}, {"$inc": {"weight": 1}}, sort={"_id": 1}))
    see(lambda: collection.find_one_and_update({"name": "b"}, {"$inc": {"weight": 1}}, {"weight": 1}))
    see(lambda: collection.find_one_and_update({"name": "b"}, {"$inc": {"weight": 1}}, ["weight"], **after))
    see(
        lambda: collection.find_one_and_update(
            {"name": "b"}, {"$inc": {"weight": 1}}, {"weight": 0, "_id": 0}, **after
        )
    )
    see(
        lambda: collection.find_one_and_update({"name": "b"}, {"$inc": {"weight": 1}}, projection={}, **after)
    )
    see(lambda: collection.find_one_and_update({"name": "b"}, {"$inc": {"weight": 1}}, projection=[]))
    see(lambda: collection.find_one_and_update({"name": "b"}, {"$inc": {"weight": 1}}, projection="weight"))
    see(
        lambda: collection.find_one_and_update({"name": "b"}, {"$inc": {"weight": 1}}, projection={"$bad": 1})
    )
    see(
        lambda: collection.find_one_and_update(
            {"name": "b"}, {"$inc": {"weight": 1}}, projection={"a": 1, "b": 0}
        )
    )
    see(lambda: collection.find_one_and_update({"stamps": 3}, {"$set": {"stamps.$": 33}}, {"stamps.$": 1}))
    see(
        lambda: collection.find_one_and_update(
            {"stamps": 33}, {"$inc": {"weight": 1}}, {"stamps": {"$slice": 1}}, **after
        )
    )
    see(lambda: collection.find_one_and_update({"_id": 20}, {"$inc": {"weight": 1}}, upsert=True))
    see(lambda: collection.find_one_and_update({"_id": 21}, {"$inc": {"weight": 1}}, upsert=True, **after))
    see(
        lambda: collection.find_one_and_update(
            {"_id": 22}, {"$inc": {"weight": 1}}, {"weight": 1, "_id": 0}, upsert=True, **after
        )
    )
    see(
        lambda: collection.find_one_and_update(
            {"_id": 23}, {"$inc": {"weight": 1}}, {"weight": 1}, upsert=True
        )
    )
    see(
        lambda: collection.find_one_and_update(
            {"name": "new"}, {"$inc": {"weight": 1}}, {"name": 1}, upsert=True, **after
        )
    )
    see(lambda: collection.find_one_and_update({"_id": 99}, {"$inc": {"weight": 1}}, {"name": 1}))
    see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, return_document="after"))
    see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, return_document=1))
    see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, maxTimeMS=5000))
    see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, maxTimeMS="x"))
    see(
        lambda: collection.find_one_and_update(
            {"_id": 1}, {"$inc": {"weight": 1}}, bypassDocumentValidation=True
        )
    )
    see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, remove=True))
    see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, fields={"name": 1}))
    see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, new=True))
    see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, query={"_id": 2}))
    see(lambda: collection.find_one_and_replace({"_id": 1}, {"name": "r"}, **after))
    see(lambda: collection.find_one_and_replace({"_id": 1}, {"name": "s"}, {"name": 1}))
    see(lambda: collection.find_one_and_replace({"_id": 40}, {"name": "s"}, upsert=True, **after))
    see(lambda: collection.find_one_and_replace({"_id": 1}, {}, **after))
    see(lambda: collection.find_one_and_delete({"name": "b"}, sort=[("_id", -1)]))
    see(lambda: collection.find_one_and_delete({"name": "b"}, {"weight": 1}))
    see(lambda: collection.find_one_and_delete({"name": "nobody"}, {"weight": 1}))
    see(
        lambda: collection.find_one_and_delete(
            {"_id": 1}, comment="c", hint="_id_", collation={"locale": "en"}
        )
    )


@cases(images=None)
def effective_options(see: See) -> None:
    collection = four()
    first = Collation("en", strength=1)
    see(lambda: collection.update_one({"name": "A"}, {"$set": {"c": 1}}, collation=first))
    see(lambda: collection.update_many({"name": "A"}, {"$set": {"c": 2}}, collation=first))
    see(
        lambda: collection.update_many(
            {"name": "A"}, {"$set": {"c": 2}}, collation={"locale": "en", "strength": 2}
        )
    )
    see(lambda: collection.replace_one({"name": "B"}, {"name": "b"}, collation=first))
    see(lambda: collection.find_one_and_update({"name": "B"}, {"$set": {"c": 3}}, collation=first))
    see(lambda: collection.find_one_and_update({"name": "B"}, {"$set": {"c": 3}}, {"c": 1}, collation=first))
    see(lambda: collection.delete_one({"name": "B"}, collation=first))
    see(lambda: collection.update_one({"$expr": {"$eq": ["$_id", "$$x"]}}, {"$set": {"l": 1}}, let={"x": 2}))
    see(lambda: collection.update_many({"$expr": {"$gt": ["$_id", "$$x"]}}, {"$set": {"l": 2}}, let={"x": 2}))
    see(lambda: collection.update_one({"_id": 2}, [{"$set": {"m": "$$x"}}], let={"x": 5}))
    see(lambda: collection.delete_one({"$expr": {"$eq": ["$_id", "$$x"]}}, let={"x": 3}))
    see(lambda: collection.delete_many({"$expr": {"$eq": ["$_id", "$$x"]}}, let={"x": 4}))
    see(
        lambda: collection.find_one_and_update(
            {"$expr": {"$eq": ["$_id", "$$x"]}}, {"$set": {"l": 3}}, let={"x": 2}
        )
    )
    see(
        lambda: collection.update_one(
            {"name": "a"}, {"$set": {"stamps.$[x]": 0}}, array_filters=[{"x": {"$gt": 1}}]
        )
    )
    see(lambda: collection.update_many({}, {"$set": {"stamps.$[x]": -1}}, array_filters=[{"x": 0}]))
    see(
        lambda: collection.find_one_and_update(
            {"_id": 1}, {"$set": {"stamps.$[x]": -2}}, array_filters=[{"x": -1}]
        )
    )
    see(lambda: collection.update_one({"name": "a"}, {"$set": {"h": 1}}, hint="name_1"))
    see(lambda: collection.update_many({"name": "a"}, {"$set": {"h": 2}}, hint=[("name", 1)]))
    see(lambda: collection.delete_many({"name": "a"}, hint=[("name", pymongo.ASCENDING)], comment="c"))


@cases(images=None)
def validated_collections(see: See) -> None:
    """The server's own validation, and its bypass."""
    database = Parcel._get_db()
    database.command("collMod", "parcel", validator={"weight": {"$lt": 100}})
    try:
        collection = four()
        too_much = {"$set": {"weight": 500}}
        see(lambda: collection.insert_one({"_id": 10, "weight": 500}))
        see(lambda: collection.insert_one({"_id": 10, "weight": 500}, bypass_document_validation=True))
        see(lambda: collection.insert_many([{"_id": 11, "weight": 1}, {"_id": 12, "weight": 500}]))
        see(lambda: collection.insert_many([{"_id": 13, "weight": 500}], bypass_document_validation=True))
        see(lambda: collection.update_one({"_id": 1}, too_much))
        see(lambda: collection.update_one({"_id": 1}, too_much, bypass_document_validation=True))
        see(lambda: collection.update_many({"name": "b"}, too_much))
        see(lambda: collection.update_many({"name": "b"}, too_much, bypass_document_validation=True))
        see(lambda: collection.replace_one({"_id": 3}, {"weight": 500}))
        see(lambda: collection.replace_one({"_id": 3}, {"weight": 500}, bypass_document_validation=True))
        see(lambda: collection.find_one_and_update({"_id": 11}, too_much))
        see(lambda: collection.find_one_and_update({"_id": 11}, too_much, {"weight": 1}))
        see(lambda: collection.bulk_write([UpdateOne({"_id": 11}, too_much)]))
        see(
            lambda: collection.bulk_write([UpdateOne({"_id": 11}, too_much)], bypass_document_validation=True)
        )
        see(
            lambda: collection.bulk_write(
                [InsertOne({"_id": 19, "weight": 500})], bypass_document_validation=True
            )
        )
        see(lambda: Parcel(number=20, weight=500).save())
        see(lambda: Parcel.objects(number=11).update(inc__weight=1000))
    finally:
        database.command("collMod", "parcel", validator={})


@cases(images=None)
def write_concerns(see: See) -> None:
    four()
    for concern in (
        WriteConcern(w=1),
        WriteConcern(w="majority"),
        WriteConcern(j=True),
        WriteConcern(w=0),
        WriteConcern(w=1, wtimeout=1),
    ):
        collection = parcels(write_concern=concern)
        see(lambda: collection.write_concern)
        see(lambda: collection.update_one({"_id": 1}, {"$inc": {"weight": 1}}))
        see(lambda: collection.update_many({"name": "a"}, {"$inc": {"weight": 1}}))
        see(lambda: collection.replace_one({"_id": 2}, {"name": "b"}))
        see(lambda: collection.insert_one({"_id": 50}))
        see(lambda: collection.delete_one({"_id": 50}))
        see(lambda: collection.insert_many([{"_id": 51}, {"_id": 52}]))
        see(lambda: collection.delete_many({"_id": {"$gt": 50}}))
        see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}))
        see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, {"weight": 1}))
        see(lambda: collection.bulk_write([UpdateOne({"_id": 1}, {"$inc": {"weight": 1}})]))
        see(lambda: list(Parcel._get_db()["parcel"].find()))


@cases(images=None)
def unacknowledged_mistakes(see: See) -> None:
    """Nobody hears of them."""
    four()
    collection = parcels(write_concern=WriteConcern(w=0))
    calls = [
        lambda: collection.insert_one({"_id": 1}),
        lambda: collection.update_one({"_id": 1}, {"$inc": {"name": 1}}),
        lambda: collection.update_one({"_id": 1}, {"$set": {"a": 1}}, collation={"locale": "en"}),
        lambda: collection.update_one({"_id": 1}, {"$set": {"a": 1}}, array_filters=[{"x": 1}]),
        lambda: collection.update_one({"_id": 1}, {"$set": {"a": 1}}, hint="nothing"),
        lambda: collection.update_one({"_id": 1}, {"$set": {"a": 1}}, sort={"a": 1}),
        lambda: collection.update_one({"_id": 1}, {"a": 1}),
        lambda: collection.delete_many({"_id": 1}, collation={"locale": "en"}),
        lambda: collection.delete_many({"$bad": 1}),
        lambda: collection.find_one_and_update({"_id": 2}, {"$set": {"a": 1}}, array_filters=[]),
        lambda: collection.find_one_and_update({"_id": 2}, {"$set": {"a": 2}}, collation={"locale": "en"}),
        lambda: collection.find_one_and_update({"_id": 2}, {"$inc": {"name": 1}}),
        lambda: collection.bulk_write([UpdateOne({"_id": 2}, {"$inc": {"name": 1}}), InsertOne({"_id": 70})]),
        lambda: collection.bulk_write(
            [UpdateOne({"_id": 2}, {"$set": {"a": 1}}, collation={"locale": "en"})]
        ),
        lambda: collection.insert_many([{"_id": 1}, {"_id": 71}]),
        lambda: collection.insert_many([{"_id": 1}, {"_id": 72}], ordered=False),
    ]
    for call in calls:
        see(call)
        see(lambda: list(Parcel._get_db()["parcel"].find()))


@cases(images=None, modes=REPLICA_SETS)
def concerns_that_cannot_be_met(see: See) -> None:
    """A standalone server refuses them otherwise. Whether or not there was something to do."""
    four()
    for concern in (WriteConcern(w=3, wtimeout=20), WriteConcern(w="nowhere")):
        collection = parcels(write_concern=concern)
        calls = [
            lambda: collection.update_one({"_id": 1}, {"$inc": {"weight": 1}}),
            lambda: collection.update_one({"_id": 1}, {"$set": {"name": "c"}}),
            lambda: collection.update_one({"_id": 1}, {"$set": {"name": "c"}}),
            lambda: collection.update_one({"_id": 77}, {"$set": {"name": "c"}}),
            lambda: collection.update_one({"_id": 78}, {"$set": {"name": "c"}}, upsert=True),
            lambda: collection.update_many({"name": "b"}, {"$inc": {"weight": 1}}),
            lambda: collection.update_many({"name": "nobody"}, {"$inc": {"weight": 1}}),
            lambda: collection.delete_one({"_id": 78}),
            lambda: collection.delete_one({"_id": 78}),
            lambda: collection.delete_many({"name": "nobody"}),
            lambda: collection.insert_one({"_id": 79}),
            lambda: collection.insert_one({"_id": 79}),
            lambda: collection.insert_many([{"_id": 80}, {"_id": 81}]),
            lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}),
            lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, {"weight": 1}),
            lambda: collection.find_one_and_delete({"_id": 79}),
            lambda: collection.replace_one({"_id": 2}, {"name": "r"}),
            lambda: collection.delete_many({"_id": {"$gt": 70}}),
        ]
        for call in calls:
            see(call)
            see(lambda: list(Parcel._get_db()["parcel"].find()))


# -- codec options ---------------------------------------------------------------------------------------------------


class Grams:
    """What a user has made for himself."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Grams({self.value})"


class GramsCodec(TypeCodec):
    python_type = Grams
    bson_type = Decimal128

    def transform_python(self, value: Grams) -> Decimal128:
        return Decimal128(str(value.value))

    def transform_bson(self, value: Decimal128) -> Grams:
        return Grams(int(value.to_decimal()))


def _fallback(value: Any) -> Any:
    return repr(value) if isinstance(value, complex) else value


class Drawer(dict[str, Any]):
    """A document class of one's own."""


@cases(images=None)
def custom_types(see: See) -> None:
    registry = TypeRegistry([GramsCodec()], fallback_encoder=_fallback)
    collection = parcels(
        codec_options=CodecOptions(type_registry=registry, tz_aware=True, uuid_representation=4)
    )
    see(lambda: collection.insert_one({"_id": 1, "weight": Grams(5)}))
    see(lambda: collection.insert_many([{"_id": 2, "weight": Grams(6)}, {"_id": 3, "weight": 1j}]))
    see(lambda: collection.update_one({"weight": Grams(5)}, {"$set": {"weight": Grams(7)}}))
    see(lambda: collection.update_one({"_id": 1}, {"$inc": {"weight": Grams(1)}}))
    see(lambda: collection.update_many({"weight": Grams(6)}, {"$set": {"more": [Grams(7), 2j]}}))
    see(lambda: collection.update_many({"weight": Grams(6)}, {"$push": {"more": Grams(8)}}))
    see(lambda: collection.update_one({"weight": Grams(99)}, {"$set": {"a": Grams(1)}}, upsert=True))
    see(lambda: collection.replace_one({"_id": 3}, {"weight": Grams(8)}))
    see(lambda: collection.find_one_and_update({"weight": Grams(8)}, {"$set": {"weight": Grams(9)}}))
    see(
        lambda: collection.find_one_and_update({"weight": Grams(9)}, {"$set": {"a": 1}}, return_document=True)
    )
    see(lambda: collection.find_one_and_update({"weight": Grams(9)}, {"$set": {"a": 2}}, {"weight": 1}))
    see(lambda: collection.find_one_and_delete({"weight": Grams(9)}))
    see(
        lambda: collection.bulk_write(
            [InsertOne({"_id": 5, "weight": Grams(5)}), UpdateOne({"_id": 5}, {"$inc": {"weight": Grams(1)}})]
        )
    )
    see(lambda: collection.delete_many({"weight": Grams(6)}))
    see(lambda: list(collection.find()))
    see(lambda: parcels().insert_one({"_id": 9, "weight": Grams(5)}))


@cases(images=None)
def codec_options(see: See) -> None:
    known = uuid.UUID(int=5)
    for options in (
        CodecOptions(tz_aware=True, uuid_representation=4),
        CodecOptions(tz_aware=False, uuid_representation=3),
        CodecOptions(uuid_representation=5),
        CodecOptions(uuid_representation=0),
        CodecOptions(document_class=SON, uuid_representation=4),
        CodecOptions(document_class=Drawer, uuid_representation=4),
        CodecOptions(document_class=RawBSONDocument, uuid_representation=4),
        CodecOptions(
            tz_aware=True, tzinfo=datetime.timezone(datetime.timedelta(hours=3)), uuid_representation=4
        ),
        CodecOptions(datetime_conversion=4, uuid_representation=4),
        CodecOptions(unicode_decode_error_handler="replace", uuid_representation=4),
    ):
        Parcel._get_db()["parcel"].delete_many({})
        collection = parcels(codec_options=options)
        moment = datetime.datetime(2026, 5, 4, 3, 2, 1, 123456)  # noqa: DTZ001
        see(
            lambda: collection.insert_one(
                {"_id": known, "at": moment, "b": Binary(b"x", 3), "c": {"d": [{"e": 1}]}}
            )
        )
        see(lambda: collection.insert_one({"_id": 2, "at": moment, "u": [Int64(3)], "c": {"d": 1}}))
        see(lambda: collection.update_one({"_id": known}, {"$set": {"other": known}}))
        see(lambda: collection.update_one({"_id": 2}, {"$push": {"u": moment}}))
        see(lambda: collection.find_one_and_update({"_id": 2}, {"$set": {"a": 1}}))
        see(lambda: collection.find_one_and_update({"_id": 2}, {"$inc": {"a": 1}}, return_document=True))
        see(lambda: collection.find_one_and_update({"_id": 2}, {"$inc": {"a": 1}}, {"c": 1}))
        see(lambda: collection.update_one({"at": moment, "_id": 7}, {"$set": {"a": 1}}, upsert=True))
        see(lambda: collection.find_one_and_replace({"_id": 7}, {"k": known}))
        see(lambda: collection.update_one({"_id": {"x": 1}}, {"$set": {"a": 1}}, upsert=True))
        see(lambda: collection.find_one_and_delete({"_id": known}))
        see(lambda: collection.delete_one({"$bad": 1}))
        see(lambda: collection.codec_options == options)


@cases(images=None)
def texts_that_are_no_text(see: See) -> None:
    """Bytes in the database that today's driver does not write."""
    raw = b"\x17\x00\x00\x00\x10_id\x00\x01\x00\x00\x00\x02a\x00\x02\x00\x00\x00\xff\x00\x00"
    parcels().insert_one(RawBSONDocument(raw)) if len(raw) == int.from_bytes(raw[:4], "little") else None
    lenient = parcels(codec_options=CodecOptions(unicode_decode_error_handler="replace"))
    for collection in (parcels(), lenient):
        see(lambda: collection.find_one({"_id": 1}))
        see(lambda: collection.find_one_and_update({"_id": 1}, {"$set": {"b": 1}}))
        see(lambda: collection.update_one({"_id": 1}, {"$inc": {"c": 1}}))
        see(lambda: collection.update_many({}, {"$inc": {"c": 1}}))
        see(lambda: lenient.find_one({"_id": 1}))
    see(lambda: parcels().find_one_and_delete({"_id": 1}))


@cases(images=None)
def read_preferences(see: See) -> None:
    four()
    collection = parcels(
        read_preference=ReadPreference.SECONDARY_PREFERRED, read_concern=ReadConcern("majority")
    )
    see(lambda: (collection.read_preference, collection.read_concern, collection.codec_options))
    see(lambda: collection.update_one({"_id": 1}, {"$inc": {"weight": 1}}))
    see(lambda: collection.update_many({"name": "b"}, {"$inc": {"weight": 1}}))
    see(lambda: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 1}}, {"weight": 1}))
    see(lambda: collection.delete_many({"name": "b"}))
    see(lambda: collection.insert_many([{"_id": 8}, {"_id": 9}]))
    see(lambda: collection.bulk_write([UpdateMany({}, {"$inc": {"weight": 1}})]))
    see(lambda: collection.find_one({"_id": 1}))
    see(lambda: parcels().with_options(parcels().codec_options, ReadPreference.NEAREST).read_preference)
    see(lambda: parcels(bogus=1))
    see(lambda: parcels(read_preference="text"))
    see(lambda: parcels().with_options(write_concern=5))


# -- time limits -----------------------------------------------------------------------------------------------------


@cases(images=None)
def time_limits(see: See) -> None:
    collection = four()
    slow = {"$where": "sleep(300) || true"}
    with pymongo.timeout(30):
        see(lambda: collection.update_one({"_id": 1}, {"$inc": {"weight": 1}}))
        see(lambda: collection.update_many({"name": "a"}, {"$inc": {"weight": 1}}))
        see(lambda: collection.insert_many([{"_id": 8}]))
        see(lambda: Parcel.objects(number=8).delete())
    see(lambda: list(collection.find()))
    # Behind a limit nobody knows what the server has still done: documents are not compared from here on.
    with pymongo.timeout(0.1):  # which limit strikes first differs
        error = differential.attempted(lambda: collection.update_one(slow, {"$inc": {"weight": 1}}))
        see(lambda: (isinstance(error, pymongo.errors.PyMongoError), error.timeout))
    late = differential.attempted(
        lambda: collection.find_one_and_update(slow, {"$inc": {"weight": 1}}, maxTimeMS=50)
    )
    see(lambda: (type(late), late.code, late.timeout))
    see(lambda: collection.find_one_and_update({"_id": 77}, {"$inc": {"weight": 1}}, maxTimeMS=-1))


# -- sessions --------------------------------------------------------------------------------------------------------


def _writes(session: Any) -> list[Any]:
    collection = parcels()
    return [
        lambda: collection.insert_one({"_id": 60}, session=session),
        lambda: collection.update_one({"_id": 60}, {"$set": {"a": 1}}, session=session),
        lambda: collection.update_one({"_id": 60}, {"$inc": {"a": 1}}, session=session),
        lambda: collection.update_one({"_id": 61}, {"$inc": {"a": 1}}, upsert=True, session=session),
        lambda: collection.update_many({"name": "a"}, {"$set": {"b": 1}}, session=session),
        lambda: collection.update_many({"name": "b"}, {"$push": {"stamps": 1}}, session=session),
        lambda: collection.replace_one({"_id": 1}, {"name": "r"}, session=session),
        lambda: collection.find_one_and_update({"_id": 2}, {"$inc": {"weight": 1}}, session=session),
        lambda: collection.find_one_and_update(
            {"_id": 2}, {"$inc": {"weight": 1}}, {"weight": 1}, session=session
        ),
        lambda: collection.insert_many([{"_id": 62}, {"_id": 63}], session=session),
        lambda: collection.bulk_write(
            [UpdateOne({"_id": 62}, {"$inc": {"a": 1}}), DeleteOne({"_id": 63})], session=session
        ),
        lambda: collection.delete_one({"_id": 3}, session=session),
        lambda: collection.delete_many({"_id": {"$gt": 61}}, session=session),
        lambda: list(collection.find({}, session=session)),
    ]


@cases(images=None, modes=REPLICA_SETS)
def explicit_sessions(see: See) -> None:
    """Sessions without a transaction."""
    four()
    client = mongoengine.get_connection()
    for options in ({}, {"causal_consistency": False}):
        with client.start_session(**options) as session:
            for call in _writes(session):
                see(call)
            see(lambda: (session.in_transaction, session.has_ended, session.operation_time is None))
        Parcel._get_db()["parcel"].delete_many({})
        four()
    see(lambda: parcels().insert_one({"_id": 99}, session=session))
    with client.start_session(snapshot=True) as session:
        see(
            lambda: type(
                differential.attempted(lambda: parcels().insert_one({"_id": 98}, session=session))
            ).__mro__[-4:]
        )


@cases(images=None, modes=REPLICA_SETS)
def transactions(see: See) -> None:
    """The caller's own: committed, aborted, and by the driver's helper."""
    four()
    client = mongoengine.get_connection()
    with client.start_session() as session:
        for ends in (session.abort_transaction, session.commit_transaction):
            session.start_transaction()
            for call in _writes(session):
                see(call)
            see(lambda: session.in_transaction)
            see(lambda: list(parcels().find()))
            see(ends)
            see(lambda: list(parcels().find()))
        see(
            lambda: session.with_transaction(
                lambda inside: parcels().update_one({"_id": 4}, {"$inc": {"w": 1}}, session=inside)
            )
        )
        with session.start_transaction():
            see(lambda: session.start_transaction())
            see(
                lambda: parcels(write_concern=WriteConcern(w=1)).update_one(
                    {"_id": 4}, {"$inc": {"w": 1}}, session=session
                )
            )
            see(
                lambda: parcels(write_concern=WriteConcern(w=0)).update_one(
                    {"_id": 4}, {"$inc": {"w": 1}}, session=session
                )
            )
            see(lambda: parcels().find_one({"_id": 4}, session=session))


@cases(images=None, modes=REPLICA_SETS, marks=(NEEDS_BIND,))
def bound_transactions(see: See) -> None:
    """`ClientSession.bind()` (PyMongo 4.17): MongoEngine's own calls take part."""
    four()
    client = mongoengine.get_connection()
    for ends in ("abort_transaction", "commit_transaction"):
        with client.start_session() as session, session.bind(end_session=False):
            session.start_transaction()
            see(lambda: Parcel(number=30, name="n").save())
            see(lambda: Parcel.objects(number=30).update(inc__weight=1))
            see(lambda: Parcel.objects(number=1).modify(inc__weight=1, new=True))
            see(lambda: Parcel.objects(name="b").update(push__stamps=5))
            see(lambda: Parcel.objects.insert([Parcel(number=31), Parcel(number=32)]))
            see(lambda: Parcel.objects(number__gt=30).delete())
            see(lambda: Parcel.objects.get(number=4).delete())
            see(lambda: Parcel.objects.order_by("number"))
            see(getattr(session, ends))
        see(lambda: Parcel.objects.order_by("number"))


def _failing(session: Any) -> list[Any]:
    collection = parcels()
    return [
        lambda: collection.insert_one({"_id": 1}, session=session),
        lambda: collection.insert_many([{"_id": 70}, {"_id": 1}], session=session),
        lambda: collection.update_one({"_id": 2}, {"$set": {"code": "u"}}, session=session),
        lambda: collection.update_one({"_id": 2}, {"$inc": {"name": 1}}, session=session),
        lambda: collection.update_one({"_id": 71}, {"$set": {"code": "u"}}, upsert=True, session=session),
        lambda: collection.update_one({"_id": 2}, {"$set": {"_id": 5}}, session=session),
        lambda: collection.update_one({"$bad": 1}, {"$set": {"a": 5}}, session=session),
        lambda: collection.update_one({"_id": 2}, {"$set": {"a": 5}}, hint="nothing", session=session),
        lambda: collection.replace_one({"_id": 2}, {"code": "u"}, session=session),
        lambda: collection.update_many({"name": "b"}, {"$set": {"code": "u"}}, session=session),
        lambda: collection.update_many({"name": "b"}, {"$inc": {"name": 1}}, session=session),
        lambda: collection.delete_one({"$bad": 1}, session=session),
        lambda: collection.delete_many({"$bad": 1}, session=session),
        lambda: collection.find_one_and_update({"_id": 2}, {"$set": {"code": "u"}}, session=session),
        lambda: collection.find_one_and_update(
            {"_id": 2}, {"$set": {"code": "u"}}, {"name": 1}, session=session
        ),
        lambda: collection.find_one_and_delete({"$bad": 1}, session=session),
    ]


@cases(images=None, modes=REPLICA_SETS)
def errors_in_transactions(see: See) -> None:
    """Each aborts the caller's transaction, in the words that the plain write has for it."""
    _fail_in_transactions(see, _failing)


def _fail_in_transactions(see: See, calls: Callable[[Any], list[Any]]) -> None:
    four()
    parcels().update_one({"_id": 1}, {"$set": {"code": "u"}})
    client = mongoengine.get_connection()
    with client.start_session() as session:
        for number in range(len(calls(session))):
            session.start_transaction()
            parcels().insert_one({"_id": 90}, session=session)
            see(calls(session)[number])
            see(lambda: parcels().find_one({"_id": 90}, session=session))
            see(lambda: session.in_transaction)
            see(session.abort_transaction)
    see(lambda: list(parcels().find()))


def _failing_batches(session: Any) -> list[Any]:
    collection = parcels()
    return [
        lambda: collection.bulk_write([UpdateOne({"_id": 2}, {"$set": {"code": "u"}})], session=session),
        lambda: collection.bulk_write(
            [InsertOne({"_id": 72}), UpdateOne({"_id": 2}, {"$inc": {"name": 1}})], session=session
        ),
        lambda: collection.bulk_write(
            [InsertOne({"_id": 73}), InsertOne({"_id": 1}), InsertOne({"_id": 74})],
            ordered=False,
            session=session,
        ),
    ]


@cases(images=None, modes=REPLICA_SETS)
def errors_of_batches_in_transactions(see: See) -> None:
    _fail_in_transactions(see, _failing_batches)


@cases(images=None, modes=REPLICA_SETS, marks=(NEEDS_BIND,))
def errors_in_bound_transactions(see: See) -> None:
    four()
    parcels().update_one({"_id": 1}, {"$set": {"code": "u"}})
    client = mongoengine.get_connection()
    for call in (
        lambda: Parcel(number=1, name="x").save(force_insert=True),
        lambda: Parcel(number=75, code="u").save(),
        lambda: Parcel.objects(number=2).update(code="u"),
        lambda: Parcel.objects(number=2).update_one(inc__name=1),
        lambda: Parcel.objects(number=2).modify(code="u"),
        lambda: Parcel.objects(name="b").update(code="u"),
        lambda: Parcel.objects.insert([Parcel(number=76), Parcel(number=1)]),
        lambda: Parcel.objects(number=77).upsert_one(code="u"),
        lambda: _saved(Parcel.objects.get(number=2), code="u"),
    ):
        with client.start_session() as session, session.bind(end_session=False):
            session.start_transaction()
            see(call)
            see(session.abort_transaction)
    see(lambda: Parcel.objects.order_by("number"))


def _saved(document: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(document, name, value)
    return document.save()


@cases(images=None, modes=REPLICA_SETS)
def conflicts_in_transactions(see: See) -> None:
    """Two transactions on one document: the second is told, with the label for trying again."""
    four()
    client = mongoengine.get_connection()
    for write in (
        lambda session: parcels().update_one({"_id": 1}, {"$set": {"a": 1}}, session=session),
        lambda session: parcels().update_one({"_id": 1}, {"$inc": {"a": 1}}, session=session),
        lambda session: parcels().update_many({"name": "a"}, {"$set": {"a": 1}}, session=session),
        lambda session: parcels().delete_one({"_id": 1}, session=session),
        lambda session: parcels().delete_many({"name": "a"}, session=session),
        lambda session: parcels().find_one_and_update({"_id": 1}, {"$set": {"a": 1}}, session=session),
        lambda session: parcels().find_one_and_update(
            {"_id": 1}, {"$set": {"a": 1}}, {"a": 1}, session=session
        ),
        lambda session: parcels().replace_one({"_id": 1}, {"a": 1}, session=session),
        lambda session: parcels().bulk_write([UpdateOne({"_id": 1}, {"$set": {"a": 1}})], session=session),
    ):
        with client.start_session() as first, client.start_session() as second:
            first.start_transaction()
            second.start_transaction()
            parcels().update_one({"_id": 1}, {"$set": {"b": 1}}, session=first)
            error = differential.attempted(lambda: write(second))
            see(lambda: (type(error), getattr(error, "code", None), sorted(error._error_labels)))
            see(lambda: differential.shown(error))
            second.abort_transaction()
            first.abort_transaction()


# -- collections -----------------------------------------------------------------------------------------------------


@cases(images=None)
def other_methods(see: See) -> None:
    collection = four()
    see(lambda: collection.create_indexes([IndexModel([("weight", 1)], name="w")]))
    see(lambda: collection.drop_index("w"))
    see(lambda: sorted(collection.index_information()))
    see(lambda: collection.rename("bundle"))
    see(lambda: Parcel._get_db()["bundle"].count_documents({}))
    see(lambda: Parcel._get_db()["bundle"].rename("parcel"))
    see(lambda: collection.drop())
    see(lambda: Parcel.objects.count())
    see(lambda: Parcel(number=1).save())
    see(lambda: Parcel.ensure_indexes())
    see(lambda: collection.database.drop_collection("parcel")["ns"].partition(".")[2])
    see(lambda: Parcel(number=2).save())
    see(lambda: Parcel.ensure_indexes())
    see(lambda: Parcel.drop_collection())
    see(lambda: Parcel._get_collection().name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@cases.test()
def test_collections(world: World, one: Case) -> None:
    world.compare(one)


@pytest.mark.parametrize("delivery", REPLICA_SETS)
def test_an_error_that_comes_late_loses_no_version(mongodb: Any, delivery: str) -> None:
    """The write was done, though not on as many members as was asked for."""
    calls: list[Callable[[Any], Any]] = [
        lambda collection: collection.insert_many([{"_id": 1, "weight": 1}]),
        lambda collection: collection.update_one({"_id": 1}, {"$set": {"weight": 2}}),
        lambda collection: collection.find_one_and_update({"_id": 1}, {"$inc": {"weight": 2}}),
        lambda collection: collection.delete_one({"_id": 1}),
    ]
    with configured(DELIVERY=delivery), tracking(Parcel):
        collection = parcels(write_concern=WriteConcern(w=3, wtimeout=20))
        for call in calls:
            with pytest.raises((pymongo.errors.WriteConcernError, pymongo.errors.BulkWriteError)):
                call(collection)
        versions = history_of(Parcel, 1).versions()
        assert [one.operation for one in versions] == ["create", "update", "update", "delete"]
