"""
Complete, exact history of MongoEngine documents in Django projects.

The public names. What needs Django's settings is loaded at its first use, so this package can be imported anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_mongo_history.context import extra_change_info, rationale, suppress_history
from django_mongo_history.core.model import ABSENT, HIDDEN, Change, Operation, UserRef
from django_mongo_history.errors import (
    BrokenChainError,
    CollectionExistsError,
    ConflictError,
    ConversionError,
    DeliveryError,
    DocumentDeletedError,
    HiddenFieldError,
    HistoryError,
    NotTrackedError,
    ReasonRequiredError,
    StoreError,
    UntrackedFieldError,
    VersionNotFoundError,
)

if TYPE_CHECKING:
    from django_mongo_history.api import (
        append_change_info,
        changeset,
        changesets,
        history_of,
        is_modified,
        track,
        untrack,
    )
    from django_mongo_history.converter import HistoryConverter
    from django_mongo_history.query import LiveDocument, VanishedDocument
    from django_mongo_history.record_changes import RecordChanges

_LAZY = frozenset(
    {"append_change_info", "changeset", "changesets", "history_of", "is_modified", "track", "untrack"}
)
_OF_QUERY = frozenset({"LiveDocument", "VanishedDocument"})

__version__ = "0.1.0"

__all__ = [
    "ABSENT",
    "HIDDEN",
    "BrokenChainError",
    "Change",
    "CollectionExistsError",
    "ConflictError",
    "ConversionError",
    "DeliveryError",
    "DocumentDeletedError",
    "HiddenFieldError",
    "HistoryConverter",
    "HistoryError",
    "LiveDocument",
    "NotTrackedError",
    "Operation",
    "ReasonRequiredError",
    "RecordChanges",
    "StoreError",
    "UntrackedFieldError",
    "UserRef",
    "VanishedDocument",
    "VersionNotFoundError",
    "append_change_info",
    "changeset",
    "changesets",
    "extra_change_info",
    "history_of",
    "is_modified",
    "rationale",
    "suppress_history",
    "track",
    "untrack",
]


def __getattr__(name: str) -> Any:
    if name == "RecordChanges":
        from django_mongo_history import record_changes

        return record_changes.RecordChanges
    if name == "HistoryConverter":
        from django_mongo_history import converter

        return converter.HistoryConverter
    if name in _OF_QUERY:
        from django_mongo_history import query

        return getattr(query, name)
    if name in _LAZY:
        from django_mongo_history import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
