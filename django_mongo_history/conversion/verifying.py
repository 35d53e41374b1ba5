"""
The check of a conversion: what the source holds against what is stored, document by document, by reading both anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from django_mongo_history.conversion.engine import Entity, Made
from django_mongo_history.conversion.gathering import Gathered
from django_mongo_history.conversion.report import Report
from django_mongo_history.conversion.rows import exact_name, name_of
from django_mongo_history.conversion.run import Run
from django_mongo_history.core import values
from django_mongo_history.core.chain import Step
from django_mongo_history.core.model import Operation, VersionRecord
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading import DocumentHistory, read_documents

_MOST_ROWS_NAMED: Final = 5
_AT_ONCE: Final = 1000
"""Documents whose rows are looked for at once."""


def verify(run: Run, converted_ids: Callable[[], Iterable[Any]]) -> Report:
    """
    The differences between the source and the stored versions; none where all is as it should be.

    For every document: each row is in exactly one version, unless it is bad, untracked or told by a live version; the last
    converted state is what follows it, a version or the live document; each stored version leads from the state before it to
    the one after it; and times do not go back. And the other way: each converted version still has its rows. `converted_ids`:
    the keys of the documents that have converted versions.
    Cost: everything is read, rows and versions. Memory: one portion.
    """
    seen = _folded(document_id for gathered in run.everything() for document_id in _portion(run, gathered))
    if seen != _folded(converted_ids()):
        _left(run, converted_ids())
    return run.report


def _folded(document_ids: Iterable[Any]) -> tuple[int, int]:
    """The same for the same keys in any order, however many they are."""
    count = total = 0
    for document_id in document_ids:
        count += 1
        total ^= hash(values.sort_key(document_id))
    return count, total


def _portion(run: Run, gathered: Gathered) -> list[Any]:
    """Compare some documents; the keys of those that have converted versions."""
    entities = [one for one in gathered.entities if not one.is_echo]
    with_versions = [one for one in entities if one.entries]
    histories = read_documents(run.source, [(one.id, list(one.entries), one.image) for one in with_versions])
    found = dict(zip(map(id, with_versions), histories, strict=True))
    for entity in entities:
        made = run.made_of(entity)
        _rows(run.report, entity, made)
        if id(entity) in found:
            _history(run.report, entity, found[id(entity)])
            _proof(run, entity, found[id(entity)])
    run.progress(len(gathered.entities) + gathered.skipped)
    return [one.id for one in entities if one.stored]


def _left(run: Run, converted_ids: Iterable[Any]) -> None:
    """Documents with converted versions, none of whose rows is in the source any more."""
    wanted = iter(converted_ids)
    while some := list(islice(wanted, _AT_ONCE)):
        keys = [run.format.target.keys_of(one) for one in some]
        there = run.reader.of_keys([key for known in keys for key in known])
        for document_id, known in zip(some, keys, strict=True):
            if any(name_of(key) in there for key in known):
                continue
            if run.format.empties_source:
                run.report.note_remark(document_id, "its rows are no longer in the source")
            elif known:
                run.report.note_difference(document_id, "none of the rows of its versions is in the source")
            else:
                run.report.note_remark(
                    document_id, "it is gone, and its rows cannot be looked for without it"
                )


def _rows(report: Report, entity: Entity, made: Made) -> None:
    missing = [row for record in made.records for row in record.source["rows"]]
    if missing:
        report.note_difference(entity.id, f"{len(missing)} rows are in no version: {_named(missing)}")
    stored = [row for rows in entity.stored.values() for row in rows]
    names = Counter(map(exact_name, stored))
    twice = [row for row in stored if names[exact_name(row)] > 1]
    if twice:
        report.note_difference(entity.id, f"{len(twice)} rows are in more than one version: {_named(twice)}")
    there = {exact_name(row.id) for row in entity.rows}
    gone = [row for row in stored if exact_name(row) not in there]
    if gone:
        report.note_difference(
            entity.id, f"{len(gone)} rows of versions are not in the source: {_named(gone)}"
        )


def _history(report: Report, entity: Entity, history: DocumentHistory) -> None:
    steps = history.steps
    converted = [index for index, step in enumerate(steps) if _is_converted(step, entity)]
    if not converted:
        return
    last = converted[-1]
    following = steps[last + 1] if last + 1 < len(steps) else None
    if following is not None and following.entry is None and following.operation is Operation.EXTERNAL:
        what = _what_follows(steps, last, entity)
        if what:
            report.note_difference(
                entity.id, f"the last converted state is not that of {what}", _id(steps[last])
            )
    if entity.image is None and steps[-1].entry is None:
        report.note_remark(entity.id, "it is gone, and no row and no version tells its deletion")
    for index in _going_back(steps, entity):
        report.note_difference(
            entity.id, "its time is before that of the version in front", _id(steps[index])
        )


def _proof(run: Run, entity: Entity, history: DocumentHistory) -> None:
    """Whether stored versions hold what their digests say: those of which a state is known, on both sides."""
    converted = [index for index, step in enumerate(history.steps) if _is_converted(step, entity)]
    history.prefetch(converted)
    for index in converted:
        try:
            record = history.record(index)
            if record is not None and not _is_unknown(run, record):
                history.prove(index)
        except BrokenChainError as error:
            if error.facts.get("reason"):
                reason = f"the stored version cannot be read: {error.facts['reason']}"
                run.report.note_difference(entity.id, reason, error.facts.get("version"))


def _is_unknown(run: Run, record: VersionRecord) -> bool:
    """Whether a state beside it is one that nobody knows, so that nothing can be proven of it."""
    return any(
        digest in (run.engine.names.unknown(row), run.engine.names.unknown(["after", row]))
        for row in record.source["rows"][:1]
        for digest in (record.before, record.after)
    )


def _what_follows(steps: Sequence[Step], last: int, entity: Entity) -> str:
    """What the last converted state should be; empty where there is nothing to compare it with."""
    if any(step.entry is not None for step in steps[last + 1 :]):
        return "the first live version"
    return "" if entity.image is None else "the live document"


def _going_back(steps: Sequence[Step], entity: Entity) -> Iterable[int]:
    front: Step | None = None
    for index, step in enumerate(steps):
        if step.entry is None:
            continue
        is_ours = front is not None and (_is_converted(step, entity) or _is_converted(front, entity))
        if (
            is_ours
            and front is not None
            and front.at is not None
            and step.at is not None
            and step.at < front.at
        ):
            yield index
        front = step


def _is_converted(step: Step, entity: Entity) -> bool:
    return step.entry is not None and step.entry.id in entity.stored


def _id(step: Step) -> Any:
    return step.id


def _named(rows: Sequence[Any]) -> str:
    shown = ", ".join(map(str, rows[:_MOST_ROWS_NAMED]))
    return f"{shown}, ..." if len(rows) > _MOST_ROWS_NAMED else shown
