"""
All documents of a class as they stood: one after another, or written beside the live ones as a collection to query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from pymongo.collection import Collection

from django_mongo_history import documents
from django_mongo_history.driver import building
from django_mongo_history.errors import CollectionExistsError
from django_mongo_history.reading import Source

_MOST_BYTES: Final = 200
"""Of a collection's name: the server allows 255 with the database and with what is hung on while it is built."""

Progress = Callable[[int], None]


class AsOf(Iterator[Any]):
    """
    Every document of a class as it stood at `moment`, as unsaved instances, in the order of `_id`, streamed once.

    `into` reads all of them afresh, however far this has come.
    """

    def __init__(
        self,
        source: Source,
        moment: datetime,
        *,
        instances: Callable[[], Iterator[Any]],
        states: Callable[[], Iterator[bytes]],
    ) -> None:
        self.moment = moment
        self._source = source
        self._instances = instances()
        self._states = states

    def __next__(self) -> Any:
        return next(self._instances)

    def into(self, name: str, *, progress: Progress = lambda count: None) -> Materialized:
        """
        Write them into the collection `name` beside the live one, where every query, aggregation and index works.

        It appears all at once, with the class's indexes, in the place of one that an earlier call made. What is hidden
        or untracked today is not in it. No index lets documents expire in it, and unique indexes that the documents of
        then do not allow are left out (`skipped_indexes`). Nothing of this is recorded.
        `progress` is called with the number of documents written since its last call.
        Cost: reads the whole class and its versions, writes it once; memory holds a chunk of documents.
        Raises: CollectionExistsError where the name belongs to anything else, with nothing written; ValueError for a
        name that cannot be one, or inside of a transaction; TypeError on mongomock; BrokenChainError at a document
        whose state then cannot be known. After any error nothing is left of it.
        """
        collection = self._source.collection
        if not isinstance(collection, Collection):
            raise TypeError(
                "into(): mongomock cannot hold the mark by which the collection is known as one of ours"
            )
        if self._source.bound_session() is not None:
            raise ValueError(
                "into(): collections are not made and renamed in a transaction; call it outside of one"
            )
        _check_name(name, self._source)
        if not building.is_free(collection.database, name):
            raise occupied(self._source, name)
        mark = {
            "source": self._source.namespace,
            "document_class": documents.class_name_of(self._source.tracked.document_class),
            "moment": self.moment,
            "made_at": self._source.now(),
        }
        try:
            count, skipped = building.build(
                collection,
                name,
                self._states(),
                mark=mark,
                indexes=self._indexes(),
                progress=progress,
            )
        except building.OccupiedError:
            raise occupied(self._source, name) from None
        return Materialized(self._source, name, {**mark, "count": count}, skipped)

    def _indexes(self) -> list[dict[str, Any]]:
        there = building.index_specs(self._source.collection)
        return building.merged(there, documents.declared_indexes(self._source.tracked.document_class))

    def __repr__(self) -> str:
        return f"<{self._source.tracked.document_class.__name__} as of {self.moment.isoformat()}>"


class Materialized:
    """
    A collection of documents as they stood at `moment`, made by `as_of(...).into(...)`; `made_at`: when that was.

    `skipped_indexes`: the names of unique indexes that its documents do not allow.
    """

    def __init__(
        self, source: Source, name: str, mark: Mapping[str, Any], skipped_indexes: list[str] | None = None
    ) -> None:
        self.collection_name = name
        self.moment: datetime = mark["moment"]
        self.made_at: datetime = mark["made_at"]
        self.skipped_indexes = skipped_indexes or []
        self._source = source

    @property
    def objects(self) -> Any:
        """
        The class's queryset on this collection; writes through it are not recorded.

        A document that is loaded by it knows nothing of this collection: its `save()` is one of the live document.
        """
        return documents.queryset_on(self._source.tracked.document_class, self.collection)

    @property
    def collection(self) -> Any:
        """The driver's collection."""
        live = self._source.collection
        return live.database.get_collection(self.collection_name, codec_options=live.codec_options)

    @property
    def count(self) -> int:
        """How many documents it holds now."""
        return int(self.collection.count_documents({}))

    def drop(self) -> bool:
        """
        Drop it; whether it was there.

        Raises: CollectionExistsError where there is a collection of this name that is not ours: it stays.
        """
        try:
            return building.drop(self._source.collection.database, self.collection_name)
        except building.OccupiedError:
            raise occupied(self._source, self.collection_name) from None

    def __repr__(self) -> str:
        name = self._source.tracked.document_class.__name__
        return f"<{name} as of {self.moment.isoformat()} in {self.collection_name!r}>"


def materialized(source: Source) -> list[Materialized]:
    """The collections that were made of this class's documents in this place and are still there, by name."""
    own = {
        "source": source.namespace,
        "document_class": documents.class_name_of(source.tracked.document_class),
    }
    if not isinstance(source.collection, Collection):  # mongomock, which holds no marks
        return []
    found = building.marks(source.collection.database)
    return [
        Materialized(source, name, mark)
        for name, mark in sorted(found.items())
        if all(mark.get(key) == value for key, value in own.items())
    ]


def occupied(source: Source, name: str) -> CollectionExistsError:
    """The error for a name that is taken."""
    database = source.collection.database.name
    return CollectionExistsError(
        f"The collection {database}.{name} exists and was not made by as_of(...).into(...), so it is left as it is. "
        "Take another name, or rename or drop that collection yourself.",
        collection=f"{database}.{name}",
        document_class=source.tracked.document_class,
    )


def _check_name(name: str, source: Source) -> None:
    if not isinstance(name, str):
        raise TypeError(f"into(): expected the name of a collection, got {type(name).__name__}")
    database = source.collection.database.name
    is_wrong = not name or name.startswith((".", "system.")) or name.endswith(".")
    if is_wrong or "$" in name or "\0" in name or ".." in name:
        raise ValueError(f"into(): {name!r} cannot be the name of a collection")
    if len(f"{database}.{name}".encode()) > _MOST_BYTES:
        raise ValueError(
            f"into(): {name!r} is too long; {database}. and the name have {_MOST_BYTES} bytes at most"
        )
    if f"{database}.{name}" in (*source.namespaces, source.store.name):
        raise occupied(source, name)
