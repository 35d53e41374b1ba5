"""
What converting an old history costs, against reading its rows raw and writing the same versions with `insert_many`.

The rows are those of mongoengine-history: 20 of each document, one a save, as saves mostly are. Conversion and floor have a
process each, that of the floor inserts what the conversion has made into a collection with the same indexes. Making the
rows, and reading the versions that the floor writes, is in no time.
"""

from __future__ import annotations

import mongoengine

from management.benchmarks.children import child
from management.benchmarks.convert_child import ROWS_OF_ONE, fill
from management.benchmarks.surroundings import (
    HISTORY,
    Place,
    bench_place,
    facts,
    history_with_indexes,
    say,
    set_up_django,
)
from management.benchmarks.tables import Table

ROWS, LARGE = 100_000, 1_000_000
COLUMNS = ("rows", "documents", "raw rows/s", "converted rows/s", "ratio", "resident memory at its peak")
_NOTE = (
    "Raw: all rows read as bytes, and the same versions written with `insert_many` into a collection with our indexes. "
    f"Ratio: converted to raw, at least 0.5 is promised; memory below 300 MB. {ROWS_OF_ONE} rows of each document."
)


def measure(*, rows: int | None, is_large: bool) -> Table:
    """Both rates, their ratio, and the converter's memory."""
    table = Table("convert", COLUMNS)
    set_up_django()
    with bench_place() as place:
        for size in [rows] if rows else [ROWS, LARGE] if is_large else [ROWS]:
            table.rows.append(_row(place, size))
        table.notes = [_NOTE, facts()]
    return table


def _row(place: Place, size: int) -> list[str]:
    documents = max(size // ROWS_OF_ONE, 1)
    for name in ("convert_bench", "history", f"{HISTORY}_conversions"):
        mongoengine.get_db()[name].drop()
    history_with_indexes()
    history_with_indexes("convert_floor")
    say(f"{size:,} rows: making them")
    fill(mongoengine.get_db(), documents)
    say(f"{size:,} rows: converting")
    with child("convert_child", place=place) as process:
        converted = process.ask(call="convert")
    say(f"{size:,} rows: reading raw and writing the same")
    with child("convert_child", place=place) as process:
        raw = process.ask(call="floor")
    assert converted["rows"] == raw["rows"] == documents * ROWS_OF_ONE
    fast, slow = raw["rows"] / raw["seconds"], converted["rows"] / converted["seconds"]
    return [
        f"{documents * ROWS_OF_ONE:,}",
        f"{documents:,}",
        f"{fast:,.0f}",
        f"{slow:,.0f}",
        f"{slow / fast:.2f}",
        f"{converted['peak'] / 1024:.0f} MB",
    ]
