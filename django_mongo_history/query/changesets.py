"""Changesets as users hold them: the versions that one request, task, command or block wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
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


def records_of(sources: Sources, query: Query) -> Iterator[tuple[Source, VersionRecord]]:
    """Stored versions of all tracked classes by condition, each with where its document lies."""
    seen: set[str] = set()
    known: dict[tuple[str, str], Source] = {}
    for source in sources.all():
        store_name = getattr(source.store, "name", str(id(source.store)))
        if store_name in seen:
            continue
        seen.add(store_name)
        for record in source.store.find(query):
            place = (record.collection, record.document_class)
            if place not in known:
                known[place] = sources.of_record(record, source)
            yield known[place], record


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
        before=None if until is None else aware(until, name="until"),
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
