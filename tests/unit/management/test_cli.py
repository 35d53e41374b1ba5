"""How commands are found and how their failures are told."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from management import cli
from management.commands import demo, serve, test
from management.steps import Step, run_steps

AS_OLD_PYTHON = """
import runpy, sys
sys.version_info = (3, 8, 10)
sys.argv[1:] = ["demo"]
runpy.run_module("management", run_name="__main__")
"""


def test_every_command_is_complete() -> None:
    """A module in `commands/` is a command when it says what it does and needs, parses, and runs."""
    for name in cli.names():
        command = cli.load(name)
        assert command.__doc__
        assert isinstance(command.EXTRA, str)
        assert callable(command.parse)
        assert callable(command.run)


def test_an_unknown_command_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command ends with code 2 before anything is installed."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["dmeo"])
    assert caught.value.code == 2
    assert "'demo'" in capsys.readouterr().err


def test_an_old_python_is_told_in_one_line() -> None:
    """The version is looked at before anything that an old Python cannot read."""
    done = subprocess.run(
        [sys.executable, "-c", AS_OLD_PYTHON], cwd=cli.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "3.11 or newer is needed, this is 3.8" in done.stderr


def test_commands_import_nothing_from_outside_the_standard_library() -> None:
    """All commands can be parsed before `.venv` exists."""
    code = "from management import cli; [cli.load(name) for name in cli.names()]"
    isolated = [sys.executable, "-S", "-c", code]  # -S: no site-packages
    done = subprocess.run(isolated, cwd=cli.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_tests_get_all_arguments() -> None:
    """Everything after `test` is pytest's, options first or not."""
    assert test.parse(["-k", "name", "tests/unit", "--help"]).pytest == ["-k", "name", "tests/unit", "--help"]


def test_the_demo_is_told_what_the_user_said(tmp_path: Path) -> None:
    """What is judged before `.venv` exists reaches the demo unchanged."""
    said = ["--no-serve", "--every-release", "--data", str(tmp_path)]
    assert demo._arguments(demo.parse(said)) == said


def test_serve_takes_a_command_after_two_dashes() -> None:
    """Options of the command are not ours."""
    options = serve.parse(["--nodes", "3", "--", "mongosh", "--quiet"])
    assert (options.nodes, options.command) == (3, ["mongosh", "--quiet"])


def test_the_demo_refuses_a_directory_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong input ends the demo before anything is started."""
    with pytest.raises(SystemExit):
        demo.parse(["--no-serve", "--data", "/no/such/directory"])
    assert "is no directory" in capsys.readouterr().err


def test_data_are_found_from_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative directory is meant from where the command was typed."""
    (tmp_path / "releases").mkdir()
    monkeypatch.chdir(tmp_path)
    assert demo.parse(["--no-serve", "--data", "releases"]).data == tmp_path / "releases"


@pytest.mark.parametrize(("codes", "expected"), [([0, 0], 0), ([0, 3], 1), ([3, 0], 1)])
def test_one_failed_step_fails_the_run(
    codes: list[int], expected: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every step runs, each result is said, and one failure is enough."""
    steps = [Step(f"step {n}", ("-S", "-c", f"raise SystemExit({code})")) for n, code in enumerate(codes)]
    assert run_steps(steps) == expected
    summary = capfd.readouterr().out.partition("== Summary ==")[2]
    assert summary.count("passed in") == codes.count(0)
    assert summary.count("FAILED (exit code 3)") == codes.count(3)


def test_errors_of_users_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ManagementError reaches the user as one line and exit code 1, without a traceback."""

    def fail(options: argparse.Namespace) -> int:
        raise cli.ManagementError("the port is taken")

    monkeypatch.setattr(cli, "enter", lambda *_, **__: None)
    monkeypatch.setattr(demo, "run", fail)
    monkeypatch.chdir(Path.cwd())  # main() moves to the checkout; this moves back
    assert cli.main(["demo", "--no-serve"]) == 1
    assert capsys.readouterr().err == "management: error: the port is taken\n"
