"""
Copies of what a broker was given, kept in the publishing process until the store has it.

Note [Why a broker's word is not enough]
A broker that has taken a message may lose it: Redis without persistence with its own death, Celery's transport for Redis
where a worker is killed after the message left the queue and before it was noted as not worked off. In celery mode a
version is nowhere else. So the process that published it keeps it for a time, then looks whether it is stored, and puts
it into the outbox where it is not. Each version is looked at once; from then on it is in the store, or the outbox's.

Knows no broker and no store: `secure` is what looks.
"""

from __future__ import annotations

import contextvars
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from django_mongo_history.delivery.forking import begin_anew_in_children
from django_mongo_history.delivery.publishing import Place

logger: Final = logging.getLogger("django_mongo_history")

MOST_BYTES: Final = 16 * 1024 * 1024
"""Beyond it copies are looked at before their time; beyond twice as much by the writer itself."""
_OVERHEAD_BYTES: Final = 512
"""What a copy takes in memory besides its rows."""
_ROUND_S: Final = 1.0
"""How long the thread rests between two looks: few looks, each at many."""
_FIRST_PAUSE_S: Final = 10.0
_LONGEST_PAUSE_S: Final = 600.0
"""How long it rests after looks that failed."""
_FOREVER: Final = math.inf

_LOOK_S: Final = 10.0
"""How long a server is waited for, ordinarily."""

Secure = Callable[[Place, Sequence[bytes], float], None]
"""
Sees to it that versions of one place, a row each, are in the store or the outbox; waits so many seconds for each server
that does not answer. May raise what it likes.
"""


class _Copy(NamedTuple):
    kept_at: float
    place: Place
    rows: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.rows)) + _OVERHEAD_BYTES


class Copies:
    """
    One for each process, empty after a fork. Memory: 32 MB of rows.

    Units: `after_s`, seconds from a message to the look whether its versions are stored; None keeps no copies.
    """

    def __init__(self, secure: Secure, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.after_s: float | None = None
        self._secure = secure
        self._clock = clock
        self._changed: threading.Condition
        self._one_look: threading.Lock
        self._kept: deque[_Copy]
        self._size: int
        self._under_way: int
        self._pause_s: float
        self._rests_until: float
        self._thread: threading.Thread | None
        self.begin()
        begin_anew_in_children(self)

    def keep(self, place: Place, rows: tuple[bytes, ...]) -> None:
        """Keep what a broker has just taken. Never raises; the caller waits only where far too much is kept."""
        if self.after_s is None:
            return
        copy = _Copy(self._clock(), place, rows)
        with self._changed:
            was_idle = not self._kept
            self._kept.append(copy)
            self._size += copy.size
            is_far_too_much = self._size > 2 * MOST_BYTES
            if was_idle or self._size > MOST_BYTES:
                self._changed.notify()
        self._start()
        if is_far_too_much:  # threads do not run here, or the look takes too long
            self.look()

    def look(self) -> None:
        """See to it that all that is kept is stored or in the outbox. What cannot be looked at now is kept on."""
        with self._one_look:
            self._look_at(self._take(all_of_them=True), _LOOK_S)

    def finish(self, *, timeout_s: float) -> None:
        """
        The same at the end of the process. Units: seconds that a look under way is waited for, and that this one waits
        for a server that does not answer.
        """
        is_alone = self._one_look.acquire(timeout=timeout_s)
        try:
            self._look_at(self._take(all_of_them=True), timeout_s)
        finally:
            if is_alone:
                self._one_look.release()
        left = self.count() + (0 if is_alone else self._under_way)
        if left:
            logger.error("The process ends, and %d versions are with the broker alone.", left)

    def count(self) -> int:
        """How many versions are kept."""
        with self._changed:
            return sum(len(copy.rows) for copy in self._kept)

    def forget(self) -> None:
        """Keep none of them any longer, for whoever throws the databases away."""
        with self._changed:
            self._kept.clear()
            self._size = 0

    # -- the thread ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._changed:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._work, name="django_mongo_history-copies", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no more of them, or the interpreter ends: `finish` looks
                return
            self._thread = thread

    def _work(self) -> None:
        while True:
            with self._changed:
                while wait_s := self._wait_s():
                    self._changed.wait(None if wait_s == _FOREVER else wait_s)
            with self._one_look:
                self._look_at(self._take(), _LOOK_S)
            time.sleep(_ROUND_S)

    def _wait_s(self) -> float:
        """How long nothing is due."""
        if not self._kept:
            return _FOREVER
        now = self._clock()
        if now < self._rests_until:
            return self._rests_until - now
        if self._size > MOST_BYTES:
            return 0.0
        return max(0.0, self._kept[0].kept_at + (self.after_s or 0.0) - now)

    def _take(self, *, all_of_them: bool = False) -> list[_Copy]:
        """What is due, or all; kept no longer."""
        with self._changed:
            latest = self._clock() - (self.after_s or 0.0)
            takes_all = all_of_them or self._size > MOST_BYTES
            taken = []
            while self._kept and (takes_all or self._kept[0].kept_at <= latest):
                taken.append(self._kept.popleft())
            self._size -= sum(copy.size for copy in taken)
            return taken

    def _look_at(self, taken: Sequence[_Copy], timeout_s: float) -> None:
        by_place: dict[Place, list[_Copy]] = {}
        for copy in taken:
            by_place.setdefault(copy.place, []).append(copy)
        for place, copies in by_place.items():
            rows = [row for copy in copies for row in copy.rows]
            self._under_way = len(rows)
            try:
                # In an empty context: a transaction that the caller has bound to this one is none of this.
                contextvars.Context().run(self._secure, place, rows, timeout_s)
            except Exception as error:  # noqa: BLE001 - servers that are away, connections that have been closed
                self._put_back(copies, error)
            else:
                self._pause_s = _FIRST_PAUSE_S
            self._under_way = 0

    def _put_back(self, copies: Sequence[_Copy], error: Exception) -> None:
        """Keep on what could not be looked at, and rest; the oldest are dropped where that is too much."""
        dropped = 0
        with self._changed:
            self._kept.extendleft(reversed(copies))
            self._size += sum(copy.size for copy in copies)
            while self._size > 2 * MOST_BYTES:
                oldest = self._kept.popleft()
                self._size -= oldest.size
                dropped += len(oldest.rows)
            self._rests_until = self._clock() + self._pause_s
        # Without what the error says: drivers put documents into their messages.
        logger.warning(
            "Whether %d versions that the broker took are stored could not be found out (%s); looked at again in %g s.",
            sum(len(copy.rows) for copy in copies),
            type(error).__name__,
            self._pause_s,
        )
        if dropped:
            logger.error("%d of them are with the broker alone now: no more can be kept.", dropped)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def begin(self) -> None:
        """Also after a fork: what is kept is the parent's, and so is the thread."""
        self._changed = threading.Condition()
        self._one_look = threading.Lock()
        self._kept = deque()
        self._size = 0
        self._under_way = 0
        self._pause_s = _FIRST_PAUSE_S
        self._rests_until = 0.0
        self._thread = None
