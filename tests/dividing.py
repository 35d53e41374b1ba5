"""
How `-n auto` divides the tests; a pytest plugin, loaded by `addopts`.

Each process has servers of its own. All tests of a module are one process's, as its fixtures want it; so are all of
`tests/fault` together, so that two that kill and delay things are never under way at once.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.plugin import LENT_URI, asked_paths

TESTS = Path(__file__).parent
FAULT = "tests/fault/"
MOST_PROCESSES = 4
"""Of `-n auto`: each takes half a gigabyte, its servers as much again."""
LONGEST_FIRST = (
    FAULT,
    "tests/integration/test_write_paths_limits.py",
    "tests/integration/test_delivery_order.py",
    "tests/integration/test_delivery_celery.py",
    "tests/integration/test_every_kind.py",
    "tests/integration/test_delivery_poison.py",
    "tests/integration/test_delivery_commands.py",
    "tests/integration/test_airports_loader.py",
    "tests/integration/test_demo.py",
    "tests/property/",
)
"""What takes a minute or so comes first, in this order: a run should not end with one process at work alone."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """
    What tests say past the capture is heard on standard error: standard output leads nowhere in one of several processes.

    First of all, because the capture keeps what standard output was before it.
    """
    if "PYTEST_XDIST_WORKER" in os.environ and os.path.samestat(os.fstat(1), Path(os.devnull).stat()):
        os.dup2(2, 1)
    return (yield)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """
    How many processes `-n auto` means: one for each core, `MOST_PROCESSES` at the most.

    0, this process alone, where there is nothing to divide: one core, one module, or a server that is lent, because fail
    points and settings are a server's as a whole.
    """
    asked = asked_paths(config)
    is_one_module = len(asked) == 1 and all(path.is_file() for path in asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if LENT_URI or is_one_module or cores == 1 else min(cores, MOST_PROCESSES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """None, for any way to divide that was asked for but `--dist loadfile`."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByModule(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return FAULT if nodeid.startswith(FAULT) else str(super()._split_scope(nodeid))

    # Else it would go by the numbers of tests, which say nothing of how long they take.
    config.option.loadscopereorder = False
    return ByModule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In one of several processes: what takes long comes first, all else stays in its random order."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    found = (place for place, name in enumerate(LONGEST_FIRST) if nodeid.startswith(name))
    return next(found, len(LONGEST_FIRST))
