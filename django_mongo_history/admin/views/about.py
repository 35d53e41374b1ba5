"""What all pages about one document have: its name, its addresses, and its versions by id and by number."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from django_mongo_history.admin import values
from django_mongo_history.admin.access import REVERT, Access
from django_mongo_history.admin.labels import class_label, document_label
from django_mongo_history.reading import DocumentHistory

NOW: Final = "now"
MOST_CHOICES: Final = 200
"""Versions that a choice offers; any other one is chosen by its number."""


def about(access: Access, history: DocumentHistory, page: str = "") -> dict[str, Any]:
    """What every page about a document says of it."""
    source = history.source
    label = f"{class_label(source)} {document_label(history.key.document_id)}"
    address = address_of(access, history)
    return {
        "title": f"{label}: {page}" if page else _("History of %(document)s") % {"document": label},
        "document": {
            "label": label,
            "class_label": class_label(source),
            "id": values.scalar(history.key.document_id),
            "collection": history.key.collection,
            "exists": history.image is not None,
            "url": address("document"),
            "revert_url": address("revert")
            if access.may(REVERT, access.subject(source, history.key.document_id))
            else "",
        },
    }


def address_of(access: Access, history: DocumentHistory) -> Any:
    def of(page: str, *more: str, **query: Any) -> str:
        return access.addresses.document(history.source, history.key.document_id, page, *more, **query)

    return of


def number_of(text: str | None, count: int) -> int:
    try:
        return min(max(int(text or count), 1), count)
    except ValueError as error:
        raise Http404(str(error)) from error


def index_of(history: DocumentHistory, name: str) -> int:
    """The place of a version, stored or derived. Raises: Http404."""
    for index, step in enumerate(history.steps):
        if str(step.id) == name:
            return index
    raise Http404(_("The document has no such version."))


def choices_of(history: DocumentHistory, *also: int | None) -> list[tuple[str, str]]:
    """The versions to choose from: the newest ones, the first, and these (by their places)."""
    count = len(history.steps)
    wanted = {*range(max(count - MOST_CHOICES, 0), count), 0, *(one for one in also if one is not None)}
    places = sorted(wanted, reverse=True)
    named = [
        (str(history.steps[place].id), f"{place + 1}{_when(history.steps[place].at)}") for place in places
    ]
    return [(NOW, pgettext("history", "now")), *named]


def _when(at: datetime | None) -> str:
    return "" if at is None else f", {timezone.localtime(at):%Y-%m-%d %H:%M:%S}"
