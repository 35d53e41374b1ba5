"""
Cut the excerpt in `data/` out of the whole releases.

    python -m testproject.airports.excerpt SOURCE [--country DE]... [--subdivision US:Alaska]... [--output DIRECTORY]

An airport that is chosen in one release is kept in all of them, so that its whole life is there. Beside the places
asked for, these are always chosen: airports that went and came back, or whose IATA code did, or whose kind changed.
Lines are copied, not rewritten, and the files are the same on every run.
"""

import argparse
import csv
import gzip
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from testproject.airports.documents import class_for
from testproject.airports.loader import DATA, Release, Row, read, releases

COUNTRIES = ("CH", "DE", "GB", "IS", "JP", "KR", "NO", "NZ", "PR", "TC", "TR", "VI")
SUBDIVISIONS = ("US:Alaska", "US:Vermont", "US:Hawaii")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the excerpt and say what it holds."""
    options = _parser().parse_args(argv)
    found = releases(options.source)
    histories = [read(release) for release in found]
    chosen = choose(
        histories,
        countries=options.country or COUNTRIES,
        subdivisions=options.subdivision or SUBDIVISIONS,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    for release in found:
        path = options.output / release.path.name
        kept = write(release, path=path, chosen=chosen)
        print(f"{path.name}: {kept:,} airports, {path.stat().st_size:,} bytes")
    print(f"{len(chosen):,} airports in all")
    return 0


def choose(
    histories: Sequence[dict[str, Row]], *, countries: Iterable[str], subdivisions: Iterable[str]
) -> set[str]:
    """The ICAO codes to keep, out of the releases' rows, oldest release first."""
    places = {(code, None) for code in countries}
    places |= {(country, name) for country, _, name in (text.partition(":") for text in subdivisions)}
    chosen = set()
    for code in set().union(*histories):
        life = [rows.get(code) for rows in histories]
        there = [row for row in life if row is not None]
        is_near = any({(row["country"], None), (row["country"], row["subd"])} & places for row in there)
        came_back = _came_back(life) or _came_back([row["iata"] for row in there])
        if is_near or came_back or len({class_for(row["name"]) for row in there}) > 1:
            chosen.add(code)
    return chosen


def write(release: Release, *, path: Path, chosen: set[str]) -> int:
    """Copy the header and the chosen lines of a release to `path`; how many airports that is."""
    lines = list(_lines(release, chosen))
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.writelines(lines)
    return len(lines) - 1


def _lines(release: Release, chosen: set[str]) -> Iterator[bytes]:
    """The header and the lines to keep, as they are; no value of these releases holds a line break."""
    with gzip.open(release.path, "rb") as file:
        yield next(file)
        for line in file:
            if next(csv.reader([line.decode("utf-8")]))[0] in chosen:
                yield line


def _came_back(life: Sequence[object]) -> bool:
    """Whether something was missing between two releases that have it."""
    marks = "".join("x" if there else "-" for there in life)
    return "-" in marks.strip("-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testproject.airports.excerpt", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("source", type=Path, help="directory with the whole releases")
    parser.add_argument(
        "--country", action="append", default=[], help="ISO code; again for more (default: some)"
    )
    parser.add_argument(
        "--subdivision", action="append", default=[], help="COUNTRY:NAME; again for more (default: some)"
    )
    parser.add_argument(
        "--output", type=Path, default=DATA, help="where to write (default: the data directory)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
