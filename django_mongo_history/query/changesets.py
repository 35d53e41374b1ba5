"""Changesets by condition."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.query.history import user_wanted
from django_mongo_history.query.moments import aware
from django_mongo_history.query.records import drops_of, records_of
from django_mongo_history.query.sources import Sources
from django_mongo_history.query.version import Changeset
from django_mongo_history.storage.base import Query


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
    The changesets with a version, or a drop, that fulfils every condition, oldest first.

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
    drops = [drop.tombstone for drop in drops_of(sources, query)]
    versions = (record for _source, record in records_of(sources, query))
    told: Iterator[VersionRecord | Tombstone] = heapq.merge(versions, drops, key=lambda one: one.at)
    for one in told:
        is_wanted = (low is None or one.at >= low) and reason in (None, one.context.reason)
        if is_wanted and one.changeset is not None:
            found.setdefault(one.changeset)
    return [Changeset(sources, changeset_id) for changeset_id in found]


def _just_after(moment: datetime) -> datetime:
    """The first millisecond behind a moment: the store's bounds are exclusive."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000) + timedelta(milliseconds=1)
