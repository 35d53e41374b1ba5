"""What people call classes, documents, paths and operations."""

from __future__ import annotations

from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import pgettext_lazy

from django_mongo_history import documents
from django_mongo_history.admin import values
from django_mongo_history.core.model import Operation, Path
from django_mongo_history.reading import Source

OPERATIONS: Final = {
    Operation.CREATE: pgettext_lazy("history", "created"),
    Operation.UPDATE: pgettext_lazy("history", "changed"),
    Operation.DELETE: pgettext_lazy("history", "deleted"),
    Operation.BASELINE: pgettext_lazy("history", "baseline"),
    Operation.EXTERNAL: pgettext_lazy("history", "external"),
}


def class_label(source: Source) -> str:
    """What people call a class."""
    found = source.tracked.document_class
    return found.__name__ if documents.is_document_class(found) else source.tracked.label


def document_label(document_id: Any) -> str:
    """What people call a document: its `_id`."""
    return values.line(document_id, longest=80)


def path_label(source: Source, path: Path) -> str:
    """A path by attribute names, as code has them."""
    found = source.tracked.document_class
    if not path:
        return _("(the whole document)")
    return (
        documents.attribute_path(found, path)
        if documents.is_document_class(found)
        else ".".join(map(str, path))
    )
