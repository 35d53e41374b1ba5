"""Stored first versions for documents older than tracking, on a real server, beside live writers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import mongoengine
import pytest
from bson import Int64, ObjectId, Timestamp
from mongoengine import fields

from django_mongo_history import baseline, changeset, history_of, runtime
from django_mongo_history.core import values
from django_mongo_history.core.model import Entry, Operation
from django_mongo_history.core.order import arrange
from tests.commanding import now, run, stored, version_count
from tests.judge import configured, tracking
from tests.versions import NEEDS_BIND

CHUNK = 7


class Stone(mongoengine.Document):
    """Older than its history."""

    number = fields.IntField(primary_key=True)
    text = fields.StringField()
    secret = fields.StringField()

    meta = {"collection": "stones", "allow_inheritance": True}


class Runestone(Stone):
    """One that inherits."""


class Pebble(mongoengine.Document):
    """Lies in the same collection and is not tracked."""

    number = fields.IntField(primary_key=True)
    meta = {"collection": "stones", "allow_inheritance": True}


STONE = f"{Stone.__module__}.Stone"


@pytest.fixture(autouse=True)
def quarry(mongodb: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Stones are tracked."""
    with configured(CHUNK_SIZE=CHUNK), tracking(Stone, hidden=["secret"]):
        yield mongodb


def source() -> Any:
    return runtime.sources().of_class(Stone)


def put(*numbers: int, text: str = "old") -> None:
    """Documents that nobody recorded."""
    mongoengine.get_db()["stones"].insert_many(
        {"_id": number, "_cls": "Stone", "text": text, "secret": "s"} for number in numbers
    )


def operations(number: Any) -> list[str]:
    return [str(version.operation) for version in history_of(Stone, number)]


def test_every_document_gets_its_state_as_first_version() -> None:
    """The state is the document's without what is hidden, and answers for every earlier moment."""
    put(*range(20))
    before = now()
    counts = baseline.write_baselines(source())
    assert (counts.seen, counts.written, counts.present, counts.untracked) == (20, 20, 0, 0)
    history = history_of(Stone, 3)
    version = history.version_at(before)
    assert [str(one.operation) for one in history] == ["baseline"]
    assert version.state == {"_id": 3, "_cls": "Stone", "text": "old"}
    assert version.changes == []
    assert not version.is_derived


def test_a_baseline_survives_what_goes_round_the_tracker() -> None:
    """That is what it is for: a later write past the tracker shows as external, with both sides."""
    put(1)
    baseline.write_baselines(source())
    Stone.objects(number=1).update(text="new")
    mongoengine.get_db()["stones"].update_one({"_id": 1}, {"$set": {"text": "round"}})
    assert operations(1) == ["baseline", "update", "external"]
    assert history_of(Stone, 1)[0].state["text"] == "old"


def test_again_does_nothing() -> None:
    """What has a version is passed over, whatever version that is."""
    put(1, 2)
    Stone(number=3).save()
    Stone(number=4).save()
    Stone.objects(number=4).delete()
    assert baseline.write_baselines(source()).written == 2
    rows = stored("document_history")
    counts = baseline.write_baselines(source())
    assert (counts.seen, counts.written, counts.present) == (3, 0, 3)
    assert stored("document_history") == rows


def test_it_goes_on_where_it_was_cut_short() -> None:
    """A limit, or a crash, leaves the rest for the next time."""
    put(*range(30))
    assert baseline.write_baselines(source(), limit=10).written == 10
    seen: list[int] = []

    def crash(count: int) -> None:
        seen.append(count)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        baseline.write_baselines(source(), progress=crash)
    assert version_count() == 3 * CHUNK
    assert baseline.write_baselines(source()).written == 30 - 3 * CHUNK
    assert version_count() == 30


def test_all_of_a_run_is_one_changeset() -> None:
    """Its own, or the one that is open."""
    put(*range(20))
    with changeset(user="anna", reason="the beginning") as opened:
        baseline.write_baselines(source(), limit=5)
    baseline.write_baselines(source())
    assert len(mongoengine.get_db()["document_history"].distinct("changeset")) == 2
    assert len(opened.versions()) == 5
    assert (str(opened.user), opened.reason) == ("anna", "the beginning")


def test_progress_tells_of_every_document() -> None:
    """In chunks; their sum is the collection."""
    put(*range(20))
    seen: list[int] = []
    baseline.write_baselines(source(), progress=seen.append)
    assert seen == [CHUNK, CHUNK, 6]


def test_ids_of_all_types_are_walked() -> None:
    """BSON order goes across types; nothing is left out at a border, and each id keeps its type."""
    keys = [None, 1, 2.5, Int64(2**40), "a", "b", {"a": 1}, {"a": 2}, b"x", ObjectId(), True, now()]
    keys += [ObjectId() for _ in range(10)]
    mongoengine.get_db()["stones"].insert_many({"_id": key, "_cls": "Stone"} for key in keys)
    counts = baseline.write_baselines(source(), chunk_size=1)
    assert (counts.seen, counts.written) == (len(keys), len(keys))
    assert baseline.write_baselines(source(), chunk_size=2).written == 0
    rows = mongoengine.get_db().get_collection("document_history", codec_options=values.EXACT)
    kinds = {values.encode_value(row["document_id"]) for row in rows.find()}
    assert len(kinds) == len(keys)


def test_what_is_not_tracked_is_passed_over() -> None:
    """Another class's documents in the same collection are nobody's business; a subclass's are tracked with it."""
    put(1)
    database = mongoengine.get_db()
    database["stones"].insert_one({"_id": 2, "_cls": "Pebble"})
    database["stones"].insert_one({"_id": 3, "_cls": "Stone.Runestone"})
    counts = baseline.write_baselines(source())
    assert (counts.written, counts.untracked) == (2, 1)
    classes = {row["document_id"]: row["document_class"] for row in database["document_history"].find()}
    assert classes == {1: "Stone", 3: "Stone.Runestone"}


def test_chunks_end_by_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large documents are not all held at once."""
    monkeypatch.setattr(baseline, "MAX_BYTES", 100)
    put(*range(10), text="x" * 90)
    seen: list[int] = []
    baseline.write_baselines(source(), progress=seen.append)
    assert max(seen) == 1
    assert version_count() == 10


def test_counting_writes_nothing() -> None:
    """`count_missing` says what would be done."""
    put(1, 2)
    Stone(number=3).save()
    rows = stored("document_history")
    counts = baseline.count_missing(source())
    assert (counts.written, counts.present) == (2, 1)
    assert stored("document_history") == rows


@pytest.mark.parametrize("delivery", ["sync", "atomic"])
def test_every_delivery_stores_them(delivery: str) -> None:
    """Without transactions, too."""
    put(*range(10))
    with configured(DELIVERY=delivery):
        assert baseline.write_baselines(source()).written == 10
    assert operations(5) == ["baseline"]


# -- beside live writes --------------------------------------------------------------------------------------------


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have something done by another thread after a chunk is read and before its baselines are stored."""

    def arrange(act: Callable[[], None]) -> None:
        original = baseline._Chunk.records

        def records(chunk: Any) -> Any:
            monkeypatch.setattr(baseline._Chunk, "records", original)
            in_thread(act)
            return original(chunk)

        monkeypatch.setattr(baseline._Chunk, "records", records)

    return arrange


def in_thread(act: Callable[[], Any]) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


@pytest.mark.parametrize("delivery", ["sync", "atomic"])
def test_an_update_in_between_stands_after_the_baseline(delivery: str, between: Any) -> None:
    """A to A, A to B: whichever was stored first; the state at every moment is what it was."""
    with configured(DELIVERY=delivery):
        put(1)
        between(lambda: Stone.objects(number=1).update(text="new"))
        start = now()
        assert baseline.write_baselines(source()).written == 1
        history = history_of(Stone, 1)
        assert operations(1) == ["baseline", "update"]
        assert [version.state["text"] for version in history] == ["old", "new"]
        assert history.version_at(start).state["text"] == "old"
        assert history.version_at(history[1].at).state["text"] == "new"


@pytest.mark.parametrize("delivery", ["sync", "atomic"])
def test_a_delete_in_between_stands_after_the_baseline(delivery: str, between: Any) -> None:
    """The document's last state is known from both, and it stays deleted."""
    with configured(DELIVERY=delivery):
        put(1)
        between(lambda: Stone.objects(number=1).delete())
        baseline.write_baselines(source())
        assert operations(1) == ["baseline", "delete"]
        assert history_of(Stone, 1).version_at(now()).state is None


def test_several_writes_in_between_are_in_order(between: Any) -> None:
    """Also there and back again, to the very state that the baseline has."""

    def act() -> None:
        Stone.objects(number=1).update(text="new")
        Stone.objects(number=1).update(text="old")
        Stone.objects(number=1).delete()
        Stone(number=1, text="again").save()

    put(1)
    between(act)
    baseline.write_baselines(source())
    assert [one for one in operations(1) if one != "baseline"] == ["update", "update", "delete", "create"]
    assert "external" not in operations(1)


def test_a_transaction_that_was_open_all_the_while_stands_after_the_baseline() -> None:
    """Its write has an earlier cluster time than the baseline and is committed later."""
    put(1)
    client = mongoengine.get_db().client
    Stone._get_collection().find_one()
    with client.start_session() as session, session.start_transaction():
        Stone._get_collection().update_one({"_id": 1}, {"$set": {"text": "new"}}, session=session)
        in_thread(lambda: baseline.write_baselines(source()))
    assert operations(1) == ["baseline", "update"]
    history = history_of(Stone, 1)
    assert history.version_at(history[1].at).state["text"] == "new"


@pytest.mark.parametrize("after", [b"B", None])
def test_a_transaction_may_have_been_open_for_as_long_as_the_server_lets_it(after: bytes | None) -> None:
    """Half a minute between both is not enough to take a baseline for something that came later."""
    at = now()
    write = Entry(ObjectId(), 1, Timestamp(1_000_000, 1), Operation.UPDATE, at, b"A", after)
    first = Entry(ObjectId(), 1, Timestamp(1_000_030, 1), Operation.BASELINE, at, b"A", b"A")
    assert [entry.operation for entry in arrange([write, first])] == [Operation.BASELINE, Operation.UPDATE]


def test_two_walks_at_once_store_each_baseline_once() -> None:
    """Ids are made from the documents' keys."""
    put(*range(60))
    threads = [threading.Thread(target=lambda: baseline.write_baselines(source())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert version_count() == 60
    assert all(operations(number) == ["baseline"] for number in range(60))


@pytest.mark.parametrize("delivery", ["sync", "atomic"])
def test_concurrent_writers_never_get_a_wrong_history(delivery: str) -> None:
    """Writers, deleters and walkers together: no gap in any history, and every state is one that was there."""
    with configured(DELIVERY=delivery, CHUNK_SIZE=3):
        put(*range(40))
        Stone._get_collection().find_one()
        source().environment.store_of(source().collection)
        written = _write_and_walk()
        for number in range(40):
            _check(number, written[number])


def _write_and_walk() -> dict[int, list[str | None]]:
    """What became of each document, in order, as the one writer that each has did it."""
    written: dict[int, list[str | None]] = {number: ["old"] for number in range(40)}

    def write(first: int) -> None:
        for step in range(4):
            for number in range(first, 40, 4):
                _one_write(number, step, written[number])

    def walk() -> None:
        for _ in range(3):
            baseline.write_baselines(source())

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(write, first) for first in range(4)] + [pool.submit(walk) for _ in range(2)]
    for one in running:
        one.result()
    return written


def _one_write(number: int, step: int, states: list[str | None]) -> None:
    if states[-1] is None:
        Stone(number=number, text=f"born {step}").save()
        states.append(f"born {step}")
    elif (number + step) % 5 == 0:
        Stone.objects(number=number).delete()
        states.append(None)
    else:
        Stone.objects(number=number).update(text=f"step {step}")
        states.append(f"step {step}")


def _check(number: int, states: list[str | None]) -> None:
    history = list(history_of(Stone, number))
    assert "external" not in [str(version.operation) for version in history]
    changes = [version for version in history if version.operation != "baseline"]
    assert [version.state and version.state["text"] for version in changes] == states[1:]
    for version in history:
        if version.operation == "baseline":
            assert version.state["text"] in states
    for version in changes:
        if version is changes[-1] or version.at != changes[changes.index(version) + 1].at:
            found = history_of(Stone, number).version_at(version.at)
            assert (found.state and found.state["text"]) == (version.state and version.state["text"])


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_stored() -> None:
    """By class, with the changeset that it all belongs to."""
    put(*range(5))
    Stone(number=9).save()
    said = run("history_baseline", "--chunk-size", 2)
    assert said.error is None
    assert said.lines[0] == f"{STONE}: 5 baselines stored, 1 documents have versions already"
    assert said.lines[1].startswith("Changeset ")
    assert history_of(Stone, 1)[0].extra == {"command": "history_baseline"}


def test_the_command_can_be_tried() -> None:
    """--dry-run counts."""
    put(*range(5))
    said = run("history_baseline", "--dry-run", "--document", STONE)
    assert said.lines == [f"{STONE}: 5 baselines missing, 0 documents have versions already"]
    assert version_count() == 0


@NEEDS_BIND
@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_the_command_refuses_a_bound_transaction(quarry: Any, arguments: tuple[str, ...]) -> None:
    """Before anything is stored, and without an end of the caller's transaction."""
    put(*range(5))
    Stone(number=8).save()
    with mongoengine.get_connection().start_session() as session, session.bind(end_session=False):
        with session.start_transaction():
            Stone(number=9).save()
            said = run("history_baseline", *arguments)
            assert "Call history_baseline after the commit. Nothing was stored." in str(said.error)
            assert said.out == ""
        assert version_count() == 2
        assert run("history_baseline", *arguments).error is None
    assert version_count() == (2 if arguments else 7)
    assert [version.operation.value for version in history_of(Stone, 9)] == ["create"]


def test_indexes_are_made_and_said(quarry: Any) -> None:
    """What was missing, and which delivery is in force."""
    store = f"{quarry.name}.document_history"
    assert f"{store}: missing links, snapshots" in run("history_indexes", "--dry-run").out
    assert version_count() == 0
    said = run("history_indexes")
    assert said.lines[0].startswith(f"{store}: made links, snapshots, ")
    assert said.lines[1] == f"{STONE} in {quarry.name}.stones: delivery atomic"
    assert run("history_indexes").lines[0] == f"{store}: complete"


def test_a_standalone_server_has_baselines_too(standalone_mongodb: Any) -> None:
    """Where there are no transactions and no cluster time."""
    put(*range(10))
    assert baseline.write_baselines(source()).written == 10
    Stone.objects(number=1).update(text="new")
    assert operations(1) == ["baseline", "update"]
    assert "delivery sync" in run("history_indexes").out


def test_capped_collections_have_baselines_too(quarry: Any) -> None:
    """The server refuses transactions on them; what is stored then is stored after the read."""
    quarry.create_collection("stones", capped=True, size=100_000)
    put(*range(3))
    assert baseline.write_baselines(source()).written == 3
