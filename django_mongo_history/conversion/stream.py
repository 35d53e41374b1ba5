"""Rows in the order of their documents, a portion at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any, Final

from django_mongo_history.conversion.rows import Reader, Rows
from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT

_MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes of rows at which a portion ends, however few documents they are of."""


class Streams:
    """
    Opens streams of the rows of a range of keys. `note_keyless` is given rows that have no key, `at_once`: documents that are
    looked up at once.
    """

    def __init__(self, reader: Reader, note_keyless: Callable[[Rows], None], *, at_once: int) -> None:
        self._reader = reader
        self._note_keyless = note_keyless
        self._at_once = at_once

    def opened(self, since: datetime | None, above: Any, upto: Any) -> Iterator[Rows]:
        """All documents of a range, or (`since`) those of which rows came since then; each with all of its rows."""
        if since is None:
            return self._with_keys(self._reader.stream(above=above, upto=upto))
        return self._changed(since, above, upto)

    def _changed(self, since: datetime, above: Any, upto: Any) -> Iterator[Rows]:
        keys = (key for key in self._reader.changed(since) if key is not ABSENT)
        wanted = (key for key in keys if _is_between(key, above, upto))
        while some := list(islice(wanted, self._at_once)):
            found = self._reader.of_keys(some)
            yield from sorted(found.values(), key=lambda rows: values.sort_key(rows.key))

    def _with_keys(self, found: Iterator[Rows]) -> Iterator[Rows]:
        for rows in found:
            if rows.key is ABSENT:
                self._note_keyless(rows)
            else:
                yield rows


class Stream:
    """Rows in the order of their documents. `is_whole`: its end is that of the source."""

    def __init__(
        self, found: Iterator[Rows], opened_at: datetime, name: Any = None, *, is_whole: bool = True
    ) -> None:
        self.name = name
        self.opened_at = opened_at
        self.is_whole = is_whole
        self._found = found
        self._back: list[Rows] = []

    def next(self, above: Any, limit: int) -> list[Rows]:
        """The next documents above a key: so many at most, and not many more bytes than a portion may have."""
        some: list[Rows] = []
        size = 0
        low = None if above is ABSENT else values.sort_key(above)
        while len(some) < limit and size < _MOST_BYTES:
            rows = self._back.pop(0) if self._back else next(self._found, None)
            if rows is None:
                break
            if low is not None and values.sort_key(rows.key) <= low:
                continue  # another run has taken it
            some.append(rows)
            size += rows.size
        return some

    def give_back(self, some: list[Rows]) -> None:
        """Have these come again."""
        self._back = [*some, *self._back]

    def close(self) -> None:
        with suppress(AttributeError):
            self._found.close()  # type: ignore[attr-defined]


def _is_between(key: Any, above: Any, upto: Any) -> bool:
    place = values.sort_key(key)
    if above is not ABSENT and place <= values.sort_key(above):
        return False
    return upto is ABSENT or place <= values.sort_key(upto)
