"""
Servers for the tests that ask for one. They start when the first test needs them and are stopped at the end.

A test without these fixtures has no server at all (see `tests.plugin`). Where none can be started the tests that need
one fail and say why: they are never skipped in silence.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any

import mongoengine
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from management.servers import ReplicaSet, ServerError, Standalone
from tests.plugin import LENT_URI

TEST_COMMANDS = ("--setParameter", "enableTestCommands=1")  # `failCommand` and other fail points
# A dropped database waits for the journal's next turn: 0.1 s at defaults, at the end of every test. Only the run's own
# servers have it, which nobody kills: what a crash takes with it depends on it.
QUICK_DROPS = ("--journalCommitInterval", "5")
CLIENT_OPTIONS: dict[str, Any] = {
    "uuidRepresentation": "standard",
    "tz_aware": True,
}  # as the test project has them


@pytest.fixture(scope="session")
def replica_set() -> Iterator[ReplicaSet]:
    """The run's replica set of one node, with fail points. For tests that kill or stop servers: start another."""
    yield from _started(ReplicaSet(arguments=TEST_COMMANDS + QUICK_DROPS))


@pytest.fixture(scope="session")
def standalone() -> Iterator[Standalone]:
    """The run's standalone server: no transactions, no change streams."""
    yield from _started(Standalone(arguments=TEST_COMMANDS + QUICK_DROPS))


@pytest.fixture(scope="session")
def mongodb_uri(request: pytest.FixtureRequest) -> str:
    """The URI of a replica set on which tests may create databases."""
    return LENT_URI or request.getfixturevalue("replica_set").uri


@pytest.fixture(scope="session")
def mongodb_client(mongodb_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A client of the replica set that no test closes, for looking at what the code under test has written."""
    with MongoClient(mongodb_uri, **CLIENT_OPTIONS) as client:
        yield client


@pytest.fixture
def mongodb(
    mongodb_uri: str, mongodb_client: MongoClient[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database[dict[str, Any]]]:
    """
    An empty database of the replica set, as MongoEngine's default connection; the test project's too.

    Child processes find the server in MONGODB_URI, the database included.
    """
    name = f"test_{secrets.token_hex(6)}"
    monkeypatch.setenv("MONGODB_URI", _with_database(mongodb_uri, name))
    yield from _connected(mongodb_uri, name)
    mongodb_client.drop_database(name)


@pytest.fixture
def roomy(mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[None]:
    """The server of the tests has too small a cache to take 9 MB with its version in one transaction."""
    set_parameter = partial(mongodb_client.admin.command, "setParameter", 1)
    set_parameter(wiredTigerEngineRuntimeConfig="cache_size=1GB")
    yield
    set_parameter(wiredTigerEngineRuntimeConfig="cache_size=256MB")


@pytest.fixture
def standalone_mongodb(standalone: Standalone) -> Iterator[Database[dict[str, Any]]]:
    """As `mongodb`, on the standalone server."""
    name = f"test_{secrets.token_hex(6)}"
    yield from _connected(standalone.uri, name)
    with standalone.client() as client:
        client.drop_database(name)


@pytest.fixture(scope="module", autouse=True)
def _no_connection_left_behind() -> Iterator[None]:
    """
    Drop what Django's start or another module's tests registered: whoever forgot a fixture is told at once, and no
    test depends on those before it.
    """
    _disconnect()
    yield
    _disconnect()


def _started(servers: Any) -> Iterator[Any]:
    reason = _start(servers)
    if reason:
        pytest.fail(f"this test needs a MongoDB server, and none can be started: {reason}", pytrace=False)
    yield servers
    servers.stop()


def _start(servers: Any) -> str:
    """Empty, or why there is no server; returned, because pytest shows a whole chain of raised errors."""
    try:
        servers.start()
    except ServerError as error:
        return str(error)
    return ""


def _connected(uri: str, name: str) -> Iterator[Database[dict[str, Any]]]:
    _disconnect()
    mongoengine.connect(name, host=uri, **CLIENT_OPTIONS)
    database = mongoengine.get_db()
    database.command("ping")  # PyMongo 4.9 has no address before the first command
    try:
        yield database
    finally:
        _disconnect()


def _disconnect() -> None:
    """
    Forget every connection, those included that were registered and never used: disconnect_all() keeps them.

    MongoEngine resets the classes that it knows by name; of two of one name (pages of the documentation bring theirs)
    it knows the later one only, so all are reset here.
    """
    for alias in list(mongoengine.connection._connection_settings):
        mongoengine.disconnect(alias)
    for document_class in _below(mongoengine.Document):
        if document_class.__dict__.get("_collection") is not None:
            document_class._collection = None


def _below(document_class: type[Any]) -> Iterator[type[Any]]:
    for subclass in document_class.__subclasses__():
        yield subclass
        yield from _below(subclass)


def _with_database(uri: str, name: str) -> str:
    """The URI with `name` where URIs have the database."""
    hosts, _, rest = uri.removeprefix("mongodb://").partition("/")
    _, question_mark, options = rest.partition("?")
    return f"mongodb://{hosts}/{name}{question_mark}{options}"
