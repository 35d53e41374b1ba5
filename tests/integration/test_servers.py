"""Real servers: they start on ports of their own, survive crashes, and leave nothing running, whatever ends them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymongo.errors import OperationFailure

from management import cli, servers
from management.mongod import Node, ServerError, find_mongod
from management.scratch import PREFIX
from management.servers import ReplicaSet, Standalone, running_server
from tests.plugin import UNREACHABLE

# Ctrl-C reaches it also where this run's own parent has it ignored, as shells do for what runs in the background.
OWNER = """
import os
import signal
import time
from management.servers import ReplicaSet
signal.signal(signal.SIGINT, signal.default_int_handler)
with ReplicaSet() as servers:
    print(servers.nodes[0].pid, flush=True)
    {ending}
"""


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def soon(condition: Callable[[], bool], *, timeout_s: float = 10) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def owner(temporary: Path, *, ending: str = "time.sleep(60)") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that runs a replica set below `temporary` and then does `ending`; the pid of its mongod."""
    command = [sys.executable, "-c", OWNER.format(ending=ending)]
    environ = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        command, cwd=cli.ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, int(line_of(process))
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_owner_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and `kill` end the server and remove its files."""
    with owner(tmp_path) as (process, pid):
        process.send_signal(number)
        assert process.wait(timeout=20) != 0
        assert not is_alive(pid)
        assert list(tmp_path.glob(f"{PREFIX}*")) == []


@pytest.mark.parametrize("ending", ["raise ValueError", "raise SystemExit(1)"])
def test_a_failing_owner_leaves_nothing(ending: str, tmp_path: Path) -> None:
    """An exception ends the server and removes its files."""
    with owner(tmp_path, ending=ending) as (process, pid):
        assert process.wait(timeout=20) == 1
        assert not is_alive(pid)
        assert list(tmp_path.glob(f"{PREFIX}*")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_a_killed_owner_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGKILL gives the owner no time for anything: the kernel ends the server."""
    with owner(tmp_path) as (process, pid):
        process.kill()
        assert soon(lambda: not is_alive(pid))


def test_a_forked_child_does_not_stop_the_server(tmp_path: Path) -> None:
    """Only the process that started a server stops it, although the child runs the same clean-up."""
    ending = "exit() if os.fork() == 0 else (os.wait(), print('waited', flush=True), time.sleep(60))"
    with owner(tmp_path, ending=ending) as (process, pid):
        assert line_of(process) == "waited"
        assert is_alive(pid)


def test_acknowledged_writes_survive_a_crash() -> None:
    """kill and restart are a crash and a recovery: same port, same data."""
    with ReplicaSet() as cluster, cluster.client() as client:
        client.things.all.insert_one({"_id": 1})
        port = cluster.kill().port
        assert not cluster.nodes[0].is_running()
        cluster.restart()
        assert cluster.nodes[0].port == port
        assert client.things.all.find_one() == {"_id": 1}


def test_a_replica_set_has_transactions(replica_set: ReplicaSet) -> None:
    """One node is enough for everything that a standalone server refuses."""
    with replica_set.client() as client, client.start_session() as session:
        with session.start_transaction():
            client.test_transactions.all.insert_one({"_id": 1}, session=session)
            session.abort_transaction()
        assert client.test_transactions.all.count_documents({}) == 0
        client.drop_database("test_transactions")


def test_a_standalone_server_has_none(standalone: Standalone) -> None:
    """The fixture is what its name says."""
    with standalone.client() as client, client.start_session() as session:
        session.start_transaction()
        with pytest.raises(OperationFailure, match="replica set"):
            client.test.all.insert_one({}, session=session)


def test_three_nodes_elect_a_new_primary() -> None:
    """After a step-down and after a crash of the primary writes go on, and the crashed node comes back."""
    with ReplicaSet(nodes=3) as cluster, cluster.client() as client:
        first = cluster.primary
        cluster.step_down()
        assert cluster.primary is not first
        killed = cluster.kill()
        client.things.all.insert_one({"_id": 1})
        assert cluster.primary is not killed
        cluster.restart()
        assert all(node.is_running() for node in cluster.nodes)


def test_a_taken_port_is_left_to_its_owner(tmp_path: Path) -> None:
    """A server that lost the race for its port moves on, and the stranger there is not taken for it."""
    node = Node(find_mongod(), directory=tmp_path)
    with Standalone() as stranger:
        node.port = stranger.nodes[0].port
        try:
            node.launch()
            node.wait()
            assert node.port != stranger.nodes[0].port
            with node.client() as client:
                assert client.admin.command("serverStatus")["pid"] == node.pid
        finally:
            node.kill()
            node.forget_port()


def test_a_mongod_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with its exit code and last words, and nothing left behind."""
    broken = tmp_path / "mongod"
    broken.write_text("#!/bin/sh\necho libcrypto is missing\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("MONGOD", str(broken))
    with pytest.raises(ServerError, match="ended at once with code 127: libcrypto is missing") as caught:
        Standalone().start()
    assert "\n" not in str(caught.value)


def test_a_named_server_is_used_as_it_is(replica_set: ReplicaSet) -> None:
    """MONGODB_URI outweighs starting a server, and is not stopped."""
    with running_server({"MONGODB_URI": replica_set.uri}) as uri:
        assert uri == replica_set.uri
    assert replica_set.nodes[0].is_running()


def test_a_named_server_that_does_not_answer_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line, and the URI is not in it."""
    monkeypatch.setattr(servers, "ANSWER_TIMEOUT_S", 0.1)
    environ = {"MONGODB_URI": f"mongodb://user:secret@{UNREACHABLE}/"}
    with pytest.raises(ServerError, match="MONGODB_URI is set, but no server answers") as caught:
        running_server(environ).__enter__()
    assert "secret" not in str(caught.value)
