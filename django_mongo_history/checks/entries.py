"""What all checks look at: the classes that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.utils.module_loading import import_string

from django_mongo_history import conf
from django_mongo_history.conf import TrackedSpec
from django_mongo_history.documents import is_document_class

TAG: Final = "mongo_history"


@dataclass(frozen=True, slots=True)
class TrackedEntry:
    """An entry of `TRACKED_DOCUMENTS` whose class could be imported."""

    spec: TrackedSpec
    document_class: type[Any]


def tracked_entries() -> Iterator[TrackedEntry]:
    """The entries of `TRACKED_DOCUMENTS` whose classes can be imported and tracked."""
    for spec in conf.load().tracked_documents:
        found = imported(spec.document)
        if is_document_class(found):
            yield TrackedEntry(spec, found)


def imported(dotted: str) -> Any:
    """What the path names, or the exception that came instead."""
    try:
        return import_string(dotted)
    except Exception as error:  # noqa: BLE001 - a project's module may raise anything, which the check then tells
        return error
