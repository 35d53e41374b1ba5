"""
Programs that die while they drop a collection: no living document looks deleted, and no drop is without its tombstone.
"""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mongoengine
import pytest
from pymongo.database import Database

from django_mongo_history import history_of
from management.servers import ReplicaSet
from tests.conftest import CLIENT_OPTIONS, _disconnect
from tests.fault.dropper import DOCUMENTS, Shelf
from tests.judge import HISTORY, configured, tracking

ROUNDS = 8
SEED = 20261122


@pytest.fixture
def uri() -> Iterator[str]:
    """Of a server of our own, which lets go early of what a killed writer has left open."""
    with ReplicaSet(arguments=("--setParameter", "transactionLifetimeLimitSeconds=1")) as servers:
        yield servers.uri


@pytest.fixture
def database(uri: str) -> Iterator[Database]:
    _disconnect()
    mongoengine.connect(f"test_{secrets.token_hex(6)}", host=uri, **CLIENT_OPTIONS)
    with configured(), tracking(Shelf):
        yield mongoengine.get_db()
    _disconnect()


@contextmanager
def dropper(uri: str, database: str, where: str) -> Iterator[subprocess.Popen[str]]:
    """The program `dropper.py` in a process of its own; dead at the end."""
    program = Path(__file__).with_name("dropper.py")
    command = [sys.executable, str(program), uri, database, where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[str]) -> list[str]:
    """All else that a program says until it is dead."""
    assert process.stdout is not None
    said = process.stdout.read().splitlines()
    process.wait(timeout=60)
    return said


def tombstones(database: Database) -> int:
    return database[HISTORY].count_documents({"dropped_at": {"$exists": True}})


def operations(number: int) -> list[str]:
    return [version.operation.value for version in history_of(Shelf, number)]


def test_killed_between_the_tombstone_and_the_drop(database: Database, uri: str) -> None:
    """The tombstone is there, the drop is not: the documents live, and the next drop is the one that counts."""
    with dropper(uri, database.name, "between") as process:
        assert heard(process) == ["1 filled"]
    assert process.returncode == -9
    assert tombstones(database) == 1
    assert [operations(number) for number in range(DOCUMENTS)] == [["create"]] * DOCUMENTS
    assert list(history_of(Shelf).deleted()) == []
    Shelf.objects(number=0).update(set__life=2)
    assert operations(0) == ["create", "update"]
    database["shelf"].delete_one({"_id": 1})
    assert operations(1) == ["create", "external"]
    Shelf.drop_collection()
    assert tombstones(database) == 2
    assert operations(0) == ["create", "update", "delete"]
    assert operations(1) == ["create", "delete"]


def test_killed_anywhere(database: Database, uri: str) -> None:
    """Whenever it dies: what was dropped has its delete, what was not has none, and nothing is `external`."""
    dice = random.Random(SEED)
    lives = 0
    for _round in range(ROUNDS):
        with dropper(uri, database.name, "anywhere") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "1 filled\n"
            time.sleep(dice.uniform(0, 0.25))
            process.kill()
            lives += sum(1 for line in heard(process) if line.endswith("dropped"))
        for number in range(DOCUMENTS):
            # Both as of one instant: the server may still be about the drop that it was sent.
            found = history_of(Shelf, number)._read()
            assert {step.operation for step in found.steps} <= {"create", "update", "delete"}
            assert found.after(len(found.steps) - 1) == found.image
    assert lives > ROUNDS, "it was always killed too soon"
    assert tombstones(database) >= lives
