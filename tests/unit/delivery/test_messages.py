"""What a broker carries: JSON, and exactly what was put in."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.delivery.messages import Message, packed

IDS = st.binary(min_size=12, max_size=12).map(ObjectId)


@given(st.text(), st.text(), st.lists(st.binary()), st.lists(IDS))
def test_there_and_back_by_json(alias: str, database: str, rows: list[bytes], ids: list[ObjectId]) -> None:
    """A message survives any serializer that JSON survives."""
    message = Message(alias, database, tuple(rows), tuple(ids))
    assert Message.from_json(json.loads(json.dumps(message.to_json()))) == message


def test_it_tells_nothing_of_what_it_carries() -> None:
    message = Message("default", "shop", (b"secret",), (ObjectId(),))
    assert repr(message) == "<1 versions, 1 by name, of shop>"


@pytest.mark.parametrize(
    "carried",
    [
        None,
        [],
        "text",
        {},
        {"format": 2, "alias": "a", "database": "b", "rows": [], "ids": []},
        {"format": 1, "alias": "a", "database": "b", "rows": []},
        {"format": 1, "alias": 7, "database": "b", "rows": [], "ids": []},
        {"format": 1, "alias": "a", "database": {"$gt": ""}, "rows": [], "ids": []},
        {"format": 1, "alias": "a", "database": "b", "rows": "QUJD", "ids": []},
        {"format": 1, "alias": "a", "database": "b", "rows": ["secret!"], "ids": []},
        {"format": 1, "alias": "a", "database": "b", "rows": [b"secret"], "ids": []},
        {"format": 1, "alias": "a", "database": "b", "rows": [], "ids": ["secret"]},
        {"format": 1, "alias": "a", "database": "b", "rows": [], "ids": [{"$gt": ""}]},
    ],
)
def test_what_is_no_message(carried: Any) -> None:
    """It is refused, without a word of what it says."""
    with pytest.raises(ValueError, match=r"^it |^its format is") as caught:
        Message.from_json(carried)
    assert "secret" not in str(caught.value)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 100))
def test_packed(rows: list[bytes], limit: int) -> None:
    """All rows in their order, in groups that keep the limit; a larger row is alone."""
    groups = packed(rows, limit)
    assert [row for group in groups for row in group] == rows
    for group in groups:
        assert len(group) == 1 or sum(map(len, group)) <= limit
    for one, other in pairwise(groups):
        assert sum(map(len, one)) + len(other[0]) > limit
