"""
What a tracked write of many documents holds at its peak, beyond what the plain one holds.

Each write has a process of its own, since memory that Python has once had is not given back: the process does the same
with one document first, and what is told is how far the resident memory's peak (`VmHWM`) rises above what it was then.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import mongoengine

from management.benchmarks.children import child
from management.benchmarks.memory_child import document
from management.benchmarks.surroundings import (
    Place,
    bench_place,
    facts,
    history_with_indexes,
    say,
    set_up_django,
)
from management.benchmarks.tables import Table

SIZES, LARGE = (10_000, 100_000), 1_000_000
KINDS = ("update", "delete", "insert of a list", "insert of a generator")
COLUMNS = ("write of many", "documents", "plain", "`atomic`", "beyond plain")
FILLED_AT_ONCE = 10_000
_NOTE = (
    "How far the process's resident memory rises above what it was before the call: the median of {rounds} rounds{large}; "
    "and by how much the tracked call rises further, smallest and largest difference in parentheses. "
    "What an insert is given as a list was there before the call."
)


def measure(*, rounds: int, is_large: bool) -> Table:
    """Megabytes above the start. Of the largest size one round, since it takes long."""
    table = Table("memory", COLUMNS)
    set_up_django()
    with bench_place() as place:
        for kind in KINDS:
            for size in (*SIZES, LARGE) if is_large else SIZES:
                peaks = _peaks(place, kind, size, 1 if size == LARGE else rounds)
                table.rows.append([kind, f"{size:,}", *cells(*peaks)])
        large = " (one of the largest size)" if is_large else ""
        table.notes = [_NOTE.format(rounds=rounds, large=large), facts()]
    return table


def cells(plain: list[float], tracked: list[float]) -> list[str]:
    """Medians in MB, and the differences round by round."""
    beyond = [more - less for more, less in zip(tracked, plain, strict=True)]
    differences = f"{median(beyond):.1f} ({min(beyond):.1f} to {max(beyond):.1f})"
    return [f"{median(plain):.1f} MB", f"{median(tracked):.1f} MB", f"{differences} MB"]


def _peaks(place: Place, kind: str, size: int, rounds: int) -> tuple[list[float], list[float]]:
    plain, tracked = [], []
    for number in range(1, rounds + 1):
        say(f"{kind}, {size:,} documents, round {number} of {rounds}")
        plain.append(_peak(place, kind, size, delivery=None))
        tracked.append(_peak(place, kind, size, delivery="atomic"))
    return plain, tracked


def _peak(place: Place, kind: str, size: int, *, delivery: str | None) -> float:
    """MB above the start."""
    history_with_indexes()
    collection = mongoengine.get_db()["memory_counter"]
    collection.drop()
    if not kind.startswith("insert"):
        for low in range(0, size, FILLED_AT_ONCE):
            collection.insert_many(list(_documents(low, min(low + FILLED_AT_ONCE, size))))
    with child("memory_child", place=place, kind=kind, size=size, delivery=delivery) as process:
        kilobytes: int = process.ask()
    return kilobytes / 1024


def _documents(low: int, high: int) -> Iterator[dict[str, object]]:
    return (document(index) for index in range(low, high))
