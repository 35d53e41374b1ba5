"""
A real broker, and real Celery workers and beats as processes, for the tests that ask for them.

Every test has a database of the broker to itself. Workers are `celery -A testproject worker` with the settings of
`tests.worker_settings`; they work on the database that `MONGODB_URI` names, that of the fixture `mongodb`. Each is the
leader of a session of its own and is ended, its children with it, when its test ends.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from management.celery_program import READY_TIMEOUT_S, Worker
from management.celery_program import CeleryProgram as Program
from management.valkey import DATABASES, Broker, BrokerError
from tests.plugin import UNREACHABLE

if TYPE_CHECKING:
    from celery import Celery

_numbers = itertools.count(1)


MakeWorker = Callable[..., Worker]


def eventually(condition: Callable[[], Any], *, what: str, timeout_s: float = READY_TIMEOUT_S) -> Any:
    """Wait for a fact: what `condition` gives as soon as it is true. AssertionError where it does not come."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """The run's broker. Tests that kill, pause or stop one start a `management.valkey.Broker` of their own."""
    with _started(Broker()) as server:
        yield server


@pytest.fixture
def broker_url(broker: Broker) -> str:
    """A database of the run's broker that no other test has, empty. Programs and `celery_app` use this one."""
    return broker.database_url(next(_numbers) % DATABASES)


@pytest.fixture
def celery_app(broker_url: str) -> Iterator[Celery]:
    """The test project's app, which publishes from this process to `broker_url`; child processes find it, too."""
    import tests.celery_tasks  # noqa: F401 - the app knows them then, as the workers do
    from testproject.celery import app

    with connected_app(app, broker_url):
        yield app


@contextlib.contextmanager
def connected_app(app: Celery, url: str) -> Iterator[None]:
    """
    The app with `url` as its broker, in programs that are started meanwhile, too; no connection comes in or is left.

    By the environment variable, which outweighs the settings in Celery, too.
    """
    from django_mongo_history import depots

    _disconnect(app)
    before = os.environ["CELERY_BROKER_URL"]
    os.environ["CELERY_BROKER_URL"] = url
    try:
        yield
    finally:
        os.environ["CELERY_BROKER_URL"] = before
        _disconnect(app)
        depots.copies.forget()  # their databases will be dropped


@pytest.fixture
def worker(celery_app: Celery, tmp_path: Path) -> Iterator[MakeWorker]:
    """
    Starts workers: `worker()`, `worker(pool="prefork", concurrency=4, queues=["history"], settings={...})`.

    Each has said that it is ready when the call returns. `settings` are Django's, JSON-safe, over the test project's;
    `environ` are further environment variables, `arguments` of Celery's command line. `database` names another one on
    the same MongoDB server.
    """
    made: list[Worker] = []

    def start(
        *,
        pool: str = "solo",
        concurrency: int = 1,
        queues: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        database: str = "",
    ) -> Worker:
        number = len(made) + 1
        chosen = ["--queues", ",".join(queues)] if queues else []
        one = Worker(
            [
                "worker",
                f"--pool={pool}",
                f"--concurrency={concurrency}",
                f"--hostname=worker{number}@%h",
                "--loglevel=INFO",
                "--without-gossip",
                "--without-mingle",
                *chosen,
                *arguments,
            ],
            log=tmp_path / f"worker{number}.log",
            environ=program_environ(settings=settings, environ=environ, database=database),
        )
        made.append(one)
        one.start()
        return one

    yield start
    for one in made:
        one.kill()


@pytest.fixture
def beat(celery_app: Celery, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts `celery -A testproject beat` with these Django settings over the test project's."""
    made: list[Program] = []

    def start(
        *, settings: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
    ) -> Program:
        number = len(made) + 1
        one = Program(
            ["beat", "--schedule", str(tmp_path / f"beat{number}.db"), "--pidfile=", "--loglevel=INFO"],
            log=tmp_path / f"beat{number}.log",
            environ=program_environ(settings=settings, environ=environ),
        )
        made.append(one)
        one.start(until="beat: Starting...")
        return one

    yield start
    for one in made:
        one.kill()


def program_environ(
    *,
    settings: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    database: str = "",
) -> dict[str, str]:
    """The environment of a Celery program: that of this process, with the settings of `tests.worker_settings`."""
    from tests.conftest import _with_database

    uri = (environ or {}).get("MONGODB_URI") or os.environ["MONGODB_URI"]
    assert UNREACHABLE not in uri, (
        "no server for the program: ask for the fixture `mongodb` before it is started"
    )
    given = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.worker_settings",
        "WORKER_SETTINGS": json.dumps(dict(settings or {})),
        "PYTHONUNBUFFERED": "1",
    }
    if database:
        given["MONGODB_URI"] = _with_database(os.environ["MONGODB_URI"], database)
    return {**given, **(environ or {})}


@contextlib.contextmanager
def _started(server: Broker) -> Iterator[Broker]:
    reason = ""
    try:
        server.start()
    except BrokerError as error:
        reason = str(error)
    if reason:
        pytest.fail(f"this test needs a message broker, and none can be started: {reason}", pytrace=False)
    try:
        yield server
    finally:
        server.stop()


def _disconnect(app: Celery) -> None:
    """Close what the app has open, and have it look anew where its broker is."""
    import kombu.pools

    kombu.pools.reset()
    app._after_fork()
    app.control.mailbox.__dict__.pop("producer_pool", None)


@pytest.fixture
def eager_tasks() -> Iterator[None]:
    """Tasks of this process run where they are published, as CELERY_TASK_ALWAYS_EAGER has it."""
    from testproject.celery import app

    app.set_current()
    app.conf.task_always_eager = True
    try:
        yield
    finally:
        app.conf.task_always_eager = False
