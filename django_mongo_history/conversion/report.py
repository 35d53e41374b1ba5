"""What a run did, and what a check found, in numbers and by name. Values of documents are in neither."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple

MOST_NAMED: Final = 1000
"""Rows and documents that are named; further ones are counted."""


@dataclass(slots=True)
class Counts:
    """
    `documents` with rows in the source, `rows` of theirs. Of the rows: `converted` are in versions, `told` are told by live
    versions already, `untracked` are of nothing that is tracked, `bad` could not be read. `versions` were made of them,
    those of earlier runs included; `gaps` of these say that the rows do not determine a state. `skipped`: documents of classes
    that are not meant.
    """

    documents: int = 0
    rows: int = 0
    converted: int = 0
    versions: int = 0
    gaps: int = 0
    told: int = 0
    untracked: int = 0
    bad: int = 0
    skipped: int = 0

    def add(self, other: Counts) -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def to_dict(self) -> dict[str, int]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Counts:
        known = {one.name for one in fields(cls)}
        return cls(**{name: int(value) for name, value in stored.items() if name in known})


class Named(NamedTuple):
    """A row, or a document where `row` is None, and what there is to say of it."""

    document_id: Any
    row: Any
    reason: str


@dataclass(slots=True)
class Report:
    """
    What happened. `source`: format and place; `label`: the class. `bad`, `gaps`, `differences` and `remarks` name up to `MOST_NAMED` of what
    they count. `differences` are what a check found: nothing else makes `is_ok` false. `remarks` are what a check saw that may be as
    it should be: documents that are gone, and rows of a source that is emptied.
    """

    source: str
    label: str
    counts: Counts = field(default_factory=Counts)
    bad: list[Named] = field(default_factory=list)
    gaps: list[Named] = field(default_factory=list)
    differences: list[Named] = field(default_factory=list)
    difference_count: int = 0
    remarks: list[Named] = field(default_factory=list)
    remark_count: int = 0
    new_versions: int = 0

    @property
    def is_ok(self) -> bool:
        return not self.difference_count

    def note_bad(self, document_id: Any, row: Any, reason: str) -> None:
        _append(self.bad, Named(document_id, row, reason))

    def note_gap(self, document_id: Any, row: Any, reason: str) -> None:
        _append(self.gaps, Named(document_id, row, reason))

    def note_difference(self, document_id: Any, reason: str, row: Any = None) -> None:
        self.difference_count += 1
        _append(self.differences, Named(document_id, row, reason))

    def note_remark(self, document_id: Any, reason: str) -> None:
        self.remark_count += 1
        _append(self.remarks, Named(document_id, None, reason))

    def join(self, other: Report) -> None:
        """Take up what another run of the same conversion did."""
        self.counts.add(other.counts)
        self.new_versions += other.new_versions
        self.difference_count += other.difference_count
        self.remark_count += other.remark_count
        for mine, more in (
            (self.bad, other.bad),
            (self.gaps, other.gaps),
            (self.differences, other.differences),
            (self.remarks, other.remarks),
        ):
            mine.extend(more[: MOST_NAMED - len(mine)])

    def to_dict(self) -> dict[str, Any]:
        """For programs: BSON values stay as they are."""
        return {
            "source": self.source,
            "document": self.label,
            "counts": self.counts.to_dict(),
            "new_versions": self.new_versions,
            "bad": [one._asdict() for one in self.bad],
            "gaps": [one._asdict() for one in self.gaps],
            "differences": [one._asdict() for one in self.differences],
            "difference_count": self.difference_count,
            "remarks": [one._asdict() for one in self.remarks],
            "remark_count": self.remark_count,
        }


def _append(named: list[Named], one: Named) -> None:
    if len(named) < MOST_NAMED:
        named.append(one)
