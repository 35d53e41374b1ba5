"""
The write first, then its version: for servers and collections without transactions, where a class asks for it, and for
what goes to a broker.

Between the two a crash loses the version; readers then show the change as `external`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pymongo.errors import OperationFailure, PyMongoError, WriteConcernError

from django_mongo_history.core.model import VersionRecord, hinted
from django_mongo_history.delivery import atomic
from django_mongo_history.delivery.base import Job, Outcome, cluster_time
from django_mongo_history.errors import DeliveryError, StoreError
from django_mongo_history.storage.refusals import said_by

logger: Final = logging.getLogger("django_mongo_history")


def deliver(
    job: Job, *, has_transactions: bool, raises: bool, timeout_s: float
) -> tuple[Any, list[VersionRecord]]:
    """
    Do the write, then store its versions.

    Where the images are certain only inside a transaction and the server has them, the write takes a short one of its
    own. `raises` False: a version that cannot be stored is logged with its id instead of raised.
    Raises: what the caller's own call would raise; DeliveryError, which says that the document was written.
    """
    if has_transactions and job.work.needs_transaction:
        made: list[VersionRecord] = []

        def finish(outcome: Outcome, session: Any) -> list[VersionRecord]:
            made[:] = job.record(outcome.writes, cluster_time(session))
            return made

        try:
            result, records = atomic.in_transaction(job, finish, timeout_s=timeout_s)
        except WriteConcernError:  # committed, though not on as many members as the caller asked for
            _append(job, made, raises=raises)
            raise
    else:
        with _session(job, has_sessions=has_transactions) as session:
            outcome = _attempted(job, session, has_transactions=has_transactions)
            result, records = outcome.result, job.record(outcome.writes, hinted(cluster_time(session)))
    _append(job, records, raises=raises)
    return result, records


def _attempted(job: Job, session: Any, *, has_transactions: bool) -> Outcome:
    """
    The attempt. Our form of a call fails in other words than the caller's own, so that one is asked for the error.
    """
    job.begin()
    try:
        return job.work.attempt(session, transactional=False)
    except WriteConcernError:
        raise  # it was done, though not on as many members as the caller asked for
    except OperationFailure:
        if has_transactions:
            atomic.raise_original(job, session)
            return job.work.attempt(session, transactional=False)
        result = job.work.original(session)
    if isinstance(result, Outcome):
        return result
    logger.warning(
        "%s: a write that failed at first was done by the caller's own call; readers will show it as external.",
        job.collection.full_name,
    )
    return Outcome(result)


@contextmanager
def _session(job: Job, *, has_sessions: bool) -> Iterator[Any]:
    """A session for the sake of its cluster time, which orders the version among those of other writers."""
    if job.session is not None or not has_sessions:
        yield job.session
        return
    with job.collection.database.client.start_session(causal_consistency=False) as session:
        yield session


def _append(job: Job, records: list[VersionRecord], *, raises: bool) -> None:
    try:
        job.destination.append(records)
    except (StoreError, PyMongoError) as error:  # the driver's own where a store was to be made ready
        kept_in = job.destination.keep(records)
        message = _not_stored(job, records, kept_in)
        if raises:
            raise DeliveryError(message, written=True, records=records, kept_in=kept_in) from error
        # Without a traceback, whose causes may say what documents hold.
        said = str(error) if isinstance(error, StoreError) else said_by(error)
        logger.error("%s (%s)", message, said)  # noqa: TRY400
    job.destination.settle(records, is_committed=True)


def _not_stored(job: Job, records: list[VersionRecord], kept_in: str | None) -> str:
    written = ", ".join(f"{record.document_id!r} (version {record.id})" for record in records)
    if kept_in is None:
        what = "The change will show as external. Mend the history collection."
    else:
        what = f"They are kept in {kept_in}: mend what the cause of this error names, then run `manage.py history_flush`."
    return (
        f"The write to {job.collection.full_name} was done, but its versions were not stored: {written}. "
        f"Do not repeat the write. {what}"
    )
