"""The history of one document as a lazy sequence, and that of all documents of a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, overload

from django_mongo_history import context, documents, reading, revert
from django_mongo_history.core.drift import names_ever
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import Change, Operation, UserRef
from django_mongo_history.core.policy import name_path
from django_mongo_history.errors import VersionNotFoundError
from django_mongo_history.query.moments import aware, rounded_up
from django_mongo_history.query.sources import Sources
from django_mongo_history.query.version import Version
from django_mongo_history.reading import DocumentHistory, Source, read_document
from django_mongo_history.reading.document import is_change, prefetch_states
from django_mongo_history.storage.base import Query

_ROWS_AT_ONCE = 200


class History(Sequence[Version]):
    """
    The versions of one document, oldest first. Every use reads afresh, so it is never stale.

    Works for deleted documents and for those that were never written since tracking began.
    Cost: `len()` and finding a version read one index range and the live document; rows are read when they are needed.
    """

    def __init__(self, sources: Sources, source: Source, document_id: Any) -> None:
        self._sources = sources
        self._source = source
        self._document_id = document_id

    def __len__(self) -> int:
        return len(self._read().steps)

    @overload
    def __getitem__(self, index: int) -> Version: ...
    @overload
    def __getitem__(self, index: slice) -> list[Version]: ...
    def __getitem__(self, index: int | slice) -> Version | list[Version]:
        history = self._read()
        places = range(len(history.steps))
        if isinstance(index, slice):
            return [self._version(history, place) for place in places[index]]
        try:
            return self._version(history, places[index])
        except IndexError:
            raise IndexError(f"{self!r} has {len(places)} versions, there is none at index {index}") from None

    def __iter__(self) -> Iterator[Version]:
        return self._all(self._read())

    def versions(
        self,
        before: datetime | None = None,
        after: datetime | None = None,
        touching: str | None = None,
        user: Any = None,
        operation: str | None = None,
    ) -> list[Version]:
        """
        The versions that fulfil every condition, oldest first.

        Bounds: `before` and `after` are exclusive, aware. `touching` is a path (attribute or database names, lists
        without an index): updates that changed it or something below it, or a hidden value there. `user` is a user,
        a key or a label.
        Raises: ValueError for a naive moment, an unknown operation, or a path that names no field.
        """
        wanted = conditions(
            self._source, before=before, after=after, touching=touching, user=user, operation=operation
        )
        return [version for version in self._all(self._read()) if _fulfils(version, wanted)]

    def version_at(self, moment: datetime) -> Version | None:
        """
        The version in force at `moment`; None before a create. Of a deleted document it is a delete, without a state.

        Units: aware; compared in UTC at the millisecond precision of BSON. Raises: ValueError for a naive moment.
        """
        history = self._read()
        index = history.index_at(aware(moment))
        return None if index is None else self._version(history, index)

    def has_changed_since(self, moment: datetime) -> bool:
        """Whether any version, derived ones included, was made after `moment`."""
        since = aware(moment)
        return any(step.at is not None and step.at > since and is_change(step) for step in self._read().steps)

    def diff(self, a: Version | int | datetime, b: Version | int | datetime | None = None) -> list[Change]:
        """
        What differs between two states: of versions, numbers (from 1), moments; `b` None is the document now.

        Raises: VersionNotFoundError for a number that no version has; BrokenChainError.
        """
        history = self._read()
        left = self._state(history, a)
        right = history.now() if b is None else self._state(history, b)
        return reading.changes_between(left, right, self._source.codec_options)

    def revert(self, since: datetime | None = None) -> Version | None:
        """
        Write the state in force at `since` back, as a new version; None means the first state.

        A moment before the create removes the document. Returns the new version, None where nothing had to be written.
        Raises: ConflictError, BrokenChainError, VersionNotFoundError for a document without any history.
        """
        history = self._read()
        if not history.steps:
            raise VersionNotFoundError(f"{self!r} is empty: there is no state to go back to.")
        index = 0 if since is None else history.index_at(aware(since, name="since"))
        state = None if index is None else history.after(index)
        rules = None if index is None else history.rules_at(index)
        revert_of = None if index is None else history.steps[index].id
        plan = revert.plan_states(
            [revert.Target(self._source, self._document_id, state, rules=rules)], revert_of=revert_of or since
        )
        revert.apply_or_raise(plan)
        return Version(self._sources, self._source, record=plan.made[0]) if plan.made else None

    def _read(self) -> DocumentHistory:
        return read_document(self._source, self._document_id)

    def _version(self, history: DocumentHistory, index: int) -> Version:
        return Version(self._sources, self._source, history=history, index=index)

    def _all(self, history: DocumentHistory) -> Iterator[Version]:
        count = len(history.steps)
        for low in range(0, count, _ROWS_AT_ONCE):
            places = range(low, min(low + _ROWS_AT_ONCE, count))
            history.prefetch(places)
            yield from (self._version(history, place) for place in places)

    def _state(self, history: DocumentHistory, side: Version | int | datetime) -> bytes | None:
        if isinstance(side, datetime):
            index = history.index_at(aware(side))
            return None if index is None else history.after(index)
        index = history.index_of(side.id) if isinstance(side, Version) else int(side) - 1
        if index is None or not 0 <= index < len(history.steps):
            raise VersionNotFoundError(f"{self!r} has no version {side!r}", version=side)
        return history.after(index)

    def __repr__(self) -> str:
        return f"<History of {self._source.tracked.document_class.__name__} {self._document_id!r}>"


class ClassHistory:
    """The history of all documents of a class, its subclasses' included."""

    def __init__(self, sources: Sources, source: Source) -> None:
        self._sources = sources
        self._source = source

    def as_of(self, moment: datetime) -> Iterator[Any]:
        """
        Every document as it stood at `moment`, as unsaved instances, in the order of `_id`, streamed.

        Documents without a version are as they are now. Memory: a chunk of documents.
        Raises: ValueError for a naive moment; BrokenChainError at a document whose state then cannot be known.
        """
        instant = aware(moment)
        return self._as_of(instant)

    def states_as_of(self, moment: datetime) -> Iterator[dict[str, Any]]:
        """The same as raw states, without making instances."""
        instant = aware(moment)
        return (documents.user_values(state, self._source.codec_options) for state in self._states(instant))

    def versions(
        self,
        before: datetime | None = None,
        after: datetime | None = None,
        touching: str | None = None,
        user: Any = None,
        operation: str | None = None,
        *,
        newest_first: bool = False,
    ) -> Iterator[Version]:
        """
        The stored versions across all documents of the class, sorted by `at`, streamed. Conditions as in `History`.

        Derived versions are not among them: they show only where one document's history is read.
        """
        wanted = conditions(
            self._source,
            before=before,
            after=after,
            touching=touching,
            user=user,
            operation=operation,
            newest_first=newest_first,
        )
        found = self._source.store.find(wanted)
        return (Version(self._sources, self._source, record=record) for record in found)

    def deleted(self) -> Iterator[Version]:
        """The delete versions of documents that are gone, in the order of `_id`, streamed."""
        for histories in reading.scan(self._source):
            for history in histories:
                last = history.steps[-1] if history.steps else None
                if last is not None and last.operation is Operation.DELETE and history.image is None:
                    version = Version(
                        self._sources, self._source, history=history, index=len(history.steps) - 1
                    )
                    if self._is_one(history.before(len(history.steps) - 1)):
                        yield version

    def _as_of(self, moment: datetime) -> Iterator[Any]:
        for state in self._states(moment):
            values = documents.user_values(state, self._source.codec_options)
            yield documents.instance_of(self._source.tracked.document_class, values)

    def _states(self, moment: datetime) -> Iterator[bytes]:
        for histories in reading.scan(self._source):
            yield from (state for state in states_at(histories, moment) if self._is_one(state))

    def _is_one(self, state: bytes | None) -> bool:
        name = class_name(state)
        return documents.is_stored_as(self._source.tracked.document_class, name)

    def __repr__(self) -> str:
        return f"<History of {self._source.tracked.document_class.__name__}>"


def states_at(histories: Sequence[DocumentHistory], moment: datetime) -> Iterator[bytes]:
    """The states in force at a moment of the documents that existed then; rows are read for all at once."""
    there = [(history, index) for history in histories if (index := history.index_at(moment)) is not None]
    prefetch_states(there)
    for history, index in there:
        state = history.after(index)
        if state is not None:
            yield state


def conditions(
    source: Source,
    *,
    before: datetime | None,
    after: datetime | None,
    touching: str | None,
    user: Any,
    operation: str | None,
    newest_first: bool = False,
) -> Query:
    """The query of these arguments. Raises: ValueError."""
    document_class = source.tracked.document_class
    return Query(
        collections=source.namespaces,
        classes=documents.stored_names(document_class),
        user=None if user is None else user_wanted(user),
        operation=None if operation is None else Operation(operation),
        after=None if after is None else aware(after, name="after"),
        before=None if before is None else rounded_up(aware(before, name="before")),
        touching=None if touching is None else _paths_of(source, touching),
        newest_first=newest_first,
    )


def _paths_of(source: Source, touching: str) -> tuple[str, ...]:
    path = ".".join(documents.translate_path(source.tracked.document_class, touching))
    return names_ever(path, source.tracked.renamed)


def user_wanted(user: Any) -> UserRef | None:
    """A user to look for: an instance matches by key and model, a bare key by key or label."""
    return context.user_ref(user)


def _fulfils(version: Version, wanted: Query) -> bool:
    at = version.at
    checks: Iterable[bool] = (
        wanted.operation is None or version.operation is wanted.operation,
        wanted.after is None or (at is not None and at > wanted.after),
        wanted.before is None or at is None or at < wanted.before,
        wanted.user is None or _is_by(version.user, wanted.user),
        wanted.touching is None or _touches(version, wanted.touching),
    )
    return all(checks)


def _is_by(user: UserRef | None, wanted: UserRef) -> bool:
    if user is None or (wanted.model is not None and user.model != wanted.model):
        return False
    return bool(user.pk == wanted.pk) or (isinstance(wanted.pk, str) and user.label == wanted.pk)


def _touches(version: Version, paths: tuple[str, ...]) -> bool:
    if version.operation not in (Operation.UPDATE, Operation.EXTERNAL):
        return False
    touched = [change.path for change in version.changes]
    if () in touched:  # all of it, where a key stands twice
        return True
    names = [name_path(path) for path in touched]
    return any(name == path or name.startswith(f"{path}.") for name in names for path in paths)
