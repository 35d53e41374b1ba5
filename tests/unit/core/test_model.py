"""The nouns: contexts as they are stored, orders made from clocks, markers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.core.model import (
    ABSENT,
    CLOCK_BIT,
    HIDDEN,
    Context,
    DocumentKey,
    Operation,
    RequestRef,
    UserRef,
    Write,
    order_from_clock,
)

texts = st.text(max_size=5)
contexts = st.builds(
    Context,
    user=st.none() | st.builds(UserRef, texts | st.integers(), texts, st.none() | texts),
    remote_addr=st.none() | texts,
    reason=st.none() | texts,
    extra=st.dictionaries(texts, st.integers() | texts, max_size=3),
    request=st.none() | st.builds(RequestRef, texts, texts, texts),
)


@given(contexts)
def test_a_context_survives_its_stored_form(context: Context) -> None:
    """`from_bson(to_bson(c)) == c`."""
    assert Context.from_bson(context.to_bson()) == context


def test_what_is_not_known_has_no_key() -> None:
    """An empty context takes no room in a row."""
    assert Context().to_bson() == {}


def test_keys_of_a_later_version_are_left_out() -> None:
    """What a newer package may have stored beside it does not hinder reading."""
    assert Context.from_bson({"reason": "why", "mood": "good", "user": {"pk": 1, "x": 2}}) == Context(
        user=UserRef(1), reason="why"
    )


@given(st.integers(0, 4_000_000_000_000))
def test_an_order_from_a_clock_is_exact_to_the_millisecond(milliseconds: int) -> None:
    """Two moments a millisecond apart never exchange their order, and a clock's order is marked as one."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    one, other = order_from_clock(at), order_from_clock(at + timedelta(milliseconds=1))
    assert one < other
    assert one.inc & CLOCK_BIT


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(None, b"", Operation.CREATE), (b"", b"", Operation.UPDATE), (b"", None, Operation.DELETE)],
)
def test_a_write_knows_its_operation(before: bytes | None, after: bytes | None, expected: Operation) -> None:
    """The side that is missing says it."""
    assert Write(DocumentKey("db.c", 1), before, after).operation is expected


@pytest.mark.parametrize(("marker", "text"), [(ABSENT, "ABSENT"), (HIDDEN, "HIDDEN")])
def test_markers_are_false_and_say_their_name(marker: object, text: str) -> None:
    """What is not there to be shown is not a value."""
    assert (bool(marker), repr(marker)) == (False, text)


def test_a_user_without_label_is_its_key() -> None:
    """Something is always there to be shown."""
    key = ObjectId()
    assert [str(UserRef(key)), str(UserRef(key, "ann"))] == [str(key), "ann"]
