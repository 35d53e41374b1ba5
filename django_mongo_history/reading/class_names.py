"""Of which class a document is, or was: by its versions, where it is no more."""

from __future__ import annotations

from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading.document import DocumentHistory


def stored_class_name(history: DocumentHistory) -> str | None:
    """The class that the last stored version names, of those that can be read; None where there is none."""
    for index in reversed(range(len(history.steps))):
        try:
            record = history.record(index)
        except BrokenChainError:
            continue
        if record is not None:
            return record.document_class
    return None
