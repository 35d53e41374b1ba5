"""
The largest, the deepest and the oddest documents that a server takes, through every write path and back by reading.

Under `tests.judge`, in `atomic` and in `sync` delivery on a replica set, and on a standalone server.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import bson
import mongoengine
import pytest
from bson.raw_bson import RawBSONDocument
from mongoengine import fields
from pymongo import InsertOne, ReplaceOne
from pymongo.errors import OperationFailure

from django_mongo_history import history_of
from django_mongo_history.core import elements
from django_mongo_history.errors import ConflictError, DeliveryError, StoreError
from management.servers import ReplicaSet, Standalone
from tests.conftest import CLIENT_OPTIONS
from tests.judge import RAW, Do, Judge, configured, tracking

LARGEST = int(15.9 * 1024 * 1024)
"""Bytes of a document. The server's own limit is 16 MiB."""


class Tome(mongoengine.DynamicDocument):
    """Whatever fits into a document."""

    number = fields.IntField(primary_key=True)
    meta = {"collection": "tome"}


ROOM = "cache_size=2GB"
"""The servers of other tests have too small a cache to take 15.9 MB even without a history."""


def with_room(servers: Any) -> Iterator[str]:
    with servers:
        with servers.client() as client:
            client.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig=ROOM)
        yield servers.uri


@pytest.fixture(scope="module")
def roomy_replica_set() -> Iterator[str]:
    yield from with_room(ReplicaSet())


@pytest.fixture(scope="module")
def roomy_standalone() -> Iterator[str]:
    yield from with_room(Standalone())


@pytest.fixture(params=["atomic", "sync", "standalone"])
def delivery(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database, and the way in which versions get into it."""
    uri = request.getfixturevalue(
        "roomy_" + ("standalone" if request.param == "standalone" else "replica_set")
    )
    name = f"test_{secrets.token_hex(6)}"
    mongoengine.connect(name, host=uri, **CLIENT_OPTIONS)
    try:
        with configured(DELIVERY="sync" if request.param == "sync" else "auto"):
            yield request.param
        mongoengine.get_db().client.drop_database(name)
    finally:
        mongoengine.disconnect()


@pytest.fixture
def judge(delivery: str) -> Judge:
    return Judge()


def large(number: int, letter: str, **more: Any) -> dict[str, Any]:
    """A document of `LARGEST` bytes."""
    small = {"_id": number, **more, "text": ""}
    return {**small, "text": letter * (LARGEST - len(bson.encode(small)))}


# -- size -------------------------------------------------------------------------------------------------------------


def test_large_documents(judge: Judge) -> None:
    """15.9 MB, inserted, set, replaced, found and modified, deleted: recorded and replayed like any other."""

    def script(do: Do) -> None:
        c = Tome._get_collection()
        do("create", lambda: c.insert_one(large(1, "a", n=0)) and None)
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"n": 1}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$inc": {"n": 1}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"text": large(1, "b", n=0)["text"]}}))
        do("update", lambda: c.replace_one({"_id": 1}, large(1, "c", n=3)))
        do("update", lambda: c.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}}, {"n": 1}))
        do("update", lambda: c.update_one({"_id": 1}, [{"$set": {"n": {"$add": ["$n", 1]}}}]))
        do("update", lambda: c.update_many({"n": 5}, {"$set": {"n": 6}}))
        do("delete", lambda: c.delete_one({"_id": 1}))
        do("create", lambda: c.bulk_write([InsertOne(large(1, "d", n=0))]).inserted_count)
        do("update", lambda: c.bulk_write([ReplaceOne({"_id": 1}, large(1, "e", n=1))]))
        do("delete", lambda: c.delete_many({"n": 1}))

    judge(script, Tome)


def test_many_large_documents(judge: Judge) -> None:
    """Together they are more than one message, and one oplog entry, can hold."""

    def script(do: Do) -> None:
        c = Tome._get_collection()
        do(["create"] * 3, lambda: c.insert_many([large(n, "abc"[n], n=0) for n in range(3)]).inserted_ids)
        do(["update"] * 3, lambda: c.update_many({}, {"$set": {"n": 1}}))
        do(["update"] * 3, lambda: c.update_many({}, {"$set": {"text": "short"}}))
        do(["delete"] * 3, lambda: c.delete_many({"n": 1}))

    judge(script, Tome)


def test_large_documents_saved(judge: Judge) -> None:
    """The same by MongoEngine's own means."""

    def script(do: Do) -> None:
        one = Tome(number=1, n=0, text=large(1, "a", n=0)["text"])
        do("create", lambda: one.save() and None)
        one.n = 1
        do("update", lambda: one.save() and None)
        one.text = one.text.replace("a", "b")
        do("update", lambda: one.save() and None)
        do("update", lambda: Tome.objects(number=1).modify(n=2) and None)
        do("delete", one.delete)

    judge(script, Tome)


def test_large_documents_are_read_and_reverted(delivery: str) -> None:
    """Every state, change and moment of a 15.9 MB document can be had, and any state be written back."""
    with tracking(Tome):
        c = Tome._get_collection()
        states = [large(1, "a", n=0), large(1, "b", n=1), large(1, "b", n=2), None]
        c.insert_one(dict(states[0]))
        c.replace_one({"_id": 1}, states[1])
        c.update_one({"_id": 1}, {"$set": {"n": 2}})
        c.delete_one({"_id": 1})
        h = history_of(Tome, 1)
        assert [v.operation for v in h] == ["create", "update", "update", "delete"]
        assert [v.state for v in h] == states
        assert {change.path: change.new for change in h[1].changes} == {
            ("text",): states[1]["text"],
            ("n",): 1,
        }
        assert [(change.path, change.old, change.new) for change in h[2].changes] == [(("n",), 1, 2)]
        for index in (1, 0, 2):
            h[index].revert()
            assert c.find_one({"_id": 1}) == states[index]
            assert history_of(Tome, 1)[-1].state == states[index]
        history_of(Tome, 1)[-1].take_back()
        assert c.find_one({"_id": 1}) == states[0]
        assert "external" not in [v.operation for v in history_of(Tome, 1)]
        assert [found.n for found in history_of(Tome).as_of(history_of(Tome, 1)[-2].at)] == [2]


@pytest.mark.parametrize("size", [8, 4])
def test_sizes_about_which_rows_are_cut(delivery: str, size: int) -> None:
    """A patch or a snapshot a little below, at, and above what one row holds."""
    with tracking(Tome):
        c = Tome._get_collection()
        limit = size * 1024 * 1024
        for number, length in enumerate(range(limit - 1200, limit + 400, 400)):
            first, second = ({"_id": number, "text": letter * length} for letter in "ab")
            c.insert_one(dict(first))
            c.update_one({"_id": number}, {"$set": {"text": second["text"]}})
            h = history_of(Tome, number)
            assert [v.state for v in h] == [first, second]
            assert [v.operation for v in h] == ["create", "update"]
            c._plain().delete_one({"_id": number})


# -- depth ------------------------------------------------------------------------------------------------------------


def nested(levels: int, leaf: Any, kind: type = dict) -> Any:
    """A value with this many documents (or documents and lists in turn) around the leaf."""
    for level in range(levels):
        leaf = [leaf] if kind is list and (levels - level) % 2 == 0 else {"d": leaf}
    return leaf


@pytest.mark.parametrize("kind", [dict, list])
@pytest.mark.parametrize("levels", [99, 100])
def test_deep_documents(judge: Judge, levels: int, kind: type) -> None:
    """A hundred levels, changed at the bottom, at the top and as a whole."""
    path = ".".join("0" if kind is list and level % 2 else "d" for level in range(levels))

    def script(do: Do) -> None:
        c = Tome._get_collection()
        do("create", lambda: c.insert_one({"_id": 1, **nested(levels, 1, kind)}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {path: 2}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$inc": {path: 2}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"top": nested(levels - 1, 1, kind)}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$unset": {path: 1}}))
        do("update", lambda: c.replace_one({"_id": 1}, nested(levels, {"x": 1}, kind)))
        do("update", lambda: c.replace_one({"_id": 1}, nested(levels, {"x": 2, "y": [1]}, kind)))
        do("delete", lambda: c.delete_one({"_id": 1}))

    judge(script, Tome)


def test_documents_deeper_than_documented(delivery: str) -> None:
    """A row has five levels more than its document. What is too deep for it fails as a whole, or says what it did."""
    deepest = _deepest(mongoengine.get_db()["deep"])
    assert deepest >= 150
    with tracking(Tome):
        c = Tome._get_collection()
        path = ".".join("d" * (deepest - 5))
        c.insert_one({"_id": 1, **nested(deepest - 5, 1)})
        c.update_one({"_id": 1}, {"$set": {path: 2}})
        c.update_one({"_id": 1}, {"$set": {"d": nested(deepest - 6, 3)}})
        h = history_of(Tome, 1)
        assert [v.state for v in h] == [{"_id": 1, **nested(deepest - 5, number)} for number in (1, 2, 3)]
        with pytest.raises(StoreError if delivery == "atomic" else DeliveryError):
            c.insert_one({"_id": 2, **nested(deepest, 1)})
        assert (c.find_one({"_id": 2}) is None) == (delivery == "atomic")


def _deepest(plain: Any) -> int:
    """How many documents one in another a server takes below the top."""
    levels = 100
    while True:
        try:
            plain.insert_one({"_id": levels, **nested(levels + 1, 1)})
        except OperationFailure:
            return levels
        levels += 1


# -- names ------------------------------------------------------------------------------------------------------------

ODD_NAMES = [
    "a.b",
    "$dollar",
    "",
    "a.",
    ".a",
    "..",
    "$",
    "$set",
    "a$b",
    "0",
    "00",
    "-1",
    "1.5",
    "é",
    "日本",
    " ",
    "_id",
    "$id",
    "a.b.c",
    "*",
]


def test_odd_names(judge: Judge) -> None:
    """Dotted, dollar, empty and numeric names, below the top and at it, come, change and go."""

    def script(do: Do) -> None:
        c = Tome._get_collection()
        inner = {name: number for number, name in enumerate(ODD_NAMES)}
        do("create", lambda: c.insert_one({"_id": 1, "in": inner, "list": [inner, inner]}))
        for name in ODD_NAMES:
            put = {
                "$setField": {"field": {"$literal": name}, "input": "$in", "value": {"$literal": {"x": name}}}
            }
            drop = {"$unsetField": {"field": {"$literal": name}, "input": "$in"}}
            do("update", lambda put=put: c.update_one({"_id": 1}, [{"$set": {"in": put}}]), name)
            do("update", lambda drop=drop: c.update_one({"_id": 1}, [{"$set": {"in": drop}}]), name)
        do("update", lambda: c.replace_one({"_id": 1}, {"in": {**inner, "": {"": {"": 1}}}}))
        do("update", lambda: c.replace_one({"_id": 1}, {"in": {**inner, "": {"": {"": 2}}}}))
        do("delete", lambda: c.delete_one({"_id": 1}))
        top = {name: {"v": number} for number, name in enumerate(ODD_NAMES) if name != "_id"}
        do("create", lambda: c.insert_one({"_id": 2, **top}))
        allowed = {name: value for name, value in top.items() if not name.startswith("$")}
        do("update", lambda: c.replace_one({"_id": 2}, allowed))
        do("update", lambda: c.update_one({"_id": 2}, {"$set": {"é.v": 7, "0.v": 8, " .v": 9}}))
        do("update", lambda: c.update_one({"_id": 2}, {"$unset": {"00": 1, "-1": 1}}))

    judge(script, Tome)


def test_odd_names_are_read_and_reverted(delivery: str) -> None:
    """Changes name the very keys, and every state can be written back."""
    with tracking(Tome):
        c = Tome._get_collection()
        states = [
            {"_id": 1, "in": {name: number for number, name in enumerate(ODD_NAMES)}, "pad": "p" * 2000},
            {"_id": 1, "in": {name: -number - 1 for number, name in enumerate(ODD_NAMES)}, "pad": "p" * 2000},
            {"_id": 1, "in": {}},
        ]
        c.insert_one(dict(states[0]))
        c.replace_one({"_id": 1}, states[1])
        c.replace_one({"_id": 1}, states[2])
        h = history_of(Tome, 1)
        assert {change.path for change in h[1].changes} == {("in", name) for name in ODD_NAMES}
        for index in (0, 1, 2, 0):
            h[index].revert()
            assert list(c.find_one({"_id": 1})["in"].items()) == list(states[index]["in"].items())


# -- what only raw bytes can say --------------------------------------------------------------------------------------


def raw(*parts: tuple[bytes, int, bytes]) -> RawBSONDocument:
    return RawBSONDocument(elements.assemble(parts))


def int32(value: int) -> bytes:
    return value.to_bytes(4, "little", signed=True)


def test_duplicate_names(judge: Judge) -> None:
    """A document with a name twice, at the top or below it, is recorded byte by byte."""

    def script(do: Do) -> None:
        c = Tome._get_collection()
        identity = (b"_id", 0x10, int32(1))
        inner = raw((b"k", 0x10, int32(1)), (b"k", 0x10, int32(2))).raw
        do("create", lambda: c.insert_one(raw(identity, (b"in", 0x03, inner))).inserted_id)
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"b": 1}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"in.k": 3}}))
        do("delete", lambda: c.delete_one({"_id": 1}))
        twice = raw(identity, (b"k", 0x10, int32(1)), (b"x", 0x08, b"\x01"), (b"k", 0x10, int32(2)))
        do("create", lambda: c.insert_one(twice).inserted_id)
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"b": 1}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$set": {"k": 3}}))
        do("update", lambda: c.update_one({"_id": 1}, {"$inc": {"b": 3}}))
        do("update", lambda: c.replace_one({"_id": 1}, {"plain": 1}))
        again = raw((b"k", 0x10, int32(1)), (b"k", 0x10, int32(3)))
        do("update", lambda: c.replace_one({"_id": 1}, again))
        do("delete", lambda: c.delete_one({"_id": 1}))

    judge(script, Tome)


def test_duplicate_names_are_read_and_reverted(delivery: str) -> None:
    """States, changes and reverts of such a document; taking back single changes is a conflict."""
    with tracking(Tome):
        c = Tome._get_collection()
        identity = (b"_id", 0x10, int32(1))
        images = [
            raw(
                identity, (b"k", 0x10, int32(1)), (b"k", 0x10, int32(number)), (b"other", 0x10, int32(number))
            )
            for number in range(3)
        ]
        c.insert_one(images[0])
        c.replace_one({"_id": 1}, images[1])
        c.replace_one({"_id": 1}, images[2])
        c.update_one({"_id": 1}, {"$set": {"other": 9}})
        h = history_of(Tome, 1)
        assert [v.operation for v in h] == ["create"] + ["update"] * 3
        assert [v._chain.after(v.index) for v in h][:3] == [image.raw for image in images]
        assert [change.path for change in h[1].changes] == [()]
        updates = [v.id for v in h[1:]]
        assert [v.id for v in history_of(Tome, 1).versions(touching="other")] == updates
        assert [v.id for v in history_of(Tome).versions(touching="other")] == updates
        with pytest.raises(ConflictError):
            h[1].take_back()
        h[1].revert()
        assert stored(1) == images[1].raw
        history_of(Tome, 1)[-1].take_back()
        history_of(Tome, 1).revert()
        assert stored(1) == images[0].raw
        assert "external" not in [v.operation for v in history_of(Tome, 1)]


def stored(key: Any) -> bytes:
    found = mongoengine.get_db().get_collection("tome", codec_options=RAW).find_one({"_id": key})
    return bytes(found.raw)
