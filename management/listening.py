"""
A server's process, whatever it serves: launched on a tether, known for certain to be ours, frozen, killed.

A port that was free a moment ago may be a stranger's by now. So who listens is asked in the server's own words, and only
a process with our id is taken for ours.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from management.errors import ManagementError
from management.tether import tethered

HOST = "127.0.0.1"


class ListeningProcess(ABC):
    """
    One process that listens on `port` of 127.0.0.1; its output goes to `log`.

    Class attributes: `title`, what messages call it; `error`, what is raised; `patience_s`, seconds until the first answer.
    """

    title: str
    error: type[ManagementError]
    patience_s: float

    def __init__(self, port: int = 0) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port

    @property
    @abstractmethod
    def log(self) -> Path:
        """What it has said."""

    @abstractmethod
    def pid_of_listener(self) -> int | None:
        """Who listens on the port, by its own word; None: nobody yet, or somebody who does not say."""

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self.is_running() and self._process else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and before it did."""
        return None if self._process is None else self._process.poll()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch_as(self, command: Sequence[str]) -> None:
        """Start the process and do not wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                tethered([*command, "--port", str(self.port)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we stop the server when everybody has let go of it
            )

    def answers(self) -> bool:
        """True when *our* process answers on the port, False when it has ended."""
        deadline = time.monotonic() + self.patience_s
        while self.is_running():
            if self.pid_of_listener() == self.pid:
                return True
            if time.monotonic() > deadline:
                self.kill()
                raise self.error(
                    f"{self.title} does not answer after {self.patience_s:g} s: {self.last_words()}"
                )
            time.sleep(0.01)
        return False

    def kill(self) -> None:
        """SIGKILL, as a crash would. Also ends a paused process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Freeze the process: its connections stay open and nobody answers, as in a network partition."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def last_words(self) -> str:
        """The end of what it has said."""
        return self.tell(self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines())

    def tell(self, lines: Sequence[str]) -> str:
        """Of these lines the one that says why it has ended."""
        return (lines or ["it said nothing"])[-1][:300]

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def free_port() -> int:
    """A port that nobody listened on a moment ago; whoever launches there copes when that has changed."""
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


def accepts_connections(port: int) -> bool:
    """Whether anybody listens there: asked first, for clients take their time to give up."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
