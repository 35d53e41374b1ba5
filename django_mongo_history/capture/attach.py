"""
Where classes begin and end to be recorded: `_get_collection` of the tracked ones and of all that share a collection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_mongo_history import documents
from django_mongo_history.capture.collection import RecordingMethods, Subject, recording
from django_mongo_history.delivery.environment import Environment


class Attachments:
    """The classes that hand out recording collections. `environment` gives the one in force at each write."""

    def __init__(self, environment: Callable[[], Environment]) -> None:
        self._environment = environment
        self._wrapped: dict[type, set[type]] = {}
        self._seen_classes = 0

    def attach(self, document_class: type) -> None:
        """Record this class; querysets made before keep the collection that they were made with."""
        self._wrapped.setdefault(document_class, set())
        self._scan(document_class)

    def detach(self, document_class: type) -> None:
        """Undo `attach`; classes that another tracked one needs stay recorded."""
        wrapped = self._wrapped.pop(document_class, set())
        still_needed = set().union(*self._wrapped.values())
        for member in wrapped - still_needed:
            documents.unwrap_collection(member, plain_of)

    def refresh(self) -> None:
        """Look for classes that were imported since and share a collection. Cost: nothing where there are none."""
        count = documents.class_count()
        if count != self._seen_classes:
            self._seen_classes = count
            for document_class in list(self._wrapped):
                self._scan(document_class)

    def _scan(self, document_class: type) -> None:
        wrapped = self._wrapped[document_class]
        registry = self._environment().registry
        base = documents.base_of_collection(document_class)
        for member in dict.fromkeys([base, document_class, *documents.sharing(base)]):
            if registry.get(member) is None:
                registry.adopt(member, document_class)
            if member in wrapped or any(
                above in wrapped for above in member.__mro__[1:] if _inherits(member, above)
            ):
                continue
            documents.wrap_collection(member, self._record)
            wrapped.add(member)

    def _record(self, document_class: type[Any], collection: Any) -> Any:
        self.refresh()
        return recording(collection, Subject(document_class, self._environment))


def plain_of(collection: Any) -> Any:
    """The driver's collection beneath a recording one; any other as it is."""
    return collection.plain() if isinstance(collection, RecordingMethods) else collection


def _inherits(member: type, above: type) -> bool:
    """Whether the class takes its collection's getter from that base."""
    return "_get_collection" not in member.__dict__ and issubclass(member, above)
