"""
What a save would record now: exactly what the save then records, and without a trace of having been asked.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import mongoengine
import mongomock
import pytest
from bson import ObjectId
from bson.timestamp import Timestamp
from mongoengine import fields, signals
from pymongo import monitoring
from pymongo.database import Database

from django_mongo_history import (
    ABSENT,
    HIDDEN,
    Change,
    HistoryError,
    NotTrackedError,
    RecordChanges,
    history_of,
    is_modified,
    suppress_history,
)
from tests.commanding import now
from tests.judge import configured, tracking


class PendingOwner(mongoengine.Document):
    name = fields.StringField()
    meta = {"collection": "pending_owner"}


class PendingPart(mongoengine.EmbeddedDocument):
    length = fields.IntField(db_field="len")
    marks = fields.ListField(fields.StringField())
    extra = fields.DictField()


class PendingBox(mongoengine.Document):
    """With every kind of container, renamed fields, references, and paths that are hidden or untracked."""

    name = fields.StringField(db_field="nm")
    size = fields.IntField(default=3)
    tags = fields.ListField(fields.StringField())
    part = fields.EmbeddedDocumentField(PendingPart)
    parts = fields.EmbeddedDocumentListField(PendingPart, db_field="ps")
    notes = fields.DictField()
    when = fields.DateTimeField()
    owner = fields.ReferenceField(PendingOwner)
    owners = fields.ListField(fields.ReferenceField(PendingOwner))
    password = fields.StringField(db_field="pw")
    hits = fields.IntField()
    meta = {"collection": "pending_box", "allow_inheritance": True}


class PendingCrate(PendingBox):
    weight = fields.FloatField()


class PendingNumbered(mongoengine.Document):
    number = fields.SequenceField()
    name = fields.StringField()
    meta = {"collection": "pending_numbered"}


class PendingKeyed(mongoengine.Document):
    code = fields.StringField(primary_key=True)
    name = fields.StringField()
    kind = fields.StringField()
    meta = {"collection": "pending_keyed", "shard_key": ("kind",)}


class PendingStamped(RecordChanges, mongoengine.Document):
    """Says on itself who changed it last, which is no change."""

    name = fields.StringField()
    meta = {"collection": "pending_stamped"}


class PendingLoose(mongoengine.DynamicDocument):
    meta = {"collection": "pending_loose"}


CLASSES = (PendingOwner, PendingNumbered, PendingKeyed, PendingStamped, PendingLoose)


class Commands(monitoring.CommandListener):
    """The commands that are sent while it listens."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture
def tracked(mongodb: Database) -> Iterator[None]:
    with (
        configured(),
        tracking(PendingBox, hidden=["password", "notes.secret"], untracked=["hits"]),
        tracking(*CLASSES),
    ):
        yield


@pytest.fixture
def boxes(tracked: None) -> list[PendingBox]:
    """Three documents, loaded as an application loads them."""
    owners = [PendingOwner(name=f"owner {n}").save() for n in range(3)]
    for n, owner in enumerate(owners):
        PendingBox(
            name=f"box {n}",
            tags=["a", "b", "a"],
            part=PendingPart(length=n, marks=["x"]),
            parts=[
                PendingPart(length=1, marks=["x", "y"]),
                PendingPart(length=2, extra={"k": [1, {"z": 1}]}),
            ],
            notes={"open": 1, "secret": "s"},
            owner=owner,
            owners=owners,
            password="first",
            hits=1,
        ).save()
    return list(PendingBox.objects.order_by("name"))


def inside(document: Any) -> Any:
    """All that an instance consists of, as plain values."""
    if isinstance(document, mongoengine.Document | mongoengine.EmbeddedDocument):
        return {
            "data": {name: inside(value) for name, value in document._data.items()},
            "changed": list(getattr(document, "_changed_fields", [])),
            "created": getattr(document, "_created", None),
            "initialised": document._initialised,
            "names": sorted(name for name in vars(document) if not name.startswith("get_")),
        }
    if isinstance(document, dict):
        return type(document), {name: inside(value) for name, value in dict.items(document)}
    if isinstance(document, list):
        return type(document), [inside(value) for value in list.__iter__(document)]
    return deepcopy(document)


def promised(document: Any) -> tuple[Any, ...]:
    """What is pending, held to what the save then records."""
    before = inside(document)
    pending = document.history.pending()
    assert inside(document) == before, "asking changed the instance"
    count = 0 if document.pk is None else len(document.history)
    told = (pending.operation, pending.changes, pending.patch, pending.state)
    document.save()
    if not pending:
        assert told == (None, [], [], pending.state)
        assert len(document.history) == count
        return told
    made = document.history[-1]
    assert len(document.history) == count + 1
    if pending.document_id is None:
        # The key is not known before the save: nothing else may differ.
        key = Change(("_id",), ABSENT, document.pk, "add")
        assert made.state == {"_id": document.pk, **pending.state}
        assert [change for change in made.changes if change != key] == pending.changes
    else:
        assert (made.operation, made.changes, made.patch, made.state) == told
    return told


def test_nothing_is_pending_of_what_was_loaded(boxes: list[PendingBox]) -> None:
    """False, without an operation and without changes."""
    for box in boxes:
        pending = box.history.pending()
        assert not pending
        assert not is_modified(box)
        assert (pending.operation, pending.changes, pending.patch) == (None, [], [])


def test_the_save_records_exactly_what_was_pending(boxes: list[PendingBox]) -> None:
    """Of three documents that are changed at once, each has its own."""
    boxes[0].name = "other"
    boxes[0].tags.append("c")
    boxes[1].parts[1].extra["k"][1]["z"] = 2
    boxes[1].part.length = None
    boxes[2].notes = {}
    boxes[2].owner = None
    boxes[2].owners.pop()
    boxes[2].when = datetime.datetime(2024, 1, 1, 12, 0, 0, 123456, tzinfo=datetime.UTC)
    assert [is_modified(box) for box in boxes] == [True] * 3
    found = [promised(box) for box in boxes]
    assert found[0][1] == [
        Change(("nm",), "box 0", "other", "change"),
        Change(("tags", 3), ABSENT, "c", "add"),
    ]
    assert {change.path for change in found[1][1]} == {("part", "len"), ("ps", 1, "extra", "k", 1, "z")}
    assert not any(is_modified(box) for box in boxes)


def test_a_new_instance_is_a_create(boxes: list[PendingBox]) -> None:
    """Without a key of its own as long as the save has not given one; an untouched subclass too."""
    for made in (
        PendingBox(name="new", password="x", hits=2),
        PendingCrate(name="crate", weight=1.0),
        PendingKeyed(code="k", kind="a"),
    ):
        pending = made.history.pending()
        assert pending.operation == "create"
        assert pending.document_id == made.pk
        promised(made)


def test_hidden_values_are_nowhere_and_untracked_paths_absent(boxes: list[PendingBox]) -> None:
    """The fact that a hidden path would change, and no more."""
    one, two, three = boxes
    one.password = "do not tell"
    two.hits = 777_888_777
    three.hits, three.notes["secret"] = 777_888_777, "do not tell"
    assert one.history.pending().changes == [Change(("pw",), HIDDEN, HIDDEN, "change")]
    assert not is_modified(two)
    assert three.history.pending().changes == [Change(("notes", "secret"), HIDDEN, HIDDEN, "change")]
    for box in boxes:
        pending = box.history.pending()
        text = repr((pending, pending.changes, pending.patch, pending.state))
        assert "do not tell" not in text
        assert "777888777" not in text
        promised(box)


def test_what_is_set_to_the_same_is_not_pending(boxes: list[PendingBox]) -> None:
    """There and back again sends an update, and records nothing."""
    for box in boxes:
        name, box.name = box.name, "other"
        box.name = name
        assert "nm" in box._get_changed_fields()
        assert not is_modified(box)
        promised(box)


def test_what_somebody_else_wrote_meanwhile_counts(boxes: list[PendingBox]) -> None:
    """The old side is what lies in the database, not what was loaded."""
    for n, box in enumerate(boxes):
        PendingBox.objects(id=box.id).update(name=f"meanwhile {n}", push__tags="z")
        box.name = "mine"
        found = promised(box)
        assert found[1] == [Change(("nm",), f"meanwhile {n}", "mine", "change")]


def test_a_document_that_is_gone_comes_back_in_part(boxes: list[PendingBox]) -> None:
    """MongoEngine's save upserts what changed and nothing else: so it is shown, before it happens."""
    for box in boxes:
        PendingBox.objects(id=box.id).delete()
        box.name = "back"
        pending = box.history.pending()
        assert pending.operation == "create"
        assert pending.state == {"_id": box.id, "nm": "back"}
    # Two in one collection: the third is not asked for before the others are saved.
    for box in boxes:
        box.save()
        assert box.history[-1].state == {"_id": box.id, "nm": "back"}
    keyed = [PendingKeyed(code=f"k{n}", kind="a", name="n").save() for n in range(3)]
    for one in keyed:
        PendingKeyed.objects(code=one.code).delete()
        one.name = "m"
        promised(one)


def test_an_instance_with_a_key_that_is_taken_replaces(tracked: None) -> None:
    """As its save does: an update from the whole old document to the whole new one."""
    for n in range(3):
        PendingKeyed(code=f"k{n}", kind="a", name="old").save()
    for n in range(3):
        again = PendingKeyed(code=f"k{n}", kind="a")
        found = promised(again)
        assert found[0] == "update"
        assert found[1] == [Change(("name",), "old", ABSENT, "remove")]


def test_dynamic_fields_come_and_go(tracked: None) -> None:
    """A dynamic document's fields are known to the instance alone."""
    loose = [PendingLoose(a=1, b={"c": [1]}, d=n).save() for n in range(3)]
    for one in loose:
        one.e = "new"
        one.b = {"c": [1, 2]}
        del one.a
        found = promised(one)
        assert {change.path for change in found[1]} == {("e",), ("b", "c", 1), ("a",)}


def test_a_sequence_is_not_counted_on(tracked: None, mongodb: Database) -> None:
    """Asking takes no number, and sets none on the instance."""
    made = [PendingNumbered(name=str(n)) for n in range(3)]
    for one in made:
        one._data["number"] = None  # not given yet, as of a document that was made past MongoEngine
    for one in made:
        pending = one.history.pending()
        assert pending.state == {"name": one.name}
    taken = {row["_id"]: row["next"] for row in mongodb["mongoengine.counters"].find()}
    for one in made:
        one.history.pending()
    assert taken == {row["_id"]: row["next"] for row in mongodb["mongoengine.counters"].find()}
    assert [one._data["number"] for one in made] == [None] * 3


def test_it_costs_one_look_and_sends_no_signal(tracked: None, mongodb_uri: str) -> None:
    """One `find` for what has a key and changes, nothing for the rest; no write; no signal; nothing loaded."""
    commands = Commands()
    mongoengine.disconnect()
    name = f"test_{ObjectId()}"
    mongoengine.connect(name, host=mongodb_uri, event_listeners=[commands], uuidRepresentation="standard")
    heard: list[Any] = []
    receive = lambda sender, **info: heard.append(info)  # noqa: E731
    sent = [signals.pre_save, signals.post_save, signals.pre_save_post_validation, signals.pre_init]
    try:
        owners = [PendingOwner(name=str(n)).save() for n in range(3)]
        for n in range(3):
            PendingBox(name=str(n), owner=owners[n], owners=owners).save()
        boxes = list(PendingBox.objects)
        for box in boxes:
            box.name, box.owners = "x", []
        untouched = list(PendingBox.objects)
        made = PendingBox(name="new", owners=owners)
        for signal in sent:
            signal.connect(receive)
        commands.names.clear()
        assert [is_modified(box) for box in (*boxes, *untouched, made)] == [True] * 3 + [False] * 3 + [True]
        assert commands.names == ["find"] * 3
        assert heard == []
    finally:
        for signal in sent:
            signal.disconnect(receive)
        mongoengine.get_db().client.drop_database(name)


def test_what_only_the_server_can_say_is_refused(tracked: None) -> None:
    """Server time in a document that is made new: an error that says to save, and no guess."""
    for _ in range(3):
        with pytest.raises(HistoryError, match="without saving it"):
            PendingLoose(stamp=Timestamp(0, 0)).history.pending()


def test_it_needs_an_instance_and_a_tracked_class(boxes: list[PendingBox]) -> None:
    """A class with a key has nothing to save; neither has an instance in a place that it is not saved to."""
    for box in boxes:
        for history in (
            history_of(PendingBox, box.pk),
            history_of(box, ObjectId()),
            history_of(box, collection="elsewhere"),
        ):
            with pytest.raises(ValueError, match="of no instance"):
                history.pending()

    class PendingStranger(mongoengine.Document):
        name = fields.StringField()

    with pytest.raises(NotTrackedError):
        is_modified(PendingStranger())


def test_a_suppressed_block_does_not_hide_it(boxes: list[PendingBox]) -> None:
    """It is about the instance, whatever the block around it will leave out."""
    for box in boxes:
        box.name = "x"
        with suppress_history("a test"):
            assert is_modified(box)


@pytest.mark.parametrize("seed", range(20))
def test_random_edits_are_promised_right(boxes: list[PendingBox], seed: int) -> None:
    """Three instances edited at random, again and again: each save records what was pending."""
    chance = random.Random(seed)
    edits = [
        lambda box: setattr(box, "name", chance.choice(["a", "", None, "é"])),
        lambda box: setattr(box, "size", chance.choice([3, 0, None, 7])),
        lambda box: box.tags.append(chance.choice("ab")),
        lambda box: box.tags.pop() if box.tags else None,
        lambda box: box.tags.reverse(),
        lambda box: setattr(box, "part", chance.choice([None, PendingPart(length=chance.randrange(3))])),
        lambda box: box.parts.append(PendingPart(marks=["m"])),
        lambda box: box.parts and setattr(box.parts[0], "length", chance.choice([None, 0, 5])),
        lambda box: box.parts and box.parts[-1].marks.append("n"),
        lambda box: box.parts and box.parts[-1].extra.update(k=[chance.randrange(3)]),
        lambda box: box.parts and box.parts.pop(0),
        lambda box: box.notes.update({chance.choice(["open", "secret", "more"]): {"deep": [1]}}),
        lambda box: box.notes.pop("open", None),
        lambda box: box.notes.clear(),
        lambda box: setattr(box, "owner", None),
        lambda box: setattr(box, "owners", []),
        lambda box: setattr(box, "password", chance.choice("pq")),
        lambda box: setattr(box, "hits", chance.randrange(3)),
    ]
    for _ in range(6):
        for box in boxes:
            for edit in chance.choices(edits, k=chance.randrange(4)):
                edit(box)
        for place, box in enumerate(boxes):
            try:
                promised(box)
            except IndexError:  # MongoEngine's own: it looks for an element that was changed and is gone
                with pytest.raises(IndexError):
                    box.save()
                boxes[place] = PendingBox.objects.get(id=box.id)
        if chance.random() < 0.3:
            boxes[:] = list(PendingBox.objects.order_by("id"))


def test_instances_of_a_moment_have_what_is_pending_too(boxes: list[PendingBox]) -> None:
    """A save of one writes it whole over the live document; asking loads none of what it refers to."""
    moment = now()
    for n, box in enumerate(boxes):
        box.update(set__name=f"later {n}", push__tags="z", unset__owner=1)
    then = {one.id: one for one in history_of(PendingBox).as_of(moment)}
    for box in boxes:
        one = then[box.id]
        found = promised(one)
        assert found[0] == "update"
        assert {change.path[0] for change in found[1]} >= {"nm", "tags"}
        one.parts[0].marks = []
        one.owners = []
        promised(one)


def test_it_works_on_mongomock_and_on_a_standalone_server(standalone_mongodb: Database) -> None:
    """Wherever documents are saved."""
    for options in ({}, {"mongo_client_class": mongomock.MongoClient}):
        if options:
            mongoengine.disconnect()
            mongoengine.connect("mocked", uuidRepresentation="standard", **options)
        with configured(), tracking(PendingKeyed):
            made = [PendingKeyed(code=f"k{n}", kind="a") for n in range(3)]
            assert [promised(one)[0] for one in made] == ["create"] * 3
            for n, one in enumerate(made):
                one.name = f"name {n}"
                assert promised(one)[1] == [Change(("name",), ABSENT, f"name {n}", "add")]
            assert not any(is_modified(one) for one in made)


def test_what_the_history_puts_on_documents_is_not_pending(tracked: None) -> None:
    """Who changed it last is written with the save, and counts neither before nor after it."""
    made = [PendingStamped(name=str(n)) for n in range(3)]
    assert [promised(one)[0] for one in made] == ["create"] * 3
    loaded = list(PendingStamped.objects)
    assert not any(is_modified(one) for one in (*made, *loaded))
    for one in loaded:
        one.name = f"new {one.name}"
        assert len(promised(one)[1]) == 1
