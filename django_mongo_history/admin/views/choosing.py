"""What documents shall go back to: the pages that ask for a version, fields and related documents, or for a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from django_mongo_history import documents
from django_mongo_history.admin.access import REVERT, Access, Asked
from django_mongo_history.admin.moments import MomentForm
from django_mongo_history.admin.rows import row_of_step
from django_mongo_history.admin.views.about import NOW, about, choices_of
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.core import values as exact
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading import DocumentHistory

MOST_DOCUMENTS: Final = 100
"""Documents that one action puts back to a moment."""


def choose(
    admin: Asked,
    request: HttpRequest,
    access: Access,
    history: DocumentHistory,
    index: int,
    *,
    problem: str = "",
) -> HttpResponseBase:
    """The page; `problem`: why what was asked for cannot be previewed."""
    document_class = history.source.tracked.document_class
    is_known = documents.is_document_class(document_class)
    fields: list[str] = []
    try:
        fields = fields_of(history, index)
    except BrokenChainError as error:
        problem = problem or str(error)
    page = {
        **about(access, history, pgettext("history", "Revert")),
        "choices": [one for one in choices_of(history, index) if one[0] != NOW],
        "chosen": str(history.steps[index].id),
        "row": row_of_step(access, history, index, most=0),
        "fields": fields,
        "relations": documents.relations_of(document_class) if is_known else [],
        "problem": problem,
        "action": access.addresses.document(history.source, history.key.document_id, "revert"),
    }
    return render(admin, request, "revert.html", page, access=access)


def usual_version(history: DocumentHistory) -> int:
    """The version that most want back: the one before the last, of a deleted document that before its delete."""
    return max(len(history.steps) - 2, 0)


def fields_of(history: DocumentHistory, index: int) -> list[str]:
    """The top-level fields that the state then or the present has, by attribute name, without the identity."""
    document_class = history.source.tracked.document_class
    is_known = documents.is_document_class(document_class)
    stored = dict.fromkeys([*_keys(history.after(index)), *_keys(history.now())])
    names = [one for one in stored if one not in ("_id", "_cls")]
    return [documents.attribute_path(document_class, (one,)) if is_known else one for one in names]


def _keys(state: bytes | None) -> list[str]:
    if state is None:
        return []
    try:
        return list(exact.decode(state))
    except exact.DuplicateKeysError:
        return []


def choose_moment(
    admin: Asked,
    request: HttpRequest,
    access: Access,
    name: str,
    labels: Mapping[str, str],
    *,
    form: MomentForm,
) -> HttpResponseBase:
    """
    The page that asks to which moment documents shall go back. It sends their keys in a body: they may be longer than
    servers take in an address. `name` and the keys of `labels` as they stand in addresses.
    """
    page = {
        "title": _("Revert documents to a moment"),
        "form": form,
        "keys": list(labels),
        "labels": list(labels.values()),
        "action": access.addresses.of("revert_documents", name),
    }
    return render(admin, request, "revert_documents.html", page, access=access)


def too_many(
    request: HttpRequest, access: Access, selected: Sequence[str], most: int
) -> HttpResponseRedirect | None:
    """
    Back to the list, with a message, where more are selected than go at once.

    Raises: PermissionDenied for somebody who may revert nothing.
    """
    if len(selected) <= most:
        return None
    access.require(REVERT)
    messages.error(request, _("At most %(count)d can be selected at once.") % {"count": most})
    return HttpResponseRedirect(access.addresses.of("changelist"))
