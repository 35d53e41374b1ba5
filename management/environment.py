"""
The virtual environment `.venv` of this checkout: made, filled, and entered, with nothing but the standard library.

A stamp per extra says what was installed, so that the second run costs nothing; a mark that outlives a killed
install says that the environment cannot be trusted, so that the next run makes it anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from management.errors import ManagementError

NO_NETWORK_SIGNS = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "RemoteDisconnected",
    "ConnectionResetError",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Network is unreachable",
)


class Environment:
    """The `.venv` below `root`. `extra` names one of the project's optional dependency groups throughout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / ".venv"
        self.log = self.path / "install.log"
        self._unfinished = self.path / ".unfinished"

    @property
    def python(self) -> Path:
        return self.path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def is_entered(self) -> bool:
        return Path(sys.prefix).resolve() == self.path.resolve()

    def is_ready(self, extra: str) -> bool:
        """Whether `extra` is installed as `pyproject.toml` asks for it today."""
        stamp = self._stamp(extra)
        return (
            self.python.exists()
            and not self._unfinished.exists()
            and stamp.is_file()
            and stamp.read_text(encoding="utf-8") == self.fingerprint(extra)
        )

    def fingerprint(self, extra: str) -> str:
        """
        What an install depends on: the metadata in `pyproject.toml`, the extra and the checkout's path.

        Not the whole file, so that a new linter rule installs nothing; the path, because an editable install points
        at it and a checkout may be moved or copied with its `.venv`.
        """
        with (self.root / "pyproject.toml").open("rb") as file:
            settings = tomllib.load(file)
        parts = [settings.get("build-system"), settings.get("project"), settings.get("tool", {}).get("hatch")]
        text = json.dumps([parts, extra, str(self.root)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def prepare(self, extra: str) -> None:
        """Make the environment hold `extra`; costs a few file reads when it does already."""
        if self.is_ready(extra):
            return
        with _exclusive(self.root / ".venv.lock"):
            if self.is_ready(extra):  # another process did it while this one waited
                return
            if self._unfinished.exists() or not self._has_pip():
                self._create()
            self._install(extra)

    def _stamp(self, extra: str) -> Path:
        return self.path / f".installed-{extra}"

    def _has_pip(self) -> bool:
        return self.python.exists() and _succeeds([str(self.python), "-c", "import pip"])

    def _create(self) -> None:
        for module in ("venv", "ensurepip"):
            if importlib.util.find_spec(module) is None:
                raise ManagementError(
                    f"{sys.executable} has no {module} module, so .venv cannot be made:"
                    " install it (Debian, Ubuntu: apt-get install python3-venv)"
                )
        if self.path.exists() and not self.path.is_dir():
            raise ManagementError(".venv is in the way: it is no directory; remove it")
        print("Making .venv ...", flush=True)
        command = [sys.executable, "-m", "venv", "--clear", str(self.path)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0 or not self._has_pip():
            raise ManagementError(f".venv cannot be made: {_last_line(made.stderr + made.stdout)}")

    def _install(self, extra: str) -> None:
        print(
            f"Installing the project with its {extra!r} extra into .venv (half a minute the first time) ...",
            flush=True,
        )
        # Relative, so that neither a space nor a bracket in the checkout's path can be taken for pip's syntax.
        command = [
            str(self.python),
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "-e",
            f".[{extra}]",
        ]
        self._unfinished.touch()
        with self.log.open("w", encoding="utf-8") as log:
            done = subprocess.run(
                command,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                env={**os.environ, "PIP_USER": "0", "PYTHONUTF8": "1"},
            )
        if done.returncode < 0:
            raise ManagementError(f"pip was killed by signal {-done.returncode}; call the same command again")
        self._unfinished.unlink()  # pip failed by itself or not at all: it has left the environment in order
        if done.returncode != 0:
            raise ManagementError(
                explain_pip_failure(
                    self.log.read_text(encoding="utf-8", errors="replace"), log=".venv/install.log"
                )
            )
        self._stamp(extra).write_text(self.fingerprint(extra), encoding="utf-8")


def enter(environment: Environment, *, extra: str, argv: Sequence[str]) -> None:
    """Return inside `.venv` with `extra` installed; from outside, replace this process by the same command there."""
    environment.prepare(extra)
    if environment.is_entered():
        return
    python = str(environment.python)
    command = [python, "-m", "management", *argv]
    os.chdir(environment.root)
    if os.name == "nt":  # there execv() returns to the shell before the command has ended
        sys.exit(subprocess.call(command))
    sys.stdout.flush()
    os.execv(python, command)


def explain_pip_failure(output: str, *, log: str) -> str:
    """One line on why pip failed, from what it printed; `log` is where the reader finds the rest."""
    if any(sign in output for sign in NO_NETWORK_SIGNS):
        return f"no network: pip cannot reach the package index (all it said: {log})"
    return f"pip failed: {_last_line(output, marker='ERROR')} (all it said: {log})"


def _last_line(text: str, *, marker: str = "") -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if marker in line]
    return (marked or lines or ["no reason given"])[-1]


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:  # a Python that was moved away, or built for another machine
        return False


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """One install at a time; the lock goes with its process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows: two installs at once are the user's to avoid
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another process that installs into .venv ...", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
