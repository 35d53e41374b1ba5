"""The suite in several processes: each with servers of its own, and nothing left of any when the run is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from management import cli
from management.scratch import PREFIX
from tests.dividing import LONGEST_FIRST, TESTS
from tests.integration.test_servers import is_alive, soon

STARTED_S = 60
# Ctrl-C reaches it also where this run's own parent has it ignored, as shells do for what runs in the background.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from management.commands import test
from management.interruption import interrupt_on_sigterm
interrupt_on_sigterm()
sys.exit(test.run(test.parse(sys.argv[1:])))
"""
A_TEST = """
import os, pathlib, time

def test_a(replica_set, capsys):
    with capsys.disabled():
        print("said past the capture")
    report = pathlib.Path(__file__).parent / f"{replica_set.nodes[0].pid}.part"
    report.write_text(f"{os.getpid()} {os.getppid()}")
    report.rename(report.with_suffix(".server"))
    time.sleep({seconds})
"""


@contextmanager
def command(
    folder: Path, *arguments: str, modules: int = 2, seconds: int = 60
) -> Iterator[subprocess.Popen[str]]:
    """`python -m management test` on so many modules with one test, which takes so long and has a server; no install."""
    paths = [folder / f"test_{number}.py" for number in range(modules)]
    for path in paths:
        path.write_text(A_TEST.replace("{seconds}", str(seconds)))
    settings = ("-c", str(cli.ROOT / "pyproject.toml"), "--rootdir", str(folder))
    plugins = ("-p", "tests.conftest", "-p", "no:cacheprovider")
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *settings, *plugins, *arguments, *map(str, paths)],
        cwd=cli.ROOT,
        env={**os.environ, "TMPDIR": str(folder), "TEST_MONGODB_URI": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def servers(folder: Path) -> dict[int, tuple[int, int]]:
    """The servers' process ids: each with its test's and with that one's parent's."""
    found = {}
    for path in folder.glob("*.server"):
        test, parent = path.read_text().split()
        found[int(path.stem)] = int(test), int(parent)
    return found


def both_started(folder: Path) -> dict[int, tuple[int, int]]:
    assert soon(lambda: len(servers(folder)) == 2, timeout_s=STARTED_S)
    return servers(folder)


def test_two_modules_are_two_processes_with_servers_of_their_own(tmp_path: Path) -> None:
    """And the closing line counts the tests of both; what they say past the capture, counts of kills say, is heard."""
    with command(tmp_path, "-n", "2", seconds=0) as process:
        said, _ = process.communicate(timeout=STARTED_S)
    assert process.returncode == 0, said
    assert "2 passed in" in said
    assert said.count("said past the capture") == 2
    assert len({test for test, _parent in servers(tmp_path).values()}) == 2


@pytest.mark.parametrize("arguments", [(), ("-n", "0")], ids=["one module", "asked for"])
def test_one_process_where_there_is_nothing_to_divide(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """One module is not divided; `-n 0` outweighs what the command says."""
    with command(tmp_path, *arguments, modules=1 + len(arguments) // 2, seconds=0) as process:
        said, _ = process.communicate(timeout=STARTED_S)
    assert process.returncode == 0, said
    assert "workers" not in said


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """The terminal tells all processes at once; when the command has ended, so have all others, and files are gone."""
    with command(tmp_path, "-n", "2") as process:
        found = both_started(tmp_path)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=STARTED_S)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said
    assert not [pid for pid in (*found, *sum(found.values(), ())) if is_alive(pid)]
    assert list(tmp_path.glob(f"{PREFIX}*")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_a_killed_command_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGKILL of the command is the end of pytest, of its processes and of their servers, in turn."""
    with command(tmp_path, "-n", "2") as process:
        found = both_started(tmp_path)
        process.kill()
        everything = [*found, *sum(found.values(), ())]
        assert soon(lambda: not [pid for pid in everything if is_alive(pid)], timeout_s=30)


def test_what_comes_first_exists() -> None:
    """A module that was renamed would otherwise be the last of a run one day."""
    assert [name for name in LONGEST_FIRST if not (TESTS.parent / name).exists()] == []
