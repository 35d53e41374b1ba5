"""
Copies of what a broker was given, kept in the publishing process until the store has it.

Note [Why a broker's word is not enough]
A broker that has taken a message may lose it: Redis without persistence with its own death, Celery's transport for Redis
where a worker is killed after the message left the queue and before it was noted as not worked off. In celery mode a
version is nowhere else. So the process that published it keeps it for a time, then looks whether it is stored, and puts
it into the outbox where it is not. Each version is looked at once; from then on it is in the store, or the outbox's.

Note [Kept while it is looked at]
What is looked at stays where it is until the look has ended well. So whatever ends a look, nothing is lost, and two looks
at the same do no harm.

Knows no broker and no store: `secure` is what looks.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Final, NamedTuple

from django_mongo_history.delivery.forking import begin_anew_in_children
from django_mongo_history.delivery.publishing import Place

logger: Final = logging.getLogger("django_mongo_history")

MOST_BYTES: Final = 16 * 1024 * 1024
"""Beyond it the older half is looked at before its time; beyond twice as much by the writer itself, and then dropped."""
_OVERHEAD_BYTES: Final = 512
"""What a copy takes in memory besides its rows."""
_ROUND_S: Final = 1.0
"""How long the thread rests between two looks: few looks, each at many."""
_LONGEST_WAIT_S: Final = 60.0
_FIRST_PAUSE_S: Final = 10.0
_LONGEST_PAUSE_S: Final = 600.0
"""How long a place is left alone after looks that failed."""
_LOOK_S: Final = 10.0
_WRITERS_LOOK_S: Final = 1.0
"""How long a server is waited for."""

Secure = Callable[[Place, Sequence[bytes], float], None]
"""
Sees to it that versions of one place, a row each, are in the store or the outbox; waits so many seconds for each answer
of a server. May raise what it likes.
"""


class _Copy(NamedTuple):
    kept_at: float
    rows: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.rows)) + _OVERHEAD_BYTES


@dataclass(slots=True)
class _Shelf:
    """The copies of one place, the oldest first, and how long it is left alone: others do not wait for it."""

    copies: deque[_Copy] = field(default_factory=deque)
    pause_s: float = _FIRST_PAUSE_S
    rests_until: float = 0.0


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
        self._shelves: dict[Place, _Shelf]
        self._size: int
        self._thread: threading.Thread | None
        self.begin()
        begin_anew_in_children(self)

    def keep(self, place: Place, rows: tuple[bytes, ...]) -> None:
        """
        Keep what a broker has just taken. Never raises.

        The caller waits only where the thread does not come after, seconds at most; see `MOST_BYTES`.
        """
        if self.after_s is None:
            return
        copy = _Copy(self._clock(), rows)
        with self._changed:
            shelf = self._shelves.setdefault(place, _Shelf())
            is_first = not shelf.copies
            shelf.copies.append(copy)
            self._size += copy.size
            is_far_too_much = self._size > 2 * MOST_BYTES
            if is_first or self._size > MOST_BYTES:
                self._changed.notify()
        self._start()
        if is_far_too_much:
            self._make_room()

    def look(self) -> None:
        """See to it that all that is kept is stored or in the outbox. What cannot be looked at now is kept on."""
        with self._one_look:
            for place, copies in self._due(all_of_them=True).items():
                self._look_at(place, copies, _LOOK_S)

    def finish(self, *, timeout_s: float) -> None:
        """
        The same at the end of the process. Units: seconds that a look under way is waited for, and each answer of a server;
        after twice as many no further place is looked at. What is left is told.
        """
        begun = time.monotonic()
        is_alone = self._one_look.acquire(timeout=timeout_s)
        failed: set[str] = set()
        try:
            for place, copies in self._due(all_of_them=True).items():
                if time.monotonic() - begun > 2 * timeout_s:
                    break
                error = self._tried(place, copies, timeout_s)
                failed |= set() if error is None else {type(error).__name__}
        finally:
            if is_alone:
                self._one_look.release()
        if left := self.count():
            why = ", ".join(sorted(failed)) or "there was no time"
            logger.error("The process ends, and %d versions are with the broker alone (%s).", left, why)

    def count(self) -> int:
        """How many versions are kept."""
        with self._changed:
            return sum(len(copy.rows) for shelf in self._shelves.values() for copy in shelf.copies)

    def forget(self) -> None:
        """Keep none of them any longer, for whoever throws the databases away."""
        with self._changed:
            self._shelves, self._size = {}, 0

    # -- looks -----------------------------------------------------------------------------------------------------

    def _due(self, *, all_of_them: bool = False) -> dict[Place, list[_Copy]]:
        """What is to be looked at now, by place; it stays where it is."""
        with self._changed:
            now, found = self._clock(), {}
            latest = now - (self.after_s or 0.0)
            for place, shelf in self._shelves.items():
                if all_of_them:
                    copies = list(shelf.copies)
                elif now < shelf.rests_until:
                    continue
                elif self._size > MOST_BYTES:
                    copies = list(islice(shelf.copies, (len(shelf.copies) + 1) // 2))
                else:
                    copies = list(takewhile(lambda copy: copy.kept_at <= latest, shelf.copies))
                if copies:
                    found[place] = copies
            return found

    def _look_at(self, place: Place, copies: Sequence[_Copy], timeout_s: float) -> None:
        error = self._tried(place, copies, timeout_s)
        if error is not None:
            pause_s = self._leave_alone(place)
            # Without what the error says: drivers put documents into their messages.
            logger.warning(
                "Whether %d versions that the broker took are stored could not be found out (%s); looked at again in %g s.",
                sum(len(copy.rows) for copy in copies),
                type(error).__name__,
                pause_s,
            )

    def _tried(self, place: Place, copies: Sequence[_Copy], timeout_s: float) -> Exception | None:
        """Look at these, and keep them no longer; why that could not be done."""
        rows = [row for copy in copies for row in copy.rows]
        try:
            # In an empty context: a transaction that the caller has bound to this one is none of this.
            contextvars.Context().run(self._secure, place, rows, timeout_s)
        except Exception as error:  # noqa: BLE001 - servers that are away, connections that have been closed
            return error
        looked_at = set(map(id, copies))
        with self._changed:
            shelf = self._shelves.get(place, _Shelf())
            while shelf.copies and id(shelf.copies[0]) in looked_at:
                self._size -= shelf.copies.popleft().size
            shelf.pause_s, shelf.rests_until = _FIRST_PAUSE_S, 0.0
            if not shelf.copies:
                self._shelves.pop(place, None)
        return None

    def _leave_alone(self, place: Place) -> float:
        """For how long: longer with each look that failed."""
        with self._changed:
            shelf = self._shelves.get(place, _Shelf())
            pause_s = shelf.pause_s
            shelf.rests_until = self._clock() + pause_s
            shelf.pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            self._changed.notify()
            return pause_s

    def _make_room(self) -> None:
        """Where threads do not run the writer looks; where nobody can, the oldest are dropped, and that is told."""
        if self._one_look.acquire(blocking=False):
            try:
                for place, copies in self._due().items():
                    self._look_at(place, copies, _WRITERS_LOOK_S)
            finally:
                self._one_look.release()
        dropped = 0
        with self._changed:
            while self._size > 2 * MOST_BYTES:
                dropped += self._drop_oldest()
        if dropped:
            logger.error("%d versions are with the broker alone now: no more copies can be kept.", dropped)

    def _drop_oldest(self) -> int:
        """One copy, and some more, so that not each further write has to; how many versions that were."""
        dropped = 0
        wanted = self._size - MOST_BYTES // 8
        while self._size > wanted and self._shelves:
            place, shelf = min(self._shelves.items(), key=lambda one: one[1].copies[0].kept_at)
            oldest = shelf.copies.popleft()
            self._size -= oldest.size
            dropped += len(oldest.rows)
            if not shelf.copies:
                del self._shelves[place]
        return dropped

    # -- the thread ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._changed:
            if self._thread is not None and self._thread.is_alive():
                return
            thread = threading.Thread(target=self._work, name="django_mongo_history-copies", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:  # the system has no more of them, or the interpreter ends: `finish` looks
                self._thread = None

    def _work(self) -> None:
        while True:
            with self._changed:
                while wait_s := self._wait_s():
                    self._changed.wait(wait_s)
            with self._one_look:
                for place, copies in self._due().items():
                    self._look_at(place, copies, _LOOK_S)
            time.sleep(_ROUND_S)

    def _wait_s(self) -> float | None:
        """How long nothing is due; None where something is."""
        now, wait_s = self._clock(), _LONGEST_WAIT_S
        for shelf in self._shelves.values():
            due = shelf.copies[0].kept_at + (self.after_s or 0.0)
            if self._size > MOST_BYTES:
                due = now
            wait_s = min(wait_s, max(due, shelf.rests_until) - now)
        return wait_s if wait_s > 0 else None

    def begin(self) -> None:
        """Also after a fork: what is kept is the parent's, and so is the thread."""
        self._changed = threading.Condition()
        self._one_look = threading.Lock()
        self._shelves = {}
        self._size = 0
        self._thread = None
