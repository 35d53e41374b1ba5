"""
Temporary directories that are removed at the end, or, when their process was killed outright, by the next one to start.

A locked file in each says that its owner lives: the lock goes with the process, and unlike a stored process id it is
right across containers that share a temporary directory.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

PREFIX = "django-mongo-history-"
SETTLING_S = 60  # a directory younger than this may not be locked yet


@dataclass(frozen=True, slots=True)
class ScratchDirectory:
    """A directory that is ours until `remove`."""

    path: Path
    lock: TextIO

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.lock.close()


def make_directory(parent: Path | None = None) -> ScratchDirectory:
    """A fresh directory; on the way, directories of processes that were killed are removed."""
    parent = parent or Path(tempfile.gettempdir())
    for left_behind in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            _remove_if_orphaned(left_behind)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lock = (path / "lock").open("w")
    _lock(lock)
    return ScratchDirectory(path, lock)


def _remove_if_orphaned(path: Path) -> None:
    if time.time() - path.stat().st_mtime < SETTLING_S:
        return
    with (path / "lock").open("a") as lock:
        if _lock(lock):
            shutil.rmtree(path, ignore_errors=True)


def _lock(file: TextIO) -> bool:
    """Whether nobody else has it. Where locks of this kind do not exist (Windows), nothing counts as orphaned."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
