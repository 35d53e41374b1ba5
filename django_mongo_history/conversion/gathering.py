"""
Everything that is known of some documents, as of one moment: rows, the live document, versions.

Note [Rows and documents at one moment]
The old tracker writes a document first and its rows a moment later, in another collection, without a transaction. So the
documents are read first, then, a little later, whatever rows came since the stream of rows was opened, and then the
documents and the ids of their versions again: a version may be stored a moment after its document. Where one has changed
meanwhile, all of this is done once more for it: else the rows of the last write
might be missing, and the write would look as if it had gone past the tracker. Versions are made in between (`look`, `stale`), so
that nobody waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.conversion.base import Format
from django_mongo_history.conversion.engine import Entity
from django_mongo_history.conversion.rows import Reader, Row, Rows, exact_name, name_of
from django_mongo_history.core import values
from django_mongo_history.core.identity import class_name, id_of
from django_mongo_history.core.model import ABSENT, Entry, VersionRecord
from django_mongo_history.core.policy import Policy
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
    """What a first look has shown, by the names of keys. `odd`: keys that may be there in another spelling as well."""

    rows: dict[Any, Rows]
    ids: dict[Any, Any] = field(default_factory=dict)
    images: dict[Any, bytes] = field(default_factory=dict)
    entities: dict[Any, Entity] = field(default_factory=dict)
    entries: dict[Any, list[Entry]] = field(default_factory=dict)
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
        self._target = source_format.target
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
        homes = {values.sort_key(one.id) for one in found.values() if not one.is_echo}
        ordered = (found.get(name_of(rows.key)) for rows in some)
        entities = [
            one
            for one in ordered
            if one is not None and not (one.is_echo and values.sort_key(one.id) in homes)
        ]
        return Gathered(entities, len(skipped))

    def look(self, some: Sequence[Rows]) -> Looked:
        """The same at once, of documents that nobody may be writing: `stale` says of which that was not so."""
        looked = Looked({name_of(rows.key): rows for rows in some})
        looked.ids = {name: self._target.document_id(rows.key) for name, rows in looked.rows.items()}
        ids = list(looked.ids.values())
        looked.images = self._images(ids)
        looked.read_at = time.monotonic()
        looked.entries = self._entries(ids)
        for name, document_id in looked.ids.items():
            place = values.sort_key(document_id)
            image, rows = looked.images.get(place), looked.rows[name]
            if self._is_odd(rows.key, document_id):
                looked.odd.append(name)
            elif self._is_meant(image):
                entries = looked.entries.get(place, ())
                looked.entities[name] = self._entity(document_id, rows.rows, image, entries)
            else:
                looked.skipped.add(name)
        return looked

    def stale(self, looked: Looked, *, opened_at: datetime) -> list[Rows]:
        """Those that have to be gathered once more: their document has changed since, or rows or versions of theirs have come."""
        time.sleep(max(0.0, SETTLE_S - (time.monotonic() - looked.read_at)))
        fresh = self._reader.of_keys([rows.key for rows in looked.rows.values()], since=opened_at - SKEW)
        ids = list(looked.ids.values())
        again, entries = self._images(ids), self._entries(ids)
        names = list(looked.odd)
        for name, document_id in looked.ids.items():
            place = values.sort_key(document_id)
            rows = looked.rows[name]
            has_more = name in fresh and self._joined(rows, fresh[name]) is not rows
            is_changed = again.get(place) != looked.images.get(place)
            is_told = entries.get(place) != looked.entries.get(place)
            if name not in looked.odd and (has_more or is_changed or is_told):
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
        ids = {name: self._target.document_id(rows.key) for name, rows in some.items()}
        wanted = list(ids.values())
        images = self._images(wanted)
        read_at = time.monotonic()
        entries = self._entries(wanted)
        time.sleep(max(0.0, SETTLE_S - (time.monotonic() - read_at)))
        rows, echoes = self._completed(some, ids, opened_at)
        again, later = self._images(wanted), self._entries(wanted)
        left: dict[Any, Rows] = {}
        for name, document_id in ids.items():
            place = values.sort_key(document_id)
            image, known = images.get(place), entries.get(place)
            if not takes_all and (image != again.get(place) or known != later.get(place)):
                left[name] = rows[name]
            elif self._is_meant(image):
                found[name] = self._entity(document_id, rows[name].rows, image, known or ())
                found[name].is_echo = name in echoes
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

    def _is_odd(self, key: Any, document_id: Any) -> bool:
        """Whether rows of a document may lie under another key as well."""
        return not values.same(document_id, key) or (
            len(self._target.keys_of(document_id)) > 1 and self._mixes_keys
        )

    @cached_property
    def _mixes_keys(self) -> bool:
        return bool(getattr(self._reader, "mixes_keys", True))

    def _completed(
        self, some: Mapping[Any, Rows], ids: Mapping[Any, Any], opened_at: datetime
    ) -> tuple[dict[Any, Rows], set[Any]]:
        """
        The rows with those that came since, and those under another spelling of the key. And the names of which the document
        comes by under a spelling that counts more.
        """
        completed = dict(some)
        fresh = self._reader.of_keys([rows.key for rows in some.values()], since=opened_at - SKEW)
        for name, more in fresh.items():
            if name in completed:
                completed[name] = self._joined(completed[name], more)
        if not self._mixes_keys:
            return completed, set()
        spellings = {name: self._target.keys_of(document_id) for name, document_id in ids.items()}
        there = self._reader.of_keys([key for keys in spellings.values() for key in keys])
        echoes: set[Any] = set()
        for name, keys in spellings.items():
            found = [there[name_of(key)] for key in keys if name_of(key) in there]
            for more in found:
                completed[name] = self._joined(completed[name], more)
            if found and name_of(found[0].key) != name:
                echoes.add(name)
        return completed, echoes

    def _joined(self, one: Rows, other: Rows) -> Rows:
        known = {exact_name(row.id) for row in one.rows}
        new = [row for row in other.rows if exact_name(row.id) not in known]
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
            stored, live, rules = self._parted(known)
            entity.stored, entity.entries = stored, known
            entity.rows = self._recognised(rows, stored, rules)
            if live:
                entity.live = read_documents(self._source, [(document_id, live, image)])[0]
        return entity

    def _parted(
        self, entries: Sequence[Entry]
    ) -> tuple[dict[ObjectId, list[Any]], list[Entry], dict[str, None]]:
        """Versions of this source with the rows that they come from, all others, and the rules of the former."""
        records = self._source.store.records([entry.id for entry in entries])
        stored: dict[ObjectId, list[Any]] = {}
        live: list[Entry] = []
        rules: dict[str, None] = {}
        for entry in entries:
            record = records.get(entry.id)
            rows = rows_of(record, self._format)
            if rows is None:
                live.append(entry)
            else:
                stored[entry.id] = rows
                rules[record.policy if isinstance(record, VersionRecord) else ""] = None
        return stored, live, rules

    def _recognised(
        self, rows: Sequence[Row], stored: Mapping[ObjectId, Sequence[Any]], rules: Iterable[str]
    ) -> Sequence[Row]:
        """The rows under the names that versions have for them, which may be those of other rules than today's."""
        names = {exact_name(row_id) for ids in stored.values() for row_id in ids}
        for fingerprint in rules:
            if not names or all(exact_name(row.id) in names for row in rows):
                break
            then = self._format.known_as(rows, Policy.from_fingerprint(fingerprint))
            rows = [
                row if exact_name(row.id) in names or exact_name(name) not in names else row._replace(id=name)
                for row, name in zip(rows, then, strict=True)
            ]
        return rows


def rows_of(record: Any, source_format: Format) -> list[Any] | None:
    """The ids of the rows that a version comes from; None where it was not converted from this source."""
    told = record.source if isinstance(record, VersionRecord) else None
    if not isinstance(told, Mapping):
        return None
    if told.get("format") != source_format.name or told.get("place") != source_format.place:
        return None
    return list(told.get("rows") or [])


def _at(row: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row if row is not ABSENT else None
