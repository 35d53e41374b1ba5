"""
The rows of the matrix: on which versions, against which server, which tests.

A row runs what its versions can change: everything but the tests of this repository's own machinery, which
`python -m management test` runs. What a row leaves out has its reason here, and the runner says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Server(Enum):
    """What a part's tests meet."""

    OWN = "started by the tests"  # a replica set, and a standalone server for the tests that ask for one
    STANDALONE = "standalone"  # lent to the tests in the place of the replica set
    NONE = "none"  # a test that asks for a server fails


@dataclass(frozen=True, slots=True)
class Part:
    """
    One run of pytest.

    `left_out`: what is not run though it lies in `paths` (files, or `file::test`), by the reason.
    """

    paths: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    server: Server = Server.OWN

    def pytest_arguments(self) -> tuple[str, ...]:
        """For pytest, in the folder that holds `tests/`."""
        left_out = [name for names in self.left_out.values() for name in names]
        options = [f"--{'deselect' if '::' in name else 'ignore'}={name}" for name in left_out]
        return (*self.paths, *options, *self.arguments)


@dataclass(frozen=True, slots=True)
class Row:
    """
    `pythons`: versions that will do, the best first. `requirements`: what pip gets besides the project.

    `is_lowest`: every dependency at the lower bound in `pyproject.toml`. `is_wheel`: the built wheel is installed, far
    from the sources, instead of the checkout.
    """

    name: str
    says: str
    pythons: tuple[str, ...]
    requirements: tuple[str, ...]
    parts: tuple[Part, ...]
    is_lowest: bool = False
    is_wheel: bool = False

    @property
    def server(self) -> str:
        """What the documents lie in, in one word or two."""
        if any(part.server is Server.STANDALONE for part in self.parts):
            return "standalone"
        return "mongomock" if all(part.server is Server.NONE for part in self.parts) else "replica set"


ANY_PYTHON = ("3.11", "3.12", "3.13")
DJANGO_5_2 = "Django~=5.2.0"
INTEGRATION = "tests/integration"

EVERYTHING = Part(
    paths=("tests/unit", "tests/contract", INTEGRATION),
    left_out={
        "tests of this repository's own commands and servers, which `management test` runs": (
            "tests/unit/management",
            f"{INTEGRATION}/test_celery_parts.py",
            f"{INTEGRATION}/test_demo.py",
            f"{INTEGRATION}/test_dividing.py",
            f"{INTEGRATION}/test_management.py",
            f"{INTEGRATION}/test_servers.py",
        ),
        "five whole releases through the test project's loader: many seconds, and no call that others do not make": (
            f"{INTEGRATION}/test_airports_loader.py::test_every_document_is_its_row_after_every_release",
        ),
    },
)

DJANGO_MONGOENGINE = Part(
    paths=("tests/matrix/suite_of_django_mongoengine.py",),
    arguments=("--ds=tests.matrix.django_mongoengine_settings",),
)

STANDALONE_ITSELF = Part(  # tests that start a standalone server beside the replica set, or instead of it
    paths=("tests/contract", INTEGRATION),
    left_out={"a test of this repository's own servers": (f"{INTEGRATION}/test_servers.py",)},
    arguments=("-k", "standalone or without_transactions"),
)
STANDALONE_LENT = Part(  # tests that know nothing of the server's kind
    paths=(
        f"{INTEGRATION}/test_after_image.py",
        f"{INTEGRATION}/test_airports_loader.py",
        f"{INTEGRATION}/test_airports_site.py",
        f"{INTEGRATION}/test_baseline.py",
        f"{INTEGRATION}/test_command_log.py",
        f"{INTEGRATION}/test_command_revert.py",
        f"{INTEGRATION}/test_commands_bad_input.py",
        f"{INTEGRATION}/test_reading.py",
    ),
    left_out={
        "needs transactions": (
            f"{INTEGRATION}/test_baseline.py::test_a_transaction_that_was_open_all_the_while_stands_after_the_baseline",
            f"{INTEGRATION}/test_baseline.py::test_the_command_refuses_a_bound_transaction",
            f"{INTEGRATION}/test_command_revert.py::test_a_cycle_beside_a_stranger_is_solved",
            f"{INTEGRATION}/test_command_revert.py::test_two_documents_that_swapped_what_is_unique_swap_back",
        ),
        "asserts that the delivery is atomic": (
            f"{INTEGRATION}/test_baseline.py::test_indexes_are_made_and_said",
        ),
    },
    server=Server.STANDALONE,
)

MONGOMOCK = Part(
    paths=(f"{INTEGRATION}/test_mongomock.py", f"{INTEGRATION}/test_checks.py", "tests/contract"),
    arguments=("-k", "mongomock"),
    server=Server.NONE,
)

FROM_THE_WHEEL = Part(
    paths=(
        "tests/matrix/suite_of_wheel.py",
        "tests/unit/core",
        f"{INTEGRATION}/test_airports_site.py",
        f"{INTEGRATION}/test_baseline.py",
        f"{INTEGRATION}/test_checks.py",
        f"{INTEGRATION}/test_command_log.py",
        f"{INTEGRATION}/test_command_revert.py",
        f"{INTEGRATION}/test_commands_bad_input.py",
        f"{INTEGRATION}/test_conf.py",
        f"{INTEGRATION}/test_middleware.py",
        f"{INTEGRATION}/test_mongomock.py",
    ),
)

ROWS = (
    Row(
        name="django-mongoengine",
        says="Django 4.2 with django-mongoengine 0.6.0b5: its documents, connections and users too",
        pythons=("3.11", "3.12"),
        requirements=("Django~=4.2.0", "django-mongoengine==0.6.0b5"),
        parts=(DJANGO_MONGOENGINE, EVERYTHING),
    ),
    Row(
        name="django-5.2",
        says="Django 5.2, as the demo and the suite use it",
        pythons=ANY_PYTHON,
        requirements=(DJANGO_5_2,),
        parts=(EVERYTHING,),
    ),
    Row(
        name="django-6.1",
        says="Django 6.1 on Python 3.13 or 3.12",
        pythons=("3.13", "3.12"),
        requirements=("Django~=6.1.0",),
        parts=(EVERYTHING,),
    ),
    Row(
        name="lowest",
        says="every dependency at its lower bound",
        pythons=("3.11",),
        requirements=(),
        parts=(EVERYTHING,),
        is_lowest=True,
    ),
    Row(
        name="newest",
        says="the newest MongoEngine and PyMongo that the bounds admit, on Python 3.12",
        pythons=("3.12",),
        requirements=(DJANGO_5_2,),
        parts=(EVERYTHING,),
    ),
    Row(
        name="standalone",
        says="a server without replication, where its tests do not ask for transactions",
        pythons=ANY_PYTHON,
        requirements=(DJANGO_5_2,),
        parts=(STANDALONE_ITSELF, STANDALONE_LENT),
    ),
    Row(
        name="mongomock",
        says="mongomock, with no server to be had",
        pythons=ANY_PYTHON,
        requirements=(DJANGO_5_2,),
        parts=(MONGOMOCK,),
    ),
    Row(
        name="wheel",
        says="the built wheel, without the sources: a project made from nothing, then tests from a copy",
        pythons=ANY_PYTHON,
        requirements=(DJANGO_5_2,),
        parts=(FROM_THE_WHEEL,),
        is_wheel=True,
    ),
)
