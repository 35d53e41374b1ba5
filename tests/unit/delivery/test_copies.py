"""Copies of what a broker was given: looked at once, never lost on the way, bounded, one's own process's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from django_mongo_history.delivery import copies as module
from django_mongo_history.delivery.copies import Copies
from django_mongo_history.delivery.publishing import Place

SHOP: Place = ("default", "shop")
BANK: Place = ("archive", "bank")
PATIENCE_S = 30.0


class Stores:
    """What looks: notes what it is asked about, fails, or hangs until it is let go."""

    def __init__(self) -> None:
        self.seen: list[tuple[Place, list[bytes]]] = []
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Semaphore(0)
        self.threads: set[str] = set()

    def __call__(self, place: Place, rows: Sequence[bytes], _timeout_s: float) -> None:
        self.threads.add(threading.current_thread().name)
        self.asked.release()
        assert self.answers.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.seen.append((place, list(rows)))


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    made.answers.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROUND_S", 0.0)


def made(stores: Stores, *, after_s: float | None = 30.0, clock: Callable[[], float] | None = None) -> Copies:
    copies = Copies(stores) if clock is None else Copies(stores, clock=clock)
    copies.after_s = after_s
    return copies


def wait_until(condition: Callable[[], bool]) -> None:
    assert any(condition() or threading.Event().wait(0.005) for _ in range(int(PATIENCE_S / 0.005)))


def test_they_are_looked_at_by_place_and_in_their_order_and_once(stores: Stores) -> None:
    copies = made(stores)
    copies.keep(SHOP, (b"1", b"2"))
    copies.keep(BANK, (b"3",))
    copies.keep(SHOP, (b"4",))
    assert copies.count() == 4
    copies.look()
    assert stores.seen == [(SHOP, [b"1", b"2", b"4"]), (BANK, [b"3"])]
    assert copies.count() == 0
    copies.look()
    assert len(stores.seen) == 2


@pytest.mark.usefixtures("quick")
def test_a_thread_looks_when_their_time_has_come(stores: Stores) -> None:
    copies = made(stores, after_s=0.02)
    for number in range(50):
        copies.keep(SHOP, (bytes([number]),))
    wait_until(lambda: copies.count() == 0 and sum(len(rows) for _place, rows in stores.seen) == 50)
    assert [row for _place, rows in stores.seen for row in rows] == [bytes([number]) for number in range(50)]
    assert stores.threads == {"django_mongo_history-copies"}


def test_nothing_is_looked_at_before_its_time(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda _self: None)  # it would take what is due here
    clock = Clock()
    copies = made(stores, clock=clock)
    copies.keep(SHOP, (b"1",))
    clock.now += 20
    copies.keep(SHOP, (b"2",))
    assert copies._due() == {}
    clock.now += 10
    assert [copy.rows for copy in copies._due()[SHOP]] == [(b"1",)]
    assert copies.count() == 2


def test_none_are_kept_where_that_is_not_asked_for(stores: Stores) -> None:
    copies = made(stores, after_s=None)
    copies.keep(SHOP, (b"1",))
    assert copies.count() == 0
    assert copies._thread is None


def test_what_cannot_be_looked_at_is_kept_on_in_its_order(stores: Stores, caplog: Any) -> None:
    """With longer and longer pauses, and without what the error says, which may be somebody's values."""
    copies = made(stores, clock=Clock())
    copies.keep(SHOP, (b"1", b"2"))
    copies.keep(SHOP, (b"3",))
    stores.error = OSError("name: Ada")
    copies.look()
    assert copies.count() == 3
    assert "3 versions that the broker took" in caplog.text
    assert "(OSError); looked at again in 10 s" in caplog.text
    copies.look()
    assert "looked at again in 20 s" in caplog.text
    assert "Ada" not in caplog.text
    stores.error = None
    copies.keep(SHOP, (b"4",))
    copies.look()
    assert stores.seen == [(SHOP, [b"1", b"2", b"3", b"4"])]
    assert copies._size == 0
    stores.error = OSError()
    copies.keep(SHOP, (b"5",))
    caplog.clear()
    copies.look()
    assert "looked at again in 10 s" in caplog.text


def test_one_place_that_cannot_be_looked_at_does_not_stop_the_others() -> None:
    seen: list[Place] = []

    def secure(place: Place, _rows: Sequence[bytes], _timeout_s: float) -> None:
        if place == SHOP:
            raise OSError
        seen.append(place)

    copies = Copies(secure)
    copies.after_s = 30.0
    copies.keep(SHOP, (b"1",))
    copies.keep(BANK, (b"2",))
    copies.look()
    assert (seen, copies.count()) == ([BANK], 1)


def test_a_place_that_cannot_be_looked_at_is_left_alone_and_the_others_are_not() -> None:
    """A tenant whose connection is closed: nobody waits for it, and it is asked less and less."""
    asked: list[tuple[float, Place]] = []
    clock = Clock()

    def secure(place: Place, _rows: Sequence[bytes], _timeout_s: float) -> None:
        asked.append((clock.now, place))
        if place == SHOP:
            raise ValueError

    copies = Copies(secure, clock=clock)
    copies.after_s = 30.0
    with copies._one_look:  # the thread waits for it
        copies.keep(SHOP, (b"1",))
        for _ in range(60):
            clock.now += 10
            copies.keep(BANK, (b"2",))
            for place, due in copies._due().items():
                copies._look_at(place, due, 1.0)
    gone = [at - 1000 for at, place in asked if place == SHOP]
    assert gone == [30, 40, 60, 100, 180, 340]
    there = [at for at, place in asked if place == BANK]
    assert {later - earlier for earlier, later in pairwise(there)} == {10}


@pytest.mark.usefixtures("quick")
def test_the_thread_goes_on_after_a_look_of_somebody_else_that_failed(stores: Stores) -> None:
    """What that put back is looked at again, though nothing new is kept."""
    copies = made(stores, after_s=0.5)
    stores.error = OSError()
    copies.keep(SHOP, (b"1",))
    copies._shelves[SHOP].pause_s = 0.01
    copies.look()
    stores.error = None
    wait_until(lambda: stores.seen == [(SHOP, [b"1"])])


def test_what_ends_a_look_loses_nothing(stores: Stores) -> None:
    """Ctrl-C, or a timeout of gevent, which is no `Exception` either."""
    copies = made(stores)
    copies.keep(SHOP, (b"1",))
    copies.keep(BANK, (b"2",))
    stores.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        copies.look()
    assert copies.count() == 2
    stores.error = None
    copies.look()
    assert [place for place, _rows in stores.seen] == [SHOP, BANK]


@pytest.mark.usefixtures("quick")
def test_of_too_many_the_older_half_is_looked_at_before_its_time(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not what a worker cannot have stored yet."""
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    copies = made(stores, after_s=3600.0)
    for number in range(7):
        copies.keep(SHOP, (bytes([number]) * 1000,))
    wait_until(lambda: bool(stores.seen))
    _place, rows = stores.seen[0]
    assert [row[0] for row in rows] == [0, 1, 2, 3]
    wait_until(lambda: copies.count() == 3)


def test_far_too_many_are_looked_at_by_the_writer(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads do not run (uWSGI without `enable-threads`) memory is bounded all the same."""
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    monkeypatch.setattr(threading.Thread, "start", lambda _self: None)
    copies = made(stores, after_s=3600.0)
    for _ in range(100):
        copies.keep(SHOP, (bytes(1000),))
        assert copies._size <= 2 * 10_000
    assert sum(len(rows) for _place, rows in stores.seen) + copies.count() == 100
    assert stores.threads == {threading.current_thread().name}


def test_what_is_dropped_is_told_and_writers_do_not_look_again_and_again(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    monkeypatch.setattr(threading.Thread, "start", lambda _self: None)
    copies = made(stores, clock=Clock())
    stores.error = OSError()
    for number in range(100):
        copies.keep(SHOP, (bytes([number]) * 1000,))
        assert copies._size <= 2 * 10_000
    told = sum(int(one.args[0]) for one in caplog.records if "with the broker alone now" in one.msg)
    assert told + copies.count() == 100
    assert copies._shelves[SHOP].copies[-1].rows[0][0] == 99, "the oldest are dropped"
    assert sum("could not be found out" in one.msg for one in caplog.records) == 1, "it rests"


def test_a_writer_does_not_wait_for_a_look_that_is_under_way(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for its own: a log handler may write tracked documents."""
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    monkeypatch.setattr(threading.Thread, "start", lambda _self: None)
    copies = made(stores)
    with copies._one_look:
        for _ in range(100):
            copies.keep(SHOP, (bytes(1000),))
    assert stores.seen == []
    assert copies._size <= 2 * 10_000


def test_no_thread_can_be_started(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    copies = made(stores)
    copies.keep(SHOP, (b"1",))
    copies.finish(timeout_s=1.0)
    assert stores.seen == [(SHOP, [b"1"])]


def test_at_the_end_all_are_looked_at(stores: Stores, caplog: Any) -> None:
    copies = made(stores)
    copies.keep(SHOP, (b"1",))
    copies.finish(timeout_s=1.0)
    assert stores.seen == [(SHOP, [b"1"])]
    assert caplog.text == ""
    stores.error = OSError()
    copies.keep(SHOP, (b"2", b"3"))
    copies.keep(BANK, (b"4",))
    copies.finish(timeout_s=1.0)
    assert "The process ends, and 3 versions are with the broker alone (OSError)." in caplog.text
    assert "looked at again" not in caplog.text


@pytest.mark.usefixtures("quick")
def test_the_end_looks_itself_where_a_look_hangs(stores: Stores) -> None:
    """At all that is kept, of the hanging look too: both may do it."""
    hangs, goes_on = threading.Event(), threading.Event()
    seen: list[tuple[str, list[bytes]]] = []

    def secure(_place: Place, rows: Sequence[bytes], _timeout_s: float) -> None:
        name = threading.current_thread().name
        if name == "django_mongo_history-copies":
            hangs.set()
            assert goes_on.wait(PATIENCE_S)
        seen.append((name, list(rows)))

    copies = Copies(secure)
    copies.after_s = 0.001
    copies.keep(SHOP, (b"1", b"2"))
    assert hangs.wait(PATIENCE_S)
    copies.keep(SHOP, (b"3",))
    copies.finish(timeout_s=0.05)
    assert seen == [(threading.current_thread().name, [b"1", b"2", b"3"])]
    assert (copies.count(), copies._size) == (0, 0)
    goes_on.set()
    wait_until(lambda: len(seen) == 2)
    assert (copies.count(), copies._size) == (0, 0)


def test_the_end_is_bounded_and_tells_what_is_left(caplog: Any) -> None:
    """Many databases of one server that does not answer."""
    asked: list[Place] = []

    def secure(place: Place, _rows: Sequence[bytes], timeout_s: float) -> None:
        asked.append(place)
        threading.Event().wait(timeout_s)
        raise TimeoutError

    copies = Copies(secure)
    copies.after_s = 30.0
    for number in range(100):
        copies.keep(("default", f"tenant{number}"), (b"1",))
    copies.finish(timeout_s=0.05)
    assert 1 <= len(asked) <= 4
    assert "The process ends, and 100 versions are with the broker alone (TimeoutError)." in caplog.text


def test_forgotten_ones_are_not_looked_at(stores: Stores) -> None:
    copies = made(stores)
    copies.keep(SHOP, (b"1",))
    copies.forget()
    copies.look()
    assert (stores.seen, copies.count(), copies._size) == ([], 0, 0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_they_are_the_parents(stores: Stores) -> None:
    copies = made(stores)
    copies.keep(SHOP, (b"1",))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before = copies.count()
            copies.keep(SHOP, (b"2",))
            copies.look()
            os.write(writer, f"{before} {stores.seen}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        assert said.read().decode() == "0 [(('default', 'shop'), [b'2'])]"
    os.waitpid(child, 0)
    assert copies.count() == 1


def test_a_context_of_the_callers_is_none_of_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    import contextvars

    bound: contextvars.ContextVar[str] = contextvars.ContextVar("bound", default="nothing")
    seen: list[str] = []
    copies = Copies(lambda _place, _rows, _timeout_s: seen.append(bound.get()))
    copies.after_s = 30.0
    bound.set("a transaction")
    copies.keep(SHOP, (b"1",))
    copies.look()
    assert seen == ["nothing"]
