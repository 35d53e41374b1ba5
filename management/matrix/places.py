"""
Where a row runs: an environment of its own, and a folder with the tests.

A row of the checkout keeps its environment in `.matrix/`, which pip brings up to date at each run, so that "newest"
means today's. A row of the wheel gets a fresh one in a temporary directory, far from the sources.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from management import scratch
from management.environment import explain_pip_failure
from management.errors import ManagementError
from management.matrix.rows import Row
from management.servers import ReplicaSet

CACHE = ".matrix"
EXTRAS = "celery,suite"
COPIED = ("tests", "testproject", "management", "docs", "pyproject.toml")
"""What the tests need of the checkout besides the package."""
SMOKE = Path("tests/matrix/wheel_smoke.py")

_LOWER_BOUND = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")
_ASK = """
import importlib.metadata as m, json, platform
found = {"python": platform.python_version()}
for name in ("django", "mongoengine", "pymongo", "mongomock", "django-mongoengine"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Place:
    """`python` runs the tests, from `folder`."""

    python: Path
    folder: Path

    def versions(self) -> dict[str, str]:
        """What is really installed, by the name in lower case; "python" too."""
        asked = _run([str(self.python), "-c", _ASK], cwd=self.folder)
        found: dict[str, str] = json.loads(asked.stdout)
        return found


@contextlib.contextmanager
def placed(row: Row, *, root: Path, python: Path) -> Iterator[Place]:
    """The row's place, installed. Raises ManagementError, in one line, where that fails."""
    if not row.is_wheel:
        yield _from_checkout(row, root, python)
        return
    directory = scratch.make_directory()
    try:
        yield _from_wheel(row, root, python, directory.path)
    finally:
        directory.remove()


def lower_bounds(project: dict[str, Any]) -> list[str]:
    """`pyproject.toml`'s `[project]`: the dependencies, Celery's too, each at its bound: `Django>=4.2`, `Django==4.2`."""
    stated = [*project["dependencies"], *project["optional-dependencies"]["celery"]]
    found = []
    for requirement in stated:
        bound = _LOWER_BOUND.match(requirement)
        if bound is None:
            raise ManagementError(f"pyproject.toml: {requirement!r} has no lower bound to run at")
        found.append("{}=={}".format(*bound.groups()))
    return found


def _from_checkout(row: Row, root: Path, python: Path) -> Place:
    environment = root / CACHE / row.name
    requirements = list(row.requirements)
    if row.is_lowest:
        with (root / "pyproject.toml").open("rb") as file:
            requirements += lower_bounds(tomllib.load(file)["project"])
    own = _made(environment, python)
    # Relative, as `management.environment` does it: a checkout's path may hold what is pip's syntax.
    _pip(own, "-e", f".[{EXTRAS}]", *requirements, cwd=root, log=root / CACHE / f"{row.name}.log")
    return Place(own, root)


def _from_wheel(row: Row, root: Path, python: Path, directory: Path) -> Place:
    own = _made(directory / "environment", python)
    log = directory / "install.log"
    _run([str(own), "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(directory), "."], cwd=root)
    (wheel,) = directory.glob("*.whl")
    folder = directory / "elsewhere"
    folder.mkdir()
    for name in COPIED:
        _copy(root / name, folder / name)
    # The wheel alone first: what the tests bring along must not stand in for a dependency that it forgot to name.
    _pip(own, str(wheel), *row.requirements, cwd=folder, log=log)
    with ReplicaSet() as server:
        environ = {**os.environ, "MONGODB_URI": server.uri}
        environ.pop("PYTHONPATH", None)
        command = [str(own), str(folder / SMOKE)]
        said = _run(command, cwd=directory, environ=environ, what="the smoke test of the wheel alone")
    print(said.stdout, end="", flush=True)
    _pip(own, f"{wheel}[{EXTRAS}]", *row.requirements, cwd=folder, log=log)
    return Place(own, folder)


def _made(environment: Path, python: Path) -> Path:
    """The environment's Python; made anew where the last attempt was cut short, or another Python made it."""
    own = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = environment / ".made-by"
    if not (own.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == str(python)):
        _run([str(python), "-m", "venv", "--clear", str(environment)], what="making the environment")
        stamp.write_text(str(python), encoding="utf-8")
    return own


def _pip(python: Path, *requirements: str, cwd: Path, log: Path) -> None:
    newest = ("--upgrade", "--upgrade-strategy", "eager")
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *newest, *requirements]
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PIP_USER": "0", "PYTHONUTF8": "1"},
    )
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        raise ManagementError(explain_pip_failure(done.stdout + done.stderr, log=str(log)))


def _run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    what: str = "",
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ManagementError(f"{what or ' '.join(command[:4])} failed: {(lines or ['it said nothing'])[-1]}")
    return done


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copy2(source, target)
    else:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3*"))
