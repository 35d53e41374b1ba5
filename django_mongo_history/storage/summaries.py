"""What changesets are, counted by the server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bson import ObjectId

from django_mongo_history.core.model import Context
from django_mongo_history.storage.base import Summary


def pipeline(changesets: Sequence[ObjectId]) -> list[dict[str, Any]]:
    """A group for each collection and class of each changeset; for `summaries_of_groups`."""
    # Documents compare field by field, so the least of these is the first version's, without a sort.
    first = {"at": "$at", "id": "$_id", "context": {"$ifNull": ["$context", {}]}}
    return [
        {"$match": {"changeset": {"$in": list(changesets)}, "at": {"$exists": True}}},
        {"$project": {"changeset": 1, "at": 1, "context": 1, "collection": 1, "document_class": 1}},
        {
            "$group": {
                "_id": {
                    "changeset": "$changeset",
                    "collection": "$collection",
                    "class": "$document_class",
                },
                "first": {"$min": first},
                "last_at": {"$max": "$at"},
                "count": {"$sum": 1},
            }
        },
    ]


def summaries_of_groups(found: Iterable[dict[str, Any]]) -> list[Summary]:
    """A summary for each changeset, from the groups that `pipeline` makes."""
    groups: dict[ObjectId, list[dict[str, Any]]] = {}
    for row in found:
        groups.setdefault(row["_id"]["changeset"], []).append(row)
    return [_summary(changeset, some) for changeset, some in groups.items()]


def _summary(changeset: ObjectId, groups: Sequence[dict[str, Any]]) -> Summary:
    """A changeset from what was grouped by its collections and classes."""
    first = min((group["first"] for group in groups), key=lambda one: (one["at"], one["id"]))
    return Summary(
        changeset=changeset,
        first=(first["at"], first["id"]),
        last_at=max(group["last_at"] for group in groups),
        context=Context.from_bson(first["context"]),
        counts={(group["_id"]["collection"], group["_id"]["class"]): group["count"] for group in groups},
    )
