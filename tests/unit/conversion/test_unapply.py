"""From a state back to the one before it, by what a row says of the change: exactly, or not in silence."""

from typing import Any

import dictdiffer
import pytest
from bson import Binary
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.conversion.base import Edit
from django_mongo_history.conversion.unapply import invert, undo


def edits_of(before: dict[str, Any], after: dict[str, Any]) -> list[Edit]:
    """What mongoengine-history would store of a change: paths joined by dots."""
    found = dictdiffer.diff(before, after, dot_notation=False)
    return [Edit(action, ".".join(map(str, path)), payload) for action, path, payload in found]


LEAVES = st.integers(0, 10**6) | st.text(min_size=1, max_size=3) | st.booleans() | st.none()
KEYS = st.text("abc", min_size=1, max_size=2)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
STATES = st.dictionaries(KEYS, TREES, max_size=4)


@given(STATES, STATES)
def test_undoing_what_dictdiffer_tells_leads_back(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Whatever the change, without a misfit; the order of keys is the one thing that rows do not tell."""
    undone = undo(after, edits_of(before, after))
    assert undone.is_exact
    assert undone.before == before
    assert undone.after == after


@given(STATES, STATES)
def test_undoing_the_inverse_leads_forward(before: dict[str, Any], after: dict[str, Any]) -> None:
    """So one function walks both ways."""
    assert undo(before, invert(edits_of(before, after))).before == after


@pytest.mark.parametrize(
    ("state", "path", "expected"),
    [
        ({"a.b": 2, "a": {"b": 7}}, "a.b", {"a.b": 1, "a": {"b": 7}}),
        ({"a.b": 7, "a": {"b": 2}}, "a.b", {"a.b": 7, "a": {"b": 1}}),
        ({"a": {"0": 2}}, "a.0", {"a": {"0": 1}}),
        ({"a": [2, 3]}, "a.0", {"a": [1, 3]}),
        ({"a": {"b.c": {"d": 2}}}, "a.b.c.d", {"a": {"b.c": {"d": 1}}}),
        ({"a": {"b": {"c.d": 2}}, "a.b": {}}, "a.b.c.d", {"a": {"b": {"c.d": 1}}, "a.b": {}}),
        ({"": 2}, "", {"": 1}),
    ],
)
def test_a_dotted_path_means_the_place_that_has_the_value(state: Any, path: str, expected: Any) -> None:
    """Keys hold dots and digits; the state says which of the readings is meant."""
    undone = undo(state, [Edit("change", path, (1, 2))])
    assert undone.is_exact
    assert undone.before == expected


def test_two_places_that_fit_are_none() -> None:
    """Nothing is guessed: the row is left out, and that is said."""
    state = {"a.b": 2, "a": {"b": 2}}
    edit = Edit("change", "a.b", (1, 2))
    undone = undo(state, [edit])
    assert (undone.before, undone.left_out, undone.misfits) == (state, [edit], [])


def test_a_row_is_right_about_its_own_time() -> None:
    """Another value now: at its time it was as the row says, on both sides, and the caller is told."""
    edit = Edit("change", "name", ("A", "B"))
    undone = undo({"name": "C", "age": 1}, [edit])
    assert undone.misfits == [edit]
    assert undone.after == {"name": "B", "age": 1}
    assert undone.before == {"name": "A", "age": 1}


@pytest.mark.parametrize(
    ("state", "edit", "after", "before"),
    [
        ({"n": 1}, Edit("change", "x", (1, 2)), {"n": 1, "x": 2}, {"n": 1, "x": 1}),
        ({"n": 1, "x": 3}, Edit("add", "", [("x", 2)]), {"n": 1, "x": 2}, {"n": 1}),
        ({"n": 1, "x": 3}, Edit("remove", "", [("x", 2)]), {"n": 1}, {"n": 1, "x": 2}),
        ({"l": [1, 9, 9]}, Edit("add", "l", [(1, 2)]), {"l": [1, 2]}, {"l": [1]}),
        ({"l": [1, 9, 9]}, Edit("remove", "l", [(2, 4), (1, 3)]), {"l": [1]}, {"l": [1, 3, 4]}),
    ],
)
def test_what_does_not_fit_is_set_right_at_its_place(state: Any, edit: Edit, after: Any, before: Any) -> None:
    """Beside it nothing changes."""
    undone = undo(state, [edit])
    assert undone.misfits == [edit]
    assert (undone.after, undone.before) == (after, before)


@pytest.mark.parametrize(
    "edit",
    [
        Edit("change", "l.5", (1, 2)),
        Edit("add", "l", [(7, 1)]),
        Edit("remove", "l", [(7, 1)]),
        Edit("change", "gone.deep", (1, 2)),
        Edit("add", "gone.deep", [("k", 1)]),
    ],
)
def test_what_has_no_place_is_left_out(edit: Edit) -> None:
    """The state stays as it is on both sides."""
    state = {"l": [1, 2]}
    undone = undo(state, [edit])
    assert (undone.after, undone.before, undone.left_out) == (state, state, [edit])


def test_an_emptied_list_is_not_there_any_more() -> None:
    """MongoEngine takes out what it empties; the row still says what was in it."""
    undone = undo({"n": 1}, [Edit("remove", "tags", [(1, "b"), (0, "a")])])
    assert undone.is_exact
    assert undone.before == {"n": 1, "tags": ["a", "b"]}


@pytest.mark.parametrize("empty", [[], {}, None])
def test_what_is_empty_was_never_stored(empty: Any) -> None:
    """The old package saw it in the instance, the database never did: no write in between is made of that."""
    undone = undo({"n": 1}, [Edit("add", "", [("tags", empty)])])
    assert undone.is_exact
    assert undone.before == undone.after == {"n": 1}


def test_bytes_come_back_from_numbers() -> None:
    """Rows hold bytes as lists of numbers; the state says that they were bytes."""
    undone = undo({"b": Binary(b"\x01\xff", 128)}, [Edit("change", "b", ([0, 1], [1, 255]))])
    assert undone.is_exact
    assert undone.before == {"b": Binary(b"\x00\x01", 128)}


@pytest.mark.parametrize(("value", "told"), [(1, True), (0, False), (1, "1"), ("a", "b"), ([1], [2])])
def test_values_of_another_kind_do_not_fit(value: Any, told: Any) -> None:
    """A number is no truth value and no text."""
    assert not undo({"v": value}, [Edit("change", "v", (None, told))]).is_exact


@pytest.mark.parametrize(
    ("value", "told"), [(1, 1.0), (float("nan"), float("nan")), ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
)
def test_values_fit_whose_type_or_order_rows_have_lost(value: Any, told: Any) -> None:
    """Numbers are compared as numbers, documents without the order of their keys."""
    assert undo({"v": value}, [Edit("change", "v", (None, told))]).is_exact


def test_null_or_absent() -> None:
    """A source that does not tell the two apart: None is no key, and a null fits as well."""
    assert undo({"v": 2}, [Edit("set", "v", (None, 2))]).before == {}
    assert undo({}, [Edit("set", "v", (2, None))]).before == {"v": 2}
    assert undo({"v": None}, [Edit("set", "v", (2, None))]).before == {"v": 2}
    assert undo({"e": {"v": 2}}, [Edit("set", ("e", "v"), (None, 2))]).before == {"e": {}}


def test_states_are_never_changed_in_place() -> None:
    """Earlier and later states share what did not change."""
    state = {"a": {"b": [1, 2]}, "c": {"d": 1}}
    undone = undo(state, [Edit("change", "a.b.1", (0, 2))])
    assert state == {"a": {"b": [1, 2]}, "c": {"d": 1}}
    assert undone.before["c"] is state["c"]
