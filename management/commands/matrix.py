"""
Run the tests on the versions and servers that are supported, each row in an environment of its own.

Rows that cannot be run here are named with the reason. Exit code: 0 when every row passed, 1 when one failed, 3 when
none failed and one could not be run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from management.matrix.rows import ROWS

EXTRA = "server"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m management matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[row.name for row in ROWS],
        metavar="ROW",
        help="this row; repeatable (default: all)",
    )
    parser.add_argument("--list", action="store_true", help="say which rows there are, and run none")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    from management.matrix.results import exit_code, summary
    from management.matrix.running import run_row

    rows = [row for row in ROWS if not options.only or row.name in options.only]
    if options.list:
        print("\n".join(f"{row.name:<20}{row.says}" for row in rows))
        return 0
    results = [run_row(row, root=Path.cwd()) for row in rows]
    print(f"\n== Summary ==\n{summary(results)}", flush=True)
    return exit_code(results)
