"""What is hidden or untracked is in no row that is kept, and in no edit that is walked by."""

from typing import Any

import pytest

from django_mongo_history.conversion.base import Edit
from django_mongo_history.conversion.scrubbing import scrubbed_edits, scrubbed_row
from django_mongo_history.core.policy import Policy

SECRET = "s3cret"
RULES = Policy(hidden=(("password",), ("cards", "number"), ("info", "*", "pin")), untracked=(("seen",),))


def change(path: str, old: Any, new: Any) -> dict[str, Any]:
    return {"_id": 1, "action": "change", "path": path, "data": {"old": old, "new": new}}


def items(action: str, path: str, *pairs: tuple[Any, Any]) -> dict[str, Any]:
    return {
        "_id": 1,
        "action": action,
        "path": path,
        "data": {"items": [{"key": key, "value": value} for key, value in pairs]},
    }


@pytest.mark.parametrize(
    "row",
    [
        change("password", SECRET, SECRET),
        change("password.deeper", SECRET, 1),
        change("cards.0.number", SECRET, 2),
        change("cards", [{"number": SECRET, "name": "n"}], None),
        change("info.home.pin", SECRET, 1),
        change("info.a.b.pin", SECRET, 1),
        change("info", {"home": {"pin": SECRET}}, {}),
        change("seen", SECRET, 1),
        items("add", "", ("password", SECRET), ("name", "n")),
        items("add", "cards", (0, {"number": SECRET})),
        items("remove", "cards.0", ("number", SECRET)),
        items("remove", "info", ("home", {"pin": SECRET})),
        change(".".join("a" * 20), SECRET, SECRET),
    ],
)
def test_no_hidden_value_is_kept(row: dict[str, Any]) -> None:
    """Wherever it lies: at the path, below it, in a list, behind a key that holds dots."""
    assert SECRET not in str(scrubbed_row(row, RULES))
    edit = Edit(row["action"], row["path"], _payload(row))
    if edit.path.count(".") < 10:
        edits, _hidden = scrubbed_edits([edit], RULES)
        assert SECRET not in str(edits)


def _payload(row: dict[str, Any]) -> Any:
    data = row["data"]
    if "items" in data:
        return [(one["key"], one["value"]) for one in data["items"]]
    return data["old"], data["new"]


def test_the_fact_of_a_hidden_change_is_kept() -> None:
    """By its path; of an untracked one nothing is."""
    assert scrubbed_edits([Edit("change", "password", (1, 2))], RULES) == ([], ("password",))
    assert scrubbed_edits([Edit("change", "seen", (1, 2))], RULES) == ([], ())
    edits, hidden = scrubbed_edits([Edit("add", "", [("password", 1), ("name", "n")])], RULES)
    assert edits == [Edit("add", "", [("name", "n")])]
    assert hidden == ("password",)


def test_what_is_not_hidden_stays() -> None:
    """As it is: the same row, the same edits."""
    row = change("name", 1, 2)
    assert scrubbed_row(row, RULES) == row
    assert scrubbed_row(row, Policy()) is row
    edit = Edit("change", "cards.0.name", (1, 2))
    assert scrubbed_edits([edit], RULES) == ([edit], ())
