"""
A store and the outbox before it, read as one: what is on its way is there already for whoever reads.

The outbox is read first. A version is put into the store before it is taken out of the outbox, so that way round it is
in one of them, or in both, which counts once.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import chain, islice
from typing import Any, Final, TypeVar

from bson import ObjectId

from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, DocumentKey, Entry, VersionRecord
from django_mongo_history.core.replay import Records, Unreadable
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.storage.base import Head, Mark, Query, Store, Summary
from django_mongo_history.storage.memory import summaries_of
from django_mongo_history.storage.outbox import Outbox

_AT_ONCE: Final = 1000
_WHOLE_AT_ONCE: Final = 100
T = TypeVar("T", Entry, Head, Mark, VersionRecord)
Placed = TypeVar("Placed", Head, Mark, VersionRecord)


class JoinedStore:
    """
    Reads from both, appends to `store`.

    `shares_sessions`: whether both are of one client. If not, `store` sees no session: it is on another server.
    """

    def __init__(self, store: Store, outbox: Outbox, *, shares_sessions: bool) -> None:
        self.name = store.name
        self.store = store
        self.outbox = outbox
        self._shares_sessions = shares_sessions

    def _session(self, session: Any) -> Any:
        return session if self._shares_sessions else None

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        self.store.append(records, session=self._session(session))

    def entries(self, key: DocumentKey, *, session: Any = None) -> list[Entry]:
        waiting = self.outbox.store.entries(key, session=session)
        return list(_once(chain(waiting, self.store.entries(key, session=self._session(session)))))

    def entries_of(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> Iterator[Entry]:
        waiting = list(self.outbox.store.entries_of(collection, document_ids, session=session))
        stored = self.store.entries_of(collection, document_ids, session=self._session(session))
        return _once(chain(waiting, stored))

    def scan(
        self, collection: str, *, above: Any = ABSENT, upto: Any = ABSENT, session: Any = None
    ) -> Iterator[Entry]:
        # What waits is read to its end first; what comes to the store meanwhile is seen there, or is of later.
        waiting = list(self.outbox.store.scan(collection, above=above, upto=upto, session=session))
        stored = self.store.scan(collection, above=above, upto=upto, session=self._session(session))
        if not waiting:
            return stored
        known = {entry.id for entry in waiting}
        fresh = (entry for entry in stored if entry.id not in known)
        return heapq.merge(waiting, fresh, key=lambda entry: values.sort_key(entry.document_id))

    def snapshots(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> frozenset[ObjectId]:
        waiting = self.outbox.store.snapshots(collection, document_ids, session=session)
        return waiting | self.store.snapshots(collection, document_ids, session=self._session(session))

    def records(self, ids: Iterable[ObjectId], *, session: Any = None) -> Records:
        wanted = list(ids)
        waiting = self.outbox.store.records(wanted, session=session)
        # A large version that is taken out while it is read here has lost its parts here; the store has them.
        found = {one: record for one, record in waiting.items() if not isinstance(record, Unreadable)}
        missing = [one for one in wanted if one not in found]
        stored = self.store.records(missing, session=self._session(session)) if missing else {}
        return {**waiting, **stored, **found}

    def find(self, query: Query, *, session: Any = None) -> Iterator[VersionRecord]:
        # Where they belong is known before the store is read; what they hold is read as it is needed, for they may be many.
        places = list(self.outbox.store.marks(query, session=session))
        stored = self.store.find(query, session=self._session(session))
        return _merged(self._whole(places, query, session), stored, query, {one.id for one in places})

    def _whole(self, places: Sequence[Mark], query: Query, session: Any) -> Iterator[VersionRecord]:
        """The versions of these places, in their order; those that were moved meanwhile from the store."""
        for start in range(0, len(places), _WHOLE_AT_ONCE):
            ids = tuple(one.id for one in places[start : start + _WHOLE_AT_ONCE])
            errors: list[BrokenChainError] = []
            asked = Query(ids=ids, unreadable=errors.append)
            found = {one.id: one for one in self.outbox.store.find(asked, session=session)}
            missing = [one for one in ids if one not in found]
            stored = self.store.records(missing, session=self._session(session)) if missing else {}
            _tell([error for error in errors if error.facts["version"] not in stored], query)
            records = (found.get(one, stored.get(one)) for one in ids)
            yield from (one for one in records if isinstance(one, VersionRecord))

    def marks(self, query: Query, *, session: Any = None) -> Iterator[Mark]:
        waiting = list(self.outbox.store.marks(query, session=session))
        stored = self.store.marks(query, session=self._session(session))
        return _merged(waiting, stored, query, {one.id for one in waiting})

    def heads(self, query: Query) -> Iterator[Head]:
        waiting = list(self.outbox.store.heads(query))
        return _merged(waiting, self.store.heads(query), query, {one.id for one in waiting})

    def collections(self) -> list[str]:
        return sorted({*self.outbox.store.collections(), *self.store.collections()})

    def summaries(self, changesets: Sequence[ObjectId]) -> list[Summary]:
        waiting = list(self.outbox.store.find(Query(changesets=tuple(changesets))))
        if not waiting:
            return self.store.summaries(changesets)
        before, summaries, moved = (
            self._stored(waiting),
            self.store.summaries(changesets),
            self._stored(waiting),
        )
        while (
            before != moved
        ):  # some were moved while the store counted: before that, or after it? All are, in the end
            before, summaries, moved = moved, self.store.summaries(changesets), self._stored(waiting)
        found = {one.changeset: one for one in summaries}
        for one in summaries_of([record for record in waiting if record.id not in moved], changesets):
            known = found.get(one.changeset)
            found[one.changeset] = one if known is None else _added(known, one)
        return list(found.values())

    def _stored(self, waiting: Sequence[VersionRecord]) -> frozenset[ObjectId]:
        """Those of these versions that the store has by now."""
        chunks = (waiting[start : start + _AT_ONCE] for start in range(0, len(waiting), _AT_ONCE))
        return frozenset().union(*(self.store.records([one.id for one in chunk]) for chunk in chunks))

    def append_tombstone(self, tombstone: Tombstone) -> None:
        self.store.append_tombstone(tombstone)

    def tombstones(self, query: Query) -> list[Tombstone]:
        return self.store.tombstones(query)

    def missing(self) -> list[str]:
        return [*self.store.missing(), *self.outbox.missing()]

    def prepare(self) -> list[str]:
        return [*self.store.prepare(), *self.outbox.prepare()]


def _once(found: Iterable[T]) -> Iterator[T]:
    seen: set[ObjectId] = set()
    for one in found:
        if one.id not in seen:
            seen.add(one.id)
            yield one


def _place_of(one: Head | Mark | VersionRecord) -> tuple[datetime, ObjectId]:
    return one.at, one.id


def _tell(errors: Sequence[BrokenChainError], query: Query) -> None:
    """Tell of what cannot be read in the outbox."""
    for error in errors:
        if query.unreadable is None:
            raise error
        query.unreadable(error)


def _merged(
    waiting: Iterable[Placed],
    stored: Iterator[Placed],
    query: Query,
    known: AbstractSet[ObjectId],
) -> Iterator[Placed]:
    """Both in the order of the query; of `known`, the ids of all that wait, none from the store."""
    if not known:
        return stored
    fresh = (one for one in stored if one.id not in known)
    return islice(heapq.merge(waiting, fresh, key=_place_of, reverse=query.newest_first), query.limit)


def _added(stored: Summary, waiting: Summary) -> Summary:
    first = min((stored, waiting), key=lambda one: one.first)
    return Summary(
        changeset=stored.changeset,
        first=first.first,
        last_at=max(stored.last_at, waiting.last_at),
        context=first.context,
        counts=Counter(stored.counts) + Counter(waiting.counts),
    )
