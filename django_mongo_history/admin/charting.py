"""The chart of changes per day: an SVG of rectangles and titles, styled by classes, and the same as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from operator import attrgetter
from typing import Final

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from django_mongo_history.admin.access import Access
from django_mongo_history.admin.labels import OPERATIONS
from django_mongo_history.admin.listing import read_heads
from django_mongo_history.admin.searching import Search
from django_mongo_history.core.model import Operation

MOST: Final = 50_000
"""Versions that the chart looks at, the newest ones."""
MOST_DAYS: Final = 92
"""Days that it shows."""
WIDTH: Final = 920
HEIGHT: Final = 120
_STACKED: Final = (Operation.CREATE, Operation.UPDATE, Operation.DELETE, Operation.BASELINE)


@dataclass(frozen=True, slots=True)
class DayRow:
    """One day and how many changes of each operation it had, in the order of the legend."""

    day: date
    label: str
    counts: list[int]
    total: int


@dataclass(frozen=True, slots=True)
class Chart:
    """
    `is_cut`: whether there were more versions than the chart looks at. `legend`: (operation, what it is called).
    `highest`: changes of the day that has most, which is as high as the chart.
    """

    svg: SafeString
    days: list[DayRow]
    legend: list[tuple[str, str]]
    total: int
    is_cut: bool
    highest: int
    first: str
    last: str


def chart_of(access: Access, search: Search) -> Chart:
    """
    Counts by day, in the time zone of the user. Cost: the heads of `MOST` versions at most, by the indexes of the list.
    """
    heads = sorted(
        read_heads(access, search.queries, most=MOST + 1), key=attrgetter("at", "id"), reverse=True
    )
    is_cut = len(heads) > MOST
    found: dict[date, Counter[Operation]] = {}
    zone = timezone.get_current_timezone()
    for head in heads[:MOST]:
        found.setdefault(head.at.astimezone(zone).date(), Counter())[head.operation] += 1
    days = _days(found)
    shown = [one for one in _STACKED if any(counts[one] for counts in found.values())]
    rows = [_row(day, found.get(day, Counter()), shown) for day in days]
    return Chart(
        svg=_svg(rows, shown),
        days=rows,
        legend=[(one.value, str(OPERATIONS[one])) for one in shown],
        total=sum(row.total for row in rows),
        is_cut=is_cut,
        highest=max((row.total for row in rows), default=0),
        first=rows[0].label if rows else "",
        last=rows[-1].label if rows else "",
    )


def _days(found: dict[date, Counter[Operation]]) -> list[date]:
    """Every day from the first to the last, the last `MOST_DAYS` of them."""
    if not found:
        return []
    last = max(found)
    first = max(min(found), last - timedelta(days=MOST_DAYS - 1))
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _row(day: date, counts: Counter[Operation], shown: list[Operation]) -> DayRow:
    numbers = [counts[one] for one in shown]
    return DayRow(day, date_format(day, "SHORT_DATE_FORMAT"), numbers, sum(numbers))


def _svg(rows: list[DayRow], shown: list[Operation]) -> SafeString:
    if not rows:
        return SafeString("")
    highest = max(row.total for row in rows)
    step = min(WIDTH / len(rows), 40.0)
    bars: list[tuple[str, ...]] = []
    for position, row in enumerate(rows):
        bottom = float(HEIGHT)
        for operation, count in zip(shown, row.counts, strict=True):
            if count:
                height = max(count / highest * HEIGHT, 1.0)
                bottom -= height
                place = (
                    f"{position * step:.2f}",
                    f"{max(bottom, 0):.2f}",
                    f"{step * 0.8:.2f}",
                    f"{height:.2f}",
                )
                bars.append((operation.value, *place, f"{row.label}: {count} {OPERATIONS[operation]}"))
    drawn = format_html_join(
        "",
        '<rect class="mh-bar mh-bar-{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
        bars,
    )
    return format_html(
        '<svg class="mh-chart" viewBox="0 0 {} {}" role="img" aria-labelledby="mh-chart-title" '
        'preserveAspectRatio="none">{}</svg>',
        WIDTH,
        HEIGHT,
        drawn,
    )
