"""All changes: the list, its chart, and its export."""

from __future__ import annotations

from typing import Any, Final

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from pymongo.errors import ExecutionTimeout

from django_mongo_history.admin.access import EXPORT, VIEW, Access, Asked
from django_mongo_history.admin.addresses import without
from django_mongo_history.admin.charting import chart_of
from django_mongo_history.admin.exporting import FORMATS, export_response
from django_mongo_history.admin.filters import NAMES, FilterForm
from django_mongo_history.admin.listing import Pages, read_page
from django_mongo_history.admin.rows import row_of_record
from django_mongo_history.admin.searching import Search, search_of, too_long
from django_mongo_history.admin.views.rendering import render

PLACES: Final = ("older", "newer")


def changes(admin: Asked, request: HttpRequest) -> TemplateResponse:
    """Stored versions of all documents, newest first, by the filters of the query string."""
    access = Access(admin, request)
    access.require(VIEW)
    form = FilterForm(request.GET, access)
    pages, notes, error = Pages(), [], ""
    if form.is_valid():
        search = search_of(form.filters(), access)
        notes = search.notes
        try:
            pages = _page(access, search, request)
        except ExecutionTimeout:
            error = too_long()
    own = without(request.GET, *PLACES, "chart")
    here = request.get_full_path()
    rows = [row_of_record(access, source, record, back=here) for source, record in pages.found]
    context: dict[str, Any] = {
        "title": pgettext("history", "All changes"),
        "form": form,
        "filters": [form[name] for name in NAMES],
        "is_filtered": form.is_used,
        "rows": rows,
        "has_actions": any(row.take_back_url for row in rows),
        "notes": notes,
        "error": error,
        "problems": pages.problems,
        "newest_url": f"?{own}" if pages.newer else "",
        "newer_url": f"?{without(request.GET, *PLACES, newer=pages.newer)}" if pages.newer else "",
        "older_url": f"?{without(request.GET, *PLACES, older=pages.older)}" if pages.older else "",
        "chart_url": _with(access.addresses.of("chart"), own),
        "exports": [
            {
                "name": name.upper(),
                "url": _with(access.addresses.of("export"), without(request.GET, *PLACES, format=name)),
            }
            for name in FORMATS
        ],
        "take_back_url": access.addresses.of("take_back"),
    }
    return render(admin, request, "changes.html", context, access=access)


def chart(admin: Asked, request: HttpRequest) -> TemplateResponse:
    """The changes of each day, by operation: a page of its own, or with `?fragment=1` what the list puts into itself."""
    access = Access(admin, request)
    access.require(VIEW)
    form = FilterForm(request.GET, access)
    found, error = None, ""
    if form.is_valid():
        try:
            found = chart_of(access, search_of(form.filters(), access))
        except ExecutionTimeout:
            error = too_long()
    is_fragment = "fragment" in request.GET
    own = without(request.GET, "fragment", *PLACES)
    context = {
        "title": _("Changes per day"),
        "form": form,
        "chart": found,
        "error": error,
        "list_url": _with(access.addresses.of("changelist"), own),
    }
    return render(admin, request, "_chart.html" if is_fragment else "chart.html", context, access=access)


def export(admin: Asked, request: HttpRequest) -> HttpResponseBase:
    """The filtered list as a file, streamed."""
    access = Access(admin, request)
    access.require(EXPORT)
    form = FilterForm(request.GET, access)
    chosen = request.GET.get("format", "")
    if chosen not in FORMATS or not form.is_valid():
        raise Http404(_("There is no such export."))
    return export_response(access, search_of(form.filters(), access), chosen)


def _page(access: Access, search: Search, request: HttpRequest) -> Pages:
    places: dict[str, Any] = {f"{name}_than": request.GET.get(name, "") for name in PLACES}
    try:
        return read_page(access, search.queries, **places)
    except ValueError as error:
        raise Http404(str(error)) from error


def _with(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path
