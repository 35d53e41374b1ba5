"""Values in the place of others, found by one walk: what dictdiffer and the trees find, and nothing that they do not."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given

from django_mongo_history.core import diff, elements, leaves
from django_mongo_history.core.elements import ARRAY, DOCUMENT, Element
from django_mongo_history.core.leaves import replaced_values
from tests.strategies import SPECIAL, Choices, doc, pairs, random_document, random_value

CASES = 4_000


@given(pairs)
def test_what_the_walk_finds_is_what_the_trees_find(pair: tuple[bytes, bytes]) -> None:
    """The stored form is the same to the byte, so it does not matter which of the two ways was taken."""
    assert_same_by_both_ways(*pair)


def test_documents_that_differ_in_values_only_are_walked() -> None:
    """Of thousands with other values at some places the walk finds nearly all, each as the trees find it."""
    source = random.Random(20261122)
    found = 0
    for _case in range(CASES):
        choose = Choices(source.randbytes(source.randrange(1, 300)))
        before = random_document(choose)
        found += assert_same_by_both_ways(before, with_other_values(choose, before))
    assert found > CASES * 0.8


def assert_same_by_both_ways(before: bytes, after: bytes) -> bool:
    """Whether the walk found anything at all."""
    leaves._known.layout = ()
    replaced = replaced_values(before, after)
    leaves._known.layout = elements.layout_of(before) or ()
    assert replaced_values(before, after) == replaced, "another one where the keys are known"
    if replaced is None:
        return False
    walked = diff._replacing(replaced)
    if walked.size <= len(before) + len(after) + diff._MOST_BEYOND:
        assert diff._diff_trees(before, after) == walked == diff.diff_images(before, after)
    return True


def with_other_values(choose: Choices, document: bytes) -> bytes:
    parts = elements.elements(document)
    return elements.assemble([_with_other_value(choose, part) for part in parts])


def _with_other_value(choose: Choices, part: Element) -> Element:
    if choose.below(3) == 0:
        return part
    if part.kind in (DOCUMENT, ARRAY) and choose.below(4):
        return part._replace(value=with_other_values(choose, part.value))
    return Element(part.name, *random_value(choose, 1))


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (doc(("a", 1), ("b", 2)), doc(("a", 1), ("b", 3)), ("b",)),
        (doc(("a", 1)), doc(("a", 1.0)), ("a",)),
        (doc(("a", "short"), ("b", 2)), doc(("a", "a longer text"), ("b", 2)), ("a",)),
        (doc(("a", {"b": {"c": 1}})), doc(("a", {"b": {"c": 2}})), ("a", "b", "c")),
        (doc(("a", [0, {"b": 1}, 2])), doc(("a", [0, {"b": 5}, 2])), ("a", 1, "b")),
        (doc(("a", 1)), doc(("a", {"b": 1})), ("a",)),
        (doc(("a", [1])), doc(("a", {"0": 1})), ("a",)),
        (doc(("", 1)), doc(("", 2)), ("",)),
        (doc(("a.b", 1)), doc(("a.b", 2)), ("a.b",)),
    ],
    ids=repr,
)
def test_a_replaced_value_is_named(before: bytes, after: bytes, path: tuple[Any, ...]) -> None:
    """By the keys and indexes that lead to it."""
    leaves._known.layout = ()
    assert [one.path for one in replaced_values(before, after) or []] == [path]
    assert [one.path for one in replaced_values(before, after) or []] == [path]  # of keys that are known now


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (doc(("a", 1)), doc(("b", 1))),
        (doc(("a", 1)), doc()),
        (doc(), doc(("a", 1))),
        (doc(("a", 1), ("b", 2)), doc(("b", 2), ("a", 1))),
        (doc(("a", 1), ("b", 2)), doc(("a", 5))),
        (doc(("a", 1)), doc(("a", 1), ("b", 2))),
        (doc(("a", [1, 2])), doc(("a", [1, 2, 3]))),
        (doc(("a", [1, 2])), doc(("a", [1]))),
        (doc(("a", {"b": 1})), doc(("a", {"c": 1}))),
        (doc(("a", 1), ("a", 2)), doc(("a", 1), ("a", 3))),
        (
            doc(("x", (DOCUMENT, doc(("a", 1), ("a", 2), ("b", 1))))),
            doc(("x", (DOCUMENT, doc(("a", 1), ("a", 2), ("b", 2))))),
        ),
        (
            doc(("x", (ARRAY, doc(("0", 1), ("2", 2))))),
            doc(("x", (ARRAY, doc(("0", 5), ("2", 2))))),
        ),
    ],
    ids=repr,
)
def test_whatever_else_differs_is_left_to_the_trees(before: bytes, after: bytes) -> None:
    """Keys that come, go, move or stand twice; lists of another length or with names that are no indexes."""
    leaves._known.layout = ()
    assert replaced_values(before, after) is None
    leaves._known.layout = elements.layout_of(before) or ()
    assert replaced_values(before, after) is None


def test_of_documents_none_like_the_other_few_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning costs as much as the walk: where it brings nothing it is given up, but for a try now and then."""
    learned: list[bytes] = []
    monkeypatch.setattr(elements, "layout_of", learned.append)
    leaves._known.layout, leaves._known.misses = (), 0
    for number in range(80):
        assert replaced_values(doc((f"a{number}", 1)), doc((f"a{number}", 2)))
    assert len(learned) == 1 + 80 // 8


def test_no_path_leads_into_a_reference() -> None:
    """PyMongo reads it as one value, so it is replaced as one."""
    reference = SPECIAL["reference"]
    other = DOCUMENT, doc(("$ref", "c"), ("$id", 2))
    assert [one.path for one in replaced_values(doc(("a", reference)), doc(("a", other))) or []] == [("a",)]


def test_equal_documents_have_nothing_replaced() -> None:
    """An empty list, not None: there is nothing else to look for either."""
    assert replaced_values(doc(("a", 1)), doc(("a", 1))) == []
