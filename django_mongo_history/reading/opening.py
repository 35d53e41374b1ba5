"""Histories of one document or of many, read at one instant with the documents themselves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from bson import ObjectId

from django_mongo_history.core import order
from django_mongo_history.core.chain import Step
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import ABSENT, DocumentKey, Entry, Operation, VersionRecord
from django_mongo_history.reading.document import DocumentHistory, Rows, last_of
from django_mongo_history.reading.source import Source

_PAUSES_S: Final = (0.0, 0.002, 0.004, 0.008, 0.016, 0.032)
"""How long a version is waited for that is not stored in one transaction with its document."""
_MOST_CUT: Final = 20
"""Versions of later writes that may have come in between."""


def read_document(source: Source, document_id: Any) -> DocumentHistory:
    """The history of one document as of now. Cost: an index scan and one document; rows only when they are asked."""
    key = source.key(document_id)
    if document_id is ABSENT:  # of an instance that has no key yet
        return DocumentHistory(source, key, [], None, Rows(source))

    def read(session: Any) -> tuple[list[Entry], bytes | None]:
        image = source.images.find_one({"_id": {"$eq": document_id}}, session)
        return source.entries(document_id, session), image

    entries, image = source.consistently(read)
    history = _history(source, key, entries, image)
    return _settled(history, entries) if history.is_torn() and source.may_lag() else history


def _history(
    source: Source, key: DocumentKey, entries: Sequence[Entry], image: bytes | None
) -> DocumentHistory:
    rows = Rows(source)
    return DocumentHistory(_own(source, entries, image, rows), key, entries, image, rows)


def _settled(torn: DocumentHistory, entries: Sequence[Entry]) -> DocumentHistory:
    """
    The history as of one instant, where versions come a moment after their documents and nothing reads both at once.

    The document is read once more, then versions until one of them leads to it. Those that came since count only as
    far as that: they are of later writes. What no version leads to after a while was written past the tracker.
    """
    source, key = torn.source, torn.key
    known = {entry.id for entry in entries}
    image = source.images.find_one({"_id": {"$eq": key.document_id}}, None)
    later = list(entries)
    for pause_s in _PAUSES_S:
        time.sleep(pause_s)
        later = source.entries(key.document_id, None)
        fresh = sorted((entry for entry in later if entry.id not in known), key=order.sort_key)
        settled = [entry for entry in later if entry.id in known]
        for count in range(len(fresh), max(len(fresh) - _MOST_CUT, -1), -1):
            history = _history(source, key, [*settled, *fresh[:count]], image)
            if not history.is_torn():
                return history
    return _history(source, key, later, image)


def read_documents(
    source: Source, found: Iterable[tuple[Any, list[Entry], bytes | None]]
) -> list[DocumentHistory]:
    """Histories of documents whose entries and images are read already; they share one reading of snapshots."""
    rows, found = Rows(source), list(found)
    if source.environment.registry.varies_below(source.tracked.document_class):
        rows.fetch(
            [last_of(entries).id for _document_id, entries, image in found if image is None and entries]
        )
    histories = [
        DocumentHistory(_own(source, entries, image, rows), source.key(document_id), entries, image, rows)
        for document_id, entries, image in found
    ]
    stored = [history.key.document_id for history in histories if history.steps]
    if stored:
        snapshots = source.snapshots(stored)
        for history in histories:
            history.know_snapshots(snapshots)
    return histories


def _own(source: Source, entries: Sequence[Entry], image: bytes | None, rows: Rows) -> Source:
    """The source under the rules of the document's own class: of the one it is now, or was when it was deleted."""
    if image is not None:
        return source.under_rules_of(class_name(image))
    if not entries or not source.environment.registry.varies_below(source.tracked.document_class):
        return source
    last = last_of(entries)
    record = rows.fetch([last.id]).get(last.id)
    return source.under_rules_of(record.document_class) if isinstance(record, VersionRecord) else source


def prefetch_states(histories: Iterable[tuple[DocumentHistory, int]], *, with_rules: bool = False) -> None:
    """
    Read the rows that these states (a history and an index) are replayed from, in one go for all.

    `with_rules`: and those that say by which rules they were pruned.
    """
    wanted: list[ObjectId] = []
    rows: Rows | None = None
    for history, index in histories:
        wanted.extend(history.needed(index))
        entry = history._rules_entry(index) if with_rules else None  # noqa: SLF001 - of this module
        if entry is not None:
            wanted.append(entry.id)
        rows = history._rows  # noqa: SLF001 - of this module
    if rows is not None:
        rows.fetch(wanted)


def is_derived(step: Step) -> bool:
    """Whether readers derived the version and nobody stored it."""
    return step.entry is None


def is_change(step: Step) -> bool:
    """Whether the version changed anything: a baseline only says how things were."""
    return step.operation is not Operation.BASELINE
