"""
The test project's loader against a real server: what is in MongoDB is what the releases say, to the BSON type.

The CSV files are read here a second time, by other means than the loader's. All but one test use a small cut of the
excerpt: Iceland, and the airports that went and came back or changed their kind.
"""

import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from testproject.airports.documents import Airport, Country, Heliport, SeaplaneBase
from testproject.airports.excerpt import choose, write
from testproject.airports.fields import NumberField, number
from testproject.airports.loader import Release, load, read, releases

pytestmark = pytest.mark.usefixtures("mongodb")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Release]:
    """All five releases, cut to some 170 airports."""
    directory = tmp_path_factory.mktemp("airports")
    chosen = choose([read(release) for release in releases()], countries=["IS"], subdivisions=[])
    for release in releases():
        write(release, path=directory / release.path.name, chosen=chosen)
    return releases(directory)


def rows_of(release: Release) -> dict[str, dict[str, str]]:
    """The release's rows by ICAO code, without what is empty."""
    with gzip.open(release.path, "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    named = ({key: text for key, text in zip(header, row, strict=True) if text} for row in rows)
    return {row["icao"]: row for row in named}


def stored(collection: str = "airports") -> dict[str, dict[str, Any]]:
    """The stored documents by id, read with PyMongo."""
    return {found["_id"]: found for found in mongoengine.get_db()[collection].find()}


def raw(collection: str) -> dict[str, bytes]:
    """The stored bytes by id."""
    options = CodecOptions(document_class=RawBSONDocument)
    return {
        found["_id"]: found.raw for found in mongoengine.get_db()[collection].with_options(options).find()
    }


def written(value: object) -> str:
    """A stored number as a text that tells its type."""
    return f"{type(value).__name__} {value!r}"


def expected_number(text: str) -> str:
    """The same for a number as a release wrote it: with a point or an exponent it is a double."""
    return f"int {int(text)}" if re.fullmatch(r"-?\d+", text) else f"float {float(text)!r}"


def is_same(before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether two rows say the same; how a double is spelled (`1.50` or `1.5`) makes no difference."""
    return typed(before) == typed(after)


def typed(row: dict[str, str]) -> dict[str, str]:
    """The row with its numbers as `expected_number` tells them."""
    numbers = {key: expected_number(row[key]) for key in ("lat", "lon", "elevation")}
    return {**row, **numbers}


def loaded(chosen: Sequence[Release]) -> Iterator[tuple[Release, Any]]:
    """Load one release after the other, yielding each with its counts."""
    for release in chosen:
        yield release, load(release)


def test_the_excerpt_holds_five_releases_in_order():
    """Releases come oldest first."""
    assert [release.name for release in releases()] == [
        "2020-11-06",
        "2021-09-26",
        "2023-09-06",
        "2024-04-01",
        "2025-09-09",
    ]


def test_every_document_is_its_row_after_every_release():
    """After each load of the whole excerpt there is one document per row, with the row's texts and codes."""
    for release, _ in loaded(releases()):
        rows, documents = rows_of(release), stored()
        assert documents.keys() == rows.keys()
        for icao, row in rows.items():
            document = documents[icao]
            texts = {
                key: document.get(key) for key in ("iata", "lid", "name", "city", "subd", "country", "tz")
            }
            assert texts == {key: row.get(key) for key in texts}
            assert document["codes"] == list(
                dict.fromkeys(filter(None, (icao, row.get("iata"), row.get("lid"))))
            )


def test_numbers_keep_the_type_that_the_release_wrote(small: list[Release]):
    """`450.0` is stored as a double and `450` as an int, also where that is all that changed."""
    for release, _ in loaded(small):
        documents = stored()
        for icao, row in rows_of(release).items():
            location = {key: written(value) for key, value in documents[icao]["location"].items()}
            assert location == {key: expected_number(row[key]) for key in ("lat", "lon", "elevation")}


def test_counts_equal_an_independent_count(small: list[Release]):
    """Created, updated, unchanged and deleted are what comparing the files says."""
    before: dict[str, dict[str, str]] = {}
    for release, counts in loaded(small):
        after = rows_of(release)
        both = before.keys() & after.keys()
        updated = sum(not is_same(before[icao], after[icao]) for icao in both)
        assert (counts.created, counts.deleted) == (
            len(after.keys() - before.keys()),
            len(before.keys() - after.keys()),
        )
        assert (counts.updated, counts.unchanged) == (updated, len(both) - updated)
        before = after


def test_loading_a_release_again_writes_nothing(small: list[Release]):
    """A second load of the same release leaves every byte, and says so."""
    load(small[0])
    airports, countries = raw("airports"), raw("countries")
    counts = load(small[0])
    assert counts.written == 0
    assert counts.unchanged == len(airports)
    assert (raw("airports"), raw("countries")) == (airports, countries)


def test_a_vanished_value_is_unset_and_comes_back_at_the_end(small: list[Release]):
    """A field that a release no longer has is absent, not null; when it returns, it is the last key."""
    loading = loaded(small)
    next(loading)
    assert stored()["KBPG"]["iata"] == "BGS"
    next(loading)
    assert "iata" not in stored()["KBPG"]
    next(loading), next(loading)
    assert list(stored()["KBPG"])[-1] == "iata"


def test_an_airport_that_changes_its_kind_changes_its_class(small: list[Release]):
    """The class follows the name, both ways."""
    *_, _ = loaded(small[:4])
    assert type(Airport.objects.get(pk="3AK4")) is SeaplaneBase
    assert type(Airport.objects.get(pk="KHLR")) is Heliport
    assert type(Airport.objects.get(pk="CYWH")) is SeaplaneBase
    load(small[4])
    assert type(Airport.objects.get(pk="CYWH")) is Airport


def test_countries_are_those_in_use(small: list[Release]):
    """A country comes with its first airport and goes with its last."""
    for release, _ in loaded(small):
        assert stored("countries").keys() == {row["country"] for row in rows_of(release).values()}
    assert Country.objects.get(pk="IS").name == "Iceland"


def test_a_change_of_type_alone_is_saved(small: list[Release]):
    """Assigning 450 over 450.0 is a change; assigning 450 over 450 is none."""
    load(small[0])
    airport = Airport.objects.get(pk="BIKF")
    airport.location.elevation = 171.0
    assert airport._get_changed_fields() == []
    airport.location.elevation = 171
    airport.save()
    assert written(stored()["BIKF"]["location"]["elevation"]) == "int 171"


@pytest.mark.parametrize("value", [True, "450", float("nan"), float("inf")])
def test_a_number_field_takes_numbers_only(value: object):
    """No bool, no text, nothing infinite."""
    with pytest.raises(mongoengine.ValidationError):
        NumberField().validate(value)


@pytest.mark.parametrize("text", ["", "abc", "nan", "inf", "1,5"])
def test_a_text_that_is_no_number_is_refused(text: str):
    """What is no finite number raises ValueError."""
    with pytest.raises(ValueError, match=r"finite|convert"):
        number(text)


def test_a_directory_without_releases_says_so(tmp_path: Path):
    """The error names the directory."""
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
        releases(tmp_path)
