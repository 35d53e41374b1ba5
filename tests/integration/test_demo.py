"""The demo, on a few of its airports: every proof holds, with a worker and without, and nothing is left behind."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from management import cli
from testproject.airports.loader import DATA
from tests.integration.test_servers import is_alive, soon

MOST = 60
ALWAYS = ("LSZM", "SWRP")
"""Airports with much of a life."""


@pytest.fixture
def few_airports(tmp_path: Path) -> Path:
    """The releases, cut down to the same few dozen airports."""
    directory = tmp_path / "releases"
    directory.mkdir()
    for release in sorted(DATA.glob("airports-*.csv.gz")):
        with gzip.open(release, "rt", encoding="utf-8", newline="") as file:
            head, *lines = file.readlines()
        always = [line for line in lines[MOST:] if any(f"{code}" in line for code in ALWAYS)]
        with gzip.open(directory / release.name, "wt", encoding="utf-8", newline="") as file:
            file.writelines([head, *lines[:MOST], *always])
    return directory


def demo(few_airports: Path, uri: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "testproject.demo", "--no-serve", "--data", str(few_airports), *arguments],
        cwd=cli.ROOT,
        env={**os.environ, "MONGODB_URI": uri},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_every_proof_holds(
    few_airports: Path, mongodb_uri: str, mongodb_client: MongoClient[dict[str, Any]]
) -> None:
    """Bytes for bytes, and the database that it made is gone."""
    done = demo(few_airports, mongodb_uri)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("✓") == 5
    assert [name for name in mongodb_client.list_database_names() if name.startswith("airports_demo_")] == []


def test_the_same_by_a_worker(
    few_airports: Path, mongodb_uri: str, mongodb_client: MongoClient[dict[str, Any]]
) -> None:
    """The work is done and the versions are stored in another process, which ends with the demo."""
    done = demo(few_airports, mongodb_uri, "--celery")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("✓") == 6
    told = re.search(
        r"process (\d+), ran ([\d,]+) × django_mongo_history.deliver, 5 × testproject.airports.tasks.load_release",
        done.stdout,
    )
    assert told is not None
    assert int(told.group(2).replace(",", "")) > 0
    worker = int(told.group(1))
    assert soon(lambda: not is_alive(worker))
    assert [name for name in mongodb_client.list_database_names() if name.startswith("airports_demo_")] == []
