"""
A complete store in memory: for tests of what stands on a store, and the second opinion on the contract.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from bson import ObjectId

from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, DocumentKey, Entry, Operation, VersionRecord
from django_mongo_history.core.replay import Records
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.storage import tombstones
from django_mongo_history.storage.base import Head, Mark, Query, Summary


class MemoryStore:
    """Versions in a dict. Not for use across processes; inside one it is as strict as the real one."""

    name = "memory"

    def __init__(self) -> None:
        self._records: dict[ObjectId, VersionRecord] = {}
        self._tombstones: dict[ObjectId, Tombstone] = {}

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        for record in records:
            self._records.setdefault(record.id, record)

    def entries(self, key: DocumentKey, *, session: Any = None) -> list[Entry]:
        return [
            _entry(record)
            for record in self._records.values()
            if record.collection == key.collection and is_equal(record.document_id, key.document_id)
        ]

    def entries_of(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> Iterator[Entry]:
        for document_id in document_ids:
            yield from self.entries(DocumentKey(collection, document_id))

    def scan(
        self, collection: str, *, above: Any = ABSENT, upto: Any = ABSENT, session: Any = None
    ) -> Iterator[Entry]:
        low = None if above is ABSENT else values.sort_key(above)
        high = None if upto is ABSENT else values.sort_key(upto)
        found = [
            (values.sort_key(record.document_id), record)
            for record in self._records.values()
            if record.collection == collection
        ]
        for place, record in sorted(found, key=lambda pair: (pair[0], pair[1].id)):
            if (low is None or place > low) and (high is None or place <= high):
                yield _entry(record)

    def snapshots(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> frozenset[ObjectId]:
        wanted = {values.sort_key(document_id) for document_id in document_ids}
        return frozenset(
            record.id
            for record in self._records.values()
            if record.collection == collection
            and record.operation is Operation.UPDATE
            and record.snapshot is not None
            and values.sort_key(record.document_id) in wanted
        )

    def records(self, ids: Iterable[ObjectId], *, session: Any = None) -> Records:
        return {wanted: self._records[wanted] for wanted in ids if wanted in self._records}

    def find(self, query: Query, *, session: Any = None) -> Iterator[VersionRecord]:
        found = [record for record in self._records.values() if matches(record, query)]
        found.sort(key=lambda record: (record.at, record.id), reverse=query.newest_first)
        return islice(found, query.limit)

    def marks(self, query: Query, *, session: Any = None) -> Iterator[Mark]:
        return (Mark(record.at, record.id, record.changeset) for record in self.find(query))

    def heads(self, query: Query) -> Iterator[Head]:
        return map(head_of, self.find(query))

    def collections(self) -> list[str]:
        return sorted({record.collection for record in self._records.values()})

    def summaries(self, changesets: Sequence[ObjectId]) -> list[Summary]:
        return summaries_of(self.find(Query()), changesets)

    def append_tombstone(self, tombstone: Tombstone) -> None:
        self._tombstones.setdefault(tombstone.id, tombstone)

    def tombstones(self, query: Query) -> list[Tombstone]:
        return tombstones.chosen(self._tombstones.values(), query)

    def missing(self) -> list[str]:
        return []

    def prepare(self) -> list[str]:
        return []


def summaries_of(records: Iterable[VersionRecord], changesets: Sequence[ObjectId]) -> list[Summary]:
    """The summaries of these changesets, by versions that are sorted by (at, id)."""
    found: dict[ObjectId, list[VersionRecord]] = {}
    for record in records:
        if record.changeset is not None and record.changeset in changesets:
            found.setdefault(record.changeset, []).append(record)
    return [_summary(of_one) for of_one in found.values()]


def _summary(records: Sequence[VersionRecord]) -> Summary:
    first = records[0]
    assert first.changeset is not None
    return Summary(
        changeset=first.changeset,
        first=(first.at, first.id),
        last_at=records[-1].at,
        context=first.context,
        counts=Counter((record.collection, record.document_class) for record in records),
    )


def _entry(record: VersionRecord) -> Entry:
    return Entry(
        record.id, record.document_id, record.order, record.operation, record.at, record.before, record.after
    )


def head_of(record: VersionRecord) -> Head:
    """A version without what it holds."""
    return Head(
        record.at, record.id, record.operation, record.collection, record.document_class, record.document_id
    )


def matches(record: VersionRecord, query: Query) -> bool:
    """Whether a version meets all conditions, as the server would say."""
    return all(
        (
            query.ids is None or record.id in query.ids,
            query.collections is None or record.collection in query.collections,
            query.document_id is ABSENT or is_equal(record.document_id, query.document_id),
            query.document_ids is None or _is_among(record.document_id, query.document_ids),
            query.classes is None or record.document_class in query.classes,
            query.changeset is None or record.changeset == query.changeset,
            query.changesets is None or record.changeset in query.changesets,
            query.user is None or _is_user(record, query),
            _has_context(record, query),
            query.operation is None or record.operation is query.operation,
            query.after is None or record.at > query.after,
            query.before is None or record.at < query.before,
            query.touching is None or not set(query.touching).isdisjoint(record.changed),
            query.past is None or _is_past(record, query),
        )
    )


def _has_context(record: VersionRecord, query: Query) -> bool:
    context = record.context
    user = context.user
    wanted_part = None if query.reason_part is None else query.reason_part.casefold()
    return all(
        (
            query.reason is None or context.reason == query.reason,
            wanted_part is None or wanted_part in (context.reason or "").casefold(),
            query.remote_addr is None or context.remote_addr == query.remote_addr,
            query.user_keys is None or (user is not None and _is_among(user.pk, query.user_keys)),
            query.user_label is None or (user is not None and user.label == query.user_label),
        )
    )


def _is_past(record: VersionRecord, query: Query) -> bool:
    place = (record.at, record.id)
    assert query.past is not None
    return place < query.past if query.newest_first else place > query.past


def _is_among(value: Any, wanted: Sequence[Any]) -> bool:
    return any(is_equal(value, one) for one in wanted)


def _is_user(record: VersionRecord, query: Query) -> bool:
    user, wanted = record.context.user, query.user
    if user is None or wanted is None:
        return False
    if wanted.model is not None:
        return user.model == wanted.model and is_equal(user.pk, wanted.pk)
    return is_equal(user.pk, wanted.pk) or (isinstance(wanted.pk, str) and user.label == wanted.pk)


def is_equal(one: Any, other: Any) -> bool:
    """As the server compares: numbers by their value, whatever their type."""
    return values.sort_key(one) == values.sort_key(other)
