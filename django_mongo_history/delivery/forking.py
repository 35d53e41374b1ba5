"""What a process has that its forked children must not share: threads, locks, connections, what is kept for one writer."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Own(Protocol):
    """What belongs to one process."""

    def begin(self) -> None:
        """Be as new. Another thread may have held any lock of it in the moment of the fork."""
        ...


_known: Final[weakref.WeakSet[Own]] = weakref.WeakSet()


def begin_anew_in_children(own: Own) -> None:
    """Have it begun anew in every child process that is forked from now on, as long as it lives."""
    _known.add(own)


def _begin_anew() -> None:
    for own in list(_known):
        own.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
