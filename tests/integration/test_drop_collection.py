"""
`drop_collection()` on tracked classes: one tombstone, or a delete version of each document; and the ways back.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import mongoengine
import mongomock
import pytest
from bson import ObjectId
from mongoengine import fields
from mongoengine.context_managers import switch_collection, switch_db
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from django_mongo_history import (
    changeset,
    changesets,
    history_of,
    rationale,
    runtime,
    suppress_history,
    track,
    untrack,
)
from django_mongo_history.core.model import ABSENT
from django_mongo_history.errors import BrokenChainError, ConflictError, StoreError
from tests.commanding import iso, now, revert, run
from tests.conftest import CLIENT_OPTIONS, _disconnect
from tests.judge import HISTORY, configured, tracking
from tests.versions import NEEDS_BIND


class Casket(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    secret = fields.StringField()
    meta = {"collection": "casket"}


LABEL = f"{Casket.__module__}.Casket"


class CasketKin(mongoengine.Document):
    """A stranger in the same collection, with rules of its own."""

    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "casket"}


class Vessel(mongoengine.Document):
    name = fields.StringField(primary_key=True)
    meta = {"collection": "vessel", "allow_inheritance": True}


class Tanker(Vessel):
    load = fields.IntField()


class Canister(mongoengine.Document):
    """With a drop of its own, that drops something else too."""

    number = fields.IntField(primary_key=True)
    meta = {"collection": "canister"}

    @classmethod
    def drop_collection(cls) -> str:
        Casket.drop_collection()
        super().drop_collection()
        return "dropped"


class Hollow(mongoengine.Document):
    meta = {"abstract": True}


@pytest.fixture
def database(mongodb: Database) -> Iterator[Database]:
    with configured(), tracking(Casket):
        yield mongodb


def caskets(*numbers: int) -> None:
    for number in numbers:
        Casket(number=number, name=f"casket {number}").save()


def tombstones(database: Database) -> list[dict[str, Any]]:
    return list(database[HISTORY].find({"dropped_at": {"$exists": True}}))


def operations(number: int) -> list[str]:
    return [version.operation.value for version in history_of(Casket, number)]


def names() -> dict[int, str]:
    return {casket.number: casket.name for casket in Casket.objects}


# -- what it leaves ----------------------------------------------------------------------------------------------------


def test_a_drop_leaves_one_row_among_the_versions(database: Database) -> None:
    """One tombstone for all documents, with who and why."""
    caskets(1, 2, 3)
    versions = database[HISTORY].count_documents({})
    with changeset(user="ada", remote_addr="::1", reason="spring cleaning", ticket=7) as opened:
        Casket.drop_collection()
    assert database[HISTORY].count_documents({}) == versions + 1
    (row,) = tombstones(database)
    assert row["_id"]["dropped"] == f"{database.name}.casket"
    assert row["documents"] == 3
    assert row["changeset"] == opened.id
    assert row["context"]["reason"] == "spring cleaning"
    assert "casket" not in database.list_collection_names()


def test_a_dropped_document_shows_a_delete_by_who_dropped_it(database: Database) -> None:
    """In place of a nameless `external`: moment, user, address, reason, extra and changeset of the drop."""
    caskets(1)
    Casket.objects(number=1).update(set__name="box")
    before = now()
    with changeset(user="ada", remote_addr="::1", reason="spring cleaning", ticket=7) as opened:
        Casket.drop_collection()
    after = now()
    *_, last = history_of(Casket, 1)
    assert operations(1) == ["create", "update", "delete"]
    assert (last.user.label, last.remote_addr, last.reason) == ("ada", "::1", "spring cleaning")
    assert (last.extra, last.changeset, last.is_derived) == ({"ticket": 7}, opened, True)
    assert before <= last.at <= after
    assert last.state is None
    assert last.previous.state == {"_id": 1, "name": "box"}
    assert {change.path: (change.old, change.new) for change in last.changes} == {
        ("_id",): (1, ABSENT),
        ("name",): ("box", ABSENT),
    }
    assert history_of(Casket, 1)[2] == last
    assert history_of(Casket, 1).versions(user="ada", operation="delete") == [last]
    assert history_of(Casket, 1).has_changed_since(before)


def test_moments_around_a_drop(database: Database) -> None:
    """Until then the documents are there, from then on they are not."""
    caskets(1, 2)
    before = now()
    Casket.drop_collection()
    after = now()
    assert history_of(Casket, 1).version_at(before).state == {"_id": 1, "name": "casket 1"}
    assert history_of(Casket, 1).version_at(after).state is None
    assert [casket.name for casket in history_of(Casket).as_of(before)] == ["casket 1", "casket 2"]
    assert list(history_of(Casket).as_of(after)) == []
    assert [version.document_id for version in history_of(Casket).deleted()] == [1, 2]


def test_a_document_made_anew_has_two_lives(database: Database) -> None:
    """create, delete, create: no gap is left."""
    caskets(1)
    first = now()
    Casket.drop_collection()
    between = now()
    caskets(1)
    Casket.objects(number=1).delete()
    assert operations(1) == ["create", "delete", "create", "delete"]
    assert [version.is_derived for version in history_of(Casket, 1)] == [False, True, False, False]
    assert history_of(Casket, 1).version_at(first).state is not None
    assert history_of(Casket, 1).version_at(between).state is None


def test_each_of_several_drops_explains_its_own_life(database: Database) -> None:
    """Three lives, three tombstones."""
    for life in range(3):
        caskets(1)
        with rationale(f"drop {life}"):
            Casket.drop_collection()
    found = history_of(Casket, 1)[:]
    assert operations(1) == ["create", "delete"] * 3
    assert [version.reason for version in found[1::2]] == ["drop 0", "drop 1", "drop 2"]
    assert len({version.id for version in found}) == 6


def test_a_delete_before_the_drop_stays_the_last_word(database: Database) -> None:
    """A tombstone is none of a document that was gone before."""
    caskets(1, 2)
    Casket.objects(number=1).delete()
    Casket.drop_collection()
    assert operations(1) == ["create", "delete"]
    assert not history_of(Casket, 1)[-1].is_derived


def test_what_others_put_back_after_a_drop_is_external(database: Database) -> None:
    """The collection is another one now, so the drop is certain; who wrote the document again is not."""
    caskets(1)
    Casket.drop_collection()
    database["casket"].insert_one({"_id": 1, "name": "smuggled"})
    after = now()
    found = history_of(Casket, 1)[:]
    assert operations(1) == ["create", "delete", "external"]
    assert found[1].state is None
    assert found[2].state == {"_id": 1, "name": "smuggled"}
    Casket.objects(number=1).update(set__name="seized")
    assert operations(1) == ["create", "delete", "external", "update"]
    assert history_of(Casket, 1).version_at(after).state is None


def test_documents_that_have_no_version_are_nobodys(database: Database) -> None:
    """What the history never knew cannot come back."""
    database["casket"].insert_one({"_id": 9, "name": "old"})
    caskets(1)
    Casket.drop_collection()
    assert list(history_of(Casket, 9)) == []


def test_a_state_that_only_the_live_document_held_is_not_made_up(mongodb: Database) -> None:
    """An older document with patches only: that it went is known, what it was at the end is not."""
    with configured(SNAPSHOT_EVERY=2**40), tracking(Casket):
        mongodb["casket"].insert_one({"_id": 9, "name": "old", "secret": "x" * 100})
        Casket.objects(number=9).update(set__name="new")
        with changeset() as opened:
            Casket.drop_collection()
        assert operations(9) == ["baseline", "update", "delete"]
        with pytest.raises(BrokenChainError):
            assert history_of(Casket, 9)[1].state
        with pytest.raises(ConflictError, match="cannot be known"):
            opened.take_back()


# -- what is recorded --------------------------------------------------------------------------------------------------


def test_a_suppressed_drop_leaves_nothing(database: Database) -> None:
    """As any suppressed write: readers show `external`."""
    caskets(1)
    with suppress_history("a test"):
        Casket.drop_collection()
    assert tombstones(database) == []
    assert operations(1) == ["create", "external"]


def test_a_drop_of_nothing_leaves_nothing(database: Database) -> None:
    """No collection, no tombstone, and none is made by looking."""
    Casket.drop_collection()
    assert database.list_collection_names() == []


def test_untracking_gives_the_plain_drop_back(database: Database) -> None:
    """Without a trace on any class."""
    plain = mongoengine.Document.drop_collection.__func__
    track(Vessel)
    assert Vessel.drop_collection.__func__ is not plain
    assert Vessel.drop_collection.__doc__ == plain.__doc__
    untrack(Vessel)
    assert "drop_collection" not in vars(Vessel)
    assert Vessel.drop_collection.__func__ is plain
    own = vars(Canister)["drop_collection"]
    with tracking(Canister):
        assert vars(Canister)["drop_collection"] is not own
    assert vars(Canister)["drop_collection"] is own


def test_a_class_with_a_drop_of_its_own_is_recorded_once(database: Database) -> None:
    """Its answer is its own, and the other collection that it drops has its own tombstone."""
    with tracking(Canister):
        caskets(1)
        Canister(number=1).save()
        assert Canister.drop_collection() == "dropped"
        found = {row["_id"]["dropped"]: row["document_class"] for row in tombstones(database)}
        assert found == {f"{database.name}.casket": "Casket", f"{database.name}.canister": "Canister"}
        assert len(tombstones(database)) == 2


def test_an_abstract_class_has_nothing_to_drop(database: Database) -> None:
    """MongoEngine's own error."""
    with pytest.raises(mongoengine.errors.OperationError):
        Hollow.drop_collection()


@pytest.mark.parametrize("dropping", [Vessel, Tanker])
def test_a_drop_counts_for_base_and_subclasses(mongodb: Database, dropping: type) -> None:
    """They lie in one collection."""
    with configured(), tracking(Vessel):
        Vessel(name="raft").save()
        Tanker(name="Exxon", load=1).save()
        with changeset(user="ada"):
            dropping.drop_collection()
        assert len(tombstones(mongodb)) == 1
        assert [version.user.label for version in history_of(Vessel).deleted()] == ["ada", "ada"]
        assert [version.document_id for version in history_of(Tanker).deleted()] == ["Exxon"]
        assert history_of(Tanker, "Exxon")[-1].previous.state["load"] == 1


def test_a_drop_through_a_class_that_shares_the_collection_counts(database: Database) -> None:
    """Tracked or not, it is the collection that goes."""
    caskets(1)
    CasketKin.drop_collection()
    assert operations(1) == ["create", "delete"]
    with tracking(CasketKin, hidden=["name"]):
        caskets(2)
        Casket.drop_collection()
        assert [version.operation for version in history_of(CasketKin, 2)] == ["create", "delete"]


def test_a_switched_collection_is_dropped_and_no_other(database: Database) -> None:
    """The namespace is the one that was really dropped."""
    caskets(1)
    with switch_collection(Casket, "casket_2"):
        caskets(1)
        Casket.drop_collection()
    assert operations(1) == ["create"]
    other = history_of(Casket, 1, collection="casket_2")
    assert [version.operation for version in other] == ["create", "delete"]
    assert names() == {1: "casket 1"}


def test_a_switched_database_is_dropped_and_no_other(database: Database) -> None:
    """Its tombstone lies where its versions do."""
    other_name = f"{database.name}_other"
    mongoengine.connect(other_name, alias="drop_other", host=_uri(database), **CLIENT_OPTIONS)
    try:
        caskets(1)
        with switch_db(Casket, "drop_other"):
            caskets(1)
            Casket.drop_collection()
        assert tombstones(database) == []
        assert len(tombstones(database.client[other_name])) == 1
        assert operations(1) == ["create"]
        other = history_of(Casket, 1, using="drop_other")
        assert [version.operation for version in other] == ["create", "delete"]
    finally:
        mongoengine.disconnect("drop_other")
        database.client.drop_database(other_name)


def _uri(database: Database) -> str:
    host, port = database.client.address
    return f"mongodb://{host}:{port}/?directConnection=true"


def test_versions_in_another_database(mongodb: Database) -> None:
    """`DATABASE`: the tombstone goes with them, and is looked for there."""
    elsewhere = f"{mongodb.name}_history"
    try:
        with configured(DATABASE=elsewhere), tracking(Casket):
            caskets(1)
            with changeset(user="ada") as opened:
                Casket.drop_collection()
            assert len(tombstones(mongodb.client[elsewhere])) == 1
            assert operations(1) == ["create", "delete"]
            opened.take_back()
            assert names() == {1: "casket 1"}
    finally:
        mongodb.client.drop_database(elsewhere)


@pytest.mark.parametrize("delivery", ["sync", "atomic"])
def test_in_each_delivery(mongodb: Database, delivery: str) -> None:
    """A drop is in no transaction, so it is recorded in one way."""
    with configured(DELIVERY=delivery), tracking(Casket):
        caskets(1)
        with changeset(user="ada") as opened:
            Casket.drop_collection()
        caskets(2)
        assert operations(1) == ["create", "delete"]
        opened.take_back()
        assert names() == {1: "casket 1", 2: "casket 2"}
        assert operations(1) == ["create", "delete", "create"]


def test_on_a_standalone_server(standalone_mongodb: Database) -> None:
    """There `order` comes from the clock."""
    with configured(), tracking(Casket):
        caskets(1, 2)
        before = now()
        with changeset(user="ada"):
            Casket.drop_collection()
        caskets(2)
        assert operations(1) == ["create", "delete"]
        assert operations(2) == ["create", "delete", "create"]
        assert [casket.number for casket in history_of(Casket).as_of(before)] == [1, 2]


def test_on_mongomock() -> None:
    """Without UUIDs, and without a server."""
    _disconnect()
    mongoengine.connect("mocked", mongo_client_class=mongomock.MongoClient, uuidRepresentation="standard")
    try:
        with configured(), tracking(Casket):
            Casket.drop_collection()
            caskets(1, 2)
            with changeset(user="ada") as opened:
                Casket.drop_collection()
            caskets(2)
            assert operations(1) == ["create", "delete"]
            assert operations(2) == ["create", "delete", "create"]
            assert history_of(Casket, 1)[-1].user.label == "ada"
            assert opened.dropped == ["mocked.casket"]
            assert [version.user.label for version in history_of(Casket).deleted()] == ["ada"]
            Casket.objects.delete()
            with pytest.raises(ConflictError):
                opened.take_back()
            history_of(Casket, 1)[-1].take_back()
            assert names() == {1: "casket 1"}
    finally:
        _disconnect()


@NEEDS_BIND
def test_in_a_callers_transaction_it_fails_as_before(database: Database) -> None:
    """The server drops nothing in a transaction, and nothing is recorded of what did not happen."""
    caskets(1)
    client = database.client
    with client.start_session() as session, session.bind():
        session.start_transaction()
        Casket.objects(number=1).update(set__name="half")
        with pytest.raises(OperationFailure):
            Casket.drop_collection()
    assert tombstones(database) == []
    assert names() == {1: "casket 1"}


@NEEDS_BIND
def test_read_in_a_callers_transaction(database: Database) -> None:
    """Looking for the drop asks what no transaction can answer; the caller's goes on all the same."""
    caskets(1)
    Casket.drop_collection()
    Casket(number=2).save()
    with database.client.start_session() as session, session.bind():
        session.start_transaction()
        Casket.objects(number=2).update(set__name="in it")
        assert operations(1) == ["create", "delete"]
        session.commit_transaction()
    assert names() == {2: "in it"}


def test_an_account_that_may_not_list_collections(database: Database) -> None:
    """The drop is recorded without the collection's identity, and believed where documents are gone."""
    caskets(1, 2)
    refuse = {"failCommands": ["listCollections", "count"], "errorCode": 13}
    admin = database.client.admin
    admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": refuse})
    try:
        Casket.drop_collection()
        database["casket"].insert_one({"_id": 2, "name": "smuggled"})
        assert operations(1) == ["create", "delete"]
        assert operations(2) == ["create", "external"]
    finally:
        admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    (row,) = tombstones(database)
    assert row.keys().isdisjoint({"uuid", "documents"})
    assert operations(2) == ["create", "external"]


# -- a tombstone without its drop --------------------------------------------------------------------------------------


@pytest.fixture
def failing_drop(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Within the block the server cannot be reached for the drop itself."""

    def broken(*_args: Any, **_options: Any) -> None:
        raise PyMongoError("the connection broke")

    yield lambda: monkeypatch.setattr(Database, "drop_collection", broken)
    monkeypatch.undo()


def test_a_drop_that_did_not_happen_shows_nowhere(
    database: Database, failing_drop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collection is still the one that the tombstone names: whatever went since went otherwise."""
    caskets(1, 2, 3)
    failing_drop()
    with changeset(user="ada") as opened, pytest.raises(PyMongoError, match="broke"):
        Casket.drop_collection()
    monkeypatch.undo()
    assert len(tombstones(database)) == 1
    assert operations(1) == ["create"]
    database["casket"].delete_one({"_id": 2})
    assert operations(2) == ["create", "external"]
    database["casket"].update_one({"_id": 3}, {"$set": {"name": "other"}})
    assert operations(3) == ["create", "external"]
    assert list(history_of(Casket).deleted()) == []
    assert opened.dropped == []
    assert opened.take_back() == []
    assert changesets(user="ada") == []


def test_the_drop_that_came_true_is_the_later_one(
    database: Database, failing_drop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tombstones of one collection: only the last can be true."""
    caskets(1)
    failing_drop()
    with changeset(user="ada"), pytest.raises(PyMongoError):
        Casket.drop_collection()
    monkeypatch.undo()
    with changeset(user="bob"):
        Casket.drop_collection()
    caskets(1)
    assert [version.user and version.user.label for version in history_of(Casket, 1)] == [None, "bob", None]


def test_a_tombstone_that_cannot_be_stored_drops_nothing(database: Database) -> None:
    """Never an unrecorded drop: the error says that nothing was dropped."""
    caskets(1)
    database.command(
        {"collMod": HISTORY, "validator": {"dropped_at": {"$exists": False}}, "validationAction": "error"}
    )
    with pytest.raises(StoreError, match="was not dropped"):
        Casket.drop_collection()
    assert names() == {1: "casket 1"}


def test_on_error_log_drops_all_the_same(mongodb: Database, caplog: pytest.LogCaptureFixture) -> None:
    """With `sync` delivery and `ON_ERROR: log`, as of any version that cannot be stored."""
    with configured(DELIVERY="sync", ON_ERROR="log"), tracking(Casket):
        caskets(1)
        mongodb.command(
            {"collMod": HISTORY, "validator": {"dropped_at": {"$exists": False}}, "validationAction": "error"}
        )
        Casket.drop_collection()
        assert "dropped without a trace" in caplog.text
        assert operations(1) == ["create", "external"]


def test_an_unreadable_tombstone_leaves_documents_readable(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Its documents show as without it, and the log says why."""
    caskets(1)
    Casket.drop_collection()
    database[HISTORY].update_one({"dropped_at": {"$exists": True}}, {"$set": {"format": 99}})
    assert operations(1) == ["create", "external"]
    assert "its format is 99" in caplog.text


def test_writers_beside_a_drop(database: Database) -> None:
    """Whatever was written while it was dropped: nobody's history has a gap, and all that is gone has a delete."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                Casket.objects(number=number).update(upsert=True, set__name=f"{number}.{turn}")
            except PyMongoError as error:
                failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _drop in range(5):
        time.sleep(0.3)
        # A collection that is made between the look for it and its drop leaves no tombstone.
        while "casket" not in database.list_collection_names():
            time.sleep(0.01)
        Casket.drop_collection()
    stop.set()
    for thread in threads:
        thread.join()
    Casket.drop_collection()
    for number in range(4):
        found = operations(number)
        assert "external" not in found, found
        assert found[-1] == "delete"
        assert found.count("delete") == found.count("create") > 1


# -- the ways back -----------------------------------------------------------------------------------------------------


def test_a_changeset_takes_its_drop_back(database: Database) -> None:
    """With what else it did: documents are as they were before all of it."""
    caskets(1, 2)
    with changeset(user="ada") as opened:
        Casket.objects(number=1).update(set__name="changed")
        Casket.drop_collection()
    assert opened.user.label == "ada"
    assert opened.dropped == [f"{database.name}.casket"]
    assert len(opened.versions()) == 1
    assert sorted(version.document_id for version in opened.take_back()) == [1, 2]
    assert names() == {1: "casket 1", 2: "casket 2"}
    assert operations(2) == ["create", "delete", "create"]


def test_a_changeset_that_only_dropped_is_found(database: Database) -> None:
    """By user, reason and moment, though it has no version."""
    caskets(1)
    before = now()
    with changeset(user="ada", reason="tidy") as opened:
        Casket.drop_collection()
    assert changesets(user="ada") == [opened]
    assert changesets(reason="tidy", touching=Casket, since=before) == [opened]
    assert changesets(user="ada", until=before) == []
    assert (opened.reason, opened.versions()) == ("tidy", [])
    assert opened.at >= before


def test_taking_back_says_what_cannot_come_back(database: Database) -> None:
    """Documents without a version are counted, and nothing is written until the caller says so."""
    database["casket"].insert_many([{"_id": number, "name": "old"} for number in (8, 9)])
    caskets(1)
    with changeset(user="ada") as opened:
        Casket.drop_collection()
    with pytest.raises(ConflictError, match=r"Nothing was written.*2 of the 3 documents"):
        opened.take_back()
    assert names() == {}
    said = revert("--changeset", opened.id)
    assert "2 of the 3 documents" in said.err
    assert said.error is not None
    assert names() == {1: "casket 1"}


def test_what_was_made_anew_since_is_a_conflict(database: Database) -> None:
    """Nobody's later work is destroyed."""
    caskets(1)
    with changeset() as opened:
        Casket.drop_collection()
    Casket(number=1, name="new").save()
    with pytest.raises(ConflictError, match="changed the same again"):
        opened.take_back()
    assert names() == {1: "new"}


def test_one_document_comes_back_alone(database: Database) -> None:
    """By its own delete version: taken back, or the one before it reverted to."""
    caskets(1, 2, 3)
    Casket.drop_collection()
    made = history_of(Casket, 1)[-1].take_back()
    assert made.operation == "create"
    history_of(Casket, 2)[-1].previous.revert()
    assert names() == {1: "casket 1", 2: "casket 2"}


def test_hidden_values_do_not_come_back(mongodb: Database) -> None:
    """They are nowhere in the history."""
    with configured(), tracking(Casket, hidden=["secret"]):
        Casket(number=1, name="casket 1", secret="s3cret").save()
        with changeset() as opened:
            Casket.drop_collection()
        opened.take_back()
        assert list(mongodb["casket"].find()) == [{"_id": 1, "name": "casket 1"}]


# -- commands ----------------------------------------------------------------------------------------------------------


def test_history_revert_since_before_the_drop(database: Database) -> None:
    """Every document that the history knows comes back; the others are counted as what cannot be done."""
    database["casket"].insert_one({"_id": 9, "name": "old"})
    caskets(1, 2)
    moment = now()
    Casket.objects(number=1).update(set__name="later")
    Casket.drop_collection()
    said = revert("--since", iso(moment))
    assert names() == {1: "casket 1", 2: "casket 2"}
    assert "1 of the 3 documents" in said.err
    assert said.error is not None
    assert operations(1) == ["create", "update", "delete", "create"]


def test_history_revert_since_after_the_drop_has_nothing_to_say(database: Database) -> None:
    """A drop before the moment is none of its business."""
    database["casket"].insert_one({"_id": 9, "name": "old"})
    caskets(1)
    Casket.drop_collection()
    moment = now()
    caskets(2)
    said = revert("--since", iso(moment))
    assert said.error is None
    assert names() == {}


def test_history_revert_of_a_user(database: Database) -> None:
    """What that user dropped comes back, what others did stays."""
    caskets(1)
    moment = now()
    with changeset(user="ada"):
        Casket.drop_collection()
    with changeset(user="bob"):
        caskets(2)
    said = revert("--since", iso(moment), "--user", "ada")
    assert said.error is None
    assert f"{database.name}.casket 1 documents by ada" in said.out
    assert names() == {1: "casket 1", 2: "casket 2"}


def test_history_revert_of_one_document(database: Database) -> None:
    """`--id` limits a drop too."""
    caskets(1, 2)
    with changeset() as opened:
        Casket.drop_collection()
    said = revert("--changeset", opened.id, "--document", LABEL, "--id", 2)
    assert said.error is None
    assert names() == {2: "casket 2"}


def test_history_log_shows_the_drop(database: Database) -> None:
    """Among the versions, at its moment; as a delete where one document is asked for."""
    caskets(1)
    with changeset(user="ada", reason="tidy") as opened:
        Casket.drop_collection()
    caskets(2)
    newest, drop, oldest = run("history_log").lines
    assert " create " in newest
    assert " create " in oldest
    wanted = f"drop {database.name}.casket 1 documents by ada (tidy) changeset {opened.id}"
    assert drop.endswith(wanted)
    assert run("history_log", "--limit", 1, "--operation", "delete").lines == [drop]
    row = json.loads(run("history_log", "--user", "ada", "--json").lines[0])
    assert (row["operation"], row["collection"]) == ("drop", f"{database.name}.casket")
    of_one = run("history_log", "--document", LABEL, "--id", 1).lines
    assert " delete " in of_one[0]
    assert "by ada (tidy)" in of_one[0]


# -- `versions` --------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_version(mongodb: Database) -> Iterator[Database]:
    with configured(DROP_COLLECTION="versions", CHUNK_SIZE=2), tracking(Casket):
        yield mongodb


def test_a_delete_version_of_each_document(by_version: Database) -> None:
    """Documents without a version have one then, and come back like all others."""
    by_version["casket"].insert_one({"_id": 9, "name": "old"})
    caskets(1, 2)
    with changeset(user="ada") as opened:
        Casket.drop_collection()
    assert tombstones(by_version) == []
    assert "casket" not in by_version.list_collection_names()
    assert operations(1) == ["create", "delete"]
    assert operations(9) == ["baseline", "delete"]
    assert len(opened.versions()) == 3
    assert not history_of(Casket, 1)[-1].is_derived
    opened.take_back()
    assert names() == {1: "casket 1", 2: "casket 2", 9: "old"}


def test_versions_of_nothing(by_version: Database) -> None:
    """No collection: none is made to be dropped."""
    Casket.drop_collection()
    assert by_version.list_collection_names() == []


def test_a_setting_of_the_moment(mongodb: Database) -> None:
    """The way is asked for at each drop."""
    with configured(DROP_COLLECTION="versions"), tracking(Casket):
        assert runtime.current().settings.drop_collection == "versions"


def test_an_unknown_way_is_told(mongodb: Database) -> None:
    """And gives way to the default."""
    from django_mongo_history import conf

    with configured(DROP_COLLECTION="nothing"):
        (problem,) = conf.problems()
        assert problem.message == (
            "MONGO_HISTORY['DROP_COLLECTION']: expected 'tombstone' or 'versions', got 'nothing'"
        )
        assert runtime.current().settings.drop_collection == "tombstone"


# -- readers that know nothing of tombstones ---------------------------------------------------------------------------


def test_no_query_for_versions_finds_a_tombstone(database: Database) -> None:
    """By collection, document, moment, changeset or user: what found versions before finds nothing else now."""
    caskets(1)
    with changeset(user="ada") as opened:
        Casket.drop_collection()
    rows = database[HISTORY]
    (row,) = tombstones(database)
    assert row.keys().isdisjoint({"collection", "document_id", "at", "operation", "snapshot", "changed"})
    for query in (
        {"collection": {"$exists": True}},
        {"at": {"$exists": True}},
        {"at": {"$exists": True}, "changeset": opened.id},
        {"operation": {"$exists": True}},
    ):
        assert rows.count_documents({**query, "dropped_at": {"$exists": True}}) == 0
    assert list(history_of(Casket).versions(user="ada")) == []
    assert opened.versions() == []
    assert [version.document_id for version in history_of(Casket).versions()] == [1]
    assert isinstance(row["_id"]["id"], ObjectId)


def test_the_collections_of_a_renamed_class(mongodb: Database) -> None:
    """Under `collections` the drops of its old places count; a collection that was renamed was not dropped."""
    with configured(), tracking(Casket):
        with switch_collection(Casket, "casket_old"):
            caskets(1, 2)
        mongodb["casket_old"].rename("casket")
        registry = runtime.current().environment.registry
        spec = runtime.spec_of(LABEL, {"collections": ["casket_old"]})
        registry.add(runtime.tracked_from(Casket, spec, runtime.current().settings))
        assert operations(1) == ["create"]
        Casket.drop_collection()
        assert operations(1) == ["create", "delete"]
