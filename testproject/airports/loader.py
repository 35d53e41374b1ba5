"""
Bring the database to one release, the ordinary MongoEngine way.

New airports are inserted in bulk, known ones get their changed attributes assigned and are saved, those that the
release no longer has are deleted. A document that does not change is not touched.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import islice
from pathlib import Path

from testproject.airports.documents import Airport, Country, Location, class_for, known_codes
from testproject.airports.fields import number

DATA = Path(__file__).resolve().parent / "data"
INSERT_SIZE = 500

Row = Mapping[str, str]
Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Release:
    """One release of the data: its date and the file that holds it."""

    date: date
    path: Path

    @property
    def name(self) -> str:
        """The date as people write it, for reasons and tables."""
        return self.date.isoformat()


@dataclass(frozen=True, slots=True)
class Counts:
    """What a load did to airports; `countries` is how many countries came or went."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    countries: int = 0

    @property
    def written(self) -> int:
        """How many documents were written, countries included."""
        return self.created + self.updated + self.deleted + self.countries


def releases(directory: Path | str | None = None) -> list[Release]:
    """The releases in `directory` (the excerpt beside this module by default), oldest first."""
    found = [release_of(path) for path in Path(directory or DATA).glob("airports-*.csv.gz")]
    if not found:
        raise FileNotFoundError(f"no airports-YYYYMMDD.csv.gz in {directory or DATA}")
    return sorted(found, key=lambda release: release.date)


def release_of(path: Path) -> Release:
    """The release in a file, whose name says when it is from."""
    day = path.name.removeprefix("airports-").removesuffix(".csv.gz")
    return Release(date=date.fromisoformat(day), path=path)


def read(release: Release) -> dict[str, Row]:
    """The rows of a release by ICAO code, every value the text that the file has."""
    with gzip.open(release.path, "rt", encoding="utf-8", newline="") as file:
        return {row["icao"]: row for row in csv.DictReader(file)}


def load(release: Release, progress: Progress | None = None) -> Counts:
    """
    Make the airports and countries in the database those of `release`.

    `progress` is called with (rows done, rows in all). Nothing is caught: a write that fails ends the load there.
    """
    rows = read(release)
    total = len(rows)
    counts: Counter[str] = Counter()
    used = {row["country"] for row in rows.values()}
    countries = _countries_for(used, counts)
    for airport in Airport.objects.order_by("pk").no_dereference().no_cache():
        counts[_bring_up(airport, rows.pop(airport.pk, None), countries)] += 1
        _report(progress, total - len(rows), total)
    for chunk in _chunks(rows.values()):
        Airport.objects.insert([_build(row, countries) for row in chunk], load_bulk=False)
        counts["created"] += len(chunk)
        _report(progress, total - len(rows) + counts["created"], total)
    _remove_unused(countries, used=used, counts=counts)
    return Counts(**counts)


def attributes(row: Row) -> dict[str, str | int | float | None]:
    """The row's values by attribute name; what is empty is None, `country` is still its code."""
    texts = {name: row.get(name) or None for name in ("iata", "lid", "name", "city", "country", "tz")}
    numbers = {name: number(row[name]) if row.get(name) else None for name in ("lat", "lon", "elevation")}
    return {**texts, "subdivision": row.get("subd") or None, **numbers}


def _bring_up(airport: Airport, row: Row | None, countries: Mapping[str, Country]) -> str:
    """Bring one known airport to its row; say what that took."""
    if row is None:
        airport.delete()
        return "deleted"
    if class_for(row["name"]) is not type(airport):
        _build(row, countries).save()  # another class: replaces the document, `_cls` and all
        return "updated"
    values = attributes(row)
    if not airport.revise({**values, "country": countries[row["country"]]}):
        return "unchanged"
    airport.save()
    return "updated"


def _build(row: Row, countries: Mapping[str, Country]) -> Airport:
    """A new airport for a row."""
    values = attributes(row)
    location = Location(**{name: values.pop(name) for name in ("lat", "lon", "elevation")})
    codes = known_codes(row["icao"], row["iata"], row.get("lid"))
    place = {**values, "country": countries[row["country"]], "location": location, "codes": codes}
    return class_for(row["name"])(icao=row["icao"], **place)


def _countries_for(needed: Set[str], counts: Counter[str]) -> dict[str, Country]:
    """All known countries by code, after the needed ones have been added."""
    known = {country.pk: country for country in Country.objects}
    new = [Country(code=code, name=country_names().get(code, code)) for code in sorted(needed - known.keys())]
    if new:
        Country.objects.insert(new, load_bulk=False)
        counts["countries"] += len(new)
    return known | {country.pk: country for country in new}


def _remove_unused(countries: Mapping[str, Country], *, used: Set[str], counts: Counter[str]) -> None:
    """Delete the countries that no airport lies in any more."""
    for code in sorted(countries.keys() - used):
        countries[code].delete()
        counts["countries"] += 1


@cache
def country_names() -> dict[str, str]:
    """Names by ISO 3166 code, from the table that comes with the time zone database."""
    lines = (DATA / "iso3166.tab").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if not line.startswith("#"))


def _chunks(rows: Iterable[Row]) -> Iterable[list[Row]]:
    """The rows in lists of at most INSERT_SIZE."""
    rest = iter(rows)
    while chunk := list(islice(rest, INSERT_SIZE)):
        yield chunk


def _report(progress: Progress | None, done: int, total: int) -> None:
    """Tell whoever wants to know."""
    if progress is not None:
        progress(done, total)
