"""
Style, types and layers, then the whole suite on a real replica set; with arguments, pytest alone with those.

All steps run even when one fails; the exit code is 0 only when all held. A browser is a step of its own: where there is
none, it says what to install, and the browser tests fail as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from management.steps import LINT_STEPS, PYTEST, Step, run_steps

EXTRA = "test"
BROWSER = Step("browser", ("-m", "management.browser"))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Everything is pytest's, `--help` included."""
    return argparse.Namespace(pytest=list(argv))


def run(options: argparse.Namespace) -> int:
    pytest = Step("pytest", (*PYTEST, *options.pytest))
    return run_steps([pytest] if options.pytest else [*LINT_STEPS, BROWSER, pytest])
