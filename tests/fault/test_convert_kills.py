"""Conversions that die in the middle, at any moment: those that go on bring each row along exactly once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bson import ObjectId

from django_mongo_history import HistoryConverter, history_of
from tests.fault.converting import KilledPlate
from tests.judge import HISTORY, configured, tracking
from tests.old_histories import OldTracker, last_states, store

DOCUMENTS, SAVES, KILLS = 300, 5, 12
PATIENCE_S = 90


@contextmanager
def converting(uri: str, database: Any) -> Iterator[subprocess.Popen[str]]:
    """The program in a process of its own, killed at the end of the block whatever it does."""
    program = Path(__file__).with_name("converting.py")
    process = subprocess.Popen(
        [sys.executable, str(program), uri, database.name], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def versions(database: Any) -> int:
    return int(database[HISTORY].estimated_document_count())


def wait_for(database: Any, count: int, process: subprocess.Popen[str]) -> None:
    """Return when so many versions are stored, or the process has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while versions(database) < count and process.poll() is None:
        assert time.monotonic() < deadline, f"{versions(database)} of {count} versions"
        time.sleep(0.001)


def plates(database: Any) -> OldTracker:
    tracker = OldTracker("killed_plates")
    for _ in range(DOCUMENTS):
        document = {"_id": ObjectId(), "name": "0"}
        tracker.begin(document)
        for number in range(1, SAVES + 1):
            tracker.save(document, {**document, "name": str(number)})
            document = {**document, "name": str(number)}
    store(database, tracker, last_states(tracker))
    return tracker


def check(database: Any, tracker: OldTracker) -> None:
    """Each row is in one version, each history is the recorded one, and the record counts each document once."""
    found = database[HISTORY].find({}, {"source.rows": 1})
    counted = Counter(row for version in found for row in version["source"]["rows"])
    assert counted == Counter(row["_id"] for row in tracker.rows)
    with configured(), tracking(KilledPlate):
        made = HistoryConverter(KilledPlate, "mongoengine-history", source_timezone="UTC")
        assert made.verify().is_ok
        counts = made.status().counts
        assert (counts.documents, counts.versions) == (DOCUMENTS, DOCUMENTS * SAVES)
        for document_id, recorded in list(tracker.states.items())[::10]:
            assert [v.state for v in history_of(KilledPlate, document_id)] == [
                state for _at, state in recorded
            ]


def test_killed_at_random_moments(mongodb: Any, mongodb_uri: str) -> None:
    """Twelve times, then left to end: nothing twice, nothing less."""
    chance = random.Random(6)
    tracker = plates(mongodb)
    for _ in range(KILLS):
        with converting(mongodb_uri, mongodb) as process:
            wait_for(mongodb, versions(mongodb) + chance.randrange(1, 100), process)
            time.sleep(chance.random() * 0.02)
    assert 0 < versions(mongodb) < DOCUMENTS * SAVES
    with converting(mongodb_uri, mongodb) as process:
        assert process.wait(PATIENCE_S) == 0
    check(mongodb, tracker)


def test_one_of_two_is_killed(mongodb: Any, mongodb_uri: str) -> None:
    """The other one takes over what it was at."""
    tracker = plates(mongodb)
    with converting(mongodb_uri, mongodb) as one, converting(mongodb_uri, mongodb) as other:
        wait_for(mongodb, 200, one)
        one.kill()
        one.wait()
        assert other.wait(PATIENCE_S) == 0
    check(mongodb, tracker)
