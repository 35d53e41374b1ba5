"""
The document and its version in one transaction: both are there, or neither.

The loop is the driver's `with_transaction` with what transparency needs besides: the caller's own exceptions, no
endless retry of a write concern that cannot be met, and an end by deadline.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from bson.errors import InvalidDocument
from pymongo.errors import (
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)
from pymongo.read_preferences import ReadPreference

from django_mongo_history.core.model import VersionRecord
from django_mongo_history.delivery.base import Job, Outcome, cluster_time
from django_mongo_history.driver import topology
from django_mongo_history.errors import StoreError
from django_mongo_history.storage.refusals import said_by

_TRANSIENT: Final = "TransientTransactionError"
_UNKNOWN_COMMIT: Final = "UnknownTransactionCommitResult"
_NO_TRANSACTIONS: Final = (20, 263)
"""IllegalOperation (a standalone server), OperationNotSupportedInTransaction (capped collections, time series)."""
_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.5

Finish = Callable[[Outcome, Any], list[VersionRecord]]


class TransactionRefusedError(Exception):
    """The server does no transactions on this collection (capped, time series); nothing was written."""


def deliver(job: Job, *, timeout_s: float) -> tuple[Any, list[VersionRecord]]:
    """
    Do the write and store its versions in one transaction; the caller's, where there is one.

    Units: `timeout_s` bounds the retries of transient conflicts, the first attempt is always made.
    Raises: what the caller's own call would raise; TransactionRefusedError; StoreError.
    """

    def finish(outcome: Outcome, session: Any) -> list[VersionRecord]:
        records = job.record(outcome.writes, cluster_time(session))
        job.destination.append(records, session=session)
        return records

    if job.session is not None and job.session.in_transaction:
        job.begin()
        outcome = job.work.attempt(job.session, transactional=True)
        records = finish(outcome, job.session)
        job.destination.settle(records, is_committed=False)
        return outcome.result, records
    result, records = in_transaction(job, finish, timeout_s=timeout_s)
    job.destination.settle(records, is_committed=True)
    return result, records


def in_transaction(job: Job, finish: Finish, *, timeout_s: float) -> tuple[Any, list[VersionRecord]]:
    """One attempt and `finish` in a transaction of our own, repeated while the server calls failures transient."""
    deadline = min(time.monotonic() + timeout_s, topology.deadline())
    with _session(job) as session:
        for pause_s in _pauses():
            try:
                return _once(job, finish, session, deadline)
            except (PyMongoError, _AgainError) as error:
                if not _is_worth_repeating(error) or time.monotonic() + pause_s > deadline:
                    if isinstance(error, _AgainError) and error.__cause__ is not None:
                        raise error.__cause__ from None
                    raise
            time.sleep(pause_s)
    raise AssertionError("the pauses have no end")


class _AgainError(Exception):
    """Our form of the call failed, the caller's own did not: the next attempt will tell."""


def _is_worth_repeating(error: BaseException) -> bool:
    if isinstance(error, _AgainError):
        return True
    # Where no server was found the driver has waited already, as long as it does for a plain write.
    return (
        isinstance(error, PyMongoError)
        and error.has_error_label(_TRANSIENT)
        and not isinstance(error, ServerSelectionTimeoutError)
    )


@contextmanager
def _session(job: Job) -> Iterator[Any]:
    if job.session is not None:
        yield job.session
        return
    with job.collection.database.client.start_session(causal_consistency=False) as session:
        yield session


def _once(job: Job, finish: Finish, session: Any, deadline: float) -> tuple[Any, list[VersionRecord]]:
    _start(job, session)
    try:
        outcome = _attempt(job, session)
        records = _finish(finish, outcome, session)
    except BaseException:
        _abort(session)
        raise
    if outcome.is_without_effect and not records and not topology.may_fail_late(job.collection.write_concern):
        _abort(session)  # nothing to wait for
    else:
        _commit(session, deadline)
    return outcome.result, records


def _attempt(job: Job, session: Any) -> Outcome:
    job.begin()
    try:
        return job.work.attempt(session, transactional=True)
    except OperationFailure as error:
        if error.code in _NO_TRANSACTIONS:
            raise TransactionRefusedError(str(error)) from error
        if error.has_error_label(_TRANSIENT) or job.work.is_callers_call:
            raise
        failed = error
    # Outside of `except`: nobody shall see our form's error as the context of his own.
    _abort(session)
    raise_original(job, session)
    raise _AgainError from failed


def _finish(finish: Finish, outcome: Outcome, session: Any) -> list[VersionRecord]:
    try:
        return finish(outcome, session)
    except (OperationFailure, InvalidDocument) as error:  # the latter is what is too large
        if isinstance(error, OperationFailure) and error.has_error_label(_TRANSIENT):
            raise
        raise StoreError(
            f"The versions of this write could not be stored, so it was not done: {said_by(error)}. Look at the rights "
            "on and the state of the history collection.",
        ) from error


def _start(job: Job, session: Any) -> None:
    concern = job.collection.write_concern
    session.start_transaction(
        write_concern=concern if concern.acknowledged else None, read_preference=ReadPreference.PRIMARY
    )


def _abort(session: Any) -> None:
    if session.in_transaction:
        session.abort_transaction()


def raise_original(job: Job, session: Any) -> None:
    """Raise what the caller's own call raises, from a transaction that leaves no trace."""
    _start(job, session)
    try:
        job.work.original(session)
    finally:
        _abort(session)


def _commit(session: Any, deadline: float) -> None:
    """Commit; repeated alone while its result is unknown. What stays unknown is raised: both are there, or neither."""
    for pause_s in _pauses():
        try:
            session.commit_transaction()
            return
        except (OperationFailure, ConnectionFailure) as error:
            # A write concern that is not met in time is the caller's own limit: a plain write raises it at once.
            if isinstance(error, WTimeoutError) or not error.has_error_label(_UNKNOWN_COMMIT):
                raise
            if time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s)


def _pauses() -> Iterator[float]:
    limit_s = _FIRST_PAUSE_S
    while True:
        yield random.uniform(limit_s / 2, limit_s)  # noqa: S311 - spreads retries, protects nothing
        limit_s = min(limit_s * 1.5, _LONGEST_PAUSE_S)
