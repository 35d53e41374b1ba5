"""One row from its Python to its result."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import ParseError

from management.errors import ManagementError
from management.matrix.interpreters import find_python
from management.matrix.places import Place, placed
from management.matrix.results import Counts, Result, read_counts
from management.matrix.rows import Part, Row, Server
from management.mongod import find_mongod
from management.servers import Standalone
from management.steps import PYTEST, call

FAIL_POINTS = ("--setParameter", "enableTestCommands=1")  # as the tests' own servers have them
TESTS_FAILED = 1
"""pytest's exit code for it; 0 is success, any other means that something else went wrong."""


def run_row(row: Row, *, root: Path) -> Result:
    """Install and run a row; its failures of any kind are in the result. Output goes to the terminal as it comes."""
    print(f"\n== {row.name}: {row.says} ==", flush=True)
    python = find_python(row.pythons)
    if python is None:
        return Result(row, missing=f"needs Python {' or '.join(row.pythons)}")
    start = time.monotonic()
    try:
        with placed(row, root=root, python=python) as place:
            return _run_parts(row, place, start)
    except ManagementError as error:
        print(error, flush=True)
        return Result(row, seconds=time.monotonic() - start, trouble=(str(error),))


def _run_parts(row: Row, place: Place, start: float) -> Result:
    versions = place.versions()
    print(", ".join(f"{name} {version}" for name, version in versions.items()), flush=True)
    counts, trouble = Counts(), []
    for part in row.parts:
        found, problem = _run_part(part, place)
        counts += found
        trouble += [problem] if problem else []
    seconds = time.monotonic() - start
    return Result(row, versions, _server(row, versions), counts, seconds, trouble=tuple(trouble))


def _run_part(part: Part, place: Place) -> tuple[Counts, str]:
    """What the tests came to, and what else went wrong: empty when nothing did."""
    with tempfile.TemporaryDirectory() as directory, _environ(part) as environ:
        report = Path(directory) / "report.xml"
        arguments = (*PYTEST, *part.pytest_arguments(), "-q", "-p", "no:cacheprovider")
        print(f"$ pytest {' '.join(part.pytest_arguments())}", flush=True)
        command = [str(place.python), *arguments, f"--junitxml={report}"]
        code = call(command, environ=environ, cwd=place.folder)
        try:
            counts = read_counts(report)
        except (OSError, ParseError):
            counts = Counts()
    problem = "" if code in {0, TESTS_FAILED} else f"pytest {part.paths[0]} … ended with code {code}"
    return counts, problem


@contextlib.contextmanager
def _environ(part: Part) -> Iterator[dict[str, str]]:
    """For pytest: nothing of the developer's shell that would change what is imported or asked."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "PYTEST_ADDOPTS", "VIRTUAL_ENV", "TEST_MONGODB_URI"}
    }
    if part.server is Server.NONE:
        yield {**kept, "MONGOD": os.devnull}
        return
    kept["MONGOD"] = str(find_mongod().resolve())  # the wheel has no server, and another folder
    if part.server is Server.OWN:
        yield kept
        return
    with Standalone(arguments=FAIL_POINTS) as server:
        yield {**kept, "TEST_MONGODB_URI": server.uri}


def _server(row: Row, versions: dict[str, str]) -> str:
    if row.server == "mongomock":
        return f"mongomock {versions.get('mongomock', '-')}"
    said = subprocess.run(
        [str(find_mongod()), "--version"], capture_output=True, text=True, check=False
    ).stdout
    version = re.search(r"db version v(\S+)", said)
    return f"{row.server}, {version.group(1) if version else 'version unknown'}"
