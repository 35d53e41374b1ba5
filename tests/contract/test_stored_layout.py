"""
The stored layout, held still by a golden file: what has been written must be readable for as long as there are users.

A difference here is a change of the layout. It needs a new `format` in `core/model.py`, a conversion of the old rows in
the same commit, and a golden file of its own (`version_v2.json`); this one stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Int64, ObjectId, json_util
from bson.timestamp import Timestamp

from django_mongo_history.core import values
from django_mongo_history.core.model import (
    FORMAT,
    Context,
    DocumentKey,
    Operation,
    RequestRef,
    TaskRef,
    UserRef,
    VersionRecord,
    Write,
)
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.recording import Circumstances, record_baseline, record_write
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.storage import rows, tombstones

GOLDEN = Path(__file__).parent / "golden" / f"version_v{FORMAT}.json"
TOMBSTONES = GOLDEN.with_name(f"tombstone_v{FORMAT}.json")
START = datetime(2026, 2, 8, 23, 3, 0, 123000, tzinfo=UTC)
KEY = DocumentKey("airports.airport", "KSEA")
RULES = Policy(hidden=(("contact", "phone"),), untracked=(("hits",),), snapshot_every=2**40)
NO_RULES = Policy(snapshot_every=2**40)
FIRST = {
    "_id": "KSEA",
    "name": "Seattle",
    "elevation": 433,
    "runways": [{"length": 3627}, {"length": 2873.5}],
}
SECOND = {
    "_id": "KSEA",
    "elevation": 433.0,
    "name": "Seattle",
    "runways": [{"length": 3627}],
    "opened": Int64(1949),
}


IN_TASK = Context(
    UserRef(ObjectId("65f0000000000000000000aa"), "ann", "auth.user"),
    request=RequestRef("r-1", "POST", "/airports/KSEA"),
    task=TaskRef("0f3a7d1e-5c1e-4f6f-9a53-6f2f2d9b1c77", "airports.tasks.rename_airport"),
)


def versions() -> Iterator[tuple[str, VersionRecord]]:
    """One of each kind that can be stored."""
    yield "create", written(1, None, FIRST)
    yield "update with key order", written(2, FIRST, SECOND)
    yield "delete", written(3, SECOND, None)
    yield "baseline", record_baseline(KEY, values.encode(FIRST), around(4), new_id=lambda: version_id(4))
    secret = {"_id": "KSEA", "contact": {"phone": "1"}, "hits": 1}
    yield "hidden change", written(5, secret, {**secret, "contact": {"phone": "2"}}, policy=RULES)
    yield (
        "full context",
        written(
            6,
            FIRST,
            {**FIRST, "name": "SeaTac"},
            context=Context(
                UserRef(ObjectId("65f0000000000000000000aa"), "ann", "auth.user"),
                "2001:db8::1",
                "why",
                {"ticket": "OPS-12", "a.b": [1, {"$x": None}]},
                RequestRef("r-1", "POST", "/airports/KSEA"),
            ),
            revert_of=ObjectId("65f0000000000000000000bb"),
            source={"format": "mongoengine-history", "row": 5},
        ),
    )
    yield "in a task", written(10, FIRST, {**FIRST, "name": "SeaTac"}, context=IN_TASK)


def version_id(number: int) -> ObjectId:
    return ObjectId(f"65f0000000000000{number:08x}")


def around(number: int, **facts: Any) -> Circumstances:
    at = START + timedelta(minutes=number)
    order = Timestamp(int(at.timestamp()), number)
    rest: dict[str, Any] = {"policy": NO_RULES, "context": Context()} | facts
    return Circumstances(
        document_class="Airport", at=at, order=order, changeset=ObjectId("65f0000000000000000000cc"), **rest
    )


def written(number: int, before: Any, after: Any, **facts: Any) -> VersionRecord:
    images = [None if state is None else values.encode(state) for state in (before, after)]
    record = record_write(Write(KEY, *images), around(number, **facts), new_id=lambda: version_id(number))
    assert record is not None
    return record


RECORDS = dict(versions())


FULL_CONTEXT = Context(
    UserRef(ObjectId("65f0000000000000000000aa"), "ann", "auth.user"),
    "2001:db8::1",
    "why",
    {"ticket": "OPS-12"},
    RequestRef("r-1", "POST", "/airports"),
)
DROPS = {
    "drop": Tombstone(
        version_id(7), "airports.airport", Timestamp(1770591780, 7), START, "Airport", version_id(8)
    ),
    "drop with all that is known": Tombstone(
        version_id(9),
        "airports.airport",
        Timestamp(1770591780, 9),
        START,
        "Airport",
        version_id(8),
        FULL_CONTEXT,
        uuid=bytes(range(16)),
        documents=3,
    ),
    "drop in a task": Tombstone(
        version_id(11),
        "airports.airport",
        Timestamp(1770591780, 11),
        START,
        "Airport",
        version_id(8),
        IN_TASK,
    ),
}


def golden(path: Path = GOLDEN) -> dict[str, bytes]:
    options = json_util.JSONOptions(
        json_mode=json_util.JSONMode.CANONICAL, tz_aware=True, document_class=dict, tzinfo=UTC
    )
    stored = json_util.loads(path.read_text(encoding="utf-8"), json_options=options)
    return {name: values.encode(row) for name, row in stored.items()}


def as_json(row: bytes) -> str:
    """A row as the golden file has it."""
    return json_util.dumps(
        values.decode(row), json_options=json_util.CANONICAL_JSON_OPTIONS, indent=1, ensure_ascii=False
    )


def test_the_golden_file_has_one_of_each_kind() -> None:
    """Nothing that can be stored is missing from it."""
    assert list(golden()) == list(RECORDS)
    assert {record.operation for record in RECORDS.values()} == {*Operation} - {Operation.EXTERNAL}


@pytest.mark.parametrize("name", RECORDS)
def test_a_version_is_written_as_it_always_was(name: str) -> None:
    """Byte for byte; see above for what a difference means."""
    (row,) = rows.encode(RECORDS[name])
    assert as_json(row) == as_json(golden()[name]), "the stored layout has changed: this needs a new format"
    assert row == golden()[name]


@pytest.mark.parametrize("name", RECORDS)
def test_a_stored_version_is_read_as_it_always_was(name: str) -> None:
    """Every field comes back as what it was written from."""
    assert rows.decode(golden()[name]) == RECORDS[name]


@pytest.mark.parametrize("name", DROPS)
def test_a_tombstone_is_written_and_read_as_it_always_was(name: str) -> None:
    """As a version: byte for byte, and every field."""
    row = golden(TOMBSTONES)[name]
    assert as_json(tombstones.encode(DROPS[name])) == as_json(row), "the stored layout has changed"
    assert tombstones.encode(DROPS[name]) == row
    assert list(tombstones.decode_all([values.decode(row)])) == [DROPS[name]]
