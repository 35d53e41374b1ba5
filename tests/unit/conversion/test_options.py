"""Options are read once, by the format's own rows; what is wrong with them is said in full."""

from pathlib import Path

import pytest

from django_mongo_history.conversion.formats import find_format, known, known_formats
from django_mongo_history.conversion.options import COLLECTION, Option, as_text, read_options, timezone
from django_mongo_history.errors import ConversionError

OPTIONS = (
    COLLECTION,
    Option("image", "Which.", choices=("before", "after")),
    Option("strip", "Do.", is_flag=True),
)


def test_defaults_and_given_values() -> None:
    """What is not given, or None, has its default."""
    read = read_options(OPTIONS, {"collection": "rows", "image": None}, format_name="f")
    assert read == {"collection": "rows", "image": None, "strip": None}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"colection": "x"}, "--colection is no option of f. Did you mean --collection?"),
        ({"other_thing": 1}, "Its options: --collection, --image, --strip."),
        ({"collection": ""}, "--collection of f: expected a text that is not empty, got ''"),
        ({"image": "during"}, "--image: expected one of before, after, got 'during'"),
        ({"strip": "yes"}, "--strip: expected True or False, got 'yes'"),
    ],
)
def test_a_mistake_says_which_option_and_what_was_expected(given: dict[str, object], words: str) -> None:
    """One error, and it names what would have been right."""
    with pytest.raises(ConversionError) as error:
        read_options(OPTIONS, given, format_name="f")
    assert words in str(error.value)


def test_time_zones_exist() -> None:
    """By their names in the database of time zones."""
    assert timezone("Europe/Paris") == "Europe/Paris"
    for wrong in ("Europe/Pars", "", "../etc/passwd", None, 3):
        with pytest.raises(ValueError, match="a time zone that exists"):
            timezone(wrong)


def test_options_are_compared_as_text() -> None:
    """In one order, without those that say nothing."""
    assert as_text({"b": 1, "a": "x", "c": None, "d": False}) == '{"a": "x", "b": 1}'


def test_an_unknown_format_names_the_known_ones() -> None:
    """And the nearest of them."""
    with pytest.raises(ConversionError) as error:
        find_format("mongoengine_history")
    assert "Did you mean mongoengine-history?" in str(error.value)
    assert all(name in str(error.value) for name in known_formats())


def test_a_package_brings_a_format_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed with the package, known by its name; one that cannot be imported says so when it is asked for."""
    (tmp_path / "ledgers.py").write_text(
        "from django_mongo_history.conversion import Format\n\n\n"
        "class Ledger(Format):\n"
        '    name = "brought-ledger"\n\n'
        "    def steps(self, document_id, rows):\n"
        "        return ()\n",
        encoding="utf-8",
    )
    facts = tmp_path / "brought_ledgers-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: brought-ledgers\nVersion: 1.0\n", encoding="utf-8"
    )
    (facts / "entry_points.txt").write_text(
        "[django_mongo_history.formats]\nbrought-ledger = ledgers:Ledger\nbroken-ledger = ledgers:Nothing\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    known.forget()
    try:
        assert find_format("brought-ledger").name == "brought-ledger"
        assert "brought-ledger" in known_formats()
        assert "broken-ledger" not in known_formats()
        with pytest.raises(ConversionError, match="broken-ledger cannot be imported"):
            find_format("broken-ledger")
    finally:
        monkeypatch.undo()
        known.forget()


@pytest.mark.parametrize(
    "path", ["no.such.module.Format", "datetime.datetime", "django_mongo_history.nothing"]
)
def test_a_dotted_path_must_lead_to_a_format(path: str) -> None:
    """What is wrong with it is said."""
    with pytest.raises(ConversionError, match="SOURCE"):
        find_format(path)
