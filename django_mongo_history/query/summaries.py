"""What a changeset says about itself: who, from where, why, when and what it touched, without what its versions hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.core.model import Context
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.query.records import drops_of, summaries_of
from django_mongo_history.query.sources import Sources
from django_mongo_history.query.who import ContextFacts
from django_mongo_history.revert import Drop
from django_mongo_history.storage.base import Query, Summary


@dataclass(slots=True)
class Told:
    """What is known of one changeset: by its versions, of one store after another, and by its drops."""

    summaries: list[Summary] = field(default_factory=list)
    drops: list[Tombstone] = field(default_factory=list)

    def context(self) -> Context | None:
        firsts = [(*one.first, one.context) for one in self.summaries]
        firsts.extend((one.at, one.id, one.context) for one in self.drops)
        return min(firsts, key=lambda one: one[:2])[2] if firsts else None

    def moments(self) -> list[datetime]:
        dropped = [one.at for one in self.drops]
        return [moment for one in self.summaries for moment in (one.first[0], one.last_at)] + dropped

    def counts(self) -> dict[str, int]:
        """How many versions by stored class name; 0 of a class whose collection was dropped and nothing else."""
        found: dict[str, int] = {}
        for one in self.summaries:
            for (_collection, name), count in one.counts.items():
                found[name] = found.get(name, 0) + count
        for drop in self.drops:
            found.setdefault(drop.document_class, 0)
        return found


class Page:
    """Changesets that were found together: what is asked of one of them is read for all, once."""

    def __init__(self, sources: Sources, ids: Sequence[ObjectId]) -> None:
        self._sources = sources
        self._ids = ids
        self._told: dict[ObjectId, Told] | None = None

    def told(self, changeset_id: ObjectId) -> Told:
        if self._told is None:
            self._told = read_told(self._sources, self._ids)
        return self._told.get(changeset_id) or Told()


def read_told(sources: Sources, ids: Sequence[ObjectId]) -> dict[ObjectId, Told]:
    """What there is to say of these changesets. Cost: a query for all of them, and one for drops, in each store."""
    found: dict[ObjectId, Told] = {}
    for summary in summaries_of(sources, ids):
        found.setdefault(summary.changeset, Told()).summaries.append(summary)
    wanted = Query(changeset=ids[0]) if len(ids) == 1 else Query()
    for drop in drops_of(sources, wanted):
        changeset_id = drop.tombstone.changeset
        if changeset_id is not None and changeset_id in ids:
            found.setdefault(changeset_id, Told()).drops.append(drop.tombstone)
    return found


class ChangesetFacts(ContextFacts):
    """
    A changeset by its id. What it says is read when it is asked for; of changesets that were found together it is read
    for many of them at once, and kept.

    Cost: each first look reads the headers of its versions by the index `changeset`; none of them is replayed.
    """

    def __init__(self, sources: Sources, changeset_id: ObjectId, page: Page | None = None) -> None:
        self._sources = sources
        self._page = page
        self._id = changeset_id

    @property
    def id(self) -> ObjectId:
        """Identity: the same for all versions of the changeset."""
        return self._id

    @property
    def at(self) -> datetime | None:
        """When its first version was made, or its first drop; None where it wrote nothing."""
        return min(self._told.moments(), default=None)

    @property
    def last_at(self) -> datetime | None:
        """When its last version was made, or its last drop; None where it wrote nothing."""
        return max(self._told.moments(), default=None)

    @property
    def classes(self) -> list[type[Any] | str]:
        """
        The classes whose documents it touched, by name; of dropped collections too.

        A class that is not known any more is given by the name that it is stored under.
        """
        return list(self.counts)

    @property
    def counts(self) -> dict[type[Any] | str, int]:
        """How many versions it has of each class that it touched, the classes by name."""
        return {
            documents.find_class(name) or name: count for name, count in sorted(self._told.counts().items())
        }

    @property
    def dropped(self) -> list[str]:
        """The collections, as `database.collection`, that it dropped leaving a tombstone."""
        return [drop.tombstone.collection for drop in self._drops()]

    @property
    def _told(self) -> Told:
        if self._page is not None:
            return self._page.told(self.id)
        return read_told(self._sources, [self.id]).get(self.id) or Told()

    @property
    def _context(self) -> Context:
        return self._told.context() or Context()

    def _drops(self) -> list[Drop]:
        return drops_of(self._sources, Query(changeset=self.id))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ObjectId):
            return self.id == other
        return isinstance(other, ChangesetFacts) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<Changeset {self.id}>"
