"""What a plan would do, as the preview shows it; whoever may not change a document has no plan that does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_mongo_history.admin.access import REVERT, Access
from django_mongo_history.admin.diffs import Diff, diff_of
from django_mongo_history.admin.labels import class_label, document_label
from django_mongo_history.admin.words import Marking
from django_mongo_history.core import values as exact
from django_mongo_history.core.model import DocumentKey
from django_mongo_history.reading import changes_between
from django_mongo_history.revert import Conflict, Item, Kind, Outcome, Plan, Preview

MOST_SHOWN: Final = 50
"""Documents whose changes a preview spells out; all of them are counted."""
KINDS: Final = {
    Kind.REMOVE: gettext_lazy("will be deleted"),
    Kind.UPDATE: gettext_lazy("will be changed"),
    Kind.RESTORE: gettext_lazy("will be brought back"),
}


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What would become of one document."""

    label: str
    url: str
    kind: str
    kind_label: str
    diff: Diff


def previewed(access: Access, plan: Plan) -> tuple[list[OutcomeRow], list[tuple[str, int]], str]:
    preview, marking = Preview(plan), Marking()
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
            shown.append(_outcome_row(access, outcome, marking))
    said = [(_counted(kind, count), count) for kind, count in counts.items()]
    # Signed, for it is made of whole documents: of hidden values, too, which somebody could try out otherwise.
    digest = salted_hmac("mongo_history.preview", preview.digest, algorithm="sha256").hexdigest()
    return shown, said, digest


def refuse_unseen(access: Access, plan: Plan) -> None:
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


def _outcome_row(access: Access, outcome: Outcome, marking: Marking) -> OutcomeRow:
    source = outcome.source
    found = changes_between(outcome.before, outcome.after, exact.EXACT)
    return OutcomeRow(
        label=f"{class_label(source)} {document_label(outcome.key.document_id)}",
        url=access.addresses.document(source, outcome.key.document_id),
        kind=outcome.kind.value,
        kind_label=str(KINDS[outcome.kind]),
        diff=diff_of(source, found, marking=marking),
    )
