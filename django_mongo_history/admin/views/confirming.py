"""
The last two steps of every way back. The preview says exactly what would be written and what is in conflict, and writes
nothing, by whatever method it is asked for. A POST that confirms it, with a reason, is done only where the very same
would still happen.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from django_mongo_history import conf, context
from django_mongo_history.admin.access import Access, Asked
from django_mongo_history.admin.views.conflicts import conflict_text
from django_mongo_history.admin.views.outcome import Result, carried_out, page_of
from django_mongo_history.admin.views.previewing import previewed, refuse_unseen
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.remote_addr import remote_addr
from django_mongo_history.revert import Plan


class ReasonForm(forms.Form):
    """Why. Kept with every version that is made."""

    reason = forms.CharField(
        label=pgettext_lazy("history", "Reason"),
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("Kept with the new versions, for those who come later."),
    )


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


def confirm(admin: Asked, request: HttpRequest, access: Access, proposal: Proposal) -> HttpResponseBase:
    """The preview; or, where this is its confirmation, what it said _done."""
    plan = proposal.plan
    refuse_unseen(access, plan)
    shown, counts, digest = previewed(access, plan)
    is_confirmed = request.method == "POST" and "confirm" in request.POST
    form = ReasonForm(request.POST if is_confirmed else None)
    error = ""
    if is_confirmed and form.is_valid() and not plan.conflicts and plan.items:
        if constant_time_compare(request.POST.get("digest", ""), digest):
            return _done(admin, request, access, proposal, form.cleaned_data["reason"])
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
        "conflicts": [conflict_text(access, one) for one in plan.conflicts],
        "may_confirm": bool(plan.items) and not plan.conflicts,
        "form": form,
        "error": error,
    }
    return render(admin, request, "revert_preview.html", page, access=access)


def _done(
    admin: Asked, request: HttpRequest, access: Access, proposal: Proposal, reason: str
) -> HttpResponseBase:
    """
    Write it, as one changeset; on to the new version, or to the changeset where there are several. Where anything went
    wrong, the page that says what was written and what not.
    """
    plan = proposal.plan
    with _changeset(request, reason) as changeset_id:
        result = carried_out(access, plan, changeset_id)
    if not result.is_whole:
        page = {
            "document": proposal.about.get("document"),
            "changeset_url": proposal.about.get("changeset_url"),
            **page_of(access, plan, result),
            "title": proposal.title,
            "action": proposal.action,
            "fields": proposal.fields,
        }
        return render(admin, request, "revert_outcome.html", page, access=access)
    if not result.written:
        messages.info(request, _("Everything is so already: nothing was written."))
        return HttpResponseRedirect(access.addresses.of("changelist"))
    count = len(result.written)
    said = ngettext("%(count)d document was written.", "%(count)d documents were written.", count)
    messages.success(request, said % {"count": count})
    if result.coming:
        messages.info(
            request,
            _(
                "The store does not have all of its versions yet: a broker carries them there. Should one not arrive, "
                "the site's log says so."
            ),
        )
    return HttpResponseRedirect(_next_address(access, plan, result, changeset_id))


def _next_address(access: Access, plan: Plan, result: Result, changeset: ObjectId) -> str:
    """The new version, or the changeset; while they are on their way, a page that is there already."""
    is_one = len(plan.made) == 1
    if is_one and result.coming:
        record = plan.made[0]
        return access.addresses.document(plan.source_of(record.key), record.document_id)
    if result.coming:
        return access.addresses.of("changelist")
    return (
        _address_of(access, plan, plan.made[0])
        if is_one
        else access.addresses.of("changeset", str(changeset))
    )


def _address_of(access: Access, plan: Plan, record: VersionRecord) -> str:
    source = plan.source_of(record.key)
    return access.addresses.document(source, record.document_id, "version", str(record.id))


def _changeset(request: HttpRequest, reason: str) -> AbstractContextManager[ObjectId]:
    """A changeset of its own, by this user; with the sender's address where no middleware has told it."""
    known: dict[str, Any] = {}
    if context.current_changeset() is None:
        known["remote_addr"] = remote_addr(request.META, conf.load().trusted_proxies)
    return context.open_changeset(user=request.user, reason=reason, **known)
