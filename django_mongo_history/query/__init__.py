"""History and versions as users hold them."""

from django_mongo_history.query.changesets import Changesets, changesets_named, find_changesets
from django_mongo_history.query.history import ClassHistory, History
from django_mongo_history.query.moments import aware
from django_mongo_history.query.pending import Pending
from django_mongo_history.query.relations import LiveDocument, VanishedDocument
from django_mongo_history.query.selection import Conditions, Selection
from django_mongo_history.query.sources import Sources
from django_mongo_history.query.version import Changeset, Version

__all__ = [
    "Changeset",
    "Changesets",
    "ClassHistory",
    "Conditions",
    "History",
    "LiveDocument",
    "Pending",
    "Selection",
    "Sources",
    "VanishedDocument",
    "Version",
    "aware",
    "changesets_named",
    "find_changesets",
]
