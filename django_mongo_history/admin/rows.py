"""
Versions as the pages show them. Templates get plain rows, not versions: a template's `version.name` would ask the
version for the document's field first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bson import ObjectId
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext_lazy

from django_mongo_history import documents
from django_mongo_history.admin import values, words
from django_mongo_history.admin.access import Access
from django_mongo_history.core import policy
from django_mongo_history.core import values as exact
from django_mongo_history.core.model import (
    HIDDEN,
    Change,
    Context,
    Operation,
    Path,
    VersionRecord,
)
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.query.hidden import hidden_by
from django_mongo_history.reading import DocumentHistory, Source, changes_between, changes_of
from django_mongo_history.reading.source import View

OPERATIONS: Final = {
    Operation.CREATE: pgettext_lazy("history", "created"),
    Operation.UPDATE: pgettext_lazy("history", "changed"),
    Operation.DELETE: pgettext_lazy("history", "deleted"),
    Operation.BASELINE: pgettext_lazy("history", "baseline"),
    Operation.EXTERNAL: pgettext_lazy("history", "external"),
}
MOST_CHANGES: Final = 200
"""Changed paths of one version that a page shows."""
MOST_IN_TIMELINE: Final = 20
"""The same in a list of versions; the version's own page shows more."""


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One changed path: both sides as HTML. `stored_path`: with database names. `op`: add, remove, change, order."""

    path: str
    stored_path: str
    op: str
    old: SafeString
    new: SafeString
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Diff:
    """Changed paths; `more`: how many are left out. `problem`: why they cannot be known."""

    rows: list[DiffRow] = field(default_factory=list)
    more: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version. Texts that it does not know are empty; `number` is None where no history was read for it."""

    id: str
    url: str
    document_url: str
    changeset_url: str
    revert_url: str
    take_back_url: str
    number: int | None
    at: datetime | None
    when: SafeString
    operation: str
    operation_label: str
    is_derived: bool
    class_label: str
    document_label: str
    user: str
    user_key: str
    remote_addr: str
    reason: str
    changeset: str
    summary: str
    diff: Diff
    may_revert: bool = False


def class_label(source: Source) -> str:
    """What people call a class."""
    found = source.tracked.document_class
    return found.__name__ if documents.is_document_class(found) else source.tracked.label


def document_label(document_id: Any) -> str:
    """What people call a document: its `_id`."""
    return values.line(document_id, longest=80)


def view_of(source: Source) -> View:
    """How the pages show versions: as today's rules allow, with every BSON type as it is stored."""
    return View(source.policy, source.tracked.renamed, exact.EXACT)


def record_changes(source: Source, record: VersionRecord) -> list[Change]:
    """What a stored version changed; what is hidden from this reader is there without its values."""
    if record.operation is Operation.BASELINE:
        return []
    own = source.under_rules_of(record.document_class)
    found = changes_of(record, view_of(own))
    known = {".".join(policy_names(change.path)) for change in found if HIDDEN in (change.old, change.new)}
    hidden = (path for path in hidden_by(record, own.policy) if path not in known)
    return [
        *found,
        *(Change(tuple(path.split(".")), HIDDEN, HIDDEN, "change") for path in dict.fromkeys(hidden)),
    ]


def step_changes(history: DocumentHistory, index: int) -> list[Change]:
    """What the version at a place of a history changed, stored or derived. Raises: BrokenChainError."""
    record = history.record(index)
    if record is not None:
        return record_changes(history.source, record)
    return changes_between(history.before(index), history.after(index), exact.EXACT)


def policy_names(path: Path) -> list[str]:
    return policy.name_path(path).split(".")


def diff_of(source: Source, found: Sequence[Change], *, most: int = MOST_CHANGES) -> Diff:
    """Changes as rows, the first `most` of them."""
    return Diff([diff_row(source, change) for change in found[:most]], max(0, len(found) - most))


def diff_row(source: Source, change: Change) -> DiffRow:
    """One change, path by path, old and new."""
    stored = ".".join(map(str, change.path))
    is_hidden = HIDDEN in (change.old, change.new)
    if is_hidden:
        old = new = values.side(HIDDEN)
    elif change.op == "order":
        old, new = values.joined(list(change.old)), values.joined(list(change.new))
    elif _are_texts(change) and words.is_worth_marking(change.old, change.new):
        marks = words.marked(change.old, change.new)
        old, new = values.scalar(change.old, marks[0]), values.scalar(change.new, marks[1])
    else:
        old, new = values.side(change.old), values.side(change.new)
    return DiffRow(
        path_label(source, change.path), stored or _("(the whole document)"), change.op, old, new, is_hidden
    )


def path_label(source: Source, path: Path) -> str:
    """A path by attribute names, as code has them."""
    found = source.tracked.document_class
    if not path:
        return _("(the whole document)")
    return (
        documents.attribute_path(found, path)
        if documents.is_document_class(found)
        else ".".join(map(str, path))
    )


def _are_texts(change: Change) -> bool:
    return type(change.old) is str and type(change.new) is str


def summary_of(source: Source, operation: Operation, found: Sequence[Change]) -> str:
    """One line: "city: Oslo → Bergen, 2 more"."""
    if not found:
        return _("no visible change") if operation in (Operation.UPDATE, Operation.EXTERNAL) else ""
    if operation in (Operation.CREATE, Operation.DELETE):
        return ngettext("%(count)d field", "%(count)d fields", len(found)) % {"count": len(found)}
    first = found[0]
    name = path_label(source, first.path)
    if HIDDEN in (first.old, first.new):
        said = _("%(path)s: changed (hidden)") % {"path": name}
    elif first.op == "order":
        said = _("%(path)s: other order") % {"path": name}
    else:
        said = f"{name}: {values.line(first.old)} → {values.line(first.new)}"
    rest = len(found) - 1
    if not rest:
        return said
    return ngettext("%(first)s, %(count)d more", "%(first)s, %(count)d more", rest) % {
        "first": said,
        "count": rest,
    }


def row_of_record(
    access: Access, source: Source, record: VersionRecord, *, most: int = 0, back: str = ""
) -> VersionRow:
    """A stored version without its history."""
    return _row(
        access,
        source,
        record.document_id,
        version_id=record.id,
        operation=record.operation,
        at=record.at,
        context=record.context,
        changeset=record.changeset,
        changes=_changes_or_problem(lambda: record_changes(source, record)),
        is_derived=False,
        most=most,
        back=back,
    )


def row_of_step(
    access: Access, history: DocumentHistory, index: int, *, most: int = MOST_IN_TIMELINE, back: str = ""
) -> VersionRow:
    """A version by its place in its document's history."""
    step = history.steps[index]
    told: Any = None
    problem = ""
    try:
        told = history.record(index) or step.tombstone
    except BrokenChainError as error:
        problem = str(error)
    found = (None, problem) if problem else _changes_or_problem(lambda: step_changes(history, index))
    return _row(
        access,
        history.source,
        history.key.document_id,
        version_id=step.id,
        operation=step.operation,
        at=step.at,
        context=Context() if told is None else told.context,
        changeset=None if told is None else told.changeset,
        changes=found,
        is_derived=step.entry is None,
        number=index + 1,
        most=most,
        back=back,
    )


def _changes_or_problem(read: Any) -> tuple[list[Change] | None, str]:
    try:
        return read(), ""
    except BrokenChainError as error:
        return None, str(error)


def _row(  # noqa: PLR0913 - a row has that many columns
    access: Access,
    source: Source,
    document_id: Any,
    *,
    version_id: ObjectId | str,
    operation: Operation,
    at: datetime | None,
    context: Context,
    changeset: ObjectId | None,
    changes: tuple[list[Change] | None, str],
    is_derived: bool,
    number: int | None = None,
    most: int = MOST_IN_TIMELINE,
    back: str = "",
) -> VersionRow:
    found, problem = changes
    addresses, name = access.addresses, str(version_id)
    diff = Diff(problem=problem) if found is None else diff_of(source, found, most=most)
    user = context.user
    is_tracked = source.environment.registry.get(source.tracked.document_class) is not None
    may_revert = is_tracked and access.may("revert", access.subject(source, document_id))
    return VersionRow(
        id=name,
        url=addresses.document(source, document_id, "version", name, back=back),
        document_url=addresses.document(source, document_id, back=back),
        changeset_url="" if changeset is None else addresses.of("changeset", str(changeset), back=back),
        revert_url=addresses.document(source, document_id, "revert", version=name) if may_revert else "",
        take_back_url=addresses.of("take_back", version=name) if may_revert and not is_derived else "",
        number=number,
        at=at,
        when=values.moment(at),
        operation=operation.value,
        operation_label=str(OPERATIONS[operation]),
        is_derived=is_derived,
        class_label=class_label(source),
        document_label=document_label(document_id),
        user="" if user is None else str(user),
        user_key="" if user is None else values.shown(user.pk).text,
        remote_addr=context.remote_addr or "",
        reason=context.reason or "",
        changeset="" if changeset is None else str(changeset),
        summary=problem or summary_of(source, operation, found or []),
        diff=diff,
        may_revert=may_revert,
    )


def facts_of(context: Context) -> Iterator[tuple[str, SafeString]]:
    """Everything else that a version carries, as (name, HTML)."""
    for name, value in context.extra.items():
        yield str(name), values.side(value)
