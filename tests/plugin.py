"""
What must hold before Django's settings are read; a pytest plugin, loaded by `addopts`.

A run of `tests/unit` alone has no Django settings, which proves that those tests need none: pytest-django would set
Django up for every run if the settings stood in `pyproject.toml`.

Every test is kept away from MongoDB servers that are not its own.
A MONGODB_URI in the developer's shell names somebody's data, so it is put out of sight here. A client of any address
but those of servers that this run started raises at once, whoever makes it. `TEST_MONGODB_URI` is the way to lend the
tests a server: a replica set on which they may create and drop databases of their own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pymongo
import pytest
from pymongo.uri_parser import parse_uri

from management.interruption import interrupt_on_sigterm
from management.listening import HOST
from management.mongod import OWN_ADDRESSES
from management.tether import end_with_parent

UNREACHABLE = f"{HOST}:1"
"""An address where nothing listens, for tests of what happens when there is no server. Clients of it are allowed."""
LENT_URI = os.environ.get("TEST_MONGODB_URI", "")

os.environ["MONGODB_URI"] = f"mongodb://{UNREACHABLE}/?serverSelectionTimeoutMS=500"
os.environ["CELERY_BROKER_URL"] = f"redis://{UNREACHABLE}/0"  # a developer's broker is out of sight, too
# Time limits of single examples say more about the machine than about the code.
hypothesis.settings.register_profile("repository", deadline=None)
hypothesis.settings.load_profile("repository")


class UnrelatedServerError(BaseException):
    """A test was about to talk to a server that this run has not started. No Exception: nobody may swallow it."""


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """
    Name Django's settings, whatever the developer's shell says; `--ds` still outweighs it.

    A wrapper, because those come before pytest-django's own hook.
    """
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    if not _is_unit_only(early_config):
        os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.settings"
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    interrupt_on_sigterm()
    if hasattr(config, "workerinput"):  # one of several processes
        end_with_parent(signal.SIGTERM)
    for client_class in (pymongo.MongoClient, pymongo.AsyncMongoClient):
        _guard(client_class)


def pytest_report_header(config: pytest.Config) -> str:
    return f"mongodb: {'the server lent in TEST_MONGODB_URI' if LENT_URI else 'started by the tests that need it'}"


def asked_paths(config: pytest.Config) -> set[Path]:
    """The files and folders of the command line; none where it names none."""
    names = {name.partition("::")[0] for name in config.known_args_namespace.file_or_dir}
    return {(config.invocation_params.dir / name).resolve() for name in names}


def _is_unit_only(config: pytest.Config) -> bool:
    unit = Path(__file__).parent / "unit"
    asked = asked_paths(config)
    return bool(asked) and all(path.is_relative_to(unit) for path in asked)


def _guard(client_class: Any) -> None:
    original = client_class.__init__

    def guarded(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**kwargs, "connect": False})
        strangers = _seeds(self) - OWN_ADDRESSES - _lent_addresses() - {UNREACHABLE}
        if strangers:
            raise UnrelatedServerError(
                f"no server of this test run: {sorted(strangers)}; use the fixtures `mongodb`, `replica_set` or `standalone`"
            )

    client_class.__init__ = guarded


def _seeds(client: Any) -> set[str]:
    return {f"{host}:{port}" for host, port in client._topology_settings.seeds}


def _lent_addresses() -> set[str]:
    return {f"{host}:{port}" for host, port in parse_uri(LENT_URI)["nodelist"]} if LENT_URI else set()
