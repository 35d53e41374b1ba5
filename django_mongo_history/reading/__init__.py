"""
Versions and states as they are read: one document with its derived versions, or all documents of a class in a stream.
"""

from django_mongo_history.reading.changes import changes_between, changes_of, patch_between, shown_entries
from django_mongo_history.reading.document import DocumentHistory
from django_mongo_history.reading.opening import read_document, read_documents
from django_mongo_history.reading.scanning import scan
from django_mongo_history.reading.source import Source

__all__ = [
    "DocumentHistory",
    "Source",
    "changes_between",
    "changes_of",
    "patch_between",
    "read_document",
    "read_documents",
    "scan",
    "shown_entries",
]
