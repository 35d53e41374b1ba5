"""Temporary directories end with their owners."""

import os
import time
from pathlib import Path

from management.scratch import SETTLING_S, make_directory


def age(path: Path, *, seconds: float) -> None:
    """Make the directory look as if it had last changed so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_removal_leaves_nothing(tmp_path: Path) -> None:
    """An owner that ends in order removes its directory."""
    directory = make_directory(tmp_path)
    (directory.path / "file").touch()
    directory.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_directory_of_a_dead_owner_is_removed(tmp_path: Path) -> None:
    """Its lock went with it, so the next one to start cleans up."""
    dead = make_directory(tmp_path)
    dead.lock.close()
    age(dead.path, seconds=2 * SETTLING_S)
    living = make_directory(tmp_path)
    assert list(tmp_path.iterdir()) == [living.path]
    living.remove()


def test_the_directory_of_a_living_owner_stays(tmp_path: Path) -> None:
    """However old it is: its lock is held."""
    old = make_directory(tmp_path)
    age(old.path, seconds=2 * SETTLING_S)
    other = make_directory(tmp_path)
    assert old.path.is_dir()
    old.remove()
    other.remove()


def test_a_directory_without_a_lock_gets_time_to_be_locked(tmp_path: Path) -> None:
    """Between making and locking it another process may look."""
    fresh = tmp_path / "django-mongo-history-fresh"
    fresh.mkdir()
    make_directory(tmp_path).remove()
    assert fresh.is_dir()
