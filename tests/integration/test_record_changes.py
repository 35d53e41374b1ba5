"""`RecordChanges`: the latest who and when on the document itself, set by every write and no part of any version."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import mongoengine
import mongomock
import pytest
from bson.raw_bson import RawBSONDocument
from mongoengine import fields
from mongoengine.context_managers import switch_collection
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.database import Database

from django_mongo_history import (
    ReasonRequiredError,
    RecordChanges,
    UntrackedFieldError,
    append_change_info,
    changeset,
    history_of,
    rationale,
    suppress_history,
)
from django_mongo_history.core.stamps import Stamp
from tests.conftest import CLIENT_OPTIONS, _disconnect
from tests.judge import HISTORY, configured, tracking


class Beacon(RecordChanges, mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    hits = fields.IntField()
    secret = fields.StringField()
    meta = {"collection": "beacon"}


class Lamp(mongoengine.Document):
    """A base without the fields, and a class with them below it."""

    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "lamp_record_changes", "allow_inheritance": True}


class Lantern(RecordChanges, Lamp):
    pass


class Wire(mongoengine.Document):
    """Points to beacons; theirs are the deletes that reach it."""

    number = fields.IntField(primary_key=True)
    meta = {"collection": "wire"}


class Socket(RecordChanges, mongoengine.Document):
    number = fields.IntField(primary_key=True)
    wire = fields.ReferenceField(Wire, reverse_delete_rule=mongoengine.NULLIFY)
    wires = fields.ListField(fields.ReferenceField(Wire, reverse_delete_rule=mongoengine.PULL))
    meta = {"collection": "socket_record_changes"}


@pytest.fixture(params=["atomic", "sync", "untracked"])
def mode(request: pytest.FixtureRequest, mongodb: Database) -> Iterator[str]:
    """The class tracked in both ways, and not at all; three beacons by `seed`, 2 with a name of its own."""
    if request.param == "untracked":
        with configured():
            seed()
            yield request.param
        return
    with configured(DELIVERY=request.param), tracking(Beacon, hidden=["secret"]):
        seed()
        yield request.param


def seed() -> None:
    with changeset(user="seed"):
        Beacon.objects.insert([Beacon(number=n, name="a", hits=0) for n in (1, 2, 3)])


def raw(number: int) -> dict[str, Any]:
    """The document as the database holds it."""
    found = mongoengine.get_db()["beacon"].find_one({"_id": number})
    assert found is not None
    return found


def by(number: int) -> Any:
    return raw(number)["change_info"]["user"]["pk"]


def collection() -> Any:
    return Beacon._get_collection()


def _save() -> None:
    document = Beacon.objects.get(number=2)
    document.name = "b"
    document.save()


WRITES: dict[str, Callable[[], Any]] = {
    "save": _save,
    "save of what was loaded and removed": lambda: Beacon(number=2, name="b").save(),
    "update of a document": lambda: Beacon.objects.get(number=2).update(name="b"),
    "update": lambda: Beacon.objects(number=2).update(name="b"),
    "update by another field": lambda: Beacon.objects(number__gt=1, number__lt=3).update(name="b"),
    "update_one": lambda: Beacon.objects(number=2).update_one(unset__name=1),
    "upsert_one": lambda: Beacon.objects(number=2).upsert_one(name="b"),
    "modify": lambda: Beacon.objects.get(number=2).modify(name="b"),
    "operators": lambda: Beacon.objects(number=2).update(inc__hits=1, set__name="b", unset__secret=1),
    "untracked alone": lambda: Beacon.objects(number=2).update(inc__hits=1),
    "pipeline": lambda: collection().update_many({"_id": 2}, [{"$set": {"name": "b"}}]),
    "replace_one": lambda: collection().replace_one({"_id": 2}, {"name": "b"}),
    "replace_one, raw": lambda: collection().replace_one({"_id": 2}, RawBSONDocument(_RAW)),
    "find_one_and_update": lambda: collection().find_one_and_update({"_id": 2}, {"$set": {"name": "b"}}),
    "find_one_and_replace": lambda: collection().find_one_and_replace({"_id": 2}, {"name": "b"}),
    "bulk_write": lambda: collection().bulk_write([UpdateOne({"_id": 2}, {"$set": {"name": "b"}})]),
    "bulk_write of many": lambda: collection().bulk_write(
        [
            DeleteOne({"_id": 77}),
            UpdateMany({"_id": 2}, {"$set": {"name": "c"}}),
            ReplaceOne({"_id": 2}, {"name": "b"}),
        ]
    ),
    "over a field of our own": lambda: collection().update_one(
        {"_id": 2},
        {"$set": {"name": "b", "changed": "x", "change_info.user": 1}, "$unset": {"change_info": 1}},
    ),
}
_RAW = b"\x11\x00\x00\x00\x02name\x00\x02\x00\x00\x00b\x00\x00"


@pytest.mark.parametrize("name", WRITES)
def test_every_write_says_who_and_when(mode: str, name: str) -> None:
    """On the documents that it writes and on no other, tracked or not; and versions know nothing of it."""
    others = raw(1), raw(3)
    before = datetime.datetime.now(datetime.UTC)
    with changeset(user="ann", reason="why", ticket=7):
        WRITES[name]()
    found = raw(2)
    assert found["change_info"] == {
        "user": {"pk": "ann", "label": "ann", "model": None},
        "reason": "why",
        "extra": {"ticket": 7},
    }
    assert (
        before - datetime.timedelta(milliseconds=1)
        <= found["changed"]
        <= datetime.datetime.now(datetime.UTC) + datetime.timedelta(milliseconds=1)
    )
    assert (raw(1), raw(3)) == others
    if mode != "untracked":
        for number in (1, 2, 3):
            for v in history_of(Beacon, number):
                assert not {"change_info", "changed"} & {*(v.state or ()), *(c.path[0] for c in v.changes)}
                assert v.operation in ("create", "update")


INSERTS: dict[str, Callable[[], Any]] = {
    "save": lambda: Beacon(number=9, name="n").save(),
    "force_insert": lambda: Beacon(number=9, name="n").save(force_insert=True),
    "insert": lambda: Beacon.objects.insert([Beacon(number=9, name="n"), Beacon(number=10)]),
    "insert_one": lambda: collection().insert_one({"_id": 9, "name": "n"}),
    "insert_many": lambda: collection().insert_many(iter([{"_id": 9, "name": "n"}])),
    "bulk_write": lambda: collection().bulk_write([InsertOne({"_id": 9, "name": "n"})]),
    "upsert": lambda: Beacon.objects(number=9).update(name="n", upsert=True),
    "upserting replacement": lambda: collection().replace_one({"_id": 9}, {"name": "n"}, upsert=True),
}


@pytest.mark.parametrize("name", INSERTS)
def test_every_insert_says_who_and_when(mode: str, name: str) -> None:
    """From the first on."""
    with changeset(user="ann"):
        INSERTS[name]()
    assert by(9) == "ann"
    assert [by(number) for number in (1, 2, 3)] == ["seed"] * 3
    assert {name: raw(9)[name] for name in ("_id", "name")} == {"_id": 9, "name": "n"}
    if mode != "untracked":
        assert history_of(Beacon, 9)[0].state == {"_id": 9, "name": "n"}


def test_the_caller_s_own_objects_stay_as_they_are(mode: str) -> None:
    """But for the `_id`, which the driver puts there too."""
    document: dict[str, Any] = {"name": "n"}
    update = {"$set": {"name": "b"}}
    request = UpdateOne({"_id": 1}, update)
    identity = collection().insert_one(document).inserted_id
    collection().update_one({"_id": 2}, update)
    collection().bulk_write([request])
    assert document == {"name": "n", "_id": identity}
    assert update == {"$set": {"name": "b"}}
    assert request._doc is update


def test_the_instance_knows_what_its_save_has_stored(mode: str) -> None:
    """As a reload would show it; and its next save without a change writes nothing."""
    documents = [Beacon.objects.get(number=number) for number in (1, 2, 3)]
    for document, user in zip(documents, ("ann", "ben", "cleo"), strict=True):
        document.name = "b"
        with changeset(user=user):
            document.save()
    for document, user in zip(documents, ("ann", "ben", "cleo"), strict=True):
        assert document.change_info["user"]["label"] == user
        shown = document.change_info, document.changed
        with changeset(user="nobody"):
            document.save()
        document.reload()
        assert (document.change_info, document.changed) == shown
        assert document._get_changed_fields() == []
    made = Beacon(number=9).save()
    assert (
        (made.change_info, made.changed) == (raw(9)["change_info"], raw(9)["changed"]) == ({}, made.changed)
    )


def test_what_the_instance_was_given_gives_way(mode: str) -> None:
    """Nobody writes into the fields by hand."""
    document = Beacon.objects.get(number=2)
    document.change_info = {"user": "forged"}
    document.changed = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    with changeset(user="ann"):
        document.save()
    assert by(2) == "ann"
    assert raw(2)["changed"].year > 2000
    assert document.change_info["user"]["pk"] == "ann"


def test_they_can_be_queried(mode: str) -> None:
    """They are fields like any other."""
    with changeset(user="ann"):
        Beacon.objects(number=2).update(name="b")
    assert list(Beacon.objects(change_info__user__pk="ann").scalar("number")) == [2]
    assert Beacon.objects.order_by("-changed").first().number == 2


def test_callables_and_appended_info_count(mongodb: Database) -> None:
    """Who and why is found out once for the document and its version, so both say the same."""
    asked: list[str] = []

    def extra(document_class: type) -> dict[str, Any]:
        asked.append(document_class.__name__)
        return {"call": len(asked)}

    with configured():
        seed()
    with configured(GET_USER=lambda _: "ann", GET_EXTRA=extra), tracking(Beacon):
        append_change_info(Beacon(number=2), scanner=3, reason="appended")
        for number in (1, 2, 3):
            Beacon.objects(number=number).update(name="b")
        assert asked == ["Beacon"] * 3
        for number in (1, 2, 3):
            v = history_of(Beacon, number)[-1]
            told = raw(number)["change_info"]
            assert (told["user"]["pk"], told["extra"], told.get("reason")) == (v.user.pk, v.extra, v.reason)
            assert abs(raw(number)["changed"] - v.at) < datetime.timedelta(seconds=5)
        assert history_of(Beacon, 2)[-1].extra == {"call": 2, "scanner": 3}


def test_they_are_untracked(mongodb: Database) -> None:
    """No version holds them, none is made for them, and asking a version for them says why it has none."""
    with configured(), tracking(Beacon, untracked=["hits"]):
        seed()
        for number in (1, 2, 3):
            Beacon.objects(number=number).update(hits=number)
        assert [len(history_of(Beacon, number)) for number in (1, 2, 3)] == [1, 1, 1]
        for name in ("change_info", "changed"):
            with pytest.raises(UntrackedFieldError):
                history_of(Beacon, 2)[0][name]
        assert "seed" not in repr([row["snapshot"] for row in mongodb[HISTORY].find()])
        assert history_of(Beacon, 2).diff(1) == []


@pytest.mark.parametrize("delivery", ["atomic", "sync"])
def test_ways_back_say_who(mongodb: Database, delivery: str) -> None:
    """A revert, a take back and a restored document carry whoever did that, not whoever is gone back to."""
    with configured(DELIVERY=delivery), tracking(Beacon):
        seed()
        with changeset(user="ann") as c:
            Beacon.objects.update(name="b")
        with changeset(user="ben"):
            history_of(Beacon, 2)[0].revert()
        assert [by(number) for number in (1, 2, 3)] == ["ann", "ben", "ann"]
        with changeset(user="cleo"):
            history_of(Beacon, 1)[-1].take_back()
        Beacon.objects(number=3).delete()
        with changeset(user="dora"):
            history_of(Beacon, 3)[-1].previous.revert()
        assert [by(number) for number in (1, 2, 3)] == ["cleo", "ben", "dora"]
        assert len(c.versions()) == 3
        assert [[v.operation for v in history_of(Beacon, number)] for number in (1, 2, 3)] == [
            ["create", "update", "update"],
            ["create", "update", "update"],
            ["create", "update", "delete", "create"],
        ]


def test_a_class_below_one_without_the_fields(mongodb: Database) -> None:
    """Writes through the class with the fields have them, those through its base have none, tracked or not."""
    for is_tracked in (False, True):
        with configured(), tracking(*([Lamp] if is_tracked else [])):
            Lamp.objects.delete()
            with changeset(user="ann"):
                made = [
                    Lantern(number=1, name="a").save(),
                    Lamp(number=2, name="a").save(),
                    Lantern(number=3).save(),
                ]
            assert [getattr(one, "change_info", None) is not None for one in made] == [True, False, True]
            with changeset(user="ben"):
                Lantern.objects(number=3).update(name="b")
                Lamp.objects(number=1).update(name="b")
            found = mongodb["lamp_record_changes"].find().sort("_id")
            assert [one.get("change_info", {}).get("user", {}).get("pk") for one in found] == [
                "ann",
                None,
                "ben",
            ]
    with configured(), tracking(Lamp):
        for number in (1, 2, 3):
            states = [v.state or {} for v in history_of(Lamp, number)]
            assert [state.keys() & {"change_info", "changed"} for state in states] == [set()] * len(states)


def test_rules_of_other_classes_deletes(mongodb: Database) -> None:
    """NULLIFY and PULL are writes."""
    with configured(), tracking(Socket):
        wires = [Wire(number=n).save() for n in (1, 2, 3)]
        for number in (1, 2, 3):
            Socket(number=number, wire=wires[0], wires=wires).save()
        with changeset(user="ann"):
            wires[0].delete()
        found = list(mongodb["socket_record_changes"].find())
        assert [one["change_info"]["user"]["pk"] for one in found] == ["ann"] * 3
        assert [one["wires"] for one in found] == [[2, 3]] * 3


def test_suppressed_and_refused_writes(mongodb: Database) -> None:
    """The fields do not depend on the history: a suppressed write sets them, a refused one was none."""
    with configured(REQUIRE_REASON=True), tracking(Beacon):
        with rationale("seed"):
            seed()
        with suppress_history("import"), changeset(user="ann"):
            Beacon.objects(number=2).update(name="b")
        with pytest.raises(ReasonRequiredError), changeset(user="ben"):
            Beacon.objects(number=3).update(name="b")
        assert [by(number) for number in (1, 2, 3)] == ["seed", "ann", "seed"]


def test_other_collections(mode: str) -> None:
    """A switched collection has them as well."""
    with switch_collection(Beacon, "beacon_other") as switched, changeset(user="ann"):
        switched(number=1, name="a").save()
        switched.objects(number=1).update(name="b")
        assert mongoengine.get_db()["beacon_other"].find_one()["change_info"]["user"]["pk"] == "ann"  # type: ignore[index]
    assert by(1) == "seed"


def test_what_the_driver_refuses_is_refused_in_its_words(mode: str) -> None:
    """The fields do not make a right update of a wrong one."""
    for call in (
        lambda: collection().update_one({"_id": 1}, {}),
        lambda: collection().update_one({"_id": 1}, {"name": "b"}),
        lambda: collection().replace_one({"_id": 1}, {"$set": {"name": "b"}}),
        lambda: collection().insert_many([]),
        lambda: collection().insert_one("no document"),
        lambda: collection().bulk_write("no requests"),
        lambda: collection().update_one({"_id": 1}, "no update"),
    ):
        with pytest.raises((ValueError, TypeError)) as found:
            call()
        assert "change_info" not in str(found.value)
    assert [by(number) for number in (1, 2, 3)] == ["seed"] * 3


@pytest.mark.parametrize("is_tracked", [True, False])
def test_on_mongomock(is_tracked: bool) -> None:
    """On the stand-in too."""
    _disconnect()
    mongoengine.connect("stamps", mongo_client_class=mongomock.MongoClient, **CLIENT_OPTIONS)
    try:
        with configured(), tracking(*([Beacon] if is_tracked else [])):
            seed()
            with changeset(user="ann"):
                _save()
            assert [by(number) for number in (1, 2, 3)] == ["seed", "ann", "seed"]
            if is_tracked:
                assert [v.state["name"] for v in history_of(Beacon, 2)] == ["a", "b"]
                assert [len(history_of(Beacon, number)) for number in (1, 2, 3)] == [1, 2, 1]
    finally:
        Beacon.drop_collection()
        _disconnect()


def test_where_the_mixin_stands() -> None:
    """Behind `Document` it could see no write, in an embedded document there is none: both are said at once."""
    with pytest.raises(TypeError, match="before Document"):
        type("Wrong", (mongoengine.Document, RecordChanges), {"meta": {"abstract": True}})
    with pytest.raises(TypeError, match="embedded"):
        type("WrongToo", (RecordChanges, mongoengine.EmbeddedDocument), {})


def test_untracking_leaves_the_fields(mongodb: Database) -> None:
    """They are the class's own; the history takes nothing of them with it."""
    with configured():
        with tracking(Beacon):
            seed()
        with changeset(user="ann"):
            Beacon.objects(number=2).update(name="b")
        assert [by(number) for number in (1, 2, 3)] == ["seed", "ann", "seed"]
        with tracking(Beacon):
            assert [v.operation for v in history_of(Beacon, 2)] == ["create", "external"]
            assert [v.operation for v in history_of(Beacon, 1)] == ["create"]


def test_a_stamp_on_bytes_keeps_every_other_byte() -> None:
    """Fields that are there keep their place, others come last."""
    import bson

    at = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    stamp = Stamp({"reason": "r"}, at)
    for document in (
        {"_id": 1},
        {"_id": 1, "change_info": 1, "x": 1.0},
        {"changed": 0, "change_info": {}, "z": []},
    ):
        stamped = bson.decode(stamp.on_image(bson.encode(document)))
        added = [name for name in ("change_info", "changed") if name not in document]
        assert list(stamped) == [*document, *added]
        assert stamped["change_info"] == {"reason": "r"}
        assert {name: value for name, value in stamped.items() if name not in ("change_info", "changed")} == {
            name: value for name, value in document.items() if name not in ("change_info", "changed")
        }
