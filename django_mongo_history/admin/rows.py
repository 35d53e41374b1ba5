"""
Versions as the pages show them. Templates get plain rows, not versions: a template's `version.name` would ask the
version for the document's field first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bson import ObjectId
from django.utils.safestring import SafeString

from django_mongo_history.admin import values
from django_mongo_history.admin.access import Access
from django_mongo_history.admin.diffs import Diff, diff_of, record_changes, step_changes, summary_of
from django_mongo_history.admin.labels import OPERATIONS, class_label, document_label
from django_mongo_history.admin.words import Marking
from django_mongo_history.core.model import Change, Context, Operation, VersionRecord
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading import DocumentHistory, Source

MOST_IN_TIMELINE: Final = 20
"""The same in a list of versions; the version's own page shows more."""


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
    access: Access,
    history: DocumentHistory,
    index: int,
    *,
    most: int = MOST_IN_TIMELINE,
    back: str = "",
    marking: Marking | None = None,
) -> VersionRow:
    """A version by its place in its document's history. `marking`: what the page has left for marking words."""
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
        marking=marking,
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
    marking: Marking | None = None,
) -> VersionRow:
    found, problem = changes
    addresses, name = access.addresses, str(version_id)
    diff = Diff(problem=problem) if found is None else diff_of(source, found, most=most, marking=marking)
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
