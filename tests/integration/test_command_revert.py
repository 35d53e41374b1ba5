"""`history_revert` on a real replica set: back to a moment, without a user's or a changeset's work, and back again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from django.core.management import CommandError, call_command
from mongoengine import fields
from mongoengine.context_managers import switch_db

from django_mongo_history import changeset, changesets, history_of, runtime, untrack
from django_mongo_history.management.commands.history_revert import ConflictsLeftError
from django_mongo_history.signals import document_reverted
from tests.commanding import WriteListener, iso, now, revert, run, stored, version_count
from tests.judge import configured, tracking


class Ship(mongoengine.Document):
    """Has something unique, and fields of which history keeps less."""

    name = fields.StringField(primary_key=True)
    berth = fields.IntField(unique=True, sparse=True)
    captain = fields.StringField()
    code = fields.StringField()
    visits = fields.IntField()
    cargo = fields.ListField(fields.StringField())

    meta = {"collection": "ships", "allow_inheritance": True}


class Tug(Ship):
    """Inherits, and hides something of its own."""

    engine = fields.StringField()


class Deck(mongoengine.EmbeddedDocument):
    """Lies inside of another document."""

    name = fields.StringField()


class Skipper(mongoengine.Document):
    """Strict: what the class does not know cannot be loaded."""

    name = fields.StringField()
    age = fields.DynamicField()
    ship = fields.EmbeddedDocumentField(Deck)

    meta = {"collection": "skippers"}


SHIP = f"{Ship.__module__}.Ship"
SKIPPER = f"{Skipper.__module__}.Skipper"


@pytest.fixture(autouse=True)
def harbour(mongodb: Any) -> Iterator[Any]:
    """An empty database in which ships and skippers are tracked."""
    with configured(), tracking(Ship, hidden=["code"], untracked=["visits"]), tracking(Skipper):
        Ship.ensure_indexes()
        yield mongodb


def texts_of(said: Any) -> str:
    return said.out + said.err


# -- back to a moment ----------------------------------------------------------------------------------------------


def test_everything_is_as_it_was_at_the_moment() -> None:
    """Deleted documents come back with their `_id`, later ones go, changed ones change back: byte for byte."""
    Ship(name="a", berth=1, captain="x", cargo=["coal"]).save()
    Ship(name="b", captain="y").save()
    Tug(name="t", engine="steam").save()
    skipper = Skipper(name="p", age=40).save()
    then, moment = stored(), now()
    Ship.objects(name="a").update(unset__captain=True, push__cargo="iron", set__berth=9)
    Ship.objects(name="b").delete()
    Ship(name="c", berth=1).save()
    Tug.objects(name="t").update(engine="diesel")
    Skipper.objects(id=skipper.id).update(age=40.0)
    said = revert("--since", iso(moment))
    assert said.error is None
    assert stored() == then
    assert version_count(changeset=ObjectId(said.changeset)) == 5


def test_the_counts_are_said_by_class_and_kind() -> None:
    """People see what a revert is about to do."""
    Ship(name="a").save()
    Ship(name="b").save()
    moment = now()
    Ship.objects(name="a").delete()
    Ship.objects(name="b").update(captain="z")
    Ship(name="c").save()
    Skipper(name="p").save()
    said = revert("--since", iso(moment))
    assert f"{SHIP}: 1 to be removed, 1 to be updated, 1 to be restored" in said.lines
    assert f"{SKIPPER}: 1 to be removed" in said.lines
    assert "4 documents written as changeset" in said.out


def test_reverting_the_revert_gives_the_exact_bytes() -> None:
    """A revert is a changeset like any other: a moment before it brings all of it back, key order included."""
    Ship(name="a", berth=1, captain="x", cargo=["coal"]).save()
    Ship(name="b", berth=2).save()
    moment = now()
    Ship.objects(name="a").update(unset__captain=True)
    Ship.objects(name="a").update(set__captain="x", set__berth=3)
    Ship.objects(name="b").delete()
    Tug(name="c", engine="steam").save()
    last, before_revert = stored(), now()
    first = revert("--since", iso(moment))
    reverted, after_first = stored(), now()
    assert revert("--since", iso(before_revert)).error is None
    assert stored() == last
    assert revert("--since", iso(after_first)).error is None
    assert stored() == reverted
    assert first.error is None


def test_taking_back_the_reverts_changeset_gives_the_exact_bytes() -> None:
    """The id that the command prints is enough to undo it."""
    Ship(name="a", berth=1, captain="x").save()
    Ship(name="b").save()
    moment = now()
    Ship.objects(name="a").update(set__captain="y", unset__berth=True)
    Ship.objects(name="b").delete()
    Ship(name="c").save()
    last = stored()
    said = revert("--since", iso(moment))
    assert stored() != last
    assert revert("--changeset", said.changeset).error is None
    assert stored() == last


def test_documents_and_classes_can_be_named() -> None:
    """`--document` and `--id` limit what is touched."""
    Ship(name="a", captain="x").save()
    Ship(name="b", captain="x").save()
    skipper = Skipper(name="p").save()
    moment = now()
    Ship.objects.update(captain="y")
    Skipper.objects.update(name="q")
    revert("--since", iso(moment), "--document", SHIP, "--id", "a")
    assert [ship.captain for ship in Ship.objects.order_by("name")] == ["x", "y"]
    revert("--since", iso(moment), "--document", SKIPPER, "--id", str(skipper.id))
    assert Skipper.objects.get().name == "p"
    revert("--since", iso(moment), "--document", SKIPPER, "--document", SHIP)
    assert [ship.captain for ship in Ship.objects.order_by("name")] == ["x", "x"]


def test_a_subclass_can_be_named() -> None:
    """Its documents only, of those in the collection."""
    Ship(name="a", captain="x").save()
    Tug(name="t", captain="x").save()
    moment = now()
    Ship.objects.update(captain="y")
    revert("--since", iso(moment), "--document", f"{Tug.__module__}.Tug")
    assert {ship.name: ship.captain for ship in Ship.objects} == {"a": "y", "t": "x"}


def test_another_connection_can_be_named(harbour: Any) -> None:
    """`--using` reverts the documents that lie there, and no others."""
    address = "{}:{}".format(*harbour.client.address)
    uri = f"mongodb://{address}/?directConnection=true&uuidRepresentation=standard"
    mongoengine.connect(f"{harbour.name}_2", alias="second", host=uri, tz_aware=True)
    with switch_db(Skipper, "second") as elsewhere:
        elsewhere(name="p").save()
        with changeset() as wrong:
            elsewhere.objects.update(name="q")
    Skipper(name="p").save()
    moment = now()
    Skipper.objects.update(name="q")
    with switch_db(Skipper, "second") as elsewhere:
        elsewhere.objects.update(name="r")
    assert revert("--since", iso(moment), "--using", "second", "--document", SKIPPER).error is None
    assert mongoengine.get_db("second")["skippers"].find_one()["name"] == "q"
    assert revert("--changeset", wrong.id, "--using", "second", "--force").error is None
    database = mongoengine.get_db("second")
    assert (Skipper.objects.get().name, database["skippers"].find_one()["name"]) == ("q", "p")
    database.client.drop_database(database.name)


def test_a_moment_before_all_history_is_fine() -> None:
    """What was created since is removed; what is older than its history goes back to its baseline."""
    mongoengine.get_db()["skippers"].insert_one({"_id": ObjectId(), "name": "old"})
    then = stored("skippers")
    Skipper.objects(name="old").update(name="older")
    Skipper(name="new").save()
    assert revert("--since", "2001-01-01").error is None
    assert stored("skippers") == then


def test_nothing_to_do_is_said_and_written_nowhere() -> None:
    """A revert to the present has no versions and no changeset."""
    Ship(name="a").save()
    count = version_count()
    said = revert("--since", iso(now()))
    assert said.error is None
    assert "Nothing to do." in said.out
    assert version_count() == count


def test_hidden_and_untracked_paths_stay_as_they_are() -> None:
    """A revert writes what history knows, and nothing else."""
    Ship(name="a", captain="x", code="first", visits=1).save()
    moment = now()
    Ship.objects(name="a").update(captain="y", code="second", visits=2)
    assert revert("--since", iso(moment)).error is None
    ship = Ship.objects.get()
    assert (ship.captain, ship.code, ship.visits) == ("x", "second", 2)


def test_what_only_a_subclass_hides_stays_as_it_is() -> None:
    """A document's rules are those of its own class, also where its base is reverted."""
    with tracking(Tug, hidden=["engine"]):
        Tug(name="t", captain="x", engine="steam").save()
        moment = now()
        Tug.objects.update(captain="y", engine="diesel")
        assert revert("--since", iso(moment)).error is None
        tug = Tug.objects.get()
        assert (tug.captain, tug.engine) == ("x", "diesel")
        assert "diesel" not in str(list(history_of(Ship).states_as_of(now())))
        assert "diesel" not in str([version.changes for version in history_of(Ship, "t")])


def test_the_new_versions_say_who_and_why() -> None:
    """Nobody, for the reason given, by this command; outside of any block the changeset is the command's own."""
    Ship(name="a", captain="x").save()
    moment = now()
    Ship.objects.update(captain="y")
    said = revert("--since", iso(moment), "--reason", "mistake")
    version = history_of(Ship, "a")[-1]
    assert (version.user, version.reason, version.extra) == (None, "mistake", {"command": "history_revert"})
    assert str(version.changeset) == said.changeset
    assert version.revert_of == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def test_a_changeset_that_is_open_is_joined() -> None:
    """Who calls the command inside of a changeset has it all in that one."""
    Ship(name="a", captain="x").save()
    moment = now()
    Ship.objects.update(captain="y")
    with changeset(user="anna", reason="her own", ticket=7) as outer:
        revert("--since", iso(moment))
    version = history_of(Ship, "a")[-1]
    assert version.changeset == outer
    assert (str(version.user), version.reason) == ("anna", "her own")
    assert version.extra == {"ticket": 7, "command": "history_revert"}


def test_the_signal_fires_for_each_document() -> None:
    """`document_reverted` tells class, key, version and operation."""
    Ship(name="a").save()
    Ship(name="b", captain="x").save()
    moment = now()
    Ship.objects(name="a").delete()
    Ship.objects(name="b").update(captain="y")
    Tug(name="c").save()
    heard: list[Any] = []

    def receiver(sender: type, **told: Any) -> None:
        heard.append((sender, told["document_id"], told["operation"], told["version_id"]))

    document_reverted.connect(receiver)
    try:
        revert("--since", iso(moment))
    finally:
        document_reverted.disconnect(receiver)
    assert [one[:3] for one in heard] == [(Tug, "c", "delete"), (Ship, "b", "update"), (Ship, "a", "create")]
    assert all(history_of(*one[:2])[-1].id == one[3] for one in heard)


# -- without what somebody did -------------------------------------------------------------------------------------


def test_what_one_user_did_is_taken_back() -> None:
    """Others' later work on other paths stays."""
    with changeset(user="anna"):
        Ship(name="a", captain="x", berth=1).save()
    moment = now()
    with changeset(user="bilal"):
        Ship.objects.update(captain="pirate")
        Ship(name="b").save()
    with changeset(user="anna"):
        Ship.objects(name="a").update(berth=5)
    said = revert("--since", iso(moment), "--user", "bilal")
    assert said.error is None
    assert "Taking back 2 versions of bilal." in said.lines
    assert [(ship.name, ship.captain, ship.berth) for ship in Ship.objects] == [("a", "x", 5)]


def test_only_what_the_user_did_since_the_moment() -> None:
    """Versions at or before the moment stay."""
    with changeset(user="anna"):
        Ship(name="a", captain="x").save()
        Ship.objects.update(captain="y")
    moment = now()
    with changeset(user="anna"):
        Ship.objects.update(berth=3)
    revert("--since", iso(moment), "--user", "anna")
    ship = Ship.objects.get()
    assert (ship.captain, ship.berth) == ("y", None)


def test_users_are_found_by_key_of_any_type() -> None:
    """`--user 7` is the user whose key is the number 7, as Django's keys are."""
    moment = now()
    with changeset(user=7):
        Ship(name="a").save()
    with changeset(user=8):
        Ship(name="b").save()
    revert("--since", iso(moment), "--user", "7")
    assert [ship.name for ship in Ship.objects] == ["b"]


def test_a_changeset_is_taken_back() -> None:
    """With everything in it, of all classes."""
    Ship(name="a", captain="x").save()
    with changeset() as wrong:
        Ship.objects.update(captain="y")
        Ship(name="b").save()
        Skipper(name="p").save()
    Ship.objects(name="a").update(berth=4)
    said = revert("--changeset", wrong.id)
    assert said.error is None
    assert [(ship.name, ship.captain, ship.berth) for ship in Ship.objects] == [("a", "x", 4)]
    assert Skipper.objects.count() == 0
    assert changesets(said.changeset)[0].versions()[0].revert_of == wrong.id


def test_what_others_changed_again_since_is_a_conflict() -> None:
    """It is listed and left, the rest is done, and the exit code is 1."""
    with changeset(user="anna"):
        Ship(name="a", captain="x").save()
        Ship(name="b", captain="x").save()
    moment = now()
    with changeset(user="bilal"):
        Ship.objects.update(captain="y")
    with changeset(user="chloe"):
        Ship.objects(name="a").update(captain="z")
    said = revert("--since", iso(moment), "--user", "bilal")
    assert isinstance(said.error, ConflictsLeftError)
    assert said.error.returncode == 1
    assert [one.key.document_id for one in said.error.conflicts] == ["a"]
    assert f"conflict: {SHIP} 'a': version" in said.err
    assert "(--force goes past it)" in said.err
    assert {ship.name: ship.captain for ship in Ship.objects} == {"a": "z", "b": "x"}
    assert revert("--since", iso(moment), "--user", "bilal", "--force").error is None


def test_versions_of_a_class_that_is_no_longer_tracked_are_a_conflict() -> None:
    """What would have no version is not written."""
    with changeset() as one:
        Skipper(name="p").save()
        Ship(name="a").save()
    untrack(Skipper)
    try:
        said = revert("--changeset", one.id)
    finally:
        runtime.configure()
        from django_mongo_history import track

        track(Skipper)
    assert isinstance(said.error, ConflictsLeftError)
    assert "not tracked any more" in said.err
    assert Skipper._get_collection().count_documents({}) == 1
    assert Ship.objects.count() == 0


# -- what must be unique -------------------------------------------------------------------------------------------


def berths() -> dict[str, int | None]:
    return {ship.name: ship.berth for ship in Ship.objects.order_by("name")}


def test_two_documents_that_swapped_what_is_unique_swap_back() -> None:
    """A cycle is broken inside of one transaction."""
    Ship(name="a", berth=1).save()
    Ship(name="b", berth=2).save()
    Ship(name="other", captain="x").save()
    then, moment = stored(), now()
    Ship.objects(name="a").update(unset__berth=True)
    Ship.objects(name="b").update(berth=1)
    Ship.objects(name="a").update(berth=2)
    Ship.objects(name="other").update(captain="y")
    said = revert("--since", iso(moment))
    assert said.error is None
    assert stored() == then
    assert [str(version.operation) for version in history_of(Ship, "a")][-1] == "update"


def test_a_chain_of_unique_values_is_followed() -> None:
    """a took b's place, b took c's: back in the one order that works."""
    for place, name in enumerate("abcdefgh"):
        Ship(name=name, berth=place).save()
    then, moment = stored(), now()
    for place, name in enumerate("abcdefgh"):
        Ship.objects(name=name).update(berth=100 + place)
    for place, name in enumerate("abcdefgh"):
        Ship.objects(name=name).update(berth=(place + 1))
    assert revert("--since", iso(moment)).error is None
    assert stored() == then


def test_a_clash_with_a_stranger_is_a_conflict() -> None:
    """A document that is not reverted keeps what it has; all others are done."""
    Ship(name="a", berth=1).save()
    Ship(name="b", berth=2, captain="x").save()
    moment = now()
    Ship.objects(name="a").update(berth=7)
    Ship.objects(name="b").update(captain="y")
    Ship._get_collection()._plain().insert_one({"_id": "stranger", "berth": 1, "_cls": "Elsewhere"})
    said = revert("--since", iso(moment))
    assert isinstance(said.error, ConflictsLeftError)
    assert [one.key.document_id for one in said.error.conflicts] == ["a"]
    assert "another document holds what must be unique" in said.err
    assert Ship.objects.get(name="b").captain == "x"
    assert Ship.objects.get(name="a").berth == 7


def test_a_cycle_beside_a_stranger_is_solved() -> None:
    """One conflict does not hold up documents that only clash with each other."""
    Ship(name="a", berth=1).save()
    Ship(name="b", berth=2).save()
    Ship(name="c", berth=3).save()
    moment = now()
    Ship.objects.update(unset__berth=True)
    Ship.objects(name="a").update(berth=2)
    Ship.objects(name="b").update(berth=1)
    Ship._get_collection()._plain().insert_one({"_id": "stranger", "berth": 3, "_cls": "Elsewhere"})
    said = revert("--since", iso(moment))
    assert isinstance(said.error, ConflictsLeftError)
    assert berths() == {"a": 1, "b": 2, "c": None}


def test_without_transactions_a_chain_has_all_its_versions(standalone_mongodb: Any) -> None:
    """What is written before a clash is recorded like everything else."""
    Ship.ensure_indexes()
    for place, name in enumerate("abcdefgh"):
        Ship(name=name, berth=place).save()
    then, moment = stored(), now()
    for name, place in zip("hgfedcba", range(8, 0, -1), strict=True):
        Ship.objects(name=name).update(berth=place)
    said = revert("--since", iso(moment))
    assert said.error is None
    assert stored() == then
    assert [[str(one.operation) for one in history_of(Ship, name)] for name in "abcdefgh"] == [
        ["create", "update", "update"]
    ] * 8


def test_without_transactions_a_cycle_is_a_conflict(standalone_mongodb: Any) -> None:
    """Nothing is taken out that might not get in again."""
    Ship.ensure_indexes()
    Ship(name="a", berth=1).save()
    Ship(name="b", berth=2).save()
    moment = now()
    Ship.objects(name="a").update(unset__berth=True)
    Ship.objects(name="b").update(berth=1)
    Ship.objects(name="a").update(berth=2)
    said = revert("--since", iso(moment))
    assert isinstance(said.error, ConflictsLeftError)
    assert len(said.error.conflicts) == 2
    assert "no transactions" in said.err
    assert berths() == {"a": 2, "b": 1}


def test_a_capped_collection_can_be_reverted(harbour: Any) -> None:
    """The server refuses transactions on it; the versions follow the writes then."""
    harbour.create_collection("skippers", capped=True, size=100_000)
    skipper = Skipper(name="p").save()
    moment = now()
    Skipper.objects(id=skipper.id).update(name="q")
    runtime.current().environment.refused.clear()
    assert revert("--since", iso(moment)).error is None
    assert [version["name"] for version in history_of(skipper)] == ["p", "q", "p"]


def test_writers_beside_a_revert_lose_nothing() -> None:
    """Whatever comes between: no gap in any history, and the last write is what the database holds."""
    for number in range(30):
        Ship(name=f"s{number:02}", captain="x").save()
    moment = now()
    Ship.objects.update(captain="y")
    stop = threading.Event()

    def write() -> int:
        count = 0
        while not stop.is_set():
            count += Ship.objects(name=f"s{count % 30:02}").update(inc__visits=1, push__cargo=str(count)) or 1
            time.sleep(0.001)
        return count

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write) for _ in range(2)]
        time.sleep(0.2)
        said = revert("--since", iso(moment))
        stop.set()
    assert all(writer.result() for writer in writers)
    assert said.error is None
    for number in range(30):
        versions = list(history_of(Ship, f"s{number:02}"))
        assert "external" not in [str(version.operation) for version in versions]
        assert versions[-1].state == documents_state(f"s{number:02}")


def documents_state(name: str) -> dict[str, Any]:
    """The tracked part of a ship as the database holds it."""
    found = mongoengine.get_db()["ships"].find_one({"_id": name})
    return {key: value for key, value in found.items() if key not in ("code", "visits")}


# -- what cannot be loaded -----------------------------------------------------------------------------------------


def test_a_class_that_is_not_known_any_more_is_a_conflict_until_forced() -> None:
    """A deleted document of a class that is gone from the code comes back with --force only."""
    raw = {"_id": "z", "_cls": "Ship.Zeppelin", "captain": "ferdinand"}
    mongoengine.get_db()["ships"].insert_one(raw)
    Ship(name="a", captain="x").save()
    then, moment = stored(), now()
    Ship._get_collection().update_one({"_id": "z"}, {"$set": {"captain": "hugo"}})
    Ship.objects(name="a").update(captain="y")
    said = revert("--since", iso(moment))
    assert isinstance(said.error, ConflictsLeftError)
    assert "'Ship.Zeppelin' is not known any more" in said.err
    assert Ship.objects.get(name="a").captain == "x"
    assert revert("--since", iso(moment), "--force").error is None
    assert stored() == then


def test_a_vanished_field_is_a_conflict_until_forced() -> None:
    """A state with a field that today's strict class does not know is not written unasked."""
    skippers = mongoengine.get_db()["skippers"]
    key = ObjectId()
    skippers.insert_one({"_id": key, "name": "p", "licence": "L1"})
    Skipper._get_collection().update_one({"_id": key}, {"$set": {"name": "q"}})
    then, moment = stored("skippers"), now()
    Skipper._get_collection().update_one({"_id": key}, {"$unset": {"licence": ""}})
    said = revert("--since", iso(moment))
    assert isinstance(said.error, ConflictsLeftError)
    assert "cannot load it" in said.err
    assert "licence" not in skippers.find_one()
    assert revert("--since", iso(moment), "--force").error is None
    assert stored("skippers") == then


def test_a_value_of_a_type_that_the_field_never_had_is_a_conflict() -> None:
    """What MongoEngine cannot load for any reason ends in the list, not in a traceback."""
    skippers = mongoengine.get_db()["skippers"]
    key = skippers.insert_one({"name": "p", "ship": "no document"}).inserted_id
    then, moment = stored("skippers"), now()
    Skipper._get_collection().update_one({"_id": key}, {"$set": {"ship": {"name": "x"}}})
    said = revert("--since", iso(moment))
    assert isinstance(said.error, ConflictsLeftError)
    assert "cannot load it" in said.err
    assert revert("--since", iso(moment), "--force").error is None
    assert stored("skippers") == then


# -- asking and trying ---------------------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(mongodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lists each document and what would happen to it; no command that writes is sent, not even for indexes."""
    Ship(name="a", captain="x").save()
    Ship(name="b").save()
    moment = now()
    Ship.objects(name="a").update(captain="y")
    Ship.objects(name="b").delete()
    Ship(name="c").save()
    everything = stored("ships", "document_history")
    listener = _connect_again(mongodb)
    said = run("history_revert", "--since", iso(moment), "--dry-run")
    assert said.error is None
    assert listener.writes == []
    assert stored("ships", "document_history") == everything
    assert [line for line in said.lines if line.startswith("would")] == [
        f"would remove {SHIP} 'c'",
        f"would update {SHIP} 'a'",
        f"would restore {SHIP} 'b'",
    ]


def test_a_dry_run_where_nothing_was_ever_recorded_makes_nothing(mongodb: Any) -> None:
    """Reading makes neither the history collection nor its indexes."""
    listener = _connect_again(mongodb)
    run("history_revert", "--since", "2020-01-01", "--dry-run")
    run("history_log")
    run("history_indexes", "--dry-run")
    run("history_baseline", "--dry-run")
    assert listener.writes == []
    assert "document_history" not in mongoengine.get_db().list_collection_names()


def _connect_again(database: Any) -> WriteListener:
    """The same database through a client that is listened to, from when MongoEngine has made its own indexes."""
    listener = WriteListener()
    address = "{}:{}".format(*database.client.address)
    mongoengine.disconnect()
    mongoengine.connect(
        database.name,
        host=f"mongodb://{address}/?directConnection=true&uuidRepresentation=standard",
        event_listeners=[listener],
        tz_aware=True,
    )
    assert (Ship.objects.count(), Skipper.objects.count()) != (None, None)
    listener.writes.clear()
    return listener


class Terminal:
    """A stdin that looks like a terminal and says one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line


@pytest.mark.parametrize(("answer", "captain"), [("yes\n", "x"), ("no\n", "y"), ("\n", "y"), ("", "y")])
def test_it_asks_before_it_writes(
    answer: str, captain: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anything but a yes ends it with nothing written."""
    Ship(name="a", captain="x").save()
    moment = now()
    Ship.objects.update(captain="y")
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    said = run("history_revert", "--since", iso(moment))
    assert Ship.objects.get().captain == captain
    assert (said.error is None) == (captain == "x")
    assert "1 to be updated" in said.out


def test_without_a_terminal_it_wants_to_be_told() -> None:
    """A script that forgot --no-input must not hang, and must not write."""
    Ship(name="a", captain="x").save()
    said = run("history_revert", "--since", "2020-01-01")
    assert "--no-input" in str(said.error)
    assert Ship.objects.count() == 1


def test_the_exit_code_tells_of_conflicts(capfd: pytest.CaptureFixture[str]) -> None:
    """On a command line: 1 with what was left and why, 0 when all is done."""
    from django.core.management import execute_from_command_line

    Ship(name="a", berth=1).save()
    moment = now()
    Ship.objects(name="a").update(berth=7)
    Ship._get_collection()._plain().insert_one({"_id": "stranger", "berth": 1, "_cls": "Elsewhere"})
    command = ["manage.py", "history_revert", "--since", iso(moment), "--no-input", "--skip-checks"]
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(command)
    assert ended.value.code == 1
    assert "conflict: " in capfd.readouterr().err
    Ship._get_collection()._plain().delete_one({"_id": "stranger"})
    execute_from_command_line(command)
    assert Ship.objects.get().berth == 1


def test_callers_get_the_conflicts_as_an_exception() -> None:
    """`call_command` raises a CommandError with the conflicts, the count and the changeset."""
    Ship(name="a", berth=1).save()
    Ship(name="b", captain="x").save()
    moment = now()
    Ship.objects(name="a").update(berth=7)
    Ship.objects(name="b").update(captain="y")
    Ship._get_collection()._plain().insert_one({"_id": "stranger", "berth": 1, "_cls": "Elsewhere"})
    with pytest.raises(CommandError) as raised:
        call_command("history_revert", since=iso(moment), interactive=False)
    error: Any = raised.value
    assert (len(error.conflicts), error.count) == (1, 1)
    assert history_of(Ship, "b")[-1].changeset == error.changeset
