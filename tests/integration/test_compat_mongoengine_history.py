"""
The calls of mongoengine-history as its documentation shows them, and what it gets wrong; three documents at once.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import dictdiffer
import mongoengine
import mongomock
import pytest
from bson import ObjectId
from django.contrib.auth import get_user_model
from mongoengine import fields, signals
from mongoengine.context_managers import switch_collection
from mongoengine.errors import InvalidQueryError, OperationError
from mongoengine.queryset.visitor import Q
from pymongo.database import Database

from django_mongo_history import (
    ConflictError,
    DocumentDeletedError,
    ReasonRequiredError,
    changeset,
    history_of,
    rationale,
    runtime,
    suppress_history,
    track,
    untrack,
)
from django_mongo_history.compat.mongoengine_history import (
    DocumentTrack,
    History,
    load_history,
    revert,
    track_changes,
)
from tests.judge import configured

HISTORY = "document_history"


class CompatCity(mongoengine.Document):
    """Referred to."""

    name = fields.StringField()


class CompatPart(mongoengine.EmbeddedDocument):
    label = fields.StringField(db_field="lb")
    notes = fields.DictField()
    city = fields.ReferenceField(CompatCity)


class CompatThing(mongoengine.Document):
    """With everything that theirs gets wrong."""

    name = fields.StringField(db_field="nm")
    age = fields.IntField()
    tags = fields.ListField(fields.StringField())
    notes = fields.DictField()
    raw = fields.BinaryField()
    part = fields.EmbeddedDocumentField(CompatPart)
    parts = fields.EmbeddedDocumentListField(CompatPart)
    city = fields.ReferenceField(CompatCity)
    cities = fields.ListField(fields.ReferenceField(CompatCity))
    anything = fields.DynamicField()
    secret = fields.StringField()
    meta = {"collection": "compat_thing"}


class CompatText(mongoengine.Document):
    code = fields.StringField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "compat_text"}


class CompatNumber(mongoengine.Document):
    code = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "compat_number"}


class CompatUuid(mongoengine.Document):
    code = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    name = fields.StringField()
    meta = {"collection": "compat_uuid"}


class CompatBase(mongoengine.Document):
    name = fields.StringField()
    meta = {"collection": "compat_base", "allow_inheritance": True}


class CompatSub(CompatBase):
    extra = fields.StringField()


class CompatFile(mongoengine.Document):
    name = fields.StringField()
    content = fields.FileField()
    meta = {"collection": "compat_file"}


class CompatCounted(mongoengine.Document):
    number = fields.SequenceField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "compat_counted"}


class CompatOfCity(mongoengine.Document):
    city = fields.ReferenceField(CompatCity, primary_key=True)
    name = fields.StringField()
    meta = {"collection": "compat_of_city"}


class CompatLoose(mongoengine.DynamicDocument):
    name = fields.StringField()
    meta = {"collection": "compat_loose"}


@pytest.fixture(autouse=True)
def _nothing_tracked(mongodb: Any) -> Iterator[None]:
    with configured():
        yield
        for tracked in list(runtime.current().environment.registry):
            untrack(tracked.document_class)


def things() -> list[CompatThing]:
    """Three documents, saved before anything is tracked."""
    return [CompatThing(name=name, age=age).save() for age, name in enumerate("ABC")]


def rows(mongodb: Database[Any]) -> list[dict[str, Any]]:
    return list(mongodb[HISTORY].find({"operation": {"$exists": True}}).sort("_id"))


def shown(found: Any) -> list[tuple[str, str, Any]]:
    return [(row.action, row.path, row.data) for row in found]


def moment() -> datetime.datetime:
    """A naive local moment between the writes before it and those after it."""
    time.sleep(0.002)
    now = datetime.datetime.now()  # noqa: DTZ005
    time.sleep(0.002)
    return now


def raw(document: Any) -> dict[str, Any]:
    found = type(document)._get_collection().find_one({"_id": document.to_mongo()["_id"]})
    assert found is not None
    return dict(found)


# -- what their documentation shows ------------------------------------------------------------------------------------


def test_their_first_example() -> None:
    """Connect, save in the block, loop over the log."""
    signals.post_save.connect(track_changes, sender=CompatThing)
    try:
        others, d = things()[:2], things()[0]
        with DocumentTrack(d):
            d.name = "My name"
            d.age = 12
            d.save()
        found = [
            (i.action, i.path, i.data)
            for i in History.objects.get(document_id=d.id, document_type="compat_thing")
        ]
        assert sorted(found) == [
            ("change", "age", {"old": 0, "new": 12}),
            ("change", "nm", {"old": "A", "new": "My name"}),
        ]
        for other in others:
            with pytest.raises(History.DoesNotExist):
                History.objects.get(document_id=other.id, document_type="compat_thing")
    finally:
        signals.post_save.disconnect(track_changes, sender=CompatThing)


def test_their_example_with_a_user() -> None:
    """What one user did is found by `identity`, of one document out of three."""
    user, someone = ObjectId(), ObjectId()
    documents = things()
    for document, identity in zip(documents, (user, someone, user), strict=True):
        with DocumentTrack(document, identity):
            document.name += "!"
            document.save()
    d = documents[0]
    for i in History.objects.get(document_id=d.id, document_type="compat_thing", identity=user):
        assert (i.action, i.path, i.data) == ("change", "nm", {"old": "A", "new": "A!"})
    assert History.objects(identity=user).count() == 2
    assert [row.document_id for row in History.objects(identity=str(someone))] == [documents[1].id]
    assert History.objects(document_id=d.id, identity=someone).count() == 0


def test_their_example_of_a_revert() -> None:
    """The state at a date; and without a date the very first one. Nothing is saved."""
    a, b, c = things()
    moments = []
    for round_ in range(3):
        for d in (a, b, c):
            with DocumentTrack(d):
                d.name = f"{d.name}{round_}"
                d.age += 10
                d.save()
        moments.append(moment())
    for index, wanted in enumerate(("A0", "A01", "A012")):
        assert revert(a, since=moments[index]) is a
        assert (a.name, a.age) == (wanted, 10 * (index + 1))
    assert raw(a)["nm"] == "A012"
    assert (revert(b).name, revert(b).age) == ("B", 1)
    since = datetime.datetime(year=2020, month=2, day=8, hour=23, minute=3, second=0)  # noqa: DTZ001
    assert revert(c, since=since).name == "C"
    assert (b.name, raw(b)["nm"], raw(c)["nm"]) == ("B", "B012", "C012")
    b.save()
    assert (raw(a)["nm"], raw(b)["nm"], raw(c)["nm"]) == ("A012", "B", "C012")


def test_their_example_of_patches() -> None:
    """`load_history` yields patches, newest first; the document as a second argument bounds nothing, as in their README."""
    a, b, c = things()
    for d in (a, b, c):
        with DocumentTrack(d):
            d.name = d.name.lower()
            d.save()
            d.secret = "x"
            d.save()
    assert list(load_history(b, b.to_mongo().to_dict())) == [
        ("add", [], [("secret", "x")]),
        ("change", ["nm"], ("B", "b")),
    ]
    assert list(load_history(b)) == list(load_history(b, since=None, until=None))


def test_bounds_of_patches() -> None:
    """Both bounds are inclusive; naive moments are local time."""
    a, _b, _c = documents = things()
    for name in ("1", "2", "3"):
        for d in documents:
            with DocumentTrack(d):
                d.name = name
                d.save()
            moment()
    first, second, third = (row.created_at for row in History.objects(document_id=a.id))
    assert first.tzinfo is None

    def names(**bounds: Any) -> list[str]:
        return [data[1] for _action, _path, data in load_history(a, **bounds)]

    assert names(since=second) == ["3", "2"]
    assert names(since=second, until=second) == ["2"]
    assert names(until=second) == ["2", "1"]
    assert names(since=third.astimezone(datetime.UTC)) == ["3"]
    assert revert(a, since=second).name == "2"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_naive_moments_are_local_time(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the process is, a naive moment means its clock on the wall."""
    documents = things()
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        d = documents[0]
        with DocumentTrack(d):
            d.name = "first"
            d.save()
        between = moment()
        assert between == datetime.datetime.now().replace(  # noqa: DTZ005
            second=between.second, minute=between.minute, microsecond=between.microsecond
        )
        with DocumentTrack(d):
            d.name = "second"
            d.save()
        assert revert(d, since=between).name == "first"
        row = History.objects(created_at__lt=between).get()
        assert row.data["new"] == "first"
        assert abs(datetime.datetime.now() - row.created_at) < datetime.timedelta(minutes=5)  # noqa: DTZ005
    finally:
        monkeypatch.undo()
        time.tzset()


# -- what is recorded ------------------------------------------------------------------------------------------------


def test_only_what_is_saved_inside_is_recorded(mongodb: Database[Any]) -> None:
    """Neither writes before and after the block, nor other documents, nor other collections in it."""
    a, b, c = things()
    a.update(name="before")
    with DocumentTrack(a):
        a.name = "inside"
        a.save()
        b.name = "other"
        b.save()
        CompatCity(name="city").save()
        CompatThing(name="new").save()
    a.name = "outside"
    a.save()
    c.delete()
    assert [(row["document_id"], row["operation"]) for row in rows(mongodb)] == [(a.id, "update")]
    assert shown(History.objects(document_id=a.id)) == [("change", "nm", {"old": "before", "new": "inside"})]
    assert list(load_history(a)) == [("change", ["nm"], ("before", "inside"))]


def test_writes_outside_cost_no_transaction(mongodb: Database[Any]) -> None:
    """Outside of blocks a class that is recorded in them writes as if nobody had ever named it."""
    a, *_others = things()
    with DocumentTrack(a):
        pass
    environment = runtime.current().environment
    assert not environment.records(CompatThing)
    with DocumentTrack(a):
        assert environment.records(CompatThing)
    assert not environment.records(CompatThing)
    CompatThing.objects(name="B").update(name="b")
    CompatThing.drop_collection()
    assert rows(mongodb) == []
    assert mongodb[HISTORY].count_documents({}) == 0


def test_blocks_may_be_nested_and_used_again() -> None:
    """Three documents in three blocks at once; the innermost block of a document says who."""
    a, b, c = documents = things()
    outer = DocumentTrack(a, "anna")
    for _round in range(2):
        with outer, DocumentTrack(b, "bert"), DocumentTrack(c):
            for d in documents:
                d.age += 1
                d.save()
            with DocumentTrack(a, "carl"):
                a.age += 1
                a.save()
            with outer:
                a.age += 1
                a.save()
    found = [(row.document_id, row.identity) for row in History.objects]
    once = [(a.id, "anna"), (b.id, "bert"), (c.id, None), (a.id, "carl"), (a.id, "anna")]
    assert found == once * 2


def test_a_block_ends_for_everybody(mongodb: Database[Any]) -> None:
    """A task that was begun inside and writes after the block is recorded no more; an exception ends it too."""
    a, b, _c = things()

    async def main() -> None:
        ended = asyncio.Event()

        async def late() -> None:
            await ended.wait()
            await asyncio.to_thread(CompatThing.objects(id=a.id).update, name="late")

        with DocumentTrack(a):
            task = asyncio.create_task(late())
            await asyncio.to_thread(CompatThing.objects(id=a.id).update, name="inside")
        ended.set()
        await task

    asyncio.run(main())
    with pytest.raises(KeyError), DocumentTrack(b):
        raise KeyError
    b.update(name="after")
    assert [row.data["new"] for row in History.objects] == ["inside"]
    assert len(rows(mongodb)) == 1


def test_another_thread_is_outside(mongodb: Database[Any]) -> None:
    """What another request writes to the same document meanwhile is not this block's."""
    a, *_others = things()
    with DocumentTrack(a, "anna"):
        thread = threading.Thread(target=lambda: CompatThing.objects(id=a.id).update(name="stranger"))
        thread.start()
        thread.join()
        a.reload()
        a.age = 9
        a.save()
    assert [(row.path, row.identity) for row in History.objects] == [("age", "anna")]


def test_every_kind_of_write_counts() -> None:
    """Theirs sees saves only."""
    a, b, c = things()
    with DocumentTrack(a), DocumentTrack(b), DocumentTrack(c):
        CompatThing.objects.update(inc__age=5)
        a.modify(set__name="m")
        CompatThing.objects(id=b.id).update_one(push__tags="t")
        removed_state = raw(c)
        c.delete()
    assert shown(History.objects(document_id=a.id)) == [
        ("change", "age", {"old": 0, "new": 5}),
        ("change", "nm", {"old": "A", "new": "m"}),
    ]
    assert shown(History.objects(document_id=b.id))[1][:2] == ("add", "tags")
    removed = History.objects(document_id=c.id, action="remove").get()
    assert {item["key"]: item["value"] for item in removed.data["items"]} == {
        key: value for key, value in removed_state.items() if key != "_id"
    }
    assert [version.operation for version in history_of(c)] == ["baseline", "update", "delete"]


def test_a_document_that_is_new() -> None:
    """Its first save in the block is recorded, and nobody else's."""
    things()
    d = CompatThing(name="N")
    with DocumentTrack(d, 7):
        d.age = 1
        d.save()
        d.age = 2
        d.save()
        CompatThing(name="other").save()
    first, second = History.objects.order_by("created_at")
    assert (first.action, first.path) == ("add", "")
    assert {item["key"]: item["value"] for item in first.data["items"] if item["value"]} == {
        "nm": "N",
        "age": 1,
    }
    assert (second.action, second.path, second.identity) == ("change", "age", 7)
    assert list(load_history(d)) == [("change", ["age"], (1, 2))]
    assert revert(d).age == 1


def test_an_unsaved_document_has_no_history() -> None:
    d = CompatThing(name="N", age=3)
    assert list(load_history(d)) == []
    assert revert(d) is d
    assert (d.name, d.age) == ("N", 3)


def test_suppression_holds_in_a_block(mongodb: Database[Any]) -> None:
    a, *_others = things()
    with DocumentTrack(a), suppress_history("no"):
        a.update(name="x")
    assert rows(mongodb) == []


@pytest.mark.parametrize("signal", [signals.pre_save, signals.post_save], ids=["pre_save", "post_save"])
def test_connecting_makes_the_class_known(signal: Any) -> None:
    """Its history can be read before anything was saved; the class can be connected by either signal."""
    signal.connect(track_changes, sender=CompatNumber)
    try:
        d = CompatNumber(code=1, name="x").save()
        assert [version.operation for version in d.history] == ["baseline"]
        with configured():  # settings are read anew
            assert len(d.history) == 1
    finally:
        signal.disconnect(track_changes, sender=CompatNumber)


def test_connecting_without_a_sender(mongodb: Database[Any]) -> None:
    signals.post_save.connect(track_changes)
    try:
        for code in (1, 2, 3):
            CompatNumber(code=code).save()
        assert runtime.current().environment.registry.require(CompatNumber).only_in_scopes
    finally:
        signals.post_save.disconnect(track_changes)
    assert rows(mongodb) == []


def test_a_tracked_class_stays_tracked(mongodb: Database[Any]) -> None:
    """Everything is recorded; `History.objects` shows the blocks; who made the rest is left as it is."""
    track(CompatThing)
    a, b, _c = things()
    with changeset(user="request", reason="why"):
        with DocumentTrack(a, "anna"):
            a.name = "in"
            a.save()
            b.name = "beside"
            b.save()
        a.name = "out"
        a.save()
    assert len(rows(mongodb)) == 6
    assert [(row.document_id, row.identity) for row in History.objects] == [(a.id, "anna")]
    assert [str(version.user) for version in a.history[1:]] == ["anna", "request"]
    assert [str(version.user) for version in b.history[1:]] == ["request"]
    assert a.history[1].changeset == a.history[2].changeset
    assert a.history[1].reason == "why"
    assert [data for _action, _path, data in load_history(a)] == [("in", "out"), ("A", "in")]
    assert revert(a).name == "A"


def test_track_takes_a_class_out_of_blocks_only(mongodb: Database[Any]) -> None:
    a, *_others = things()
    with DocumentTrack(a):
        pass
    track(CompatThing)
    a.update(name="x")
    assert len(rows(mongodb)) == 1


def test_settings_that_are_read_anew_keep_it(mongodb: Database[Any]) -> None:
    a, *_others = things()
    with DocumentTrack(a), configured(SNAPSHOT_EVERY=5):
        a.update(name="x")
    a.update(name="y")
    assert len(rows(mongodb)) == 1


def test_a_subclass_with_rules_of_its_own(mongodb: Database[Any]) -> None:
    """A base in blocks only leaves a subclass that is tracked as it is, and the other way round."""
    base, sub = CompatBase(name="b").save(), CompatSub(name="s").save()
    with DocumentTrack(base):
        pass
    track(CompatSub)
    CompatBase.objects.update(name="x")
    assert [row["document_id"] for row in rows(mongodb)] == [sub.id]
    with DocumentTrack(base):
        CompatBase.objects.update(name="y")
    assert [row["document_id"] for row in rows(mongodb)[1:]] == [base.id, sub.id]
    assert [row.document_id for row in History.objects(document_type="compat_base")] == [base.id]


def test_reverts_of_ours_are_recorded(mongodb: Database[Any]) -> None:
    """To ask for a revert is to ask for its version."""
    a, *_others = things()
    with DocumentTrack(a):
        a.name = "x"
        a.save()
    made = history_of(a).revert()
    assert made is not None
    assert [row["operation"] for row in rows(mongodb)] == ["update", "update"]
    assert CompatThing.objects.get(id=a.id).name == "A"
    assert History.objects.count() == 1


def test_what_went_on_between_blocks_shows_as_external() -> None:
    """One derived version for each time between, and each recorded one with its whole state."""
    documents = things()
    for name in ("1", "2", "3"):
        for d in documents:
            d.reload()
            with DocumentTrack(d):
                d.name = name
                d.save()
        CompatThing.objects.update(inc__age=1)
        CompatThing.objects.update(inc__age=1)
    a = documents[0]
    operations = [str(version.operation) for version in a.history]
    assert operations == ["baseline", *["update", "external"] * 3]
    assert [version["age"] for version in a.history] == [0, 0, 2, 2, 4, 4, 6]
    assert revert(a).age == 0


def test_what_cannot_be_tracked() -> None:
    with pytest.raises(TypeError, match="expected a MongoEngine document"):
        DocumentTrack(object())
    with pytest.raises(TypeError, match="expected a MongoEngine document"):
        DocumentTrack(CompatPart())
    with pytest.raises(TypeError, match="expected a user"):
        DocumentTrack(CompatThing(), identity=object())


@pytest.mark.django_db
def test_users_of_django_are_identities() -> None:
    user = get_user_model().objects.create_user("anna")
    a, b, c = things()
    for d, identity in ((a, user), (b, user.pk), (c, None)):
        with DocumentTrack(d, identity):
            d.name = "x"
            d.save()
    assert {row.document_id for row in History.objects(identity=user)} == {a.id, b.id}
    assert {row.document_id for row in History.objects(identity=user.pk)} == {a.id, b.id}
    assert History.objects(identity=None).get().document_id == c.id


# -- what theirs gets wrong --------------------------------------------------------------------------------------------

CASES: dict[str, Callable[[CompatThing, list[CompatCity]], None]] = {
    "a top-level field is added": lambda d, _: setattr(d, "secret", "x"),
    "a top-level field is removed": lambda d, _: setattr(d, "age", None),
    "a field with a name of its own": lambda d, _: setattr(d, "name", "other"),
    "a reference": lambda d, cities: setattr(d, "city", cities[1]),
    "a reference is removed": lambda d, _: setattr(d, "city", None),
    "a list of references": lambda d, cities: d.cities.append(cities[2]),
    "a dict value": lambda d, _: d.notes.update(inner={"x": 1, "y": [1, 2]}),
    "a dict key that looks like a number": lambda d, _: d.notes.update({"0": "a", "²": "b"}),
    "a dict key with a dot in a list": lambda d, _: d.notes.update(list=[{"k": {"z": 1}}]),
    "three list items are removed": lambda d, _: setattr(d, "tags", d.tags[:1]),
    "items in the middle are removed": lambda d, _: setattr(d, "tags", [d.tags[0], d.tags[3]]),
    "a list that is emptied": lambda d, _: setattr(d, "tags", []),
    "bytes": lambda d, _: setattr(d, "raw", b"\x00\xff"),
    "an embedded document": lambda d, cities: setattr(
        d, "part", CompatPart(label="new", notes={"a": {"b": 1}}, city=cities[0])
    ),
    "a reference in an embedded document": lambda d, cities: setattr(d.parts[0], "city", cities[2]),
    "embedded documents are removed": lambda d, _: d.parts.pop(0) and None,
    "a large number that differs by one": lambda d, _: setattr(d, "notes", {"big": 2**53 + 1}),
}


def everything() -> tuple[list[CompatThing], list[CompatCity]]:
    cities = [CompatCity(name=name).save() for name in "XYZ"]
    documents = [
        CompatThing(
            name=name,
            age=30,
            tags=["a", "b", "c", "d"] if name != "N" else [],
            notes={"big": 2**53, "inner": {"x": 0}},
            parts=[CompatPart(label="p", notes={"q": 1}), CompatPart(label="r", city=cities[1])],
            city=cities[0],
            cities=cities[:2],
            anything=1,
        ).save()
        for name in ("A", "N", "C")
    ]
    return documents, cities


@pytest.mark.parametrize("is_tracked", [False, True], ids=["in blocks", "tracked"])
@pytest.mark.parametrize("case", CASES)
def test_what_theirs_gets_wrong(case: str, *, is_tracked: bool) -> None:
    """After a revert and a save the database holds what it held, and nothing of the two documents beside it changed."""
    if is_tracked:
        track(CompatThing)
    documents, cities = everything()
    before = [raw(d) for d in documents]
    for d in (documents[0], documents[2]):
        with DocumentTrack(d):
            CASES[case](d, cities)
            d.save()
    assert raw(documents[0]) != before[0]
    loaded = CompatThing.objects.get(id=documents[0].id)
    after = raw(loaded)
    undone = dictdiffer.revert(list(load_history(loaded)), dict(after))
    assert undone == before[0]
    assert revert(loaded) is loaded
    assert raw(loaded) == after
    loaded.save()
    assert raw(loaded) == before[0]
    assert raw(documents[1]) == before[1]
    assert raw(documents[2]) != before[2]
    loaded.city.name, [city.name for city in loaded.cities]  # followed on access, as after any load
    assert loaded.parts[1].city == cities[1]


def test_a_change_of_type_alone() -> None:
    documents = [CompatThing(anything=value).save() for value in (1, 1.5, "x")]
    d = documents[0]
    with DocumentTrack(d):
        d.update(anything=True)
    d.reload()
    revert(d).save()
    assert type(raw(d)["anything"]) is int


def test_lists_of_a_reverted_document_belong_to_it() -> None:
    """What is appended to them afterwards is saved."""
    documents, _cities = everything()
    d = documents[0]
    with DocumentTrack(d):
        d.tags, d.notes, d.parts = ["z"], {}, []
        d.save()
    revert(d).save()
    d.tags.append("e")
    d.notes["inner"]["x"] = 5
    d.parts[0].label = "changed"
    d.save()
    stored = raw(d)
    assert stored["tags"] == ["a", "b", "c", "d", "e"]
    assert stored["notes"]["inner"] == {"x": 5}
    assert stored["parts"][0]["lb"] == "changed"


def test_ties() -> None:
    """Versions of one millisecond are taken back in the right order."""
    documents = things()
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    runtime.current().environment.now = lambda: at
    for name in "12345":
        for d in documents:
            with DocumentTrack(d):
                d.name = name
                d.save()
    a = documents[0]
    assert {row.created_at for row in History.objects} == {at.astimezone().replace(tzinfo=None)}
    assert [row.data["new"] for row in History.objects(document_id=a.id)] == list("12345")
    assert [row.data["new"] for row in History.objects(document_id=a.id).order_by("-created_at")] == list(
        "54321"
    )
    assert dictdiffer.revert(load_history(a), a.to_mongo().to_dict())["nm"] == "A"
    assert revert(a).name == "A"


@pytest.mark.parametrize(
    ("document_class", "codes"),
    [
        (CompatText, ["a", "b", "5f5f5f5f5f5f5f5f5f5f5f5f"]),
        (CompatNumber, [1, 2, 2**40]),
        (CompatUuid, [uuid.uuid4(), uuid.uuid4(), uuid.uuid4()]),
    ],
    ids=["text", "number", "uuid"],
)
def test_keys_of_any_type(document_class: Any, codes: list[Any]) -> None:
    documents = [document_class(code=code, name="old").save() for code in codes]
    for d in documents:
        loaded = document_class.objects.get(code=d.code)
        with DocumentTrack(loaded):
            loaded.name = "new"
            loaded.save()
    for d in documents:
        row = History.objects.get(document_id=d.code, document_type=d._get_collection_name())
        assert (row.document_id, row.data) == (d.code, {"old": "old", "new": "new"})
        assert History.objects(document_id=d.code).count() == 1
        assert revert(document_class.objects.get(code=d.code)).name == "old"


def test_keys_that_are_made_or_refer() -> None:
    """A number from a sequence is made by the save and not by the block; a reference may be a key."""
    counted = [CompatCounted(name=name) for name in "abc"]
    for d in counted:
        with DocumentTrack(d):
            CompatCity(name="elsewhere").save()
            d.save()
            d.name += "!"
            d.save()
    assert [d.number for d in counted] == [1, 2, 3]
    assert [row.action for row in History.objects(document_id=2)] == ["add", "change"]
    cities = [CompatCity(name=name).save() for name in "xyz"]
    for city in cities:
        d = CompatOfCity(city=city, name="old").save()
        for _round in range(2):
            with DocumentTrack(d):
                d.name += "!"
                d.save()
            d = CompatOfCity.objects.get(city=city)
    assert History.objects(document_id=cities[1].id, document_type="compat_of_city").count() == 2
    assert [data for _action, _path, data in load_history(CompatOfCity.objects.get(city=cities[1]))] == [
        ("old!", "old!!"),
        ("old", "old!"),
    ]
    assert revert(CompatOfCity.objects.get(city=cities[2])).name == "old"


def test_documents_in_another_place(mongodb: Database[Any], mongodb_uri: str) -> None:
    """A document that was switched to another collection or connection is recorded there, and found there."""
    a, b, c = things()
    with switch_collection(CompatThing, "compat_elsewhere"):
        d = CompatThing(id=a.id, name="there").save()
        with DocumentTrack(d):
            d.name = "there!"
            d.save()
    with DocumentTrack(b):
        b.switch_collection("compat_third")
        b.save(force_insert=True)
        b.name = "third"
        b.save()
    assert [row.data["new"] for row in History.objects(document_type="compat_elsewhere")] == ["there!"]
    assert History.objects(document_type="compat_third", document_id=b.id, action="change").count() == 1
    assert History.objects(document_type="compat_thing").count() == 0
    assert History.objects.count() == 3
    assert [data for action, _path, data in load_history(b) if action == "change"] == [("B", "third")]
    assert list(load_history(a)) == []

    other = f"{mongodb.name}_other"
    mongoengine.connect(
        other, alias="compat_other", host=mongodb_uri, uuidRepresentation="standard", tz_aware=True
    )
    try:
        c.switch_db("compat_other")
        c.save(force_insert=True)
        with DocumentTrack(c, "anna"):
            c.name = "far"
            c.save()
        assert History.objects(identity="anna").count() == 0
        assert History.objects.using("compat_other").get(identity="anna").data == {"old": "C", "new": "far"}
        assert revert(c).name == "C"
    finally:
        mongodb.client.drop_database(other)
        mongoengine.disconnect("compat_other")


def test_one_save_is_one_version(mongodb: Database[Any]) -> None:
    """Theirs writes a row for each entry of the patch, one after another."""
    documents = [CompatThing(notes={"list": [{"n": n} for n in range(200)]}).save() for _ in range(3)]
    d = documents[0]
    with DocumentTrack(d):
        d.notes["list"].insert(0, {"n": -1})
        d.save()
    assert len(rows(mongodb)) == 1
    before = raw(documents[1])["notes"]
    revert(d).save()
    assert raw(d)["notes"] == before


def test_two_saves_in_one_block() -> None:
    """Each row goes on where the one before it ended."""
    documents = things()
    with DocumentTrack(documents[0]):
        for name in "12":
            documents[0].name = name
            documents[0].save()
    assert [row.data for row in History.objects] == [{"old": "A", "new": "1"}, {"old": "1", "new": "2"}]


def test_a_revert_of_a_stale_instance() -> None:
    """What the database holds counts, not what an old copy in memory believes that it holds."""
    documents = things()
    stale = CompatThing.objects.get(id=documents[0].id)
    with DocumentTrack(documents[0]):
        documents[0].name = "x"
        documents[0].save()
    revert(stale).save()
    assert raw(stale)["nm"] == "A"


def test_a_revert_of_a_deleted_document() -> None:
    """The save makes it anew, whole; at a moment when it was gone there is no state."""
    documents, _cities = everything()
    d, before = documents[0], raw(documents[0])
    with DocumentTrack(d):
        d.name = "x"
        d.save()
        then = moment()
        d.delete()
    with pytest.raises(DocumentDeletedError):
        revert(d, since=moment())
    assert revert(d, since=then).name == "x"
    revert(d).save()
    assert raw(d) == before
    assert CompatThing.objects.count() == 3


def test_hidden_and_untracked_fields_stay(mongodb: Database[Any]) -> None:
    """Their values are nowhere, so a revert leaves them as they are, inside of embedded documents too."""
    track(CompatThing, hidden=["secret", "parts.notes"], untracked=["age"])
    documents, _cities = everything()
    d = documents[0]
    with DocumentTrack(d):
        d.name, d.secret, d.age = "x", "s3cret", 31
        d.save()
    revert(d)
    assert (d.name, d.secret, d.age, d.parts[0].notes) == ("A", "s3cret", 31, {"q": 1})
    d.save()
    assert raw(d)["parts"][0]["notes"] == {"q": 1}
    assert "s3cret" not in str(rows(mongodb)) + str(shown(History.objects)) + str(list(load_history(d)))
    with DocumentTrack(d):
        d.parts[0].label = "changed"
        d.parts[0].notes = {"q": 2}
        d.save()
    with pytest.raises(ConflictError, match="cannot be put back"):
        revert(d)


def test_dynamic_documents() -> None:
    documents = [CompatLoose(name="n", kept=[1, 2], gone={"a": 1}).save() for _ in range(3)]
    d = documents[0]
    before = raw(d)
    with DocumentTrack(d):
        d.kept = [3]
        d.added = "x"
        del d.gone
        d.save()
    loaded = CompatLoose.objects.get(id=d.id)
    revert(loaded).save()
    assert raw(loaded) == before


def test_random_histories() -> None:
    """Wherever it is reverted to, by patches or by a save, the document is what it was."""
    chance = random.Random(7)
    documents, cities = everything()
    names = [case for case in CASES if "embedded" not in case and "items" not in case]
    then: list[tuple[datetime.datetime, list[dict[str, Any]]]] = [(moment(), [raw(d) for d in documents])]
    for _round in range(12):
        d = chance.choice(documents)
        with DocumentTrack(d):
            CASES[chance.choice(names)](d, cities)
            d.save()
        then.append((moment(), [raw(one) for one in documents]))
    for since, states in then:
        for d, state in zip(documents, states, strict=True):
            fresh = CompatThing.objects.get(id=d.id)
            assert dictdiffer.revert(load_history(fresh, since), raw(fresh)) == state
            before = raw(fresh)
            revert(fresh, since).save()
            assert raw(fresh) == state
            CompatThing._get_collection().replace_one({"_id": d.id}, before)


# -- History.objects -----------------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> list[CompatThing]:
    """Three documents, four changes: of A name and age, of B tags, of C the name."""
    a, b, c = documents = things()
    with DocumentTrack(a, "anna"):
        a.name = "AA"
        a.save()
        a.age = 40
        a.save()
    moment()
    with DocumentTrack(b, "bert"):
        b.tags = ["x", "y"]
        b.save()
    with DocumentTrack(c):
        c.name = "CC"
        c.save()
    return documents


def test_rows(log: list[CompatThing]) -> None:
    row = History.objects.first()
    assert row is not None
    assert (row.document_id, row.document_type, row.identity) == (log[0].id, "compat_thing", "anna")
    assert (row.action, row.path, row.data) == ("change", "nm", {"old": "A", "new": "AA"})
    assert row.version == log[0].history[1]
    assert History.objects(id=row.id).get() == row
    assert {row} == {History.objects.first()}
    assert list(row) == [row]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, [0, 1, 2, 3]),
        ({"action": "change"}, [0, 1, 3]),
        ({"action__ne": "change"}, [2]),
        ({"path": "tags"}, [2]),
        ({"path__in": ["age", "tags"]}, [1, 2]),
        ({"path__nin": ["age", "tags"]}, [0, 3]),
        ({"path__startswith": "n"}, [0, 3]),
        ({"path__iexact": "NM"}, [0, 3]),
        ({"path__icontains": "G"}, [1, 2]),
        ({"path__endswith": "e"}, [1]),
        ({"path__regex": "^a.e$"}, [1]),
        ({"path__not__startswith": "n"}, [1, 2]),
        ({"identity": "anna"}, [0, 1]),
        ({"identity__in": ["anna", "bert"]}, [0, 1, 2]),
        ({"identity": None}, [3]),
        ({"identity__exists": False}, [3]),
        ({"document_type": "compat_thing", "action": "add"}, [2]),
        ({"document_type": "elsewhere"}, []),
        ({"data__new": "CC"}, [3]),
        ({"data__new__gt": 5}, [1]),
        ({"data__items__key": 1}, [2]),
        ({"data__items__1__value": "y"}, [2]),
        ({"data__old__exists": True}, [0, 1, 3]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("log")
def test_filters(given: dict[str, Any], wanted: list[int]) -> None:
    """As MongoEngine would find them."""
    every = list(History.objects)
    assert [every.index(row) for row in History.objects(**given)] == wanted
    assert [every.index(row) for row in History.objects.filter(**given)] == wanted
    assert [every.index(row) for row in History.objects(Q(**given))] == wanted
    assert History.objects(**given).count() == len(wanted)


def test_combined_filters(log: list[CompatThing]) -> None:
    a, b, c = log
    assert History.objects(document_id=a.id, path="age").count() == 1
    assert History.objects(document_id=a.id)(path="age").count() == 1
    assert History.objects(document_id=str(a.id)).count() == 2
    assert History.objects(document_id=a).count() == 2
    assert History.objects(document_id=a.id).filter(document_id=b.id).count() == 0
    assert History.objects(document_id__in=[b.id, c.id]).count() == 2
    assert History.objects(Q(document_id=b.id) | Q(path="age") & Q(identity="anna")).count() == 2
    assert History.objects(document_id="no key of this class").count() == 0
    first = History.objects.first()
    assert first is not None
    assert History.objects(created_at=first.created_at).count() == 1
    assert History.objects(created_at__gt=first.created_at).count() == 3
    assert History.objects(created_at__gte=first.at).count() == 4
    assert History.objects(created_at__lte=first.created_at).count() == 1
    assert History.objects(created_at__lt=first.created_at).count() == 0


@pytest.mark.usefixtures("log")
def test_order_and_slices() -> None:
    every = list(History.objects)
    assert [row.path for row in History.objects.order_by("path", "-created_at")] == [
        "age",
        "nm",
        "nm",
        "tags",
    ]
    assert list(History.objects.order_by("path", "-created_at"))[1:3] == [every[3], every[0]]
    assert list(History.objects.order_by("-created_at")) == every[::-1]
    assert History.objects.order_by("-created_at").first() == every[3]
    assert History.objects[1] == every[1]
    assert History.objects[-1] == every[-1]
    assert list(History.objects[1:3]) == every[1:3]
    assert list(History.objects[1:][1:]) == every[2:]
    assert list(History.objects[:3][1:9]) == every[1:3]
    assert list(History.objects[:2][5:]) == []
    assert History.objects[::2] == every[::2]
    assert list(History.objects.skip(1).limit(2)) == every[1:3]
    assert list(History.objects.limit(2).skip(1)) == every[1:3]
    assert (len(History.objects[1:3]), History.objects[1:3].count()) == (2, 4)
    assert History.objects[1:3].count(with_limit_and_skip=True) == 2
    assert History.objects.scalar("action", "path")[1] == ("change", "age")
    assert History.objects.distinct("path") == ["nm", "age", "tags"]
    with pytest.raises(IndexError):
        History.objects[4]


@pytest.mark.usefixtures("log")
def test_get() -> None:
    """One row is that row, several can be looped over, none is an error; as MongoEngine's where it can be."""
    assert History.objects.get(path="age").data["new"] == 40
    several = History.objects.get(path="nm")
    assert [row.data["new"] for row in several] == ["AA", "CC"]
    with pytest.raises(History.MultipleObjectsReturned, match="2 changes"):
        several.action  # noqa: B018
    with pytest.raises(mongoengine.MultipleObjectsReturned):
        several.data  # noqa: B018
    with pytest.raises(mongoengine.DoesNotExist):
        History.objects.get(path="x")


@pytest.mark.usefixtures("log")
def test_kept_rows() -> None:
    """A view reads once, as a queryset does; `all()` reads anew."""
    view = History.objects(action="change")
    assert len(view) == 3
    d = CompatThing.objects.get(name="CC")
    with DocumentTrack(d):
        d.name = "CCC"
        d.save()
    assert len(view) == 3
    assert len(view.all()) == 4
    assert view.count() == 4
    assert bool(History.objects(path="nothing")) is False
    assert repr(History.objects(path="nothing")) == "[]"


def test_mistakes() -> None:
    with pytest.raises(InvalidQueryError, match="no field 'user'"):
        History.objects(user=1)
    with pytest.raises(InvalidQueryError, match="no operator 'near'"):
        History.objects(path__near=1)
    with pytest.raises(InvalidQueryError, match="no field 'when'"):
        History.objects.order_by("-when")
    with pytest.raises(ValueError, match="expected a datetime"):
        History.objects(created_at__gt="yesterday")
    with pytest.raises(OperationError, match="never changed or deleted"):
        History.objects.delete()
    with pytest.raises(AttributeError):
        History.objects.nothing  # noqa: B018


def test_a_class_that_this_process_has_not_named_yet(log: list[CompatThing]) -> None:
    """Another process recorded; this one reads."""
    untrack(CompatThing)
    assert History.objects(document_type="compat_thing").count() == 4
    untrack(CompatThing)
    assert len(list(load_history(log[0]))) == 2
    untrack(CompatThing)
    assert revert(log[0]).name == "A"


def test_connecting_while_documents_are_imported(mongodb_uri: str, tmp_path: Any) -> None:
    """The module of the documents connects; the settings name one of its classes; Django starts as always."""
    (tmp_path / "early_documents.py").write_text(
        textwrap.dedent(
            """
            from mongoengine import Document, StringField, signals
            from django_mongo_history.compat.mongoengine_history import track_changes

            class Early(Document):
                name = StringField()

            signals.post_save.connect(track_changes, sender=Early)

            class Named(Document):
                name = StringField()

            signals.post_save.connect(track_changes, sender=Named)
            """
        )
    )
    script = textwrap.dedent(
        """
        import early_documents
        import django
        from django.conf import settings
        settings.configure(INSTALLED_APPS=["django_mongo_history"], TRACKED_DOCUMENTS=["early_documents.Named"])
        django.setup()
        from django_mongo_history import runtime
        for tracked in runtime.current().environment.registry:
            print(tracked.document_class.__name__, tracked.only_in_scopes)
        """
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"},
    )
    assert sorted(found.stdout.split("\n")) == ["", "Early True", "Named False"], found.stderr
    assert found.stderr == ""


def test_drops(mongodb: Database[Any]) -> None:
    """A drop is recorded in a block of a document that goes with it, and in no other."""
    a, *_others = things()
    text = CompatText(code="t").save()
    with DocumentTrack(text):
        CompatThing.drop_collection()
    assert mongodb[HISTORY].count_documents({}) == 0
    a = CompatThing(name="again").save()
    with DocumentTrack(a, "anna"):
        a.name = "x"
        a.save()
        CompatThing.drop_collection()
    assert [str(version.operation) for version in history_of(a)] == ["baseline", "update", "delete"]
    assert CompatText.objects.count() == 1


def test_files(mongodb: Database[Any]) -> None:
    """A revert leads back to the file that the document had."""
    documents = [CompatFile(name=name) for name in "abc"]
    for d in documents:
        d.content.put(d.name.encode())
        d.save()
    d = CompatFile.objects.get(name="b")
    old = d.content.grid_id
    with DocumentTrack(d):
        d.content = None
        d.content.new_file()
        d.content.write(b"new")
        d.content.close()
        d.save()
    assert raw(d)["content"] != old
    revert(d).save()
    assert raw(d)["content"] == old
    assert CompatFile.objects.get(name="b").content.read() == b"b"


# -- elsewhere -----------------------------------------------------------------------------------------------------------


def test_on_a_standalone_server(standalone_mongodb: Database[Any]) -> None:
    documents = things()
    for d in documents:
        with DocumentTrack(d, "anna"):
            d.name = d.name.lower()
            d.save()
        d.update(age=99)
    a = documents[0]
    assert History.objects(identity="anna").count() == 3
    assert list(load_history(a)) == [("change", ["nm"], ("A", "a"))]
    assert (revert(a).name, a.age) == ("A", 0)
    assert len(rows(standalone_mongodb)) == 3


def test_on_mongomock() -> None:
    """Users' own tests on mongomock keep working."""
    mongoengine.disconnect()
    mongoengine.connect("mocked", mongo_client_class=mongomock.MongoClient, uuidRepresentation="standard")
    a, b, _c = documents = things()
    for d in documents:
        with DocumentTrack(d, "anna"):
            d.name = d.name.lower()
            d.save()
        d.age = 99
        d.save()
    assert History.objects(identity="anna").count() == 3
    assert list(load_history(b)) == [("change", ["nm"], ("B", "b"))]
    revert(a).save()
    assert [(d.name, d.age) for d in CompatThing.objects] == [("A", 0), ("b", 99), ("c", 99)]


# -- beside the rest of the package -----------------------------------------------------------------------------------


def test_what_is_pending_is_what_a_scope_would_record() -> None:
    """Outside of its block nothing of a document is recorded, so nothing is pending."""
    a, b, c = things()
    with DocumentTrack(a):
        for one in (a, b, c):
            one.age = 50
        assert [bool(one.history.pending()) for one in (a, b, c)] == [True, False, False]
        assert bool(CompatThing(name="new").history.pending()) is False
    assert not a.history.pending()


def test_what_is_not_recorded_needs_no_reason() -> None:
    """Of three documents only the one in the block does."""
    with configured(REQUIRE_REASON=True):
        a, b, c = things()
        with DocumentTrack(a):
            for one in (b, c):
                one.age = 50
                one.save()
            a.age = 50
            with pytest.raises(ReasonRequiredError):
                a.save()
            with rationale("asked for"):
                a.save()
        assert [(v.operation, v.reason) for v in a.history][1:] == [("update", "asked for")]
        assert [raw(one)["age"] for one in (a, b, c)] == [50, 50, 50]
