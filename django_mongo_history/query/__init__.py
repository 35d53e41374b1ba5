"""History and versions as users hold them."""

from django_mongo_history.query.changesets import find_changesets
from django_mongo_history.query.history import ClassHistory, History
from django_mongo_history.query.moments import aware
from django_mongo_history.query.selection import Conditions, Selection
from django_mongo_history.query.sources import Sources
from django_mongo_history.query.version import Changeset, Version

__all__ = [
    "Changeset",
    "ClassHistory",
    "Conditions",
    "History",
    "Selection",
    "Sources",
    "Version",
    "aware",
    "find_changesets",
]
