"""
The project's own ways of finding out who and why: functions that are asked at each write, as plain values.

Knows neither where they come from (settings, `track()`) nor when they are asked (`context`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Find = Callable[[type[Any]], Any]
"""Called with the document class that is written. `NotImplemented` as the answer means: ask the next."""


@dataclass(frozen=True, slots=True)
class Finders:
    """
    Who is asked for the user, the remote address and `extra`, the nearest first: the class's own, its bases', the
    project's. Of users and addresses the first answer counts; `extra` is merged, the nearest key counts.
    """

    user: tuple[Find, ...] = ()
    remote_addr: tuple[Find, ...] = ()
    extra: tuple[Find, ...] = ()

    def before(self, others: Finders) -> Finders:
        """These, and where they have nothing to say the others."""
        return Finders(
            user=self.user + others.user,
            remote_addr=self.remote_addr + others.remote_addr,
            extra=self.extra + others.extra,
        )

    def __bool__(self) -> bool:
        return bool(self.user or self.remote_addr or self.extra)


NO_FINDERS: Final = Finders()
