"""Which documents a command is about: all tracked classes, some of them, or some documents of one; and their versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from typing import Any

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.core.model import ABSENT, Operation, UserRef, VersionRecord
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.query.records import drops_of, records_of
from django_mongo_history.query.sources import Sources
from django_mongo_history.reading import Source
from django_mongo_history.revert import Drop
from django_mongo_history.storage.base import Query


@dataclass(frozen=True, slots=True)
class Conditions:
    """
    Which versions: all conditions hold together. Bounds: `after` and `before` are exclusive.

    `users`: any of them; one text can be a label as well as a key of several types.
    """

    after: datetime | None = None
    before: datetime | None = None
    users: Sequence[UserRef] = ()
    operation: Operation | None = None
    changeset: ObjectId | None = None
    unreadable: Callable[[BrokenChainError], None] | None = None
    """Told of stored versions that cannot be read; without it they are raised."""


@dataclass(frozen=True, slots=True)
class Selection:
    """
    `classes`: none means all that are tracked. `document_ids`: as they lie in the database, of the one class there is;
    None means all. `using`: another connection.
    """

    sources: Sources
    classes: Sequence[type[Any]] = ()
    document_ids: Sequence[Any] | None = None
    using: str | None = None

    def targets(self) -> list[tuple[Source, Sequence[Any] | None]]:
        """Where the documents lie, with their ids; a class whose base is there too, in one collection, comes with it."""
        found = [self.sources.of_class(one, using=self.using) for one in self.classes]
        found = found or list(self.sources.all(using=self.using))
        return [(source, self.document_ids) for source in found if not _is_covered(source, found)]

    def records(
        self, wanted: Conditions, *, newest_first: bool = False
    ) -> Iterator[tuple[Source, VersionRecord]]:
        """The stored versions that fulfil the conditions, sorted by `at`, streamed."""
        return records_of(self.sources, *self._queries(wanted, newest_first), using=self.using)

    def drops(self, wanted: Conditions, *, newest_first: bool = False) -> list[Drop]:
        """The drops that fulfil the conditions, sorted by `at`; of these documents only, where some are named."""
        found = drops_of(self.sources, *self._queries(wanted, newest_first), using=self.using)
        return [replace(drop, document_ids=self.document_ids) for drop in found]

    def _queries(self, wanted: Conditions, newest_first: bool) -> list[Query]:  # noqa: FBT001 - passed on
        users: Sequence[UserRef | None] = wanted.users or [None]
        return [
            Query(
                **place,
                user=user,
                operation=wanted.operation,
                changeset=wanted.changeset,
                after=wanted.after,
                before=wanted.before,
                newest_first=newest_first,
                unreadable=wanted.unreadable,
            )
            for place, user in product(self._places(), users)
        ]

    def _places(self) -> list[dict[str, Any]]:
        """What the queries say about documents: one for each class and document."""
        places = [
            {
                "collections": self.sources.of_class(one, using=self.using).namespaces,
                "classes": documents.stored_names(one),
            }
            for one in self.classes
        ]
        ids = [ABSENT] if self.document_ids is None else self.document_ids
        return [{**place, "document_id": one} for place, one in product(places or [{}], ids)]


def _is_covered(source: Source, all_sources: Sequence[Source]) -> bool:
    document_class = source.tracked.document_class
    return any(
        other is not source
        and other.namespace == source.namespace
        and other.tracked.document_class in document_class.__mro__[1:]
        for other in all_sources
    )
