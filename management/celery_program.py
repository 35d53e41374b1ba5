"""
A Celery program of the test project in a process of its own: a worker, a beat.

Watched through its log, the leader of a session of its own, ended by its process id, and by the kernel where this
process is killed outright (see `tether`); children of a prefork pool end by themselves when their worker is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from management.cli import ROOT
from management.errors import ManagementError
from management.tether import tethered

READY_TIMEOUT_S = 90  # a start takes about a second; two suites at once on two cores take their time
STOP_TIMEOUT_S = 60


class ProgramError(ManagementError):
    """A program did not come to where it should, and what it said last."""


class CeleryProgram:
    """`celery -A testproject ARGUMENTS...`, which writes to `log` and knows the environment variables `environ`."""

    def __init__(self, arguments: Sequence[str], *, log: Path, environ: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", "celery", "-A", "testproject", *arguments]
        self._environ = environ
        self._read_from = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log
        """What it has said, over all its starts."""

    @property
    def pid(self) -> int:
        """The process id, of the last process where it has ended."""
        return self._started().pid

    @property
    def output(self) -> str:
        """What it has said since it was started last."""
        said = self.log.read_bytes()[self._read_from :] if self.log.exists() else b""
        return said.decode(errors="replace")

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, until: str) -> None:
        """Start, again where it has ended, and return when it has said `until`. Raises: ProgramError."""
        self._read_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                tethered(self._command),
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while until not in self.output:
            if not self.is_running():
                raise ProgramError(f"{self._name} ended at once:\n{self.output[-3000:]}")
            if time.monotonic() > deadline:
                self.kill()
                raise ProgramError(f"{self._name} did not say {until!r} in {READY_TIMEOUT_S} s")
            time.sleep(0.02)

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM: a warm shutdown, which lets tasks end. The exit code."""
        process = self._started()
        if self.is_running():
            process.terminate()
        return process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL for it and its children, as a machine does that goes down."""
        if self._process is not None:
            with contextlib.suppress(
                ProcessLookupError
            ):  # the group of its session: what it has started, too
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def kill_alone(self) -> None:
        """SIGKILL for the process that its id names; children of a prefork pool see by themselves that it is gone."""
        self._started().kill()
        self._started().wait()

    def children(self) -> list[int]:
        """The ids of the processes that it has started: those of a prefork pool. Linux only."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in found.split()]

    @property
    def _name(self) -> str:
        return " ".join(self._command[2:6])

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProgramError(f"{self._name} was never started")
        return self._process


class Worker(CeleryProgram):
    """A worker. `start` and `kill` may take turns: the same one comes back."""

    def start(self, *, until: str = " ready.") -> None:
        super().start(until=until)
