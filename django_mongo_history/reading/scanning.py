"""
All documents of a class in a stream, each with its history: those that live and those that are gone.

Chunk by chunk in the order of `_id`, each chunk read as of one instant, so memory holds one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Any, Final

from django_mongo_history.core import values
from django_mongo_history.core.identity import id_of
from django_mongo_history.core.model import ABSENT, Entry
from django_mongo_history.reading.document import DocumentHistory
from django_mongo_history.reading.opening import read_document, read_documents
from django_mongo_history.reading.source import Source

CHUNK: Final = 1000
_MOST_TORN: Final = 8
"""More documents than that in a chunk are not written this very moment: somebody has gone round the tracker."""

_Found = tuple[Any, list[Entry], bytes | None]


def scan(
    source: Source, *, document_ids: list[Any] | None = None, chunk_size: int = CHUNK
) -> Iterator[list[DocumentHistory]]:
    """
    The histories of a class's documents, `chunk_size` at most at once. `document_ids` names some instead of all.

    A class above others streams theirs too; which class a document is of is for the caller to see in its states.
    """
    if document_ids is not None:
        for low in range(0, len(document_ids), chunk_size):
            wanted = document_ids[low : low + chunk_size]
            yield _settled(
                source, read_documents(source, source.consistently(partial(_named, source, wanted)))
            )
        return
    above: Any = ABSENT
    while True:
        found, upto = source.consistently(partial(_next, source, above, chunk_size))
        if found:
            yield _settled(source, read_documents(source, found))
        if upto is ABSENT:
            return
        above = upto


def _settled(source: Source, histories: list[DocumentHistory]) -> list[DocumentHistory]:
    """Those that look as if something had gone round the tracker read once more, a few one by one: see `read_document`."""
    torn = [place for place, history in enumerate(histories) if history.is_torn()]
    if len(torn) <= _MOST_TORN and torn and source.may_lag():
        for place in torn:
            histories[place] = read_document(source, histories[place].key.document_id)
    return histories


def _named(source: Source, ids: list[Any], session: Any) -> list[_Found]:
    # By sort key, since to MongoDB 1 and 1.0 are one id.
    found = source.images.find({"_id": {"$in": ids}}, session)
    images = {values.sort_key(id_of(image)): image for image in found}
    entries: dict[Any, list[Entry]] = {}
    for entry in source.entries_of(ids, session):
        entries.setdefault(values.sort_key(entry.document_id), []).append(entry)
    keys = [(wanted, values.sort_key(wanted)) for wanted in ids]
    return [(wanted, entries.get(key, []), images.get(key)) for wanted, key in keys]


def _next(source: Source, above: Any, chunk_size: int, session: Any) -> tuple[list[_Found], Any]:
    """The next documents above an `_id`, and the last one looked at; ABSENT where that was the end."""
    images = _images(source, above, chunk_size, session)
    upto = id_of(images[-1]) if len(images) == chunk_size else ABSENT
    histories, cut = _entries(source, above, upto, chunk_size, session)
    if cut is not ABSENT:  # more documents with a history than a chunk holds, before the last live one
        limit = values.sort_key(cut)
        images = [image for image in images if values.sort_key(id_of(image)) <= limit]
        upto = cut
    found: dict[Any, _Found] = {
        name: (document_id, entries, None) for name, (document_id, entries) in histories.items()
    }
    for image in images:
        document_id = id_of(image)
        _same, entries, _none = found.get(_name(document_id), (document_id, [], None))
        found[_name(document_id)] = (document_id, entries, image)
    ordered = sorted(found.values(), key=lambda one: values.sort_key(one[0]))
    return ordered, upto


def _images(source: Source, above: Any, chunk_size: int, session: Any) -> list[bytes]:
    return list(source.images.find(ids_above(above), session, sort=[("_id", 1)], limit=chunk_size))


def ids_above(above: Any) -> dict[str, Any]:
    """The query for documents whose `_id` is higher, in BSON order across types (a plain $gt stays within one)."""
    return {} if above is ABSENT else {"$expr": {"$gt": ["$_id", {"$literal": above}]}}


def _entries(
    source: Source, above: Any, upto: Any, chunk_size: int, session: Any
) -> tuple[dict[Any, tuple[Any, list[Entry]]], Any]:
    """Entries by document, and the last document's id where there were more than a chunk of them."""
    found: dict[Any, tuple[Any, list[Entry]]] = {}
    last: Any = ABSENT
    entries = source.scan(above=above, upto=upto, session=session)
    for name, group in groupby(entries, key=lambda entry: _name(entry.document_id)):
        if len(found) == chunk_size:
            return found, last
        of_one = list(group)
        last = of_one[0].document_id
        found[name] = (last, of_one)
    return found, ABSENT


def _name(document_id: Any) -> tuple[int, bytes]:
    return values.encode_value(document_id)
