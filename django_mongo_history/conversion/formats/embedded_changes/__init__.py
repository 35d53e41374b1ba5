"""
Change lists inside of the documents: each entry says a field, its old and its new value, when, and perhaps who.

Nothing but the list says what a document was, so the states are walked back to from the live document. The list is a part of
each of them, one entry longer than in the one before, as it was in the database; that is why it must be untracked where its
entries hold values that the class hides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, ClassVar, Final

from bson.errors import InvalidDocument

from django_mongo_history import documents
from django_mongo_history.context import open_changeset
from django_mongo_history.conversion import scrubbing
from django_mongo_history.conversion.base import BadRow, Edit, Format, Step, Target
from django_mongo_history.conversion.formats.embedded_changes import finding
from django_mongo_history.conversion.formats.embedded_changes.checking import Check
from django_mongo_history.conversion.formats.embedded_changes.entries import Entries, Entry, saves_of
from django_mongo_history.conversion.formats.embedded_changes.options import NEWEST_FIRST, OPTIONS
from django_mongo_history.conversion.listed import ListReader, Shown, entries_of, names_of
from django_mongo_history.conversion.options import Given, Option
from django_mongo_history.conversion.rows import Reader, Row
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import ConversionError

__all__ = ["BEHIND_BAD", "EmbeddedChanges"]

REASON: Final = "history_convert --strip"
"""Why the list was removed, where its removal is recorded."""
BEHIND_BAD: Final = "an entry next to it could not be read: what that one changed is in here"

_AT_ONCE: Final = 1000
_FARTHEST_ZONE: Final = timedelta(hours=26)
"""By how much a local time and UTC may differ, twice."""


class EmbeddedChanges(Format):
    """Lists of changes, flat, or of events that hold changes."""

    name: ClassVar[str] = "embedded-changes"
    help: ClassVar[str] = "lists of changes inside of the documents"
    options: ClassVar[tuple[Option, ...]] = OPTIONS
    passing_options: ClassVar[frozenset[str]] = frozenset({"strip"})
    empties_source: ClassVar[bool] = True
    key = "_id"
    sort = ("index",)

    def __init__(self, target: Target, given: Given) -> None:
        super().__init__(target, given)
        self._reading = Entries(target, given)
        self._policy_of = lru_cache(maxsize=100)(target.policy_of)
        if given["strip"]:
            self.asks = (
                f"{given['list_field']} is removed from every document of {target.label} whose entries are all converted. "
                "Values that are hidden or untracked are then nowhere any more."
            )

    # -- rows ------------------------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> Any:
        return self.target.source.collection

    @property
    def place(self) -> str:
        return f"{self.rows.full_name} {self.given['list_field']}"

    def query(self) -> dict[str, Any]:
        return {f"{self.given['list_field']}.0": {"$exists": True}}

    def since(self, moment: datetime) -> dict[str, Any]:
        """Documents with an entry of a later time, and those whose entries have no dates; to be stripped are all."""
        if self.given["strip"]:
            return {}
        place = f"{self.given['list_field']}.{self.given['time_field']}"
        return {"$or": [{place: {"$gte": moment - _FARTHEST_ZONE}}, {place: {"$not": {"$type": "date"}}}]}

    def reader(self) -> Reader:
        return ListReader(
            self.rows,
            key="_id",
            list_field=self.given["list_field"],
            query=self.query(),
            explode=lambda row: self._entries(row) or [],
            changed=self.since,
        )

    def _entries(self, row: Row) -> list[Row] | None:
        name = row.values.get("_cls")
        return entries_of(
            row,
            self.given["list_field"],
            key=row.id,
            is_newest_first=self.given["order"] == NEWEST_FIRST,
            shown=self._shown(self._policy_of(name if isinstance(name, str) else None)),
        )

    def known_as(self, rows: Sequence[Row], policy: Policy) -> Sequence[Any]:
        return names_of(rows, key=rows[0].id[0], shown=self._shown(policy)) if rows else []

    def _shown(self, policy: Policy) -> Shown:
        return lambda row: self._reading.shown(row, policy)

    # -- steps -----------------------------------------------------------------------------------------------------

    def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterable[Step | BadRow]:
        found: list[Entry] = []
        for row in rows:
            read = self._reading.read(row)
            if isinstance(read, BadRow):
                yield read
            else:
                found.append(read)
        places = {id(row): number for number, row in enumerate(rows)}
        entries = [row.values["entry"] for row in rows]
        saves = list(saves_of(found))
        low = 0
        for number, save in enumerate(saves):
            is_last = number == len(saves) - 1
            high = len(rows) if is_last else places[id(saves[number + 1][0].row)]
            is_alone = (low, high) == (places[id(save[0].row)], places[id(save[-1].row)] + 1)
            yield self._step(save, self._growth(entries, low, high), "" if is_alone else BEHIND_BAD)
            low = high

    def _step(self, save: Sequence[Entry], growth: Sequence[Edit], note: str) -> Step:
        first = save[0]
        edits = [edit for entry in save for edit in entry.edits]
        notes = [note, *(entry.note for entry in save)]
        return Step(
            rows=[entry.row for entry in save],
            at=first.at,
            edits=[*edits, *growth],
            context=first.context,
            gap="; ".join(dict.fromkeys(filter(None, notes))),
        )

    def _growth(self, entries: Sequence[Any], low: int, high: int) -> list[Edit]:
        """That the list itself had these entries put in, where it is tracked; those that cannot be read are in it, too."""
        if not self._check.is_list_tracked:
            return []
        path = tuple(self.given["list_field"].split("."))
        if self.given["order"] == NEWEST_FIRST:
            return [Edit("change", path, (entries[:low][::-1], entries[:high][::-1]))]
        return [Edit("add", path, list(enumerate(entries[low:high], start=low)))]

    # -- what is kept, removed, and looked at before -----------------------------------------------------------------

    def kept(self, row: Row, policy: Policy) -> Any:
        """The entry without what surrounds it; each side of a change only where the class may show it."""
        entry = row.values["entry"]
        if not policy.untracked and not policy.hidden:
            return {"_id": row.id, "entry": entry}
        read = self._reading.read(row)
        edits = [] if isinstance(read, BadRow) else scrubbing.scrubbed_edits(read.edits, policy)[0]
        return {
            "_id": row.id,
            "changes": [
                {"path": edit.path, "old": edit.payload[0], "new": edit.payload[1]} for edit in edits
            ],
        }

    def finish(self, document_id: Any, rows: Sequence[Row], *, is_whole: bool) -> None:
        """
        Remove the list where it still holds just these entries. A removal of something tracked is recorded, as any write.
        """
        if (
            not self.given["strip"]
            or not is_whole
            or any(isinstance(one, BadRow) for one in map(self._reading.read, rows))
        ):
            return
        list_field = self.given["list_field"]
        entries = [row.values["entry"] for row in rows]
        if self.given["order"] == NEWEST_FIRST:
            entries.reverse()
        wanted = {"_id": document_id, list_field: entries}
        with (
            open_changeset(reason=REASON),
            suppress(InvalidDocument),
        ):  # what cannot be sent cannot be compared
            self._recorded.update_one(wanted, {"$unset": {list_field: ""}})

    @property
    def _recorded(self) -> Any:
        """The collection through which writes are recorded; on another connection than the class's there is none."""
        found = documents.recorded_collection(self.target.document_class)
        database = self.rows.database
        is_ours = found.full_name == self.rows.full_name and found.database.client is database.client
        return found if is_ours else self.rows

    def check_removal(self, document_ids: Iterable[Any]) -> None:
        wanted = iter(document_ids)
        while some := list(islice(wanted, _AT_ONCE)):
            there = self.rows.count_documents({**self.query(), "_id": {"$in": some}})
            if there < len(some):
                raise ConversionError(
                    f"--restart: of {len(some) - there} documents that were looked at {self.given['list_field']} is gone, so "
                    "their versions could not be made anew. Give the options that the conversion was begun with.",
                    missing=len(some) - there,
                )

    def check(self) -> None:
        self._check.check()

    def remarks(self) -> Iterator[str]:
        """Where the list is tracked each state holds it, one entry longer each: that grows with the square of its length."""
        return self._check.remarks()

    @cached_property
    def _check(self) -> Check:
        return Check(self, self._reading)

    @classmethod
    def discover(cls, target: Target) -> Iterator[Mapping[str, Any]]:
        return finding.discovered(target)
