"""
Run a replica set to work with by hand, until Ctrl-C; with a command, for as long as that runs.

The command finds the server in MONGODB_URI: `python -m management serve -- .venv/bin/python testproject/manage.py shell`.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Sequence

EXTRA = "server"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m management serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--nodes", type=int, choices=(1, 3), default=1, help="how many (default: %(default)s)"
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="what to run, after `--`")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    from management.servers import ReplicaSet
    from management.steps import call

    with ReplicaSet(nodes=options.nodes) as servers:
        print(f"MONGODB_URI={servers.uri}", flush=True)
        if options.command:
            return call(options.command, environ={**os.environ, "MONGODB_URI": servers.uri})
        print("Ctrl-C ends it.", flush=True)
        threading.Event().wait()
    return 0
