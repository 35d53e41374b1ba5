"""From classes and stored versions to where their documents lie. Made by `runtime`, used by everything users hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django_mongo_history import documents
from django_mongo_history.capture.attach import plain_of
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.delivery.environment import Environment
from django_mongo_history.reading import Source
from django_mongo_history.registry import Tracked
from django_mongo_history.storage.base import Store


@dataclass(frozen=True, slots=True)
class Sources:
    """
    Where things lie, under the configuration in force.

    `open_store` gives the store for a plain collection's database and makes nothing there: reading writes nothing.
    """

    environment: Environment
    open_store: Callable[[Any], Store]

    def of_class(
        self, document_class: type[Any], *, using: str | None = None, collection: str | None = None
    ) -> Source:
        """
        Where the documents of a class lie now; `using` names another connection, `collection` another collection.

        Raises: NotTrackedError.
        """
        tracked = self.environment.registry.require(document_class)
        plain = documents.plain_collection(document_class, plain_of, using=using, name=collection)
        return self._source(tracked, plain)

    def of_instance(
        self, document: Any, *, using: str | None = None, collection: str | None = None
    ) -> Source:
        """Where a document lies: a switched instance knows its own place. Raises: NotTrackedError."""
        tracked = self.environment.registry.require(type(document))
        if using is None and collection is None:
            return self._source(tracked, plain_of(documents.collection_of(document)))
        return self.of_class(type(document), using=using, collection=collection)

    def of_record(self, record: VersionRecord | Tombstone, near: Source) -> Source:
        """
        Where the document of a stored version lies, on the client of `near`.

        A class that is not known or not tracked any more has no rules of its own left: those it was stored under were
        applied then.
        """
        return self.of_stored(record.document_class, record.collection, near)

    def of_stored(self, class_name: str, collection: str, near: Source) -> Source:
        """The same by the name that the class is stored under, and the full namespace."""
        found = documents.find_class(class_name)
        tracked = None if found is None else self.environment.registry.get(found)
        if tracked is not None and tracked.collections:
            today = self.of_class(tracked.document_class)
            if collection in today.namespaces:
                return today
        if tracked is None:
            tracked = Tracked(found or object, class_name)
        database, _, name = collection.partition(".")
        client = near.collection.database.client
        plain = client[database].get_collection(name, codec_options=near.collection.codec_options)
        return self._source(tracked, plain)

    def of_tombstone(self, tombstone: Tombstone, near: Source) -> tuple[Source, ...]:
        """Where the documents that went with a drop lay, on the client of `near`: one for each class that shared it."""
        first = self.of_record(tombstone, near)
        found = documents.find_class(tombstone.document_class)
        sharing = () if found is None else documents.sharing(documents.base_of_collection(found))
        tracked = [self.environment.registry.get(one) for one in sharing]
        others = [
            replace(first, tracked=one)
            for one in tracked
            if one is not None and one.document_class is not first.tracked.document_class
        ]
        is_tracked = self.environment.registry.get(first.tracked.document_class) is not None
        return (first, *others) if is_tracked or not others else tuple(others)

    def all(self, *, using: str | None = None) -> Iterator[Source]:
        """One source for each tracked class; `using` names another connection."""
        for tracked in self.environment.registry:
            yield self.of_class(tracked.document_class, using=using)

    def _source(self, tracked: Tracked, plain: Any) -> Source:
        return Source(tracked, plain, self.open_store(plain), self.environment)
