"""What a row came to, read from pytest's own report, and the table of all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from management.matrix.rows import Row

SHOWN_VERSIONS = ("python", "django", "mongoengine", "pymongo")
"""Columns of the table; further versions stand with the server (mongomock) or the row (django-mongoengine)."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one run of pytest or of several. `skips`: how many tests by the reason they gave. Errors count as failed."""

    passed: int = 0
    failed: int = 0
    skips: Mapping[str, int] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        return sum(self.skips.values())

    def __add__(self, other: Counts) -> Counts:
        skips = Counter(self.skips) + Counter(other.skips)
        return Counts(self.passed + other.passed, self.failed + other.failed, dict(skips))


@dataclass(frozen=True, slots=True)
class Result:
    """
    `missing`: why the row could not be run here, empty when it was. `trouble`: what failed besides tests: an
    installation, a run of pytest that ended in another way than by its tests.
    """

    row: Row
    versions: Mapping[str, str] = field(default_factory=dict)
    server: str = ""
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    missing: str = ""
    trouble: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        if self.missing:
            return "NOT RUN"
        return "FAILED" if self.trouble or self.counts.failed or not self.counts.passed else "passed"


def read_counts(report: Path) -> Counts:
    """The counts in a JUnit report of pytest's. Raises OSError or ParseError where there is none."""
    passed = failed = 0
    skips: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  # pytest's own, of a moment ago
        skip = case.find("skipped")
        if skip is not None:
            skips[skip.get("message") or "no reason given"] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        else:
            passed += 1
    return Counts(passed, failed, dict(skips))


def exit_code(results: Iterable[Result]) -> int:
    """0 when every row passed; 1 when one failed; 3 when none failed and one was not run."""
    verdicts = {result.verdict for result in results}
    if "FAILED" in verdicts:
        return 1
    return 3 if "NOT RUN" in verdicts else 0


def summary(results: Sequence[Result]) -> str:
    """The table, and below it every skip, everything left out, and why rows failed or were not run."""
    lines = [*_table(results), ""]
    for result in results:
        if result.missing:
            lines.append(f"{result.row.name}: not run here: {result.missing}")
        lines += [f"{result.row.name}: {trouble}" for trouble in result.trouble]
    for result in results:
        lines += [
            f"{result.row.name}: skipped {count}: {reason}"
            for reason, count in sorted(result.counts.skips.items())
        ]
    return "\n".join([*lines, *_left_out([result.row for result in results if not result.missing])])


def _left_out(rows: Sequence[Row]) -> list[str]:
    """A line for each reason, with the rows that share it."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for part in row.parts:
            for reason, names in part.left_out.items():
                found.setdefault(f"{', '.join(names)} ({reason})", []).append(row.name)
    return [f"{', '.join(names)}: left out: {line}" for line, names in found.items()]


def _table(results: Sequence[Result]) -> list[str]:
    heads = ["row", *SHOWN_VERSIONS, "server", "passed", "failed", "skipped", "seconds", ""]
    cells = [heads, *(_cells(result) for result in results)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _cells(result: Result) -> list[str]:
    counts = result.counts
    numbers = [str(counts.passed), str(counts.failed), str(counts.skipped), f"{result.seconds:.0f}"]
    if result.missing:
        numbers = ["-"] * len(numbers)
    versions = [result.versions.get(name, "-") for name in SHOWN_VERSIONS]
    return [result.row.name, *versions, result.server or result.row.server, *numbers, result.verdict]
