"""What entries of lists are called: by their own ids, by all that they hold, or by what may be seen of it."""

from __future__ import annotations

from typing import Any

from bson import ObjectId

from django_mongo_history.conversion.listed import entries_of, names_of
from django_mongo_history.conversion.record import is_above, is_below
from django_mongo_history.conversion.rows import Row

SECRETS = [{"at": 1, "secret": "a"}, {"at": 1, "secret": "b"}, {"at": 2, "secret": "a"}]


def shown(row: Row) -> Any:
    return [row.values["entry"]["at"]]


def names(entries: list[Any], seen_by: Any = shown) -> list[Any]:
    found = entries_of(Row(7, {"_id": 7, "log": entries}), "log", key=7, shown=seen_by)
    return [row.id for row in found or ()]


def test_names_do_not_depend_on_what_is_not_shown() -> None:
    """Entries that show the same are counted, so each has a name of its own."""
    other = [{**entry, "secret": f"other {number}"} for number, entry in enumerate(SECRETS)]
    assert names(SECRETS) == names(other)
    assert len({repr(name) for name in names(SECRETS)}) == 3
    assert names(SECRETS, None) != names(other, None)


def test_own_ids_are_names_whatever_is_shown() -> None:
    """They say nothing."""
    entries = [{"_id": ObjectId(), "at": 1, "secret": number} for number in range(3)]
    assert names(entries) == names(entries, None) == [[7, entry["_id"]] for entry in entries]


def test_names_of_other_rules() -> None:
    """From the entries alone, whatever they are called now; rows of their own keep their names."""
    rows = entries_of(Row(7, {"_id": 7, "log": SECRETS}), "log", key=7) or []
    assert names_of(rows, key=7, shown=shown) == names(SECRETS)
    assert names_of([Row("alone", {"entry": {}})], key=7, shown=shown) == ["alone"]


def test_names_are_counted_by_list() -> None:
    """Two lists of one document do not count each other's entries."""
    lists = [
        entries_of(Row(home, {"_id": home, "log": SECRETS}), "log", key=0, shown=shown)
        for home in (1, 1.0, 2)
    ]
    together = [row for rows in lists for row in rows or ()]
    assert names_of(together, key=0, shown=shown) == [row.id for row in together]


def test_classes_above_and_below() -> None:
    """By their names in MongoEngine; beginning alike is not enough."""
    assert is_above("Mug", "Mug.SteinMug")
    assert is_below("Mug.SteinMug.Small", "Mug")
    assert not is_above("Mug", "Mug")
    assert not is_above("Mug", "MugShot")
    assert not is_above("Mug.SteinMug", "Mug.Glass")
