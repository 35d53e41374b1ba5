"""Real parts: a broker and workers that start, are killed, come back, and leave nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pymongo.database import Database

from management import cli
from management.scratch import PREFIX
from management.valkey import Broker, BrokerError, find_valkey
from testproject.airports.tasks import rename_country
from tests.celery_parts import MakeWorker, Program, eventually
from tests.integration.test_servers import is_alive, line_of, soon

# Ctrl-C reaches it also where this run's own parent has it ignored, as shells do for what runs in the background.
OWNER = """
import signal
import time
from management.valkey import Broker
signal.signal(signal.SIGINT, signal.default_int_handler)
with Broker() as broker:
    print(broker.pid, flush=True)
    {ending}
"""


def owner(temporary: Path, *, ending: str = "time.sleep(60)") -> subprocess.Popen[str]:
    """A process that runs a broker below `temporary`, says its pid, and then does `ending`."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER.format(ending=ending)],
        cwd=cli.ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_owner_leaves_no_broker(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and `kill` end the broker and remove its files."""
    with owner(tmp_path) as process:
        pid = int(line_of(process))
        process.send_signal(number)
        assert process.wait(timeout=20) != 0
        assert not is_alive(pid)
        assert list(tmp_path.glob(f"{PREFIX}*")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_a_killed_owner_leaves_no_broker(tmp_path: Path) -> None:
    """SIGKILL gives the owner no time for anything: the kernel ends the broker."""
    with owner(tmp_path) as process:
        pid = int(line_of(process))
        process.kill()
        assert soon(lambda: not is_alive(pid))


@pytest.mark.parametrize(("is_persistent", "kept"), [(True, b"1"), (False, None)])
def test_a_killed_broker_comes_back_on_its_port(is_persistent: bool, kept: bytes | None) -> None:
    """With what it has acknowledged where it was told to keep it, else empty."""
    import redis

    with Broker(is_persistent=is_persistent) as broker:
        url, pid = broker.url, broker.pid
        with redis.Redis.from_url(url) as client:
            client.set("said", "1")
        broker.kill()
        assert not broker.is_running()
        broker.restart()
        assert (broker.url, broker.pid != pid) == (url, True)
        with redis.Redis.from_url(url) as client:
            assert client.get("said") == kept


def test_a_broker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with its last words."""
    broken = tmp_path / "valkey"
    broken.write_text("#!/bin/sh\necho libssl is missing\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("VALKEY", str(broken))
    with pytest.raises(BrokerError, match="ended at once, 5 times: libssl is missing"):
        Broker().start()


def test_a_binary_that_is_none_is_named() -> None:
    """A wrong VALKEY is no reason to take another one in silence."""
    with pytest.raises(BrokerError, match="VALKEY=/nowhere is no program"):
        find_valkey({"VALKEY": "/nowhere"})


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_a_worker_works_on_the_database_of_the_test(
    pool: str, worker: MakeWorker, mongodb: Database[dict[str, Any]]
) -> None:
    """The site's own app, its tasks found by Celery itself."""
    worker(pool=pool)
    rename_country.delay("IS", "Iceland")
    found = eventually(mongodb.countries.find_one, what="the country")
    assert found["name"] == "Iceland"


def test_a_worker_may_have_another_database(worker: MakeWorker, mongodb: Database[dict[str, Any]]) -> None:
    """The one that the test names, on the same server."""
    other = f"{mongodb.name}_other"
    worker(database=other)
    rename_country.delay("IS", "Iceland")
    eventually(mongodb.client[other].countries.find_one, what="the country")
    assert mongodb.countries.find_one() is None
    mongodb.client.drop_database(other)


def test_a_task_waits_for_a_worker_that_was_killed(
    worker: MakeWorker, mongodb: Database[dict[str, Any]]
) -> None:
    """The queue outlives its workers, and a killed one starts again."""
    one = worker()
    one.kill()
    rename_country.delay("IS", "Iceland")
    assert mongodb.countries.find_one() is None
    one.start()
    eventually(mongodb.countries.find_one, what="the country")


def test_a_worker_ends_when_told(worker: MakeWorker, mongodb: Database[dict[str, Any]]) -> None:
    """SIGTERM is a warm shutdown, with exit code 0."""
    assert worker(pool="prefork", concurrency=2).terminate() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc")
def test_children_do_not_outlive_their_worker(worker: MakeWorker, mongodb: Database[dict[str, Any]]) -> None:
    """Killed alone, a prefork worker leaves no process behind."""
    one = worker(pool="prefork", concurrency=2)
    children = one.children()
    assert len(children) == 2
    one.kill_alone()
    assert soon(lambda: not any(is_alive(pid) for pid in children), timeout_s=30)


def test_two_tests_share_no_queue(
    celery_app: Celery, broker: Broker, broker_url: str, mongodb: Database[dict[str, Any]]
) -> None:
    """What is published here is in this test's database of the broker, and in no other."""
    import redis

    rename_country.delay("IS", "Iceland")
    with redis.Redis.from_url(broker_url) as own, redis.Redis.from_url(broker.url) as other:
        assert own.llen("celery") == 1
        assert other.dbsize() == 0


def test_beat_runs(
    beat: Callable[..., Program], worker: MakeWorker, mongodb: Database[dict[str, Any]]
) -> None:
    """A real beat, with a schedule of the test's own."""
    worker()
    entry = {"task": "testproject.airports.tasks.rename_country", "schedule": 0.2, "args": ["IS", "Iceland"]}
    beat(settings={"CELERY_BEAT_SCHEDULE": {"often": entry}})
    eventually(mongodb.countries.find_one, what="the country")
