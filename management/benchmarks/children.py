"""Benchmarks that need processes of their own: what parent and child say to each other, a line of JSON at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from management.tether import tethered


class Child:
    """A process that runs a module of this package and answers one line to one line."""

    def __init__(self, module: str, **said: Any) -> None:
        command = [sys.executable, "-m", f"management.benchmarks.{module}", json.dumps(said)]
        self._process = subprocess.Popen(
            tethered(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, **said: Any) -> Any:
        """Its answer. Raises: RuntimeError where it has ended instead; why stands on the terminal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(said) + "\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a benchmark's process has ended with code {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def child(module: str, **said: Any) -> Iterator[Child]:
    """A process that ends with the block. `said` is what it is told at its start."""
    started = Child(module, **said)
    try:
        yield started
    finally:
        started.close()


def told() -> dict[str, Any]:
    """In the child: what it was told at its start."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found


def questions() -> Iterator[dict[str, Any]]:
    """In the child: the lines, as they come, until the parent has gone."""
    for line in sys.stdin:
        yield json.loads(line)


def answer(value: Any) -> None:
    """In the child."""
    print(json.dumps(value), flush=True)
