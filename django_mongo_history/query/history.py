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
from django_mongo_history.query.change_log import FieldChange, field_changes
from django_mongo_history.query.hidden import hidden_between
from django_mongo_history.query.materialized import AsOf, Materialized, materialized
from django_mongo_history.query.moments import aware, rounded_up
from django_mongo_history.query.pending import Pending, pending_of
from django_mongo_history.query.relations import Places, Then, names
from django_mongo_history.query.sources import Sources
from django_mongo_history.query.version import Version
from django_mongo_history.reading import DocumentHistory, Source, read_document
from django_mongo_history.reading.opening import is_change, prefetch_states
from django_mongo_history.reading.relations import referring
from django_mongo_history.storage.base import Query

_ROWS_AT_ONCE = 200


class History(Sequence[Version]):
    """
    The versions of one document, oldest first. Every use reads afresh, so it is never stale.

    Works for deleted documents and for those that were never written since tracking began.
    Cost: `len()` and finding a version read one index range and the live document; rows are read when they are needed.
    """

    def __init__(self, sources: Sources, source: Source, document_id: Any, *, document: Any = None) -> None:
        self._sources = sources
        self._source = source
        self._document_id = document_id
        self._document = document

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

    def diff(
        self,
        a: Version | int | datetime,
        b: Version | int | datetime | None = None,
        *,
        include_hidden: bool = False,
    ) -> list[Change]:
        """
        What differs between two states: of versions, numbers (from 1), moments; `b` None is the document now.

        Either may be the older one: `a` is the side that is called old. With `include_hidden` every hidden path that was
        written in between is there too, with `HIDDEN` on both sides, and never a value; put back or not cannot be told.
        Raises: VersionNotFoundError for a number that no version has, or a version of another document; TypeError for
        what is none of the three; ValueError for a naive moment; BrokenChainError.
        """
        history = self._read()
        left = self._place(history, a)
        right = len(history.steps) - 1 if b is None else self._place(history, b)
        before = None if left is None else history.after(left)
        after = history.now() if b is None else None if right is None else history.after(right)
        found = reading.changes_between(before, after, self._source.codec_options)
        return [*found, *hidden_between(history, left, right)] if include_hidden else found

    def referring(
        self, document_class: type[Any], relation: str, *, at: datetime | None = None
    ) -> Iterator[Version]:
        """
        The documents of a tracked class whose `relation` named this document at the moment `at` (None: now), as their
        versions in force then, in the order of `_id`, streamed. Documents that are gone since are among them.

        `relation`: a path through embedded documents, lists and maps to references, not through references.
        Cost: every document of the class and its index entries are read once, and the rows of those that were written
        after `at`. No index knows what pointed here at a moment. Memory: a chunk of documents.
        Raises: NotTrackedError; ValueError for what is no relation, or for a naive moment; HiddenFieldError;
        UntrackedFieldError; while streaming BrokenChainError at a document whose state then cannot be known.
        """
        instant = None if at is None else aware(at, name="at")
        places = Places(self._sources)
        found = referring(
            self._sources.of_class(document_class),
            relation,
            lambda one: names(one, self._source, self._document_id, places),
            instant,
        )
        return (self._version(history, index) for history, index in found)

    def pending(self) -> Pending:
        """
        What a save of the instance, whose history this is, would record now; false where that is nothing.

        Nothing is written, sent or marked: neither the database nor the instance is another one for it. `clean()`,
        validation and signals do not run, so what they would change is not in it.
        Cost: one look at the live document. Raises: ValueError for the history of a class and a key, where no instance
        is; HistoryError where only the server could say what it would make of the save.
        """
        if self._document is None:
            raise ValueError(
                f"{self!r} is of no instance, so nothing can be pending: take `document.history.pending()`"
            )
        return pending_of(self._source, self._document)

    @property
    def changes(self) -> list[FieldChange]:
        """
        The changes of single fields, newest last: `.field`, `.old_value`, `.new_value`, `.timestamp`, `.version`.

        Creates and deletes are none. Read afresh at each use. Raises: BrokenChainError.
        Cost: every version of the document is read; for one field `versions(touching=...)` costs less.
        """
        return list(field_changes(self))

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

    def _place(self, history: DocumentHistory, side: Version | int | datetime) -> int | None:
        """The index of the version in force; None before the first. Raises: as `diff`."""
        if isinstance(side, datetime):
            return history.index_at(aware(side))
        if isinstance(side, bool) or not isinstance(side, (Version, int)):
            raise TypeError(f"expected a version, its number or an aware datetime, got {side!r}")
        index = history.index_of(side.id) if isinstance(side, Version) else side - 1
        if index is None or not 0 <= index < len(history.steps):
            raise VersionNotFoundError(f"{self!r} has no version {side!r}", version=side)
        return index

    def __repr__(self) -> str:
        return f"<History of {self._source.tracked.document_class.__name__} {self._document_id!r}>"


class ClassHistory:
    """The history of all documents of a class, its subclasses' included."""

    def __init__(self, sources: Sources, source: Source) -> None:
        self._sources = sources
        self._source = source

    def as_of(self, moment: datetime) -> AsOf:
        """
        Every document as it stood at `moment`, as unsaved instances, in the order of `_id`, streamed.

        Documents without a version are as they are now. References lead to documents as of the same moment, which are
        read once they are looked at: that costs what `Version.follow` does, for each. Memory: a chunk of documents.
        `as_of(moment).into(name)` writes them into a collection instead, to be queried.
        Raises: ValueError for a naive moment; BrokenChainError at a document whose state then cannot be known.
        """
        instant = aware(moment)
        return AsOf(
            self._source,
            instant,
            instances=lambda: self._as_of(instant),
            states=lambda: self._states(instant),
        )

    def materialized(self) -> list[Materialized]:
        """The collections that `as_of(...).into(...)` has made of this class and that are still there, by name."""
        return materialized(self._source)

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
        then = Then.at(self._sources, moment)
        for state in self._states(moment):
            yield then.instance(self._source.tracked.document_class, state, self._source)

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
