"""
Style, types and layers, then the whole suite on a real replica set; with arguments, pytest alone with those.

All steps run even when one fails; the exit code is 0 only when all held.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from management.steps import LINT_STEPS, Step, run_steps

EXTRA = "test"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Everything is pytest's, `--help` included."""
    return argparse.Namespace(pytest=list(argv))


def run(options: argparse.Namespace) -> int:
    pytest = Step("pytest", ("-m", "pytest", *options.pytest))
    return run_steps([pytest] if options.pytest else [*LINT_STEPS, pytest])
