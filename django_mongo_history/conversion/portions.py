"""What portions of documents come to, in versions and in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django_mongo_history.conversion.engine import Entity, Made
from django_mongo_history.conversion.report import Counts
from django_mongo_history.core.model import VersionRecord


@dataclass(slots=True)
class Portion:
    """What one portion came to. `found`: documents with something new."""

    counts: Counts = field(default_factory=Counts)
    records: list[VersionRecord] = field(default_factory=list)
    found: int = 0
    told: list[tuple[Entity, bool]] = field(default_factory=list)
    """Documents of which there are versions now, and whether all of their rows could be read."""

    @classmethod
    def of(cls, each: Sequence[tuple[Entity, Made]], skipped: int, *, catches_up: bool = False) -> Portion:
        """Of these. `catches_up`: what was there before is counted already."""
        portion = cls(Counts(skipped=0 if catches_up else skipped))
        for entity, made in each:
            if entity.is_echo and not catches_up:
                continue  # it comes by in the same pass
            portion.records.extend(made.records)
            portion.found += bool(made.records)
            if made.steps or made.told:
                portion.told.append((entity, not made.bad))
            portion.counts.add(news(entity, made) if catches_up else counts_of(made))
        return portion


@dataclass(slots=True)
class Done:
    """What the portions of one range came to so far."""

    counts: Counts = field(default_factory=Counts)
    bad: list[Any] = field(default_factory=list)
    found: int = 0


def counts_of(made: Made) -> Counts:
    """What became of one document."""
    unread = len(made.told) + len(made.untracked) + len(made.bad)
    return Counts(
        documents=1,
        rows=made.rows,
        converted=made.rows - unread,
        versions=made.steps,
        gaps=len({repr(gap.row) for gap in made.gaps}),
        told=len(made.told),
        untracked=len(made.untracked),
        bad=len(made.bad),
    )


def news(entity: Entity, made: Made) -> Counts:
    """What a later pass has found that was not there before."""
    rows = sum(len(record.source["rows"]) for record in made.records)
    gaps = len({repr(gap.row) for gap in made.gaps if gap.is_new})
    is_new = bool(made.records) and not entity.stored
    return Counts(documents=int(is_new), rows=rows, converted=rows, versions=len(made.records), gaps=gaps)
