"""Which hidden paths were written between two versions: that they were is known, their values are nowhere."""

from __future__ import annotations

from collections.abc import Iterator

from django_mongo_history.core import policy
from django_mongo_history.core.model import HIDDEN, Change, Operation, VersionRecord
from django_mongo_history.core.policy import Policy
from django_mongo_history.reading import DocumentHistory


def hidden_between(history: DocumentHistory, left: int | None, right: int | None) -> list[Change]:
    """
    A change with `HIDDEN` on both sides for each hidden path that a stored version wrote between two places.

    Bounds: of the later place the version itself counts, of the earlier one it does not. None: before the first.
    A path that was written and put back counts, for nobody can tell. Of derived versions nothing is known.
    """
    low, high = sorted(-1 if place is None else place for place in (left, right))
    places = range(low + 1, high + 1)
    history.prefetch(places)
    records = (history.record(place) for place in places)
    rules = history.source.policy
    found = {path for record in records if record is not None for path in hidden_by(record, rules)}
    return [Change(tuple(path.split(".")), HIDDEN, HIDDEN, "change") for path in sorted(found)]


def hidden_by(record: VersionRecord, rules: Policy) -> Iterator[str]:
    """The hidden paths, dotted, that a version wrote: as they were hidden then or are hidden today."""
    for path in record.hidden_changed:
        if not policy.is_untracked(tuple(path.split(".")), rules):
            yield path
    if record.operation in (Operation.CREATE, Operation.DELETE):
        yield from policy.hidden_changes(None, record.snapshot, rules)
        return
    for hidden in rules.hidden:  # hidden since: what the version changed then is listed without its values
        if any(_meets(tuple(changed.split(".")), hidden) for changed in record.changed):
            yield ".".join(hidden)


def _meets(changed: tuple[str, ...], hidden: tuple[str, ...]) -> bool:
    """Whether what changed lies at the hidden path or inside of it."""
    return len(changed) >= len(hidden) and all(
        want in (policy.ANY, name) for want, name in zip(hidden, changed, strict=False)
    )
