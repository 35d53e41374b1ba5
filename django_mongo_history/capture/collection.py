"""
The recording collection: what a tracked class's `_get_collection()` returns.

Every write of MongoEngine passes here, whatever it is called there. Reads, and writes that are not recorded, are the
driver's own methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymongo.collection import Collection

from django_mongo_history.capture.calls import RecordedCalls, Subject
from django_mongo_history.capture.methods import RecordingMethods
from django_mongo_history.driver import topology
from django_mongo_history.driver.images import Images, MongomockImages, PyMongoImages


class RecordingCollection(RecordingMethods, Collection[Any]):
    """A PyMongo collection that records."""

    def __init__(self, collection: Collection[Any], subject: Subject) -> None:
        Collection.__init__(
            self,
            collection.database,
            collection.name,
            codec_options=collection.codec_options,
            read_preference=collection.read_preference,
            write_concern=collection.write_concern,
            read_concern=collection.read_concern,
        )
        self._subject = subject
        self._cached_images: PyMongoImages | None = None

    @property
    def _images(self) -> Images:
        if self._cached_images is None:
            self._cached_images = PyMongoImages(self, computes=topology.computes_images(self.database.client))
        return self._cached_images

    def _beneath(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(super(RecordedCalls, self), name)
        return method

    def _acknowledged(self) -> bool:
        return bool(self.write_concern.acknowledged)

    def with_options(self, *args: Any, **options: Any) -> RecordingCollection:
        """As PyMongo's, and still recording: MongoEngine calls it before nearly every write."""
        return RecordingCollection(Collection.with_options(self, *args, **options), self._subject)

    def _plain(self) -> Collection[Any]:
        """The same collection, not recording."""
        return Collection.with_options(self)


class RecordingMock(RecordingMethods):
    """A mongomock collection that records: it cannot be subclassed as PyMongo's can, so it is delegated to."""

    def __init__(self, collection: Any, subject: Subject) -> None:
        self._collection = collection
        self._subject = subject

    @property
    def _images(self) -> Images:
        return MongomockImages(self._collection)

    def _beneath(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._collection, name)
        return method

    def with_options(self, *args: Any, **options: Any) -> RecordingMock:
        return RecordingMock(self._collection.with_options(*args, **options), self._subject)

    def _plain(self) -> Any:
        """The same collection, not recording."""
        return self._collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def __getitem__(self, name: str) -> Any:
        return self._collection[name]

    def __eq__(self, other: object) -> bool:
        return bool(self._collection == getattr(other, "_collection", other))

    def __hash__(self) -> int:
        return hash(self._collection)


def recording(collection: Any, subject: Subject) -> Any:
    """The recording form of a driver's collection; one that records already stays as it is."""
    if isinstance(collection, RecordingMethods):
        return collection
    if type(collection) is Collection:
        return RecordingCollection(collection, subject)
    return RecordingMock(collection, subject)
