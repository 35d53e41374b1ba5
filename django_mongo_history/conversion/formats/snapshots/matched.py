"""Documents that are found by another field of theirs than `_id`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pymongo.collection import Collection

from django_mongo_history.conversion.base import Target
from django_mongo_history.conversion.facts import at
from django_mongo_history.conversion.rows import name_of
from django_mongo_history.core import values


@dataclass(frozen=True)
class Matched(Target):
    """A target whose documents are found by another field of theirs than `_id`. `unmatched`: keys that none has."""

    match_field: str = ""
    unmatched: set[Any] = field(default_factory=set)

    def document_id(self, key: Any) -> Any:
        found = list(self._exact.find({self.match_field: key}, {"_id": 1}).limit(2))
        if len(found) == 1:
            self.unmatched.discard(name_of(key))
            return found[0]["_id"]
        self.unmatched.add(name_of(key))
        return key

    def keys_of(self, document_id: Any) -> list[Any]:
        found = self._exact.find_one({"_id": {"$eq": document_id}}, {self.match_field: 1})
        key = None if found is None else at(found, self.match_field)
        return [] if key is None else [key]

    @property
    def _exact(self) -> Any:
        collection = self.source.collection
        is_real = isinstance(collection, Collection)
        return collection.with_options(codec_options=values.EXACT) if is_real else collection
