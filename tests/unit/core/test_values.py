"""Values exactly: types, bits and key order survive; what no Python type carries stays raw."""

from __future__ import annotations

import hashlib
from itertools import combinations

import bson
import pytest
from bson import SON, DBRef, Decimal128, Int64
from bson.errors import InvalidDocument
from hypothesis import given

from django_mongo_history.core import values
from django_mongo_history.core.values import RawValue
from tests import strategies
from tests.strategies import SPECIAL, UNSAYABLE, Value, doc, documents


@given(documents)
def test_decoding_loses_nothing(document: bytes) -> None:
    """`encode(decode(x)) == x`, always."""
    assert values.encode(values.decode(document)) == document


@pytest.mark.parametrize("name", SPECIAL)
def test_every_special_value_survives(name: str) -> None:
    """`encode_value(decode_value(x)) == x` for each value that has cost somebody a bug."""
    assert values.encode_value(values.decode_value(*SPECIAL[name])) == SPECIAL[name]


@given(strategies.values)
def test_decoding_a_value_loses_nothing(value: Value) -> None:
    """`encode_value(decode_value(x)) == x`, always."""
    assert values.encode_value(values.decode_value(*value)) == value


@pytest.mark.parametrize("name", UNSAYABLE)
def test_what_no_type_carries_stays_raw(name: str) -> None:
    """A value that PyMongo would change is kept as its type byte and bytes."""
    assert values.decode_value(*UNSAYABLE[name]) == RawValue(*UNSAYABLE[name])


def test_text_that_is_no_utf8_stays_text() -> None:
    """Keys and texts of broken UTF-8 stand as text with escaped bytes, so that a path can name such a key."""
    broken = doc((b"k\xff", 1), ("t", SPECIAL["text_no_utf8"]))
    assert values.decode(broken) == {"k\udcff": 1, "t": "\udcff\udcfea"}


def test_one_raw_value_does_not_cost_the_others_their_types() -> None:
    """Around a raw value everything else is decoded as usual."""
    decoded = values.decode(doc(("raw", SPECIAL["symbol"]), ("list", [1, {"x": Int64(2)}])))
    assert decoded["list"] == [1, {"x": 2}]
    assert type(decoded["list"][1]["x"]) is Int64


def test_id_keeps_its_place() -> None:
    """PyMongo would pull a top-level `_id` to the front; here keys stay in the mapping's order."""
    assert list(bson.decode(values.encode({"a": 1, "_id": 2}))) == ["a", "_id"]


def test_a_reference_in_its_usual_order_is_a_dbref() -> None:
    """Only a reference-shaped document in another order stays a plain one; its neighbours do not change by it."""
    decoded = values.decode(doc(("r", SPECIAL["reference"]), ("b", SPECIAL["reference_backwards"])))
    assert decoded == {"r": DBRef("c", 1), "b": {"$id": 1, "$ref": "c"}}


def test_twice_the_same_key_at_the_top_is_refused() -> None:
    """A state is a dict: a document with duplicate keys at its top level has none."""
    with pytest.raises(ValueError, match="twice"):
        values.decode(doc(("a", 1), ("b", 1), ("a", 2)))


@pytest.mark.parametrize(
    "state", [{1: 2}, {"a\x00": 1}, {"a": object()}, {"a": {2: 1}}, {"a": [{"\x00": 1}]}]
)
def test_what_bson_cannot_hold_is_invalid(state: dict[object, object]) -> None:
    """Keys that are no text or hold a null, and unknown types, are InvalidDocument at any depth."""
    with pytest.raises(InvalidDocument):
        values.encode(state)  # type: ignore[arg-type]


def test_a_state_is_a_document() -> None:
    """A list or a raw value of another type is no state."""
    with pytest.raises(InvalidDocument, match="a state is a document"):
        values.encode([1])  # type: ignore[arg-type]


@given(documents)
def test_a_digest_is_of_the_bytes(document: bytes) -> None:
    """The digest is SHA-256 of the state's BSON: two states have one digest only if they are the same bytes."""
    assert values.digest(document) == hashlib.sha256(document).digest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *combinations([1, Int64(1), 1.0, True, Decimal128("1")], 2),
        (0.0, -0.0),
        (Decimal128("1.10"), Decimal128("1.1")),
        (2**53, 2**53 + 1),
        (0.1 + 0.2, 0.3),
        (None, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, 2], [2, 1]),
    ],
    ids=repr,
)
def test_values_that_python_takes_for_equal_are_not_the_same(one: object, other: object) -> None:
    """Type, bits and key order count."""
    assert not values.same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(float("nan"), float("nan")), (SON(a=1), {"a": 1}), ((1, 2), [1, 2]), (Decimal128("NaN"),) * 2],
    ids=repr,
)
def test_values_of_the_same_bytes_are_the_same(one: object, other: object) -> None:
    """NaN is NaN, and a type of Python's that BSON does not know makes no difference."""
    assert values.same(one, other)


@given(strategies.values, strategies.values)
def test_any_two_values_can_be_put_in_order(one: Value, other: Value) -> None:
    """`sort_key` compares across all types (the order itself is held to the server's by the stores' suite)."""
    left, right = (values.sort_key(values.decode_value(*value)) for value in (one, other))
    assert (left < right) + (left == right) + (left > right) == 1
