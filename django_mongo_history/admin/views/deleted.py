"""Documents of a class that are gone, each with the way back. Found by their delete versions, newest first."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from pymongo.errors import ExecutionTimeout

from django_mongo_history import documents
from django_mongo_history.admin import values
from django_mongo_history.admin.access import VIEW, Access, Asked
from django_mongo_history.admin.addresses import unquoted, without
from django_mongo_history.admin.filters import Filters
from django_mongo_history.admin.labels import class_label
from django_mongo_history.admin.listing import Found, Pages, read_page
from django_mongo_history.admin.rows import VersionRow, row_of_record
from django_mongo_history.admin.searching import search_of, too_long
from django_mongo_history.admin.views.changesets import is_visible
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.core import values as exact
from django_mongo_history.core.model import Operation
from django_mongo_history.query.records import drops_of
from django_mongo_history.reading import Source, scan
from django_mongo_history.storage.base import Query


@dataclass(frozen=True, slots=True)
class DeletedRow:
    """
    A delete. `is_gone`: whether the document is still gone, and this is what it went by. `revert_url` leads to the
    state before it.
    """

    version: VersionRow
    is_gone: bool
    revert_url: str


def deleted_classes(admin: Asked, request: HttpRequest) -> TemplateResponse:
    """The classes to choose from."""
    access = Access(admin, request)
    access.require(VIEW)
    classes = [
        {"label": one.__name__, "url": access.addresses.of("deleted", documents.class_name_of(one))}
        for one in access.classes()
    ]
    context = {"title": _("Deleted documents"), "classes": classes}
    return render(admin, request, "deleted_classes.html", context, access=access)


def deleted(admin: Asked, request: HttpRequest, name: str) -> TemplateResponse:
    """The documents of one class that are gone, by pages."""
    access = Access(admin, request)
    access.require(VIEW)
    source = access.source_named(unquoted(name))
    found = source.tracked.document_class
    search = search_of(Filters(document_class=found, operation=Operation.DELETE), access)
    pages, error = Pages(), ""
    rows: list[DeletedRow] = []
    drops: list[dict[str, object]] = []
    try:
        pages = read_page(
            access,
            search.queries,
            older_than=request.GET.get("older", ""),
            newer_than=request.GET.get("newer", ""),
        )
        rows = _rows(access, source, pages.found, back=request.get_full_path())
        drops = _drops(access, source)
    except ExecutionTimeout:
        error = too_long()
    except ValueError as wrong:
        raise Http404(str(wrong)) from wrong
    context = {
        "title": _("Deleted documents: %(class)s") % {"class": class_label(source)},
        "rows": rows,
        "has_actions": any(row.is_gone and row.version.take_back_url for row in rows),
        "drops": drops,
        "error": error,
        "problems": pages.problems,
        "newer_url": f"?{without(request.GET, 'older', 'newer', newer=pages.newer)}" if pages.newer else "",
        "older_url": f"?{without(request.GET, 'older', 'newer', older=pages.older)}" if pages.older else "",
        "take_back_url": access.addresses.of("take_back"),
    }
    return render(admin, request, "deleted.html", context, access=access)


def _rows(access: Access, source: Source, found: list[Found], *, back: str) -> list[DeletedRow]:
    """Each delete with whether it is the last word about its document: two queries for the whole page."""
    ids = {exact.sort_key(record.document_id): record.document_id for _source, record in found}
    last: dict[object, tuple[object, str]] = {}
    for histories in scan(source, document_ids=list(ids.values())) if ids else ():
        for history in histories:
            if history.image is None and history.steps and history.steps[-1].operation is Operation.DELETE:
                before = str(history.steps[-2].id) if len(history.steps) > 1 else ""
                last[exact.sort_key(history.key.document_id)] = history.steps[-1].id, before
    rows = []
    for own, record in found:
        row = row_of_record(access, own, record, back=back)
        version_id, before = last.get(exact.sort_key(record.document_id), (None, ""))
        is_gone = version_id == record.id
        may = bool(is_gone and before and row.may_revert)
        url = access.addresses.document(own, record.document_id, "revert", version=before) if may else ""
        rows.append(DeletedRow(row, is_gone, url))
    return rows


def _drops(access: Access, source: Source) -> list[dict[str, object]]:
    """Drops of the collection: the documents that went with one have no delete version of their own."""
    return [
        {
            "collection": drop.tombstone.collection,
            "documents": drop.tombstone.documents,
            "when": values.moment(drop.tombstone.at),
            "url": access.addresses.of("changeset", str(drop.tombstone.changeset))
            if drop.tombstone.changeset
            else "",
        }
        for drop in drops_of(access.sources, Query(collections=source.namespaces, newest_first=True))
        if is_visible(access, drop)
    ]
