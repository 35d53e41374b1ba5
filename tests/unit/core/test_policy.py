"""What is tracked of a class: pruning, fingerprints, hidden changes, snapshots."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given

from django_mongo_history.core import policy, values
from django_mongo_history.core.elements import DOCUMENT
from django_mongo_history.core.policy import Policy
from tests.strategies import SPECIAL, doc, documents, policies


def pruned(document: Any, *paths: str) -> Any:
    rules = Policy(hidden=tuple(tuple(path.split(".")) for path in paths))
    return values.decode(policy.prune(values.encode(document), rules))


@given(documents, policies)
def test_pruning_twice_is_pruning_once(document: bytes, rules: Policy) -> None:
    """`prune(prune(x)) == prune(x)`."""
    once = policy.prune(document, rules)
    assert policy.prune(once, rules) == once


@given(documents, policies, policies)
def test_two_policies_joined_prune_what_either_does(document: bytes, one: Policy, other: Policy) -> None:
    """`prune(x, p.joined(q)) == prune(prune(x, p), q)`: what makes states under two policies comparable."""
    assert policy.prune(document, one.joined(other)) == policy.prune(policy.prune(document, one), other)


@given(documents, policies)
def test_hidden_and_untracked_are_pruned_alike(document: bytes, rules: Policy) -> None:
    """Only the fact of a change tells the two apart; no value of either is kept."""
    hidden = Policy(hidden=rules.hidden + rules.untracked)
    assert policy.prune(document, rules) == policy.prune(document, hidden)


@given(documents, policies)
def test_a_value_is_pruned_as_its_document_would(document: bytes, rules: Policy) -> None:
    """`prune_value` of each top-level value gives what `prune` leaves of it."""
    state, expected = values.decode(document), values.decode(policy.prune(document, rules))
    found = {
        key: policy.prune_value((key,), *values.encode_value(value), rules) for key, value in state.items()
    }
    assert {key: value for key, value in found.items() if value is not None} == {
        key: values.encode_value(value) for key, value in expected.items()
    }


@given(documents)
def test_without_rules_nothing_is_pruned(document: bytes) -> None:
    """A policy without paths gives the image itself."""
    assert policy.prune(document, Policy()) is document


@given(policies)
def test_a_fingerprint_says_the_rules(rules: Policy) -> None:
    """What a stored fingerprint reads back to prunes the same and has the same fingerprint."""
    assert Policy.from_fingerprint(rules.fingerprint).fingerprint == rules.fingerprint


def test_a_fingerprint_does_not_depend_on_the_order_of_rules() -> None:
    """The same rules written down differently are the same policy."""
    one, other = Policy(hidden=(("a",), ("b", "c"))), Policy(hidden=(("b", "c"), ("a",)))
    assert one.fingerprint == other.fingerprint


def test_no_rules_have_an_empty_fingerprint() -> None:
    """The common case costs nothing in a row."""
    assert Policy().fingerprint == ""


@pytest.mark.parametrize(
    ("path", "document", "left"),
    [
        ("a", {"a": 1, "b": 2}, {"b": 2}),
        ("a.b", {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}),
        ("a.b", {"a": [{"b": 1}, {"c": 2}, 3]}, {"a": [{}, {"c": 2}, 3]}),
        ("a.b", {"a": [[{"b": 1}], {"b": [{"x": 1}]}]}, {"a": [[{}], {}]}),
        ("a.b", {"a": 5, "b": 1}, {"a": 5, "b": 1}),
        ("a.*", {"a": {"x": 1, "y": {"z": 2}}}, {"a": {}}),
        ("*.b", {"a": {"b": 1, "c": 2}, "d": [{"b": 3}]}, {"a": {"c": 2}, "d": [{}]}),
        ("a.*.b", {"a": {"x": {"b": 1, "c": 2}, "b": 3}}, {"a": {"x": {"c": 2}, "b": 3}}),
        ("a.0", {"a": {"0": 1}, "b": 2}, {"a": {}, "b": 2}),
        ("a.0", {"a": [1, 2]}, {"a": [1, 2]}),
        ("gone.b", {"a": 1}, {"a": 1}),
    ],
)
def test_paths_go_through_documents_and_lists(path: str, document: Any, left: Any) -> None:
    """A path names keys; lists have no part of their own, and `*` is any key."""
    assert pruned(document, path) == left


def test_rules_of_a_name_and_of_any_name_hold_together() -> None:
    """Where a name and `*` both have rules below them both prune, whichever was written first."""
    document = {"a": {"x": 1, "y": 2, "z": 3}, "b": {"x": 1, "y": 2}}
    assert pruned(document, "a.x", "*.y") == pruned(document, "*.y", "a.x") == {"a": {"z": 3}, "b": {"x": 1}}


def test_a_path_below_another_adds_nothing() -> None:
    """What lies below a pruned path is gone already."""
    assert pruned({"a": {"b": 1}, "c": 1}, "a.b", "a") == pruned({"a": {"b": 1}, "c": 1}, "a") == {"c": 1}


def test_every_one_of_duplicate_keys_is_pruned() -> None:
    """A key that stands twice in an embedded document is hidden twice."""
    image = doc(("a", (DOCUMENT, doc(("s", 1), ("x", 2), ("s", 3)))))
    assert policy.prune(image, Policy(hidden=(("a", "s"),))) == doc(("a", {"x": 2}))


def test_an_odd_array_keeps_its_names() -> None:
    """What is not pruned stays as it lies, names of elements included."""
    image = doc(("a", SPECIAL["odd_array"]), ("s", 1))
    assert policy.prune(image, Policy(hidden=(("a", "x"), ("s",)))) == doc(("a", SPECIAL["odd_array"]))


@pytest.mark.parametrize(
    ("path", "rule", "expected"),
    [
        (("a",), ("a",), True),
        (("a", 0, "b", "c"), ("a", "b"), True),
        (("a",), ("a", "b"), False),
        (("x", "b"), ("*", "b"), True),
        (("a", "c"), ("a", "b"), False),
        ((0, 1), ("a",), False),
    ],
)
def test_a_path_is_hidden_at_and_below_a_rule(
    path: tuple[str | int, ...], rule: tuple[str, ...], expected: bool
) -> None:
    """Indexes of lists do not count; what only leads to a hidden path is not hidden itself."""
    assert policy.is_hidden(path, Policy(hidden=(rule,))) is expected
    assert policy.is_untracked(path, Policy(untracked=(rule,))) is expected


def hidden_changes(before: Any, after: Any, *paths: str) -> tuple[str, ...]:
    rules = Policy(hidden=tuple(tuple(path.split(".")) for path in paths))
    images = [None if state is None else values.encode(state) for state in (before, after)]
    return policy.hidden_changes(images[0], images[1], rules)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"s": 1}, {"s": 1, "x": 2}, ()),
        ({"s": 1}, {"s": 2}, ("s",)),
        ({"s": 1}, {"s": 1.0}, ("s",)),
        ({"x": 1}, {"x": 1, "s": None}, ("s",)),
        (None, {"s": 1}, ("s",)),
        (None, {"x": 1}, ()),
        ({"s": 1}, None, ("s",)),
    ],
)
def test_a_hidden_value_that_changed_is_named(before: Any, after: Any, expected: tuple[str, ...]) -> None:
    """The path of a hidden value that came, went or became another; type counts."""
    assert hidden_changes(before, after, "s") == expected


def test_a_list_put_in_another_order_hides_no_change() -> None:
    """Elements that move with their hidden values have not changed them."""
    cards = [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]
    assert hidden_changes({"c": cards}, {"c": cards[::-1]}, "c.s") == ()


def test_hidden_values_exchanged_between_elements_are_a_change() -> None:
    """The same values at other elements are other values of these."""
    before = [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]
    after = [{"n": 1, "s": "y"}, {"n": 2, "s": "x"}]
    assert hidden_changes({"c": before}, {"c": after}, "c.s") == ("c.s",)


@given(documents, policies)
def test_the_same_image_has_no_hidden_change(document: bytes, rules: Policy) -> None:
    """Nothing is said to have changed where nothing did."""
    assert policy.hidden_changes(document, document, rules) == ()


def test_about_every_nth_version_has_a_snapshot() -> None:
    """Decided by the id, so that nobody counts: over many ids the share is right."""
    rules = Policy(snapshot_every=20)
    assert 400 < sum(rules.wants_snapshot(ObjectId()) for _ in range(10_000)) < 600


def test_an_interval_of_one_stores_every_state() -> None:
    """`SNAPSHOT_EVERY = 1` is for collections that others write too."""
    assert all(Policy(snapshot_every=1).wants_snapshot(ObjectId()) for _ in range(50))


@pytest.mark.parametrize("stride", [2, 5, 20, 21, 40, 100, 256])
def test_jobs_of_a_fixed_size_do_not_starve_a_document_of_snapshots(stride: int) -> None:
    """A document that gets every Nth id, whatever N, still gets a snapshot now and then: ids ascend by one."""
    rules = Policy(snapshot_every=20)
    ids = [ObjectId(f"65f0000000000000{number * stride:08x}") for number in range(2000)]
    gaps = [index for index, version_id in enumerate(ids) if rules.wants_snapshot(version_id)]
    assert 40 < len(gaps) < 200
    assert max(later - earlier for earlier, later in pairwise(gaps)) < 300
