"""The matrix's decisions: what a row runs, on which Python, and what its results come to. Nothing is installed here."""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from management import cli
from management.commands import matrix
from management.errors import ManagementError
from management.matrix.interpreters import find_python
from management.matrix.places import COPIED, lower_bounds
from management.matrix.results import Counts, Result, exit_code, read_counts, summary
from management.matrix.rows import ROWS, Part, Row, Server
from management.matrix.running import run_row

PARTS = [
    pytest.param(part, id=f"{row.name}-{number}") for row in ROWS for number, part in enumerate(row.parts)
]
ROW = Row("a-row", "says", ("3.11",), (), (Part(("tests",), {"a reason": ("tests/test_x.py",)}),))
SUITE = """
import pytest

def test_passes(): pass
def test_fails(): assert False
@pytest.fixture
def broken(): raise KeyError
def test_errs(broken): pass
@pytest.mark.skip(reason="too old")
def test_skipped(): pass
@pytest.mark.parametrize("n", range(2))
def test_skips_itself(n): pytest.skip("too new")
"""

# --- rows ---


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("part", PARTS)
def test_what_a_row_names_exists(part: Part) -> None:
    """A file or test that was renamed would otherwise no longer be run, or no longer be left out."""
    left_out = [name for names in part.left_out.values() for name in names]
    assert all(part.left_out)
    for name in (*part.paths, *left_out):
        file, _, test = name.partition("::")
        path = cli.ROOT / file
        assert path.exists(), name
        if test:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert test in {node.name for node in ast.walk(tree) if hasattr(node, "name")}, name
    assert all(any(name.startswith(path) for path in part.paths) for name in left_out)


def test_the_suites_of_rows_are_collected_by_rows_only() -> None:
    """pytest takes them by name alone: they hold what cannot pass elsewhere, and skip nothing."""
    folder = cli.ROOT / "tests" / "matrix"
    named = {path for row in ROWS for part in row.parts for path in part.paths}
    suites = {f"tests/matrix/{path.name}" for path in folder.glob("suite_of_*.py")}
    assert suites
    assert suites <= named
    assert not [*folder.rglob("test_*.py"), *folder.rglob("*_test.py")]
    assert not [path for path in folder.rglob("*.py") if "skip" in path.read_text(encoding="utf-8")]


def test_what_is_left_out_is_said_to_pytest() -> None:
    """Files are ignored, single tests deselected."""
    part = Part(("tests/unit",), {"why": ("tests/a.py", "tests/b.py::test_c")}, arguments=("-k", "x"))
    assert part.pytest_arguments() == (
        "tests/unit",
        "--ignore=tests/a.py",
        "--deselect=tests/b.py::test_c",
        "-k",
        "x",
    )


def test_the_wheels_tests_have_no_sources_beside_them() -> None:
    assert "django_mongo_history" not in COPIED


def test_rows_say_what_their_documents_lie_in() -> None:
    servers = {row.name: row.server for row in ROWS}
    assert (servers["django-5.2"], servers["standalone"], servers["mongomock"]) == (
        "replica set",
        "standalone",
        "mongomock",
    )


# --- versions ---


def test_every_dependency_has_a_lower_bound_that_is_run() -> None:
    """The row `lowest` takes its versions from `pyproject.toml`, so they cannot differ."""
    with (cli.ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    bounds = lower_bounds(project)
    assert len(bounds) == len(project["dependencies"]) + 1
    assert "Django==4.2" in bounds
    assert [bound for bound in bounds if bound.startswith("celery==")]


def test_a_dependency_without_a_lower_bound_is_told() -> None:
    with pytest.raises(ManagementError, match="'Django<6' has no lower bound"):
        lower_bounds({"dependencies": ["Django<6"], "optional-dependencies": {"celery": []}})


def _a_python(path: Path, says: str, code: int = 0) -> Path:
    """A program that answers as a Python would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {says}\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name == "nt", reason="its stand-ins are shell scripts")
def test_pythons_are_asked_and_not_just_found(tmp_path: Path) -> None:
    """A shim on the PATH that has no Python behind it does not hide the one that pyenv keeps."""
    _a_python(tmp_path / "bin/python3.98", "shim: 3.98 is not installed", code=127)
    kept = _a_python(tmp_path / ".pyenv/versions/3.98.1/bin/python", "3.98")
    environ = {"PATH": str(tmp_path / "bin")}
    assert find_python(["3.99", "3.98"], environ=environ, home=tmp_path) == kept
    assert find_python(["3.99"], environ=environ, home=tmp_path) is None
    on_path = _a_python(tmp_path / "bin/python3.99", "3.99")
    assert find_python(["3.99", "3.98"], environ=environ, home=tmp_path) == on_path


def test_this_python_will_do(tmp_path: Path) -> None:
    """No other one is needed where this one is right; and it is the one beneath this environment."""
    version = "{}.{}".format(*sys.version_info[:2])
    found = find_python([version], environ={}, home=tmp_path)
    assert found is not None
    assert found == Path(sys._base_executable)


# --- results ---


def test_counts_are_pytests(tmp_path: Path) -> None:
    """Errors count as failed; skips have their reasons."""
    (tmp_path / "test_all.py").write_text(SUITE)
    report = tmp_path / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        os.devnull,
        "--rootdir",
        str(tmp_path),
        "-p",
        "no:django",
    ]
    subprocess.run([*command, f"--junitxml={report}", str(tmp_path)], capture_output=True, check=False)
    counts = read_counts(report)
    assert (counts.passed, counts.failed, counts.skipped) == (1, 2, 3)
    assert counts.skips == {"too old": 1, "too new": 2}


def test_counts_of_parts_are_added() -> None:
    assert Counts(1, 2, {"a": 1}) + Counts(10, 20, {"a": 2, "b": 3}) == Counts(11, 22, {"a": 3, "b": 3})


PASSED = Result(ROW, counts=Counts(passed=1))
FAILED = Result(ROW, counts=Counts(passed=1, failed=1))
NOT_RUN = Result(ROW, missing="needs Python 3.11")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([PASSED, PASSED], 0),
        ([PASSED, FAILED], 1),
        ([PASSED, NOT_RUN], 3),
        ([NOT_RUN, FAILED], 1),
        ([PASSED, Result(ROW, counts=Counts(passed=5), trouble=("pytest ended with code 3",))], 1),
        ([Result(ROW)], 1),  # no test ran
    ],
)
def test_the_exit_code_tells(results: list[Result], expected: int) -> None:
    """Whatever was not shown to pass is not 0."""
    assert exit_code(results) == expected


def test_the_summary_hides_nothing() -> None:
    """Versions and counts, and beside them each skip, each thing left out, and why a row failed or was not run."""
    versions = {"python": "3.11.7", "django": "5.2.19", "mongoengine": "0.29.3", "pymongo": "4.20.0"}
    done = Result(ROW, versions, "replica set, 6.0.5", Counts(8, 0, {"too old": 2}), 61.4)
    troubled = Result(ROW, trouble=("pip failed: no such version",))
    lines = summary([done, NOT_RUN, troubled]).splitlines()
    assert lines[0].split() == [
        "row", "python", "django", "mongoengine", "pymongo", "server", "passed", "failed", "skipped", "seconds",
    ]  # fmt: skip
    assert lines[1].split() == [
        "a-row", "3.11.7", "5.2.19", "0.29.3", "4.20.0", "replica", "set,", "6.0.5", "8", "0", "2", "61", "passed",
    ]  # fmt: skip
    assert lines[2].endswith("NOT RUN")
    assert lines[3].endswith("FAILED")
    assert "a-row: not run here: needs Python 3.11" in lines
    assert "a-row: pip failed: no such version" in lines
    assert "a-row: skipped 2: too old" in lines
    assert "a-row, a-row: left out: tests/test_x.py (a reason)" in lines  # of the two that were run


def test_a_row_without_its_python_is_not_run(tmp_path: Path) -> None:
    """It is a result like any other, with its reason."""
    row = Row("future", "says", ("3.98", "3.99"), (), (Part(("tests",), server=Server.NONE),))
    assert run_row(row, root=tmp_path).missing == "needs Python 3.98 or 3.99"


@pytest.mark.skipif(os.name == "nt", reason="its stand-in is a shell script")
def test_an_environment_that_cannot_be_made_fails_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows after it are run all the same."""
    broken = _a_python(tmp_path / "python", "no venv in here", code=1)
    monkeypatch.setattr("management.matrix.running.find_python", lambda _: broken)
    result = run_row(ROW, root=tmp_path)
    assert result.verdict == "FAILED"
    assert result.trouble == ("making the environment failed: no venv in here",)


# --- the command ---


def test_rows_can_be_chosen() -> None:
    assert matrix.parse([]).only is None
    assert matrix.parse(["--only", "mongomock", "--only", "wheel"]).only == ["mongomock", "wheel"]


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        matrix.parse(["--only", "django-1.0"])
    assert "'mongomock'" in capsys.readouterr().err


def test_the_list_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.run(argparse.Namespace(only=["wheel"], list=True)) == 0
    assert capsys.readouterr().out.split()[:2] == ["wheel", "the"]
