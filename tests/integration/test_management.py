"""
The bootstrap for real: a small checkout in a path with a space gets its own `.venv` from pip, without the network.

The checkout has this repository's `management/` and a project whose build backend needs nothing.
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from management import cli
from management.commands import test

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "small"
version = "1"

[project.optional-dependencies]
demo = []
greeting = []
unreachable = ["a-package-that-is-not-asked-for"]
"""
BACKEND = '''
import pathlib, zipfile

METADATA = """Metadata-Version: 2.1
Name: small
Version: 1
Provides-Extra: demo
Provides-Extra: greeting
Provides-Extra: unreachable
Requires-Dist: a-package-that-is-not-asked-for; extra == "unreachable"
"""

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    files = {
        "small.pth": str(pathlib.Path.cwd()),
        "small-1.dist-info/METADATA": METADATA,
        "small-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "small-1.dist-info/RECORD": "",
    }
    name = "small-1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name

build_wheel = build_editable
'''
COMMAND = '''"""Greet."""
import argparse, sys
EXTRA = "{extra}"

def parse(argv):
    return argparse.Namespace(names=argv)

def run(options):
    print(sys.prefix, *options.names)
    return 7
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose path has a space in it, with the commands `greet` and `fetch`, its `.venv` not yet made."""
    root = tmp_path_factory.mktemp("with a space") / "check out"
    shutil.copytree(
        cli.ROOT / "management", root / "management", ignore=shutil.ignore_patterns("__pycache__")
    )
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND)
    (root / "management/commands/greet.py").write_text(COMMAND.format(extra="greeting"))
    (root / "management/commands/fetch.py").write_text(COMMAND.format(extra="unreachable"))
    return root


def manage(root: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`python -m management ...` in that checkout, with a pip that has no network."""
    return subprocess.run(
        [sys.executable, "-m", "management", *arguments],
        cwd=root,
        env={**os.environ, "PIP_NO_INDEX": "1", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_runs_inside_its_environment(checkout: Path) -> None:
    """From any Python into the checkout's own, with arguments and exit code handed through."""
    done = manage(checkout, "greet", "a name", "--loudly")
    assert done.stdout.splitlines()[-1] == f"{checkout / '.venv'} a name --loudly", done.stderr
    assert done.returncode == 7


def test_the_second_time_installs_nothing(checkout: Path) -> None:
    """Twice in a row: the second run says and does nothing but its work."""
    manage(checkout, "greet")
    assert manage(checkout, "greet").stdout == f"{checkout / '.venv'}\n"


def test_an_interrupted_install_is_made_anew(checkout: Path) -> None:
    """What an earlier run left half-done is replaced as a whole."""
    manage(checkout, "greet")
    (checkout / ".venv/.unfinished").touch()
    (checkout / ".venv/half-written").touch()
    done = manage(checkout, "greet")
    assert done.returncode == 7, done.stderr
    assert "Making .venv" in done.stdout
    assert not (checkout / ".venv/half-written").exists()


def test_no_network_is_told_in_one_line(checkout: Path) -> None:
    """An index that cannot be reached is named as what it is."""
    done = manage(
        checkout,
        "fetch",
        PIP_CONFIG_FILE=os.devnull,
        PIP_NO_INDEX="0",
        PIP_FIND_LINKS="",
        PIP_INDEX_URL="http://127.0.0.1:1/simple",
        PIP_RETRIES="1",
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("management: error: no network: pip cannot reach the package index")


def test_a_failed_install_is_tried_again(checkout: Path) -> None:
    """pip's failure is told in one line, and does not pass for an install the next time."""
    for _ in range(2):
        done = manage(checkout, "fetch", PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS="")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "No matching distribution found for a-package-that-is-not-asked-for" in done.stderr


def test_a_port_in_use_is_told_in_one_line(checkout: Path) -> None:
    """The demo looks at its port before it starts anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = manage(checkout, "demo", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == (
        f"management: error: port {port} is in use: name another one with --port,"
        " or leave the site out with --no-serve\n"
    )


def test_the_test_command_says_so_and_is_not_green(tmp_path: Path) -> None:
    """Its own step fails before the suite begins, and the browser tests fail by themselves."""
    environ = {**os.environ, "CHROMIUM": str(tmp_path / "nothing")}
    done = subprocess.run(
        [sys.executable, *test.BROWSER.arguments],
        cwd=cli.ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no program that can be run" in done.stderr
    one = "tests/browser/test_looks.py::test_the_chart_comes_into_the_list"
    command = [sys.executable, "-m", "pytest", one, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=cli.ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this test needs a browser" in done.stdout
    assert "skipped" not in done.stdout
