"""Messages to a broker: a write waits a bounded time, whatever the broker does, and hears what came of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bson import ObjectId

from django_mongo_history.delivery import publishing
from django_mongo_history.delivery.messages import Message
from django_mongo_history.delivery.publishing import BrokerError, Publisher

PLACE = ("default", "shop")
PATIENCE_S = 30.0
ONE = Message(*PLACE, rows=(b"1",))


class Broker:
    """Takes messages, fails, or hangs until it is let go."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Semaphore(0)
        self.threads: set[str] = set()

    def __call__(self, message: Message) -> None:
        self.threads.add(threading.current_thread().name)
        self.asked.release()
        assert self.answers.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.taken.append(message)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.answers.set()


def wait_until(condition: Callable[[], bool]) -> None:
    assert any(condition() or threading.Event().wait(0.005) for _ in range(int(PATIENCE_S / 0.005)))


def test_the_broker_has_it_when_the_call_returns(broker: Broker) -> None:
    publisher = Publisher(broker, timeout_s=PATIENCE_S)
    for number in range(100):
        publisher.publish(Message(*PLACE, rows=(bytes([number]),)))
        assert broker.taken[-1].rows == (bytes([number]),)
    assert broker.threads == {"django_mongo_history-publisher"}


def test_its_error_is_raised_and_then_it_is_left_alone(broker: Broker, caplog: Any) -> None:
    """While a broker is down writes do not wait for it, one after another."""
    clock = Clock()
    publisher = Publisher(broker, timeout_s=PATIENCE_S, clock=clock)
    broker.error = OSError("refused")
    with pytest.raises(BrokerError, match="OSError: refused") as caught:
        publisher.publish(ONE)
    assert caught.value.__cause__ is broker.error
    with pytest.raises(BrokerError, match="OSError: refused"):
        publisher.publish(ONE)
    assert broker.asked.acquire(timeout=PATIENCE_S)
    assert not broker.asked.acquire(blocking=False), "it was asked again"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    broker.error = None
    clock.now += publishing.PAUSE_S
    publisher.publish(ONE)
    assert broker.taken == [ONE]


def test_a_broker_that_hangs(broker: Broker) -> None:
    """The call returns in time; the thread that hangs is left behind, and the next message has another one."""
    clock = Clock()
    publisher = Publisher(broker, timeout_s=0.05, clock=clock)
    broker.answers.clear()
    with pytest.raises(BrokerError, match=r"did not answer within 0\.05 s"):
        publisher.publish(ONE)
    clock.now += publishing.PAUSE_S
    with pytest.raises(BrokerError, match="did not answer"):
        publisher.publish(ONE)
    broker.answers.set()
    clock.now += publishing.PAUSE_S
    other = Message(*PLACE, rows=(b"2",))
    wait_until(lambda: _is_published(publisher, other, clock))
    assert other in broker.taken


def _is_published(publisher: Publisher, message: Message, clock: Clock) -> bool:
    try:
        publisher.publish(message)
    except BrokerError:
        clock.now += publishing.PAUSE_S
        return False
    return True


def test_what_nobody_waits_for_any_more_is_not_sent(broker: Broker) -> None:
    """A message behind one that hangs was given up before its turn: its version went another way."""
    publisher = Publisher(broker, timeout_s=0.2)
    broker.answers.clear()
    errors: list[BaseException] = []

    def publish(message: Message) -> None:
        try:
            publisher.publish(message)
        except BrokerError as error:
            errors.append(error)

    messages = [Message(*PLACE, rows=(bytes([number]),)) for number in range(8)]
    threads = [threading.Thread(target=publish, args=(message,)) for message in messages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(errors) == 8
    broker.answers.set()
    wait_until(lambda: len(broker.taken) >= 1)
    assert len(broker.taken) < 8


def test_tasks_that_run_at_once(broker: Broker) -> None:
    """An eager task runs in the caller's own thread, and its error is the caller's."""
    publisher = Publisher(broker, timeout_s=PATIENCE_S, runs_inline=lambda: True)
    publisher.publish(ONE)
    publisher.announce(PLACE, [ObjectId()])
    assert len(broker.taken) == 2
    assert broker.threads == {threading.current_thread().name}
    broker.error = ValueError("no")
    with pytest.raises(BrokerError, match="ValueError: no"):
        publisher.publish(ONE)
    publisher.announce(PLACE, [ObjectId()])  # nobody waits for it, so nobody hears of it
    broker.error = None
    publisher.publish(ONE)
    name = ObjectId()
    publisher.announce(PLACE, [name], at_once=False)
    publisher.publish(ONE)
    assert broker.taken[-1] == Message(*PLACE, ids=(name,)), "names go with the next message, here too"


def test_names_are_sent_without_a_wait(broker: Broker) -> None:
    publisher = Publisher(broker, timeout_s=PATIENCE_S)
    broker.answers.clear()
    ids = [ObjectId() for _ in range(10)]
    for one in ids:
        publisher.announce(PLACE, [one])
    broker.answers.set()
    wait_until(lambda: {name for message in broker.taken for name in message.ids} == set(ids))
    assert len(broker.taken) <= 3, "names that wait together go together"


def test_names_that_may_not_be_there_yet_go_with_the_next(broker: Broker) -> None:
    """Of a caller's transaction nobody hears when it commits."""
    publisher = Publisher(broker, timeout_s=PATIENCE_S)
    early, late = ObjectId(), ObjectId()
    publisher.announce(PLACE, [early], at_once=False)
    assert not broker.asked.acquire(timeout=0.05)
    publisher.announce(PLACE, [late])
    wait_until(lambda: bool(broker.taken))
    assert broker.taken == [Message(*PLACE, ids=(early, late))]
    publisher.announce(PLACE, [early], at_once=False)
    publisher.publish(ONE)
    wait_until(lambda: len(broker.taken) == 3)
    assert broker.taken[1:] == [ONE, Message(*PLACE, ids=(early,))]


def test_many_names_go_in_several_messages_and_are_bounded(broker: Broker) -> None:
    publisher = Publisher(broker, timeout_s=PATIENCE_S)
    ids = [ObjectId() for _ in range(12_000)]
    publisher.announce(PLACE, ids, at_once=False)
    publisher.announce(PLACE, [])
    wait_until(lambda: sum(len(message.ids) for message in broker.taken) >= 10_000)
    assert {len(message.ids) for message in broker.taken} == {publishing.MOST_NAMES}
    assert [name for message in broker.taken for name in message.ids] == ids[:10_000]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_a_thread_of_its_own(broker: Broker) -> None:
    """Servers that fork their workers after the first write go on in each of them."""
    publisher = Publisher(broker, timeout_s=PATIENCE_S)
    publisher.publish(ONE)
    publisher.announce(PLACE, [ObjectId()], at_once=False)
    child = os.fork()
    if child == 0:
        try:
            publisher.publish(Message(*PLACE, rows=(b"child",)))
            told = [message.rows for message in broker.taken[1:]] == [(b"child",)]
            os._exit(0 if told else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    publisher.publish(ONE)
    assert [message.rows for message in broker.taken if message.rows] == [(b"1",), (b"1",)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_another_thread_holds_the_lock(broker: Broker) -> None:
    """Nobody would ever open it in the child."""
    publisher = Publisher(broker, timeout_s=PATIENCE_S)
    with publisher._lock:
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(int(PATIENCE_S))  # ends it, should it hang
                publisher.publish(ONE)
                os._exit(0 if broker.taken == [ONE] else 1)
            finally:
                os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_without_threads(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be started it is as without a broker: what is announced waits, what is published goes another way."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    publisher = Publisher(broker, timeout_s=PATIENCE_S)
    name = ObjectId()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        publisher.announce(PLACE, [name])
        with pytest.raises(BrokerError, match="can't start new thread"):
            publisher.publish(ONE)
    publisher.publish(ONE)
    wait_until(lambda: len(broker.taken) == 2)
    assert broker.taken == [ONE, Message(*PLACE, ids=(name,))]


def test_a_thread_ends_with_its_publisher(broker: Broker) -> None:
    """Settings that change make another publisher; the old one's thread sends what it has and ends."""
    publisher = Publisher(broker, timeout_s=PATIENCE_S)
    publisher.publish(ONE)
    thread = publisher._thread
    assert thread is not None
    publisher.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    publisher.publish(ONE)
    assert broker.taken == [ONE, ONE]
    publisher.close()
    publisher.close()
