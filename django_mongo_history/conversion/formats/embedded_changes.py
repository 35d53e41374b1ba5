"""
Change lists inside of the documents: each entry says a field, its old and its new value, when, and perhaps who.

Nothing but the list says what a document was, so the states are walked back to from the live document. The list is a part of
each of them, one entry longer than in the one before, as it was in the database; that is why it must be untracked where its
entries hold values that the class hides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Final

from bson.errors import InvalidDocument

from django_mongo_history import documents
from django_mongo_history.context import open_changeset
from django_mongo_history.conversion import facts, scrubbing
from django_mongo_history.conversion.base import BadRow, Edit, Format, Step, Target
from django_mongo_history.conversion.facts import Facts, at
from django_mongo_history.conversion.listed import ListReader, entries_of
from django_mongo_history.conversion.moments import Moment, Moments
from django_mongo_history.conversion.options import Given, Option, text
from django_mongo_history.conversion.rows import Reader, Row
from django_mongo_history.core import policy as policies
from django_mongo_history.core.model import ABSENT, Context
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import ConversionError

REASON: Final = "history_convert --strip"
"""Why the list was removed, where its removal is recorded."""
BEHIND_BAD: Final = "an entry next to it could not be read: what that one changed is in here"

OLDEST_FIRST: Final = "asc"
NEWEST_FIRST: Final = "desc"

_AT_ONCE: Final = 1000
_FARTHEST_ZONE: Final = timedelta(hours=26)
"""By how much a local time and UTC may differ, twice."""
_LISTS: Final = (
    "history.changes",
    "history",
    "changes",
    "change_log",
    "changelog",
    "audit",
    "audit_log",
    "changeHistory",
)
"""Where such lists mostly are."""
_NAMES: Final = {
    "path_field": ("field", "field_name", "path", "key"),
    "old_field": ("old_value", "old", "before", "from"),
    "new_field": ("new_value", "new", "after", "to"),
    "time_field": ("timestamp", "date", "at", "time", "changed_at", "created_at", "when"),
    "user_field": ("user", "changed_by", "changedBy", "author", "user_id", "by"),
}  # fmt: skip


class EmbeddedChanges(Format):
    """Lists of changes, flat, or of events that hold changes."""

    name: ClassVar[str] = "embedded-changes"
    help: ClassVar[str] = "lists of changes inside of the documents"
    options: ClassVar[tuple[Option, ...]] = (
        Option("list_field", "Where in a document its list of changes is, as in history.changes.", read=text, metavar="PATH"),
        Option("changes_field", "Where in an entry its changes are, if an entry holds several.", read=text, metavar="PATH"),
        Option("path_field", "Where a change says which field.", default="field", read=text),
        Option("old_field", "Where a change says the value before it.", default="old_value", read=text),
        Option("new_field", "Where a change says the value after it.", default="new_value", read=text),
        replace(facts.TIME_FIELD, default="timestamp"),
        *facts.WHO,
        Option("order", "How the list is ordered: asc, new entries at its end, or desc, at its start.",
               default=OLDEST_FIRST, read=text, choices=(OLDEST_FIRST, NEWEST_FIRST), metavar="ORDER"),
        facts.SOURCE_TIMEZONE,
        facts.CONVERT_TEXTS,
        Option("strip", "Remove the list from each document, once all of its entries are converted.", is_flag=True,
               default=False),
    )  # fmt: skip
    passing_options: ClassVar[frozenset[str]] = frozenset({"strip"})
    key = "_id"
    sort = ("index",)

    def __init__(self, target: Target, given: Given) -> None:
        super().__init__(target, given)
        self._moments = Moments(given["source_timezone"])
        self._facts = Facts(given)
        self._fitting = documents.Fitting(
            target.document_class, target.source.codec_options, self._moments.read_text
        )
        self._paths: dict[str, str] = {}
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
        newest_first = self.given["order"] == NEWEST_FIRST
        return entries_of(row, self.given["list_field"], key=row.id, is_newest_first=newest_first)

    # -- steps -----------------------------------------------------------------------------------------------------

    def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterable[Step | BadRow]:
        found: list[_Entry] = []
        for row in rows:
            read = self._read(row)
            if isinstance(read, BadRow):
                yield read
            else:
                found.append(read)
        places = {id(row): number for number, row in enumerate(rows)}
        entries = [row.values["entry"] for row in rows]
        saves = list(_saves(found))
        low = 0
        for number, save in enumerate(saves):
            is_last = number == len(saves) - 1
            high = len(rows) if is_last else places[id(saves[number + 1][0].row)]
            is_alone = (low, high) == (places[id(save[0].row)], places[id(save[-1].row)] + 1)
            yield self._step(save, self._growth(entries, low, high), "" if is_alone else BEHIND_BAD)
            low = high

    def _step(self, save: Sequence[_Entry], growth: Sequence[Edit], note: str) -> Step:
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
        if not self._is_list_tracked:
            return []
        path = tuple(self.given["list_field"].split("."))
        if self.given["order"] == NEWEST_FIRST:
            return [Edit("change", path, (entries[:low][::-1], entries[:high][::-1]))]
        return [Edit("add", path, list(enumerate(entries[low:high], start=low)))]

    @cached_property
    def _is_list_tracked(self) -> bool:
        policy = self.target.source.tracked.policy
        path = tuple(self.given["list_field"].split("."))
        return not (policies.is_untracked(path, policy) or policies.is_hidden(path, policy))

    def _read(self, row: Row) -> _Entry | BadRow:
        entry = row.values["entry"]
        place = f"entry {row.values['index']}"
        if not isinstance(entry, Mapping):
            return BadRow(row.id, f"{place} is no document")
        moment = self._moments.read(at(entry, self.given["time_field"]))
        if moment is None:
            return BadRow(row.id, f"{place} does not say when")
        changes_field = self.given["changes_field"]
        changes = [entry] if changes_field is None else at(entry, changes_field)
        if not isinstance(changes, list) or not changes:
            return BadRow(row.id, f"{place} holds no changes")
        edits = [self._edit(change) for change in changes]
        if None in edits:
            return BadRow(row.id, f"{place} does not say which field, or neither the old nor the new value")
        told = [edit for edit in edits if edit is not None]
        return _Entry(row, moment, told, self._facts.context(entry))

    def _edit(self, change: Any) -> Edit | None:
        given = self.given
        if not isinstance(change, Mapping):
            return None
        path = self._path(at(change, given["path_field"]))
        sides = [_side(change, given[name]) for name in ("old_field", "new_field")]
        if not path or sides == [ABSENT, ABSENT]:
            return None
        old, new = (self._fitted(path, None if side is ABSENT else side) for side in sides)
        return Edit("set", path, (old, new))

    def _path(self, told: Any) -> str | tuple[str | int, ...]:
        """The database path of a field by what an entry calls it: attribute names are those of the class."""
        if isinstance(told, list) and told and all(isinstance(part, (str, int)) for part in told):
            if any(isinstance(part, str) and "." in part for part in told):
                return tuple(told)
            told = ".".join(map(str, told))
        if not isinstance(told, str):
            return ""
        if told not in self._paths:
            self._paths[told] = self._translated(told)
        return self._paths[told]

    def _translated(self, told: str) -> str:
        parts = told.split(".")
        named = [number for number, part in enumerate(parts) if not part.isdigit()]
        try:
            path = ".".join(parts[number] for number in named)
            for number, name in zip(
                named, documents.translate_path(self.target.document_class, path), strict=True
            ):
                parts[number] = name
        except ValueError:
            pass  # nothing that the class knows: as it is told
        parts[0] = self.target.source.tracked.renamed.get(parts[0], parts[0])
        return ".".join(parts)

    def _fitted(self, path: str | tuple[str | int, ...], value: Any) -> Any:
        if not self.given["convert_texts"]:
            return value
        return self._fitting.value(path.split(".") if isinstance(path, str) else path, value)

    # -- what is kept, removed, and looked at before -----------------------------------------------------------------

    def kept(self, row: Row, policy: Policy) -> Any:
        """The entry without what surrounds it; each side of a change only where the class may show it."""
        entry = row.values["entry"]
        if not policy.untracked and not policy.hidden:
            return {"_id": row.id, "entry": entry}
        read = self._read(row)
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
            or any(isinstance(one, BadRow) for one in map(self._read, rows))
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
        if not self.given["list_field"]:
            raise ConversionError("embedded-changes: name the list with --list-field, as in history.changes.")
        if self.rows.find_one(self.query(), {"_id": 1}) is None:
            raise ConversionError(
                f"embedded-changes: no document of {self.rows.full_name} has entries in {self.given['list_field']}.",
                is_empty=True,
            )
        for name in ("changes_field", "time_field", "user_field", "remote_addr_field", "reason_field"):
            self._check_field(name)
        self._check_hidden()

    def _check_field(self, name: str) -> None:
        path = self.given[name]
        if path is None:
            return
        place = f"{self.given['list_field']}.{path}"
        if self.rows.find_one({**self.query(), place: {"$exists": True}}, {"_id": 1}) is None:
            document = self.rows.find_one(self.query())
            entries = at(document, self.given["list_field"])
            entry = entries[0] if isinstance(entries, list) else None
            found = ", ".join(entry) if isinstance(entry, Mapping) else "no documents"
            raise ConversionError(
                f"--{name.replace('_', '-')}: no entry of {self.place} has {path!r}. The fields of one: {found}.",
                option=name,
            )

    def _check_hidden(self) -> None:
        """Raises: ConversionError where the list would carry hidden or untracked values into the versions."""
        registry = self.target.source.environment.registry
        tracked = [one for one in registry if issubclass(one.document_class, self.target.document_class)]
        policy = self.target.source.tracked.policy
        for one in tracked:  # classes below this one may hide more
            policy = policy.joined(one.policy)
        if not self._is_list_tracked:
            return
        rules = {rule[0] for rule in (*policy.hidden, *policy.untracked)}
        told = {name for name in self._told_paths() if rules & {"*", self._first(name)}} if rules else set()
        if told:
            shown = ", ".join(sorted(told))
            raise ConversionError(
                f"{self.place} holds values of {shown}, which {self.target.label} hides or leaves untracked, and is tracked "
                f"itself. Add {self.given['list_field']!r} to its `untracked`, so that no version holds them.",
                paths=sorted(told),
            )

    def remarks(self) -> Iterator[str]:
        """Where the list is tracked each state holds it, one entry longer each: that grows with the square of its length."""
        if self._is_list_tracked:
            yield (
                f"{self.given['list_field']} is tracked, so each state has the list in it. Where lists are long, add it to "
                f"`untracked` of {self.target.label} first."
            )

    def _told_paths(self) -> Iterator[str]:
        parts = (self.given["list_field"], self.given["changes_field"], self.given["path_field"])
        for found in self.rows.distinct(".".join(part for part in parts if part)):
            if isinstance(found, str):
                yield found

    def _first(self, told: str) -> str:
        return str(self._path(told)).partition(".")[0]

    @classmethod
    def discover(cls, target: Target) -> Iterator[Mapping[str, Any]]:
        declared = documents.stored_field_names(target.document_class)
        for list_field in dict.fromkeys((*_LISTS, *sorted(declared))):
            document = target.source.collection.find_one(
                {f"{list_field}.0": {"$type": "object"}}, {list_field: 1}
            )
            entries = at(document, list_field)
            if isinstance(entries, list) and entries:
                found = _recognised(entries, list_field)
                if found is not None:
                    yield found


@dataclass(slots=True)
class _Entry:
    """An entry that could be read."""

    row: Row
    moment: Moment
    edits: list[Edit]
    context: Context

    @property
    def at(self) -> datetime:
        return self.moment.at

    @property
    def note(self) -> str:
        return self.moment.note


def _saves(found: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Entries of one moment and one user next to each other, no field twice, are those of one save."""
    save: list[_Entry] = []
    for entry in found:
        if save and not _is_same_save(save, entry):
            yield save
            save = []
        save.append(entry)
    if save:
        yield save


def _is_same_save(save: Sequence[_Entry], entry: _Entry) -> bool:
    last = save[-1]
    if (last.at, last.context) != (
        entry.at,
        entry.context,
    ) or last.row.is_converted is not entry.row.is_converted:
        return False
    if entry.row.values["index"] != last.row.values["index"] + 1:
        return False  # one between them could not be read
    paths = {edit.path for one in save for edit in one.edits}
    return not any(_overlaps(edit.path, other) for edit in entry.edits for other in paths)


def _overlaps(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
    return bool(one == other)


def _side(change: Mapping[str, Any], path: str) -> Any:
    holder = change if "." not in path else at(change, path.rpartition(".")[0])
    name = path.rpartition(".")[2]
    return holder.get(name, ABSENT) if isinstance(holder, Mapping) else ABSENT


def _recognised(entries: Sequence[Any], list_field: str) -> dict[str, Any] | None:
    """The options for a list like this one; None where it is no list of changes."""
    entry = entries[0]
    if not isinstance(entry, Mapping):
        return None
    options: dict[str, Any] = {"list_field": list_field}
    change: Any = entry
    if isinstance(entry.get("changes"), list):
        options["changes_field"] = "changes"
        change = next(iter(entry["changes"]), None)
    for option, holder in (("path_field", change), ("old_field", change), ("new_field", change),
                           ("time_field", entry), ("user_field", entry)):  # fmt: skip
        name = next((one for one in _NAMES[option] if isinstance(holder, Mapping) and one in holder), None)
        if name is not None:
            options[option] = name
    if not {"path_field", "time_field"} <= options.keys() or not {"old_field", "new_field"} & options.keys():
        return None
    times = [Moments(None).read(at(one, options["time_field"])) for one in (entries[0], entries[-1])]
    if times[0] is not None and times[1] is not None and times[0].at > times[1].at:
        options["order"] = NEWEST_FIRST
    return options
