"""What a version changed, path by path: both sides as HTML, and all of it in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_mongo_history.admin import values, words
from django_mongo_history.admin.labels import path_label
from django_mongo_history.admin.words import Marking
from django_mongo_history.core import policy
from django_mongo_history.core import values as exact
from django_mongo_history.core.model import HIDDEN, Change, Operation, Path, VersionRecord
from django_mongo_history.query.hidden import hidden_by
from django_mongo_history.reading import DocumentHistory, Source, changes_between, changes_of
from django_mongo_history.reading.source import View

MOST_CHANGES: Final = 200
"""Changed paths of one version that a page shows."""


@dataclass(frozen=True, slots=True)
class DiffRow:
    """
    One changed path: both sides as HTML. `stored_path`: with database names. `op`: add, remove, change, order.
    `is_unmarked`: whether its changed words would be marked if the page showed less.
    """

    path: str
    stored_path: str
    op: str
    old: SafeString
    new: SafeString
    is_hidden: bool = False
    is_unmarked: bool = False


@dataclass(frozen=True, slots=True)
class Diff:
    """Changed paths; `more`: how many are left out. `problem`: why they cannot be known."""

    rows: list[DiffRow] = field(default_factory=list)
    more: int = 0
    problem: str = ""


def record_changes(source: Source, record: VersionRecord) -> list[Change]:
    """What a stored version changed; what is hidden from this reader is there without its values."""
    if record.operation is Operation.BASELINE:
        return []
    own = source.under_rules_of(record.document_class)
    found = changes_of(record, view_of(own))
    known = {".".join(_policy_names(change.path)) for change in found if HIDDEN in (change.old, change.new)}
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


def view_of(source: Source) -> View:
    """How the pages show versions: as today's rules allow, with every BSON type as it is stored."""
    return View(source.policy, source.tracked.renamed, exact.EXACT)


def diff_of(
    source: Source, found: Sequence[Change], *, most: int = MOST_CHANGES, marking: Marking | None = None
) -> Diff:
    """Changes as rows, the first `most` of them. `marking`: what the page has left for marking words."""
    marking = marking or Marking()
    rows = [_diff_row(source, change, marking) for change in found[:most]]
    return Diff(rows, max(0, len(found) - most))


def _diff_row(source: Source, change: Change, marking: Marking) -> DiffRow:
    """One change, path by path, old and new."""
    stored = ".".join(map(str, change.path))
    is_hidden = HIDDEN in (change.old, change.new)
    is_markable = _are_texts(change) and words.is_worth_marking(change.old, change.new)
    marks = marking.marked(change.old, change.new) if is_markable and not is_hidden else None
    if is_hidden:
        old = new = values.side(HIDDEN)
    elif change.op == "order":
        old, new = values.joined(list(change.old)), values.joined(list(change.new))
    elif marks is not None:
        old, new = values.scalar(change.old, marks[0]), values.scalar(change.new, marks[1])
    else:
        old, new = values.side(change.old), values.side(change.new)
    return DiffRow(
        path=path_label(source, change.path),
        stored_path=stored or _("(the whole document)"),
        op=change.op,
        old=old,
        new=new,
        is_hidden=is_hidden,
        is_unmarked=is_markable and marks is None,
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


def _policy_names(path: Path) -> list[str]:
    return policy.name_path(path).split(".")
