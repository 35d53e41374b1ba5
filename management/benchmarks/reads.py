"""
What nobody tracks, with the package active and without it; and reads of a class that is tracked.

Four processes take turns at the same calls on one server: two without the package, one where it is active and tracks
another class, one where it tracks this class. How the second process without it compares to the first is the noise:
nothing but chance makes them differ. The processes are started anew several times, since chance is also in where a
process lies in memory.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from itertools import count

from management.benchmarks import rounds as turns
from management.benchmarks.children import Child, child
from management.benchmarks.reads_child import CALLS, READS
from management.benchmarks.rounds import Way, ratios
from management.benchmarks.surroundings import Place, bench_place, facts, say, set_up_django
from management.benchmarks.tables import Table

COLUMNS = ("call", "without, once more (noise)", "active, class untracked", "class tracked")
PROCESSES = ("without", "again", "untracked", "tracked")
STARTS = 5
_NOTE = (
    "To the same call in a process without the package: the median of {rounds} rounds, quartiles in parentheses; "
    f"{STARTS} starts of each process."
)


def measure(*, rounds: int) -> Table:
    """Ratios to a process without the package."""
    table = Table("reads", COLUMNS)
    set_up_django()
    each = max(1, rounds // STARTS)
    took: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with bench_place() as place:
        for start in range(1, STARTS + 1):
            say(f"start {start} of {STARTS}")
            _once(place, each, took)
        for call in CALLS:
            ways = took[call]
            shown = PROCESSES[1:] if call in READS else PROCESSES[1:3]
            compared = [str(ratios(ways[name], ways["without"])) for name in shown]
            table.rows.append([call, *compared, *["not a read"] * (len(PROCESSES) - 1 - len(shown))])
        table.notes = [_NOTE.format(rounds=each * STARTS), facts()]
    return table


def _once(place: Place, rounds: int, took: dict[str, dict[str, list[float]]]) -> None:
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(child("reads_child", place=place, kind=name)) for name in PROCESSES
        }
        for process in started.values():
            process.ask(call="get ready")
        for call in CALLS:
            names = PROCESSES if call in READS else PROCESSES[:3]
            ways = {name: _way(started[name], call) for name in names}
            for name, seconds in turns.interleave(ways, rounds=rounds, warmup=3).items():
                took[call][name].extend(seconds)


_numbers = count(1)


def _way(process: Child, call: str) -> Way:
    return lambda _number: float(process.ask(call=call, number=next(_numbers)))
