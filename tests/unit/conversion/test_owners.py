"""Whether who holds a lease is gone: certain of processes of this machine, a matter of time elsewhere."""

import os
import subprocess
import sys

from django_mongo_history.conversion.owners import is_gone, new_owner


def test_this_process_is_there() -> None:
    """And each run of it has a name of its own."""
    assert not is_gone(new_owner())
    assert new_owner()["id"] != new_owner()["id"]


def test_an_ended_process_is_gone() -> None:
    """Before its parent has asked for it and after; and where its number was given to another one."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    owner = {**new_owner(), "pid": process.pid}
    assert is_gone(owner), "another process of that number"
    process.communicate()
    assert is_gone(owner)
    with subprocess.Popen([sys.executable, "-c", ""]) as unasked:
        os.waitid(os.P_PID, unasked.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone({**new_owner(), "pid": unasked.pid}), "ended, and nobody has asked for it"


def test_of_another_machine_nothing_is_known() -> None:
    """Nor of an owner that says nothing."""
    assert not is_gone({**new_owner(), "host": "elsewhere", "pid": 1})
    assert not is_gone({"host": new_owner()["host"]})
