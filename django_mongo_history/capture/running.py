"""
One call on a recording collection on its way: which mode, which session, what is recorded, what is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bson
from pymongo.errors import BulkWriteError, OperationFailure

from django_mongo_history import context
from django_mongo_history.capture.works import Failure, Single
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.delivery import atomic, sync
from django_mongo_history.delivery.base import Job, Work
from django_mongo_history.delivery.environment import IN_TRANSACTION, Environment, Recorder
from django_mongo_history.driver.images import Found, Images


@dataclass(frozen=True, slots=True)
class Run:
    """
    `session`: the caller's, explicit or bound, or None. `captured`: who and why; one changeset for the whole call. `is_sync`: the write needs no transaction, whatever the mode
    (it cannot change anything that is tracked). `acknowledged`: whether the caller wanted an answer.
    """

    environment: Environment
    document_class: type
    images: Images
    acknowledged: bool
    session: Any
    captured: context.Captured
    is_sync: bool = False
    others: dict[type, context.Captured] = field(default_factory=dict)
    """The same of classes that find it out in their own way, filled where it is needed."""

    @property
    def namespace(self) -> str:
        """`db.collection` as really written, whatever the class says."""
        return str(self.images.plain.full_name)

    def session_option(self, session: Any) -> dict[str, Any]:
        """The keyword for the driver; none at all where there is no session, for mongomock's sake."""
        return {} if session is None else {"session": session}

    def decoded(self, image: bytes | None) -> Any:
        """A document as the caller's codec options want it."""
        return None if image is None else bson.decode(image, self.images.codec_options)

    def decoded_reply(self, image: bytes | None) -> Any:
        """A document as it stands in the driver's answers about writes: as dicts, whatever the collection's class."""
        options = self.images.codec_options.with_options(
            document_class=dict, unicode_decode_error_handler="replace"
        )
        return None if image is None else bson.decode(image, options)

    def single(
        self,
        parts: dict[str, Any],
        call: Callable[[Any], Any],
        answer: Callable[[Found, bytes | None], Any],
    ) -> Any:
        """Deliver a write of at most one document."""
        given = {name: value for name, value in parts.items() if value is not None}
        done = self.deliver(Single(self.images, self.namespace, given, call, answer))
        return answer(Found(None), None) if done is None else done

    def deliver(self, work: Work, *, falls_back: bool = True) -> Any:
        """
        Do the write and record it; what it answers (None: it failed unacknowledged), or raise what it raises.

        `falls_back` False: where the collection refuses transactions that is raised, as TransactionRefusedError with
        nothing written, instead of doing the work without one.
        """
        try:
            result, records = self._delivered(work, falls_back=falls_back)
        except OperationFailure as error:
            if self.acknowledged or isinstance(error, BulkWriteError):  # of which callers need the counts
                raise
            return None
        if context.tells_documents_apart():
            for record in records:
                context.consume_appended(record.key)
        if isinstance(result, Failure):
            if not self.acknowledged and not isinstance(result.error, BulkWriteError):
                return None
            raise result.error
        return result

    def _delivered(self, work: Work, *, falls_back: bool) -> tuple[Any, list[VersionRecord]]:
        environment = self.environment
        plain = self.images.plain
        recorder = Recorder(environment, self.document_class, self.captured, others=self.others)
        destination = environment.destination(self._mode(), plain, self.session)
        job = Job(work, recorder, destination, plain, self.session, recorder.begin)
        joined = self.is_joined()
        try:
            if self.runs_in_transaction():
                return atomic.deliver(job, timeout_s=environment.timeout_s)
            return self._delivered_after(job)
        except atomic.TransactionRefusedError as error:
            if joined:  # it has aborted the caller's transaction, as the plain write would have
                raise error.__cause__ or error from None
            environment.refused.add(self.namespace)
            if not falls_back:
                raise
        return self._delivered_after(job)

    def _delivered_after(self, job: Job) -> tuple[Any, list[VersionRecord]]:
        return sync.deliver(
            job,
            has_transactions=self._has_transactions(),
            raises=self.environment.raises,
            timeout_s=self.environment.timeout_s,
        )

    def is_joined(self) -> bool:
        """Whether the write is part of the caller's own transaction."""
        return self.session is not None and bool(self.session.in_transaction)

    def runs_in_transaction(self) -> bool:
        """Whether a failed attempt leaves nothing behind."""
        if self.is_joined():
            return True
        return self.acknowledged and not self.is_sync and self._mode() in IN_TRANSACTION

    def can_see_in_transaction(self) -> bool:
        """Whether images can be seen in a transaction, also where versions are not stored in it."""
        return self.runs_in_transaction() or (not self.is_sync and self._has_transactions())

    def _mode(self) -> str:
        tracked = self.environment.registry.concerned(self.document_class)
        if tracked is None:
            return "sync"
        return self.environment.mode_for(tracked, self.images.plain)

    def _has_transactions(self) -> bool:
        plain = self.images.plain
        return plain.full_name not in self.environment.refused and self.environment.has_transactions(plain)
