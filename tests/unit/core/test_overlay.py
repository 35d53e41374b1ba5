"""A tracked state laid over a whole document: what is not tracked keeps its value and its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from django_mongo_history.core import overlay, policy, values
from django_mongo_history.core.elements import ARRAY, DOCUMENT
from django_mongo_history.core.overlay import AmbiguousListError
from django_mongo_history.core.policy import Policy
from tests.strategies import doc, documents, pairs, policies

SECRET = Policy(hidden=(("s",), ("l", "s"), ("d", "s")))


def laid(state: Any, image: Any) -> Any:
    result = overlay.lay_over(values.encode(state), values.encode(image), SECRET)
    return values.decode(result)


@given(pairs, policies)
def test_the_tracked_part_is_the_state(pair: tuple[bytes, bytes], rules: Policy) -> None:
    """`prune(lay_over(s, image)) == s` for a pruned state, or AmbiguousListError."""
    state = policy.prune(pair[0], rules)
    try:
        whole = overlay.lay_over(state, pair[1], rules)
    except AmbiguousListError:
        return
    assert policy.prune(whole, rules) == state


@pytest.mark.parametrize("there", [[{"a": 1, "s": 9}, {"a": 2}], [{"a": 1, "s": 9}]])
def test_a_list_that_counts_oddly_counts_as_the_state_does(there: list[Any]) -> None:
    """Names of places in the state are what the document gets, whether its elements are the same or not."""
    state = doc(("l", (ARRAY, doc(("0", {"a": 1}), ("2", {"a": 2})))))
    wanted = doc(("l", (ARRAY, doc(("0", {"a": 1, "s": 9}), ("2", {"a": 2})))))
    assert overlay.lay_over(state, doc(("l", there)), SECRET) == wanted


@given(documents, policies)
def test_a_document_laid_over_itself_is_itself(image: bytes, rules: Policy) -> None:
    """`lay_over(prune(x), x) == x`: pruned values keep their place and their number."""
    assert overlay.lay_over(policy.prune(image, rules), image, rules) == image


@given(pairs, policies)
def test_top_level_values_that_are_not_tracked_stay(pair: tuple[bytes, bytes], rules: Policy) -> None:
    """Every pruned top-level value of the image is in the result, whatever the state."""
    image = values.decode(pair[1])
    gone = [key for key in image if key not in values.decode(policy.prune(pair[1], rules))]
    try:
        whole = values.decode(overlay.lay_over(policy.prune(pair[0], rules), pair[1], rules))
    except AmbiguousListError:
        return
    assert [values.same(whole[key], image[key]) for key in gone] == [True] * len(gone)


@pytest.mark.parametrize(
    ("state", "image", "expected"),
    [
        ({"a": 1}, {"a": 2, "s": 9}, {"a": 1, "s": 9}),
        ({"a": 1, "b": 2}, {"s": 9, "a": 1}, {"s": 9, "a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 0, "s": 9, "b": 0}, {"a": 1, "s": 9, "b": 2}),
        ({"d": {"x": 1}}, {"d": {"s": 9, "x": 0}}, {"d": {"s": 9, "x": 1}}),
        ({"d": 5}, {"d": {"s": 9}}, {"d": 5}),
        ({}, {"d": {"s": 9}, "s": 8}, {"s": 8}),
    ],
)
def test_values_keep_their_place(state: Any, image: Any, expected: Any) -> None:
    """A value that is not tracked stays behind the key it stood behind; a container that goes takes it along."""
    result = laid(state, image)
    assert (result, list(result)) == (expected, list(expected))


@pytest.mark.parametrize(
    ("state", "image", "expected"),
    [
        ([{"n": 1}, {"n": 2}], [{"n": 1, "s": 8}, {"n": 2, "s": 9}], [{"n": 1, "s": 8}, {"n": 2, "s": 9}]),
        ([{"n": 2}, {"n": 1}], [{"n": 1, "s": 8}, {"n": 2, "s": 9}], [{"n": 2, "s": 9}, {"n": 1, "s": 8}]),
        ([{"n": 2}], [{"n": 1, "s": 8}, {"n": 2, "s": 9}], [{"n": 2, "s": 9}]),
        ([{"n": 1}, {"n": 3}], [{"n": 1, "s": 8}], [{"n": 1, "s": 8}, {"n": 3}]),
        ([{"n": 5}], [{"n": 1}], [{"n": 5}]),
    ],
)
def test_elements_of_a_list_are_known_by_what_is_tracked_of_them(
    state: Any, image: Any, expected: Any
) -> None:
    """An element that only moved takes its hidden value along."""
    assert laid({"l": state}, {"l": image}) == {"l": expected}


def test_a_key_that_stands_twice_stays_twice() -> None:
    """An embedded document may hold a hidden key more than once."""
    image = doc(("d", (DOCUMENT, doc(("s", 1), ("x", 2), ("s", 3)))))
    assert overlay.lay_over(doc(("d", {"x": 5})), image, SECRET) == doc(
        ("d", (DOCUMENT, doc(("s", 1), ("x", 5), ("s", 3))))
    )


@pytest.mark.parametrize(
    ("state", "image"),
    [
        ([{"n": 5}], [{"n": 1, "s": 8}]),
        ([{"n": 1}, {"n": 1}], [{"n": 1, "s": 8}, {"n": 1, "s": 9}, {"n": 2, "s": 7}]),
        ([{"n": 1}], [{"n": 1, "s": 8}, {"n": 1}]),
    ],
    ids=["edited", "equal with different values", "equal with and without"],
)
def test_an_uncertain_element_is_refused(state: Any, image: Any) -> None:
    """Where a hidden value might belong to another element nobody guesses."""
    with pytest.raises(AmbiguousListError):
        laid({"l": state}, {"l": image})
