"""
What went wrong elsewhere, as laws: contexts that leak, chains that break, clocks that lie, masks with holes, undo that
loses an order. Always with three documents at once: what a history finds must be its own document's.
"""

from __future__ import annotations

import datetime
import logging
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import mongoengine
import pytest
from mongoengine import fields, signals
from pymongo.database import Database

from django_mongo_history import (
    ConflictError,
    changeset,
    changesets,
    extra_change_info,
    history_of,
    rationale,
    runtime,
    suppress_history,
    track,
    untrack,
)
from tests.commanding import run
from tests.judge import configured, tracking

START = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)
KEYS = "abc"


class LessonPart(mongoengine.EmbeddedDocument):
    name = fields.StringField()
    size = fields.IntField(db_field="sz")


class Lesson(mongoengine.Document):
    key = fields.StringField(primary_key=True)
    name = fields.StringField(db_field="nm")
    size = fields.IntField()
    tags = fields.ListField(fields.StringField())
    parts = fields.EmbeddedDocumentListField(LessonPart)
    notes = fields.DictField()
    secret = fields.StringField(db_field="sc")
    meta = {"collection": "lesson"}


class LessonUser(mongoengine.Document):
    name = fields.StringField()
    meta = {"collection": "lesson_user"}

    def __str__(self) -> str:
        return str(self.name)


class Clock:
    """Time as a test wants it; it may also go back."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime.datetime:
        return self.now

    def tick(self, seconds: float = 1) -> datetime.datetime:
        self.now += datetime.timedelta(seconds=seconds)
        return self.now


@pytest.fixture
def clock(mongodb: Database) -> Iterator[Clock]:
    with configured(), tracking(Lesson):
        found = Clock()
        runtime.current().environment.now = found
        yield found


@pytest.fixture
def three(clock: Clock) -> list[Lesson]:
    """Three of them, whose lists have an order and repeat themselves."""
    return [
        Lesson(
            key=key,
            name=f"{key} 0",
            tags=["x", "y", "x", key],
            parts=[LessonPart(name=f"{key} {n}", size=n) for n in (1, 2, 1)],
            notes={"one": 1, "two": [2]},
        ).save()
        for key in KEYS
    ]


def raw(key: str) -> dict[str, Any] | None:
    """The document as the database holds it, past the tracker."""
    found: dict[str, Any] | None = Lesson._get_collection()._plain().find_one({"_id": key})
    return found


def write_interleaved(*rounds: dict[str, Any]) -> None:
    """Each round of updates to all three documents in turn."""
    for update in rounds:
        for key in KEYS:
            Lesson.objects(key=key).update(**update)


# -- 2: contexts that are nested ------------------------------------------------------------------------------------------


def test_nested_contexts_come_back_and_leave_nothing_connected(three: list[Lesson]) -> None:
    """When an inner block ends the outer values are back; what is recorded stays; no signal has a receiver more."""
    heard = [getattr(signals, name) for name in signals.__all__]
    before = [len(signal.receivers) for signal in heard]
    for lesson in three:
        with changeset(user="outer", reason="r0", a=1):
            lesson.update(set__name="1")
            with rationale("r1"), extra_change_info(b=2):
                lesson.update(set__name="2")
                with changeset(user="inner", reason="r2"):
                    lesson.update(set__name="3")
                lesson.update(set__name="4")
            lesson.update(set__name="5")
        lesson.update(set__name="6")
    for lesson in three:
        told = [(v["name"], v.user and v.user.label, v.reason, v.extra) for v in lesson.history[1:]]
        assert told == [
            ("1", "outer", "r0", {"a": 1}),
            ("2", "outer", "r1", {"a": 1, "b": 2}),
            ("3", "inner", "r2", {"a": 1, "b": 2}),
            ("4", "outer", "r1", {"a": 1, "b": 2}),
            ("5", "outer", "r0", {"a": 1}),
            ("6", None, None, {}),
        ]
        assert lesson.history[2].changeset == lesson.history[1].changeset != lesson.history[3].changeset
    assert [len(signal.receivers) for signal in heard] == before


# -- what is a version, and what is none --------------------------------------------------------------------------------


def test_only_what_changes_something_tracked_is_a_version(clock: Clock) -> None:
    """Inserts, updates and deletes; nothing for a save of nothing, of the same values, or of untracked paths alone."""
    track(Lesson, untracked=["size"], hidden=["secret"])
    lessons = [Lesson(key=key, name=key, tags=["x"]).save() for key in KEYS]
    for lesson in lessons:
        lesson.save()
        lesson.name = str(lesson.name)
        lesson.tags = ["x"]
        lesson.save()
        lesson.size = 5
        lesson.save()
        Lesson.objects(key=lesson.key).update(inc__size=1)
        lesson.name = "new"
        lesson.save()
        lesson.secret = "s"
        lesson.save()
    lessons[1].delete()
    expected = ["create", "update", "update"]
    assert [[str(v.operation) for v in lesson.history] for lesson in lessons] == [
        expected,
        [*expected, "delete"],
        expected,
    ]
    k = history_of(Lesson)
    assert [len(list(k.versions(touching=path))) for path in ("name", "secret")] == [3, 3]


# -- 6: two instances of one document ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_instances_that_are_saved_alternately_make_one_chain(three: list[Lesson], seed: int) -> None:
    """Replayed forward and backward, each version is the document as it lay in the database after its write."""
    chance = random.Random(seed)
    instances = {key: [Lesson.objects.get(key=key), Lesson.objects.get(key=key)] for key in KEYS}
    copies: dict[str, list[Any]] = {key: [raw(key)] for key in KEYS}
    for _ in range(40):
        key = chance.choice(KEYS)
        one = chance.choice(instances[key])
        match chance.randrange(6):
            case 0:
                one.name = chance.choice(["p", "q", None])
            case 1:
                one.size = chance.choice([0, 1, None])
            case 2:
                one.tags = chance.choices("xyz", k=chance.randrange(4))
            case 3:
                one.parts = [
                    LessonPart(name="n", size=chance.randrange(3)) for _ in range(chance.randrange(3))
                ]
            case 4:
                one.notes[chance.choice(["one", "three"])] = chance.randrange(3)
            case _:
                one.reload()
        one.save()
        now = raw(key)
        if now != copies[key][-1]:
            copies[key].append(now)
    for key in KEYS:
        h = history_of(Lesson, key)
        assert [v.state for v in h] == copies[key]
        assert [v.state for v in reversed(h)] == copies[key][::-1]
        assert {str(v.operation) for v in h} <= {"create", "update"}


# -- 7: moments that are shared, and clocks that step back --------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, -0.001, -1], ids=["one millisecond", "back a little", "back a second"])
def test_order_does_not_hang_on_the_clock(three: list[Lesson], clock: Clock, step: float) -> None:
    """Ten writes to each of three documents in turn: numbers, neighbours and the last state are each one's own."""
    for number in range(1, 11):
        for key in KEYS:
            Lesson.objects(key=key).update(set__name=f"{key} {number}")
        clock.tick(step)
    for key in KEYS:
        h = history_of(Lesson, key)
        assert [v["name"] for v in h] == [f"{key} {number}" for number in range(11)]
        assert [v.index for v in h] == list(range(11))
        assert [v.number for v in h] == list(range(1, 12))
        assert len({v.id for v in h}) == 11
        for place, v in enumerate(h):
            assert (v.previous and v.previous.id) == (h[place - 1].id if place else None)
            assert (v.next and v.next.id) == (h[place + 1].id if place < 10 else None)
        assert h[-1].state == raw(key)
    # Found across the documents, each still knows its place among its own.
    for v in history_of(Lesson).versions():
        assert v["name"] == f"{v.document_id} {v.index}"
        assert (v.previous is None) == (v.index == 0)
        assert v.next is None or v.next.document_id == v.document_id


# -- 8: as of every moment ----------------------------------------------------------------------------------------------------


def test_every_moment_equals_a_recorded_copy(clock: Clock) -> None:
    """Of one document and of all; none after a delete, there again after the revert of it, and as it was."""
    chance = random.Random(4)
    recorded: list[tuple[datetime.datetime, dict[str, Any]]] = []
    for number in range(40):
        clock.tick()
        key = chance.choice(KEYS)
        there = raw(key)
        if there is None and history_of(Lesson, key):
            history_of(Lesson, key)[-1].previous.revert()
        elif there is None:
            Lesson(key=key, name="new", tags=[key]).save()
        elif chance.random() < 0.25:
            Lesson.objects(key=key).delete()
        else:
            Lesson.objects(key=key).update(set__size=number, push__tags=str(number))
        recorded.append((clock.now, {key: raw(key) for key in KEYS}))
    assert sum(None in copy.values() for _moment, copy in recorded) > 5
    for moment, copy in recorded:
        for between in (moment, moment + datetime.timedelta(milliseconds=500)):
            for key in KEYS:
                v = history_of(Lesson, key).version_at(between)
                assert (v and v.state) == copy[key]
            living = [copy[key] for key in KEYS if copy[key] is not None]
            assert list(history_of(Lesson).states_as_of(between)) == living
            assert [one.key for one in history_of(Lesson).as_of(between)] == [one["_id"] for one in living]


# -- 12: masks without holes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot_every", [1, 20])
def test_hidden_values_are_in_nothing_that_is_stored_shown_or_logged(
    mongodb: Database, caplog: pytest.LogCaptureFixture, snapshot_every: int
) -> None:
    """Not in versions, snapshots, labels, conflicts, errors, logs, changesets, or what commands print."""
    caplog.set_level(logging.DEBUG, logger="django_mongo_history")
    words = [f"hidden{n}word" for n in range(8)]
    shown: list[Any] = []
    with (
        configured(SNAPSHOT_EVERY=snapshot_every),
        tracking(Lesson, hidden=["secret", "parts.name", "notes.*.inner"]),
    ):
        with changeset(user="ann", reason="masks") as c:
            lessons = [
                Lesson(
                    key=key,
                    secret=words[n],
                    parts=[LessonPart(name=words[n + 3], size=n)],
                    notes={"k": {"inner": words[6], "outer": 1}},
                ).save()
                for n, key in enumerate(KEYS)
            ]
        for lesson in lessons:
            lesson.secret, lesson.name = words[7], "open"
            shown.append(lesson.history.pending().changes)
            lesson.save()
        Lesson.objects.update(__raw__={"$set": {"nm": "later", "parts.0.sz": 9}})
        with pytest.raises(ConflictError) as caught:
            lessons[0].history[1].take_back()
        shown.extend([caught.value, str(caught.value), caught.value.facts])
        with suppress_history("masks"):
            Lesson.objects.update(set__secret=words[0])
        Lesson.objects.delete()
        for lesson in lessons:
            h = lesson.history
            shown.extend((v, v.state, v.changes, v.patch, v.extra, v.user) for v in h)
            shown.append(h[1].document and h[1].document.to_mongo() if h[1].state else None)
        found = changesets()
        shown.extend((one, one.counts, one.extra, one.by_class()) for one in found)
        made = history_of(Lesson).as_of(lessons[0].history[1].at).into("masks")
        shown.append(list(made.collection.find()))
        shown.append(run("history_log", "--json"))
        shown.append(run("history_log", "--document", f"{Lesson.__module__}.Lesson", "--id", "a"))
        shown.append(run("history_revert", "--changeset", str(c.id), "--dry-run"))
    stored = [list(mongodb[name].find()) for name in mongodb.list_collection_names()]
    for word in words:
        assert word not in repr(shown)
        assert word not in repr(stored)
        assert word not in caplog.text
    assert "masks" in caplog.text
    assert "later" in repr(stored)


# -- 17: what is left when the user, the class or the collection is gone --------------------------------------------------------


def test_history_outlives_the_user(three: list[Lesson]) -> None:
    """It is labelled as the user was called then, and found by the key."""
    users = [LessonUser(name=f"user {key}").save() for key in KEYS]
    for user, lesson in zip(users, three, strict=True):
        with changeset(user=user):
            lesson.update(set__name="by a user")
        user.delete()
    for user, lesson in zip(users, three, strict=True):
        v = lesson.history[-1]
        assert (v.user.label, v.user.pk) == (user.name, user.pk)
        assert [one.document_id for one in history_of(Lesson).versions(user=user.pk)] == [lesson.key]
        assert [c.user.label for c in changesets(user=user.pk)] == [user.name]


def test_history_outlives_the_class_and_the_collection(three: list[Lesson], mongodb: Database) -> None:
    """Untracked and tracked again, dropped and made anew: what was recorded is read as before."""
    states = {key: raw(key) for key in KEYS}
    untrack(Lesson)
    assert mongodb["document_history"].count_documents({"document_class": "Lesson"}) == 3
    track(Lesson)
    Lesson.drop_collection()
    for key in KEYS:
        h = history_of(Lesson, key)
        assert [str(v.operation) for v in h] == ["create", "delete"]
        assert h[0].state == states[key]
        assert (h[-1].state, h[-1].previous.state) == (None, states[key])
    mongodb.drop_collection("lesson")
    assert [history_of(Lesson, key)[0].document.name for key in KEYS] == ["a 0", "b 0", "c 0"]


# -- taking one change back among later ones --------------------------------------------------------------------------------------


LISTS = [
    ({"push__tags": "x"}, "append"),
    ({"push__tags__0": "front"}, "insert in front"),
    ({"pull__tags": "x"}, "remove what is there twice"),
    ({"pop__tags": -1}, "remove the first"),
    ({"set__tags": ["y", "x", "x", "y", "y"]}, "reorder"),
    ({"set__tags": []}, "empty"),
    ({"unset__tags": 1}, "unset"),
    ({"add_to_set__tags": "new"}, "add to set"),
    ({"set__tags__2": "z"}, "one element"),
    ({"push__parts": LessonPart(name="new", size=9)}, "append a part"),
    ({"__raw__": {"$pull": {"parts": {"sz": 1}}}}, "remove equal parts"),
    ({"__raw__": {"$set": {"parts.1.sz": 7}}}, "a field of one part"),
    ({"set__notes__two__0": 3}, "a list in a dict"),
    ({"unset__notes__one": 1}, "a key of a dict"),
]


@pytest.mark.parametrize("update", [update for update, _name in LISTS], ids=[name for _update, name in LISTS])
def test_taking_back_a_change_of_a_list_gives_the_list_back(
    three: list[Lesson], update: dict[str, Any]
) -> None:
    """In its order and with what stands in it twice, whatever came later elsewhere; the other two stay as they are."""
    old = {key: deepcopy(raw(key)) for key in KEYS}
    write_interleaved(update, {"set__name": "later"}, {"set__size": 5})
    changed = {key: raw(key) for key in KEYS}
    for place, key in enumerate(KEYS):
        made = history_of(Lesson, key)[1].take_back()
        assert made is not None
        now = raw(key)
        assert now == {**old[key], "nm": "later", "size": 5}
        assert {other: raw(other) for other in KEYS[place + 1 :]} == {
            other: changed[other] for other in KEYS[place + 1 :]
        }
        assert made.revert_of == history_of(Lesson, key)[1].id
        assert made.take_back() is not None, "and that is taken back in turn"
        assert raw(key) == changed[key]


def test_later_changes_of_other_elements_stay(three: list[Lesson]) -> None:
    """Another part of the list, another key of the dict: they are other paths."""
    write_interleaved(
        {"__raw__": {"$set": {"parts.0.sz": 100, "notes.one": 100}}},
        {"__raw__": {"$set": {"parts.2.sz": 300, "notes.two.0": 300}}},
    )
    for key in KEYS:
        history_of(Lesson, key)[1].take_back()
        now = raw(key)
        assert now is not None
        assert [part["sz"] for part in now["parts"]] == [1, 2, 300]
        assert now["notes"] == {"one": 1, "two": [300]}


@pytest.mark.parametrize(
    "later",
    [{"push__tags": "z"}, {"pull__tags": "y"}, {"set__tags": ["x"]}, {"set__tags__1": "other"}],
    ids=["append", "remove", "replace", "one element"],
)
def test_a_later_change_of_the_same_list_stands_in_the_way(
    three: list[Lesson], later: dict[str, Any]
) -> None:
    """It says which document and path, and writes nothing: no list is merged as if it were a set."""
    write_interleaved({"set__tags": ["x", "x", "n", "y"]}, later)
    before = {key: raw(key) for key in KEYS}
    for key in KEYS:
        with pytest.raises(ConflictError) as caught:
            history_of(Lesson, key)[1].take_back()
        assert len(caught.value.conflicts) == 1
        assert ", at tags" in str(caught.value)
        assert key in str(caught.value)
    assert {key: raw(key) for key in KEYS} == before
    assert [len(history_of(Lesson, key)) for key in KEYS] == [3] * 3


def test_taking_back_creates_and_deletes(three: list[Lesson]) -> None:
    """What a delete took comes back under its key, byte for byte; what a create made goes."""
    old = {key: raw(key) for key in KEYS}
    Lesson.objects.delete()
    for key in KEYS:
        history_of(Lesson, key)[-1].take_back()
    assert {key: raw(key) for key in KEYS} == old
    history_of(Lesson, "b")[-1].take_back()
    assert [raw(key) is None for key in KEYS] == [False, True, False]
