"""
Run MongoEngine's own tests twice, untracked and with every document class tracked, and compare test by test.

PATH is a checkout of MongoEngine, or an unpacked source archive. The server has the port that the suite expects.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from management.errors import ManagementError
from management.listening import is_free
from management.servers import ReplicaSet
from management.steps import call

EXTRA = "test"
PORT = 27017


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m management foreign-suite", description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="a checkout of MongoEngine with its tests")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after `--`")
    parser.add_argument("--delivery", default="auto", help="the delivery of the tracked run (default: auto)")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    if not (options.path / "tests").is_dir():
        raise ManagementError(f"{options.path} has no folder `tests`: it is no checkout of MongoEngine")
    if not is_free(PORT):
        raise ManagementError(f"port {PORT} is in use, and MongoEngine's tests expect their server there")
    with ReplicaSet(first_port=PORT):
        plain = _outcomes(options, tracks=False)
        tracked = _outcomes(options, tracks=True)
    return _compare(plain, tracked)


def _outcomes(options: argparse.Namespace, *, tracks: bool) -> dict[str, str]:
    """Each test's outcome by its name. The suite's own output is shown."""
    report = Path(tempfile.gettempdir()) / f"foreign-suite-{os.getpid()}-{int(tracks)}.txt"
    print(f"\n== MongoEngine's tests, {'every class tracked' if tracks else 'untracked'} ==", flush=True)
    environ = {
        **os.environ,
        "FOREIGN_SUITE_TRACKS": str(int(tracks)),
        "FOREIGN_SUITE_DELIVERY": options.delivery,
        "FOREIGN_SUITE_REPORT": str(report),
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(options.path)]),
    }
    report.touch()
    arguments = [
        "-q",
        "--continue-on-collection-errors",
        "-p",
        "management.foreign.plugin",
        "-p",
        "no:django",
        "-p",
        "no:randomly",
        "-W",
        "ignore",
    ]
    where = ["--rootdir", str(options.path), "-c", os.devnull, str(options.path / "tests")]
    call([sys.executable, "-m", "pytest", *arguments, *where, *options.pytest], environ=environ)
    found: dict[str, str] = {}
    for line in report.read_text().splitlines():
        outcome, _, name = line.partition(" ")
        found[name] = outcome
    report.unlink()
    return found


def _compare(plain: dict[str, str], tracked: dict[str, str]) -> int:
    differing = sorted(name for name in plain.keys() | tracked.keys() if plain.get(name) != tracked.get(name))
    print("\n== Comparison ==")
    for name in differing:
        print(f"{name}: untracked {plain.get(name)}, tracked {tracked.get(name)}")
    same = sum(outcome == "passed" for name, outcome in plain.items() if name not in differing)
    print(f"{len(plain)} tests, {same} pass in both runs, {len(differing)} differ", flush=True)
    return 1 if differing else 0
