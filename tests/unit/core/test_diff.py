"""Patches: exact both ways, in dictdiffer's format, and right where dictdiffer itself is not."""

from __future__ import annotations

import copy
from typing import Any

import dictdiffer
import pytest
from bson import Decimal128, Int64
from hypothesis import given, settings
from hypothesis import strategies as st

from django_mongo_history.core import diff, patches, values
from django_mongo_history.core.patches import Patch, PatchError
from tests.strategies import SPECIAL, doc, pairs

Documents = tuple[bytes, bytes]


def forward(patch: Patch, document: bytes) -> bytes:
    return values.encode(diff.apply(patch, values.decode(document)))


def there_and_back(before: Any, after: Any) -> Patch:
    """The patch, after it has proved to lead both ways byte for byte."""
    patch = diff.diff(before, after)
    assert values.same(diff.apply(patch, before), after)
    assert values.same(diff.apply(diff.invert(patch), after), before)
    return patch


# -- laws -------------------------------------------------------------------------------------------------------------


@given(pairs)
def test_a_patch_leads_to_the_next_state(pair: Documents) -> None:
    """`apply(diff(a, b), a) == b`, byte for byte."""
    assert forward(diff.diff(*pair), pair[0]) == pair[1]


@given(pairs)
def test_an_inverted_patch_leads_back(pair: Documents) -> None:
    """`apply(invert(diff(a, b)), b) == a`, byte for byte."""
    assert forward(diff.invert(diff.diff(*pair)), pair[1]) == pair[0]


@given(pairs)
def test_inverting_twice_changes_nothing(pair: Documents) -> None:
    """`invert(invert(p))` leads where `p` leads."""
    assert forward(diff.invert(diff.invert(diff.diff(*pair))), pair[0]) == pair[1]


@given(pairs)
def test_no_change_is_an_empty_patch(pair: Documents) -> None:
    """A patch is false exactly where both documents are the same bytes."""
    assert bool(diff.diff(*pair)) == (pair[0] != pair[1])


@given(pairs)
def test_the_stored_form_is_the_patch(pair: Documents) -> None:
    """`encode_entries(decode_entries(x)) == x`: what is spliced from the images is what Python values would give."""
    stored = diff.diff_images(*pair).patch
    assert patches.encode_entries(patches.decode_entries(stored)) == stored


@given(pairs)
def test_the_key_order_can_be_stored(pair: Documents) -> None:
    """`key_order` survives BSON, odd keys included."""
    key_order = diff.diff(*pair).key_order
    assert values.decode_value(*values.encode_value(key_order)) == key_order


@given(pairs)
def test_a_patch_is_never_much_larger_than_both_images(pair: Documents) -> None:
    """Patch and key order take no more than both documents and a fixed part for each top-level key."""
    before, after = pair
    keys = len({*values.decode(before), *values.decode(after)})
    assert diff.diff_images(before, after).size <= len(before) + len(after) + 1024 + 100 * keys


@given(pairs)
def test_applying_leaves_the_state_alone(pair: Documents) -> None:
    """`apply` works on a copy; nothing of the given state is touched."""
    state = values.decode(pair[0])
    diff.apply(diff.diff(*pair), state)
    assert values.encode(state) == pair[0]


@given(pairs)
def test_every_changed_path_is_named(pair: Documents) -> None:
    """`paths` has an entry for each edit: what `touching` is answered from."""
    found = diff.diff_images(*pair)
    edits = sum(
        1 if operation == "change" else len(payload)
        for operation, _path, payload in patches.decode_entries(found.patch)
    )
    assert len(found.paths) == edits + len(found.key_order)


plain = st.recursive(
    st.integers(2, 9) | st.text("xyz", min_size=1, max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
plain_documents = st.dictionaries(st.sampled_from("abcd"), plain, max_size=4)


@settings(max_examples=50)
@given(plain_documents, plain_documents)
def test_entries_are_those_of_dictdiffer(before: dict[str, Any], after: dict[str, Any]) -> None:
    """On plain values without type traps the entries are dictdiffer's own, up to their order."""
    ours = diff.diff(before, after).entries
    theirs = list(dictdiffer.diff(before, after, dot_notation=False))
    assert sorted(map(repr, ours)) == sorted(map(repr, theirs))


# -- where dictdiffer 0.10 is wrong -------------------------------------------------------------------------------------


def test_three_items_removed_from_a_list_come_back_in_order() -> None:
    """dictdiffer's revert gives [1, 3, 2] (its issue 178)."""
    there_and_back({"x": [1, 2, 3]}, {"x": []})


def test_several_items_added_to_a_list_go_again() -> None:
    """dictdiffer's revert of an expanded diff raises IndexError."""
    there_and_back({"x": [1]}, {"x": [1, 2, 3, 4]})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (0, False),
        (1, True),
        (1, 1.0),
        (5, Int64(5)),
        (0.0, -0.0),
        (0.1 + 0.2, 0.3),
        (2**53, 2**53 + 1),
        (1234567890123456789, 1234567890123456788),
        (Decimal128("1.10"), Decimal128("1.1")),
        (1, Decimal128("1")),
    ],
    ids=repr,
)
def test_values_that_compare_equal_in_python_are_changes(before: Any, after: Any) -> None:
    """dictdiffer sees no difference, or none that is large enough for its tolerance."""
    assert there_and_back({"x": before}, {"x": after}).entries == [("change", ["x"], (before, after))]


def test_nan_is_no_change() -> None:
    """NaN differs from itself in Python, and is the same value in a document."""
    assert not diff.diff({"x": float("nan")}, {"x": float("nan")})


def test_a_decimal_nan_keeps_its_place_in_a_list() -> None:
    """dictdiffer reverts [None, NaN, None] as [None, None, NaN]."""
    there_and_back({"1": [None, Decimal128("NaN"), None]}, {"1": []})


def test_a_key_order_is_a_change() -> None:
    """dictdiffer sees none; embedded documents in another key order are different values to MongoDB."""
    patch = there_and_back({"x": {"a": 1, "b": 2}}, {"x": {"b": 2, "a": 1}})
    assert patch == Patch([], [[["x"], ["a", "b"], ["b", "a"]]])


def test_a_removed_key_comes_back_to_its_place() -> None:
    """Only the way back would lose the order, so only the old order is stored."""
    patch = there_and_back({"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 3})
    assert patch.key_order == [[[], ["a", "b", "c"], None]]


def test_an_appended_key_needs_no_key_order() -> None:
    """Where the entries alone keep the order both ways nothing else is stored."""
    assert there_and_back({"a": 1}, {"a": 1, "b": 2}).key_order == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"": {}}, {"": {"c": {}}}),
        ({"": []}, {"": [{}]}),
        ({"a.b": 1, "a": {"b": 1}}, {"a.b": 2, "a": {"b": 1}}),
        ({"0": [1], "x": {"0": 1}}, {"0": [2], "x": {"0": 2}}),
        ({"$set": 1, "$ref": "c", "$id": 1}, {"$set": 2, "$ref": "d", "$id": 1}),
    ],
    ids=repr,
)
def test_odd_keys_are_keys(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Empty, dotted, numeric and dollar keys are patched where they lie; dictdiffer patches the root for an empty one."""
    there_and_back(before, after)


def test_another_container_is_one_change() -> None:
    """A dict that becomes a list is one change with both whole values."""
    patch = there_and_back({"x": {"0": 1}}, {"x": [1]})
    assert patch.entries == [("change", ["x"], ({"0": 1}, [1]))]


def test_a_patched_state_shares_nothing_with_the_patch() -> None:
    """dictdiffer puts the diff's own objects into the result, where a later edit changes the stored diff."""
    patch = diff.diff({}, {"x": {"list": [1]}})
    kept = copy.deepcopy(patch)
    diff.apply(patch, {})["x"]["list"].append(2)
    assert patch == kept


@pytest.mark.parametrize(
    "entry",
    [
        ("change", ["gone"], (1, 2)),
        ("change", ["x", "deeper"], (1, 2)),
        ("change", ["list", 5], (1, 2)),
        ("change", ["list", -1], (1, 2)),
        ("change", ["list", "0"], (1, 2)),
        ("add", [], [("x", 2)]),
        ("add", ["list"], [(9, 2)]),
        ("add", ["list"], [("a", 2)]),
        ("add", ["gone"], [("a", 2)]),
        ("remove", [], [("gone", 2)]),
        ("remove", ["list"], [(7, 2)]),
        ("remove", ["x"], [("a", 2)]),
    ],
    ids=repr,
)
def test_a_patch_that_does_not_fit_is_an_error(entry: Any) -> None:
    """dictdiffer applies blindly: it creates missing keys, appends beyond the end, removes what is not there."""
    with pytest.raises(PatchError):
        diff.apply(Patch([entry], []), {"x": 1, "list": [1, 2]})


@pytest.mark.parametrize(
    "keys", [["a"], ["a", "b", "c"], ["a", "x"]], ids=["too few", "too many", "of another document"]
)
def test_a_key_order_that_does_not_fit_is_an_error(keys: list[str]) -> None:
    """An order of other keys than there are is refused."""
    with pytest.raises(PatchError, match="are not those"):
        diff.apply(Patch([], [[[], None, keys]]), {"a": 1, "b": 2})


# -- size -------------------------------------------------------------------------------------------------------------


def test_a_shifted_list_is_one_change() -> None:
    """An element put in front of many would be a change of each: the list is stored whole, on both sides once."""
    before = [{"n": number, "name": f"name {number}"} for number in range(500)]
    patch = there_and_back({"x": before, "y": 1}, {"x": [{"n": -1}, *before], "y": 1})
    assert [entry[:2] for entry in patch.entries] == [("change", ["x"])]


def test_a_long_list_with_a_few_changes_stays_fine_grained() -> None:
    """A list that grew is not stored whole while few of its places differ."""
    before = list(range(1000))
    patch = there_and_back({"x": before}, {"x": [*before[:500], -1, *before[501:], 1000]})
    assert [entry[:2] for entry in patch.entries] == [("change", ["x", 500]), ("add", ["x"])]


def test_many_changes_of_one_list_are_one() -> None:
    """Where the patch would be larger than both images whole top-level values stand in it."""
    patch = there_and_back({"x": list(range(2000)), "y": 1}, {"x": list(range(1, 2001)), "y": 1})
    assert [entry[:2] for entry in patch.entries] == [("change", ["x"])]


def test_many_key_orders_are_one_change() -> None:
    """Lists of keys count: where they are larger than both images whole values stand in their place."""
    before = [{"a": 1, "b": 2}] * 1000
    patch = there_and_back({"x": before}, {"x": [{"b": 2, "a": 1}] * 1000})
    assert [entry[:2] for entry in patch.entries] == [("change", ["x"])]


# -- what no path leads into --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reference", "reference_backwards", "duplicate_keys", "odd_array"])
def test_what_is_no_plain_container_changes_whole(name: str) -> None:
    """No path leads into what PyMongo reads as a reference, nor where a key or an index names nothing certain."""
    before = doc(("x", SPECIAL[name]))
    after = before.replace(b"\x01\x00\x00\x00", b"\x07\x00\x00\x00")
    patch = diff.diff(before, after)
    assert [entry[:2] for entry in patch.entries] == [("change", ["x"])]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (doc(("a", 1)), doc(("a", 1), ("a", 2))),
        (doc(("a", 1), ("b", 1), ("a", 2)), doc(("b", 1))),
        (doc(("a", 1), ("b", 1), ("a", 2)), doc(("a", 2), ("b", 1), ("a", 1))),
    ],
)
def test_twice_the_same_key_at_the_top_changes_as_a_whole(before: bytes, after: bytes) -> None:
    """No tree holds such a document, so the patch is one change of all of it, byte for byte both ways."""
    encoded = diff.diff_images(before, after)
    patch = patches.Patch(patches.decode_entries(encoded.patch), encoded.key_order)
    assert [entry[:2] for entry in patch.entries] == [("change", [])]
    assert values.encode(diff.apply_in_place(patch, values.decode_any(before))) == after
    assert values.encode(diff.apply_in_place(diff.invert(patch), values.decode_any(after))) == before


def test_of_documents_that_change_as_a_whole_the_differing_names_are_known() -> None:
    """They are what `touching` looks for."""
    before, after = doc(("a", 1), ("a", 2), ("b", 1), ("c", 3)), doc(("a", 1), ("a", 3), ("b", 1), ("d", 3))
    assert diff.diff_images(before, after).paths == [("a",), ("c",), ("d",)]


# -- stored form --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\x05\x00\x00\x00\x00",
        doc(("p", 5)),
        doc(("p", [5])),
        doc(("p", [["change", ["x"]]])),
        doc(("p", [["change", "x", [1, 2]]])),
        doc(("p", [["change", ["x"], [1]]])),
        doc(("p", [["rename", ["x"], [1, 2]]])),
        doc(("p", [["add", ["x"], [1]]])),
        doc(("p", [["add", ["x"], 7]])),
    ],
    ids=range(10),
)
def test_bytes_that_hold_no_patch_are_a_patch_error(stored: bytes) -> None:
    """A broken patch is told from others' errors."""
    with pytest.raises(PatchError, match="not a patch"):
        patches.decode_entries(stored)


# -- order of keys, leniently -----------------------------------------------------------------------------------------


def test_arranging_keys_keeps_what_it_does_not_know() -> None:
    """Known keys come in the wanted order, others behind them."""
    state = {"x": {"c": 1, "new": 2, "a": 3}}
    diff.arrange_keys(state, ["x"], ["a", "b", "c"])
    assert list(state["x"]) == ["a", "c", "new"]


def test_arranging_keys_where_nothing_lies_does_nothing() -> None:
    """A path that is gone is no error: the order of a document that is not there does not matter."""
    state: dict[str, Any] = {"x": 1}
    diff.arrange_keys(state, ["y", "z"], ["a"])
    assert state == {"x": 1}
