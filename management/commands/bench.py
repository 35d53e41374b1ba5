"""
Measure what recording costs, as ratios in one interleaved run.

`save`: one save in every mode against a plain one and against the floor. `queued`: the same by every delivery, a broker
among them, and what a worker does. `many`: inserts, updates and deletes of many
documents. `reads`: classes that are not tracked, and reads of one that is. `memory`: what a write of many documents
holds at its peak beyond the plain one. `convert`: an old history, against reading its rows and writing the same
versions. `admin`: the history pages over a large history, in milliseconds. `commands`: no measure, but the commands of
each write, as the tests count them.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any

EXTRA = "test"
COMMANDS = "commands"
CONVERT = "convert"
ROUNDS = {"save": 100, "queued": 100, "many": 30, "reads": 100, "memory": 3, "admin": 7}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m management bench", description=__doc__)
    parser.add_argument("what", choices=[*ROUNDS, CONVERT, COMMANDS], help="which benchmark")
    parser.add_argument(
        "--rounds", type=_count, help=f"how often each way takes its turn (default: {ROUNDS})"
    )
    parser.add_argument(
        "--large", action="store_true", help="the largest numbers of documents as well (slow)"
    )
    parser.add_argument(
        "--rows",
        type=_count,
        help="with `convert`: how many rows the old history has; with `admin`: how many versions there are",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md as well")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or ROUNDS.get(options.what)
    return options


def run(options: argparse.Namespace) -> int:
    from management.benchmarks.tables import fill, put_on_page

    if options.what == COMMANDS:
        counted = importlib.import_module("tests.integration.test_commands_on_the_wire").as_markdown()
        print(counted, flush=True)
        if options.write:
            fill(COMMANDS, counted)
        return 0
    table = _measured(options)
    print(table.as_markdown() if options.markdown else table.as_text(), flush=True)
    if options.write:
        put_on_page(table)
    return 0


def _measured(options: argparse.Namespace) -> Any:
    from management.benchmarks import admin, convert, many, memory, queued, reads, save

    if options.what == CONVERT:
        return convert.measure(rows=options.rows, is_large=options.large)
    rounds, large = options.rounds, options.large
    ways: dict[str, Callable[[], Any]] = {
        "save": lambda: save.measure(rounds=rounds),
        "queued": lambda: queued.measure(rounds=rounds),
        "many": lambda: many.measure(rounds=rounds, is_large=large),
        "reads": lambda: reads.measure(rounds=rounds),
        "memory": lambda: memory.measure(rounds=rounds, is_large=large),
        "admin": lambda: admin.measure(rounds=rounds, size=options.rows or admin.SIZE),
    }
    return ways[options.what]()


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least one round")
    return count
