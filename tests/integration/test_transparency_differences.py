"""
What an application can notice of tracking, each difference as `docs/limitations.md` has it; and the options of clients
and URIs under which nothing else may be noticed.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import mongoengine
import pymongo
import pytest
from bson.codec_options import TypeCodec, TypeRegistry
from bson.decimal128 import Decimal128
from mongoengine import fields
from mongoengine.context_managers import query_counter
from pymongo.database import Database
from pymongo.errors import DocumentTooLarge, OperationFailure

from tests import differential
from tests.differential import Case, See, World, attempted, shown
from tests.judge import configured, tracking
from tests.versions import NEEDS_SORTED_UPDATES


class Cobble(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    count = fields.IntField()
    marks = fields.ListField(fields.IntField())
    at = fields.DateTimeField()
    uid = fields.UUIDField()
    code = fields.StringField(unique=True, sparse=True)
    any = fields.DynamicField()
    meta = {"collection": "cobble"}


def three() -> None:
    Cobble.objects.insert([Cobble(number=n, name="ab"[n % 2], count=n, marks=[n]) for n in (1, 2, 3)])


# -- options of the connection: no difference -------------------------------------------------------------------------


class Exact:
    """A type that only this client knows."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Exact({self.text})"


class ExactCodec(TypeCodec):
    python_type = Exact
    bson_type = Decimal128

    def transform_python(self, value: Exact) -> Decimal128:
        return Decimal128(value.text)

    def transform_bson(self, value: Decimal128) -> Exact:
        return Exact(str(value))


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "w=1": ("w=1", {}),
    "w=majority": ("w=majority", {}),
    "w=majority&wtimeoutMS=5000": ("w=majority&wtimeoutMS=5000", {}),
    "w=0": ("w=0", {}),
    "journal=true": ("journal=true", {}),
    "retryWrites=false": ("retryWrites=false", {}),
    "retryReads=false": ("retryReads=false", {}),
    "readPreference=secondaryPreferred": ("readPreference=secondaryPreferred", {}),
    "readConcernLevel=majority": ("readConcernLevel=majority", {}),
    "naive dates": ("", {"tz_aware": False}),
    "old uuids": ("", {"uuidRepresentation": "pythonLegacy"}),
    "types of one's own": ("", {"type_registry": TypeRegistry([ExactCodec()])}),
    "a pool of one": ("maxPoolSize=1", {}),
    "a server api": ("", {"server_api": pymongo.server_api.ServerApi("1", strict=False)}),
    "timeoutMS": ("timeoutMS=20000", {}),
    "socketTimeoutMS": ("socketTimeoutMS=20000", {}),
    "appname and compression": ("appname=app&compressors=zlib", {}),
}


IN_SYNC_TOO = ("w=0", "retryWrites=false", "readPreference=secondaryPreferred", "readConcernLevel=majority")


@pytest.fixture(
    scope="module",
    params=[("atomic", name) for name in OPTIONS] + [("sync", name) for name in IN_SYNC_TOO],
    ids=str,
)
def connection(request: pytest.FixtureRequest) -> Iterator[World]:
    uri_options, client_options = OPTIONS[request.param[1]]
    with differential.world(
        request, (Cobble,), uri_options=uri_options, client_options=client_options
    ) as made:
        yield made


def every_kind(see: See) -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    three()
    see(lambda: Cobble(number=4, name="n", at=moment, uid=uuid.UUID(int=5)).save())
    one = Cobble.objects.get(number=4)
    one.name = "m"
    one.marks.append(5)
    see(one.save)
    see(one.reload)
    see(lambda: Cobble(number=4, name="over").save())
    see(lambda: Cobble.objects(number=1).update(set__uid=uuid.UUID(int=6), set__at=moment))
    see(lambda: Cobble.objects(number=1).update(inc__count=1, full_result=True))
    see(lambda: Cobble.objects(name="b").update(push__marks=9))
    see(lambda: Cobble.objects(uid=uuid.UUID(int=6)).modify(set__count=8, new=True))
    see(lambda: Cobble.objects(number=1).only("name").modify(inc__count=8))
    see(lambda: Cobble.objects(number=7).update_one(upsert=True, set__name="up"))
    see(lambda: Cobble.objects(name="made").update_one(upsert=True, set__number=8))
    see(lambda: Cobble.objects.insert([Cobble(number=20, code="c"), Cobble(number=21)], load_bulk=False))
    see(
        lambda: Cobble.objects.insert(
            [Cobble(number=22), Cobble(number=20), Cobble(number=23)], load_bulk=False
        )
    )
    see(lambda: Cobble(number=24, code="c").save())
    see(lambda: Cobble.objects(number=2).update(code="c"))
    see(lambda: Cobble._get_collection().bulk_write([pymongo.UpdateOne({"_id": 2}, {"$inc": {"count": 1}})]))
    see(lambda: Cobble._get_collection().replace_one({"_id": 3}, {"name": "r"}))
    see(lambda: Cobble.objects.get(number=3).delete())
    see(lambda: Cobble.objects(number__gt=10).delete())
    see(lambda: Cobble.objects.order_by("number"))
    see(lambda: list(Cobble.objects.as_pymongo().order_by("number")))
    see(lambda: (Cobble._get_collection().write_concern, Cobble._get_collection().read_concern))
    see(lambda: Cobble._get_collection().read_preference)
    see(lambda: Cobble._get_collection().codec_options.tz_aware)


def with_types(see: See) -> None:
    collection = Cobble._get_collection()
    see(lambda: collection.insert_one({"_id": 1, "any": Exact("1.50")}))
    see(lambda: Cobble.objects(number=1).update(set__any=Exact("2.50")))
    see(lambda: Cobble.objects.get(number=1).any)
    see(lambda: collection.find_one_and_update({"any": Exact("2.50")}, {"$set": {"any": Exact("3")}}))
    see(lambda: Cobble.objects(number=1).modify(set__any=Exact("4"), new=True).any)


def test_options_of_the_connection(connection: World) -> None:
    connection.compare(Case("every_kind", every_kind, images=None))
    connection.compare(Case("with_types", with_types, images=None))


# -- the documented differences ---------------------------------------------------------------------------------------


@pytest.fixture(params=["atomic", "sync", "standalone"])
def database(request: pytest.FixtureRequest) -> Iterator[Database[Any]]:
    """A database; the class is tracked, its history lies beside it."""
    found: Database[Any] = request.getfixturevalue(
        "standalone_mongodb" if request.param == "standalone" else "mongodb"
    )
    with configured(DELIVERY="sync" if request.param == "sync" else "auto", DATABASE=f"{found.name}_history"):
        yield found
        found.client.drop_database(f"{found.name}_history")


def in_both_ways(call: Callable[[], Any]) -> tuple[Any, Any]:
    """The answers of a call on three documents, untracked and tracked, with the documents after it."""
    answers = []
    for is_tracked in (False, True):
        Cobble.objects.delete()
        three()
        with tracking(*(Cobble,) * is_tracked):
            answer = attempted(call)
        answers.append((answer, list(Cobble.objects.order_by("number").as_pymongo())))
    return answers[0], answers[1]


def test_the_collection_says_what_it_is(database: Database[Any]) -> None:
    with tracking(Cobble):
        collection = Cobble._get_collection()
        assert repr(collection).startswith("RecordingCollection(Database(")
        assert isinstance(collection, pymongo.collection.Collection)
        assert collection == database["cobble"]
        with pytest.raises(TypeError, match="'RecordingCollection' object is not callable"):
            collection()


def test_an_update_of_many_that_fails_is_rolled_back(
    database: Database[Any], request: pytest.FixtureRequest
) -> None:
    """Where the server can; a plain one leaves the documents before the failing one changed."""
    plain, tracked = in_both_ways(lambda: Cobble.objects.update(code="same"))
    assert shown(plain[0])[:2] == shown(tracked[0])[:2]
    assert [one.get("code") for one in plain[1]] == ["same", None, None]
    has_transactions = "standalone" not in request.node.name
    assert [one.get("code") for one in tracked[1]] == [None if has_transactions else "same", None, None]


COUNTS: dict[str, tuple[Callable[[], Any], int, int]] = {
    "set": (lambda: Cobble.objects(number=1).update(count=5), 1, 1),
    "inc": (lambda: Cobble.objects(number=1).update(inc__count=5), 1, 2),
    "set of many": (lambda: Cobble.objects(name="b").update(count=5), 1, 2),
    "inc of many": (lambda: Cobble.objects(name="b").update(inc__count=5), 1, 3),
    "delete": (lambda: Cobble.objects(number=1).delete(), 1, 1),
    "delete of many": (lambda: Cobble.objects(name="b").delete(), 1, 2),
    "insert": (lambda: Cobble(number=9).save(force_insert=True), 1, 1),
    "modify": (lambda: Cobble.objects(number=1).modify(count=3), 1, 1),
}


@pytest.mark.parametrize("name", COUNTS)
def test_states_that_are_read_count_as_queries(database: Database[Any], name: str) -> None:
    call, plain, tracked = COUNTS[name]
    found = []
    for is_tracked in (False, True):
        Cobble.objects.delete()
        three()
        with tracking(*(Cobble,) * is_tracked), query_counter() as counter:
            call()
            found.append(int(counter))
    assert found == [plain, tracked]


def test_the_profiler_shows_find_and_modify(database: Database[Any]) -> None:
    operations = []
    for is_tracked in (False, True):
        Cobble.objects.delete()
        three()
        with tracking(*(Cobble,) * is_tracked), query_counter():
            Cobble.objects(number=1).update(count=5)
            Cobble.objects(number=1).delete()
            found = database["system.profile"].find({"ns": f"{database.name}.cobble"}).sort("ts")
            operations.append([one["op"] for one in found])
    assert operations == [["update", "remove"], ["command", "command"]]


def test_documents_that_are_too_large(database: Database[Any]) -> None:
    """The driver sees to commands, the server to the statements in them: the exception is another one."""
    big = "x" * 17_000_000
    plain, tracked = in_both_ways(
        lambda: Cobble._get_collection().update_one({"_id": 1}, {"$set": {"name": big}})
    )
    assert isinstance(plain[0], (DocumentTooLarge, OperationFailure))
    assert isinstance(tracked[0], (DocumentTooLarge, OperationFailure))
    assert plain[1] == tracked[1]


@NEEDS_SORTED_UPDATES
def test_a_sort_in_a_batch(database: Database[Any], mongodb_client: Any) -> None:
    """Servers before 8.0 refuse it of an update, where findAndModify would obey: so do we."""
    request = pymongo.UpdateOne({"name": "b"}, {"$set": {"count": 50}}, sort={"_id": -1})
    plain, tracked = in_both_ways(lambda: Cobble._get_collection().bulk_write([request]))
    version = mongodb_client.server_info()["versionArray"][0]
    assert isinstance(plain[0], OperationFailure) == (version < 8)
    assert (type(tracked[0]), tracked[1]) == (type(plain[0]), plain[1])
