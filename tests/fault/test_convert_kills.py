"""Conversions that die in the middle, at any moment: those that go on bring each row along exactly once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from django_mongo_history import HistoryConverter, history_of
from tests.commanding import run
from tests.fault.converting import KilledPlate
from tests.fault.converting_command import RULES, KilledCup
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


# -- the command, of every format --------------------------------------------------------------------------------------

CUPS, COMMAND_KILLS = 60, 3
BEGAN = datetime(2023, 5, 1, 8, tzinfo=UTC)

State = dict[str, Any]


@dataclass
class Cup:
    """The recorded life of one: (moment, state) for each write, the first of them its create."""

    writes: list[tuple[datetime, State]] = field(default_factory=list)

    @property
    def id(self) -> Any:
        return self.writes[0][1]["_id"]

    def steps(self) -> Iterator[tuple[int, datetime, State, State]]:
        """Each write after the create: number, moment, state before and after."""
        for number, (front, (at, state)) in enumerate(pairwise(self.writes), start=1):
            yield number, at, front[1], state


def cups() -> list[Cup]:
    """What is hidden changes with every write, and all of one save at one moment."""
    found = []
    for number in range(CUPS):
        state: State = {"_id": ObjectId(), "name": "0", "pin": f"{number} 0"}
        cup = Cup([(BEGAN, state)])
        for save in range(1, SAVES + 1):
            state = {**state, "name": str(save), "pin": f"{number} {save}"}
            cup.writes.append((BEGAN + timedelta(minutes=save), state))
        found.append(cup)
    return found


def rows_of_tracker(database: Any, life: list[Cup]) -> list[str]:
    tracker = OldTracker("killed_cups")
    for cup in life:
        for _number, _at, before, after in cup.steps():
            tracker.save(before, after)
    database["history"].insert_many(tracker.rows)
    return ["mongoengine-history", "--source-timezone", "UTC"]


def copies_before(database: Any, life: list[Cup]) -> list[str]:
    database["killed_cups_history"].insert_many(
        {
            "id": cup.id,
            "version": number - 1,
            **{name: value for name, value in before.items() if name != "_id"},
            "changed": at,
            "change_info": {"user_id": "ada"},
        }
        for cup in life
        for number, at, before, _after in cup.steps()
    )
    return ["snapshots", "--preset", "chrononaut"]


def copies_after(database: Any, life: list[Cup]) -> list[str]:
    database["killed_cups_history"].insert_many(
        {"t": at, "o": "u" if number else "i", "d": state}
        for cup in life
        for number, (at, state) in enumerate(cup.writes)
    )
    return ["snapshots", "--preset", "mongoose-history"]


def copies_in_lists(database: Any, life: list[Cup]) -> list[str]:
    database["killed_copies"].insert_many(
        {"of": cup.id, "copies": [{"on": at, "state": state} for at, state in cup.writes]} for cup in life
    )
    layout = {"collection": "killed_copies", "image": "after", "key-field": "of", "array-field": "copies",
              "state-field": "state", "time-field": "on"}  # fmt: skip
    return ["snapshots", *(part for name, value in layout.items() for part in (f"--{name}", value))]


def change_lists(database: Any, life: list[Cup]) -> list[str]:
    for cup in life:
        log = [
            {"field": name, "old_value": before[name], "new_value": after[name], "timestamp": at}
            for _number, at, before, after in cup.steps()
            for name in ("name", "pin")
        ]
        database["killed_cups"].update_one({"_id": cup.id}, {"$set": {"log": log}})
    return ["embedded-changes", "--list-field", "log"]


def stripped_change_lists(database: Any, life: list[Cup]) -> list[str]:
    return [*change_lists(database, life), "--strip"]


def json_patches(database: Any, life: list[Cup]) -> list[str]:
    database["killed_patches"].insert_many(
        {
            "ref": cup.id,
            "date": at,
            "ops": [
                {"op": "replace" if number else "add", "path": f"/{name}", "value": state[name]}
                for name in ("name", "pin")
            ],
        }
        for cup in life
        for number, (at, state) in enumerate(cup.writes)
    )
    return ["json-patch", "--collection", "killed_patches"]


LAYOUTS = [
    rows_of_tracker,
    copies_before,
    copies_after,
    copies_in_lists,
    change_lists,
    stripped_change_lists,
    json_patches,
]


@contextmanager
def commanded(uri: str, database: Any, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`history_convert` in a process of its own, killed at the end of the block whatever it does."""
    program = Path(__file__).with_name("converting_command.py")
    process = subprocess.Popen(
        [
            sys.executable,
            str(program),
            uri,
            database.name,
            *arguments,
            "--document",
            "__main__.KilledCup",
            "--no-input",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda one: one.__name__)
def test_the_command_is_killed(
    mongodb: Any, mongodb_uri: str, layout: Callable[[Any, list[Cup]], list[str]]
) -> None:
    """Of every format: killed in the middle of chunks, gone on with, checked by `--verify` and against recorded copies."""
    chance = random.Random(layout.__name__)
    life = cups()
    mongodb["killed_cups"].insert_many(deepcopy(cup.writes[-1][1]) for cup in life)
    source = layout(mongodb, life)
    chunked = (*source, "--chunked", "--chunk-size", "7", "--until-done")
    for _ in range(COMMAND_KILLS):
        with commanded(mongodb_uri, mongodb, *chunked) as process:
            wait_for(mongodb, versions(mongodb) + chance.randrange(1, 60), process)
            time.sleep(chance.random() * 0.02)
            process.kill()
            said = process.communicate()
            assert process.returncode == -signal.SIGKILL, said
    assert 0 < versions(mongodb) < CUPS * SAVES
    with configured(), tracking(KilledCup, **RULES):
        label = f"{KilledCup.__module__}.KilledCup"
        for arguments in (chunked, (*source, "--verify")):
            ended = run("history_convert", *arguments, "--document", label, "--no-input")
            assert ended.error is None, ended
    rows = [repr(row) for version in mongodb[HISTORY].find() for row in version["source"]["rows"]]
    assert len(rows) == len(set(rows))
    with configured(), tracking(KilledCup, **RULES):
        for cup in life:
            shown = [{"_id": cup.id, "name": state["name"]} for _at, state in cup.writes]
            assert [version.state for version in history_of(KilledCup, cup.id)] == shown
    is_stripped = "--strip" in source
    assert mongodb["killed_cups"].count_documents({"log": {"$exists": True}}) == (
        CUPS if source[0] == "embedded-changes" and not is_stripped else 0
    )
