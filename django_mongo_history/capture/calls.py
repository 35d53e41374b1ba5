"""
What every writing method of a recording collection begins with: whose documents they are, and the call on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymongo.errors import OperationFailure

from django_mongo_history import context
from django_mongo_history.capture import arguments
from django_mongo_history.capture.running import Run
from django_mongo_history.capture.strictness import Check, Reach
from django_mongo_history.capture.wording import as_of_a_write
from django_mongo_history.core import policy
from django_mongo_history.core.after_image import touched_paths
from django_mongo_history.delivery.environment import Environment
from django_mongo_history.driver import topology
from django_mongo_history.driver.images import Images


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose collection it is, and the environment in force now."""

    document_class: type
    environment: Callable[[], Environment]


class RecordedCalls:
    """Calls on `_images` (the collection beneath) for `_subject`: which are recorded, and as what."""

    _subject: Subject

    def _plain(self) -> Any:
        """The same collection, not recording."""
        raise TypeError("a recording collection stands on a driver's collection")

    @property
    def _images(self) -> Images:
        raise TypeError("a recording collection stands on a driver's collection")

    def _beneath(self, name: str) -> Callable[..., Any]:
        """The driver's own method of this name."""
        raise TypeError("a recording collection stands on a driver's collection")

    def _is_recording(self) -> bool:
        environment = self._subject.environment()
        return not context.is_suppressed() and environment.records(self._subject.document_class)

    def _run(self, session: Any, reach: Callable[[], Iterable[Reach]], update: Any = None) -> Run:
        """The call on its way. `reach`: what it is about, asked only where a reason may be required."""
        environment = self._subject.environment()
        document_class = self._subject.document_class
        client = self._images.plain.database.client
        in_transaction = session is not None and session.in_transaction
        session = session if session is not None else topology.bound_session(client)
        captured = self._captured(session, reach)
        return Run(
            environment=environment,
            document_class=document_class,
            images=self._images,
            acknowledged=in_transaction or self._acknowledged(),  # transactions have a concern of their own
            session=session,
            captured=captured,
            is_sync=update is not None and self._is_untracked(update),
        )

    def _captured(self, session: Any, reach: Callable[[], Iterable[Reach]]) -> context.Captured:
        """Who and why. Raises: ReasonRequiredError."""
        environment, document_class = self._subject.environment(), self._subject.document_class
        captured = environment.capture(document_class, environment.registry.concerned(document_class))
        if not captured.has_reason and environment.may_require_reason():
            Check(environment, document_class, self._images, captured, session)(reach())
        return captured

    def _refuse_removal(self, query: Callable[[], Any]) -> None:
        """Raise what a removal of these documents would raise for want of a reason."""
        if self._is_recording():
            self._captured(
                topology.bound_session(self._images.plain.database.client), lambda: [Reach(query())]
            )

    def _acknowledged(self) -> bool:
        return True

    def _passes(self, update: Any, options: dict[str, Any]) -> bool:
        """Whether the write is none of ours: not recorded here, or able to change untracked paths only."""
        return not self._is_recording() or (not options.get("upsert") and self._is_untracked(update))

    def _is_untracked(self, update: Any) -> bool:
        """Whether the update can change untracked paths only, of the class or any below it."""
        tracked = self._subject.environment().registry.get(self._subject.document_class)
        paths = touched_paths(update)
        if tracked is None or not tracked.policy.untracked or not paths:
            return False
        return all(policy.is_untracked(path, tracked.policy) for path in paths)

    def _taken(
        self, method: str, query: Any, args: tuple[Any, ...], options: dict[str, Any], given: int = 2
    ) -> dict[str, Any] | None:
        """The options by name; None where the driver refuses them, or the filter, before it asks the server."""
        named = arguments.named(method, given, args, options)
        if named is None or arguments.are_refused(query, named, acknowledged=self._is_answered(named)):
            return None
        if named.get("sort") is not None and not topology.sorts_updates(self._images.plain.database.client):
            return None  # findAndModify would obey where the server refuses it of an update
        return named

    def _is_answered(self, options: dict[str, Any]) -> bool:
        session = options.get("session")
        return bool(getattr(session, "in_transaction", False)) or self._acknowledged()


@contextmanager
def worded(run: Run) -> Iterator[None]:
    """In the caller's transaction, errors of our form of a write in the words of his."""
    try:
        yield
    except OperationFailure as error:
        if not run.is_joined() and not run.session:
            raise
        worded = as_of_a_write(error)
        if worded is error:
            raise
        raise worded from None
