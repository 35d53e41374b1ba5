"""Lists of changes that are there for a class, known by the names of what their entries hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from django_mongo_history import documents
from django_mongo_history.conversion.base import Target
from django_mongo_history.conversion.facts import at
from django_mongo_history.conversion.formats.embedded_changes.options import NEWEST_FIRST
from django_mongo_history.conversion.moments import Moments

_LISTS: Final = (
    "history.changes",
    "history",
    "changes",
    "change_log",
    "changelog",
    "audit",
    "audit_log",
    "changeHistory",
)
"""Where such lists mostly are."""
_NAMES: Final = {
    "path_field": ("field", "field_name", "path", "key"),
    "old_field": ("old_value", "old", "before", "from"),
    "new_field": ("new_value", "new", "after", "to"),
    "time_field": ("timestamp", "date", "at", "time", "changed_at", "created_at", "when"),
    "user_field": ("user", "changed_by", "changedBy", "author", "user_id", "by"),
}  # fmt: skip


def discovered(target: Target) -> Iterator[Mapping[str, Any]]:
    """The options of each of them."""
    declared = documents.stored_field_names(target.document_class)
    for list_field in dict.fromkeys((*_LISTS, *sorted(declared))):
        document = target.source.collection.find_one(
            {f"{list_field}.0": {"$type": "object"}}, {list_field: 1}
        )
        entries = at(document, list_field)
        if isinstance(entries, list) and entries:
            found = _recognised(entries, list_field)
            if found is not None:
                yield found


def _recognised(entries: Sequence[Any], list_field: str) -> dict[str, Any] | None:
    """The options for a list like this one; None where it is no list of changes."""
    entry = entries[0]
    if not isinstance(entry, Mapping):
        return None
    options: dict[str, Any] = {"list_field": list_field}
    change: Any = entry
    if isinstance(entry.get("changes"), list):
        options["changes_field"] = "changes"
        change = next(iter(entry["changes"]), None)
    for option, holder in (("path_field", change), ("old_field", change), ("new_field", change),
                           ("time_field", entry), ("user_field", entry)):  # fmt: skip
        name = next((one for one in _NAMES[option] if isinstance(holder, Mapping) and one in holder), None)
        if name is not None:
            options[option] = name
    if not {"path_field", "time_field"} <= options.keys() or not {"old_field", "new_field"} & options.keys():
        return None
    times = [Moments(None).read(at(one, options["time_field"])) for one in (entries[0], entries[-1])]
    if times[0] is not None and times[1] is not None and times[0].at > times[1].at:
        options["order"] = NEWEST_FIRST
    return options
