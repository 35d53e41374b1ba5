"""
Who is behind a Celery task: its publisher's context travels in one header of the message and is in force while it runs.

Connected to Celery's signals by `apps`, where Celery is installed. The tasks of this package are none of its business.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from celery import signals

from django_mongo_history import context, runtime
from django_mongo_history.context import HeaderError, Inherited
from django_mongo_history.core.model import TaskRef

logger = logging.getLogger("django_mongo_history")

HEADER: Final = "django_mongo_history"
"""The message header. Whoever sets it says what travels: None is nothing, what a task was sent with is the same again."""

_OWN_TASKS: Final = "django_mongo_history."


def connect() -> None:
    """Listen to Celery. Doing so twice is doing it once."""
    for signal, receiver in (
        (signals.before_task_publish, put_header),
        (signals.task_prerun, begin),
        (signals.task_postrun, end),
    ):
        signal.connect(receiver, dispatch_uid=f"{HEADER}.{receiver.__name__}")


def put_header(sender: Any, headers: Any, body: Any = None, **_: Any) -> None:
    """
    Receiver of `before_task_publish`: the context of this moment goes with the message.

    A header that is there already stays: a retry has that of the task, and None is an opt-out.
    """
    if str(sender).startswith(_OWN_TASKS) or not isinstance(headers, dict) or HEADER in headers:
        return
    in_force = runtime.current()
    if not in_force.settings.propagate_context:
        return
    inherited = context.inheritance(in_force.environment.finders)
    if inherited is None:
        return
    text, left_out = context.encode_header(inherited)
    if left_out:
        logger.warning(
            "The context of task %s (%s) is too large to travel with it, so that its versions go without: %s",
            sender,
            headers.get("id"),
            ", ".join(left_out),
        )
    headers[HEADER] = text
    _tell_errbacks(body, text)


def begin(task_id: str, task: Any, **_: Any) -> None:
    """Receiver of `task_prerun`: from here on all is by this task. One that runs eagerly is a part of its caller."""
    if task.name.startswith(_OWN_TASKS):
        return
    ref = TaskRef(task_id, task.name)
    if task.request.is_eager:
        context.begin_task_inside(ref)
    else:
        context.begin_task(ref, _inherited(ref, task.request))


def end(task_id: str, **_: Any) -> None:
    """Receiver of `task_postrun`, which comes however the task has ended, if its process has not."""
    context.end_task(task_id)


def _inherited(task: TaskRef, request: Any) -> Inherited | None:
    header = request.get(HEADER)
    if header is None or not runtime.current().settings.propagate_context:
        return None
    try:
        return context.decode_header(header)
    except HeaderError as error:
        logger.warning(
            "The context that came with task %s (%s) is refused, since %s; its versions go without it",
            task.name,
            task.id,
            error,
        )
        return None


def _tell_errbacks(body: Any, header: str) -> None:
    """
    Have `link_error` callbacks carry the header themselves.

    Where a task's process was killed they are published by a process that has never been in the task's context.
    """
    embedded = body[2] if isinstance(body, tuple) and len(body) > 2 else None
    if isinstance(embedded, dict) and embedded.get("errbacks"):
        embedded["errbacks"] = [_with_header(errback, header) for errback in embedded["errbacks"]]


def _with_header(signature: Any, header: str) -> Any:
    """A copy, since the signature is the user's own; one that says itself what travels stays as it is."""
    if not isinstance(signature, Mapping):
        return signature
    options = signature.get("options") or {}
    headers = options.get("headers") or {}
    if HEADER in headers:
        return signature
    return {**signature, "options": {**options, "headers": {**headers, HEADER: header}}}
