"""
Random writes of every kind, by several writers at once, in every delivery: the history is what the database held.

Step by step, a witness keeps a copy of every document after each operation and the versions that it made, and the
history as users read it must be exactly these, in this order, with `external` versions where something was written
past the tracker and nowhere else. All at once, writers collide, and no gap may be seen at the end.

`TEST_EXAMPLES=10` takes ten times as many rounds.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import mongoengine
import pytest
import redis
from mongoengine.errors import MongoEngineException
from pymongo.database import Database
from pymongo.errors import PyMongoError

from django_mongo_history import history_of
from django_mongo_history.core import values
from django_mongo_history.core.identity import id_bytes
from django_mongo_history.errors import BrokenChainError
from tests import every_kind
from tests.every_kind import CalledOffError, Depot, Kind, OtherParcel, Parcel, World, dealt
from tests.fault.delivery_load import await_empty, flush, waiting
from tests.judge import PLACES, RAW, configured, tracking

ROUNDS = int(os.environ.get("TEST_EXAMPLES", "1"))
WRITERS = 3
MOST_RETRIES = 20
NO_WAY = every_kind.WITHOUT_EFFECT
UNSEEN = every_kind.PAST_THE_TRACKER

Name = tuple[str, tuple[int, bytes]]
"""A document's collection and its `_id` as bytes."""
Copies = dict[Name, bytes]


def copies(session: Any = None) -> Copies:
    """Every document as the server holds it."""
    return {
        (name, id_bytes(bytes(found.raw))): bytes(found.raw)
        for name in ("parcel", "depot")
        for found in mongoengine.get_db().get_collection(name, codec_options=RAW).find(session=session)
    }


@dataclass
class Step:
    """One operation: what it left, what its transaction showed on the way, and the versions it made by document."""

    kind: Kind
    after: Copies
    inside: list[Copies] = field(default_factory=list)
    versions: dict[Name, list[Any]] = field(default_factory=dict)
    error: Exception | None = None


class Witness:
    """Keeps operations apart, and remembers each."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.steps: list[Step] = []
        self.seen: set[Any] = set()

    def do(self, kind: Kind, world: World) -> None:
        with self.lock:
            inside: list[Copies] = []
            world.inside = lambda session: inside.append(copies(session))
            error = attempted(kind, world)
            self.steps.append(Step(kind, copies(), inside, self._new_versions(), error))

    def _new_versions(self) -> dict[Name, list[Any]]:
        found: dict[Name, list[Any]] = {}
        for version_id, name in sorted(recorded(*PLACES), key=lambda one: one[0]):
            if version_id not in self.seen:
                self.seen.add(version_id)
                found.setdefault(name, []).append(version_id)
        return found


def recorded(*places: str) -> Iterator[tuple[Any, Name]]:
    """The versions that lie there: id and document."""
    for place in places:
        rows = mongoengine.get_db()[place].with_options(codec_options=values.EXACT)
        for row in rows.find({"at": {"$exists": True}}, {"collection": 1, "document_id": 1}):
            yield row["_id"], (row["collection"].partition(".")[2], values.encode_value(row["document_id"]))


def attempted(kind: Kind, world: World) -> Exception | None:
    """What fails is a part of the script, and must leave no trace."""
    try:
        kind(world)
    except (MongoEngineException, PyMongoError, CalledOffError) as error:
        return error
    return None


# -- what the history must be -----------------------------------------------------------------------------------------

Wanted = tuple[Any, bytes | None]
"""A version's id, or the operation of one that nobody stored, and the state after it."""
UNKNOWN = b"in the middle of an operation"
DERIVED = {"baseline", "external"}


def wanted_history(steps: Sequence[Step], name: Name) -> Iterator[Wanted]:
    """The versions of one document as the witness saw them come."""
    known = there = None
    is_first = True
    for step in steps:
        after = step.after.get(name)
        made = step.versions.get(name, [])
        if not made:
            assert after == there or step.kind in UNSEEN, (
                f"{step.kind.__name__} changed {name} and left no version"
            )
            there = after
            continue
        assert step.kind not in UNSEEN, f"{step.kind.__name__} is nobody's business"
        if there != known:
            yield ("baseline" if is_first else "external"), there
        states = _states_of(step, name, there)
        if len(states) != len(made):
            states = [UNKNOWN] * (len(made) - 1) + [after]
            assert not step.inside, f"{step.kind.__name__} made other versions than it wrote"
        yield from zip(made, states, strict=True)
        known = there = after
        is_first = False
    if there != known:
        yield ("baseline" if is_first else "external"), there


def _states_of(step: Step, name: Name, before: bytes | None) -> list[bytes | None]:
    """The states that a step led the document through, as far as they were seen."""
    found = []
    for seen in [*step.inside, step.after]:
        if seen.get(name) != before:
            before = seen.get(name)
            found.append(before)
    return found


def check_history(steps: Sequence[Step], name: Name, *, knows_all: bool, knows_order: bool = True) -> None:
    """
    The history as users read it is the one that was seen.

    `knows_order`: transactions have one. Elsewhere what went round the tracker can make another order likelier, in
    which less did.
    """
    wanted = list(wanted_history(steps, name))
    found = list(history_of(Parcel if name[0] == "parcel" else Depot, values.decode_value(*name[1])))
    ids = {one[0] for one in wanted}
    shown = [v.id if v.id in ids else str(v.operation) for v in found]
    if knows_order:
        assert shown == [one[0] for one in wanted]
    assert {one for one in shown if one not in DERIVED} == ids - DERIVED
    assert sum(one in DERIVED for one in shown) <= sum(one[0] in DERIVED for one in wanted)
    gaps = [index for index, v in enumerate(found) if v.operation in DERIVED]
    states = dict(wanted)
    for index, v in enumerate(found):
        state = wanted[index][1] if knows_order else states.get(v.id, UNKNOWN)
        try:
            after = v._chain.after(v.index)
        except BrokenChainError:
            assert not knows_all
            assert any(gap <= index for gap in gaps)
            assert any(gap > index for gap in gaps)
            continue
        assert state in (UNKNOWN, after)


def names_of(steps: Sequence[Step]) -> set[Name]:
    return {name for step in steps for name in (*step.after, *step.versions)}


def check_kinds(steps: Sequence[Step], kinds: Sequence[Kind]) -> Counter[str]:
    """Every kind was drawn, and did what it is for."""
    effective: Counter[str] = Counter()
    before: Copies = {}
    for step in steps:
        if step.kind in NO_WAY:
            effective[step.kind.__name__] += step.error is not None
        else:
            effective[step.kind.__name__] += bool(step.versions) or step.after != before
        before = step.after
    missing = {kind.__name__ for kind in kinds} - {name for name, count in effective.items() if count}
    assert not missing, f"these kinds did nothing: {missing}"
    return effective


# -- deliveries -------------------------------------------------------------------------------------------------------

MODES = {
    "atomic": ("atomic", "atomic"),
    "sync": ("sync", "sync"),
    "mixed": ("atomic", "sync"),
    "standalone": ("auto", "auto"),
    "outbox": ("outbox", "outbox"),
    "celery": ("celery", "celery"),
    "queued": ("outbox", "celery"),
}
QUEUED = ("outbox", "celery", "queued")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """`outbox` leaves its versions there, where readers find them; the tasks of `celery` and `queued` run at once."""
    request.getfixturevalue("standalone_mongodb" if request.param == "standalone" else "mongodb")
    if request.param in QUEUED:
        request.getfixturevalue("celery_app")
    if request.param in ("celery", "queued"):
        request.getfixturevalue("eager_tasks")
    return str(request.param)


@contextmanager
def tracked(mode: str, **settings: Any) -> Iterator[None]:
    """The classes tracked; half of the writers deliver in one way, half in the other."""
    first, second = MODES[mode]
    with configured(CHUNK_SIZE=3, **settings):
        Parcel.ensure_indexes()
        with tracking(Parcel, Depot, delivery=first), tracking(OtherParcel, delivery=second):
            yield


def worlds(mode: str, seed: int) -> list[World]:
    classes = (Parcel, OtherParcel)
    return [
        World(random.Random(seed * 100 + number), classes[number % 2], has_transactions=mode != "standalone")
        for number in range(WRITERS)
    ]


def together(work: Callable[[World], None], writers: Sequence[World]) -> None:
    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(work, writers))


# -- the laws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_step_by_step(mode: str, seed: int) -> None:
    """Each version is the recorded copy, in the order of the writes, and there is no other."""
    kinds = [*every_kind.RECORDED, *NO_WAY]
    with tracked(mode):
        witness = Witness()

        def write(world: World) -> None:
            for kind in dealt(world.rng, kinds, 1):
                witness.do(kind, world)

        together(write, worlds(mode, seed))
        check_kinds(witness.steps, kinds)
        for name in names_of(witness.steps):
            check_history(witness.steps, name, knows_all=True)
        assert waiting() or mode != "outbox"
        if waiting():  # what was written in a caller's transaction waits for the next message, too
            flush()
            for name in names_of(witness.steps):
                check_history(witness.steps, name, knows_all=True)


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize(
    ("mode", "snapshot_every"),
    [
        ("atomic", 1),
        ("atomic", 20),
        ("sync", 20),
        ("mixed", 20),
        ("standalone", 1),
        ("outbox", 20),
        ("celery", 1),
        ("queued", 20),
    ],
    indirect=["mode"],
)
def test_step_by_step_with_writes_past_the_tracker(mode: str, snapshot_every: int, seed: int) -> None:
    """What went round the tracker shows where it happened, and is known wherever it can be."""
    kinds = [*every_kind.RECORDED, *NO_WAY, *UNSEEN * 4]
    with tracked(mode, SNAPSHOT_EVERY=snapshot_every):
        witness = Witness()

        def write(world: World) -> None:
            for kind in dealt(world.rng, kinds, 1):
                witness.do(kind, world)

        together(write, worlds(mode, 1000 + seed)[:2])
        check_kinds(witness.steps, kinds)
        for name in names_of(witness.steps):
            check_history(
                witness.steps, name, knows_all=snapshot_every == 1, knows_order=mode in ("atomic", "outbox")
            )


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("mode", ["atomic", "sync", "mixed", *QUEUED])
def test_all_at_once(mongodb: Database, mode: str, seed: int, request: pytest.FixtureRequest) -> None:
    """
    Writers that collide all the time leave histories without gaps, and of what failed there is nothing.

    What is queued is stored by two workers at the writers' heels.
    """
    if mode in QUEUED:
        worker = request.getfixturevalue("worker")
        workers = [worker(), worker()]
    kinds = [*every_kind.RECORDED, *NO_WAY]
    with tracked(mode):
        done: Counter[str] = Counter()

        def write(world: World) -> None:
            for kind in dealt(world.rng, kinds, 1):
                error = attempted(kind, world)
                for _again in range(MOST_RETRIES):  # the caller's transactions collide, and callers try again
                    if error is not None and kind in every_kind.TRANSACTIONS:
                        error = attempted(kind, world)
                done[kind.__name__] += error is None or kind in every_kind.ENDING_IN_ERRORS

        together(write, worlds(mode, 2000 + seed))
        if mode in QUEUED:
            with redis.Redis.from_url(request.getfixturevalue("broker_url")) as client:
                await_empty(client, workers)
            flush()
        now = copies()
        names = {name for _version_id, name in recorded("document_history")}
        assert now.keys() <= names
        for name in names:
            found = list(history_of(Parcel if name[0] == "parcel" else Depot, values.decode_value(*name[1])))
            assert found[0].operation == "create"
            assert not [v for v in found if v.operation in ("external", "baseline")]
            assert found[-1]._chain.after(found[-1].index) == now.get(name)
            for v in found:
                assert v._chain.after(v.index) is not None or v.operation == "delete"
        assert {kind.__name__ for kind in kinds} - {name for name, count in done.items() if count} == set()
