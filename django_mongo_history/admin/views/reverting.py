"""
The ways back: a document to one of its versions, documents to a moment, and changes or a changeset taken back.

All of them end in the same two steps. The preview says exactly what would be written and what is in conflict, and writes
nothing, by whatever method it is asked for. A POST that confirms it, with a reason, is done only where the very same
would still happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bson import ObjectId
from django import forms
from django.contrib import messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext, pgettext_lazy

from django_mongo_history import conf, context, documents, revert
from django_mongo_history.admin import values
from django_mongo_history.admin.access import REVERT, VIEW, Access, Asked
from django_mongo_history.admin.addresses import key_text, name_of, today, unquoted
from django_mongo_history.admin.rows import (
    Diff,
    class_label,
    diff_of,
    document_label,
    row_of_record,
    row_of_step,
)
from django_mongo_history.admin.views.changesets import changeset_named, is_visible
from django_mongo_history.admin.views.documents import (
    MomentForm,
    about,
    choices_of,
    exact_moment,
    index_of,
)
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.core import values as exact
from django_mongo_history.core.model import DocumentKey, VersionRecord
from django_mongo_history.errors import BrokenChainError, ConflictError, HistoryError
from django_mongo_history.query import Version
from django_mongo_history.query.records import drops_of, records_named, records_of
from django_mongo_history.reading import DocumentHistory, Source, changes_between
from django_mongo_history.remote_addr import remote_addr
from django_mongo_history.revert import Conflict, Item, Kind, Outcome, Plan, Preview
from django_mongo_history.storage.base import Query

MOST_SELECTED: Final = 500
"""Changes that one action takes back."""
MOST_DOCUMENTS: Final = 100
"""Documents that one action puts back to a moment."""
MOST_SHOWN: Final = 50
"""Documents whose changes a preview spells out; all of them are counted."""
MOST_OF_A_CHANGESET: Final = 10_000
"""Versions of a changeset that a page takes back; larger ones are for the command."""
KINDS: Final = {
    Kind.REMOVE: gettext_lazy("will be deleted"),
    Kind.UPDATE: gettext_lazy("will be changed"),
    Kind.RESTORE: gettext_lazy("will be brought back"),
}


class ReasonForm(forms.Form):
    """Why. Kept with every version that is made."""

    reason = forms.CharField(
        label=pgettext_lazy("history", "Reason"),
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("Kept with the new versions, for those who come later."),
    )


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What would become of one document."""

    label: str
    url: str
    kind: str
    kind_label: str
    diff: Diff


@dataclass(slots=True)
class Proposal:
    """
    A plan to be confirmed. `fields`: what the form has to say again, so that the same plan is made of it. `about`: what
    the page says beside it. `action`: the page's own address.
    """

    plan: Plan
    title: str
    action: str
    fields: list[tuple[str, str]]
    about: dict[str, Any] = field(default_factory=dict)


def revert_document(admin: Asked, request: HttpRequest, name: str, key: str) -> HttpResponseBase:
    """A document back to one of its versions: all of it or some fields, alone or with documents that it refers to."""
    access = Access(admin, request)
    history = access.history(name, key, REVERT)
    asked = request.POST if request.method == "POST" else request.GET
    index = index_of(history, asked["version"]) if asked.get("version") else _usual(history)
    fields, relations = asked.getlist("field"), asked.getlist("relation")
    action = access.addresses.document(history.source, history.key.document_id, "revert")
    if "preview" not in asked and "confirm" not in asked:
        return _choose(admin, request, access, history, index)
    version = Version(access.sources, history.source, history=history, index=index)
    try:
        known = {one for one, _is_there in _fields(history, index)}
        offered = set(documents.relations_of(history.source.tracked.document_class))
        if not known.issuperset(fields) or not offered.issuperset(relations):
            raise Http404(_("The document has no such field."))
        plan = revert.plan_related(
            version.target(fields or None),
            relations,
            moment=version.at,
            locate=access.places(),
            revert_of=version.id,
        )
    except (HistoryError, ValueError) as error:
        return _choose(admin, request, access, history, index, problem=str(error))
    chosen = [("version", str(version.id)), *(("field", one) for one in fields)]
    proposal = Proposal(
        plan,
        _("Revert to version %(number)d") % {"number": index + 1},
        action,
        [*chosen, *(("relation", one) for one in relations)],
        {
            **about(access, history, _("Revert to version %(number)d") % {"number": index + 1}),
            "row": row_of_step(access, history, index, most=0),
            "fields_chosen": fields,
            "relations_chosen": relations,
        },
    )
    return _confirm(admin, request, access, proposal)


def revert_documents(admin: Asked, request: HttpRequest, name: str) -> HttpResponseBase:
    """Selected documents of a class back to the state of a moment."""
    access = Access(admin, request)
    asked = request.POST if request.method == "POST" else request.GET
    keys = list(dict.fromkeys(asked.getlist("key")))
    if not keys:
        access.require(REVERT)
        raise Http404(_("No document was selected."))
    _check_count(keys, MOST_DOCUMENTS)
    histories = [access.history(name, key, REVERT) for key in keys]
    source = access.source_named(unquoted(name))
    form = MomentForm(asked if asked.get("at") else None)
    moment = exact_moment(asked.get("at") or "")
    if moment is None and form.is_bound and form.is_valid():
        moment = form.cleaned_data["at"]
    title = _("Revert documents to a moment")
    action = access.addresses.of("revert_documents", name)
    labels = [f"{class_label(one.source)} {document_label(one.key.document_id)}" for one in histories]
    if moment is None or ("preview" not in asked and "confirm" not in asked):
        page = {"title": title, "form": form, "keys": keys, "labels": labels, "action": action}
        return render(admin, request, "revert_documents.html", page, access=access)
    plan = revert.plan_since([(source, [one.key.document_id for one in histories])], moment)
    plan.keeps_versions = True
    fields = [("at", moment.isoformat()), *(("key", one) for one in keys)]
    page = {"moment": values.moment(moment), "labels": labels}
    return _confirm(admin, request, access, Proposal(plan, title, action, fields, page))


def take_back(admin: Asked, request: HttpRequest) -> HttpResponseBase:
    """Selected changes taken back, and nothing that others did since."""
    access = Access(admin, request)
    asked = request.POST if request.method == "POST" else request.GET
    names = list(dict.fromkeys(asked.getlist("version")))
    if not names:
        access.require(REVERT)
        messages.warning(request, _("No change was selected."))
        return HttpResponseRedirect(access.addresses.of("changelist"))
    _check_count(names, MOST_SELECTED)
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
        return _documents_of(request, access, found)
    narrowed = list(_alike((access.narrowed(source), record) for source, record in found))
    ids = [record.id for _source, record in narrowed]
    plan = revert.plan_take_back(narrowed, revert_of=ids[0] if len(ids) == 1 else ids)
    title = ngettext("Take back %(count)d change", "Take back %(count)d changes", len(ids)) % {
        "count": len(ids)
    }
    rows = [row_of_record(access, source, record) for source, record in narrowed[:MOST_SHOWN]]
    fields = [("version", one) for one in names]
    page = {"rows": rows, "more_rows": len(narrowed) - len(rows)}
    return _confirm(
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
    return _confirm(admin, request, access, Proposal(plan, title, action, [], page))


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


# -- choosing ----------------------------------------------------------------------------------------------------------


def _choose(
    admin: Asked,
    request: HttpRequest,
    access: Access,
    history: DocumentHistory,
    index: int,
    *,
    problem: str = "",
) -> HttpResponseBase:
    document_class = history.source.tracked.document_class
    is_known = documents.is_document_class(document_class)
    fields: list[tuple[str, bool]] = []
    try:
        fields = _fields(history, index)
    except BrokenChainError as error:
        problem = problem or str(error)
    page = {
        **about(access, history, pgettext("history", "Revert")),
        "choices": [one for one in choices_of(history, index) if one[0] != "now"],
        "chosen": str(history.steps[index].id),
        "row": row_of_step(access, history, index, most=0),
        "fields": [one for one, _is_there in fields],
        "relations": documents.relations_of(document_class) if is_known else [],
        "problem": problem,
        "action": access.addresses.document(history.source, history.key.document_id, "revert"),
    }
    return render(admin, request, "revert.html", page, access=access)


def _usual(history: DocumentHistory) -> int:
    """The version that most want back: the one before the last, of a deleted document that before its delete."""
    return max(len(history.steps) - 2, 0)


def _fields(history: DocumentHistory, index: int) -> list[tuple[str, bool]]:
    """The top-level fields that the state then or the present has, by attribute name, without the identity."""
    found: dict[str, bool] = {}
    document_class = history.source.tracked.document_class
    is_known = documents.is_document_class(document_class)
    for state in (history.after(index), history.now()):
        for stored in _keys(state):
            if stored not in ("_id", "_cls"):
                name = documents.attribute_path(document_class, (stored,)) if is_known else stored
                found.setdefault(name, True)
    return list(found.items())


def _keys(state: bytes | None) -> list[str]:
    if state is None:
        return []
    try:
        return list(exact.decode(state))
    except exact.DuplicateKeysError:
        return []


# -- preview and confirmation ------------------------------------------------------------------------------------------


def _confirm(admin: Asked, request: HttpRequest, access: Access, proposal: Proposal) -> HttpResponseBase:
    """The preview; or, where this is its confirmation, what it said done."""
    plan = proposal.plan
    _refuse_unseen(access, plan)
    shown, counts, digest = _previewed(access, plan)
    is_confirmed = request.method == "POST" and "confirm" in request.POST
    form = ReasonForm(request.POST if is_confirmed else None)
    error = ""
    if is_confirmed and form.is_valid() and not plan.conflicts and plan.items:
        if constant_time_compare(request.POST.get("digest", ""), digest):
            try:
                return _done(request, access, plan, form.cleaned_data["reason"])
            except ConflictError:
                said = ngettext(
                    "Not all could be done. %(count)d document was written; these were left as they are:",
                    "Not all could be done. %(count)d documents were written; these were left as they are:",
                    plan.count,
                )
                error = said % {"count": plan.count}
        else:
            error = _(
                "Something was changed since you saw the preview. Nothing was written. This is how it is now:"
            )
    page = {
        **proposal.about,
        "title": proposal.title,
        "action": proposal.action,
        "fields": [*proposal.fields, ("digest", digest)],
        "outcomes": shown,
        "counts": [said for said, _count in counts],
        "more": sum(count for _label, count in counts) - len(shown),
        "conflicts": [_conflict_text(access, one) for one in plan.conflicts],
        "may_confirm": bool(plan.items) and not plan.conflicts,
        "form": form,
        "error": error,
    }
    return render(admin, request, "revert_preview.html", page, access=access)


def _previewed(access: Access, plan: Plan) -> tuple[list[OutcomeRow], list[tuple[str, int]], str]:
    preview = Preview(plan)
    shown: list[OutcomeRow] = []
    counts: dict[Kind, int] = {}
    for outcome in preview:
        counts[outcome.kind] = counts.get(outcome.kind, 0) + 1
        if outcome.kind is Kind.RESTORE and outcome.source.also.hidden:
            reason = _(
                "it held fields that you may not see, which would be lost: ask somebody who may see them"
            )
            plan.conflicts.append(Conflict(outcome.key, outcome.source.tracked.label, reason))
        if len(shown) < MOST_SHOWN:
            shown.append(_outcome_row(access, outcome))
    said = [(_counted(kind, count), count) for kind, count in counts.items()]
    # Signed, for it is made of whole documents: of hidden values, too, which somebody could try out otherwise.
    digest = salted_hmac("mongo_history.preview", preview.digest, algorithm="sha256").hexdigest()
    return shown, said, digest


def _counted(kind: Kind, count: int) -> str:
    if kind is Kind.REMOVE:
        said = ngettext("%(count)d document will be deleted", "%(count)d documents will be deleted", count)
    elif kind is Kind.UPDATE:
        said = ngettext("%(count)d document will be changed", "%(count)d documents will be changed", count)
    else:
        said = ngettext(
            "%(count)d document will be brought back", "%(count)d documents will be brought back", count
        )
    return said % {"count": count}


def _outcome_row(access: Access, outcome: Outcome) -> OutcomeRow:
    source = outcome.source
    found = changes_between(outcome.before, outcome.after, exact.EXACT)
    return OutcomeRow(
        label=f"{class_label(source)} {document_label(outcome.key.document_id)}",
        url=access.addresses.document(source, outcome.key.document_id),
        kind=outcome.kind.value,
        kind_label=str(KINDS[outcome.kind]),
        diff=diff_of(source, found),
    )


def _refuse_unseen(access: Access, plan: Plan) -> None:
    """Documents that the user may not change are none that the plan may write."""
    grouped: dict[int, list[Item]] = {}
    for item in plan.items:
        grouped.setdefault(id(item.source), []).append(item)
    for alike in grouped.values():
        unseen = access.unseen(alike[0].source, [item.document_id for item in alike], REVERT)
        names = {exact.encode_value(one) for one in unseen}
        for item in alike:
            if exact.encode_value(item.document_id) in names:
                plan.items.remove(item)
                plan.conflicts.append(
                    Conflict(DocumentKey("", None), "", _("a document that you may not change"))
                )


def _conflict_text(access: Access, conflict: Conflict) -> str:
    """A conflict in words; of a document that is out of sight nothing but that there is one."""
    if not conflict.label:
        return conflict.reason
    found = documents.find_label(conflict.label)
    if not _may_name(access, found, conflict.key.document_id):
        return _("a document that you may not see is in the way")
    name = conflict.label.rpartition(".")[2]
    reason = conflict.reason
    if found is not None and _hides(access, found):
        reason = reason.partition(":")[0]  # behind it stands what others say, and that may name values
    return f"{name} {document_label(conflict.key.document_id)}: {reason}"


def _may_name(access: Access, document_class: type[Any] | None, document_id: Any) -> bool:
    if document_class is None or access.sources.environment.registry.get(document_class) is None:
        return access.scope.is_everything and access.may(VIEW)
    return access.sees(access.sources.of_class(document_class), document_id)


def _hides(access: Access, document_class: type[Any]) -> bool:
    """Whether anything in the class's collection is hidden, from this user or from everybody."""
    tracked = map(access.sources.environment.registry.get, documents.sharing(document_class))
    by_policy = any(one is not None and one.policy.hidden for one in tracked)
    return by_policy or bool(access.scope.rules_for(document_class).hidden)


def _done(request: HttpRequest, access: Access, plan: Plan, reason: str) -> HttpResponseBase:
    """Write it, as one changeset; on to the new version, or to the changeset where there are several."""
    with _changeset(request, reason) as changeset_id:
        revert.apply_or_raise(plan)
    if not plan.made:
        messages.info(request, _("Everything is so already: nothing was written."))
        return HttpResponseRedirect(access.addresses.of("changelist"))
    said = ngettext("%(count)d document was written.", "%(count)d documents were written.", plan.count)
    messages.success(request, said % {"count": plan.count})
    if len(plan.made) == 1:
        return HttpResponseRedirect(_address_of(access, plan, plan.made[0]))
    return HttpResponseRedirect(access.addresses.of("changeset", str(changeset_id)))


def _address_of(access: Access, plan: Plan, record: VersionRecord) -> str:
    source = plan.source_of(record.key)
    return access.addresses.document(source, record.document_id, "version", str(record.id))


def _changeset(request: HttpRequest, reason: str) -> AbstractContextManager[ObjectId]:
    """A changeset of its own, by this user; with the sender's address where no middleware has told it."""
    known: dict[str, Any] = {}
    if context.current_changeset() is None:
        known["remote_addr"] = remote_addr(request.META, conf.load().trusted_proxies)
    return context.open_changeset(user=request.user, reason=reason, **known)


def _alike(found: Iterable[tuple[Source, VersionRecord]]) -> Iterator[tuple[Source, VersionRecord]]:
    """The same with one source object for each class and place, by which plans group documents."""
    known: dict[tuple[str, str], Source] = {}
    for source, record in found:
        yield known.setdefault((source.namespace, source.tracked.label), source), record


def _documents_of(
    request: HttpRequest, access: Access, found: Sequence[tuple[Source, VersionRecord]]
) -> HttpResponseBase:
    """On to the page that puts the documents of selected changes back to a moment."""
    places = {(name_of(source), source.namespace) for source, _record in found}
    source = found[0][0]
    if len(places) > 1 or source.namespace not in today(source):
        messages.warning(request, _("Select changes of documents of one class that is tracked."))
        return HttpResponseRedirect(access.addresses.of("changelist"))
    keys = dict.fromkeys(quote(key_text(source, record.document_id)) for _source, record in found)
    url = access.addresses.of("revert_documents", quote(name_of(source)), key=list(keys))
    return HttpResponseRedirect(url)


def _check_count(names: Sequence[str], most: int) -> None:
    if len(names) > most:
        raise Http404(_("At most %(count)d can be selected at once.") % {"count": most})
