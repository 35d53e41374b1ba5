"""
Histories are exact where it is hard: clocks, mixed writers, rules and names that change between deploys, old classes.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mongoengine
import pytest
from django.test import override_settings
from mongoengine import fields
from mongoengine.context_managers import switch_collection
from pymongo.database import Database

from django_mongo_history import changeset, history_of, runtime, track, untrack
from django_mongo_history.core.model import HIDDEN, HINT_BIT
from django_mongo_history.errors import ConflictError
from tests.judge import configured, tracking

START = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)
LABEL = "tests.integration.test_exactness"


class PayCard(mongoengine.EmbeddedDocument):
    name = fields.StringField()
    number = fields.StringField(db_field="no")


class WalletBase(mongoengine.Document):
    key = fields.IntField(primary_key=True)
    name = fields.StringField(db_field="nm")
    password = fields.StringField(db_field="pw")
    hits = fields.IntField()
    cards = fields.EmbeddedDocumentListField(PayCard)
    meta = {"abstract": True}


class Wallet(WalletBase):
    meta = {"collection": "wallet"}


class OtherWallet(WalletBase):
    """Another class over the same documents, so that its writers can have another delivery."""

    meta = {"collection": "wallet"}


class NarrowWallet(mongoengine.Document):
    """The same documents after a deploy that dropped most fields."""

    key = fields.IntField(primary_key=True)
    name = fields.IntField(db_field="nm")
    meta = {"collection": "wallet"}


@pytest.fixture(params=["atomic", "sync", "standalone"])
def delivery(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database, and the way in which versions get into it."""
    request.getfixturevalue("standalone_mongodb" if request.param == "standalone" else "mongodb")
    with configured(DELIVERY="sync" if request.param == "sync" else "auto"):
        yield request.param


@pytest.fixture
def untracked_at_the_end() -> Iterator[None]:
    yield
    untrack(Wallet)


def past_the_tracker() -> Any:
    return mongoengine.get_db()["wallet"]


def stored(key: int = 1) -> Any:
    found = past_the_tracker().find_one({"_id": key})
    return {name: value for name, value in found.items() if value != []}


def operations(key: int = 1, document_class: type = Wallet) -> list[str]:
    return [str(v.operation) for v in history_of(document_class, key)]


# -- order ------------------------------------------------------------------------------------------------------------

JUMPS = (0, 1, 3600, -7200, 1, 0, 86_400, -86_400, -1, 1, 45, -50, 30)
"""Seconds by which the clock goes on, or back, before each write."""


def test_clocks_that_jump(delivery: str) -> None:
    """Whatever the local clock does, versions stand in the order of the writes and nothing is derived."""
    with tracking(Wallet):
        now = START
        runtime.current().environment.now = lambda: now
        Wallet(key=1, name="0").save()
        for number, seconds in enumerate(JUMPS, start=1):
            now += datetime.timedelta(seconds=seconds)
            Wallet.objects(key=1).update(name=str(number))
        assert [v["name"] for v in history_of(Wallet, 1)] == [str(number) for number in range(len(JUMPS) + 1)]
        assert operations() == ["create"] + ["update"] * len(JUMPS)


def test_clocks_that_jump_over_toggles(delivery: str) -> None:
    """The same where states repeat: the links fit, with no more derived than there was."""
    with tracking(Wallet):
        now = START
        runtime.current().environment.now = lambda: now
        Wallet(key=1, name="A").save()
        for number, seconds in enumerate((5, -3, 40, -20, -20, 1, 0)):
            now += datetime.timedelta(seconds=seconds)
            Wallet.objects(key=1).update(name="AB"[number % 2 - 1])
        assert [v["name"] for v in history_of(Wallet, 1)] == list("ABABABAB")
        assert operations() == ["create"] + ["update"] * 7


def test_toggles_by_mixed_writers(mongodb: Database) -> None:
    """A, B, A, B by an atomic and a synchronous writer in turn: the order is that of the writes."""
    with configured(), tracking(Wallet, delivery="atomic"), tracking(OtherWallet, delivery="sync"):
        Wallet(key=1, name="A").save()
        users = []
        for number in range(40):
            writer = (Wallet, OtherWallet)[number // 3 % 2]
            with changeset(user=number):
                writer.objects(key=1).update(name="BA"[number % 2])
            users.append(number)
        versions = list(history_of(Wallet, 1))
        assert [v["name"] for v in versions] == ["A"] + ["B", "A"] * 20
        assert [v.user.pk for v in versions[1:]] == users


def test_transactions_among_other_writers(mongodb: Database) -> None:
    """Ten writes of one transaction stay together, whatever is written before and after it."""
    with configured(), tracking(Wallet, delivery="atomic"), tracking(OtherWallet, delivery="sync"):
        Wallet(key=1, hits=0).save()
        client = mongoengine.get_connection()
        for _round in range(3):
            OtherWallet.objects(key=1).update(inc__hits=1)
            with client.start_session() as session, session.start_transaction():
                for number in range(10):
                    collection = (Wallet, OtherWallet)[number % 2]._get_collection()
                    collection.update_one({"_id": 1}, {"$inc": {"hits": 1}}, session=session)
            Wallet.objects(key=1).update(inc__hits=1)
        versions = list(history_of(Wallet, 1))
        assert [v["hits"] for v in versions] == list(range(37))
        assert "external" not in operations()


def test_only_the_order_of_transactions_is_strict(mongodb: Database) -> None:
    """A write that nothing held apart from others says so in its `order`; one that took a transaction does not."""
    rows = mongodb["document_history"]
    for mode, marks in (("atomic", [False, False]), ("sync", [True, False])):
        with configured(), tracking(Wallet, delivery=mode):
            Wallet.objects(key=1).update(upsert=True, set__hits=0)
            rows.delete_many({})
            Wallet.objects(key=1).update(set__name=mode)
            Wallet.objects(key=1).update(inc__hits=1)
            found = rows.find().sort("_id", 1)
            assert [bool(row["order"].inc & HINT_BIT) for row in found] == marks


# -- reading while others write ---------------------------------------------------------------------------------------


@contextmanager
def writing(write: Callable[[], Any]) -> Iterator[Callable[[], bool]]:
    """Somebody writes while the block lasts; gives whether they still do."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            write()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    writer = threading.Thread(target=run)
    writer.start()
    try:
        yield writer.is_alive
    finally:
        writer.join()
    assert not failures


def test_a_read_beside_writes_shows_no_false_gap(delivery: str) -> None:
    """Neither of one document, nor of a class, in whatever way versions are delivered."""
    with tracking(Wallet):
        Wallet.objects.insert([Wallet(key=key, hits=0) for key in range(3)])

        def write() -> None:
            for number in range(240):
                Wallet.objects(key=number % 3).update(inc__hits=1)

        reads = 0
        with writing(write) as is_writing:
            while is_writing():
                versions = list(history_of(Wallet, 1))
                assert [str(v.operation) for v in versions] == ["create"] + ["update"] * (len(versions) - 1)
                assert versions[-1]["hits"] == len(versions) - 1
                reads += 1
        assert reads > 3
        assert [v["hits"] for v in history_of(Wallet, 1)] == list(range(81))


def test_a_class_is_read_beside_writes(delivery: str) -> None:
    """Whatever is written meanwhile, every document is as it stood before."""
    with tracking(Wallet):
        Wallet.objects.insert([Wallet(key=key, hits=0) for key in range(3)])
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(milliseconds=2)
        time.sleep(0.005)

        def write() -> None:
            for number in range(150):
                Wallet.objects(key=number % 3).update(inc__hits=1)

        reads = 0
        with writing(write) as is_writing:
            while is_writing():
                assert [found.hits for found in history_of(Wallet).as_of(moment)] == [0, 0, 0]
                assert not list(history_of(Wallet).deleted())
                reads += 1
        assert reads > 3


def test_creates_and_deletes_beside_reads_show_no_false_gap(delivery: str) -> None:
    """A document that comes and goes is there or not, never gone unseen."""
    with tracking(Wallet):
        Wallet(key=1, name="first").save()

        def write() -> None:
            for number in range(60):
                Wallet.objects(key=1).delete()
                Wallet(key=1, name=str(number)).save(force_insert=True)

        with writing(write) as is_writing:
            while is_writing():
                found = operations()
                assert found == (["create", "delete"] * 61)[: len(found)]


# -- rules that change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hidden", "untracked"])
def test_rules_that_come_are_no_conflict(delivery: str, untracked_at_the_end: None, kind: str) -> None:
    """What is hidden or untracked since a deploy keeps its value, whatever older state is written back."""
    track(Wallet)
    Wallet(key=1, name="0", password="p0", hits=0).save()
    Wallet.objects(key=1).update(name="1", password="p1", hits=1)
    track(Wallet, **{kind: ["password", "hits"]})
    Wallet.objects(key=1).update(name="2", password="p2", hits=2)
    h = history_of(Wallet, 1)
    h[0].revert()
    assert stored() == {"_id": 1, "nm": "0", "pw": "p2", "hits": 2}
    h[2].revert()
    assert stored() == {"_id": 1, "nm": "2", "pw": "p2", "hits": 2}
    h[2].previous.revert()
    history_of(Wallet, 1)[-1].take_back()
    assert stored()["nm"] == "2"
    assert "external" not in operations()


@pytest.mark.parametrize("kind", ["hidden", "untracked"])
def test_rules_that_go_are_no_conflict(delivery: str, untracked_at_the_end: None, kind: str) -> None:
    """What was not tracked when a version was made keeps its value when that version is written back."""
    track(Wallet, **{kind: ["password", "hits"]})
    Wallet(key=1, name="0", password="p0", hits=0).save()
    Wallet.objects(key=1).update(name="1", password="p1", hits=1)
    track(Wallet)
    Wallet.objects(key=1).update(name="2", password="p2", hits=2)
    h = history_of(Wallet, 1)
    assert operations() == ["create", "update", "update"]
    assert [change.path for change in h[2].changes] == [("nm",), ("pw",), ("hits",)]
    h[2].take_back()
    assert stored() == {"_id": 1, "nm": "1", "pw": "p1", "hits": 1}
    h[2].revert()
    h[0].revert()
    assert stored() == {"_id": 1, "nm": "0", "pw": "p2", "hits": 2}
    assert "external" not in operations()


def test_rules_that_come_and_go_again(delivery: str, untracked_at_the_end: None) -> None:
    """Each deploy another rule: no false change, whatever the writes between were."""
    rules: list[dict[str, Any]] = [
        {}, {"hidden": ["password"]}, {"untracked": ["hits"]}, {}, {"hidden": ["hits"], "untracked": ["password"]},
        {"hidden": ["cards.number"]}, {},
    ]  # fmt: skip
    Wallet(key=1, name="older", password="p", hits=0, cards=[PayCard(name="a", number="1")]).save()
    for number, rule in enumerate(rules):
        track(Wallet, **rule)
        Wallet.objects(key=1).update(name=f"{number}", password=f"p{number}", hits=number)
        Wallet.objects(key=1).update(push__cards=PayCard(name="b", number=str(number)))
    h = history_of(Wallet, 1)
    assert operations() == ["baseline"] + ["update"] * 14
    assert [v["name"] for v in h] == ["older", *(f"{number // 2}" for number in range(14))]


# -- hidden values in lists -------------------------------------------------------------------------------------------


def card(name: str, number: str) -> dict[str, str]:
    return {"name": name, "no": number}


def test_hidden_values_go_with_their_elements(delivery: str) -> None:
    """A list in another order hides no change, stores no value, and goes back with each value at its own element."""
    with tracking(Wallet, hidden=["cards.number"]):
        names = {"a": "111", "b": "222", "c": "333"}
        Wallet(key=1, cards=[PayCard(name=name, number=number) for name, number in names.items()]).save()
        turned = [card(name, names[name]) for name in "cab"]
        past = past_the_tracker()
        Wallet.objects(key=1).update(__raw__={"$set": {"cards": turned}})
        h = history_of(Wallet, 1)
        assert [[one["name"] for one in v["cards"]] for v in h] == [list("abc"), list("cab")]
        assert not any(HIDDEN in (change.old, change.new) for change in h[1].changes)
        assert not [row for row in mongoengine.get_db()["document_history"].find() if "222" in repr(row)]
        h[0].revert()
        assert stored()["cards"] == [card(name, names[name]) for name in "abc"]
        Wallet.objects(key=1).update(__raw__={"$pull": {"cards": {"name": "b"}}})
        h[1].revert()
        assert [one["name"] for one in stored()["cards"]] == list("cab")
        assert {one["name"]: one.get("no") for one in stored()["cards"]} == {
            "a": "111",
            "b": None,
            "c": "333",
        }
        past.update_one({"_id": 1}, {"$set": {"cards": [card("x", "1"), card("x", "2")]}})
        past.update_one({"_id": 1}, {"$set": {"cards.0.name": "y"}})
        with pytest.raises(ConflictError):
            h[0].revert()
        assert stored()["cards"] == [card("y", "1"), card("x", "2")]


def test_hidden_values_exchanged_are_a_change(delivery: str) -> None:
    """The same values at other elements: the fact is known, and nothing else."""
    with tracking(Wallet, hidden=["cards.number"]):
        Wallet(key=1, cards=[PayCard(name="a", number="1"), PayCard(name="b", number="2")]).save()
        Wallet.objects(key=1).update(__raw__={"$set": {"cards.0.no": "2", "cards.1.no": "1"}})
        h = history_of(Wallet, 1)
        assert [(change.path, change.old, change.new) for change in h[1].changes] == [
            (("cards", "number"), HIDDEN, HIDDEN)
        ] or [change.old for change in h[1].changes] == [HIDDEN]
        assert operations() == ["create", "update"]


# -- names that change ------------------------------------------------------------------------------------------------


class Renamed(mongoengine.DynamicDocument):
    """Called `old_wallet` once, and its `title` was `nm` then."""

    key = fields.IntField(primary_key=True)
    title = fields.StringField(db_field="ttl")
    meta = {"collection": "new_wallet"}


@contextmanager
def settings_of(entry: Any) -> Iterator[None]:
    with override_settings(MONGO_HISTORY={}, TRACKED_DOCUMENTS=[entry]):
        runtime.current()
        yield


def written_before_the_deploy() -> Any:
    """The class as it was then: another collection, and a field of another name."""
    return switch_collection(Renamed, "old_wallet")


def test_renamed_fields_and_collections(mongodb: Database) -> None:
    """
    A deploy that renames a field and moves the collection makes no version; all of the past is under today's names.

    The renamed field was the last one: else MongoDB had moved it, which is a change.
    """
    with configured(), tracking(Renamed), written_before_the_deploy() as former:
        former(key=1, notes={"nm": 1}, nm="0").save()
        former.objects(key=1).update(set__nm="1")
        former(key=2, nm="gone").save()
        former.objects(key=2).delete()
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(milliseconds=2)
        time.sleep(0.005)
        former(key=3, nm="c").save()
    mongodb["old_wallet"].update_many({}, {"$rename": {"nm": "ttl"}})
    mongodb["old_wallet"].rename("new_wallet")
    entry = {"document": f"{LABEL}.Renamed", "renamed": {"nm": "ttl"}, "collections": ["old_wallet"]}
    with settings_of(entry):
        h = history_of(Renamed, 1)
        assert [(str(v.operation), v["title"]) for v in h] == [("create", "0"), ("update", "1")]
        assert [(change.path, change.old, change.new) for change in h[1].changes] == [(("ttl",), "0", "1")]
        assert h[0].state == {"_id": 1, "notes": {"nm": 1}, "ttl": "0"}
        assert [v.id for v in h.versions(touching="title")] == [h[1].id]
        assert [v.id for v in history_of(Renamed).versions(touching="title")] == [h[1].id]
        assert not h.has_changed_since(moment)
        Renamed.objects(key=1).update(title="2")
        assert [(str(v.operation), v["title"]) for v in h] == [
            ("create", "0"),
            ("update", "1"),
            ("update", "2"),
        ]
        assert {found.key: found.title for found in history_of(Renamed).as_of(moment)} == {1: "1"}
        assert [v.document_id for v in history_of(Renamed).deleted()] == [2]
        h[0].revert()
        assert mongodb["new_wallet"].find_one({"_id": 1}) == {"_id": 1, "notes": {"nm": 1}, "ttl": "0"}
        h[-1].take_back()
        assert mongodb["new_wallet"].find_one({"_id": 1}) == {"_id": 1, "ttl": "2", "notes": {"nm": 1}}
        history_of(Renamed, 2)[-1].take_back()
        assert mongodb["new_wallet"].find_one({"_id": 2}) == {"_id": 2, "ttl": "gone"}
        assert [str(v.operation) for v in history_of(Renamed, 2)] == ["create", "delete", "create"]
        assert "external" not in [str(v.operation) for v in h]


def test_a_write_past_the_tracker_beside_a_rename_is_seen(mongodb: Database) -> None:
    """Today's names hide nothing but the rename."""
    with configured(), tracking(Renamed), written_before_the_deploy() as former:
        former(key=1, nm="0").save()
    mongodb["old_wallet"].update_many({}, {"$rename": {"nm": "ttl"}, "$set": {"more": 1}})
    mongodb["old_wallet"].rename("new_wallet")
    with settings_of(
        {"document": f"{LABEL}.Renamed", "renamed": {"nm": "ttl"}, "collections": ["old_wallet"]}
    ):
        h = history_of(Renamed, 1)
        assert [str(v.operation) for v in h] == ["create", "external"]
        assert ("more",) in [change.path for change in h[1].changes]


# -- classes that change ----------------------------------------------------------------------------------------------


def test_states_that_the_class_of_today_cannot_load(delivery: str) -> None:
    """They are read whole and shown leniently, one or all; written back never without being asked."""
    with tracking(Wallet):
        Wallet(key=1, name="no number", password="p", cards=[PayCard(name="a")]).save()
        Wallet.objects(key=1).update(__raw__={"$set": {"nm": "5"}, "$unset": {"pw": 1, "cards": 1}})
    moment = datetime.datetime.now(datetime.UTC)
    with tracking(NarrowWallet):
        NarrowWallet.objects(key=1).update(name=6)
        h = history_of(NarrowWallet, 1)
        assert operations(1, NarrowWallet) == ["create", "update", "update"]
        assert h[0].state == {"_id": 1, "nm": "no number", "pw": "p", "cards": [{"name": "a"}]}
        assert isinstance(h[0].document, NarrowWallet)
        assert h[0].document.key == 1
        assert [found.key for found in history_of(NarrowWallet).as_of(moment)] == [1]
        with pytest.raises(ConflictError, match="cannot load"):
            h[0].revert()
        with pytest.raises(ConflictError, match="cannot load"):
            h.revert()
        assert stored() == {"_id": 1, "nm": 6}
        assert operations(1, NarrowWallet) == ["create", "update", "update"]
        h[1].revert()
        assert stored() == {"_id": 1, "nm": "5"}
