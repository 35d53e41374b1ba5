"""
Tasks that run elsewhere: what one inherits from the code that publishes it, and its context while it runs.

Knows no Celery. A task begins and ends by two calls and no block, because the end may never be told: what an earlier
task has left behind is thrown away when the next one begins, so that nothing of it is ever seen there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bson import ObjectId

from django_mongo_history.context.blocks import told_by
from django_mongo_history.context.finding import find
from django_mongo_history.context.frames import Frame, current, unwound
from django_mongo_history.context.users import User
from django_mongo_history.core.finders import NO_FINDERS, Finders
from django_mongo_history.core.model import Context, TaskRef


@dataclass(frozen=True, slots=True)
class Inherited:
    """
    What a task has from whoever published it. `context` names no task: which one it is, the task says itself.

    `changeset`: the one that was open there, or None. `given`: what a block had said itself (`user`, `remote_addr`).
    """

    context: Context
    changeset: ObjectId | None = None
    given: frozenset[str] = frozenset()


def inheritance(finders: Finders = NO_FINDERS) -> Inherited | None:
    """
    What a task inherits that is published now; None where nothing is known and no changeset is open.

    The user is found out as for a write. The project's `finders` of user and address are asked, with `object` in the
    place of a document class; those of `extra` are for the task itself to ask. Never raises.
    """
    frame = current.get()
    asked = replace(still_to_ask(finders), extra=())
    context = replace(told_by(frame, find(asked, object, but=frame.given)), task=None)
    if context == Context() and frame.changeset is None:
        return None
    return Inherited(context, frame.changeset, frame.given)


def still_to_ask(finders: Finders) -> Finders:
    """The project's finders that a write has to ask here: those of user and address were, where a task inherited."""
    return Finders(extra=finders.extra) if finders and current.get().is_inherited else finders


def begin_task(task: TaskRef, inherited: Inherited | None = None) -> None:
    """
    From here on all is by this task, until `end_task`. Nothing else that is in force here counts in it.

    Without anything inherited it has a changeset of its own, and no user.
    """
    before = _without_leftovers()
    handed = Inherited(Context()) if inherited is None else inherited
    told = handed.context
    current.set(
        Frame(
            opener=_Run(task.id, before),
            outer=Frame(),
            # A copy of the id, as in `open_changeset`.
            changeset=ObjectId(handed.changeset),
            user=User(told.user),
            remote_addr=told.remote_addr,
            reason=told.reason,
            extra=told.extra,
            request=told.request,
            task=task,
            given=handed.given,
            is_inherited=inherited is not None,
        )
    )


def begin_task_inside(task: TaskRef) -> None:
    """The same for a task that runs inside of its caller: the caller's context goes on, with the task in it."""
    frame = current.get()
    if frame.changeset is None:
        inside = replace(frame, changeset=ObjectId(), task=task)
    else:
        inside = replace(frame, task=task)
    current.set(replace(inside, opener=_Run(task.id), outer=frame))


def end_task(task_id: str) -> None:
    """
    What was in force before the innermost task of this id began is in force again; blocks that it has left open end.

    Nothing where there is no such task.
    """
    for frame, run in _runs():
        if run.task_id == task_id:
            after = unwound(frame)
            current.set(run.before or after)
            return


class _Run:
    """One run of a task. `before`: what was in force before, None for one inside of its caller."""

    __slots__ = ("before", "task_id")

    def __init__(self, task_id: str, before: Frame | None = None) -> None:
        self.task_id = task_id
        self.before = before


def _runs() -> Iterator[tuple[Frame, _Run]]:
    """The tasks that have begun here and not ended, innermost first."""
    frame: Frame | None = current.get()
    while frame is not None:
        if isinstance(frame.opener, _Run):
            yield frame, frame.opener
        frame = frame.outer


def _without_leftovers() -> Frame:
    """What is in force here, without a task that began and whose end nobody told."""
    for frame, run in _runs():
        if run.before is not None:
            unwound(frame)
            return run.before
    return current.get()
