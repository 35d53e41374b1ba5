"""
Show the whole thing on real airports and a real MongoDB, then serve the site.

The server is a new replica set that ends with the demo, or the one in MONGODB_URI, which is used as it is. The story
itself is `testproject/demo.py`, which can only be imported inside `.venv`; here its arguments are judged before that.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from management.errors import ManagementError
from management.listening import is_free

EXTRA = "demo"
DEFAULT_PORT = 8000


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m management demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--no-serve", action="store_true", help="end when the story is told, without the site"
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="the site's port (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=_directory, metavar="DIR", help="whole airport releases instead of the excerpt"
    )
    parser.add_argument(
        "--every-release", action="store_true", help="revert to every earlier release, not to one"
    )
    parser.add_argument(
        "--celery", action="store_true", help="the same by a Celery worker, with a broker of the demo's own"
    )
    options = parser.parse_args(argv)
    if not options.no_serve and not is_free(options.port):
        raise ManagementError(
            f"port {options.port} is in use: name another one with --port, or leave the site out with --no-serve"
        )
    return options


def run(options: argparse.Namespace) -> int:
    from testproject.demo import main

    return int(main(_arguments(options)) or 0)


def _arguments(options: argparse.Namespace) -> list[str]:
    """What `testproject/demo.py` is told."""
    arguments = ["--no-serve"] if options.no_serve else ["--port", str(options.port)]
    if options.every_release:
        arguments.append("--every-release")
    if options.celery:
        arguments.append("--celery")
    return [*arguments, "--data", str(options.data)] if options.data else arguments


def _directory(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no directory")
    return path
