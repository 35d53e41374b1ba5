"""Documents that went with their collection, for plans: those that have a version to come back from, and how many have not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from django_mongo_history.core.model import DocumentKey
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.reading import DocumentHistory, Source, scan


@dataclass(frozen=True, slots=True)
class Drop:
    """
    One drop of a collection. `sources`: the tracked classes whose documents it took, all over the same collection.

    `document_ids`: only these, None for all.
    """

    tombstone: Tombstone
    sources: tuple[Source, ...]
    document_ids: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """One document that went with its collection: in place of a version of its own, the tombstone's id."""

    document_id: Any
    id: ObjectId


@dataclass(frozen=True, slots=True)
class Lost:
    """Documents that a drop took and that have no version. `tracked` names a class of theirs."""

    tombstone: Tombstone
    label: str
    count: int

    @property
    def key(self) -> DocumentKey:
        return DocumentKey(self.tombstone.collection, None)

    def __str__(self) -> str:
        return (
            f"{self.count} of the {self.tombstone.documents} documents that went with {self.tombstone.collection} when "
            f"it was dropped at {self.tombstone.at.isoformat(timespec='milliseconds')} have no version and cannot be "
            "brought back"
        )


def is_dropped(history: DocumentHistory, tombstone_id: ObjectId) -> bool:
    """Whether the document went with that drop."""
    return any(step.tombstone is not None and step.tombstone.id == tombstone_id for step in history.steps)


def dropped(drop: Drop) -> Iterator[tuple[Source, DocumentHistory]]:
    """
    The documents that have a version and went with a drop, streamed; once for each source.

    Cost: reads the history of every document of the collection.
    """
    wanted = None if drop.document_ids is None else list(drop.document_ids)
    for source in drop.sources:
        for histories in scan(source, document_ids=wanted, chunk_size=source.environment.chunk_size):
            for history in histories:
                if is_dropped(history, drop.tombstone.id):
                    yield source, history


class Census:
    """How many documents of each drop were seen."""

    def __init__(self) -> None:
        self._seen: dict[ObjectId, int] = {}

    def see(self, histories: Iterable[DocumentHistory]) -> None:
        """Count these; each document is to be shown once."""
        for history in histories:
            for step in history.steps:
                if step.tombstone is not None:
                    self._seen[step.tombstone.id] = self._seen.get(step.tombstone.id, 0) + 1

    def lost(self, tombstone: Tombstone, label: str) -> Lost | None:
        """What is missing from a drop of which every document with a version was seen."""
        missing = (tombstone.documents or 0) - self._seen.get(tombstone.id, 0)
        return Lost(tombstone, label, missing) if missing > 0 else None
