"""
Real MongoDB servers that live as long as a `with` block: a standalone one, and replica sets of one or more nodes.

Every process started here is stopped by its own id: at the end of the block, on exceptions, Ctrl-C, SIGTERM and at
interpreter exit; the kernel does it where this process is killed outright (see `tether`). Nothing here ever looks
for a server at a usual port, so no stranger's data can be touched.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from management import scratch
from management.interruption import interrupt_on_sigterm
from management.mongod import Node, ServerError, find_mongod

if TYPE_CHECKING:
    from pymongo import MongoClient

T = TypeVar("T")
ELECTION_TIMEOUT_S = 60
ANSWER_TIMEOUT_S = 5
FAST_ELECTIONS = {
    "electionTimeoutMillis": 1000,
    "heartbeatIntervalMillis": 200,
}  # 1.8 s to a primary; 11.7 s at defaults
ALREADY_INITIALIZED = 23


class Servers(ABC):
    """Nodes that start together, stop together and share one temporary directory. Base of the two public kinds."""

    def __init__(self, *, nodes: int, arguments: Sequence[str], first_port: int = 0) -> None:
        self._count = nodes
        self._first_port = first_port
        self._arguments = tuple(arguments)
        self._owner = 0
        self.nodes: list[Node] = []

    @property
    @abstractmethod
    def uri(self) -> str:
        """What clients are given: it names these servers and no others."""

    def start(self) -> Self:
        """Start and return when writes are possible; on any failure nothing is left running."""
        interrupt_on_sigterm()
        binary = find_mongod()
        self._owner = os.getpid()
        self._directory = scratch.make_directory()
        atexit.register(self.stop)
        try:
            for number in range(self._count):
                directory = self._directory.path / str(number)
                port = self._first_port and self._first_port + number
                self.nodes.append(Node(binary, directory=directory, arguments=self._arguments, port=port))
            self._together(self.nodes, moving=True)
            self._initiate()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process and remove its files; harmless when done before, and in a forked child."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        for node in self.nodes:
            node.kill()
            node.forget_port()
        self.nodes.clear()
        self._directory.remove()

    def restart(self) -> None:
        """Start every node that was killed, on the data it left, and return when writes are possible."""
        self._together([node for node in self.nodes if not node.is_running()], moving=False)
        self._await_writable()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextlib.contextmanager
    def client(self, **options: Any) -> Iterator[MongoClient[dict[str, Any]]]:
        from pymongo import MongoClient

        with MongoClient(self.uri, **options) as client:
            yield client

    def _initiate(self) -> None:  # noqa: B027  # a single server is what it is
        """Make fresh nodes into what they are together."""

    def _await_writable(self) -> None:  # noqa: B027  # and takes writes as soon as it answers
        """Return when a write would be accepted."""

    def _together(self, nodes: Sequence[Node], *, moving: bool) -> None:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait(may_move=moving)


class Standalone(Servers):
    """One mongod without replication: no transactions, no change streams."""

    def __init__(self, *, arguments: Sequence[str] = ()) -> None:
        super().__init__(nodes=1, arguments=arguments)

    @property
    def uri(self) -> str:
        return f"mongodb://{self.nodes[0].address}/"

    def kill(self) -> None:
        self.nodes[0].kill()


class ReplicaSet(Servers):
    """
    A replica set, its name unique, so that a client that was given its URI can never end up in another one.

    `first_port` asks for ports from there on, for a suite that expects its server at one; 0 takes free ones.
    """

    def __init__(self, *, nodes: int = 1, arguments: Sequence[str] = (), first_port: int = 0) -> None:
        self.name = f"history-{secrets.token_hex(4)}"
        super().__init__(
            nodes=nodes,
            arguments=["--replSet", self.name, "--oplogSize", "50", *arguments],
            first_port=first_port,
        )

    @property
    def uri(self) -> str:
        return f"mongodb://{','.join(node.address for node in self.nodes)}/?replicaSet={self.name}"

    @property
    def primary(self) -> Node:
        """The node that takes writes now; waits for an election to end."""
        return _eventually(self._find_primary, what="a primary")

    def kill(self, node: Node | None = None) -> Node:
        """SIGKILL one node, the primary unless told otherwise, and return it."""
        killed = node or self.primary
        killed.kill()
        return killed

    def step_down(self, *, seconds: int = 2) -> None:
        """Make the primary give up its role at once and return when there is a primary again."""
        from pymongo.errors import AutoReconnect

        with self.primary.client() as client, contextlib.suppress(AutoReconnect):
            client.admin.command({"replSetStepDown": seconds, "force": True})
        self._await_writable()

    def _initiate(self) -> None:
        from pymongo.errors import OperationFailure

        members = [{"_id": number, "host": node.address} for number, node in enumerate(self.nodes)]
        config = {"_id": self.name, "members": members, "settings": FAST_ELECTIONS}
        with self.nodes[0].client() as client:
            try:
                client.admin.command("replSetInitiate", config)
            except OperationFailure as error:
                if error.code != ALREADY_INITIALIZED:
                    raise ServerError(f"the replica set cannot be initiated: {error}") from error
        self._await_writable()

    def _await_writable(self) -> None:
        _eventually(self._is_whole, what="a primary and its secondaries")

    def _is_whole(self) -> bool:
        """One primary, and every other running node a secondary: then a majority answers at once."""
        roles = [_role(node) for node in self.nodes if node.is_running()]
        return roles.count("primary") == 1 and roles.count("secondary") == len(roles) - 1

    def _find_primary(self) -> Node | None:
        return next((node for node in self.nodes if node.is_running() and _role(node) == "primary"), None)


@contextlib.contextmanager
def running_server(environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """The URI of the server to work on: what MONGODB_URI says, used as it is and left alone, else a new replica set."""
    if uri := environ.get("MONGODB_URI"):
        _check_answers(uri)
        yield uri
        return
    with ReplicaSet() as servers:
        yield servers.uri


def _check_answers(uri: str) -> None:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        with MongoClient[dict[str, Any]](
            uri, serverSelectionTimeoutMS=int(ANSWER_TIMEOUT_S * 1000)
        ) as client:
            client.admin.command("ping")
    except PyMongoError as error:  # without the URI itself: it may hold a password
        reason = str(error).split(",")[0]
        raise ServerError(
            f"MONGODB_URI is set, but no server answers there ({reason}); unset it to have one started"
        ) from error


def _role(node: Node) -> str:
    from pymongo.errors import PyMongoError

    try:
        with node.client(serverSelectionTimeoutMS=1000) as client:
            hello = client.admin.command("hello")
    except PyMongoError:
        return "unreachable"
    if hello.get("isWritablePrimary"):
        return "primary"
    return "secondary" if hello.get("secondary") else "starting"


def _eventually(probe: Callable[[], T | None], *, what: str) -> T:
    deadline = time.monotonic() + ELECTION_TIMEOUT_S
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(0.02)
    raise ServerError(f"the replica set still lacks {what} after {ELECTION_TIMEOUT_S} s")
