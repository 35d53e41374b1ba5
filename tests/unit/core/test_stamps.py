"""Stamps in every form of a write: the two fields are set, and nothing else is another than it was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.core.stamps import FIELDS, Stamp

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
STAMP = Stamp({"user": {"pk": 1, "label": "ann", "model": None}, "reason": "$why"}, AT)
KEYS = st.sampled_from(["a", "b", *FIELDS])
DOCUMENTS = st.dictionaries(KEYS, st.integers(0, 9) | st.dictionaries(KEYS, st.floats(allow_nan=False)))


@pytest.mark.parametrize(
    ("update", "wanted"),
    [
        ({"$set": {"a": 1}}, {"$set": {"a": 1}}),
        ({"$inc": {"a": 1}}, {"$inc": {"a": 1}, "$set": {}}),
        ({"$set": {"changed": 1}, "$unset": {"change_info.user": 1}}, {"$set": {}}),
        ({"$rename": {"a": "changed", "b": "c"}}, {"$rename": {"b": "c"}, "$set": {}}),
        ({"$setOnInsert": {"change_info": 1, "a": 1}}, {"$setOnInsert": {"a": 1}, "$set": {}}),
        ({"$set": {"changed_by": 1, "a.changed": 2}}, {"$set": {"changed_by": 1, "a.changed": 2}}),
    ],
)
def test_updates_set_both_fields_and_nothing_else_does(
    update: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """What an update says about the fields gives way, for the server takes no path twice."""
    before = bson.encode(update)
    stamped = STAMP.on_update(update)
    assert stamped == {**wanted, "$set": {**wanted["$set"], "change_info": STAMP.info, "changed": AT}}
    assert bson.encode(update) == before


def test_pipelines_end_with_it() -> None:
    """Literally: a reason that begins with a dollar sign is no expression."""
    stamped = STAMP.on_update([{"$set": {"a": 1}}])
    assert stamped[0] == {"$set": {"a": 1}}
    assert stamped[-1]["$set"] == {"change_info": {"$literal": STAMP.info}, "changed": AT}


@given(DOCUMENTS)
def test_documents_and_their_bytes_get_the_same(document: dict[str, Any]) -> None:
    """Fields that are there keep their place, others come last; every other value is byte for byte what it was."""
    image = bson.encode(document)
    stamped = STAMP.on_image(image)
    assert stamped == bson.encode(STAMP.on_document(document))
    assert bson.encode(document) == image
    decoded = bson.decode(stamped)
    assert list(decoded) == [*document, *(name for name in FIELDS if name not in document)]
