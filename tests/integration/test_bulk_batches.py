"""`bulk_write` of many requests that each name their document: done together, recorded one by one, as exactly as ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from bson import Int64
from mongoengine import fields
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError

from django_mongo_history import history_of
from tests.judge import Do, Judge, configured, tracking

pytestmark = pytest.mark.usefixtures("delivery")


class Crate(mongoengine.Document):
    """A document with any key and a unique field."""

    key = fields.DynamicField(primary_key=True)
    code = fields.StringField(unique=True, sparse=True)
    meta = {"collection": "crate"}


class Barrel(mongoengine.Document):
    """In a capped collection."""

    number = fields.IntField(primary_key=True)
    level = fields.IntField()
    meta = {"collection": "barrel", "max_documents": 100, "max_size": 100_000}


@pytest.fixture(params=["atomic", "sync", "standalone"])
def delivery(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database, and the way in which versions get into it."""
    request.getfixturevalue("standalone_mongodb" if request.param == "standalone" else "mongodb")
    with configured(DELIVERY="sync" if request.param == "sync" else "auto", CHUNK_SIZE=7):
        yield request.param


def filled(do: Do) -> Any:
    c = Crate._get_collection()
    do(["create"] * 10, lambda: c.bulk_write([InsertOne({"_id": n, "a": n, "l": [n]}) for n in range(10)]))
    return c


@pytest.mark.parametrize("ordered", [True, False])
def test_requests_of_every_kind_together(ordered: bool) -> None:
    """Each leaves the version that it would leave alone; answers count them all."""

    def script(do: Do) -> None:
        c = filled(do)
        requests = [
            InsertOne({"_id": "new"}),
            UpdateOne({"_id": 1}, {"$set": {"a": 5, "b.c": 1}}),
            UpdateOne({"_id": 2}, {"$inc": {"a": 1}}),
            UpdateOne({"_id": 3, "a": 99}, {"$inc": {"a": 1}}),
            UpdateMany({"_id": 4}, [{"$set": {"a": {"$add": ["$a", 1]}}}]),
            ReplaceOne({"_id": 5}, {"whole": 1}),
            DeleteOne({"_id": 6}),
            DeleteMany({"_id": 7, "a": 99}),
            UpdateOne({"_id": "up"}, {"$set": {"a": 1}}, upsert=True),
            ReplaceOne({"_id": "re"}, {"a": 1}, upsert=True),
            UpdateOne({"_id": 77}, {"$set": {"a": 1}}),
            UpdateOne({"_id": 8}, {"$set": {"l.$[one]": 1}}, array_filters=[{"one": 5}]),
            UpdateOne({"_id": 78}, {"$inc": {"a": 1}}),
            UpdateOne({"_id": 9}, {"$set": {"a": 9}}),
        ]
        do(["create"] * 3 + ["update"] * 4 + ["delete"], lambda: c.bulk_write(requests, ordered=ordered))

    Judge()(script, Crate)


def counted(document_id: Any) -> list[Any]:
    """The counter of a document in each of its versions."""
    return [version.state["a"] for version in history_of(Crate, document_id)]


@pytest.mark.parametrize(
    "keys",
    [[n % 3 for n in range(9)], [0, 1, 2, 0.0, Int64(1), 2], [0.0, 1.0, 2.0, 3.0]],
    ids=["the same", "another type", "not as stored"],
)
def test_each_write_of_a_document_is_a_version(keys: list[Any]) -> None:
    """Also where one document is written twice, or its key in another type."""
    with tracking(Crate):
        c = Crate._get_collection()
        c.insert_many([{"_id": n, "a": 0} for n in range(4)])
        result = c.bulk_write([UpdateOne({"_id": key}, {"$inc": {"a": 1}}) for key in keys])
        assert result.modified_count == len(keys)
        for n in range(4):
            assert counted(n) == list(range(keys.count(n) + 1))


@pytest.mark.parametrize("is_default", [True, False])
def test_keys_that_a_collation_takes_for_one(is_default: bool) -> None:
    """A key that finds a document of another key is not taken for its name."""
    collation = {"locale": "en", "strength": 1}
    database = mongoengine.get_db()
    database.drop_collection("crate")
    if is_default:
        database.create_collection("crate", collation=collation)
    own = None if is_default else collation
    with tracking(Crate):
        c = Crate._get_collection()
        c.bulk_write([InsertOne({"_id": key, "a": 0}) for key in "abcde"])
        c.bulk_write([UpdateOne({"_id": key}, {"$inc": {"a": 1}}, collation=own) for key in "ABCDabc"])
        assert [counted(key) for key in "abcde"] == [[0, 1, 2]] * 3 + [[0, 1], [0]]
        assert not any(
            version.operation == "external" for key in "abcde" for version in history_of(Crate, key)
        )
    database.drop_collection("crate")


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("concern", [1, 0])
def test_one_of_them_fails(ordered: bool, concern: int) -> None:
    """What the driver leaves done is done and recorded; the error names the same request."""

    def script(do: Do) -> None:
        c = filled(do).with_options(write_concern=WriteConcern(w=concern))
        requests = [
            UpdateOne({"_id": 0}, {"$set": {"code": "taken"}}),
            UpdateOne({"_id": 1}, {"$inc": {"a": 1}}),
            InsertOne({"_id": 20}),
            InsertOne({"_id": 5}),
            UpdateOne({"_id": 2}, {"$set": {"code": "taken"}}),
            UpdateOne({"_id": 3}, {"$inc": {"a": 1}}),
            DeleteOne({"_id": 4}),
            UpdateOne({"_id": 6}, {"$inc": {"a": 1}}),
        ]
        wanted = ["update"] * 2 + ["create"] if ordered else ["create"] + ["update"] * 4 + ["delete"]
        do(wanted, lambda: c.bulk_write(requests, ordered=ordered))

    Judge()(script, Crate)


def test_one_of_them_fails_where_there_are_no_transactions() -> None:
    """In a capped collection nothing is done twice when it turns out that a request fails."""
    Barrel.drop_collection()
    with tracking(Barrel):
        c = Barrel._get_collection()
        requests = [
            InsertOne({"_id": 1, "level": 1}),
            InsertOne({"_id": 2, "level": 1}),
            UpdateOne({"_id": 1}, {"$inc": {"level": 1}}),
            UpdateOne({"_id": 2}, {"$inc": {"level": 1}}),
            InsertOne({"_id": 1}),
            UpdateOne({"_id": 2}, {"$inc": {"level": 1}}),
        ]
        with pytest.raises(BulkWriteError) as raised:
            c.bulk_write(requests)
        assert raised.value.details["writeErrors"][0]["index"] == 4
        c.update_one({"_id": 2}, {"$inc": {"level": 1}})
        levels = [[version.state["level"] for version in history_of(Barrel, key)] for key in (1, 2)]
        assert levels == [[1, 2], [1, 2, 3]]
