"""
Many writers at once: whose version it is, in which order they lie, and that replay always leads to the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mongoengine
import pytest
from bson.raw_bson import RawBSONDocument
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import changeset, history_of, runtime, suppress_history, track, untrack
from django_mongo_history.context import capture_context
from django_mongo_history.core import values
from tests.judge import RAW, configured

WRITERS = 50


class Counted(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    count = fields.IntField(default=0)
    items = fields.ListField(fields.IntField())
    notes = fields.DictField()
    text = fields.StringField()
    sum = fields.IntField()
    meta = {"abstract": True}


class Tally(Counted):
    """A document that everybody writes at once."""

    meta = {"collection": "tally"}


class OtherTally(Counted):
    """Another class over the same documents, so that its writers can have another delivery."""

    meta = {"collection": "tally"}


@pytest.fixture(params=["atomic", "sync"])
def delivery(request: pytest.FixtureRequest, mongodb: Database) -> Iterator[str]:
    with configured(DELIVERY=request.param):
        track(Tally)
        yield request.param
        untrack(Tally)


def nobody_is_known() -> bool:
    """Whether the context here is empty."""
    found = capture_context().context
    return found.user is None and found.reason is None and not found.extra


def together(work: Callable[[int], Any], count: int) -> list[Any]:
    """`work(0)`, `work(1)`, … in threads that start at one moment."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def check_tally(writers: int) -> None:
    """One version a writer, each with its own user; the counter says in which order they wrote."""
    versions = list(history_of(Tally, 1))
    assert [v.operation for v in versions] == ["create"] + ["update"] * writers
    assert [v["count"] for v in versions] == list(range(writers + 1))
    for v in versions[1:]:
        assert v["notes"][str(v.user.pk)] == v["count"], "a version carries its writer's user"
        assert v.reason == f"reason of {v.user.pk}"
    assert {v.user.pk for v in versions[1:]} == set(range(writers))
    assert len({v.changeset.id for v in versions}) == writers + 1


def _count_up(number: int) -> None:
    """Add one to the counter and write down what it became, by one pipeline: a version that tells its own place."""
    with changeset(user=number, reason=f"reason of {number}"):
        Tally.objects(number=1).update(
            __raw__=[{"$set": {"count": {"$add": ["$count", 1]}}}, {"$set": {f"notes.{number}": "$count"}}]
        )
    assert nobody_is_known()


def test_threads(delivery: str) -> None:
    """Fifty threads with their own users on one document: nobody's version carries another's name."""
    Tally(number=1).save()
    together(_count_up, WRITERS)
    assert nobody_is_known()
    check_tally(WRITERS)


async def test_tasks(delivery: str) -> None:
    """Fifty asyncio tasks, whose work is done by threads, the same."""
    Tally(number=1).save()

    async def work(number: int) -> None:
        with changeset(user=number, reason=f"reason of {number}"):
            await asyncio.sleep(0)
            await asyncio.to_thread(
                Tally.objects(number=1).update,
                __raw__=[
                    {"$set": {"count": {"$add": ["$count", 1]}}},
                    {"$set": {f"notes.{number}": "$count"}},
                ],
            )
        assert nobody_is_known()

    await asyncio.gather(*(work(number) for number in range(WRITERS)))
    assert nobody_is_known()
    check_tally(WRITERS)


def test_failing_writers_leave_nobody_behind(delivery: str) -> None:
    """A context ends with its block, on exceptions too."""
    Tally(number=1).save()

    def work(number: int) -> None:
        with pytest.raises(mongoengine.NotUniqueError), changeset(user=number):
            Tally(number=1).save(force_insert=True)
        assert nobody_is_known()

    together(work, 8)
    assert len(history_of(Tally, 1)) == 1


# -- random scripts ---------------------------------------------------------------------------------------------------

DOCUMENTS = 3


def _operation(rng: random.Random, tally: type = Tally) -> Callable[[], Any]:
    """One random write of MongoEngine."""
    key = rng.randrange(DOCUMENTS)
    number = rng.randrange(4)
    one, every = tally.objects(number=key), tally.objects(number__gte=key)

    def save() -> None:
        found = one.first() or tally(number=key)
        found.text = str(number)
        found.items.append(number)
        found.notes[f"k{number}"] = {"a": number}
        found.save()

    return rng.choice(
        [
            save,
            save,
            lambda: tally(number=key, text=f"whole {number}").save(),
            lambda: tally(number=key, text="inserted").save(force_insert=True),
            lambda: one.update(inc__count=1),
            lambda: one.update_one(set__text=str(number)),
            lambda: one.update_one(set__text=str(number), unset__notes=1),
            lambda: one.upsert_one(set__text="upserted", inc__count=1),
            lambda: one.update(push__items=number),
            lambda: one.update(pull__items=number),
            lambda: one.update(__raw__=[{"$set": {"sum": {"$sum": "$items"}}}]),
            lambda: one.modify(set__text="modified", new=True),
            lambda: one.only("text").modify(inc__count=2),
            lambda: every.update(inc__count=1),
            lambda: every.update(set__text="all"),
            lambda: every.update(unset__sum=1, full_result=True),
            one.delete,
            lambda: one.modify(remove=True),
            lambda: tally._get_collection().replace_one({"_id": key}, {"count": number}, upsert=True),
            lambda: [found.delete() for found in every[:1]],
        ]
    )


class Witness:
    """Keeps copies of every document with the moments at which they were seen, and sees to it that steps are apart."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: list[tuple[datetime.datetime, dict[int, bytes]]] = []

    def do(self, operation: Callable[[], Any]) -> None:
        with self.lock:
            _attempt(operation)
            self.seen.append((_after_a_moment(), _documents()))


def _attempt(operation: Callable[[], Any]) -> None:
    # A part of the script: what fails must leave no trace.
    with contextlib.suppress(
        mongoengine.NotUniqueError, mongoengine.OperationError, mongoengine.DoesNotExist
    ):
        operation()


def _after_a_moment() -> datetime.datetime:
    """A moment that is later than every version written so far, and earlier than all that follow."""
    start = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    now = datetime.datetime.now(datetime.UTC)
    moment = start + datetime.timedelta(milliseconds=(now - start) // datetime.timedelta(milliseconds=1) + 2)
    while datetime.datetime.now(datetime.UTC) <= moment + datetime.timedelta(milliseconds=1):
        pass
    return moment


def _documents() -> dict[int, bytes]:
    found = mongoengine.get_db().get_collection("tally", codec_options=RAW).find()
    return {document["_id"]: document.raw for document in found}


def state_of(version: Any) -> bytes | None:
    return None if version is None else version._chain.after(version.index)


def check_whole(key: int) -> None:
    """No gap anywhere, and the replay of the whole is what the database holds."""
    versions = list(history_of(Tally, key))
    assert not [v for v in versions if v.operation in ("external", "baseline")]
    assert state_of(versions[-1] if versions else None) == _documents().get(key)
    for v in versions:
        assert v.index == 0 or v.previous._chain.steps[v.index - 1].after == v._chain.steps[v.index].before


@pytest.mark.parametrize("seed", range(3))
def test_random_scripts_step_by_step(delivery: str, seed: int) -> None:
    """`version_at` each moment is the copy that was taken then."""
    witness = Witness()

    def write(number: int) -> None:
        rng = random.Random(seed * 100 + number)
        for _step in range(15):
            witness.do(_operation(rng))

    together(write, 4)
    for key in range(DOCUMENTS):
        history = history_of(Tally, key)
        for moment, documents in witness.seen:
            assert state_of(history.version_at(moment)) == documents.get(key)
        check_whole(key)
    for moment, documents in witness.seen[::7]:
        then = [values.encode(state) for state in history_of(Tally).states_as_of(moment)]
        assert then == [documents[key] for key in sorted(documents)]


def test_random_scripts_on_a_standalone_server(standalone_mongodb: Database) -> None:
    """Without transactions images are compared and swapped: nobody's write is taken for another's."""
    with configured():
        track(Tally)

        def write(number: int) -> None:
            rng = random.Random(number)
            for _step in range(15):
                _attempt(_single_operation(rng))

        Tally.objects.insert([Tally(number=key) for key in range(DOCUMENTS)])
        together(write, 4)
        for key in range(DOCUMENTS):
            check_whole(key)
        untrack(Tally)


def _single_operation(rng: random.Random) -> Callable[[], Any]:
    """One random write of one document that does not come or go."""
    number = rng.randrange(4)
    one = Tally.objects(number=rng.randrange(DOCUMENTS))
    return rng.choice(
        [
            lambda: one.update(inc__count=1),
            lambda: one.update_one(set__text=str(number)),
            lambda: one.update(push__items=number),
            lambda: one.update(pull__items=number),
            lambda: one.modify(set__text="modified", new=True),
            lambda: one.update(__raw__=[{"$set": {"sum": {"$sum": "$items"}}}]),
        ]
    )


@pytest.mark.parametrize("modes", [("atomic", "atomic"), ("sync", "sync"), ("atomic", "sync")], ids="-".join)
def test_random_scripts_all_at_once(mongodb: Database, modes: tuple[str, str]) -> None:
    """Writers that collide all the time leave histories without gaps, whichever way versions are delivered."""
    with configured():
        classes = (Tally, OtherTally)
        for document_class, mode in zip(classes, modes, strict=True):
            track(document_class, delivery=mode)

        def write(number: int) -> None:
            rng = random.Random(number)
            for _step in range(25):
                _attempt(_operation(rng, classes[number % 2]))

        together(write, 6)
        for key in range(DOCUMENTS):
            check_whole(key)
        for document_class in classes:
            untrack(document_class)


def test_a_read_beside_writes_shows_no_gap(mongodb: Database) -> None:
    """A history that is read while somebody writes is one that was there at some instant."""
    with configured(DELIVERY="atomic"):
        track(Tally)
        Tally(number=1).save()
        writer = threading.Thread(
            target=lambda: [Tally.objects(number=1).update(inc__count=1) for _ in range(150)]
        )
        writer.start()
        reads = 0
        while writer.is_alive():
            versions = list(history_of(Tally, 1))
            assert [v.operation for v in versions] == ["create"] + ["update"] * (len(versions) - 1)
            assert versions[-1]["count"] == len(versions) - 1
            reads += 1
        writer.join()
        assert reads > 3
        untrack(Tally)


# -- a set, not a log -------------------------------------------------------------------------------------------------


def _snapshot_of_history(key: int) -> list[Any]:
    return [(v.id, v.number, v.operation, state_of(v)) for v in history_of(Tally, key)]


def test_shuffled_and_doubled_versions_are_the_same_history(mongodb: Database) -> None:
    """A store is a set of versions: in which order they arrive, and how often, changes nothing."""
    with configured():
        track(Tally)
        rng = random.Random(5)
        for _step in range(120):
            _attempt(_operation(rng))
        wanted = {key: _snapshot_of_history(key) for key in range(DOCUMENTS)}
        rows = list(mongodb.get_collection("document_history", codec_options=RAW).find())
        untrack(Tally)
    assert len(rows) > 60
    with configured(COLLECTION="elsewhere"):
        track(Tally)
        assert not history_of(Tally, 1).versions(operation="update")
        target = mongodb.get_collection("elsewhere", codec_options=RAW)
        for turn in range(2):
            random.Random(turn).shuffle(rows)
            for row in rows:
                target.update_one({"_id": row["_id"]}, {"$setOnInsert": _without_id(row)}, upsert=True)
            assert {key: _snapshot_of_history(key) for key in range(DOCUMENTS)} == wanted
        untrack(Tally)


def _without_id(row: RawBSONDocument) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "_id"}


def test_a_store_takes_a_version_twice_as_once(mongodb: Database) -> None:
    """Appending again what is there already changes nothing and raises nothing."""
    with configured():
        track(Tally)
        for number in range(10):
            Tally.objects(number=1).upsert_one(set__text=str(number), inc__count=1)
        wanted = _snapshot_of_history(1)
        store = runtime.sources().of_class(Tally).store
        records = list(store.records([row[0] for row in wanted]).values())
        random.Random(1).shuffle(records)
        store.append(records)
        store.append(records[:1])
        store.append([*records[3:], *records[3:]])
        assert _snapshot_of_history(1) == wanted
        assert mongodb["document_history"].count_documents({}) == 10
        untrack(Tally)


def test_toggles(delivery: str) -> None:
    """A, B, A, B: equal states at different times are told apart by their order."""
    Tally(number=1, text="A").save()
    for _turn in range(20):
        Tally.objects(number=1).update(text="B")
        Tally.objects(number=1).update(text="A")
    versions = list(history_of(Tally, 1))
    assert [v["text"] for v in versions] == ["A"] + ["B", "A"] * 20
    assert [v.at for v in versions] == sorted(v.at for v in versions)


def test_suppressed_writers_beside_recorded_ones(delivery: str) -> None:
    """What one thread leaves unrecorded is no concern of another's."""
    Tally(number=1).save()

    def write(number: int) -> None:
        if number % 2:
            with suppress_history("half of them"):
                Tally.objects(number=1).update(inc__count=1)
        else:
            Tally.objects(number=1).update(inc__count=1)

    together(write, 20)
    versions = list(history_of(Tally, 1))
    assert sum(v.operation == "update" for v in versions) == 10
    assert {v.operation for v in versions} <= {"create", "update", "external"}
    assert history_of(Tally, 1)[-1]["count"] == 20
