"""The indexes of a collection of versions, and places in them."""

from __future__ import annotations

from typing import Any, Final

from pymongo import ASCENDING, IndexModel

from django_mongo_history.core.model import Operation

_LINKS: Final = [
    (name, ASCENDING)
    for name in ("collection", "document_id", "order", "_id", "at", "operation", "before", "after")
]

UPDATES_WITH_SNAPSHOTS: Final = {"operation": Operation.UPDATE.value, "snapshot": {"$exists": True}}

INDEXES: Final = [
    IndexModel(_LINKS, name="links"),
    IndexModel(_LINKS, name="snapshots", partialFilterExpression=UPDATES_WITH_SNAPSHOTS),
    IndexModel([("collection", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)], name="collection_at"),
    IndexModel([("at", ASCENDING), ("_id", ASCENDING)], name="at"),
    IndexModel(
        [("context.user.pk", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)],
        name="user_at",
        partialFilterExpression={"context.user.pk": {"$exists": True}},
    ),
    IndexModel([("changeset", ASCENDING)], name="changeset"),
    IndexModel(
        [("collection", ASCENDING), ("changed", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)],
        name="collection_changed_at",
        partialFilterExpression={"changed": {"$exists": True}},
    ),
    # Updates, of which there are most, are not in it: whoever looks for those finds them in the order of moments.
    IndexModel(
        [("collection", ASCENDING), ("operation", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)],
        name="collection_operation_at",
        partialFilterExpression={"operation": {"$lt": Operation.UPDATE.value}},
    ),
]


def bound(collection: str, document_id: Any, rest: Any) -> list[tuple[str, Any]]:
    """A place in the index `links`: before (MinKey) or behind (MaxKey) all versions of a document."""
    names = [name for name, _direction in _LINKS]
    return list(zip(names, [collection, document_id, *[rest] * (len(names) - 2)], strict=True))
