"""
Which command is meant, and how its failures are told.

A command is one module in `management/commands/`: adding `bench.py` there adds `python -m management bench`, and
`foreign_suite.py` adds `foreign-suite`. See `Command` for what such a module holds.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from management import commands
from management.environment import Environment, enter
from management.errors import ManagementError
from management.interruption import Terminated, interrupt_on_sigterm

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED, TERMINATED = 130, 143  # what shells report for SIGINT and SIGTERM


class Command(Protocol):
    """
    What a module in `management/commands/` has. Its docstring's first line is its help.

    It is imported and judges its arguments before `.venv` exists: outside `run` the standard library only.
    """

    __doc__: str | None
    EXTRA: str  # the optional dependencies that it needs

    def parse(self, argv: Sequence[str]) -> argparse.Namespace: ...

    def run(self, options: argparse.Namespace) -> int: ...


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code, or 1 with one line for what the user can mend."""
    options = _parser().parse_args(argv[:1])
    command = load(options.command)
    interrupt_on_sigterm()
    try:
        options = command.parse(argv[1:])
        os.chdir(ROOT)
        enter(Environment(ROOT), extra=command.EXTRA, argv=argv)
        return command.run(options)
    except ManagementError as error:
        print(f"management: error: {error}", file=sys.stderr)
        return 1
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        print("management: interrupted", file=sys.stderr)
        return INTERRUPTED


def names() -> list[str]:
    """The commands there are, as they are typed."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))


def load(name: str) -> Command:
    module = importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}")
    return cast(Command, module)


def _parser() -> argparse.ArgumentParser:
    summaries = [f"  {name:<14}{(load(name).__doc__ or '').strip().splitlines()[0]}" for name in names()]
    parser = argparse.ArgumentParser(
        prog="python -m management",
        description="Runs this repository from nothing but Python 3.11 and pip.",
        epilog="\n".join(["commands:", *summaries, "", "python -m management COMMAND --help tells more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=names(), metavar="COMMAND")
    return parser
