"""A whole document as it stood: as one version left it, or at a moment."""

from __future__ import annotations

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import pgettext

from django_mongo_history.admin import values
from django_mongo_history.admin.access import Access, Asked
from django_mongo_history.admin.moments import MomentForm, exact_moment
from django_mongo_history.admin.rows import row_of_step
from django_mongo_history.admin.views.about import about, address_of, index_of, number_of
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading import DocumentHistory


def state(admin: Asked, request: HttpRequest, name: str, key: str) -> TemplateResponse:
    """The whole document as one version left it, as it stood at a moment, or as it is."""
    access = Access(admin, request)
    history = access.history(name, key)
    form = MomentForm(request.GET if request.GET.get("at") else None)
    index = _index_asked(history, request, form)
    tree, problem = None, ""
    try:
        tree = None if index is None else values.state_tree(history.after(index))
    except BrokenChainError as error:
        problem = str(error)
    address = address_of(access, history)
    number = 0 if index is None else index + 1
    context = {
        **about(access, history, pgettext("history", "State")),
        "moment_form": form,
        "index": index,
        "number": number,
        "count": len(history.steps),
        "row": None if index is None else row_of_step(access, history, index, most=0),
        "tree": tree,
        "problem": problem,
        "state_url": address("state"),
        "previous_url": address("state", number=number - 1) if number > 1 else "",
        "next_url": address("state", number=number + 1) if 0 < number < len(history.steps) else "",
    }
    template = "_state.html" if "fragment" in request.GET else "state.html"
    return render(admin, request, template, context, access=access)


def _index_asked(history: DocumentHistory, request: HttpRequest, form: MomentForm) -> int | None:
    """The version whose state is asked for: by its id, its number, or the moment; else the last one."""
    if request.GET.get("version"):
        return index_of(history, request.GET["version"])
    if form.is_bound:
        at = exact_moment(request.GET["at"]) or (form.cleaned_data["at"] if form.is_valid() else None)
        return None if at is None else history.index_at(at)
    return number_of(request.GET.get("number"), len(history.steps)) - 1
