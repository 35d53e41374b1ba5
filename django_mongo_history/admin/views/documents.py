"""One document: its history, two of its states compared, its state at any moment, and a single version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bson import json_util
from django import forms
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext, pgettext_lazy

from django_mongo_history.admin import values
from django_mongo_history.admin.access import REVERT, Access, Asked
from django_mongo_history.admin.exporting import JSON
from django_mongo_history.admin.filters import EARLIEST, LATEST
from django_mongo_history.admin.rows import (
    MOST_CHANGES,
    class_label,
    diff_of,
    document_label,
    row_of_record,
    row_of_step,
    view_of,
)
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.core import values as exact
from django_mongo_history.core.model import Change, Context, VersionRecord
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.query.hidden import hidden_between
from django_mongo_history.query.records import records_of
from django_mongo_history.reading import DocumentHistory, changes_between, shown_entries
from django_mongo_history.storage.base import Query

TIMELINE: Final = 20
"""Versions on one page of a document's history."""
NEIGHBOURS: Final = 20
"""Other versions of its changeset that a version's page shows."""
NOW: Final = "now"
MOST_CHOICES: Final = 200
"""Versions that a choice offers; any other one is chosen by its number."""


class DateTimeLocal(forms.DateTimeInput):
    """A moment, chosen in the browser's own calendar."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M:%S", attrs={"step": "1"})


class MomentForm(forms.Form):
    """A moment in the user's time zone; one with an offset is taken at its word."""

    at = forms.DateTimeField(
        required=False,
        label=pgettext_lazy("history", "Moment"),
        widget=DateTimeLocal(),
        help_text=gettext_lazy("in your time zone"),
    )

    def clean_at(self) -> datetime | None:
        given: datetime | None = self.cleaned_data["at"]
        if given is not None and not EARLIEST <= given.year <= LATEST:
            raise ValidationError(_("This moment is out of range."))
        is_naive = given is not None and timezone.is_naive(given)  # as forms give it where USE_TZ is off
        return timezone.make_aware(given) if is_naive and given is not None else given


def document(admin: Asked, request: HttpRequest, name: str, key: str) -> TemplateResponse:
    """A document's versions, newest first, with what each of them changed; the document may be gone."""
    access = Access(admin, request)
    history = access.history(name, key)
    count = len(history.steps)
    top = _number(request.GET.get("upto"), count)
    places = range(top - 1, max(top - 1 - TIMELINE, -1), -1)
    history.prefetch(places)
    here = request.get_full_path()
    address = _address(access, history)
    context = {
        **about(access, history),
        "rows": [row_of_step(access, history, place, back=here) for place in places],
        "count": count,
        "older_url": address("document", upto=top - TIMELINE) if top > TIMELINE else "",
        "newer_url": address("document", upto=min(top + TIMELINE, count)) if top < count else "",
        "newest_url": address("document") if top < count else "",
        "compare_url": address("compare"),
        "state_url": address("state"),
        "moment_form": MomentForm(),
    }
    return render(admin, request, "document.html", context, access=access)


def compare(admin: Asked, request: HttpRequest, name: str, key: str) -> TemplateResponse:
    """What differs between two versions of a document, or between one and the present."""
    access = Access(admin, request)
    history = access.history(name, key)
    asked = request.GET
    left = _side(history, asked.get("a_number") or asked.get("a") or str(history.steps[0].id))
    right = _side(history, asked.get("b_number") or asked.get("b") or NOW)
    if left.order > right.order:
        left, right = right, left
    diff, problem = None, ""
    try:
        found = _changes_of_sides(history, left, right)
        diff = diff_of(history.source, found, most=MOST_CHANGES)
    except BrokenChainError as error:
        problem = str(error)
    context = {
        **about(access, history, pgettext("history", "Compare")),
        "left": _side_row(access, history, left),
        "right": _side_row(access, history, right),
        "diff": diff,
        "problem": problem,
        "choices": choices_of(history, left.index, right.index),
        "has_more_choices": len(history.steps) > MOST_CHOICES,
        "count": len(history.steps),
        "chosen": (left.name, right.name),
        "compare_url": _address(access, history)("compare"),
    }
    return render(admin, request, "compare.html", context, access=access)


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
    address = _address(access, history)
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
    address = _address(access, history)
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


# -- inside ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a version by its place, or the present. `order`: what is older is smaller."""

    name: str
    index: int | None
    order: int


def about(access: Access, history: DocumentHistory, page: str = "") -> dict[str, Any]:
    """What every page about a document says of it."""
    source = history.source
    label = f"{class_label(source)} {document_label(history.key.document_id)}"
    address = _address(access, history)
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


def _address(access: Access, history: DocumentHistory) -> Any:
    def of(page: str, *more: str, **query: Any) -> str:
        return access.addresses.document(history.source, history.key.document_id, page, *more, **query)

    return of


def _number(text: str | None, count: int) -> int:
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


def _side(history: DocumentHistory, name: str) -> Side:
    if name == NOW:
        return Side(NOW, None, len(history.steps))
    if re.fullmatch(r"\d{1,9}", name):
        index = _number(name, len(history.steps)) - 1
        return Side(str(history.steps[index].id), index, index)
    index = index_of(history, name)
    return Side(name, index, index)


def _changes_of_sides(history: DocumentHistory, left: Side, right: Side) -> list[Change]:
    last = len(history.steps) - 1
    before = history.now() if left.index is None else history.after(left.index)
    after = history.now() if right.index is None else history.after(right.index)
    low = last if left.index is None else left.index
    high = last if right.index is None else right.index
    return [*changes_between(before, after, exact.EXACT), *hidden_between(history, low, high)]


def _side_row(access: Access, history: DocumentHistory, side: Side) -> Any:
    return None if side.index is None else row_of_step(access, history, side.index, most=0)


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


def _index_asked(history: DocumentHistory, request: HttpRequest, form: MomentForm) -> int | None:
    """The version whose state is asked for: by its id, its number, or the moment; else the last one."""
    if request.GET.get("version"):
        return index_of(history, request.GET["version"])
    if form.is_bound:
        at = exact_moment(request.GET["at"]) or (form.cleaned_data["at"] if form.is_valid() else None)
        return None if at is None else history.index_at(at)
    return _number(request.GET.get("number"), len(history.steps)) - 1


def exact_moment(text: str) -> datetime | None:
    """A moment with an offset, which is one to the millisecond."""
    try:
        found = parse_datetime(text.strip())
    except ValueError:
        return None
    if found is None or found.utcoffset() is None or not EARLIEST <= found.year <= LATEST:
        return None
    return found


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
