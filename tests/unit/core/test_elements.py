"""BSON as it lies: taken apart and put together without reading a value."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.core import elements
from tests.strategies import SPECIAL, doc, documents, pairs, value


@given(documents)
def test_taking_apart_and_putting_together_changes_nothing(document: bytes) -> None:
    """`assemble(elements(x)) == x` for documents of every type."""
    assert elements.assemble(elements.elements(document)) == document


def test_every_type_has_its_length() -> None:
    """What follows a value of any type is found where that value ends."""
    documents = {name: doc(("v", special), ("after", 7)) for name, special in SPECIAL.items()}
    found = {name: elements.elements(document)[1] for name, document in documents.items()}
    assert found == dict.fromkeys(SPECIAL, elements.Element(b"after", *value(7)))


@given(documents, st.data())
def test_bytes_that_are_no_document_are_a_value_error(document: bytes, data: st.DataObject) -> None:
    """Bytes cut short or with a bit turned are read or refused with ValueError; never another error."""
    place = data.draw(st.integers(0, len(document) - 1))
    flipped = document[:place] + bytes([document[place] ^ 0x11]) + document[place + 1 :]
    for mangled in (document[:place], flipped):
        with suppress(ValueError):
            elements.elements(mangled)


@given(pairs, st.data())
def test_a_layout_fits_what_is_laid_out_so_and_nothing_else(
    pair: tuple[bytes, bytes], data: st.DataObject
) -> None:
    """`fits` says where the elements begin, as `spans` does, of documents with the same names and types only."""
    one, other = pair
    layout = elements.layout_of(one)
    if layout is None:  # no length tells where a regular expression ends
        assert any(part.kind == 0x0B for part in elements.elements(one))
        return
    assert elements.fits(one, layout) == [*(start for start, *_rest in elements.spans(one)), len(one) - 1]
    place = data.draw(st.integers(0, len(one) - 1))
    flipped = one[:place] + bytes([one[place] ^ 0x11]) + one[place + 1 :]
    for document in (other, one[:place], flipped, one + b"\x00"):
        starts = elements.fits(document, layout)
        if starts is not None:
            found = elements.spans(document)
            assert starts == [*(start for start, *_rest in found), len(document) - 1]
            assert [document[start : name_end + 1] for start, name_end, _stop in found] == [
                head for head, *_sizes in layout
            ]


def test_a_document_with_a_key_twice_has_no_layout() -> None:
    """Whoever knows a layout knows that no key stands twice in it, whatever the types."""
    assert elements.layout_of(doc(("a", 1), ("b", 2), ("a", "x"))) is None


def test_an_inner_length_that_leads_out_of_the_document_is_a_value_error() -> None:
    """A string that would need its length behind the end of the document is refused like any other broken one."""
    with pytest.raises(ValueError, match="not a BSON document"):
        elements.elements(b"\x09\x00\x00\x00\x02ab\x00\x00")


def test_an_unknown_type_is_refused() -> None:
    """A type byte that BSON does not know has no length, so nothing after it could be found."""
    with pytest.raises(ValueError, match="0x44"):
        elements.elements(elements.assemble([elements.Element(b"x", 0x44, b"")]))


@given(documents)
def test_a_value_is_found_by_its_name(document: bytes) -> None:
    """`find_value` gives the first element of the name, whatever lies before it."""
    for part in elements.elements(document):
        assert elements.find_value(document, part.name) == part


def test_a_name_that_is_not_there_is_none() -> None:
    """`find_value` looks at the top level only."""
    assert elements.find_value(doc(("a", {"b": 1})), b"b") is None


def test_an_array_gets_its_canonical_names() -> None:
    """`assemble_array` is what PyMongo writes for a list."""
    assert elements.assemble_array([value(1), value("x")]) == value([1, "x"])[1]
