"""
Archives of whole states: one row for each, taken before or after the write that made the row.

Note [Before and after]
A row of an archive of states before holds the state that a write has ended, and says when and by whom it was ended. So its
who and when are those of the version that follows the state, and not of the one that made it: each step begins with the
row's state, and ends with that of the next row, of the first live version, or of the live document. Rows of states
after say it of their own state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from bson import ObjectId

from django_mongo_history.conversion.base import UNKNOWN, BadRow, Format, Side, Step, Target
from django_mongo_history.conversion.facts import at
from django_mongo_history.conversion.formats.snapshots import finding
from django_mongo_history.conversion.formats.snapshots.checking import Check
from django_mongo_history.conversion.formats.snapshots.copies import Copies, Copy, in_order
from django_mongo_history.conversion.formats.snapshots.matched import Matched
from django_mongo_history.conversion.formats.snapshots.options import OPTIONS, settled, type_of
from django_mongo_history.conversion.listed import ListReader, entries_of, names_of
from django_mongo_history.conversion.moments import Moments
from django_mongo_history.conversion.options import Given, Option
from django_mongo_history.conversion.presets import BEFORE
from django_mongo_history.conversion.rows import Reader, Row, name_of
from django_mongo_history.core import policy as policies
from django_mongo_history.core import values
from django_mongo_history.core.policy import Policy

__all__ = ["Snapshots"]

FRONT_BAD: Final = "the row in front of it could not be read: what that one changed is in here"
BEHIND_BAD: Final = "the row behind it could not be read: what that one changed is in here"
PARTIAL: Final = "the row holds changed fields only, and nothing says what the others were"
UNMATCHED: Final = "not one document has its key, so nothing says which it was of"
AGAIN: Final = "the row behind it has the same number: one of them was made to a state that is not known"
ANEW: Final = "the numbers of its rows begin anew behind it, so it is taken for the delete"


class Snapshots(Format):
    """Whole states in an archive: the presets, and whatever else is laid out so, by the names of its fields."""

    name: ClassVar[str] = "snapshots"
    help: ClassVar[str] = "copies of whole documents in a collection"
    options: ClassVar[tuple[Option, ...]] = OPTIONS

    def __init__(self, target: Target, given: Given) -> None:
        found = settled(target, given)
        match_field = found["match_field"]
        super().__init__(Matched(target.source, match_field) if match_field else target, found)
        self._named = {name for name, value in given.items() if value is not None}
        self.key = found["key_field"] or "_id"
        self.sort = ("index",) if found["array_field"] else ("_id",)
        self._copies = Copies(self.target, found, self.key, Moments(found["source_timezone"]))

    # -- rows ------------------------------------------------------------------------------------------------------

    def query(self) -> dict[str, Any]:
        found: dict[str, Any] = dict(self.given["where"] or {})
        type_field = self.given["type_field"]
        if type_field is not None:
            typed = {type_field: type_of(self.target, self.given)}
            found = {"$and": [found, typed]} if found else typed
        return found

    def since(self, moment: datetime) -> dict[str, Any]:
        """ObjectIds tell when a row was made; of rows with other ids its time does, where it is a date."""
        found: list[dict[str, Any]] = [{"_id": {"$gte": ObjectId.from_datetime(moment)}}]
        time_field = self.given["time_field"]
        other: dict[str, Any] = {"_id": {"$not": {"$type": "objectId"}}}
        if time_field is not None:
            found.append({time_field: {"$gte": moment}})
        return {"$or": [*found, other]}

    def reader(self) -> Reader:
        array_field = self.given["array_field"]
        if array_field is None:
            return super().reader()
        return ListReader(
            self.rows, key=self.key, list_field=array_field, query=self.query(), explode=self._explode
        )

    def _explode(self, row: Row) -> list[Row]:
        found = entries_of(
            row, self.given["array_field"], key=at(row.values, self.key), shown=self._copies.shown_today
        )
        if found is None:  # a row of its own
            return [Row(row.id, {"index": 0, "entry": row.values, "around": {}})]
        return found

    def known_as(self, rows: Sequence[Row], policy: Policy) -> Sequence[Any]:
        if self.given["array_field"] is None:
            return super().known_as(rows, policy)
        around = next((row.values["around"] for row in rows if row.values["around"]), None)
        return names_of(rows, key=at(around, self.key), shown=lambda row: self._copies.shown(row, policy))

    # -- steps -----------------------------------------------------------------------------------------------------

    def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterable[Step | BadRow]:
        if isinstance(self.target, Matched) and name_of(document_id) in self.target.unmatched:
            yield from (BadRow(row.id, UNMATCHED) for row in rows)
            return
        copies = [self._copies.read(row, rows) for row in rows]
        if self.given["image"] == BEFORE and any(copy.version is not None for copy in copies):
            for copy in copies:  # Chrononaut counts from nothing, then from 1
                copy.version = copy.version or 0
        yield from (BadRow(copy.row.id, copy.reason) for copy in copies if copy.reason)
        copies = in_order(copies)
        make = self._steps_before if self.given["image"] == BEFORE else self._steps_after
        yield from make(document_id, copies)

    def _steps_after(self, document_id: Any, copies: Sequence[Copy]) -> Iterator[Step]:
        known: Side = UNKNOWN
        fields: Mapping[str, Any] | None = None
        front: Copy | None = None
        for copy in copies:
            if not copy.reason:
                notes = [copy.note, _missing(front, copy), FRONT_BAD if front and front.reason else ""]
                before, whole = known, copy.fields
                if copy.operation == "create" or self._is_first(copy):
                    before, fields = None, None
                elif self.given["partial"] and copy.operation != "delete":
                    notes.append("" if fields is not None else PARTIAL)
                if self.given["partial"] and whole is not None:
                    whole = None if copy.operation == "delete" else {**(fields or {}), **whole}
                after = None if copy.operation == "delete" else self._copies.image(document_id, whole)
                if after is None and whole is not None:  # it says what was deleted
                    before = self._copies.image(document_id, whole)
                yield self._step(copy, before=before, after=after, notes=notes)
                known, fields = after, None if after is None else whole
            front = copy

    def _steps_before(self, document_id: Any, copies: Sequence[Copy]) -> Iterator[Step]:
        """See Note [Before and after]."""
        first = min((copy.version for copy in copies if copy.version is not None), default=None)
        for copy, behind in zip(copies, [*copies[1:], None], strict=False):
            if copy.reason:
                continue
            notes = [copy.note, BEHIND_BAD if behind and behind.reason else "", _missing(copy, behind)]
            after: Side = UNKNOWN
            if copy.operation == "delete":
                after = None
            elif copy.operation is None and _begins_anew(copy, behind, first):
                after = None
                notes = [copy.note, ANEW]
            elif behind is not None and copy.version is not None and copy.version == behind.version:
                notes.append(AGAIN)
            before = None if copy.operation == "create" else self._copies.image(document_id, copy.fields)
            yield self._step(copy, before=before, after=after, notes=notes)

    def _step(self, copy: Copy, *, before: Side, after: Side, notes: Sequence[str]) -> Step:
        assert copy.at is not None
        gap = "; ".join(dict.fromkeys(note for note in notes if note))
        return Step([copy.row], copy.at, before, after, context=copy.context, gap=gap, hidden=copy.hidden)

    def _is_first(self, copy: Copy) -> bool:
        first = self.given["first_version"]
        return copy.operation is None and first is not None and copy.version == first

    # -- what is kept, and what is looked at before ----------------------------------------------------------------

    def kept(self, row: Row, policy: Policy) -> Any:
        entry, around = self._copies.places(row)
        if not policy.untracked and not policy.hidden:
            return row.values if not around else {"_id": row.id, "entry": entry}
        fields = self._copies.fields(entry)
        whole = self._copies.image(row.id, fields)
        shown = {} if whole is None else {"state": values.decode(policies.prune(whole, policy))}
        return {"_id": row.id, **shown}

    def check(self) -> None:
        check = Check(self, self._named)
        check.layout()
        super().check()
        check.fields()

    def remarks(self) -> Iterator[str]:
        """Keys without a document are those of deleted ones, or of another model; times without a zone are UTC."""
        return Check(self, self._named).remarks()

    @classmethod
    def discover(cls, target: Target) -> Iterator[Mapping[str, Any]]:
        return finding.discovered(target)


def _missing(front: Copy | None, behind: Copy | None) -> str:
    if front is None or behind is None or front.version is None or behind.version is None:
        return ""
    if behind.version <= front.version + 1:
        return ""
    return f"there are no rows of the numbers {front.version + 1} to {behind.version - 1}"


def _begins_anew(copy: Copy, behind: Copy | None, first: int | None) -> bool:
    if behind is None or behind.version is None or copy.version is None:
        return False
    return first == behind.version < copy.version
