"""
What `$set` and `$unset` make of a document, computed: the server's rules, one by one.

That they are the server's is held by a property test against a real one, in `tests/integration`.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from bson import Int64
from bson.codec_options import CodecOptions
from bson.timestamp import Timestamp
from hypothesis import given

from django_mongo_history.core import after_image, elements, values
from django_mongo_history.core.after_image import ComputedUpdate
from tests.strategies import SPECIAL, Choices, doc, documents, random_document, random_value

CODEC: CodecOptions[Any] = CodecOptions()


def after(before: dict[str, Any], **operators: dict[str, Any]) -> Any:
    update = {f"${name}": edits for name, edits in operators.items()}
    result = after_image.after_update(values.encode(before), update, CODEC)
    return None if result is None else values.decode(result)


def same(found: Any, expected: Any) -> bool:
    return found is not None and values.same(found, expected)


@pytest.mark.parametrize(
    ("before", "edits", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": "x"}, {"a": "x", "b": 2}),
        ({"a": 1}, {"a": 1.0}, {"a": 1.0}),
        ({"a": 1}, {"a": Int64(1)}, {"a": Int64(1)}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, {"a": {"y": 2, "x": 1}}),
        ({"a": {"x": 1}}, {"a.x": 2, "a.y": 3}, {"a": {"x": 2, "y": 3}}),
        (
            {},
            {"z": 1, "a": 1, "_x": 1, "A": 1, "-1": 1, "0": 1},
            {"-1": 1, "0": 1, "A": 1, "_x": 1, "a": 1, "z": 1},
        ),
        ({}, {"10": 1, "2": 1}, {"2": 1, "10": 1}),
        ({}, {"a.0": 1}, {"a": {"0": 1}}),
        ({}, {"a.b.c": 1, "a.b.a": 2}, {"a": {"b": {"a": 2, "c": 1}}}),
        ({"a": [1, 2]}, {"a.1": 5}, {"a": [1, 5]}),
        ({"a": [1]}, {"a.3": 5}, {"a": [1, None, None, 5]}),
        ({"a": []}, {"a.3": 5, "a.1": 4}, {"a": [None, 4, None, 5]}),
        ({"a": [{"x": 1}]}, {"a.0.x": 2, "a.1.x": 3}, {"a": [{"x": 2}, {"x": 3}]}),
        ({"a": {"0": 1}}, {"a.0": 2, "a.1": 3}, {"a": {"0": 2, "1": 3}}),
        ({"a": Timestamp(1, 1)}, {"a": Timestamp(0, 0)}, {"a": Timestamp(0, 0)}),
        ({"a": 1}, {}, {"a": 1}),
    ],
    ids=repr,
)
def test_set(before: dict[str, Any], edits: dict[str, Any], expected: dict[str, Any]) -> None:
    """Existing fields keep their place, new ones come behind in the server's own order, values stand as sent."""
    assert same(after(before, set=edits), expected)


@pytest.mark.parametrize(
    ("before", "edits", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": ""}, {"b": 2}),
        ({"a": {"x": 1, "y": 2}}, {"a.x": 1}, {"a": {"y": 2}}),
        ({"a": 1}, {"gone.b": 1}, {"a": 1}),
        ({"a": [1, 2, 3]}, {"a.1": 1}, {"a": [1, None, 3]}),
        ({"a": [1]}, {"a.5": 1}, {"a": [1]}),
        ({"a": [1]}, {"a.x": 1}, {"a": [1]}),
        ({"a": 5}, {"a.x": 1}, {"a": 5}),
    ],
    ids=repr,
)
def test_unset(before: dict[str, Any], edits: dict[str, Any], expected: dict[str, Any]) -> None:
    """A key goes, an element of a list becomes null, and what is not there stays so."""
    assert same(after(before, unset=edits), expected)


def test_both_are_one_tree() -> None:
    """`$set` and `$unset` of one update see each other's paths."""
    found = after({"a": {"x": 1}, "b": 1}, set={"a.y": 2}, unset={"a.x": 1, "b": 1, "c.d": 1})
    assert same(found, {"a": {"y": 2}})


@given(documents)
def test_nothing_else_is_touched(document: bytes) -> None:
    """Values beside the paths are spliced, never decoded: every type stays byte for byte."""
    result = after_image.after_update(document, {"$set": {"unique.name": 1}}, CODEC)
    assert result == values.encode({**values.decode(document), "unique": {"name": 1}})


@pytest.mark.parametrize(
    "update",
    [
        {"$inc": {"a": 1}},
        {"$set": {"a": 1}, "$push": {"b": 1}},
        {"$set": {"a.$.b": 1}},
        {"$set": {"a.$[].b": 1}},
        {"$set": {"a..b": 1}},
        {"$set": {"a.01": 1}},
        {"$set": {"a.12345678": 1}},
        {"$set": {"a.2": 1, "a.1a": 1}},
        {"$set": {"s.x": 1}},
        {"$set": {"l.x": 1}},
        {"$set": {"l.2000000": 1}},
        {"$set": {"a": 1, "a.b": 2}},
        [{"$set": {"a": 1}}],
        {"a": 1},
        {},
    ],
    ids=repr,
)
def test_what_is_not_certain_is_declined(update: Any) -> None:
    """None means that the server is asked; a guess would be a wrong digest."""
    assert after_image.after_update(values.encode({"s": 5, "l": [1]}), update, CODEC) is None


def test_a_document_of_duplicate_keys_is_declined() -> None:
    """Which of the two the server edits is not known here."""
    before = doc(("d", SPECIAL["duplicate_keys"]))
    assert after_image.after_update(before, {"$set": {"d.k": 5}}, CODEC) is None


def test_documents_laid_out_alike_are_edited_alike() -> None:
    """What an update has learned of one document brings the next to the very result that it would have had alone."""
    source = random.Random(20261122)
    learned = 0
    for _case in range(3_000):
        choose = Choices(source.randbytes(source.randrange(1, 300)))
        before = random_document(choose)
        names = [part.name for part in elements.elements(before) if part.name not in (b"_id", b"\xff")]
        tree = {name: random_value(choose, 1) for name in names if choose.below(2)}
        if choose.below(4) == 0:
            tree[b"new"] = random_value(choose, 1)
        shared = ComputedUpdate(tree)
        for document in (before, before, with_other_values(choose, before), before):
            assert shared.after(document) == ComputedUpdate(tree).after(document)
        learned += bool(tree) and shared._plan is not None
    assert learned > 500


def with_other_values(choose: Choices, document: bytes) -> bytes:
    """The same names and types, other values at some of them."""
    parts = []
    for part in elements.elements(document):
        kind, value = random_value(choose, 1)
        parts.append(part._replace(value=value) if kind == part.kind else part)
    return elements.assemble(parts)


def test_where_no_two_documents_are_alike_plans_are_given_up() -> None:
    """They cost as much as the work itself."""
    update = ComputedUpdate({b"a": (0x0A, b"")})
    for number in range(200):
        assert update.after(doc((f"x{number}", 1), ("a", number))) is not None
    assert update._plan is not None
    assert b"x49" in update._plan.layout[0][0]


def test_a_replacement_keeps_the_id_in_front() -> None:
    """`_id` comes first wherever it stood, as it was before."""
    result = after_image.after_replacement(doc(("_id", 1), ("a", 1)), doc(("b", 2), ("_id", 1)))
    assert result == doc(("_id", 1), ("b", 2))


def test_a_replacement_with_the_servers_time_is_declined() -> None:
    """A top-level `Timestamp(0, 0)` becomes a time that only the server knows."""
    assert after_image.after_replacement(doc(("_id", 1)), doc(("t", Timestamp(0, 0)))) is None


@pytest.mark.parametrize(
    ("document", "expected"),
    [({"t": Timestamp(0, 0)}, True), ({"t": Timestamp(0, 1)}, False), ({"a": {"t": Timestamp(0, 0)}}, False)],
    ids=repr,
)
def test_the_servers_time_is_put_in_at_the_top_only(document: dict[str, Any], expected: bool) -> None:
    """A zero timestamp inside of something is stored as it is."""
    assert after_image.has_server_time(values.encode(document)) is expected


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ({"$set": {"a.b": 1}, "$inc": {"c": 1}}, [("a", "b"), ("c",)]),
        ({"$push": {"a.0.b": 1, "c.$.d": 1, "e.$[x].f": 1}}, [("a",), ("c",), ("e",)]),
        ({"$rename": {"a": "b"}}, None),
        ([{"$set": {"a": 1}}], None),
        ({"a": 1}, None),
        ({}, None),
        (None, None),
    ],
    ids=repr,
)
def test_the_paths_that_an_update_names(update: Any, expected: Any) -> None:
    """Without indexes of lists; None where they do not stand in it."""
    assert after_image.touched_paths(update) == expected
