"""Check style, types and layers; changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from management.steps import LINT_STEPS, run_steps

EXTRA = "test"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    return argparse.ArgumentParser(prog="python -m management lint", description=__doc__).parse_args(argv)


def run(options: argparse.Namespace) -> int:
    return run_steps(LINT_STEPS)
