"""Changesets by condition, as a lazy sequence: streamed by their versions' headers, with memory that is bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final, overload

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.core.model import ABSENT
from django_mongo_history.query.history import user_wanted
from django_mongo_history.query.moments import aware, rounded_up
from django_mongo_history.query.records import dropped_marks, marks_of
from django_mongo_history.query.sources import Sources
from django_mongo_history.query.summaries import Page
from django_mongo_history.query.version import Changeset
from django_mongo_history.storage.base import Mark, Query

_MOST_SEEN: Final = 100_000
"""Changesets remembered as passed by; whether an older one has been passed by is asked of the store."""
_AT_ONCE: Final = 200
"""Versions looked at before the changesets among them are given; so many share one reading of who and why."""
_MILLISECOND: Final = timedelta(milliseconds=1)


class Changesets(Sequence[Changeset]):
    """
    The changesets with a version, or a drop, that fulfils every condition. Lazy: each use reads afresh.

    Order: by the first version that fulfils the conditions, oldest first; with `newest_first` by the last one, newest
    first. Compares equal to a list of the same changesets.
    Cost: iterating streams the headers of the matching versions by an index; memory is bounded. `[n]` and `[:n]` read
    as far as that, `len()`, `reversed()`, and indexes from the end to the end.
    """

    def __init__(self, sources: Sources, query: Query, *, ids: Sequence[ObjectId] | None = None) -> None:
        self._sources = sources
        self._query = query
        self._ids = ids

    def __iter__(self) -> Iterator[Changeset]:
        if self._ids is not None:
            return (Changeset(self._sources, changeset_id) for changeset_id in self._ids)
        return self._found()

    def __len__(self) -> int:
        return sum(1 for _one in self)

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __contains__(self, wanted: object) -> bool:
        """Whether it is among them. Cost: for a changeset, a look at its own versions."""
        if self._ids is not None:
            return wanted in self._ids
        wanted_id = wanted.id if isinstance(wanted, Changeset) else wanted
        if not isinstance(wanted_id, ObjectId):
            return False
        query = replace(self._query, changeset=wanted_id)
        return next(marks_of(self._sources, query, dropped_marks(self._sources, query)), None) is not None

    @overload
    def __getitem__(self, index: int) -> Changeset: ...
    @overload
    def __getitem__(self, index: slice) -> list[Changeset]: ...
    def __getitem__(self, index: int | slice) -> Changeset | list[Changeset]:
        if isinstance(index, slice):
            bounds = (index.start, index.stop, index.step)
            if any(bound is not None and bound < 0 for bound in bounds):
                return list(self)[index]
            return list(islice(self, *bounds))
        if index < 0:
            last = deque(self, maxlen=-index)
            found = last[0] if len(last) == -index else None
        else:
            found = next(islice(self, index, None), None)
        if found is None:
            raise IndexError(f"there is no changeset at index {index}")
        return found

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (list, tuple, Changesets)):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it is another one with each write

    def __repr__(self) -> str:
        shown = [repr(one) for one in islice(self, 4)]
        return f"<Changesets [{', '.join(shown[:3])}{', ...' if len(shown) == 4 else ''}]>"

    def _found(self) -> Iterator[Changeset]:
        drops = dropped_marks(self._sources, self._query)
        marks = marks_of(self._sources, self._query, drops)
        passed = _Passed(partial(self._passed_before, drops=drops))
        while some := list(islice(marks, _AT_ONCE)):
            ids = passed.new_ones(some)
            page = Page(self._sources, ids)
            yield from (Changeset(self._sources, changeset_id, page) for changeset_id in ids)

    def _passed_before(
        self, ids: Collection[ObjectId], first: Mark, *, drops: Sequence[Mark]
    ) -> set[ObjectId]:
        """Those of these changesets that have a mark before this one, in the order that the query asks for."""
        place = (first.at, first.id)
        if self._query.newest_first:
            bounds: dict[str, Any] = {"after": _latest(first.at - _MILLISECOND, self._query.after)}
        else:
            bounds = {"before": _earliest(first.at + _MILLISECOND, self._query.before)}
        own = [drop for drop in drops if drop.changeset in ids]
        found: set[ObjectId] = set()
        for mark in marks_of(self._sources, replace(self._query, changesets=tuple(ids), **bounds), own):
            is_before = (mark.at, mark.id) > place if self._query.newest_first else (mark.at, mark.id) < place
            if is_before and mark.changeset is not None:
                found.add(mark.changeset)
                if len(found) == len(ids):
                    break
        return found


class _Passed:
    """Which changesets have been passed by: the latest by heart, older ones by asking for their marks."""

    def __init__(self, passed_before: Callable[[Collection[ObjectId], Mark], set[ObjectId]]) -> None:
        self._seen: dict[ObjectId, None] = {}
        self._has_forgotten = False
        self._passed_before = passed_before

    def new_ones(self, marks: Sequence[Mark]) -> list[ObjectId]:
        """The changesets whose first mark is among these, in their order."""
        ids = dict.fromkeys(mark.changeset for mark in marks if mark.changeset is not None)
        unknown = {changeset_id: None for changeset_id in ids if changeset_id not in self._seen}
        old = self._passed_before(unknown.keys(), marks[0]) if self._has_forgotten and unknown else set()
        self._remember(ids)
        return [changeset_id for changeset_id in unknown if changeset_id not in old]

    def _remember(self, ids: Iterable[ObjectId]) -> None:
        for changeset_id in ids:
            self._seen.pop(changeset_id, None)  # and to the end: what was met lately is met again
            self._seen[changeset_id] = None
        while len(self._seen) > _MOST_SEEN:
            del self._seen[next(iter(self._seen))]
            self._has_forgotten = True


def _latest(bound: datetime, other: datetime | None) -> datetime:
    return bound if other is None else max(bound, other)


def _earliest(bound: datetime, other: datetime | None) -> datetime:
    return bound if other is None else min(bound, other)


def find_changesets(
    sources: Sources,
    *,
    user: Any = None,
    since: datetime | None = None,
    until: datetime | None = None,
    touching: Any = None,
    reason: str | None = None,
    newest_first: bool = False,
) -> Changesets:
    """
    The changesets with a version, or a drop, that fulfils every condition.

    Bounds: `since` and `until` are inclusive, aware. `touching` is a tracked class, or a document. `reason` must be
    equal.
    Raises: ValueError for a naive moment; NotTrackedError.
    """
    low = None if since is None else rounded_up(aware(since, name="since"))
    query = Query(
        user=None if user is None else user_wanted(user),
        reason=reason,
        after=None if low is None else low - _MILLISECOND,
        before=None if until is None else _just_after(aware(until, name="until")),
        newest_first=newest_first,
    )
    if isinstance(touching, type):
        source = sources.of_class(touching)
        query = replace(query, collections=source.namespaces, classes=documents.stored_names(touching))
    elif touching is not None:
        source = sources.of_instance(touching)
        key = documents.primary_key_of(touching)
        exact = ABSENT if key is None else documents.exact_id(type(touching), key, source.codec_options)
        if exact is ABSENT:
            return Changesets(sources, query, ids=())
        query = replace(query, collections=source.namespaces, document_id=exact)
    return Changesets(sources, query)


def changesets_named(sources: Sources, changeset_id: ObjectId) -> Changesets:
    """The one of this id, whether it has written anything or not."""
    return Changesets(sources, Query(), ids=(changeset_id,))


def _just_after(moment: datetime) -> datetime:
    """The first millisecond behind a moment: the store's bounds are exclusive."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000) + _MILLISECOND
