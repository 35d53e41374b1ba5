"""
The checks that must all hold, one process each, run to the end even when one fails, with a summary last.

Separate processes, so that a crash of one is a failed step and not the end of the run.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from management.interruption import Terminated
from management.tether import tethered

GRACE_S = 20  # what an interrupted program has for stopping its own servers
TOLD_S = 10  # and before it is told once more, when Ctrl-C was heard by it as well
# Started so and not by its script, whose first line is wrong once the checkout has moved.
LINT_IMPORTS = (
    "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
)

# In as many processes as `tests.dividing` finds right; a `-n 0` after it outweighs that.
PYTEST = ("-m", "pytest", "-n", "auto", "--dist", "loadfile")


@dataclass(frozen=True, slots=True)
class Step:
    """One check: this Python gets `arguments`, and exit code 0 means that it holds."""

    name: str
    arguments: tuple[str, ...]


LINT_STEPS = (
    Step("ruff check", ("-m", "ruff", "check", ".")),
    Step("ruff format --check", ("-m", "ruff", "format", "--check", ".")),
    Step("mypy", ("-m", "mypy")),
    Step("lint-imports", ("-c", LINT_IMPORTS, "--no-logo")),
)


def run_steps(steps: Sequence[Step]) -> int:
    """Run every step; 0 when all held, else 1. Says each one's result at the end."""
    codes = [_run(step) for step in steps]
    print("\n== Summary ==")
    for step, (code, seconds) in zip(steps, codes, strict=True):
        print(f"{step.name:<20} {'passed' if code == 0 else f'FAILED (exit code {code})'} in {seconds:.1f} s")
    failed = sum(code != 0 for code, _ in codes)
    print(f"{len(steps) - failed} of {len(steps)} steps passed", flush=True)
    return 1 if failed else 0


def call(command: Sequence[str], *, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Run a program to its end; interrupted, stop it first and wait, so that nothing is left running."""
    with subprocess.Popen(tethered(list(command)), env=environ, cwd=cwd) as process:
        try:
            return process.wait()
        except BaseException as error:
            is_told = isinstance(error, KeyboardInterrupt) and not isinstance(error, Terminated)
            _stop(process, is_told=is_told)
            raise


def _run(step: Step) -> tuple[int, float]:
    print(f"\n== {step.name} ==", flush=True)
    start = time.monotonic()
    code = call([sys.executable, *step.arguments])
    return code, time.monotonic() - start


def _stop(process: subprocess.Popen[bytes], *, is_told: bool) -> None:
    """`is_told`: a Ctrl-C of the terminal has reached it, too; a second signal would only disturb its ending."""
    if is_told:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=TOLD_S)
    process.terminate()
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
