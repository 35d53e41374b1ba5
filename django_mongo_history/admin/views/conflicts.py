"""What stands in the way of a plan, in words that tell nobody of what they may not see."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from django_mongo_history import documents
from django_mongo_history.admin.access import VIEW, Access
from django_mongo_history.admin.labels import document_label
from django_mongo_history.revert import Conflict


def conflict_text(access: Access, conflict: Conflict) -> str:
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
