"""
Measure what recording costs, as ratios in one interleaved run.

`save`: one save in every mode against a plain one and against the raw floor.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

EXTRA = "test"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m management bench", description=__doc__)
    parser.add_argument("what", choices=["save"], help="which benchmark")
    parser.add_argument("--rounds", type=int, default=300, help="saves of each kind (default: 300)")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    from management.benchmarks import save

    save.run(rounds=options.rounds)
    return 0
