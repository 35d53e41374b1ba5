"""
Everything that is known of some documents, as of one moment: rows, the live document, versions.

Note [Rows and documents at one moment]
The old tracker writes a document first and its rows a moment later, in another collection, without a transaction. So the
documents are read first, then, a little later, whatever rows came since the stream of rows was opened, and then the
documents again. Where one has changed meanwhile, all of this is done once more for it: else the rows of the last write
might be missing, and the write would look as if it had gone past the tracker. Versions are made in between (`look`, `stale`), so
that nobody waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.conversion.base import Format
from django_mongo_history.conversion.engine import Entity
from django_mongo_history.conversion.rows import Reader, Row, Rows, name_of
from django_mongo_history.core import values
from django_mongo_history.core.identity import class_name, id_of
from django_mongo_history.core.model import ABSENT, Entry, VersionRecord
from django_mongo_history.reading import Source, read_documents

SETTLE_S: Final = 0.05
"""How long after its document a row of the old tracker may come."""
SKEW: Final = timedelta(minutes=5)
"""By how much the clocks of those who write rows may be behind the one of this machine."""
_MOST_TRIES: Final = 5


@dataclass(slots=True)
class Gathered:
    """What is ready to be converted, and how many documents are of classes that are not meant."""

    entities: list[Entity]
    skipped: int = 0


@dataclass(slots=True)
class Looked:
    """What a first look has shown, by the names of keys. `odd`: keys that are spelled otherwise in the documents."""

    rows: dict[Any, Rows]
    ids: dict[Any, Any] = field(default_factory=dict)
    images: dict[Any, bytes] = field(default_factory=dict)
    entities: dict[Any, Entity] = field(default_factory=dict)
    odd: list[Any] = field(default_factory=list)
    skipped: set[Any] = field(default_factory=set)
    read_at: float = 0.0


class Gathering:
    """Gathers for one source. `now` gives aware moments."""

    def __init__(self, source_format: Format, reader: Reader, source: Source) -> None:
        self._format = source_format
        self._reader = reader
        self._source = source
        self._document_class = source.tracked.document_class
        base = documents.base_of_collection(self._document_class)
        registry = source.environment.registry
        self._takes_gone = base is self._document_class or registry.get(base) is None

    def gather(self, some: Sequence[Rows], *, opened_at: datetime) -> Gathered:
        """The entities of these rows, whose stream was opened at that moment."""
        found: dict[Any, Entity] = {}
        left = {name_of(rows.key): rows for rows in some}
        skipped: set[Any] = set()
        for last in (number == _MOST_TRIES - 1 for number in range(_MOST_TRIES)):
            if not left:
                break
            left = self._try(left, found, skipped, opened_at=opened_at, takes_all=last)
        ordered = (found.get(name_of(rows.key)) for rows in some)
        return Gathered([one for one in ordered if one is not None], len(skipped))

    def look(self, some: Sequence[Rows]) -> Looked:
        """The same at once, of documents that nobody may be writing: `stale` says of which that was not so."""
        looked = Looked({name_of(rows.key): rows for rows in some})
        looked.ids = {name: self._format.target.document_id(rows.key) for name, rows in looked.rows.items()}
        ids = list(looked.ids.values())
        looked.images = self._images(ids)
        looked.read_at = time.monotonic()
        entries = self._entries(ids)
        for name, document_id in looked.ids.items():
            place = values.sort_key(document_id)
            image, rows = looked.images.get(place), looked.rows[name]
            if not values.same(document_id, rows.key):
                looked.odd.append(name)
            elif self._is_meant(image):
                looked.entities[name] = self._entity(document_id, rows.rows, image, entries.get(place, ()))
            else:
                looked.skipped.add(name)
        return looked

    def stale(self, looked: Looked, *, opened_at: datetime) -> list[Rows]:
        """Those that have to be gathered once more: their document has changed since, or rows of theirs have come."""
        time.sleep(max(0.0, SETTLE_S - (time.monotonic() - looked.read_at)))
        fresh = self._reader.of_keys([rows.key for rows in looked.rows.values()], since=opened_at - SKEW)
        again = self._images(list(looked.ids.values()))
        names = list(looked.odd)
        for name, document_id in looked.ids.items():
            place = values.sort_key(document_id)
            rows = looked.rows[name]
            has_more = name in fresh and self._joined(rows, fresh[name]) is not rows
            if name not in looked.odd and (has_more or again.get(place) != looked.images.get(place)):
                names.append(name)
        return [looked.rows[name] for name in names]

    def _try(
        self,
        some: Mapping[Any, Rows],
        found: dict[Any, Entity],
        skipped: set[Any],
        *,
        opened_at: datetime,
        takes_all: bool,
    ) -> dict[Any, Rows]:
        """Those of which the document changed while it was read are left for another try."""
        keys = {name: self._format.target.document_id(rows.key) for name, rows in some.items()}
        ids = list(keys.values())
        images = self._images(ids)
        read_at = time.monotonic()
        entries = self._entries(ids)
        time.sleep(max(0.0, SETTLE_S - (time.monotonic() - read_at)))
        rows = self._completed(some, keys, opened_at)
        again = self._images(ids)
        left: dict[Any, Rows] = {}
        for name, document_id in keys.items():
            place = values.sort_key(document_id)
            image = images.get(place)
            if image != again.get(place) and not takes_all:
                left[name] = rows[name]
            elif self._is_meant(image):
                found[name] = self._entity(document_id, rows[name].rows, image, entries.get(place, ()))
            else:
                skipped.add(name)
        return left

    def _images(self, ids: Sequence[Any]) -> dict[Any, bytes]:
        read = self._source.images.find({"_id": {"$in": list(ids)}}, None)
        return {values.sort_key(id_of(image)): image for image in read}

    def _entries(self, ids: Sequence[Any]) -> dict[Any, list[Entry]]:
        found: dict[Any, list[Entry]] = {}
        for entry in self._source.entries_of(ids, None):
            found.setdefault(values.sort_key(entry.document_id), []).append(entry)
        return found

    def _completed(
        self, some: Mapping[Any, Rows], keys: Mapping[Any, Any], opened_at: datetime
    ) -> dict[Any, Rows]:
        """The rows with those that came since, and those under another spelling of the key."""
        completed = dict(some)
        fresh = self._reader.of_keys([rows.key for rows in some.values()], since=opened_at - SKEW)
        for name, more in fresh.items():
            if name in completed:
                completed[name] = self._joined(completed[name], more)
        for name, document_id in keys.items():
            if not values.same(document_id, completed[name].key):
                for more in self._reader.of_keys([document_id]).values():
                    completed[name] = self._joined(completed[name], more)
        return completed

    def _joined(self, one: Rows, other: Rows) -> Rows:
        known = {_name(row.id) for row in one.rows}
        new = [row for row in other.rows if _name(row.id) not in known]
        if not new:
            return one
        rows = sorted([*one.rows, *new], key=self._sort_key)
        return Rows(one.key, rows, one.size + other.size)

    def _sort_key(self, row: Row) -> Any:
        return [values.sort_key(_at(row.values, name)) for name in self._format.sort]

    def _is_meant(self, image: bytes | None) -> bool:
        if image is None:
            return self._takes_gone  # which class below the base it was, nobody may be able to say
        return documents.is_stored_as(self._document_class, class_name(image))

    def _entity(
        self, document_id: Any, rows: Sequence[Row], image: bytes | None, entries: Iterable[Entry]
    ) -> Entity:
        entity = Entity(document_id, rows, image)
        known = list(entries)
        if known:
            stored, live = self._parted(known)
            entity.stored, entity.entries = stored, known
            if live:
                entity.live = read_documents(self._source, [(document_id, live, image)])[0]
        return entity

    def _parted(self, entries: Sequence[Entry]) -> tuple[dict[ObjectId, list[Any]], list[Entry]]:
        """Versions of this source with the rows that they come from, and all others."""
        records = self._source.store.records([entry.id for entry in entries])
        stored: dict[ObjectId, list[Any]] = {}
        live: list[Entry] = []
        for entry in entries:
            rows = rows_of(records.get(entry.id), self._format)
            if rows is None:
                live.append(entry)
            else:
                stored[entry.id] = rows
        return stored, live


def rows_of(record: Any, source_format: Format) -> list[Any] | None:
    """The ids of the rows that a version comes from; None where it was not converted from this source."""
    told = record.source if isinstance(record, VersionRecord) else None
    if not isinstance(told, Mapping):
        return None
    if told.get("format") != source_format.name or told.get("place") != source_format.place:
        return None
    return list(told.get("rows") or [])


def _name(row_id: Any) -> Any:
    return row_id.binary if type(row_id) is ObjectId else values.encode_value(row_id)


def _at(row: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row if row is not ABSENT else None
