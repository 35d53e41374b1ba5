"""
What users read: one document, a deleted one, a class; stored versions and those that readers derive.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import (
    LiveDocument,
    changeset,
    history_of,
    rationale,
    runtime,
    suppress_history,
    track,
    untrack,
)
from django_mongo_history.core.model import ABSENT, HIDDEN, Change
from django_mongo_history.errors import (
    BrokenChainError,
    ConflictError,
    DocumentDeletedError,
    HiddenFieldError,
    NotTrackedError,
    UntrackedFieldError,
    VersionNotFoundError,
)
from tests.judge import configured

START = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


class Runway(mongoengine.EmbeddedDocument):
    length = fields.IntField(db_field="len")
    surface = fields.StringField()


class Pilot(mongoengine.Document):
    """Tracked, and referred to."""

    name = fields.StringField()
    meta = {"collection": "pilot"}


class Hangar(mongoengine.Document):
    """Never tracked."""

    name = fields.StringField()
    meta = {"collection": "hangar"}


class Field(mongoengine.Document):
    """An airfield whose fields shadow what a version is called by."""

    code = fields.StringField(primary_key=True)
    name = fields.StringField(db_field="nm")
    runways = fields.EmbeddedDocumentListField(Runway)
    notes = fields.DictField()
    state = fields.StringField()
    at = fields.StringField()
    user = fields.StringField()
    number = fields.IntField()
    password = fields.StringField(db_field="pw")
    hits = fields.IntField()
    pilot = fields.ReferenceField(Pilot)
    hangar = fields.ReferenceField(Hangar)
    meta = {"collection": "field"}


class Plane(mongoengine.Document):
    name = fields.StringField()
    meta = {"collection": "plane", "allow_inheritance": True}


class Jet(Plane):
    engines = fields.IntField()


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime.datetime:
        return self.now

    def tick(self, seconds: int = 1) -> datetime.datetime:
        self.now += seconds * SECOND
        return self.now


@pytest.fixture
def clock(mongodb: Database) -> Iterator[Clock]:
    """Tracked classes under a clock of their own."""
    with configured(SNAPSHOT_EVERY=10**9):
        found = Clock()
        runtime.current().environment.now = found
        track(Field, hidden=["password"], untracked=["hits"])
        track(Pilot)
        track(Plane)
        yield found
        for document_class in (Field, Pilot, Plane):
            untrack(document_class)


@pytest.fixture
def field(clock: Clock) -> Field:
    """Created at second 0, named `name N` at second N (1 to 4)."""
    made = Field(code="a", name="name 0", runways=[Runway(length=1), Runway(length=2)], notes={"k": [1]})
    made.save()
    for number in range(1, 5):
        clock.tick()
        with changeset(user=number, reason=f"reason {number}"):
            Field.objects(code="a").update(name=f"name {number}")
    clock.tick(10)
    return made


def at(second: float) -> datetime.datetime:
    return START + second * SECOND


def raw(document_class: type, key: Any) -> dict[str, Any] | None:
    """The document as the database holds it, past the tracker."""
    return document_class._get_collection()._plain().find_one({"_id": key})


def write_past(update: dict[str, Any], key: Any = "a") -> None:
    """A write that nobody records."""
    Field._get_collection()._plain().update_one({"_id": key}, update)


# -- a sequence -------------------------------------------------------------------------------------------------------


def test_a_history_is_a_sequence(field: Field) -> None:
    """Oldest first, lazily, with everything that lists know."""
    h = history_of(field)
    assert len(h) == 5
    assert [v.number for v in h] == [1, 2, 3, 4, 5]
    assert h[0]["name"] == "name 0"
    assert h[-1]["name"] == "name 4"
    assert [v["name"] for v in h[1:3]] == ["name 1", "name 2"]
    assert [v["name"] for v in h[::-2]] == ["name 4", "name 2", "name 0"]
    assert h[7:] == []
    assert h[-5] == h[0]
    assert h[2] in h
    assert [v.index for v in reversed(h)] == [4, 3, 2, 1, 0]
    for place in (5, -6):
        with pytest.raises(IndexError, match="5 versions"):
            h[place]


def test_every_door_leads_to_the_same_history(field: Field) -> None:
    """The function, the attribute, the class with a key, whatever form the key has."""
    wanted = [v.id for v in history_of(field)]
    assert [v.id for v in field.history] == wanted
    assert [v.id for v in history_of(Field, "a")] == wanted
    assert [v.id for v in history_of(Field, pk="a")] == wanted
    field.delete()
    assert [v.id for v in history_of(Field, "a")][:5] == wanted


def test_a_version_says_who_when_and_why(field: Field) -> None:
    """Facts are those of the write."""
    v = history_of(field)[2]
    assert isinstance(v.id, ObjectId)
    assert (v.number, v.at, v.operation) == (3, at(2), "update")
    assert (v.user.pk, v.reason, v.remote_addr, v.extra) == (2, "reason 2", None, {})
    assert [one.id for one in v.changeset.versions()] == [v.id]
    assert (v.previous.number, v.next.number, v.index) == (2, 4, 2)
    assert history_of(field)[0].previous is None
    assert history_of(field)[-1].next is None
    assert history_of(field)[0].operation == "create"


def test_states_and_documents(field: Field) -> None:
    """A state is the document after the version, with database names; a document is an unsaved instance of it."""
    v = history_of(field)[1]
    assert v.state == {**raw(Field, "a"), "nm": "name 1"}
    assert list(v.state) == list(raw(Field, "a"))
    document = v.document
    assert isinstance(document, Field)
    assert (document.name, document.runways[1].length, document.pk) == ("name 1", 2, "a")


def test_a_copy_is_private(field: Field) -> None:
    """Whatever is done to what was read, the version stays as it was."""
    h = history_of(field)
    v = h[1]
    v.state["nm"] = "spoilt"
    v.state["runways"].clear()
    v["notes"]["k"].append(2)
    v.changes.clear()
    v.patch.clear()
    v.extra["x"] = 1
    v.document.name = "spoilt"
    assert v["name"] == "name 1"
    assert v["notes"] == {"k": [1]}
    assert len(v.state["runways"]) == 2
    assert v.changes
    assert v.extra == {}
    assert [one["name"] for one in h] == [f"name {number}" for number in range(5)]


def test_a_version_never_changes(field: Field) -> None:
    """What is written later is not in a version that was read before."""
    v = history_of(field)[-1]
    before = v.state
    Field.objects(code="a").update(name="later")
    assert v.state == before
    assert v.next is None
    assert history_of(field)[-1]["name"] == "later"


# -- filters ----------------------------------------------------------------------------------------------------------


def test_filters(field: Field, clock: Clock) -> None:
    """Bounds are exclusive; conditions hold together."""
    Field.objects(code="a").update(set__runways__0__length=9)
    h = history_of(field)

    def numbers(**wanted: Any) -> list[int]:
        return [v.number for v in h.versions(**wanted)]

    assert numbers() == [1, 2, 3, 4, 5, 6]
    assert numbers(after=at(1)) == [3, 4, 5, 6]
    assert numbers(before=at(3)) == [1, 2, 3]
    assert numbers(after=at(1), before=at(3)) == [3]
    assert numbers(user=2) == [3]
    assert numbers(user=99) == []
    assert numbers(operation="create") == [1]
    assert numbers(touching="name") == [2, 3, 4, 5]
    assert numbers(touching="nm") == [2, 3, 4, 5]
    assert numbers(touching="runways.length") == [6]
    assert numbers(touching="runways") == [6]
    assert numbers(touching="runways.surface") == []
    assert numbers(touching="name", user=3, operation="update") == [4]
    assert [v.number for v in history_of(Field).versions(touching="runways.length")] == [6]
    assert [v.number for v in history_of(Field).versions(user=2)] == [3]
    with pytest.raises(ValueError, match="nonsense"):
        h.versions(touching="nonsense")
    with pytest.raises(ValueError, match="explode"):
        h.versions(operation="explode")


def test_naive_moments_are_refused(field: Field) -> None:
    """Which instant a naive moment means cannot be known."""
    naive = datetime.datetime(2024, 1, 1, 12)  # noqa: DTZ001 - that is the point
    h = history_of(field)
    calls: list[Any] = [
        lambda: h.version_at(naive),
        lambda: h.has_changed_since(naive),
        lambda: h.diff(naive),
        lambda: h.diff(1, naive),
        lambda: h.revert(since=naive),
        lambda: h.versions(before=naive),
        lambda: h.versions(after=naive),
        lambda: history_of(Field).as_of(naive),
        lambda: history_of(Field).versions(before=naive),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="naive"):
            call()


# -- moments ----------------------------------------------------------------------------------------------------------


def test_version_at(field: Field, clock: Clock) -> None:
    """Version n is in force from its moment until the next one's; nothing before a create, a delete after a delete."""
    field.delete()
    clock.tick()
    h = history_of(Field, "a")
    assert h.version_at(at(-1)) is None
    for second in range(5):
        assert h.version_at(at(second))["name"] == f"name {second}"
        assert h.version_at(at(second + 0.999))["name"] == f"name {second}"
    assert h.version_at(at(13.999))["name"] == "name 4"
    for second in (14, 15, 10_000):
        deleted = h.version_at(at(second))
        assert deleted.operation == "delete"
        assert deleted.state is None
        assert deleted.at == at(14)
    other_zone = at(2).astimezone(datetime.timezone(datetime.timedelta(hours=-7)))
    assert h.version_at(other_zone)["name"] == "name 2"
    with pytest.raises(DocumentDeletedError):
        _ = h[-1].document
    with pytest.raises(KeyError):
        _ = h[-1]["name"]
    assert not hasattr(h[-1], "name")


def test_several_versions_in_one_millisecond(clock: Clock) -> None:
    """The last one is in force; their order is that of the writes."""
    made = Field(code="a", name="0").save()
    for number in range(1, 10):
        Field.objects(code="a").update(name=str(number))
    h = history_of(made)
    assert [v["name"] for v in h] == [str(number) for number in range(10)]
    assert h.version_at(START)["name"] == "9"
    assert h.version_at(START - datetime.timedelta(milliseconds=1)) is None


def test_a_clock_that_steps_back(clock: Clock) -> None:
    """The order is the server's; what the local clock said decides about moments only."""
    made = Field(code="a", name="0").save()
    for number, seconds in enumerate((5, -20, 3, 40), start=1):
        clock.tick(seconds)
        Field.objects(code="a").update(name=str(number))
    assert [v["name"] for v in history_of(made)] == ["0", "1", "2", "3", "4"]


def test_has_changed_since(field: Field) -> None:
    """Whether anything was made after a moment."""
    h = history_of(field)
    assert h.has_changed_since(at(-1))
    assert h.has_changed_since(at(3))
    assert not h.has_changed_since(at(4))
    write_past({"$set": {"nm": "round"}})
    assert h.has_changed_since(at(4))


def test_diff(field: Field, clock: Clock) -> None:
    """Between versions, numbers, moments and now, in any mixture."""
    h = history_of(field)

    def name(old: Any, new: Any) -> list[Change]:
        return [Change(("nm",), f"name {old}", f"name {new}", "change")]

    assert h.diff(1, 3) == name(0, 2)
    assert h.diff(3, 1) == name(2, 0)
    assert h.diff(h[0], h[-1]) == name(0, 4)
    assert h.diff(at(1), at(3)) == name(1, 3)
    assert h.diff(h[1], at(3)) == name(1, 3)
    assert h.diff(2) == name(1, 4)
    assert h.diff(5) == []
    created = h.diff(at(-1), 1)
    assert {change.op for change in created} == {"add"}
    assert ("nm",) in [change.path for change in created]
    field.delete()
    assert {(change.path, change.new) for change in h.diff(5)} >= {(("nm",), ABSENT)}
    for wrong in (0, 7, 99, -1):
        with pytest.raises(VersionNotFoundError):
            h.diff(wrong)


def test_changes_and_patches(field: Field, clock: Clock) -> None:
    """Both sides of every path, in dictdiffer's format too; of a create each key appears, of a delete each goes."""
    Field.objects(code="a").update(set__runways__0__length=5, set__notes__new=1, unset__name=1)
    field.delete()
    h = history_of(Field, "a")
    v = h[5]
    assert {(change.path, change.old, change.new, change.op) for change in v.changes} == {
        (("runways", 0, "len"), 1, 5, "change"),
        (("notes", "new"), ABSENT, 1, "add"),
        (("nm",), "name 4", ABSENT, "remove"),
    }
    assert sorted(map(str, v.patch)) == sorted(
        map(
            str,
            [
                ("change", ["runways", 0, "len"], (1, 5)),
                ("add", ["notes"], [("new", 1)]),
                ("remove", [], [("nm", "name 4")]),
            ],
        )
    )
    assert {change.op for change in h[0].changes} == {"add"}
    assert {change.op for change in h[6].changes} == {"remove"}
    assert {change.path for change in h[6].changes} == {(key,) for key in h[5].state}


# -- names ------------------------------------------------------------------------------------------------------------


def test_fields_that_share_a_name_with_the_version(clock: Clock) -> None:
    """`v["name"]` is always the field; `v.name` where Version has no attribute of that name."""
    Field(code="a", name="n", state="open", at="noon", user="me", number=77).save()
    v = history_of(Field, "a")[0]
    assert (v["state"], v["at"], v["user"], v["number"]) == ("open", "noon", "me", 77)
    assert v.state["state"] == "open"
    assert (v.at, v.user, v.number) == (START, None, 1)
    assert (v.name, v.code, v["pk"], v["_id"], v["nm"]) == ("n", "a", "a", "a", "n")
    with pytest.raises(AttributeError, match="nothing"):
        _ = v.nothing
    with pytest.raises(KeyError, match="nothing"):
        _ = v["nothing"]


def test_hidden_and_untracked_fields(clock: Clock) -> None:
    """Of a hidden field the fact of a change is known, of an untracked one nothing; neither has a value."""
    made = Field(code="a", password="s3cret", hits=1).save()
    Field.objects(code="a").update(password="other")
    Field.objects(code="a").update(inc__hits=1)
    Field.objects(code="a").update(password="third", name="n")
    h = history_of(made)
    assert [v.operation for v in h] == ["create", "update", "update"]
    assert [(change.path, change.old, change.new) for change in h[1].changes] == [(("pw",), HIDDEN, HIDDEN)]
    assert {change.path for change in h[2].changes} == {("pw",), ("nm",)}
    assert [v.number for v in h.versions(touching="password")] == [2, 3]
    for v in h:
        assert not {"pw", "hits"} & set(v.state)
        for kind in (AttributeError, KeyError, HiddenFieldError):
            with pytest.raises(kind, match="hidden"):
                _ = v["password"]
            with pytest.raises(kind, match="hidden"):
                _ = v.password
        for kind in (AttributeError, KeyError, UntrackedFieldError):
            with pytest.raises(kind, match="untracked"):
                _ = v["hits"]
        assert getattr(v, "password", "nothing") == "nothing"
        assert not hasattr(v, "hits")


def test_hidden_values_are_nowhere(clock: Clock, mongodb: Database) -> None:
    """Neither a patch, nor a snapshot, nor a key of the store holds what is hidden."""
    made = Field(code="a", password="s3cret-1", hits=987654321).save()
    made.password = "s3cret-2"
    made.name = "n"
    made.save()
    Field.objects(code="a").modify(password="s3cret-3", new=True)
    made.reload()
    made.delete()
    stored = str(list(mongodb["document_history"].find()))
    assert "s3cret" not in stored
    assert "987654321" not in stored
    assert "pw" in stored


def test_follow(clock: Clock) -> None:
    """The document that a reference pointed to, as it stood when the version was made."""
    pilot = Pilot(name="old").save()
    clock.tick()
    made = Field(code="a", pilot=pilot).save()
    clock.tick()
    pilot.name = "new"
    pilot.save()
    clock.tick()
    Field.objects(code="a").update(name="x")
    clock.tick()
    Field.objects(code="a").update(unset__pilot=1)
    hangar = Hangar(name="h").save()
    Field.objects(code="a").update(hangar=hangar)
    h = history_of(made)
    assert h[0].follow("pilot")["name"] == "old"
    assert h[1].follow("pilot")["name"] == "new"
    live = h[-1].follow("hangar")
    assert isinstance(live, LiveDocument)
    assert live["name"] == "h"
    with pytest.raises(ValueError, match="reference"):
        h[1].follow("name")
    pilot.delete()
    assert h[1].follow("pilot")["name"] == "new"


# -- reverting --------------------------------------------------------------------------------------------------------


def test_revert_appends(field: Field, clock: Clock) -> None:
    """Reverting writes the old state as a new version, byte for byte; history never rewinds."""
    h = history_of(field)
    then = raw(Field, "a")
    clock.tick()
    v = h[1].revert()
    assert (v.number, v.operation, v["name"], v.revert_of) == (6, "update", "name 1", h[1].id)
    assert raw(Field, "a") == {**then, "nm": "name 1"}
    assert h[1].revert() is None
    assert len(h) == 6
    assert h.revert()["name"] == "name 0"
    assert h.revert(since=at(3))["name"] == "name 3"
    assert h.revert(since=at(3)) is None
    assert [one["name"] for one in h][5:] == ["name 1", "name 0", "name 3"]


def test_revert_past_the_ends(field: Field, clock: Clock) -> None:
    """A moment before the create removes the document; reverting to what was before a delete brings it back."""
    h = history_of(field)
    then = raw(Field, "a")
    assert h.revert(since=at(-1)).operation == "delete"
    assert raw(Field, "a") is None
    clock.tick()
    back = h.revert(since=at(4))
    assert back.operation == "create"
    assert raw(Field, "a") == then
    assert h[5].operation == "delete"
    assert h[5].revert().operation == "delete"
    assert raw(Field, "a") is None
    assert h[5].revert() is None


def test_revert_single_fields(field: Field, clock: Clock) -> None:
    """Only the fields that are named go back, by either name; what the document has gained since stays."""
    Field.objects(code="a").update(state="s", notes={"k": [2]})
    h = history_of(field)
    v = h[0].revert(fields=["name"])
    assert (v["name"], v["state"], v["notes"]) == ("name 0", "s", {"k": [2]})
    assert h[0].revert(fields=["state"]).state.get("state") is None
    assert h[1].revert(fields=["nm", "notes"])["notes"] == {"k": [1]}
    assert raw(Field, "a")["nm"] == "name 1"
    Field.objects.delete()
    with pytest.raises(ConflictError, match="does not exist"):
        h[0].revert(fields=["name"])


def test_revert_leaves_hidden_and_untracked_values(clock: Clock) -> None:
    """What the history does not know keeps its present value and place."""
    made = Field(code="a", name="1", password="p1", hits=1).save()
    Field.objects(code="a").update(name="2", password="p2", hits=2)
    order = list(raw(Field, "a"))
    history_of(made)[0].revert()
    assert raw(Field, "a") == {"_id": "a", "nm": "1", "pw": "p2", "hits": 2, "runways": [], "notes": {}} | {
        key: value for key, value in raw(Field, "a").items() if key in ("runways", "notes")
    }
    assert list(raw(Field, "a")) == order


def test_revert_with_relations(clock: Clock) -> None:
    """Documents that a version pointed to go back with it, if asked."""
    pilot = Pilot(name="old").save()
    made = Field(code="a", name="1", pilot=pilot).save()
    clock.tick()
    pilot.name = "new"
    pilot.save()
    Field.objects(code="a").update(name="2")
    history_of(made)[0].revert(relations=["pilot"])
    assert raw(Field, "a")["nm"] == "1"
    assert Pilot.objects.get().name == "old"


def test_take_back(field: Field, clock: Clock) -> None:
    """The inverse of one version, applied to the present; later work on other paths stays."""
    Field.objects(code="a").update(state="wrong", notes={"k": [7]})
    Field.objects(code="a").update(name="right")
    h = history_of(field)
    v = h[5].take_back()
    assert (v["name"], v["notes"], "state" in v.state) == ("right", {"k": [1]}, False)
    with pytest.raises(ConflictError) as raised:
        h[2].take_back()
    assert len(raised.value.conflicts) == 1
    assert raw(Field, "a")["nm"] == "right"
    assert len(h) == 8


def test_take_back_of_creates_and_deletes(clock: Clock) -> None:
    """Taking back a create removes, taking back a delete restores; a create that was built on is a conflict."""
    Field(code="a", name="1").save()
    h = history_of(Field, "a")
    assert h[0].take_back().operation == "delete"
    assert raw(Field, "a") is None
    assert h[1].take_back().operation == "create"
    assert raw(Field, "a")["nm"] == "1"
    Field.objects(code="a").update(name="2")
    with pytest.raises(ConflictError):
        h[2].take_back()


def test_changesets(clock: Clock) -> None:
    """What one block wrote, over all classes, and the way back for all of it as one new changeset."""
    kept = Field(code="kept", name="before").save()
    gone = Pilot(name="gone").save()
    with changeset(user="ann", reason="all at once", ticket=7) as c:
        kept.name = "after"
        kept.save()
        gone.delete()
        Pilot(name="made").save()
        with rationale("inner"):
            Field.objects(code="kept").update(state="s")
    found = c.versions()
    assert [v.operation for v in found] == ["update", "delete", "create", "update"]
    assert {v.user.pk for v in found} == {"ann"}
    assert [v.reason for v in found] == ["all at once"] * 3 + ["inner"]
    assert {v.extra["ticket"] for v in found} == {7}
    assert {v.changeset for v in found} == {c}
    made = c.take_back()
    assert len({v.changeset.id for v in made}) == 1
    assert made[0].changeset != c
    assert raw(Field, "kept")["nm"] == "before"
    assert "state" not in raw(Field, "kept")
    assert [pilot.name for pilot in Pilot.objects] == ["gone"]


def test_take_back_of_a_changeset_is_all_or_nothing(clock: Clock) -> None:
    """One path that was changed again since, and nothing is written."""
    one, other = Field(code="a", name="0").save(), Field(code="b", name="0").save()
    with changeset() as c:
        one.update(name="1")
        other.update(name="1")
    other.update(name="2")
    with pytest.raises(ConflictError):
        c.take_back()
    assert [raw(Field, code)["nm"] for code in "ab"] == ["1", "2"]


# -- classes ----------------------------------------------------------------------------------------------------------


def test_as_of(clock: Clock) -> None:
    """Every document as it stood, those without versions too, in the order of `_id`, of the class that they were of."""
    with suppress_history("older than tracking"):
        Field(code="old", name="untouched").save()
        Field(code="older", name="touched later").save()
    clock.tick()
    Field(code="b", name="b1").save()
    Field(code="gone", name="g").save()
    clock.tick()
    Field.objects(code="b").update(name="b2")
    Field.objects(code="gone").delete()
    Field.objects(code="older").update(name="touched")
    Field(code="a", name="a1").save()

    def names(second: float) -> dict[str, str]:
        return {found.code: found.name for found in history_of(Field).as_of(at(second))}

    assert names(0) == {"old": "untouched", "older": "touched later"}
    assert names(1) == {"b": "b1", "gone": "g", "old": "untouched", "older": "touched later"}
    assert names(2) == {"a": "a1", "b": "b2", "old": "untouched", "older": "touched"}
    assert list(names(2)) == ["a", "b", "old", "older"]
    assert all(isinstance(found, Field) for found in history_of(Field).as_of(at(2)))
    assert [v.document_id for v in history_of(Field).deleted()] == ["gone"]
    assert [v.operation for v in history_of(Field).versions()] == [
        "create", "create", "update", "delete", "update", "create",
    ]  # fmt: skip


def test_as_of_streams(clock: Clock) -> None:
    """More documents than a chunk come in order, each once, live and deleted mixed."""
    with configured(CHUNK_SIZE=7):
        runtime.current().environment.now = clock
        keys = [f"{number:03}" for number in range(50)]
        Field.objects.insert([Field(code=key, name=key) for key in keys])
        clock.tick()
        Field.objects(code__in=keys[::3]).delete()
        Field.objects(code__in=keys[1::3]).update(name="changed")
        stream = history_of(Field).as_of(at(0))
        assert next(stream).code == "000"
        assert [found.code for found in stream] == keys[1:]
        assert {found.name for found in history_of(Field).as_of(at(0))} == set(keys)
        assert [found.code for found in history_of(Field).as_of(at(1))] == sorted(set(keys) - set(keys[::3]))
        assert [v.document_id for v in history_of(Field).deleted()] == keys[::3]


def test_histories_of_subclasses(clock: Clock) -> None:
    """A base's history holds its subclasses' documents, a subclass's only its own."""
    Plane(name="glider").save()
    jet = Jet(name="jet", engines=2).save()
    clock.tick()
    jet.update(engines=4)
    assert [type(found) for found in history_of(Plane).as_of(at(0))] == [Plane, Jet]
    assert [found.engines for found in history_of(Jet).as_of(at(0))] == [2]
    assert [v.operation for v in history_of(Jet).versions()] == ["create", "update"]
    assert len(list(history_of(Plane).versions())) == 3
    assert history_of(jet)[0].document.engines == 2
    assert isinstance(history_of(Plane, jet.pk)[0].document, Jet)
    Plane.objects.delete()
    assert [v.document_id for v in history_of(Jet).deleted()] == [jet.pk]


# -- derived versions -------------------------------------------------------------------------------------------------


def test_a_document_older_than_its_history(clock: Clock) -> None:
    """It has a derived baseline, alone or first, which answers for every earlier moment."""
    with suppress_history("older"):
        made = Field(code="a", name="old").save()
    h = history_of(made)
    assert [(v.operation, v.at, v["name"], v.number) for v in h] == [("baseline", None, "old", 1)]
    assert h.version_at(at(-100_000))["name"] == "old"
    assert h[0].changes == []
    assert h[0].is_derived
    assert not h.has_changed_since(at(-100_000))
    clock.tick()
    Field.objects(code="a").update(name="new")
    assert [(v.operation, v["name"]) for v in h] == [("baseline", "old"), ("update", "new")]
    assert h.version_at(at(0))["name"] == "old"
    assert h[0].user is None
    assert h[0].changeset is None
    assert str(h[1].id) in str(h[0].id)
    assert h[0].revert()["name"] == "old"


def test_a_write_past_the_tracker(field: Field, clock: Clock) -> None:
    """It shows as `external` with what it changed, at the moment of the version after it."""
    write_past({"$set": {"nm": "round", "notes.x": {"y": 1}}})
    clock.tick()
    Field.objects(code="a").update(name="next")
    h = history_of(field)
    assert [v.operation for v in h][5:] == ["external", "update"]
    v = h[5]
    assert sorted((change.path, change.old, change.new) for change in v.changes) == [
        (("nm",), "name 4", "round"),
        (("notes", "x"), ABSENT, {"y": 1}),
    ]
    assert (v.at, v.user, v["name"], v.number) == (h[6].at, None, "round", 6)
    assert str(h[6].id) in v.id
    assert [(change.old, change.new) for change in h[6].changes] == [("round", "next")]
    with pytest.raises(ValueError, match="derived"):
        v.take_back()
    assert v.revert()["name"] == "round"


def test_a_write_past_the_tracker_at_the_end(field: Field, clock: Clock) -> None:
    """The live document is part of its history."""
    write_past({"$set": {"nm": "round"}})
    h = history_of(field)
    assert [(v.operation, v["name"]) for v in h][5:] == [("external", "round")]
    assert h[5].at == clock.now
    assert h.version_at(clock.now)["name"] == "round"
    assert h.version_at(at(4))["name"] == "name 4"
    Field._get_collection()._plain().delete_one({"_id": "a"})
    assert [(v.operation, v.state) for v in h][5:] == [("external", None)]
    assert {change.op for change in h[5].changes} == {"remove"}
    h[4].revert()
    assert raw(Field, "a")["nm"] == "name 4"


def test_several_writes_past_the_tracker_in_a_row(field: Field, clock: Clock) -> None:
    """Between two versions they are one `external`, which has the sum of their changes."""
    write_past({"$set": {"nm": "round"}})
    write_past({"$set": {"notes.x": 1}})
    write_past({"$set": {"nm": "again"}})
    Field.objects(code="a").update(state="s")
    h = history_of(field)
    assert [v.operation for v in h][5:] == ["external", "update"]
    assert {change.path for change in h[5].changes} == {("nm",), ("notes", "x")}


def test_what_lies_between_two_gaps_cannot_be_known(field: Field, clock: Clock) -> None:
    """Its state raises, its changes do not, what lies before and after is whole; a revert to it is a conflict."""
    write_past({"$set": {"nm": "gap 1"}})
    Field.objects(code="a").update(state="between")
    write_past({"$set": {"nm": "gap 2"}})
    Field.objects(code="a").update(state="after")
    h = history_of(field)
    assert [v.operation for v in h][5:] == ["external", "update", "external", "update"]
    between = h[6]
    with pytest.raises(BrokenChainError, match="SNAPSHOT_EVERY"):
        _ = between.state
    assert [(change.path, change.old, change.new) for change in between.changes] == [
        (("state",), ABSENT, "between")
    ]
    with pytest.raises(BrokenChainError):
        _ = h[5].state
    assert h[4]["name"] == "name 4"
    assert (h[8]["name"], h[8]["state"]) == ("gap 2", "after")
    assert h[7]["state"] == "between"
    with pytest.raises((BrokenChainError, ConflictError)):
        between.revert()
    assert raw(Field, "a")["state"] == "after"


def test_snapshots_make_gaps_readable(mongodb: Database) -> None:
    """With SNAPSHOT_EVERY = 1 every state between two gaps is known."""
    with configured(SNAPSHOT_EVERY=1):
        track(Field)
        made = Field(code="a", name="0").save()
        for number in range(1, 4):
            write_past({"$set": {"nm": f"gap {number}"}})
            Field.objects(code="a").update(state=str(number))
        h = history_of(made)
        assert [v["name"] for v in h] == ["0", "gap 1", "gap 1", "gap 2", "gap 2", "gap 3", "gap 3"]
        assert [v.operation for v in h] == ["create"] + ["external", "update"] * 3
        untrack(Field)


def test_a_document_that_came_and_went_unseen(clock: Clock) -> None:
    """A recreation past the tracker is an `external` on either side of a delete."""
    Field(code="a", name="1").save()
    Field.objects(code="a").delete()
    Field._get_collection()._plain().insert_one({"_id": "a", "nm": "unseen"})
    Field.objects(code="a").update(name="seen")
    h = history_of(Field, "a")
    assert [v.operation for v in h] == ["create", "delete", "external", "update"]
    assert h[2]["name"] == "unseen"
    assert {change.op for change in h[2].changes} == {"add"}


def test_a_suppressed_write_is_external(field: Field, caplog: pytest.LogCaptureFixture) -> None:
    """The history says that something was written and not what for; the log says why."""
    with suppress_history("a bulk load"):
        Field.objects(code="a").update(name="quiet")
    assert history_of(field)[-1].operation == "external"


def test_a_document_without_any_history(clock: Clock) -> None:
    """It is an empty sequence."""
    h = history_of(Field, "nobody")
    assert len(h) == 0
    assert list(h) == []
    assert h.version_at(START) is None
    assert not h.has_changed_since(START)
    with pytest.raises(VersionNotFoundError):
        h.revert()


# -- which classes ----------------------------------------------------------------------------------------------------


def test_an_untracked_class_says_how_to_track_it(clock: Clock) -> None:
    """The error names the class as the settings want it."""
    for subject in (Hangar, Hangar(name="h")):
        with pytest.raises(NotTrackedError, match=r"test_reading\.Hangar.*TRACKED_DOCUMENTS.*track\(\)"):
            history_of(subject)
    with pytest.raises(NotTrackedError):
        untrack(Hangar)


def test_a_key_that_the_class_cannot_have(clock: Clock) -> None:
    """It is refused at once."""
    with pytest.raises(ValueError, match="primary key"):
        history_of(Pilot, "no ObjectId")


def test_tracking_leaves_no_trace(mongodb: Database) -> None:
    """A class that is untracked again is what it was, cached collections and subclasses included."""

    def looks(document_class: type) -> dict[str, Any]:
        own = {name: value for name, value in vars(document_class).items() if name != "_collection"}
        return {**own, "type": type(document_class._get_collection())}

    with configured():
        for document_class in (Hangar, Plane, Jet):
            document_class._get_collection()
        before = [looks(document_class) for document_class in (Hangar, Plane, Jet)]
        track(Hangar)
        track(Jet)
        Hangar(name="h").save()
        Jet(name="j").save()
        assert hasattr(Hangar, "history")
        untrack(Jet)
        untrack(Hangar)
        assert [looks(document_class) for document_class in (Hangar, Plane, Jet)] == before
        assert not hasattr(Hangar, "history")
        Hangar(name="i").save()
        assert mongodb["document_history"].count_documents({}) == 2


def test_tracking_twice_replaces_the_rules(mongodb: Database) -> None:
    """The last call counts, and one untrack undoes it."""
    with configured():
        track(Field, hidden=["name"])
        track(Field, hidden=["state"])
        Field(code="a", name="n", state="s").save()
        assert history_of(Field, "a")[0]["name"] == "n"
        with pytest.raises(HiddenFieldError):
            _ = history_of(Field, "a")[0]["state"]
        untrack(Field)
        with pytest.raises(NotTrackedError):
            history_of(Field, "a")


@pytest.mark.parametrize("kind", ["hidden", "untracked"])
def test_a_policy_that_changed_is_no_change(mongodb: Database, kind: str) -> None:
    """A path that is hidden or untracked since a deploy, or no more, makes no `external`; the past is pruned too."""
    with configured(SNAPSHOT_EVERY=3):
        track(Field)
        Field(code="a", name="0", password="p0", hits=0).save()
        for number in range(1, 5):
            Field.objects(code="a").update(name=str(number), password=f"p{number}", hits=number)
        track(Field, **{kind: ["password", "hits"]})
        for number in range(5, 9):
            Field.objects(code="a").update(name=str(number), password=f"p{number}", hits=number)
        h = history_of(Field, "a")
        assert [v.operation for v in h] == ["create"] + ["update"] * 8
        assert [v["name"] for v in h] == [str(number) for number in range(9)]
        assert all(not {"pw", "hits"} & set(v.state) for v in h)
        assert all(change.path == ("nm",) for v in h[1:5] for change in v.changes if change.new is not HIDDEN)
        track(Field)
        for number in range(9, 12):
            Field.objects(code="a").update(name=str(number), password=f"p{number}")
        assert [v.operation for v in h] == ["create"] + ["update"] * 11
        assert [v["name"] for v in h] == [str(number) for number in range(12)]
        assert h[-1]["password"] == "p11"
        assert h[1]["password"] == "p1"
        assert not h.has_changed_since(datetime.datetime.now(datetime.UTC) + SECOND)
        untrack(Field)


def test_a_policy_that_changed_does_not_hide_a_gap(mongodb: Database) -> None:
    """A write past the tracker between two policies is seen, if it touched what both track."""
    with configured():
        track(Field)
        Field(code="a", name="0", password="p").save()
        track(Field, hidden=["password"])
        write_past({"$set": {"nm": "round"}})
        assert [v.operation for v in history_of(Field, "a")] == ["create", "external"]
        Field.objects(code="a").update(state="s")
        assert [v.operation for v in history_of(Field, "a")] == ["create", "external", "update"]
        untrack(Field)


def test_an_unreadable_row_leaves_the_others_readable(field: Field, mongodb: Database) -> None:
    """A row that cannot be read raises where it is needed, naming itself; what can be reached round it is whole."""
    h = history_of(field)
    wanted = [v.state for v in h]
    broken = h[2].id
    mongodb["document_history"].update_one({"_id": broken}, {"$set": {"format": 99}})
    again = history_of(field)
    assert [v.id for v in again] == [v.id for v in h]
    with pytest.raises(BrokenChainError, match=str(broken)):
        _ = again[2].changes
    assert again[1].state == wanted[1]
    assert again[3].state == wanted[3]
    assert again[4].state == wanted[4]


def test_reading_writes_nothing(field: Field, mongodb: Database, mongodb_client: Any) -> None:
    """Looking at a history changes neither documents nor versions."""
    before = mongodb_client[mongodb.name].command("dbHash")["collections"]
    h = history_of(field)
    for v in h:
        _ = v.state, v.changes, v.document, v.previous, v.next
    list(history_of(Field).as_of(at(2)))
    list(history_of(Field).deleted())
    assert mongodb_client[mongodb.name].command("dbHash")["collections"] == before
