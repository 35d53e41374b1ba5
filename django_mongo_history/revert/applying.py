"""
A plan carried out: removals, updates, restores; past MongoEngine's signals and validation; as one changeset.

Documents of a chunk and their versions are written in one transaction. What clashes over something unique waits until
other documents have moved; what then clashes only with each other moves together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final

from pymongo.errors import BulkWriteError, DuplicateKeyError

from django_mongo_history import context, documents
from django_mongo_history.capture.stamping import stamp_of
from django_mongo_history.capture.strictness import Check, Reach
from django_mongo_history.core import values
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import ABSENT, VersionRecord
from django_mongo_history.delivery import atomic, sync
from django_mongo_history.delivery.base import Job
from django_mongo_history.delivery.environment import IN_TRANSACTION, Recorder
from django_mongo_history.errors import BrokenChainError, ConflictError
from django_mongo_history.reading import DocumentHistory, Source, scan
from django_mongo_history.registry import has_stamps
from django_mongo_history.revert.goals import ObstacleError
from django_mongo_history.revert.plan import (
    Conflict,
    Decision,
    Item,
    Kind,
    Plan,
    chunks,
    conflict,
    decide,
    digest_of,
    prefetch,
)
from django_mongo_history.revert.replacing import Replacement

_TRIES: Final = 5
_DUPLICATE_KEY: Final = 11000
_INVALID: Final = 121
_REFUSALS: Final = frozenset({_INVALID, 171, 10334, 16755, 17261, 17262, 17280})
"""A document that the server will not have, whoever writes it: a validator, an index that cannot take it, its size."""
_MOST_NAMES: Final = 5
"""Fields that a refusal names."""
Progress = Callable[[int], None]


def apply(plan: Plan, progress: Progress = lambda count: None) -> None:
    """
    Write what the plan says. What turns out to be in the way is added to its conflicts and left as it is.

    Raises: ReasonRequiredError, where a class asks for a reason and none is given, with nothing written.

    `progress` is called with the number of documents dealt with since the last call.
    """
    with ExitStack() as stack:
        if context.current_changeset() is None:
            stack.enter_context(context.open_changeset())
        _require_reasons(plan)
        blocked: list[Item] = []
        for kind in Kind:
            for chunk in chunks(plan.of_kind(kind), _chunk_size(plan)):
                left = _write_all(plan, chunk)
                progress(len(chunk) - len(left))
                blocked.extend(left)
        while blocked:
            left = [item for item in blocked if _write_all(plan, [item])]
            progress(len(blocked) - len(left))
            if len(left) == len(blocked):
                break
            blocked = left
        for chunk in chunks(blocked, len(blocked) or 1):
            if _has_transactions(chunk[0].source):
                _write_together(plan, chunk)
            else:
                plan.conflicts.extend(_inseparable(item) for item in chunk)
            progress(len(chunk))


def _require_reasons(plan: Plan) -> None:
    """A revert is a write like any other: that it is one does not say why."""
    found: dict[type, context.Captured] = {}
    for item in plan.items:
        environment, tracked = item.source.environment, item.source.tracked
        if not environment.may_require_reason():
            continue
        document_class = tracked.document_class
        if document_class not in found:
            found[document_class] = environment.capture(document_class, tracked)
        captured = found[document_class]
        if not captured.has_reason:
            session = item.source.bound_session()
            check = Check(environment, document_class, item.source.images, captured, session)
            check([Reach({"_id": item.document_id})])


def apply_or_raise(plan: Plan) -> None:
    """
    `apply`, for callers that want all or nothing.

    Raises: ConflictError where the plan has conflicts, with nothing written; or where one came up while writing, with
    those that were written named.
    """
    _raise_conflicts(plan, "Nothing was written")
    apply(plan)
    _raise_conflicts(plan, f"{plan.count} other documents were written")


def _raise_conflicts(plan: Plan, outcome: str) -> None:
    if plan.conflicts:
        listed = "; ".join(str(one) for one in plan.conflicts[:10])
        more = f" and {len(plan.conflicts) - 10} more" if len(plan.conflicts) > 10 else ""
        raise ConflictError(f"{outcome}: {listed}{more}", conflicts=list(plan.conflicts))


def _chunk_size(plan: Plan) -> int:
    return plan.items[0].source.environment.chunk_size if plan.items else 1


def _write_all(plan: Plan, items: list[Item]) -> list[Item]:
    """Write these; those that clash over something unique come back, one that the server refuses is a conflict."""
    done: set[tuple[int, bytes]] = set()
    try:
        _write(plan, items, together=False, done=done)
    except (BulkWriteError, DuplicateKeyError) as error:
        is_clash = _is_clash(error)
        if not is_clash and not _is_refusal(error):
            raise
        left = [item for item in items if values.encode_value(item.document_id) not in done]
        if len(left) > 1:
            middle = len(left) // 2
            return _write_all(plan, left[:middle]) + _write_all(plan, left[middle:])
        if is_clash:
            return left
        plan.conflicts.extend(_refused(item, error) for item in left)
    return []


def _write_together(plan: Plan, items: list[Item]) -> None:
    """Write documents that clash with each other: all out, all in. Who clashes with a stranger is a conflict."""
    waiting = list(items)
    while waiting:
        try:
            _write(plan, waiting, together=True)
            return
        except (BulkWriteError, DuplicateKeyError) as error:
            clash = _clashing(error, waiting)
            if _is_clash(error):
                reason = f"another document holds what must be unique: {_clash_text(error)}"
                plan.conflicts.append(Conflict(clash.key, clash.source.tracked.label, reason))
            elif _is_refusal(error):
                plan.conflicts.append(_refused(clash, error))
            else:
                raise
            waiting.remove(clash)


def _has_transactions(source: Source) -> bool:
    environment = source.environment
    return source.namespace not in environment.refused and environment.has_transactions(source.collection)


def _inseparable(item: Item) -> Conflict:
    reason = (
        "another document holds what must be unique, and documents that hold each other's values cannot change places "
        "where there are no transactions"
    )
    return Conflict(item.key, item.source.tracked.label, reason)


def _is_clash(error: BulkWriteError | DuplicateKeyError) -> bool:
    if isinstance(error, BulkWriteError):
        return any(one.get("code") == _DUPLICATE_KEY for one in error.details.get("writeErrors", ()))
    return True


def _is_refusal(error: Any) -> bool:
    failed = (error.details or {}).get("writeErrors") or ()
    return bool(failed) and all(one.get("code") in _REFUSALS for one in failed)


def _refused(item: Item, error: Any) -> Conflict:
    """In the server's own words, with the names of the fields that its validator does not like; never their values."""
    failed = error.details["writeErrors"][0]
    names = list(dict.fromkeys(_field_names(failed.get("errInfo"))))
    more = (
        f" ({', '.join(names[:_MOST_NAMES])}{', ...' if len(names) > _MOST_NAMES else ''})" if names else ""
    )
    said = (
        str(failed.get("errmsg", error)) if failed.get("code") == _INVALID else f"error {failed.get('code')}"
    )
    return Conflict(
        item.key, item.source.tracked.label, f"the server refuses what it would become: {said}{more}"
    )


def _field_names(found: Any) -> Iterator[str]:
    """The fields that are named anywhere in what the server says of a document that fails its validation."""
    if isinstance(found, list):
        for one in found:
            yield from _field_names(one)
    elif isinstance(found, dict):
        if isinstance(found.get("propertyName"), str):
            yield found["propertyName"]
        yield from (one for one in found.get("missingProperties", ()) if isinstance(one, str))
        for one in ("details", "schemaRulesNotSatisfied", "propertiesNotSatisfied"):
            yield from _field_names(found.get(one))


def _clashing(error: Any, items: Sequence[Item]) -> Item:
    """The item that the failed request was about; the server tells by the request itself."""
    failed = (error.details or {}).get("writeErrors") or [{}]
    request = failed[0].get("op") or {}
    wanted = request["_id"] if "_id" in request else request.get("q", {}).get("_id", {}).get("$eq", ABSENT)
    found = (item for item in items if wanted is not ABSENT and values.same(item.document_id, wanted))
    return next(found, items[-1])


def _clash_text(error: Any) -> str:
    failed = (error.details or {}).get("writeErrors") or [{"errmsg": str(error)}]
    return str(failed[0].get("errmsg", error))


def _write(
    plan: Plan, items: list[Item], *, together: bool, done: set[tuple[int, bytes]] | None = None
) -> None:
    """
    Write these; what somebody else has written meanwhile is looked at again. Into `done` come those that were written,
    for where there are no transactions they stay so when a later one fails.
    """
    waiting = items
    for _try in range(_TRIES):
        work = _look(plan, waiting, together=together)
        if not work.decisions:
            return
        failure, records = _deliver(plan, items[0].source, work)
        _note(plan, items[0].source, records)
        if done is not None:
            done.update(values.encode_value(record.document_id) for record in records)
        if failure is not None:
            raise failure
        waiting = [item for item in waiting if values.encode_value(item.document_id) in work.stale]
        if not waiting:
            return
    if len(waiting) > 1 and not together:
        for item in waiting:  # alone it takes less time, in which less can come between
            _write(plan, [item], together=False, done=done)
        return
    for item in waiting:
        reason = "it was written again and again while it was to be reverted; try again"
        plan.conflicts.append(Conflict(item.key, item.source.tracked.label, reason))


def _look(plan: Plan, items: list[Item], *, together: bool) -> Replacement:
    """What these documents are now and shall become; obstacles that have come up since are conflicts."""
    source = items[0].source
    known = {values.encode_value(item.document_id): item for item in items}
    decisions: list[Decision] = []
    for histories in scan(source, document_ids=[item.document_id for item in items]):
        pairs = [(history, known[values.encode_value(history.key.document_id)]) for history in histories]
        prefetch((history, item.goal) for history, item in pairs)
        for history, item in pairs:
            decision = _decided(plan, source, history, item)
            if decision is not None and decision.kind is not None:
                decisions.append(decision)
    return Replacement(source, decisions, together)


def _decided(plan: Plan, source: Source, history: DocumentHistory, item: Item) -> Decision | None:
    try:
        decision = decide(source, history, item.goal, force=plan.force)
        _check_previewed(item, history, decision)
    except (ObstacleError, BrokenChainError) as error:
        plan.conflicts.append(conflict(source, history, error))
        return None
    return decision


def _check_previewed(item: Item, history: DocumentHistory, decision: Decision) -> None:
    if item.previewed is None or decision.kind is None:
        return
    if item.previewed != digest_of(history.key, decision):
        raise ObstacleError("it was written since the preview; look at it again", can_be_forced=False)


def _deliver(
    plan: Plan, source: Source, work: Replacement
) -> tuple[BulkWriteError | None, list[VersionRecord]]:
    """The versions of what was done; and, where there are no transactions, what ended it before all was."""
    environment = source.environment
    document_class = source.tracked.document_class
    captured = environment.capture(document_class, source.tracked)
    if not captured.has_reason and environment.may_require_reason():  # of documents that did not exist before
        after = [values.decode(one.after) for one in work.decisions if one.after is not None]
        check = Check(environment, document_class, source.images, captured)
        check([Reach(document=document) for document in after])
    work.decisions = _stamped(work.decisions, source, captured)
    recorder = Recorder(environment, document_class, captured, plan.revert_of)
    session = source.bound_session()
    mode = environment.mode_for(source.tracked, source.collection)
    destination = environment.destination(mode, source.collection, session)
    job = Job(work, recorder, destination, source.collection, session, recorder.begin)
    if session is not None or mode in IN_TRANSACTION:
        try:
            return atomic.deliver(job, timeout_s=environment.timeout_s)
        except atomic.TransactionRefusedError:
            if session is not None:
                raise
            environment.refused.add(source.namespace)
    return sync.deliver(
        job,
        has_transactions=_has_transactions(source),
        raises=environment.raises,
        timeout_s=environment.timeout_s,
    )


def _stamped(decisions: list[Decision], source: Source, captured: context.Captured) -> list[Decision]:
    """The same for documents that carry the latest who and when, of which this is the latest."""
    made: list[Decision] = []
    stamp = None
    for decision in decisions:
        found = documents.find_class(class_name(decision.after) or "") or source.tracked.document_class
        if decision.after is not None and has_stamps(found):
            stamp = stamp or stamp_of(captured, source.environment.now())
            made.append(Decision(decision.before, stamp.on_image(decision.after)))
        else:
            made.append(decision)
    return made


def _note(plan: Plan, source: Source, records: list[VersionRecord]) -> None:
    plan.count += len(records)
    if plan.keeps_versions:
        plan.made.extend(records)
    for record in records:
        document_class = documents.find_class(record.document_class) or source.tracked.document_class
        source.environment.on_reverted(document_class, record.document_id, record)
