"""
The documents of a class as they stood, in a collection of their own: to be queried like the live one.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import bson
import mongoengine
import mongomock
import pytest
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from mongoengine import fields
from mongoengine.context_managers import switch_collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from django_mongo_history import (
    BrokenChainError,
    CollectionExistsError,
    history_of,
    runtime,
    track,
    untrack,
)
from django_mongo_history.driver import building
from tests.commanding import now
from tests.judge import configured, tracking
from tests.versions import NEEDS_BIND

START = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)


class IntoRunway(mongoengine.EmbeddedDocument):
    length = fields.IntField(db_field="len")


class IntoQuerySet(mongoengine.QuerySet):
    def large(self) -> Any:
        return self.filter(runways__length__gt=1)


class IntoAirport(mongoengine.Document):
    code = fields.StringField(primary_key=True)
    name = fields.StringField(db_field="nm", unique=True, sparse=True)
    country = fields.StringField()
    runways = fields.EmbeddedDocumentListField(IntoRunway)
    password = fields.StringField()
    seen = fields.DateTimeField()
    place = fields.PointField()
    meta = {
        "collection": "into_airport",
        "queryset_class": IntoQuerySet,
        "indexes": [
            "country",
            ("-country", "name"),
            {"fields": ["$name"], "default_language": "none"},
            {"fields": ["seen"], "expireAfterSeconds": 60},
            {"fields": ["runways.length"], "name": "by length"},
        ],
    }


class IntoPlane(mongoengine.Document):
    name = fields.StringField()
    meta = {"collection": "into_plane", "allow_inheritance": True}


class IntoJet(IntoPlane):
    engines = fields.IntField()
    meta = {"indexes": ["engines"]}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime.datetime:
        return self.now

    def tick(self, seconds: float = 1) -> datetime.datetime:
        self.now += datetime.timedelta(seconds=seconds)
        return self.now


@pytest.fixture
def clock(mongodb: Database) -> Iterator[Clock]:
    with configured():
        found = Clock()
        runtime.current().environment.now = found
        track(IntoAirport, hidden=["password"])
        track(IntoPlane)
        yield found
        for document_class in (IntoAirport, IntoPlane):
            untrack(document_class)


def at(second: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=second)


@pytest.fixture
def airports(clock: Clock) -> list[IntoAirport]:
    """Three at second 0, other names at second 1, one gone and one new at second 2."""
    made = [
        IntoAirport(
            code=f"a{n}",
            name=f"name {n}",
            country="DE" if n else "FR",
            runways=[IntoRunway(length=n), IntoRunway(length=2 * n)],
            password="do not tell",
            place=[n, n],
        ).save()
        for n in range(3)
    ]
    clock.tick()
    for n, airport in enumerate(made):
        airport.name = f"other {n}"
        airport.save()
    clock.tick()
    made[1].delete()
    IntoAirport(code="a3", name="new", country="DE").save()
    clock.tick()
    return made


def raw(collection: Any) -> list[bytes]:
    options = bson.CodecOptions(document_class=RawBSONDocument)
    return [bytes(one.raw) for one in collection.with_options(codec_options=options).find(sort=[("_id", 1)])]


def rows(database: Database) -> int:
    return database["document_history"].count_documents({})


# -- what it holds ------------------------------------------------------------------------------------------------------


def test_it_holds_what_as_of_gives(airports: list[IntoAirport], mongodb: Database) -> None:
    """At each moment the same documents, byte for byte; and nothing of it is recorded."""
    k = history_of(IntoAirport)
    before = rows(mongodb)
    for second in (-1, 0, 1, 2):
        moment = at(second + 0.5)
        made = k.as_of(moment).into(f"at_{second}")
        states = [bson.encode(state) for state in k.states_as_of(moment)]
        assert raw(mongodb[f"at_{second}"]) == states
        assert made.count == len(states) == {-1: 0, 0: 3, 1: 3, 2: 3}[second]
        assert (made.moment, made.collection_name) == (moment, f"at_{second}")
    assert rows(mongodb) == before
    assert [one.name for one in k.as_of(at(0.5)).into("names").objects.order_by("code")] == [
        "name 0",
        "name 1",
        "name 2",
    ]


def test_hidden_values_are_not_in_it(airports: list[IntoAirport], mongodb: Database) -> None:
    """Neither are they where a document has no version and is as it is now."""
    IntoAirport._get_collection()._plain().insert_one({"_id": "b", "nm": "past", "password": "do not tell"})
    made = history_of(IntoAirport).as_of(at(0.5)).into("then")
    assert made.count == 4
    assert not any(b"do not tell" in image for image in raw(mongodb["then"]))


def test_subclasses_keep_their_class(clock: Clock) -> None:
    """The base's collection has all of them, a subclass's only its own."""
    for n in range(3):
        IntoPlane(name=f"plane {n}").save()
        IntoJet(name=f"jet {n}", engines=n).save()
    clock.tick()
    IntoPlane.objects.update(name="now")
    planes = history_of(IntoPlane).as_of(at(0.5)).into("planes")
    jets = history_of(IntoJet).as_of(at(0.5)).into("jets")
    assert {type(one) for one in planes.objects} == {IntoPlane, IntoJet}
    assert (planes.count, jets.count) == (6, 3)
    assert jets.objects.get(engines=2).name == "jet 2"
    assert [one.collection_name for one in history_of(IntoJet).materialized()] == ["jets"]


# -- how it is used -----------------------------------------------------------------------------------------------------


def test_queries_and_aggregations_work_on_it(airports: list[IntoAirport]) -> None:
    """By the class's own queryset, on the documents of then; the live ones stay apart."""
    made = history_of(IntoAirport).as_of(at(0.5)).into("then")
    assert made.objects(country="DE").count() == 2
    assert [one.code for one in made.objects.large().order_by("code")] == ["a1", "a2"]
    assert made.objects.get(name="name 1").runways[1].length == 2
    assert list(
        made.objects.aggregate([{"$group": {"_id": "$country", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}])
    ) == [
        {"_id": "DE", "n": 2},
        {"_id": "FR", "n": 1},
    ]
    assert made.objects.search_text("name").count() == 3
    assert made.objects(place__near=[1, 1], place__max_distance=1000).first().code == "a1"
    assert made.objects.scalar("name").order_by("name")[1] == "name 1"
    assert IntoAirport.objects.count() == 3
    assert sorted(IntoAirport.objects.scalar("name")) == ["new", "other 0", "other 2"]


def test_switch_collection_works_on_it(clock: Clock) -> None:
    """As the documentation of MongoEngine has it; a class whose documents expire is the exception."""
    for n in range(3):
        IntoJet(name=f"jet {n}", engines=n).save()
    clock.tick()
    IntoJet.objects.delete()
    made = history_of(IntoPlane).as_of(at(0.5)).into("planes")
    with switch_collection(IntoJet, made.collection_name) as switched:
        assert switched.objects(engines__gt=0).count() == 2
    assert IntoJet.objects.count() == 0


def test_documents_that_would_expire_are_kept_from_it(airports: list[IntoAirport]) -> None:
    """MongoEngine would make the index by which they vanish; it is told that there is another one, and they stay."""
    made = history_of(IntoAirport).as_of(at(0.5)).into("then")
    with switch_collection(IntoAirport, "then") as switched, pytest.raises(OperationFailure):
        switched.objects.count()
    assert made.objects.count() == 3


def test_writes_to_it_are_not_recorded(airports: list[IntoAirport], mongodb: Database) -> None:
    """It is nobody's present."""
    made = history_of(IntoAirport).as_of(at(0.5)).into("then")
    before = rows(mongodb)
    assert made.objects(code="a0").update(set__name="else") == 1
    assert made.objects(code="a1").delete() == 1
    assert (made.count, rows(mongodb), IntoAirport.objects.count()) == (2, before, 3)


def test_it_has_the_indexes_of_the_class_and_lets_nothing_expire(
    airports: list[IntoAirport], mongodb: Database
) -> None:
    """Those that are declared and those that somebody has made by hand; unique ones stay so."""
    IntoAirport._get_collection().create_index([("country", 1), ("runways.len", -1)], name="by hand")
    made = history_of(IntoAirport).as_of(at(0.5)).into("then")
    live, then = (collection.index_information() for collection in (mongodb["into_airport"], mongodb["then"]))
    assert "by hand" in then
    assert live["seen_1"].pop("expireAfterSeconds") == 60
    for one in (live, then):
        for index in one.values():
            index.pop("background", None)
    assert then == live
    assert made.skipped_indexes == []
    plan = made.objects(country="DE").hint("country_1").explain()
    assert "IXSCAN" in str(plan)


def test_declared_indexes_are_made_where_the_live_ones_are_missing(
    airports: list[IntoAirport], mongodb: Database
) -> None:
    """A class that makes none by itself declares them still."""
    mongodb["into_airport"].drop_indexes()
    history_of(IntoAirport).as_of(at(0.5)).into("then")
    assert set(mongodb["then"].index_information()) == {
        "_id_",
        "nm_1",
        "country_1",
        "country_-1_nm_1",
        "nm_text",
        "seen_1",
        "by length",
        "place_2dsphere",
    }
    assert "expireAfterSeconds" not in mongodb["then"].index_information()["seen_1"]


def test_a_unique_index_that_the_past_does_not_allow_is_named(clock: Clock, mongodb: Database) -> None:
    """The past is not changed for it: it is left out, and the rest is there."""
    IntoAirport._get_collection()  # makes the indexes
    mongodb["into_airport"].drop_index("nm_1")
    for n in range(3):
        IntoAirport(code=str(n), name="same").save()
    clock.tick()
    for n in range(3):
        IntoAirport.objects(code=str(n)).update(name=f"own {n}")
    mongodb["into_airport"].create_index("nm", unique=True, sparse=True)
    made = history_of(IntoAirport).as_of(at(0.5)).into("then")
    assert made.skipped_indexes == ["nm_1"]
    assert made.objects(name="same").count() == 3


def test_progress_counts_every_document(airports: list[IntoAirport], monkeypatch: pytest.MonkeyPatch) -> None:
    """Portion by portion, and all of them in the end."""
    monkeypatch.setattr(building, "_MOST_AT_ONCE", 2)
    counted: list[int] = []
    made = history_of(IntoAirport).as_of(at(0.5)).into("then", progress=counted.append)
    assert (counted, made.count) == ([2, 1], 3)


def test_large_documents_are_written_in_small_portions(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A portion ends by its bytes too."""
    monkeypatch.setattr(building, "_MAX_BYTES", 100_000)
    for _number in range(3):
        IntoPlane(name="x" * 99_990).save()
    counted: list[int] = []
    history_of(IntoPlane).as_of(at(0.5)).into("then", progress=counted.append)
    assert counted == [1, 1, 1]


# -- names and collections that are there ---------------------------------------------------------------------------------


def test_one_of_ours_is_replaced_and_found_again(airports: list[IntoAirport]) -> None:
    """By the same name at another moment, by another process too, which finds it by its mark."""
    k = history_of(IntoAirport)
    k.as_of(at(0.5)).into("then")
    k.as_of(at(1.5)).into("then")
    k.as_of(at(2.5)).into("and_then")
    found = k.materialized()
    assert [(one.collection_name, one.moment, one.count) for one in found] == [
        ("and_then", at(2.5), 3),
        ("then", at(1.5), 3),
    ]
    assert sorted(found[1].objects.scalar("name")) == ["other 0", "other 1", "other 2"]
    assert found[1].made_at == at(3)
    assert history_of(IntoPlane).materialized() == []


def test_what_others_made_is_never_touched(airports: list[IntoAirport], mongodb: Database) -> None:
    """A collection, a view, the live one, the history itself: an error that names it, and no trace of the attempt."""
    mongodb["others"].insert_one({"_id": 1})
    mongodb.create_collection("marked", validator={"$comment": "by somebody else"})
    mongodb.create_collection("view", viewOn="others", pipeline=[])
    names = set(mongodb.list_collection_names())
    k = history_of(IntoAirport)
    for name in ("others", "marked", "view", "into_airport", "document_history"):
        with pytest.raises(CollectionExistsError, match=rf"{mongodb.name}\.{name} exists") as caught:
            k.as_of(at(0.5)).into(name)
        assert caught.value.collection == f"{mongodb.name}.{name}"
    assert set(mongodb.list_collection_names()) == names
    assert list(mongodb["others"].find()) == [{"_id": 1}]


def test_a_name_that_is_taken_while_it_is_built_stays_taken(
    airports: list[IntoAirport], mongodb: Database
) -> None:
    """Whoever comes first has it, and nothing is left of ours."""

    def take(count: int) -> None:
        mongodb["then"].insert_one({"_id": "mine"})

    with pytest.raises(CollectionExistsError):
        history_of(IntoAirport).as_of(at(0.5)).into("then", progress=take)
    assert list(mongodb["then"].find()) == [{"_id": "mine"}]
    assert not [name for name in mongodb.list_collection_names() if "building" in name]


def test_names_that_cannot_be(airports: list[IntoAirport]) -> None:
    """Told before anything is made."""
    k = history_of(IntoAirport)
    for name in ("", "system.js", "a$b", "a..b", ".a", "a.", "x" * 200):
        with pytest.raises(ValueError, match=r"into\(\)"):
            k.as_of(at(0.5)).into(name)
    with pytest.raises(TypeError):
        k.as_of(at(0.5)).into(None)


def test_drop_takes_it_away_and_nothing_else(airports: list[IntoAirport], mongodb: Database) -> None:
    """Once; and not what has come in its place."""
    made = history_of(IntoAirport).as_of(at(0.5)).into("then")
    before = rows(mongodb)
    assert made.drop() is True
    assert made.drop() is False
    assert "then" not in mongodb.list_collection_names()
    mongodb["then"].insert_one({"_id": "mine"})
    with pytest.raises(CollectionExistsError):
        made.drop()
    assert mongodb["then"].count_documents({}) == 1
    assert rows(mongodb) == before
    assert IntoAirport.objects.count() == 3


# -- what fails -----------------------------------------------------------------------------------------------------------


def test_it_appears_whole_or_not_at_all(airports: list[IntoAirport], mongodb: Database) -> None:
    """While it is built, and after an error, the one that was there before is."""
    k = history_of(IntoAirport)
    k.as_of(at(0.5)).into("then")
    old = raw(mongodb["then"])

    def look(count: int) -> None:
        assert raw(mongodb["then"]) == old
        assert [one.collection_name for one in k.materialized()] == ["then"]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        k.as_of(at(1.5)).into("then", progress=look)
    assert raw(mongodb["then"]) == old
    assert not [name for name in mongodb.list_collection_names() if "building" in name]


def test_a_state_that_cannot_be_known_ends_it(airports: list[IntoAirport], mongodb: Database) -> None:
    """An error that names the document, and no collection with a hole in it."""
    mongodb["document_history"].update_many(
        {"document_id": "a2"},
        {"$unset": {"patch": 1, "snapshot": 1}, "$set": {"before": b"x", "after": b"y"}},
    )
    with pytest.raises(BrokenChainError):
        history_of(IntoAirport).as_of(at(0.5)).into("then")
    assert "then" not in mongodb.list_collection_names()
    assert not [name for name in mongodb.list_collection_names() if "building" in name]


def test_what_a_killed_builder_left_is_swept_after_a_day(
    airports: list[IntoAirport], mongodb: Database
) -> None:
    """One that may still be at work is left to it."""
    mark = {"$comment": {"owner": "django_mongo_history"}}
    old = ObjectId.from_datetime(datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2))
    young = ObjectId()
    for one in (old, young):
        mongodb.create_collection(f"then.building-{one}", validator=mark)
        mongodb.create_collection(f"other.building-{one}", validator=mark)
    history_of(IntoAirport).as_of(at(0.5)).into("then")
    left = {name for name in mongodb.list_collection_names() if "building" in name}
    assert left == {f"then.building-{young}", f"other.building-{young}", f"other.building-{old}"}
    assert len(history_of(IntoAirport).materialized()) == 1


@NEEDS_BIND
def test_it_is_refused_in_a_transaction(airports: list[IntoAirport], mongodb: Database) -> None:
    """Servers make and rename no collections there."""
    with (
        mongodb.client.start_session() as session,
        session.start_transaction(),
        session.bind(end_session=False),
        pytest.raises(ValueError, match="transaction"),
    ):
        history_of(IntoAirport).as_of(at(0.5)).into("then")


def test_it_stays_an_iterator(airports: list[IntoAirport]) -> None:
    """Of unsaved instances, once; writing it out does not use it up."""
    found = history_of(IntoAirport).as_of(at(0.5))
    first = next(found)
    assert found.into("then").count == 3
    assert [first.code, *(one.code for one in found)] == ["a0", "a1", "a2"]
    assert list(found) == []


def test_a_standalone_server_will_do(standalone_mongodb: Database) -> None:
    """No transaction is needed for it."""
    with configured(), tracking(IntoPlane):
        for n in range(3):
            IntoPlane(name=f"plane {n}").save()
        before = standalone_mongodb["document_history"].count_documents({})
        made = history_of(IntoPlane).as_of(now()).into("planes")
        assert made.objects(name="plane 1").count() == 1
        assert made.count == 3
        assert made.drop()
        assert standalone_mongodb["document_history"].count_documents({}) == before


def test_mongomock_says_that_it_cannot() -> None:
    """It holds no mark, so nobody could say later whose the collection is."""
    mongoengine.connect("mocked", mongo_client_class=mongomock.MongoClient, uuidRepresentation="standard")
    try:
        with configured(), tracking(IntoPlane):
            IntoPlane(name="plane").save()
            with pytest.raises(TypeError, match="mongomock"):
                history_of(IntoPlane).as_of(datetime.datetime.now(datetime.UTC)).into("planes")
            assert history_of(IntoPlane).materialized() == []
    finally:
        mongoengine.disconnect()
