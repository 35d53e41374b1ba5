"""A changeset: everything that one request, task or command did."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

from bson import ObjectId
from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from pymongo.errors import ExecutionTimeout

from django_mongo_history.admin import values
from django_mongo_history.admin.access import REVERT, VIEW, Access, Asked
from django_mongo_history.admin.addresses import without
from django_mongo_history.admin.listing import Pages, read_page
from django_mongo_history.admin.rows import row_of_record
from django_mongo_history.admin.searching import SEARCH_S, too_long
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.core.model import Context
from django_mongo_history.query.records import drops_of
from django_mongo_history.revert import Drop
from django_mongo_history.storage.base import Query

_BEFORE_ALL: Final = "-62135596800000-000000000000000000000000"
"""A place before every version."""


def changeset(admin: Asked, request: HttpRequest, changeset_id: str) -> TemplateResponse:
    """Who, when, from where and why, and its versions, by pages."""
    access = Access(admin, request)
    access.require(VIEW)
    own = changeset_named(changeset_id)
    query = Query(changeset=own, newest_first=True, max_time_s=SEARCH_S)
    pages, error = Pages(), ""
    try:
        pages = read_page(
            access, [query], older_than=request.GET.get("older", ""), newer_than=request.GET.get("newer", "")
        )
    except ExecutionTimeout:
        error = too_long()
    except ValueError as wrong:
        raise Http404(str(wrong)) from wrong
    drops = visible_drops(access, own)
    is_empty = not pages.found and not drops and not error and not pages.older
    if is_empty and "older" not in request.GET and "newer" not in request.GET:
        raise Http404(_("There is no such changeset."))
    here = request.get_full_path()
    context = {
        "title": _("Changeset %(id)s") % {"id": own},
        "changeset": _facts(access, query, drops),
        "drops": [_drop_row(one) for one in drops],
        "rows": [row_of_record(access, source, record, back=here) for source, record in pages.found],
        "error": error,
        "problems": pages.problems,
        "newer_url": f"?{without(request.GET, 'older', 'newer', newer=pages.newer)}" if pages.newer else "",
        "older_url": f"?{without(request.GET, 'older', 'newer', older=pages.older)}" if pages.older else "",
        "take_back_url": access.addresses.of("take_back_changeset", str(own)) if access.may(REVERT) else "",
    }
    return render(admin, request, "changeset.html", context, access=access)


def _facts(access: Access, query: Query, drops: Sequence[Drop]) -> dict[str, Any]:
    """
    Who, when, from where and why, by the first thing that it did of which the user may know: what stands with others
    may be about them.
    """
    first = read_page(access, [query], newer_than=_BEFORE_ALL, size=1).found
    told = [(record.at, record.context) for _source, record in first]
    told += [(one.tombstone.at, one.tombstone.context) for one in drops]
    at, context = min(told, key=itemgetter(0)) if told else (None, Context())
    return {
        "when": values.moment(at),
        "user": str(context.user or ""),
        "remote_addr": context.remote_addr or "",
        "reason": context.reason or "",
        "request": context.request,
        "extra": [(str(name), values.side(value)) for name, value in context.extra.items()],
    }


def changeset_named(text: str) -> ObjectId:
    """Raises: Http404."""
    if not ObjectId.is_valid(text):
        raise Http404(_("This is no id of a changeset."))
    return ObjectId(text)


def visible_drops(access: Access, own: ObjectId) -> list[Drop]:
    """The drops of collections in it of which the user may see every document."""
    return [drop for drop in drops_of(access.sources, Query(changeset=own)) if is_visible(access, drop)]


def is_visible(access: Access, drop: Drop) -> bool:
    """Whether the user may see all that was in a dropped collection, whatever its documents were."""
    return all(access.sees_all_of(source) for source in drop.sources)


def _drop_row(drop: Drop) -> dict[str, Any]:
    return {"collection": drop.tombstone.collection, "when": values.moment(drop.tombstone.at)}
