"""Archives of known layouts that are there for a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from django_mongo_history import documents
from django_mongo_history.conversion.base import Target
from django_mongo_history.conversion.rows import name_of

_SAMPLE: Final = 200


def discovered(target: Target) -> Iterator[Mapping[str, Any]]:
    """The options of each of them."""
    name = target.source.collection.name
    archive = target.database[f"{name}_history"]
    if has(
        archive, {"changed": {"$exists": True}, "change_info": {"$exists": True}, "id": {"$exists": True}}
    ):
        yield {"preset": "chrononaut"}
    if has(archive, {"t": {"$type": "date"}, "o": {"$in": ["i", "u", "r"]}, "d": {"$type": "object"}}):
        yield {"preset": "mongoose-history"}
    yield from _mongoose_versions(target)
    thingy = {"document_type": target.document_class.__name__, "creation_date": {"$type": "date"},
              "document_id": {"$exists": True}, "operation": {"$exists": True}}  # fmt: skip
    if has(target.database["revision"], thingy):
        yield {"preset": "mongo-thingy"}
    yield from _pattern_copies(target)


def has(collection: Any, query: Mapping[str, Any]) -> bool:
    return collection.find_one(query, {"_id": 1}) is not None


def _mongoose_versions(target: Target) -> Iterator[Mapping[str, Any]]:
    """Rows say nothing of their model: those of a collection with no name of its own count if each sampled one is ours."""
    for collection, counts in ((f"{target.source.collection.name}_versions", any), ("versions", all)):
        query = {
            "refId": {"$exists": True},
            "$or": [{"versions": {"$type": "array"}}, {"refVersion": {"$exists": True}}],
        }
        keys = [row["refId"] for row in target.database[collection].find(query, {"refId": 1}).limit(_SAMPLE)]
        wanted = [target.document_id(key) for key in keys]
        found = target.source.collection.find({"_id": {"$in": wanted}}, {"_id": 1})
        there = {name_of(row["_id"]) for row in found}
        if keys and counts(name_of(one) in there for one in wanted):
            yield {"preset": "mongoose-version", "collection": collection}


def _pattern_copies(target: Target) -> Iterator[Mapping[str, Any]]:
    """policies and policyRevisions, with a policyId in both."""
    declared = documents.stored_field_names(target.document_class)
    name = target.source.collection.name
    short = name.removeprefix("current") or name
    short = short[0].lower() + short[1:]
    singular = f"{short[:-3]}y" if short.endswith("ies") else short.removesuffix("s")
    for collection in dict.fromkeys(
        f"{one}{end}" for one in (singular, short) for end in ("Revisions", "_revisions")
    ):
        row = target.database[collection].find_one(
            {"revision": {"$type": "number"}, "dateSet": {"$exists": True}}
        )
        keys = [one for one in row or () if one != "_id" and one.endswith(("Id", "_id"))]
        key = next(
            (one for one in (f"{singular}Id", f"{singular}_id") if one in keys),
            keys[0] if len(keys) == 1 else None,
        )
        if key is not None:
            matched = {"match_field": key} if key in declared else {}
            yield {"preset": "versioning-pattern", "collection": collection, "key_field": key, **matched}
