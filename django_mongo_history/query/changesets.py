"""Changesets as users hold them: the versions that one request, task, command or block wrote."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from django_mongo_history import documents, revert
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.query.history import user_wanted
from django_mongo_history.query.moments import aware
from django_mongo_history.query.sources import Sources
from django_mongo_history.query.version import Version
from django_mongo_history.reading import Source
from django_mongo_history.storage.base import Query


class Changeset:
    """What belongs together. `id` is its identity; what it wrote is read when it is asked for."""

    def __init__(self, sources: Sources, changeset_id: ObjectId) -> None:
        self._sources = sources
        self.id = changeset_id

    def versions(self) -> list[Version]:
        """Its stored versions of all classes, in the order in which they were made."""
        return [Version(self._sources, source, record=record) for source, record in self._records()]

    @property
    def user(self) -> Any:
        """Who made it; None where nobody is known or it wrote nothing."""
        return next((record.context.user for _source, record in self._records()), None)

    @property
    def reason(self) -> str | None:
        return next((record.context.reason for _source, record in self._records()), None)

    @property
    def at(self) -> datetime | None:
        """When its first version was made; None where it wrote nothing."""
        return next((record.at for _source, record in self._records()), None)

    def take_back(self) -> list[Version]:
        """
        Apply the inverse of its versions to the present, as one new changeset; the new versions.

        Raises: ConflictError where a later version changed the same paths, with nothing written.
        """
        plan = revert.plan_take_back(list(self._records()), revert_of=self.id)
        revert.apply_or_raise(plan)
        return [Version(self._sources, plan.source_of(record.key), record=record) for record in plan.made]

    def _records(self) -> Iterator[tuple[Source, VersionRecord]]:
        return records_of(self._sources, Query(changeset=self.id))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ObjectId):
            return self.id == other
        return isinstance(other, Changeset) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<Changeset {self.id}>"


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


def _found(near: Source, query: Query) -> Iterator[tuple[Source, VersionRecord]]:
    return ((near, record) for record in near.store.find(query))


def _one_per_store(sources: Sources, using: str | None) -> list[Source]:
    return list({id(source.store): source for source in sources.all(using=using)}.values())


def find_changesets(
    sources: Sources,
    *,
    user: Any = None,
    since: datetime | None = None,
    until: datetime | None = None,
    touching: type[Any] | None = None,
    reason: str | None = None,
) -> list[Changeset]:
    """
    The changesets with a version that fulfils every condition, oldest first.

    Bounds: `since` and `until` are inclusive, aware. `touching` is a tracked class. `reason` must be equal.
    """
    query = Query(
        user=None if user is None else user_wanted(user),
        before=None if until is None else _just_after(aware(until, name="until")),
    )
    if touching is not None:
        source = sources.of_class(touching)
        query = replace(query, collections=source.namespaces, classes=documents.stored_names(touching))
    low = None if since is None else aware(since, name="since")
    found: dict[ObjectId, None] = {}
    for _source, record in records_of(sources, query):
        is_wanted = (low is None or record.at >= low) and reason in (None, record.context.reason)
        if is_wanted and record.changeset is not None:
            found.setdefault(record.changeset)
    return [Changeset(sources, changeset_id) for changeset_id in found]


def _just_after(moment: datetime) -> datetime:
    """The first millisecond behind a moment: the store's bounds are exclusive."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000) + timedelta(milliseconds=1)
