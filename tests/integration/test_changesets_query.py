"""
Changesets by who, when, why and what they touched; what each of them changed; and what it costs to find out.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import mongoengine
import mongomock
import pytest
from bson import ObjectId
from mongoengine import fields
from pymongo import monitoring
from pymongo.database import Database

from django_mongo_history import (
    changeset,
    changesets,
    context,
    history_of,
    rationale,
    runtime,
    track,
    untrack,
)
from django_mongo_history.core.model import RequestRef, UserRef
from django_mongo_history.errors import ConflictError, NotTrackedError
from django_mongo_history.query import changesets as module
from tests.judge import configured, tracking

START = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)


class ChangesetPort(mongoengine.Document):
    code = fields.StringField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "changeset_port"}


class ChangesetShip(mongoengine.Document):
    name = fields.StringField()
    port = fields.ReferenceField(ChangesetPort)
    meta = {"collection": "changeset_ship", "allow_inheritance": True}


class ChangesetTug(ChangesetShip):
    power = fields.IntField()


class ChangesetFar(mongoengine.Document):
    """In a database of its own, whose versions lie there too."""

    name = fields.StringField()
    meta = {"collection": "changeset_far", "db_alias": "changesets_far"}


class ChangesetBrief(mongoengine.Document):
    """Tracked for a while."""

    name = fields.StringField()
    meta = {"collection": "changeset_brief"}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime.datetime:
        return self.now

    def tick(self, seconds: float = 1) -> datetime.datetime:
        self.now += datetime.timedelta(seconds=seconds)
        return self.now


@pytest.fixture
def clock(mongodb: Database, mongodb_uri: str) -> Iterator[Clock]:
    name = f"test_far_{ObjectId()}"
    mongoengine.connect(name, alias="changesets_far", host=mongodb_uri, uuidRepresentation="standard")
    with configured(), tracking(ChangesetPort, ChangesetShip, ChangesetFar):
        found = Clock()
        runtime.current().environment.now = found
        yield found
    mongoengine.get_connection("changesets_far").drop_database(name)


def at(second: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=second)


@pytest.fixture
def told(clock: Clock) -> list[Any]:
    """Three changesets, each over three documents: one of them goes on while the next one is made."""
    with changeset(user="ann", reason="first", remote_addr="10.0.0.1", ticket=1) as one:
        for n in range(3):
            ChangesetPort(code=f"p{n}", name=f"port {n}").save()
        clock.tick()
        with changeset(user="bob", reason="second") as two:
            for n in range(3):
                ChangesetShip(name=f"ship {n}", port=ChangesetPort.objects.get(code=f"p{n}")).save()
        clock.tick()
        ChangesetPort.objects.update(name="again")
    clock.tick()
    with changeset(user=UserRef(7, "ann", "auth.user"), reason="first") as three:
        for n in range(3):
            ChangesetTug(name=f"tug {n}").save()
            ChangesetFar(name=f"far {n}").save()
            with rationale("inside"):
                ChangesetPort.objects(code=f"p{n}").update(name="last")
    return [one, two, three]


class Commands(monitoring.CommandListener):
    """The commands that are sent while it listens."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append(event)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


# -- finding ------------------------------------------------------------------------------------------------------------


def test_each_condition_and_all_together(told: list[Any]) -> None:
    """A changeset is found by any version that fulfils all conditions."""
    one, two, three = told
    assert changesets() == [one, two, three]
    assert changesets(user="ann") == [one, three]
    assert changesets(user=UserRef(7, model="auth.user")) == [three]
    assert changesets(user="nobody") == []
    assert changesets(reason="first") == [one, three]
    assert changesets(reason="inside") == [three]
    assert changesets(reason="first", touching=ChangesetFar) == [three]
    assert changesets(user="bob", reason="first") == []
    assert changesets(since=at(2), user="ann", touching=ChangesetPort) == [one, three]
    assert changesets(since=at(2), until=at(2)) == [one]
    assert changesets(until=at(1)) == [one, two]
    assert changesets(since=at(3.001)) == []
    assert changesets(since=at(3) - datetime.timedelta(microseconds=1)) == [three]
    assert changesets(until=at(3) - datetime.timedelta(microseconds=1)) == [one, two]


def test_which_changesets_touched_this_class(told: list[Any]) -> None:
    """Subclasses with their base, and a subclass alone."""
    one, two, three = told
    assert changesets(touching=ChangesetPort) == [one, three]
    assert changesets(touching=ChangesetShip) == [two, three]
    assert changesets(touching=ChangesetTug) == [three]
    assert changesets(touching=ChangesetFar) == [three]


def test_which_changesets_touched_this_document(clock: Clock) -> None:
    """One among three, living or gone."""
    made = []
    ports = [ChangesetPort(code=f"d{n}", name="0").save() for n in range(3)]
    for n, port in enumerate(ports):
        clock.tick()
        with changeset(user="ann") as c:
            port.update(set__name=f"by {n}")
        made.append(c)
    with changeset() as last:
        ports[1].delete()
    assert changesets(touching=ports[0], user="ann") == [made[0]]
    assert changesets(touching=ports[1], since=at(1)) == [made[1], last]
    assert changesets(touching=ports[2], user="ann", newest_first=True) == [made[2]]
    assert changesets(touching=ChangesetShip(name="unsaved")) == []


def test_a_lazy_sequence(told: list[Any]) -> None:
    """Indexes, slices from both ends, steps, membership, length, truth and the way round."""
    found = changesets()
    assert (found[0], found[2], found[-1], found[-3]) == (told[0], told[2], told[2], told[0])
    assert [found[:2], found[1:], found[::2], found[-2:], found[:-1]] == [
        told[:2],
        told[1:],
        told[::2],
        told[-2:],
        told[:-1],
    ]
    assert (len(found), bool(found), bool(changesets(user="nobody"))) == (3, True, False)
    assert list(reversed(found)) == told[::-1]
    assert told[1] in found
    assert told[1].id in found
    assert told[1] not in changesets(user="ann")
    assert "something" not in found
    for index in (3, -4):
        with pytest.raises(IndexError, match="no changeset"):
            found[index]
    with changeset() as more:
        ChangesetPort(code="more").save()
    assert found[-1] == more, "each use reads afresh"
    assert "Changeset" in repr(found)


def test_newest_first_goes_by_the_last_version(told: list[Any]) -> None:
    """The first block went on after the second one had ended."""
    one, two, three = told
    assert changesets(newest_first=True) == [three, one, two]
    assert changesets(newest_first=True)[:2] == [three, one]
    assert changesets(newest_first=True, touching=ChangesetShip) == [three, two]


def test_one_changeset_comes_once_however_many_lie_between(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it has been forgotten in between: then its own versions say that it has been there."""
    monkeypatch.setattr(module, "_MOST_SEEN", 2)
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    ports = [ChangesetPort(code=f"p{n}", name="0").save() for n in range(3)]
    clock.tick()
    made = []
    with changeset(reason="long") as long:
        for n in range(9):
            clock.tick()
            ports[0].update(set__name=f"long {n}")
            with changeset(reason="short") as short:
                ports[1].update(set__name=f"short {n}")
                ports[2].update(set__name=f"short {n}")
            made.append(short)
            if n % 3 == 2:
                ports[0].update(set__name=f"more {n}")
    assert changesets(since=at(2)) == [long, *made]
    assert changesets(since=at(2), newest_first=True) == [long, *made[::-1]]
    assert changesets(reason="short", touching=ports[2]) == made


def test_an_id(told: list[Any]) -> None:
    """As an ObjectId or its text; anything else says so."""
    for one in told:
        assert changesets(one.id) == [one]
        assert changesets(str(one.id))[0] == one
        assert len(changesets(one.id)) == 1
    with pytest.raises(ValueError, match="no id of a changeset"):
        changesets("first")


def test_mistakes_are_told_at_once(clock: Clock) -> None:
    """At the call, not where the sequence is used."""

    class ChangesetStranger(mongoengine.Document):
        name = fields.StringField()

    naive = datetime.datetime(2024, 1, 1)  # noqa: DTZ001 - that is the mistake
    for wrong in ({"since": naive}, {"until": naive}):
        with pytest.raises(ValueError, match="naive"):
            changesets(**wrong)
    for stranger in (ChangesetStranger, ChangesetStranger()):
        with pytest.raises(NotTrackedError):
            changesets(touching=stranger)


# -- what a changeset says ------------------------------------------------------------------------------------------------


def test_who_why_when_and_what(told: list[Any]) -> None:
    """By the block and by the search alike; of its first version where its versions differ."""
    one, two, three = told
    for found in (one, changesets(one.id)[0], changesets()[0], one.versions()[0].changeset):
        assert (found.user, found.remote_addr, found.reason) == (UserRef("ann", "ann"), "10.0.0.1", "first")
        assert (found.extra, found.request) == ({"ticket": 1}, None)
        assert (found.at, found.last_at) == (at(0), at(2))
        assert found.classes == [ChangesetPort]
        assert found.counts == {ChangesetPort: 6}
        assert found.dropped == []
    assert (two.at, two.last_at, two.extra) == (at(1), at(1), {"ticket": 1})
    assert (three.reason, three.user) == ("first", UserRef(7, "ann", "auth.user"))
    assert three.counts == {ChangesetFar: 3, ChangesetPort: 3, ChangesetTug: 3}


def test_what_changed_in_it(told: list[Any]) -> None:
    """Its versions by class, three documents each, and over two databases."""
    found = changesets(touching=ChangesetFar)[0].by_class()
    assert {known: [v.operation.value for v in versions] for known, versions in found.items()} == {
        ChangesetTug: ["create"] * 3,
        ChangesetFar: ["create"] * 3,
        ChangesetPort: ["update"] * 3,
    }
    assert [v["name"] for v in found[ChangesetFar]] == ["far 0", "far 1", "far 2"]
    assert [v.changes[0].new for v in found[ChangesetPort]] == ["last"] * 3
    assert sum(map(len, found.values())) == len(told[2].versions()) == 9


def test_one_that_wrote_nothing_says_nothing(clock: Clock) -> None:
    """Neither who nor when is known of it: both are its versions'."""
    with changeset(user="ann") as c:
        pass
    assert (c.user, c.reason, c.at, c.last_at, c.classes, c.extra) == (None, None, None, None, [], {})
    assert (c.versions(), c.by_class()) == ([], {})


def test_a_request_is_told(clock: Clock) -> None:
    """As its versions keep it: found again by the user of it, among three."""
    for n in range(3):
        with context.open_changeset(user=n, request=RequestRef(f"id-{n}", "POST", "/ports/")):
            ChangesetPort(code=str(n)).save()
    found = changesets(user=1)
    assert [c.request for c in found] == [RequestRef("id-1", "POST", "/ports/")]


def test_a_class_that_is_gone_is_given_by_its_name(clock: Clock, mongodb: Database) -> None:
    """Its versions stay where they are, and readable."""
    with changeset() as c:
        for n in range(3):
            ChangesetTug(name=f"tug {n}", power=n).save()
            ChangesetPort(code=str(n)).save()
    rows = mongodb["document_history"]
    rows.update_many(
        {"document_class": "ChangesetShip.ChangesetTug"}, {"$set": {"document_class": "ChangesetShip.Lost"}}
    )
    assert c.counts == {ChangesetPort: 3, "ChangesetShip.Lost": 3}
    assert [v.state["power"] for v in c.by_class()["ChangesetShip.Lost"]] == [0, 1, 2]


def test_drops_belong_to_what_a_changeset_says(clock: Clock) -> None:
    """A drop has no version; the changeset is found by it and names its class."""
    for n in range(3):
        ChangesetPort(code=str(n)).save()
    clock.tick()
    with changeset(user="ann", reason="tidy") as c:
        ChangesetPort.drop_collection()
    for found in (c, changesets(reason="tidy")[0], changesets(touching=ChangesetPort, newest_first=True)[0]):
        assert found == c
        assert (found.user, found.reason, found.at) == (UserRef("ann", "ann"), "tidy", at(1))
        assert found.counts == {ChangesetPort: 0}
        assert len(found.dropped) == 1


# -- the way back -----------------------------------------------------------------------------------------------------------


def test_taking_one_back_leaves_the_others(told: list[Any]) -> None:
    """Found by a condition, taken back as a whole: documents of other changesets stay as they are."""
    second = changesets(reason="second")[0]
    made = second.take_back()
    assert sorted(v.operation.value for v in made) == ["delete"] * 3
    assert sorted(ship.name for ship in ChangesetShip.objects) == ["tug 0", "tug 1", "tug 2"]
    assert [port.name for port in ChangesetPort.objects] == ["last"] * 3
    assert changesets()[-1] == made[0].changeset


def test_what_was_changed_again_stands_in_the_way(told: list[Any]) -> None:
    """All three documents that the later changeset wrote are named, and nothing is written."""
    with pytest.raises(ConflictError) as caught:
        changesets(user="ann")[0].take_back()
    assert len(caught.value.conflicts) == 3
    assert [port.name for port in ChangesetPort.objects] == ["last"] * 3


# -- what it costs ----------------------------------------------------------------------------------------------------------


def test_facts_of_many_are_read_at_once_and_hold_no_states(mongodb_uri: str) -> None:
    """A list of a hundred changesets with who, why, when and classes is a handful of queries; no row comes whole."""
    commands = Commands()
    mongoengine.disconnect()
    name = f"test_{ObjectId()}"
    mongoengine.connect(
        name, host=mongodb_uri, event_listeners=[commands], uuidRepresentation="standard", tz_aware=True
    )
    try:
        with configured(), tracking(ChangesetPort):
            for n in range(100):
                with changeset(user=f"user {n % 3}", reason=f"reason {n}"):
                    for m in range(3):
                        ChangesetPort(code=f"{n} {m}", name="x" * 1000).save()
            commands.sent.clear()
            found = changesets(touching=ChangesetPort, newest_first=True)
            shown = [(c.user, c.reason, c.at, c.last_at, c.classes, c.counts, c.extra) for c in found]
            assert [reason for _user, reason, *_rest in shown] == [f"reason {n}" for n in range(99, -1, -1)]
            assert {counts[ChangesetPort] for *_rest, counts, _extra in shown} == {3}
            names = [event.command_name for event in commands.sent]
            assert names.count("aggregate") == 2
            assert len(names) < 12
            marks = [event.command for event in commands.sent if "find" in event.command]
            assert all(
                set(command.get("projection", {})) <= {"at", "changeset"}
                for command in marks
                if "at" in command["filter"]
            )
            commands.sent.clear()
            assert changesets(touching=ChangesetPort)[0].reason == "reason 0"
            assert not any("patch" in str(event.command) for event in commands.sent)
    finally:
        mongoengine.get_db().client.drop_database(name)
        mongoengine.disconnect()


def test_a_class_that_is_tracked_no_more_has_its_changesets_still(clock: Clock) -> None:
    """They are found by everything but the class, as long as another class leads to their store."""
    track(ChangesetBrief)
    with changeset(user="ann") as c:
        for n in range(3):
            ChangesetBrief(name=str(n)).save()
    untrack(ChangesetBrief)
    assert changesets(user="ann") == [c]
    assert c.counts == {ChangesetBrief: 3}
    with pytest.raises(NotTrackedError):
        changesets(touching=ChangesetBrief)
    with pytest.raises(NotTrackedError):
        history_of(ChangesetBrief)


def test_mongomock_has_changesets_too() -> None:
    """The same answers, for users' own tests."""
    mongoengine.connect(
        "mocked", mongo_client_class=mongomock.MongoClient, uuidRepresentation="standard", tz_aware=True
    )
    try:
        with configured(), tracking(ChangesetPort):
            made = []
            for n in range(3):
                with changeset(user=f"user {n}", reason="why") as c:
                    ChangesetPort(code=str(n)).save()
                made.append(c)
            assert changesets(reason="why") == made
            assert changesets(user="user 1", touching=ChangesetPort) == [made[1]]
            assert [c.counts for c in changesets(newest_first=True)] == [{ChangesetPort: 1}] * 3
            assert [c.user.label for c in changesets()] == ["user 0", "user 1", "user 2"]
    finally:
        mongoengine.disconnect()
