"""Who holds a lease: a process, and whether it is known to be gone."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from bson import ObjectId

_DEAD: Final = ("Z", "X")


def new_owner() -> dict[str, Any]:
    """This process, and one run of it."""
    return {
        "id": ObjectId(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def is_gone(owner: dict[str, Any]) -> bool:
    """Whether the process is certainly gone: it was one of this machine, and is there no more. Elsewhere time tells."""
    if (
        os.name != "posix" or owner.get("host") != socket.gethostname()
    ):  # elsewhere asking may be a signal itself
        return False
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return owner.get("started") != _started(pid)


def _started(pid: int) -> str:
    """
    When a process began, in the kernel's own count; empty where it does not tell, and of a dead one that nobody has asked
    for. A pid is used again, with another moment.
    """
    with suppress(OSError, IndexError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        facts = state.rpartition(")")[2].split()
        if facts[0] in _DEAD:
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {facts[19]}"
    return ""
