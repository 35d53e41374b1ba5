"""
Messages to a broker, without ever hanging on it: one thread of the process talks to it, writes wait a bounded time.

Note [One thread talks to the broker]
Transports bound their own waits each in its own way, or not at all: a broker that accepts a connection and then says
nothing holds a publisher for minutes. So messages are sent by a thread, and a write waits for it by the clock. What it
does not wait for any longer may still arrive, which does no harm: a version that is stored twice is stored once.
Knows no Celery: `send` is what sends.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bson import ObjectId

from django_mongo_history.delivery.forking import begin_anew_in_children
from django_mongo_history.delivery.messages import Message

logger: Final = logging.getLogger("django_mongo_history")

PAUSE_S: Final = 10.0
"""How long a broker that failed is left alone."""
MOST_NAMES: Final = 1000
"""Names of waiting versions in one message."""
_MOST_KEPT: Final = 10_000
"""Names kept until they are sent; beyond it the sweep finds the versions without them."""

Send = Callable[[Message], None]
Place = tuple[str, str]
"""Alias and database."""


class BrokerError(Exception):
    """The broker did not take a message, or not in time."""


@dataclass(slots=True)
class _Order:
    """A message to be sent, and what came of it. `is_dropped`: nobody waits for it any more."""

    message: Message
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    is_dropped: bool = False


class Publisher:
    """
    Sends messages by `send`; one for each process, made anew after a fork.

    `runs_inline` tells whether `send` is to be called at once in the caller's own thread: where tasks run eagerly.
    Units: `timeout_s` seconds that a write waits at most.
    """

    def __init__(
        self,
        send: Send,
        *,
        timeout_s: float,
        runs_inline: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._runs_inline = runs_inline
        self._clock = clock
        self._lock: threading.Lock
        self._queue: queue.SimpleQueue[_Order | None]
        self._thread: threading.Thread | None
        self._busy_since: float | None
        self._names: dict[Place, list[ObjectId]]
        self._down_until: float
        self._last_error: str
        self.begin()
        begin_anew_in_children(self)

    @property
    def is_inline(self) -> bool:
        """Whether a message is carried out when `publish` returns, and not only taken."""
        return self._runs_inline()

    def publish(self, message: Message) -> None:
        """Send a message, and wait until the broker has it. Raises: BrokerError, within `timeout_s`."""
        if self.is_inline:
            self._send_inline(message)
            with contextlib.suppress(BrokerError):
                self._send_names(self._send_inline)
            return
        if self._clock() < self._down_until:
            raise BrokerError(self._last_error)
        order = _Order(message)
        self._orders().put(order)
        if not order.done.wait(self._timeout_s):
            order.is_dropped = True
            self._give_up_on_thread_if_stuck()
            self._fail(f"it did not answer within {self._timeout_s:g} s")
        if order.error is not None:
            self._fail(f"{type(order.error).__name__}: {order.error}", order.error)

    def announce(self, place: Place, ids: Sequence[ObjectId], *, at_once: bool = True) -> None:
        """
        Tell the workers of versions in an outbox; nobody waits for it, and the sweep finds what is lost.

        `at_once` False: they may not be there yet, so they are told of with the next ones.
        """
        with self._lock:
            known = self._names.setdefault(place, [])
            known.extend(ids[: _MOST_KEPT - len(known)])
        if at_once and self._clock() >= self._down_until:
            with contextlib.suppress(BrokerError):
                if self.is_inline:
                    self._send_names(self._send_inline)
                else:
                    self._orders().put(None)

    def close(self) -> None:
        """Let the thread end once it has sent what it was given. What is published later has another one."""
        with self._lock:
            if self._thread is not None:
                ended = self._queue
                self._queue, self._thread = queue.SimpleQueue(), None
                ended.put(None)

    # -- the thread ------------------------------------------------------------------------------------------------

    def _orders(self) -> queue.SimpleQueue[_Order | None]:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._work,
                    args=(self._queue,),
                    name="django_mongo_history-publisher",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError as error:  # the system has no more of them, or the interpreter ends
                    raise BrokerError(f"{type(error).__name__}: {error}") from error
                self._thread = thread
            return self._queue

    def _work(self, orders: queue.SimpleQueue[_Order | None]) -> None:
        while orders is self._queue or not orders.empty():
            order = orders.get()
            self._busy_since = self._clock()
            if order is not None and not order.is_dropped:
                self._carry_out(order)
            if orders.empty() and orders is self._queue:
                self._busy_since = self._clock()
                with contextlib.suppress(BrokerError):
                    self._send_names(self._send_or_pause)
            if orders is self._queue:
                self._busy_since = None

    def _carry_out(self, order: _Order) -> None:
        try:
            self._send(order.message)
        except Exception as error:  # noqa: BLE001 - transports raise what they like, and the write must hear of it
            order.error = error
        order.done.set()

    def _send_or_pause(self, message: Message) -> None:
        try:
            self._send(message)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(f"{type(error).__name__}: {error}", error)

    def _send_inline(self, message: Message) -> None:
        try:
            self._send(message)
        except Exception as error:
            raise BrokerError(f"{type(error).__name__}: {error}") from error

    def _send_names(self, send: Send) -> None:
        with self._lock:
            names = self._names
            self._names = {}
        for (alias, database), ids in names.items():
            unique = list(dict.fromkeys(ids))
            for start in range(0, len(unique), MOST_NAMES):
                send(Message(alias, database, ids=tuple(unique[start : start + MOST_NAMES])))

    def _give_up_on_thread_if_stuck(self) -> None:
        """A thread that hangs on the broker ends when that lets it go; the next message has another one."""
        with self._lock:
            since = self._busy_since
            if since is None or self._clock() - since < self._timeout_s:
                return
            self._busy_since = None
            abandoned = self._queue
            self._queue, self._thread = queue.SimpleQueue(), None
            while not abandoned.empty():
                with contextlib.suppress(queue.Empty):
                    self._queue.put(abandoned.get_nowait())
            abandoned.put(None)  # wakes it, should it wait for orders by now

    def _fail(self, text: str, cause: BaseException | None = None) -> None:
        if self._clock() >= self._down_until:
            logger.warning("The broker takes no message: %s. It is left alone for %g s.", text, PAUSE_S)
        self._last_error = text
        self._down_until = self._clock() + PAUSE_S
        raise BrokerError(text) from cause

    def begin(self) -> None:
        """Also after a fork: threads do not come along, and another thread may have held the lock in that moment."""
        self._lock = threading.Lock()
        self._queue = queue.SimpleQueue()
        self._thread = None
        self._busy_since = None
        self._names = {}
        self._down_until = 0.0
        self._last_error = ""
