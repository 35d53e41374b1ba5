"""
The demo: a server, a site, five releases of real data, their history, and the way back.

    python -m testproject.demo [--no-serve] [--port 8000] [--data DIRECTORY] [--every-release] [--celery]

Makes the places (MongoDB, SQLite), lets `demonstration.story` tell what happens there, then serves the site. All of it
is gone at the end, except what MONGODB_URI or TESTPROJECT_SQLITE name.
"""

import argparse
import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import django
import mongoengine
from django.core.management import call_command
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from management.errors import ManagementError
from management.interruption import Terminated, interrupt_on_sigterm
from management.listening import HOST, is_free
from management.servers import running_server
from testproject.airports.loader import releases
from testproject.demonstration.offload import Here, Way, worker_running
from testproject.demonstration.output import Output

INTERRUPTED, TERMINATED = 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when every proof held, 1 when one did not or there is no place to run in."""
    options = parser().parse_args(argv)
    out = Output(sys.stdout)
    interrupt_on_sigterm()
    try:
        with contextlib.ExitStack() as stack:
            way = _prepare(stack, options)
            return _run(out, way, options)
    except ManagementError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The demo's arguments, for whoever wraps it."""
    arguments = argparse.ArgumentParser(
        prog="demo", description="Load real releases, show their history, revert them."
    )
    arguments.add_argument("--no-serve", dest="serve", action="store_false", help="end after the story")
    arguments.add_argument("--port", type=int, default=8000, help="where the site is served (default: 8000)")
    arguments.add_argument(
        "--data", type=Path, metavar="DIRECTORY", help="releases to load (default: the excerpt)"
    )
    arguments.add_argument(
        "--every-release", action="store_true", help="revert to every earlier release, not to one"
    )
    arguments.add_argument(
        "--celery", action="store_true", help="let a worker do the work, and store the versions"
    )
    return arguments


def _prepare(stack: contextlib.ExitStack, options: argparse.Namespace) -> Way:
    """Make the places, each undone by `stack`, and start Django in them. How the story's writes are made."""
    _check_data(options.data)
    if options.serve:
        _check_port(options.port)
    uri = stack.enter_context(running_server())
    os.environ["MONGODB_URI"] = uri
    os.environ["TESTPROJECT_DATABASE"] = stack.enter_context(_own_database(uri))
    if not os.environ.get("TESTPROJECT_SQLITE"):
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="airports-demo-"))
        os.environ["TESTPROJECT_SQLITE"] = str(Path(directory) / "db.sqlite3")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    way: Way = stack.enter_context(worker_running()) if options.celery else Here()
    stack.callback(mongoengine.disconnect_all)
    django.setup()
    from django_mongo_history import depots

    stack.callback(depots.finish)  # while there are connections
    return way


@contextlib.contextmanager
def _own_database(uri: str) -> Iterator[str]:
    """The database to work in: a new one, dropped afterwards, or the one that the URI names, if that is empty."""
    named = parse_uri(uri)["database"]
    name = named or f"airports_demo_{secrets.token_hex(4)}"
    with MongoClient(uri) as client:
        if named and client[named].list_collection_names():
            raise ManagementError(
                f"MONGODB_URI names the database {named}, which is not empty; name another, or none"
            )
        yield name
        if not named:
            client.drop_database(name)


def _run(out: Output, way: Way, options: argparse.Namespace) -> int:
    """Tell the story, then serve."""
    from testproject.demonstration import story

    call_command("migrate", verbosity=0)
    if not story.tell(out, way, directory=options.data, every_release=options.every_release):
        return 1
    return _serve(out, options.port) if options.serve else 0


def _serve(out: Output, port: int) -> int:
    """Serve the site until Ctrl-C."""
    from django.urls import reverse

    from testproject.demonstration import story

    _check_port(port)
    out.title("Look around")
    out.line(
        f"http://{HOST}:{port}/ shows the airports and their history; log in as {story.ADMIN}, password {story.ADMIN_PASSWORD}, to edit."
    )
    changes = f"http://{HOST}:{port}{reverse('admin:mongo_history_history_changelist')}"
    out.line(f"{changes} is the history in the admin: every change, the same login.")
    out.line(
        "Click a document for its versions, two of them to compare, a changeset (a whole release) to take it back."
    )
    out.line("Ctrl-C ends it and leaves nothing running.")
    os.environ.setdefault("DJANGO_RUNSERVER_HIDE_WARNING", "true")
    try:
        call_command("runserver", f"{HOST}:{port}", "--noreload", "--skip-checks", verbosity=0)
    except SystemExit as stopped:  # runserver's answer to Ctrl-C
        return int(stopped.code or 0)
    return 0


def _check_data(directory: Path | None) -> None:
    """Fail now where there is nothing to load."""
    try:
        releases(directory)
    except FileNotFoundError as error:
        raise ManagementError(str(error)) from error


def _check_port(port: int) -> None:
    """Fail now, in one line, and not when everything is loaded."""
    if not is_free(port):
        raise ManagementError(f"port {port} is in use; choose another with --port, or --no-serve")


if __name__ == "__main__":
    sys.exit(main())
