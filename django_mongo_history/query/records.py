"""Stored versions, and drops, by condition, of all tracked classes and across stores, each with where its document lies."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from bson import ObjectId

from django_mongo_history.core.model import VersionRecord
from django_mongo_history.core.replay import Unreadable
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.query.sources import Sources
from django_mongo_history.reading import Source
from django_mongo_history.revert import Drop
from django_mongo_history.storage.base import Mark, Query, Summary


def records_of(
    sources: Sources, *queries: Query, using: str | None = None
) -> Iterator[tuple[Source, VersionRecord]]:
    """
    Stored versions of all tracked classes that fulfil one of the conditions, each once, with where its document lies.

    Sorted by `at` across stores, newest first where the first query says so; streamed. `using` names a connection.
    """
    known: dict[tuple[str, str], Source] = {}
    newest_first = queries[0].newest_first
    found = [_found(source, query) for source in _one_per_store(sources, using) for query in queries]
    last: ObjectId | None = None
    for near, record in heapq.merge(
        *found, key=lambda one: (one[1].at, one[1].id.binary), reverse=newest_first
    ):
        if record.id == last:
            continue
        last = record.id
        place = (record.collection, record.document_class)
        if place not in known:
            known[place] = sources.of_record(record, near)
        yield known[place], record


def records_named(sources: Sources, ids: Sequence[ObjectId]) -> list[tuple[Source, VersionRecord]]:
    """
    The stored versions of these ids, of whatever store, each with where its document lies; in the order of the ids.

    What is not there is left out. Raises: BrokenChainError for a row that cannot be read.
    """
    found: dict[ObjectId, tuple[Source, VersionRecord]] = {}
    for near in _one_per_store(sources, None):
        missing = [one for one in ids if one not in found]
        for version_id, record in near.store.records(missing).items() if missing else ():
            if isinstance(record, Unreadable):
                raise BrokenChainError(
                    f"Version {version_id} cannot be read: {record.reason}", version=version_id
                )
            found[version_id] = sources.of_record(record, near), record
    return [found[one] for one in dict.fromkeys(ids) if one in found]


def stores_of(sources: Sources) -> list[Source]:
    """One source for each store."""
    return _one_per_store(sources, None)


def marks_of(sources: Sources, query: Query, drops: Iterable[Mark]) -> Iterator[Mark]:
    """
    Where stored versions that fulfil the condition, and these drops, belong, sorted by (at, id) across stores; streamed.

    Of all stores at once, newest first where the query says so. What belongs to no changeset is among them.
    """
    found = [source.store.marks(query) for source in _one_per_store(sources, None)]
    return heapq.merge(*found, drops, key=lambda one: (one.at, one.id.binary), reverse=query.newest_first)


def dropped_marks(sources: Sources, query: Query) -> list[Mark]:
    """Where the drops that fulfil the condition belong, in the order that the query asks for."""
    told = (drop.tombstone for drop in drops_of(sources, query))
    return [Mark(one.at, one.id, one.changeset) for one in told]


def summaries_of(sources: Sources, changesets: Sequence[ObjectId]) -> Iterator[Summary]:
    """What these changesets are, of one store after another."""
    if changesets:
        for source in _one_per_store(sources, None):
            yield from source.store.summaries(changesets)


def drops_of(sources: Sources, *queries: Query, using: str | None = None) -> list[Drop]:
    """
    The drops of tracked classes' collections that fulfil one of the conditions, each once, sorted by `at`.

    Newest first where the first query says so. One whose collection is still there was never made, and left out.
    """
    found: dict[ObjectId, tuple[Source, Tombstone]] = {}
    for near in _one_per_store(sources, using):
        for query in queries:
            found.update({one.id: (near, one) for one in near.store.tombstones(query)})
    ordered = sorted(found.values(), key=lambda pair: (pair[1].at, pair[1].id))
    if queries[0].newest_first:
        ordered.reverse()
    drops = [Drop(one, sources.of_tombstone(one, near)) for near, one in ordered]
    standing: dict[str, set[ObjectId]] = {}
    for drop in drops:
        if drop.tombstone.collection not in standing:
            standing[drop.tombstone.collection] = {one.id for one in drop.sources[0].tombstones()}
    return [drop for drop in drops if drop.tombstone.id in standing[drop.tombstone.collection]]


def _found(near: Source, query: Query) -> Iterator[tuple[Source, VersionRecord]]:
    return ((near, record) for record in near.store.find(query))


def _one_per_store(sources: Sources, using: str | None) -> list[Source]:
    return list({id(source.store): source for source in sources.all(using=using)}.values())
