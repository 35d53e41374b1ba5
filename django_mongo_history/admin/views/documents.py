"""A document's history: its versions on a line of time; the document may be gone."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest
from django.template.response import TemplateResponse

from django_mongo_history.admin.access import Access, Asked
from django_mongo_history.admin.moments import MomentForm
from django_mongo_history.admin.rows import row_of_step
from django_mongo_history.admin.views.about import about, address_of, number_of
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.admin.words import Marking

TIMELINE: Final = 20
"""Versions on one page of a document's history."""


def document(admin: Asked, request: HttpRequest, name: str, key: str) -> TemplateResponse:
    """A document's versions, newest first, with what each of them changed; the document may be gone."""
    access = Access(admin, request)
    history = access.history(name, key)
    count = len(history.steps)
    top = number_of(request.GET.get("upto"), count)
    places = range(top - 1, max(top - 1 - TIMELINE, -1), -1)
    history.prefetch(places)
    here, marking = request.get_full_path(), Marking()
    address = address_of(access, history)
    context = {
        **about(access, history),
        "rows": [row_of_step(access, history, place, back=here, marking=marking) for place in places],
        "count": count,
        "older_url": address("document", upto=top - TIMELINE) if top > TIMELINE else "",
        "newer_url": address("document", upto=min(top + TIMELINE, count)) if top < count else "",
        "newest_url": address("document") if top < count else "",
        "compare_url": address("compare"),
        "state_url": address("state"),
        "moment_form": MomentForm(),
    }
    return render(admin, request, "document.html", context, access=access)
