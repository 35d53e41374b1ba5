"""A single version: everything recorded with it, and what else its changeset did."""

from __future__ import annotations

from typing import Any, Final

from bson import json_util
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from django_mongo_history.admin import values
from django_mongo_history.admin.access import REVERT, Access, Asked
from django_mongo_history.admin.diffs import MOST_CHANGES, view_of
from django_mongo_history.admin.exporting import JSON
from django_mongo_history.admin.rows import row_of_record, row_of_step
from django_mongo_history.admin.views.about import NOW, about, address_of, index_of
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.core.model import Context, VersionRecord
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.query.records import records_of
from django_mongo_history.reading import DocumentHistory, shown_entries
from django_mongo_history.storage.base import Query

NEIGHBOURS: Final = 20
"""Other versions of its changeset that a version's page shows."""


def version(admin: Asked, request: HttpRequest, name: str, key: str, version: str) -> TemplateResponse:
    """Everything recorded about one version."""
    access = Access(admin, request)
    history = access.history(name, key)
    index = index_of(history, version)
    row = row_of_step(access, history, index, most=MOST_CHANGES)
    record, patch, told = None, "", Context()
    try:
        record = history.record(index)
        if record is not None:
            patch = _patch_json(history, index)
            told = record.context
        elif (tombstone := history.steps[index].tombstone) is not None:
            told = tombstone.context
    except BrokenChainError:
        pass  # the row says it
    address = address_of(access, history)
    last = len(history.steps) - 1
    context = {
        **about(access, history, _("Version %(number)d") % {"number": index + 1}),
        "row": row,
        "record": None if record is None else _facts(record, is_whole=_is_whole(history, record)),
        "request_ref": told.request,
        "task_ref": told.task,
        "is_on_its_way": record is not None and history.source.is_on_its_way(record.id),
        "user_model": told.user.model if told.user else "",
        "extra": [(str(key), values.side(value)) for key, value in told.extra.items()],
        "patch": patch,
        "previous_url": address("version", str(history.steps[index - 1].id)) if index else "",
        "next_url": address("version", str(history.steps[index + 1].id)) if index < last else "",
        "state_url": address("state", version=row.id),
        "compare_url": address("compare", a=row.id, b=NOW),
        "others": _others(access, record.changeset, record.id) if record is not None else [],
        "may_revert": row.may_revert and access.may(REVERT),
    }
    return render(admin, request, "version.html", context, access=access)


def _patch_json(history: DocumentHistory, index: int) -> str:
    record = history.record(index)
    assert record is not None
    source = history.source
    entries = shown_entries(record, view_of(source)) if record.operation != "baseline" else []
    return json_util.dumps(entries, json_options=JSON, ensure_ascii=False, indent=2)


def _is_whole(history: DocumentHistory, record: VersionRecord) -> bool:
    """Whether the reader may see all of what was recorded: nothing of it is hidden from them, or from everybody since."""
    then = Policy.from_fingerprint(record.policy)
    today = history.source.policy.joined(history.source.under_rules_of(record.document_class).policy)
    return {*today.hidden, *today.untracked} <= {*then.hidden, *then.untracked}


def _facts(record: VersionRecord, *, is_whole: bool) -> dict[str, Any]:
    return {
        "order": f"{record.order.time}, {record.order.inc}",
        "class_name": record.document_class,
        "collection": record.collection,
        "has_snapshot": record.snapshot is not None,
        # Of a state that the reader may not see as a whole a digest would tell whether a guess is right.
        "before": record.before.hex() if record.before and is_whole else "",
        "after": record.after.hex() if record.after and is_whole else "",
        "policy": record.policy,
        "revert_of": "" if record.revert_of is None else str(record.revert_of),
        "source": "" if record.source is None else values.line(record.source, longest=200),
    }


def _others(access: Access, changeset: Any, own: Any) -> list[Any]:
    """Other versions of the changeset that the user may see, the first of them."""
    if changeset is None:
        return []
    found = []
    wanted = Query(changeset=changeset, limit=4 * NEIGHBOURS, unreadable=_leave_out)
    for source, record in records_of(access.sources, wanted):
        if record.id != own and access.sees_record(source, record):
            found.append(row_of_record(access, access.narrowed(source), record))
        if len(found) == NEIGHBOURS:
            break
    return found


def _leave_out(error: BrokenChainError) -> None:
    """The changeset's own page tells of it."""
