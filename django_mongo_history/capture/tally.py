"""What a `bulk_write` did: counts, errors and late write concerns, added up to the driver's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo.errors import BulkWriteError
from pymongo.results import BulkWriteResult

COUNTS: Final = ("nInserted", "nUpserted", "nMatched", "nModified", "nRemoved")


def blank_counts() -> dict[str, Any]:
    """The counts of a batch that has done nothing, by the server's names."""
    return {**dict.fromkeys(COUNTS, 0), "upserted": []}


def merge(counts: dict[str, Any], more: dict[str, Any]) -> None:
    """Add up counts."""
    for name in COUNTS:
        counts[name] += more[name]
    counts["upserted"].extend(more["upserted"])


@dataclass(slots=True)
class Tally:
    """What a `bulk_write` has done so far. `late`: write concerns that were not met, of what is done all the same."""

    counts: dict[str, Any] = field(default_factory=blank_counts)
    errors: list[dict[str, Any]] = field(default_factory=list)
    late: list[Any] = field(default_factory=list)

    def add(self, counts: dict[str, Any] | None) -> None:
        """Count what was done; None where it failed and nobody waits for the error."""
        if counts is not None:
            merge(self.counts, counts)

    def fail(self, index: int, error: Mapping[str, Any]) -> None:
        """Take the driver's own error of one request, by its place among the caller's."""
        self.errors.append({**error, "index": index})

    def answer(self, *, acknowledged: bool) -> BulkWriteResult:
        """As the driver gives it. Raises: BulkWriteError."""
        if not acknowledged:
            return BulkWriteResult({}, acknowledged)
        if self.errors or self.late:
            raise BulkWriteError(self.details())
        return BulkWriteResult(self.details(), acknowledged)

    def details(self) -> dict[str, Any]:
        errors = sorted(self.errors, key=lambda error: error["index"])
        return {"writeErrors": errors, "writeConcernErrors": self.late, **self.counts}
