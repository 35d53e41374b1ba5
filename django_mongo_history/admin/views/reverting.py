"""Documents back to a state: one of them to a version, or several of a class to a moment."""

from __future__ import annotations

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from django_mongo_history import documents, revert
from django_mongo_history.admin import values
from django_mongo_history.admin.access import REVERT, Access, Asked
from django_mongo_history.admin.addresses import unquoted
from django_mongo_history.admin.labels import class_label, document_label
from django_mongo_history.admin.moments import MomentForm, exact_moment
from django_mongo_history.admin.rows import row_of_step
from django_mongo_history.admin.views.about import about, index_of
from django_mongo_history.admin.views.choosing import (
    MOST_DOCUMENTS,
    choose,
    choose_moment,
    fields_of,
    too_many,
    usual_version,
)
from django_mongo_history.admin.views.confirming import Proposal, confirm
from django_mongo_history.errors import HistoryError
from django_mongo_history.query import Version


def revert_document(admin: Asked, request: HttpRequest, name: str, key: str) -> HttpResponseBase:
    """A document back to one of its versions: all of it or some fields, alone or with documents that it refers to."""
    access = Access(admin, request)
    history = access.history(name, key, REVERT)
    asked = request.POST if request.method == "POST" else request.GET
    index = index_of(history, asked["version"]) if asked.get("version") else usual_version(history)
    fields, relations = asked.getlist("field"), asked.getlist("relation")
    action = access.addresses.document(history.source, history.key.document_id, "revert")
    if "preview" not in asked and "confirm" not in asked:
        return choose(admin, request, access, history, index)
    version = Version(access.sources, history.source, history=history, index=index)
    try:
        known = set(fields_of(history, index))
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
        return choose(admin, request, access, history, index, problem=str(error))
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
    return confirm(admin, request, access, proposal)


def revert_documents(admin: Asked, request: HttpRequest, name: str) -> HttpResponseBase:
    """Selected documents of a class back to the state of a moment."""
    access = Access(admin, request)
    asked = request.POST if request.method == "POST" else request.GET
    keys = list(dict.fromkeys(asked.getlist("key")))
    if not keys:
        access.require(REVERT)
        raise Http404(_("No document was selected."))
    if (refused := too_many(request, access, keys, MOST_DOCUMENTS)) is not None:
        return refused
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
        named = dict(zip(keys, labels, strict=True))
        return choose_moment(admin, request, access, name, named, form=form)
    plan = revert.plan_since([(source, [one.key.document_id for one in histories])], moment)
    plan.keeps_versions = True
    fields = [("at", moment.isoformat()), *(("key", one) for one in keys)]
    page = {"moment": values.moment(moment), "labels": labels}
    return confirm(admin, request, access, Proposal(plan, title, action, fields, page))
