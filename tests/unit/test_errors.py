"""Every exception of the package."""

from __future__ import annotations

import copy
import pickle

import pytest

from django_mongo_history import errors
from django_mongo_history.errors import HistoryError

ALL = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, HistoryError)]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_facts_are_attributes(error: type[HistoryError]) -> None:
    """Each takes facts as keyword arguments and keeps them."""
    raised = error("what happened", version=7, key="k")
    assert (raised.version, raised.key, raised.facts) == (7, "k", {"version": 7, "key": "k"})


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_the_message_is_the_text(error: type[HistoryError]) -> None:
    """As it was given: a KeyError would print its repr."""
    assert str(error("it's gone", version=7)) == "it's gone"


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
@pytest.mark.parametrize("travel", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_cross_process_borders(error: type[HistoryError], travel: object) -> None:
    """Celery's results and parallel test runs pickle them: class, text and facts arrive."""
    arrived = travel(error("text", version=7))  # type: ignore[operator]
    assert (type(arrived), str(arrived), arrived.version) == (error, "text", 7)


def test_a_fact_that_was_not_given_is_an_attribute_error() -> None:
    """`hasattr` tells which facts there are."""
    assert not hasattr(HistoryError("text"), "version")


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.VersionNotFoundError, LookupError),
        (errors.HiddenFieldError, AttributeError),
        (errors.HiddenFieldError, KeyError),
        (errors.UntrackedFieldError, AttributeError),
        (errors.UntrackedFieldError, KeyError),
    ],
)
def test_errors_are_what_python_expects_too(error: type[Exception], base: type[Exception]) -> None:
    """`getattr` with a default, `.get()` and `except LookupError` work on them."""
    assert issubclass(error, base)
