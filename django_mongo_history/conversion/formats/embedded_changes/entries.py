"""Entries of change lists: what is read of one, and which of them were made by one save."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django_mongo_history import documents
from django_mongo_history.conversion.base import BadRow, Edit, Target
from django_mongo_history.conversion.facts import Facts, at
from django_mongo_history.conversion.moments import Moment, Moments
from django_mongo_history.conversion.options import Given
from django_mongo_history.conversion.rows import Row
from django_mongo_history.conversion.scrubbing import scrubbed_edits
from django_mongo_history.core.model import ABSENT, Context
from django_mongo_history.core.policy import Policy


@dataclass(slots=True)
class Entry:
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


class Entries:
    """Reads them for one target."""

    def __init__(self, target: Target, given: Given) -> None:
        self.target = target
        self.given = given
        self._moments = Moments(given["source_timezone"])
        self._facts = Facts(given)
        self._fitting = documents.Fitting(
            target.document_class, target.source.codec_options, self._moments.read_text
        )
        self._paths: dict[str, str] = {}

    def read(self, row: Row) -> Entry | BadRow:
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
        return Entry(row, moment, told, self._facts.context(entry))

    def _edit(self, change: Any) -> Edit | None:
        given = self.given
        if not isinstance(change, Mapping):
            return None
        path = self.path(at(change, given["path_field"]))
        sides = [_side(change, given[name]) for name in ("old_field", "new_field")]
        if not path or sides == [ABSENT, ABSENT]:
            return None
        old, new = (self._fitted(path, None if side is ABSENT else side) for side in sides)
        return Edit("set", path, (old, new))

    def shown(self, row: Row, policy: Policy) -> Any:
        """
        What a version shows of an entry, by rules: its facts, its changes as far as they may be seen, hidden paths. All of it where
        nothing is ruled out.
        """
        entry, given = row.values["entry"], self.given
        if not (policy.hidden or policy.untracked):
            return entry
        if not isinstance(entry, Mapping):
            return []
        facts = [at(entry, path) for path in (given["time_field"], *self._facts.paths)]
        read = self.read(row)
        if isinstance(read, BadRow):
            return [facts]
        edits, hidden = scrubbed_edits(read.edits, policy)
        return [facts, [[edit.path, *edit.payload] for edit in edits], list(hidden)]

    def path(self, told: Any) -> str | tuple[str | int, ...]:
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


def saves_of(found: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries of one moment and one user next to each other, no field twice, are those of one save."""
    save: list[Entry] = []
    for entry in found:
        if save and not _is_same_save(save, entry):
            yield save
            save = []
        save.append(entry)
    if save:
        yield save


def _is_same_save(save: Sequence[Entry], entry: Entry) -> bool:
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
