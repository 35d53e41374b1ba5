"""
Servers and writers that die in the middle: a write and its version are both there, or neither is.
"""

from __future__ import annotations

import queue
import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from mongoengine import fields
from pymongo.database import Database
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from django_mongo_history import history_of, track, untrack
from management.servers import ReplicaSet
from tests.conftest import CLIENT_OPTIONS, _disconnect
from tests.fault.writer import DOCUMENTS, Entry
from tests.judge import RAW, configured
from tests.plugin import UNREACHABLE

PATIENCE_S = 60


class Writer:
    """The program `writer.py` in a process of its own, and what it has said so far."""

    def __init__(self, uri: str, database: str, first: int = 1) -> None:
        program = Path(__file__).with_name("writer.py")
        command = [sys.executable, str(program), uri, database, str(first)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.done: list[int] = []
        self.failed: dict[int, str] = {}
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line)

    def wait_for(self, count: int) -> None:
        """Return when so many further writes were acknowledged."""
        wanted = len(self.done) + count
        deadline = time.monotonic() + PATIENCE_S
        while len(self.done) < wanted:
            assert time.monotonic() < deadline, f"the writer made {len(self.done)} of {wanted} writes"
            self._take(self._said.get(timeout=PATIENCE_S))

    def kill(self) -> None:
        """SIGKILL, and hear what it had said until then."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        while not self._said.empty():
            self._take(self._said.get())

    def _take(self, line: str) -> None:
        number, _, outcome = line.strip().partition(" ")
        if outcome == "done":
            self.done.append(int(number))
        elif outcome:
            self.failed[int(number)] = outcome


@contextmanager
def writing(uri: str, database: str, first: int = 1) -> Iterator[Writer]:
    writer = Writer(uri, database, first)
    try:
        yield writer
    finally:
        writer.kill()


@contextmanager
def looking(uri: str, database: str) -> Iterator[Database[dict[str, Any]]]:
    """MongoEngine's default connection on that server, the writer's class tracked."""
    _disconnect()
    mongoengine.connect(database, host=uri, **CLIENT_OPTIONS)
    with configured():
        track(Entry)
        try:
            yield mongoengine.get_db()
        finally:
            untrack(Entry)
            _disconnect()


def check(writer: Writer) -> int:
    """
    Every acknowledged write has its version, no version lacks its write, and the last one is what the database holds.

    Returns the number of versions.
    """
    stored = {
        one["_id"]: one.raw for one in mongoengine.get_db().get_collection("entry", codec_options=RAW).find()
    }
    written: set[int] = set()
    count = 0
    for key in range(DOCUMENTS):
        versions = list(history_of(Entry, key))
        count += len(versions)
        assert {v.operation for v in versions} <= {"create", "update", "delete"}, "a gap"
        last = versions[-1]._chain.after(versions[-1].index) if versions else None
        assert last == stored.get(key)
        numbers = [v["write"] for v in versions if v.operation != "delete"]
        assert numbers == sorted(set(numbers)), "a version that came twice or out of order"
        written.update(numbers)
    assert set(writer.done) <= written, "an acknowledged write without a version"
    assert written <= {*writer.done, *writer.failed, max([*writer.done, *writer.failed, 0]) + 1}
    return count


@pytest.fixture
def database() -> str:
    return f"test_{secrets.token_hex(6)}"


def test_a_server_that_is_killed_and_comes_back(database: str) -> None:
    """What was acknowledged is there with its version; the writer sees the driver's errors and goes on."""
    with ReplicaSet() as servers:
        with writing(servers.uri, database) as writer:
            for _round in range(2):
                writer.wait_for(25)
                servers.kill()
                time.sleep(0.2)
                servers.restart()
                writer.wait_for(25)
        assert set(writer.failed.values()) <= DRIVERS_OWN
        with looking(servers.uri, database):
            assert check(writer) >= 100


def test_a_primary_that_steps_down(database: str) -> None:
    """An election loses nothing and doubles nothing."""
    with ReplicaSet(nodes=3) as servers:
        with writing(servers.uri, database) as writer:
            for _round in range(2):
                writer.wait_for(25)
                servers.step_down(seconds=1)
                writer.wait_for(25)
        assert set(writer.failed.values()) <= DRIVERS_OWN
        with looking(servers.uri, database):
            assert check(writer) >= 100


DRIVERS_OWN = {
    "AutoReconnect", "NotPrimaryError", "ServerSelectionTimeoutError", "NetworkTimeout", "ConnectionFailure", "OperationError",
}  # fmt: skip
"""What an untracked class raises while a server is away; OperationError is MongoEngine's for errors of the server."""


def test_a_writer_that_is_killed(database: str) -> None:
    """
    At whatever moment it dies: neither half of a write is there without the other.

    What its transaction held is free again when the server ends that: after 60 s, here after one.
    """
    rng = random.Random(3)
    first = 1
    short = ("--setParameter", "transactionLifetimeLimitSeconds=1")
    with ReplicaSet(arguments=short) as servers, looking(servers.uri, database):
        for _round in range(6):
            with writing(servers.uri, database, first) as writer:
                writer.wait_for(5)
                time.sleep(rng.random() / 10)
            check_since(first, writer)
            first = max(writer.done) + 10


def check_since(first: int, writer: Writer) -> None:
    """`check`, of the writes of the last writer."""
    stored = {
        one["_id"]: one.raw for one in mongoengine.get_db().get_collection("entry", codec_options=RAW).find()
    }
    written: set[int] = set()
    for key in range(DOCUMENTS):
        versions = list(history_of(Entry, key))
        assert {v.operation for v in versions} <= {"create", "update", "delete"}, "a gap"
        assert (versions[-1]._chain.after(versions[-1].index) if versions else None) == stored.get(key)
        written.update(v["write"] for v in versions if v.operation != "delete")
    mine = {number for number in written if number >= first}
    assert set(writer.done) <= mine
    assert mine <= {*writer.done, max(writer.done) + 1}


# -- no server at all -------------------------------------------------------------------------------------------------


class Twin(mongoengine.Document):
    """As the writer's class, and nobody tracks it."""

    number = fields.IntField(primary_key=True)
    write = fields.IntField()
    meta = {"collection": "twin", "auto_create_index": False}


CALLS: list[Callable[[Any], Any]] = [
    lambda document_class: document_class(number=1, write=1).save(),
    lambda document_class: document_class(number=1).save(force_insert=True),
    lambda document_class: document_class.objects(number=1).update(write=2),
    lambda document_class: document_class.objects(write=1).update(inc__write=2),
    lambda document_class: document_class.objects(number=1).modify(write=2),
    lambda document_class: document_class.objects.insert([document_class(number=1)]),
    lambda document_class: document_class.objects(write=1).delete(),
]


def _raised(call: Callable[[Any], Any], document_class: Any) -> tuple[type, float]:
    start = time.monotonic()
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is the question
        call(document_class)
    return raised.type, time.monotonic() - start


def _ping_until_nobody_answers() -> None:
    """Raise once no server is known any more; the connections that break before are no matter."""
    while True:
        try:
            mongoengine.get_connection().admin.command("ping")
        except ServerSelectionTimeoutError:
            raise
        except AutoReconnect:
            continue


def test_no_server_is_the_error_that_it_always_was() -> None:
    """The exception's class is the untracked one's, and it does not take longer to come."""
    with looking(f"mongodb://{UNREACHABLE}/?serverSelectionTimeoutMS=150", "nowhere"):
        for call in CALLS[::3]:
            plain, plain_s = _raised(call, Twin)
            tracked, tracked_s = _raised(call, Entry)
            assert tracked is plain
            assert tracked_s < plain_s + 0.4


def test_a_server_that_has_gone_is_the_error_that_it_always_was(database: str) -> None:
    """The same for a client that knew the server."""
    with ReplicaSet() as servers, looking(f"{servers.uri}&serverSelectionTimeoutMS=300", database):
        for document_class in (Twin, Entry):
            document_class(number=1, write=1).save()
        servers.kill()
        with pytest.raises(ServerSelectionTimeoutError):
            _ping_until_nobody_answers()
        for call in CALLS:
            plain, plain_s = _raised(call, Twin)
            tracked, tracked_s = _raised(call, Entry)
            assert tracked is plain
            assert tracked_s < plain_s + 0.4
        servers.restart()
        assert [v.operation for v in history_of(Entry, 1)] == ["create"]
        Entry.objects(number=1).update(write=2)
        assert [v.operation for v in history_of(Entry, 1)] == ["create", "update"]
