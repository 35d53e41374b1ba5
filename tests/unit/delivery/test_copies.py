"""Copies of what a broker was given: looked at once, never lost on the way, bounded, one's own process's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
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
    assert [copy.rows for copy in copies._take()] == []
    clock.now += 10
    assert [copy.rows for copy in copies._take()] == [(b"1",)]
    assert copies.count() == 1


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


@pytest.mark.usefixtures("quick")
def test_too_many_are_looked_at_before_their_time(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    copies = made(stores, after_s=3600.0)
    for _ in range(5):
        copies.keep(SHOP, (bytes(1000),))
    assert stores.seen == []
    for _ in range(3):
        copies.keep(SHOP, (bytes(1000),))
    wait_until(lambda: sum(len(rows) for _place, rows in stores.seen) >= 7)


def test_far_too_many_are_looked_at_by_the_writer(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads do not run (uWSGI without `enable-threads`) memory is bounded all the same."""
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    monkeypatch.setattr(threading.Thread, "start", lambda _self: None)
    copies = made(stores, after_s=3600.0)
    for _ in range(100):
        copies.keep(SHOP, (bytes(1000),))
        assert copies._size <= 2 * 10_000 + 2000
    assert sum(len(rows) for _place, rows in stores.seen) + copies.count() == 100
    assert stores.threads == {threading.current_thread().name}


def test_what_is_dropped_is_told(stores: Stores, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    monkeypatch.setattr(threading.Thread, "start", lambda _self: None)
    copies = made(stores)
    stores.error = OSError()
    for number in range(20):
        copies.keep(SHOP, (bytes([number]) * 1000,))
    assert copies._size <= 2 * 10_000
    told = sum(int(one.args[0]) for one in caplog.records if "with the broker alone now" in one.msg)
    assert told + copies.count() == 20
    assert copies._kept[-1].rows[0][0] == 19, "the oldest are dropped"


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
    copies.finish(timeout_s=1.0)
    assert "The process ends, and 2 versions are with the broker alone" in caplog.text


@pytest.mark.usefixtures("quick")
def test_the_end_does_not_wait_for_a_look_that_hangs(stores: Stores, caplog: Any) -> None:
    """What it does not wait for is told."""
    copies = made(stores, after_s=0.001)
    stores.answers.clear()
    copies.keep(SHOP, (b"1", b"2", b"3"))
    assert stores.asked.acquire(timeout=PATIENCE_S)
    copies.finish(timeout_s=0.05)
    assert "The process ends, and 3 versions are with the broker alone" in caplog.text
    stores.answers.set()
    wait_until(lambda: stores.seen == [(SHOP, [b"1", b"2", b"3"])])


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
