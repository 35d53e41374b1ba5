"""
The check of a conversion: what the source holds against what is stored, document by document, by reading both anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from bson import ObjectId

from django_mongo_history.conversion.engine import Entity, Made
from django_mongo_history.conversion.report import Report
from django_mongo_history.conversion.run import Run
from django_mongo_history.core import values
from django_mongo_history.core.chain import Step
from django_mongo_history.core.model import Operation
from django_mongo_history.reading import DocumentHistory, read_documents

_MOST_ROWS_NAMED: Final = 5


def verify(run: Run) -> Report:
    """
    The differences between the source and the stored versions; none where all is as it should be.

    For every document: each row is in exactly one version, unless it is bad, untracked or told by a live version; the last
    converted state is what follows it, a version or the live document; and times do not go back.
    Cost: everything is read, rows and versions. Memory: one portion.
    """
    for gathered in run.everything():
        entities = gathered.entities
        with_versions = [one for one in entities if one.entries]
        histories = read_documents(
            run.source, [(one.id, list(one.entries), one.image) for one in with_versions]
        )
        found = dict(zip(map(id, with_versions), histories, strict=True))
        for entity in entities:
            made = run.made_of(entity)
            _rows(run.report, entity, made)
            if id(entity) in found:
                _history(run.report, entity, found[id(entity)])
        run.progress(len(entities) + gathered.skipped)
    return run.report


def _rows(report: Report, entity: Entity, made: Made) -> None:
    missing = [row for record in made.records for row in record.source["rows"]]
    if missing:
        report.note_difference(entity.id, f"{len(missing)} rows are in no version: {_named(missing)}")
    stored = [row for rows in entity.stored.values() for row in rows]
    names = Counter(map(_name, stored))
    twice = [row for row in stored if names[_name(row)] > 1]
    if twice:
        report.note_difference(entity.id, f"{len(twice)} rows are in more than one version: {_named(twice)}")
    there = {_name(row.id) for row in entity.rows}
    gone = [row for row in stored if _name(row) not in there]
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
    for index in _going_back(steps, entity):
        report.note_difference(
            entity.id, "its time is before that of the version in front", _id(steps[index])
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


def _name(row_id: Any) -> Any:
    return row_id.binary if type(row_id) is ObjectId else values.encode_value(row_id)
