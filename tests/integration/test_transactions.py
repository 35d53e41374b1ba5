"""
Transactions: the caller's own, ours, and what happens where the server fails in the middle of one.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mongoengine
import pymongo
import pytest
from mongoengine import fields
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError, WriteConcernError

from django_mongo_history import append_change_info, changeset, history_of, track, untrack
from django_mongo_history.errors import DeliveryError, HistoryError, StoreError
from tests.judge import configured
from tests.versions import NEEDS_BIND

HISTORY = "document_history"
TRANSIENT = ["TransientTransactionError"]
WRITE_CONFLICT = 112
UNAUTHORIZED = 13


class Account(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    balance = fields.IntField(default=0)
    code = fields.StringField(unique=True, sparse=True)
    meta = {"collection": "account"}


class Plain(mongoengine.Document):
    """As `Account`, and nobody tracks it."""

    number = fields.IntField(primary_key=True)
    balance = fields.IntField(default=0)
    code = fields.StringField(unique=True, sparse=True)
    meta = {"collection": "plain"}


@pytest.fixture(params=["atomic", "sync"])
def delivery(request: pytest.FixtureRequest, mongodb: Database) -> Iterator[str]:
    with tracked(DELIVERY=request.param):
        yield request.param


@pytest.fixture
def atomic(mongodb: Database) -> Iterator[None]:
    with tracked(DELIVERY="atomic"):
        yield


@contextmanager
def tracked(**settings: Any) -> Iterator[None]:
    with configured(**settings):
        track(Account)
        Plain.ensure_indexes()
        Account(number=1).save()
        Plain(number=1).save()
        try:
            yield
        finally:
            untrack(Account)


@contextmanager
def failing(client: pymongo.MongoClient, *commands: str, times: int = 1, **how: Any) -> Iterator[None]:
    """The server fails these commands in the way that is said, so many times."""
    point = {
        "configureFailPoint": "failCommand",
        "mode": {"times": times},
        "data": {"failCommands": commands, **how},
    }
    client.admin.command(point)
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@contextmanager
def transaction() -> Iterator[Any]:
    """A transaction of the caller's that all writes in this context belong to."""
    client = mongoengine.get_connection()
    with client.start_session() as session, session.bind(end_session=False), session.start_transaction():
        yield session


def operations(number: int = 1) -> list[str]:
    return [str(v.operation) for v in history_of(Account, number)]


def balance(number: int = 1, document_class: Any = Account) -> Any:
    found = document_class._get_collection().find_one({"_id": number})
    return None if found is None else found["balance"]


class CancelledError(Exception):
    """The caller has changed its mind."""


def cancelled(*writes: Callable[[], Any]) -> None:
    """Do this in a transaction that is then aborted."""
    with pytest.raises(CancelledError):
        _cancelled(writes)


def _cancelled(writes: Sequence[Callable[[], Any]]) -> None:
    with transaction():
        for write in writes:
            write()
        raise CancelledError


# -- the caller's transactions ----------------------------------------------------------------------------------------


def _every_kind_of_write() -> None:
    Account(number=2).save()
    Account.objects.insert([Account(number=3), Account(number=4)])
    Account.objects(number=1).update(inc__balance=5)
    Account.objects(number__gte=3).update(set__balance=7)
    Account.objects(number=3).modify(inc__balance=1)
    Account.objects(number=4).only("balance").modify(inc__balance=1)
    Account._get_collection().bulk_write([pymongo.UpdateOne({"_id": 2}, {"$inc": {"balance": 9}})])
    found = Account.objects.get(number=2)
    found.balance = 1
    found.save()
    Account.objects(number=4).delete()


@NEEDS_BIND
def test_versions_share_the_callers_transaction(
    delivery: str, mongodb_client: Any, mongodb: Database
) -> None:
    """Until it commits nobody sees a version; then all are there, and each in its place."""
    seen = mongodb_client[mongodb.name][HISTORY]
    with transaction():
        _every_kind_of_write()
        assert contextvars.Context().run(seen.count_documents, {}) == 1
        assert operations(3) == ["create", "update", "update"]
    assert operations(1) == ["create", "update"]
    assert operations(2) == ["create", "update", "update"]
    assert operations(3) == ["create", "update", "update"]
    assert operations(4) == ["create", "update", "update", "delete"]


@NEEDS_BIND
def test_an_aborted_transaction_leaves_nothing(delivery: str, mongodb: Database) -> None:
    """Neither documents nor versions."""
    cancelled(_every_kind_of_write)
    assert [found.number for found in Account.objects] == [1]
    assert mongodb[HISTORY].count_documents({}) == 1
    assert operations() == ["create"]


def test_explicit_sessions(delivery: str, mongodb: Database) -> None:
    """A session that is handed to the collection is joined; without a transaction it is one of ours on it."""
    collection = Account._get_collection()
    with mongoengine.get_connection().start_session() as session:
        with session.start_transaction():
            collection.update_one({"_id": 1}, {"$inc": {"balance": 1}}, session=session)
            collection.insert_one({"_id": 9, "balance": 0}, session=session)
            assert balance(9) is None
        assert operations() == ["create", "update"]
        assert operations(9) == ["create"]
        session.start_transaction()
        collection.delete_many({}, session=session)
        collection.find_one_and_update({"_id": 1}, {"$set": {"balance": 5}}, session=session, upsert=True)
        session.abort_transaction()
        assert operations() == ["create", "update"]
        collection.update_one({"_id": 1}, {"$inc": {"balance": 1}}, session=session)
        collection.update_many({}, {"$inc": {"balance": 1}}, session=session)
        assert not session.in_transaction
        assert operations() == ["create", "update", "update", "update"]
        assert balance() == 3


@NEEDS_BIND
def test_ten_writes_in_one_transaction(delivery: str) -> None:
    """Versions of one transaction lie in the order of the writes, although the server gives them one time."""
    with transaction():
        for _turn in range(10):
            Account.objects(number=1).update(inc__balance=1)
    versions = list(history_of(Account, 1))
    assert [v["balance"] for v in versions] == list(range(11))


@NEEDS_BIND
def test_toggles_in_one_transaction(delivery: str) -> None:
    """Equal states again and again, told apart by nothing but the order in which they were minted."""
    with transaction():
        for turn in range(10):
            with changeset(reason=str(turn)):
                Account.objects(number=1).update(balance=(turn + 1) % 2)
    versions = list(history_of(Account, 1))
    assert [v["balance"] for v in versions] == [0] + [1, 0] * 5
    assert [v.reason for v in versions[1:]] == [str(turn) for turn in range(10)]


@NEEDS_BIND
def test_a_document_that_comes_and_goes_in_one_transaction(delivery: str) -> None:
    """Each step is a version."""
    with transaction():
        for _turn in range(3):
            Account(number=5).save()
            Account.objects(number=5).delete()
    assert operations(5) == ["create", "delete"] * 3


@NEEDS_BIND
def test_other_threads_are_not_in_the_transaction(delivery: str) -> None:
    """As with untracked classes: what another thread writes stays when the transaction is aborted."""
    thread = threading.Thread(target=lambda: Account(number=6).save())
    cancelled(thread.start, thread.join, lambda: Account(number=7).save())
    assert operations(6) == ["create"]
    assert operations(7) == []


@NEEDS_BIND
def test_the_first_write_of_all_may_be_in_a_transaction(mongodb: Database) -> None:
    """The store is made beside the caller's transaction, not in it."""
    with configured():
        track(Account)
        Account.ensure_indexes()
        cancelled(lambda: Account(number=1).save())
        with transaction():
            Account(number=1).save()
        assert operations() == ["create"]
        untrack(Account)


def test_an_error_in_the_callers_transaction(delivery: str) -> None:
    """It is the exception that an untracked class raises, and the transaction is aborted, as without tracking."""
    shown = []
    for document_class in (Plain, Account):
        collection = document_class._get_collection()
        with mongoengine.get_connection().start_session() as session:
            session.start_transaction()
            collection.update_one({"_id": 1}, {"$set": {"code": "c"}}, session=session)
            with pytest.raises(DuplicateKeyError) as duplicate:
                collection.insert_one({"_id": 1}, session=session)
            with pytest.raises(OperationFailure) as late:
                collection.update_one({"_id": 1}, {"$set": {"balance": 5}}, session=session)
            session.abort_transaction()
        shown.append(
            (duplicate.value.code, sorted(duplicate.value.details), type(late.value), late.value.code)
        )
    assert shown[0] == shown[1]
    assert operations() == ["create"]


# -- write concerns ---------------------------------------------------------------------------------------------------


def _reconnected(uri: str, name: str, options: str) -> None:
    mongoengine.disconnect()
    mongoengine.connect(name, host=f"{uri}&{options}", uuidRepresentation="standard", tz_aware=True)


@pytest.mark.parametrize("options", ["w=majority", "w=1&journal=true", "retryWrites=false", "readPreference=secondaryPreferred", "readConcernLevel=majority"])  # fmt: skip
def test_options_in_the_uri(mongodb: Database, mongodb_uri: str, options: str) -> None:
    """Whatever the URI asks for, writes and versions go through."""
    _reconnected(mongodb_uri, mongodb.name, options)
    for delivery in ("atomic", "sync"):
        with tracked(DELIVERY=delivery):
            _every_kind_of_write()
            assert operations(2) == ["create", "update", "update"]
            Account.drop_collection()
            Plain.drop_collection()
            Account._get_collection().database[HISTORY].delete_many({})


def test_a_write_concern_that_cannot_be_met(delivery: str) -> None:
    """The write is done and says so late, as without tracking: same exception, same document; the version is there."""
    concern = {"w": 3, "wtimeout": 50}
    for document_class in (Plain, Account):
        collection = document_class._get_collection().with_options(
            write_concern=pymongo.WriteConcern(**concern)
        )
        start = time.monotonic()
        with pytest.raises(WriteConcernError, match="Not enough data-bearing nodes"):
            collection.insert_one({"_id": 2, "balance": 0})
        with pytest.raises(WriteConcernError, match="Not enough data-bearing nodes"):
            collection.update_many({"balance": 0}, {"$inc": {"balance": 3}})
        assert time.monotonic() - start < 10
        assert balance(1, document_class) == balance(2, document_class) == 3
    assert operations(1) == operations(2) == ["create", "update"]


# -- conflicts and failing servers ------------------------------------------------------------------------------------


WRITES: dict[str, Callable[[], Any]] = {
    "save": lambda: Account(number=1, balance=5).save(),
    "update": lambda: Account.objects(number=1).update(set__balance=5),
    "inc": lambda: Account.objects(number=1).update(inc__balance=5),
    "update many": lambda: Account.objects(balance=0).update(inc__balance=5),
    "modify": lambda: Account.objects(number=1).modify(inc__balance=5),
    "bulk": lambda: Account._get_collection().bulk_write(
        [pymongo.UpdateOne({"_id": 1}, {"$set": {"balance": 5}})]
    ),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("command", ["findAndModify", "insert", "update", "commitTransaction"])
def test_transient_errors_are_tried_again(
    atomic: None, mongodb_client: Any, command: str, write: str
) -> None:
    """A conflict is nobody's error: the whole is done again, and there is one version."""
    with failing(mongodb_client, command, times=3, errorCode=WRITE_CONFLICT, errorLabels=TRANSIENT):
        WRITES[write]()
    assert balance() == 5
    assert operations() == ["create", "update"]


def test_transient_errors_of_inserts(atomic: None, mongodb_client: Any) -> None:
    """The same for what is new."""
    with failing(mongodb_client, "insert", times=2, errorCode=WRITE_CONFLICT, errorLabels=TRANSIENT):
        Account.objects.insert([Account(number=number) for number in (11, 12)])
    assert operations(11) == operations(12) == ["create"]


@pytest.mark.parametrize("command", ["findAndModify", "insert", "commitTransaction"])
def test_a_connection_that_breaks_once(atomic: None, mongodb_client: Any, command: str) -> None:
    """It is noticed no more than with retryable writes; nothing is done twice."""
    with failing(mongodb_client, command, closeConnection=True):
        Account.objects(number=1).update(inc__balance=5)
    assert balance() == 5
    assert operations() == ["create", "update"]


@pytest.mark.parametrize("command", ["findAndModify", "insert"])
def test_a_connection_that_breaks_once_in_sync(mongodb: Database, mongodb_client: Any, command: str) -> None:
    """The driver's retryable writes do what they do for untracked classes."""
    with tracked(DELIVERY="sync"):
        with failing(mongodb_client, command, closeConnection=True):
            Account.objects(number=1).update(set__balance=5)
        assert balance() == 5
        assert operations() == ["create", "update"]


def test_an_unknown_commit_is_only_committed_again(atomic: None, mongodb_client: Any) -> None:
    """The write itself is not repeated, or it would be done twice."""
    how = {"errorCode": 50, "errorLabels": ["UnknownTransactionCommitResult"]}
    with failing(mongodb_client, "commitTransaction", times=3, **how):
        Account.objects(number=1).update(inc__balance=5)
    assert balance() == 5
    assert operations() == ["create", "update"]


def test_conflicts_end_by_deadline(mongodb: Database, mongodb_client: Any) -> None:
    """TRANSACTION_TIMEOUT_S bounds the retries; what is raised is the driver's own error, with nothing written."""
    with tracked(DELIVERY="atomic", TRANSACTION_TIMEOUT_S=0.3):
        start = time.monotonic()
        with (
            failing(
                mongodb_client, "findAndModify", times=10_000, errorCode=WRITE_CONFLICT, errorLabels=TRANSIENT
            ),
            pytest.raises(mongoengine.OperationError),
        ):
            Account.objects(number=1).update(set__balance=5)
        assert 0.1 < time.monotonic() - start < 3
        assert balance() == 0
        assert operations() == ["create"]


def test_other_errors_are_not_tried_again(atomic: None, mongodb_client: Any) -> None:
    """They are raised at once, in the words of the caller's own call."""
    with (
        failing(mongodb_client, "findAndModify", "update", times=5, errorCode=UNAUTHORIZED),
        pytest.raises(mongoengine.OperationError, match="failCommand"),
    ):
        Account.objects(number=1).update(set__balance=5)
    assert operations() == ["create"]


def test_the_client_side_timeout(atomic: None, mongodb_client: Any) -> None:
    """`pymongo.timeout` bounds a tracked write as any other."""
    start = time.monotonic()
    with (
        failing(mongodb_client, "findAndModify", times=100, blockConnection=True, blockTimeMS=400),
        pymongo.timeout(0.2),
        pytest.raises((PyMongoError, mongoengine.OperationError)),
    ):
        Account.objects(number=1).update(set__balance=5)
    assert time.monotonic() - start < 5
    time.sleep(0.5)
    assert operations() == ["create"]


# -- versions that cannot be stored -----------------------------------------------------------------------------------


@contextmanager
def broken_store(client: Any, database: Database) -> Iterator[None]:
    """Inserts into the history collection fail, others do not."""
    namespace = f"{database.name}.{HISTORY}"
    with failing(client, "insert", times=1000, errorCode=UNAUTHORIZED, namespace=namespace):
        yield


@pytest.mark.parametrize("write", WRITES)
def test_atomic_writes_fail_with_their_version(
    atomic: None, mongodb: Database, mongodb_client: Any, write: str
) -> None:
    """Without a version there is no write."""
    with broken_store(mongodb_client, mongodb), pytest.raises(StoreError, match="not done") as raised:
        WRITES[write]()
    assert isinstance(raised.value.__cause__, OperationFailure)
    assert balance() == 0
    assert operations() == ["create"]
    WRITES[write]()
    assert operations() == ["create", "update"]


@pytest.mark.parametrize("write", WRITES)
def test_sync_writes_say_that_they_were_done(mongodb: Database, mongodb_client: Any, write: str) -> None:
    """The error carries the versions and says that the document was written; readers show the change as external."""
    with tracked(DELIVERY="sync"):
        with broken_store(mongodb_client, mongodb), pytest.raises(DeliveryError, match="was done") as raised:
            WRITES[write]()
        assert raised.value.written is True
        assert [record.document_id for record in raised.value.records] == [1]
        assert isinstance(raised.value.__cause__, StoreError)
        assert balance() == 5
        assert operations() == ["create", "external"]


def test_on_error_log(mongodb: Database, mongodb_client: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The write goes on; the log names the document and the version."""
    with tracked(DELIVERY="sync", ON_ERROR="log"):
        with broken_store(mongodb_client, mongodb), caplog.at_level(logging.ERROR, "django_mongo_history"):
            assert Account.objects(number=1).update(inc__balance=5) == 1
        assert "1 (version" in caplog.text
        assert balance() == 5
        Account.objects(number=1).update(inc__balance=1)
        assert operations() == ["create", "external", "update"]


@NEEDS_BIND
def test_a_broken_store_in_the_callers_transaction(
    atomic: None, mongodb: Database, mongodb_client: Any
) -> None:
    """The caller hears of it, and his transaction cannot commit half of it."""
    with (
        broken_store(mongodb_client, mongodb),
        pytest.raises((PyMongoError, HistoryError, mongoengine.OperationError)),
        transaction(),
    ):
        Account.objects(number=1).update(inc__balance=5)
    assert balance() == 0
    assert operations() == ["create"]


def test_appended_info_waits_for_a_write_that_succeeds(delivery: str, mongodb_client: Any) -> None:
    """What a failing write carried is carried by the next one, and by that one only."""
    account = Account.objects.get(number=1)
    append_change_info(account, ticket=7)
    with pytest.raises(mongoengine.NotUniqueError):
        Account(number=1).save(force_insert=True)
    with (
        failing(mongodb_client, "findAndModify", "update", times=9, errorCode=UNAUTHORIZED),
        pytest.raises(mongoengine.OperationError),
    ):
        Account.objects(number=1).update(set__balance=1)
    Account.objects(number=1).update(set__balance=2)
    Account.objects(number=1).update(set__balance=3)
    assert [v.extra for v in history_of(Account, 1)] == [{}, {"ticket": 7}, {}]


def test_appended_info_is_taken_once_however_often_a_write_is_tried(
    atomic: None, mongodb_client: Any
) -> None:
    """Retries carry it, too; the version that is stored has it."""
    append_change_info(Account.objects.get(number=1), ticket=8)
    with failing(
        mongodb_client, "commitTransaction", times=2, errorCode=WRITE_CONFLICT, errorLabels=TRANSIENT
    ):
        Account.objects(number=1).update(inc__balance=1)
    Account.objects(number=1).update(inc__balance=1)
    assert [v.extra for v in history_of(Account, 1)] == [{}, {"ticket": 8}, {}]
