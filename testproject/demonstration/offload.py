"""
Where the demo's writes are made and stored: here, or (`--celery`) by a real worker, told by a real broker.

With a worker, each release is loaded by a task, and every version, those of the reverts too, is stored by another one.
The story waits until all of it has arrived before it reads on, as nobody has to but who wants to count.
"""

import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from management.celery_program import Worker
from management.errors import ManagementError
from management.valkey import Broker
from testproject.airports.loader import Counts, Release, load
from testproject.demonstration.output import Output

ARRIVAL_TIMEOUT_S = 600
STOP_TIMEOUT_S = 10
QUEUE, UNACKNOWLEDGED = "celery", "unacked"  # Celery's own names of them, in a broker of this kind

Progress = Callable[[int, int], None]


class Way(Protocol):
    """How the story's writes are made."""

    def load(self, release: Release, progress: Progress) -> Counts:
        """Bring the database to a release."""

    def settle(self) -> None:
        """Return when every version of what was written so far is stored."""

    def show(self, out: Output, stages: Sequence[Any]) -> bool:
        """What there is to say about it after the releases; whether its proof held."""


class Here:
    """In this process, the versions with their documents."""

    def load(self, release: Release, progress: Progress) -> Counts:
        return load(release, progress=progress)

    def settle(self) -> None:
        pass

    def show(self, out: Output, stages: Sequence[Any]) -> bool:
        return True


class ThroughWorker:
    """By tasks, in the processes of `worker`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def load(self, release: Release, progress: Progress) -> Counts:
        from testproject.airports.tasks import load_release

        return Counts(**load_release.delay(str(release.path)).get(timeout=ARRIVAL_TIMEOUT_S))

    def settle(self) -> None:
        deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
        while self._on_their_way():
            if not self._worker.is_running():
                raise ManagementError(f"the worker has ended: {self._worker.output[-500:]}")
            if time.monotonic() > deadline:
                raise ManagementError(f"versions are still on their way after {ARRIVAL_TIMEOUT_S} s")
            time.sleep(0.05)

    def show(self, out: Output, stages: Sequence[Any]) -> bool:
        from testproject.airports.tasks import load_release

        out.title("All of that by a worker")
        ran = self._ran()
        told = ", ".join(f"{count:,} × {name}" for name, count in sorted(ran.items()))
        out.line(f"Celery's worker, process {self._worker.pid}, ran {told}.")
        out.line(
            f"This process published {len(stages)} tasks, each in somebody's changeset; no task was told whose."
        )
        wrong = []
        rows = []
        for stage in stages:
            versions = stage.changes.versions()
            behind = Counter((version.user.label, version.reason, version.task.name) for version in versions)
            tasks = {version.task.id for version in versions}
            expected = (stage.user.get_username(), f"Release of {stage.release.name}", load_release.name)
            if behind != {expected: stage.counts.written} or len(tasks) != 1:
                wrong.append(f"{stage.release.name}: {dict(behind)} by {len(tasks)} tasks")
            rows.append((stage.release.name, len(versions), *expected[::2], *tasks))
        out.table(("release", "versions", "by", "in", "task"), rows)
        if ran["django_mongo_history.deliver"] == 0:
            wrong.append("no version went through the worker")
        if wrong:
            out.bad("Not so: every version says who asked for it, and which task wrote it.")
            out.indented("\n".join(wrong))
            return False
        out.good("Every version is there once, and says who asked for it and which task wrote it.")
        return True

    def _on_their_way(self) -> int:
        """Messages that are waiting, or that a worker has and has not acknowledged."""
        from testproject.celery import app

        with app.connection_for_read() as connection:
            client = connection.default_channel.client
            return int(client.llen(QUEUE)) + int(client.hlen(UNACKNOWLEDGED))

    def _ran(self) -> Counter[str]:
        """How many tasks of each name the worker has run."""
        from testproject.celery import app

        (stats,) = app.control.inspect(timeout=5, limit=1).stats().values()
        return Counter(stats["total"])


@contextlib.contextmanager
def worker_running() -> Iterator[ThroughWorker]:
    """
    A broker and a worker of the demo's own, on the places that the environment names by now.

    Sets the environment variables of both before Django reads its settings; all is ended with the block.
    """
    with Broker() as broker, tempfile.TemporaryDirectory(prefix="airports-demo-worker-") as directory:
        os.environ["CELERY_BROKER_URL"] = os.environ["CELERY_RESULT_BACKEND"] = broker.url
        os.environ["TESTPROJECT_DELIVERY"] = "celery"
        worker = Worker(
            ["worker", "--pool=prefork", "--concurrency=2", "--loglevel=INFO", "--without-gossip"],
            log=Path(directory) / "worker.log",
            environ=dict(os.environ),
        )
        try:
            worker.start()
            yield ThroughWorker(worker)
        finally:
            _end(worker)


def _end(worker: Worker) -> None:
    """Warm if it can be: it may hold a task that somebody has just published from the site."""
    with contextlib.suppress(Exception):
        if worker.is_running():
            worker.terminate(STOP_TIMEOUT_S)
    worker.kill()
