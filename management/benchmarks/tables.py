"""A table of results: as text for a terminal, as Markdown, and into its place on a page of the docs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from management.errors import ManagementError

PAGE = Path("docs") / "performance.md"


@dataclass(slots=True)
class Table:
    """
    What a benchmark found.

    `name`: that of the benchmark, by which the page knows the place. `columns`: headings, that of the rows' names
    first. `notes`: what is needed to read it, a sentence each.
    """

    name: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_text(self) -> str:
        """Columns side by side."""
        cells = [list(self.columns), *self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        lines = ["  ".join(_padded(row, widths)).rstrip() for row in cells]
        return "\n".join([*lines, *self.notes])

    def as_markdown(self) -> str:
        """The table and, below it, the notes."""
        lines = [_row(self.columns), _row(["---"] * len(self.columns)), *map(_row, self.rows)]
        return "\n".join([*lines, "", " ".join(self.notes)]).strip()


def put_on_page(table: Table, page: Path = PAGE) -> None:
    """Put the table into the place that has its name. Raises: as `fill`."""
    fill(f"bench {table.name}", table.as_markdown(), page)


def fill(marker: str, content: str, page: Path = PAGE) -> None:
    """Replace what stands between the markers of a place. Raises: ManagementError where the page has no such place."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->"
    place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    filled, count = place.subn(lambda _: f"{begin}{content}\n{end}", text)
    if count != 1:
        raise ManagementError(f"{page} has {count} places between {begin.strip()} and {end}: it takes one")
    page.write_text(filled, encoding="utf-8")


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    name, *values = row
    first, *others = widths
    return [name.ljust(first), *(value.rjust(width) for value, width in zip(values, others, strict=True))]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
