"""Changes taken back, or a whole changeset, and nothing that others did since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bson import ObjectId
from django.contrib import messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_mongo_history import revert
from django_mongo_history.admin.access import REVERT, Access, Asked
from django_mongo_history.admin.addresses import key_text, name_of, today
from django_mongo_history.admin.labels import class_label, document_label
from django_mongo_history.admin.moments import MomentForm
from django_mongo_history.admin.rows import row_of_record
from django_mongo_history.admin.views.changesets import changeset_named, is_visible
from django_mongo_history.admin.views.choosing import MOST_DOCUMENTS, choose_moment, too_many
from django_mongo_history.admin.views.confirming import Proposal, confirm
from django_mongo_history.admin.views.previewing import MOST_SHOWN
from django_mongo_history.core.model import DocumentKey, VersionRecord
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.query.records import drops_of, records_named, records_of
from django_mongo_history.reading import Source
from django_mongo_history.revert import Conflict
from django_mongo_history.storage.base import Query

MOST_SELECTED: Final = 500
"""Changes that one action takes back."""
MOST_OF_A_CHANGESET: Final = 10_000
"""Versions of a changeset that a page takes back; larger ones are for the command."""


def take_back(admin: Asked, request: HttpRequest) -> HttpResponseBase:
    """Selected changes taken back, and nothing that others did since."""
    access = Access(admin, request)
    asked = request.POST if request.method == "POST" else request.GET
    names = list(dict.fromkeys(asked.getlist("version")))
    if not names:
        access.require(REVERT)
        messages.warning(request, _("No change was selected."))
        return HttpResponseRedirect(access.addresses.of("changelist"))
    if (refused := too_many(request, access, names, MOST_SELECTED)) is not None:
        return refused
    if not all(map(ObjectId.is_valid, names)):
        access.require(REVERT)
        raise Http404(_("There is no such version."))
    try:
        found = records_named(access.sources, [ObjectId(one) for one in names])
    except BrokenChainError as error:
        access.require(REVERT)
        if not access.scope.is_everything:  # whose document it is is not known, either
            raise Http404(_("There is no such version.")) from error
        messages.error(request, str(error))
        return HttpResponseRedirect(access.addresses.of("changelist"))
    if len(found) != len(names):
        access.require(REVERT)
        raise Http404(_("There is no such version."))
    if not all(access.sees_record(source, record, REVERT) for source, record in found):
        raise PermissionDenied
    if asked.get("action") == "documents":
        return _documents_of(admin, request, access, found)
    narrowed = list(_alike((access.narrowed(source), record) for source, record in found))
    ids = [record.id for _source, record in narrowed]
    plan = revert.plan_take_back(narrowed, revert_of=ids[0] if len(ids) == 1 else ids)
    title = ngettext("Take back %(count)d change", "Take back %(count)d changes", len(ids)) % {
        "count": len(ids)
    }
    rows = [row_of_record(access, source, record) for source, record in narrowed[:MOST_SHOWN]]
    fields = [("version", one) for one in names]
    page = {"rows": rows, "more_rows": len(narrowed) - len(rows)}
    return confirm(
        admin, request, access, Proposal(plan, title, access.addresses.of("take_back"), fields, page)
    )


def take_back_changeset(admin: Asked, request: HttpRequest, changeset_id: str) -> HttpResponseBase:
    """All that a changeset did taken back; where a part of it may not be seen, nothing."""
    access = Access(admin, request)
    own = changeset_named(changeset_id)
    drops = drops_of(access.sources, Query(changeset=own))
    dropped = [drop for drop in drops if is_visible(access, drop)]
    members = _Members(access, own)
    try:
        plan = revert.plan_take_back(
            _alike(members),
            drops=[
                replace(drop, sources=tuple(access.narrowed(one) for one in drop.sources)) for drop in dropped
            ],
            revert_of=own,
        )
    except _TooLargeError:
        said = _(
            "The changeset has more than %(count)d versions: take it back with manage.py history_revert."
        )
        messages.error(request, said % {"count": MOST_OF_A_CHANGESET})
        return HttpResponseRedirect(access.addresses.of("changeset", str(own)))
    if not members.seen:
        access.require(REVERT)
        if not dropped and not members.problems:
            raise Http404(_("There is no such changeset."))
    plan.conflicts.extend(Conflict(DocumentKey("", None), "", one) for one in members.problems)
    unseen = members.unseen + len(drops) - len(dropped)
    if unseen:
        reason = ngettext(
            "the changeset holds %(count)d change that you may not see, so it cannot be taken back as a whole",
            "the changeset holds %(count)d changes that you may not see, so it cannot be taken back as a whole",
            unseen,
        )
        plan.conflicts.append(Conflict(DocumentKey("", None), "", reason % {"count": unseen}))
    title = _("Take back changeset %(id)s") % {"id": own}
    action = access.addresses.of("take_back_changeset", str(own))
    page = {"changeset_url": access.addresses.of("changeset", str(own))}
    return confirm(admin, request, access, Proposal(plan, title, action, [], page))


class _TooLargeError(Exception):
    """A changeset of more versions than a page takes back."""


@dataclass(slots=True)
class _Members:
    """
    The versions of a changeset, streamed once, those alone that the user may see; and how many of both there are.
    `problems`: those that cannot be read, which count as unseen where the user may not see everything.

    Raises: PermissionDenied at one that may be seen and not be changed; _TooLargeError.
    """

    access: Access
    changeset: ObjectId
    seen: int = 0
    unseen: int = 0
    problems: list[str] = field(default_factory=list)

    def _tell(self, error: BrokenChainError) -> None:
        if self.access.scope.is_everything:
            self.problems.append(str(error))
        else:
            self.unseen += 1

    def __iter__(self) -> Iterator[tuple[Source, VersionRecord]]:
        wanted = Query(changeset=self.changeset, limit=MOST_OF_A_CHANGESET + 1, unreadable=self._tell)
        for source, record in records_of(self.access.sources, wanted):
            if self.seen + self.unseen == MOST_OF_A_CHANGESET:
                raise _TooLargeError
            if not self.access.sees_record(source, record):
                self.unseen += 1
                continue
            if not self.access.sees_record(source, record, REVERT):
                raise PermissionDenied
            self.seen += 1
            yield self.access.narrowed(source), record


def _alike(found: Iterable[tuple[Source, VersionRecord]]) -> Iterator[tuple[Source, VersionRecord]]:
    """The same with one source object for each class and place, by which plans group documents."""
    known: dict[tuple[str, str], Source] = {}
    for source, record in found:
        yield known.setdefault((source.namespace, source.tracked.label), source), record


def _documents_of(
    admin: Asked, request: HttpRequest, access: Access, found: Sequence[tuple[Source, VersionRecord]]
) -> HttpResponseBase:
    """The page that asks to which moment the documents of selected changes shall go back."""
    places = {(name_of(source), source.namespace) for source, _record in found}
    source = found[0][0]
    if len(places) > 1 or source.namespace not in today(source):
        messages.warning(request, _("Select changes of documents of one class that is tracked."))
        return HttpResponseRedirect(access.addresses.of("changelist"))
    labels = {
        quote(
            key_text(source, record.document_id)
        ): f"{class_label(source)} {document_label(record.document_id)}"
        for _source, record in found
    }
    if (refused := too_many(request, access, list(labels), MOST_DOCUMENTS)) is not None:
        return refused
    return choose_moment(admin, request, access, quote(name_of(source)), labels, form=MomentForm())
