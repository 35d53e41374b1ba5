"""Which document an image is of."""

from __future__ import annotations

import pytest

from django_mongo_history.core import identity, values
from django_mongo_history.core.model import DocumentKey, Operation
from tests.strategies import SPECIAL, Value, doc, value


def test_an_id_of_any_type_is_exact() -> None:
    """The `_id` comes back byte for byte, wherever it stands."""
    found = {name: identity.id_of(doc(("a", 1), ("_id", value))) for name, value in SPECIAL.items()}
    assert {name: values.encode_value(value) for name, value in found.items()} == SPECIAL


def test_an_image_without_id_is_refused() -> None:
    """A stored document has an `_id`."""
    with pytest.raises(ValueError, match="has no _id"):
        identity.id_of(doc(("a", {"_id": 1})))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(value("Place.City"), "Place.City"), (value(5), None), (SPECIAL["symbol"], None)],
    ids=["text", "number", "symbol"],
)
def test_a_class_name_is_text(stored: Value, expected: str | None) -> None:
    """A `_cls` of another type names no class."""
    assert identity.class_name(doc(("_id", 1), ("_cls", stored))) == expected


@pytest.mark.parametrize("image", [None, doc(("_id", 1))], ids=["no image", "no _cls"])
def test_no_class_name_is_none(image: bytes | None) -> None:
    """Without an image or a `_cls` there is no class name."""
    assert identity.class_name(image) is None


@pytest.mark.parametrize(
    ("before", "after", "operation"),
    [
        (None, doc(("_id", 7)), Operation.CREATE),
        (doc(("_id", 7)), None, Operation.DELETE),
        (doc(("_id", 7)), doc(("_id", 7), ("a", 1)), Operation.UPDATE),
    ],
)
def test_a_write_has_the_key_of_either_image(
    before: bytes | None, after: bytes | None, operation: Operation
) -> None:
    """The document's key is read from whichever image there is."""
    write = identity.write_of("db.c", before, after)
    assert (write.key, write.operation) == (DocumentKey("db.c", 7), operation)


def test_a_write_without_images_is_refused() -> None:
    """What was on neither side was not written."""
    with pytest.raises(ValueError, match="at least one side"):
        identity.write_of("db.c", None, None)
