"""
Writes without a reason, where one is required: refused before they reach the server.

Whose documents a call may touch is known from its class most of the time. Where classes of one collection differ in
what they ask for, inserts are looked at, and other writes ask the server whom their filter finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.errors import OperationFailure

from django_mongo_history import context, documents
from django_mongo_history.capture.works import pins_id
from django_mongo_history.core.model import DocumentKey
from django_mongo_history.delivery.environment import Environment
from django_mongo_history.driver.images import Images
from django_mongo_history.registry import Tracked


@dataclass(frozen=True, slots=True)
class Reach:
    """What one request of a call is about: the documents that its filter finds, or (`document`) one to be inserted."""

    query: Any = None
    document: Any = None
    options: Mapping[str, Any] | None = None

    @property
    def key(self) -> Any:
        """The `_id` of the only document that it can be about, in a list; else nothing."""
        if self.document is not None:
            return [self.document["_id"]] if "_id" in self.document else []
        return pinned_ids(self.query)


@dataclass(frozen=True, slots=True)
class Check:
    """One call before it is made. `session`: the caller's, or None."""

    environment: Environment
    document_class: type[Any]
    images: Images
    captured: context.Captured
    session: Any = None

    def __call__(self, reaches: Iterable[Reach]) -> None:
        """Raises: ReasonRequiredError."""
        for reach in reaches:
            for tracked in self._without_reason(reach):
                self.environment.refuse(tracked, str(self.images.plain.full_name))

    def _without_reason(self, reach: Reach) -> list[Tracked]:
        """The class that is without a reason, of the documents that this request is about."""
        registry = self.environment.registry
        if reach.document is not None:
            name = reach.document.get("_cls")
            of_it = registry.of_image(name if isinstance(name, str) else None, self.document_class)
            return [] if self._is_fine(of_it, reach) else [of_it] if of_it is not None else []
        own = registry.get(self.document_class)
        wanting = [one for one in self._family() if not self._is_fine(one, reach)]
        if not wanting:
            return []
        makes_one = bool((reach.options or {}).get("upsert"))
        found = [] if self._is_uniform() else [one for one in wanting if self._finds(reach, one)][:1]
        if found or own is None or self._is_fine(own, reach):
            return found
        # Of a strict class itself a write is fine only where all that it finds is of laxer ones.
        return [own] if makes_one or self._is_uniform() or not self._finds(reach) else []

    def _family(self) -> list[Tracked]:
        """The tracked classes whose documents may lie in the collection, as they are tracked; each once."""
        registry = self.environment.registry
        members = [registry.concerned(self.document_class), *map(registry.get, self._classes())]
        return list({one.document_class: one for one in members if one is not None}.values())

    def _classes(self) -> list[type[Any]]:
        base = documents.base_of_collection(self.document_class)
        return list(dict.fromkeys([self.document_class, base, *documents.sharing(base)]))

    def _is_uniform(self) -> bool:
        """Whether all classes of the collection are tracked and strict, so that nobody has to look."""
        registry = self.environment.registry
        return all(self.environment.is_strict(registry.get(one)) for one in self._classes())

    def _is_fine(self, tracked: Tracked | None, reach: Reach) -> bool:
        if tracked is None or not self.environment.is_strict(tracked):
            return True
        if tracked.only_in_scopes and not self._is_in_scope(reach):
            return True  # it will not be recorded
        captured = self.captured
        if tracked.document_class is not self.document_class:
            captured = self.environment.capture(tracked.document_class, tracked)
        for document_id in reach.key:
            captured = context.noted(captured, DocumentKey(str(self.images.plain.full_name), document_id))
        return captured.has_reason

    def _is_in_scope(self, reach: Reach) -> bool:
        """Whether a document that the request is about may be one of those that are recorded here."""
        namespace = str(self.images.plain.full_name)
        keys = [DocumentKey(namespace, document_id) for document_id in reach.key]
        is_create = reach.document is not None or bool((reach.options or {}).get("upsert"))
        if not keys:
            return context.has_scope()
        return any(context.scope_of(key, is_create=is_create) is not None for key in keys)

    def _finds(self, reach: Reach, tracked: Tracked | None = None) -> bool:
        """Whether the filter finds a document, of this very class, or cannot be asked."""
        options = {
            name: value
            for name in ("collation", "let")
            if (value := (reach.options or {}).get(name)) is not None
        }
        query = {"$and": [reach.query, {} if tracked is None else self._of_class(tracked)]}
        try:
            return self.images.find_one(query, self.session, **options) is not None
        except OperationFailure:
            return True

    def _of_class(self, tracked: Tracked) -> dict[str, Any]:
        names: list[Any] = [documents.class_name_of(tracked.document_class)]
        fallback = self.environment.registry.concerned(self.document_class)
        if fallback is not None and fallback.document_class is tracked.document_class:
            names.append(None)  # no `_cls` at all
        return {"_cls": {"$in": names}}


def pinned_ids(query: Any) -> list[Any]:
    """The `_id` of the only document that a filter can find, in a list; else nothing."""
    if pins_id(query):
        return [query["_id"]]
    parts = query.get("$and") if isinstance(query, Mapping) else None
    return next(([one["_id"]] for one in parts or () if pins_id(one)), [])
