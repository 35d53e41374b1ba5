"""
The package's Celery tasks, found by autodiscovery, and how messages get to a broker. Celery is known here only.

`django_mongo_history.deliver` stores what a message carries or names; `django_mongo_history.sweep` moves on all that
waits in outboxes. Both may run twice, at once, and in any order. Their names do not change: messages outlive releases.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
from contextvars import Context
from datetime import datetime
from typing import Any, Final, NamedTuple

from celery import Task, current_app, shared_task
from celery.exceptions import Reject, Retry
from celery.result import EagerResult
from celery.signals import worker_process_shutdown
from pymongo.errors import InvalidName, PyMongoError

from django_mongo_history import depots, runtime
from django_mongo_history.delivery import moving
from django_mongo_history.delivery.messages import Message
from django_mongo_history.errors import StoreError
from django_mongo_history.storage.refusals import said_by

logger: Final = logging.getLogger("django_mongo_history")

_MOST_LOOKED_AT: Final = 100
_LONGEST_WAIT_S: Final = 60
"""Seconds between two tries while the store cannot be reached."""
_SURE: Final = {
    "acks_late": True,
    "acks_on_failure": True,
    "acks_on_timeout": False,  # since Celery 5.7; the next one is what those before it know
    "acks_on_failure_or_timeout": False,
    "reject_on_worker_lost": True,
    "ignore_result": True,
    "max_retries": None,
}


@shared_task(name="django_mongo_history.deliver", bind=True, **_SURE)
def deliver(self: Task, carried: dict[str, Any]) -> None:
    """
    Store the versions of one message (`delivery.messages`), and those in the outbox that it names.

    What the store refuses goes into the outbox and is tried again, at last into the dead letters. While the store
    cannot be reached the message itself is tried again, without an end.
    """
    # A task that fails is acknowledged, and what it carried would be lost: so none fails, whatever the error.
    try:
        message = Message.from_json(carried)
        depot = depots.of(message.alias, message.database)
    except (ValueError, InvalidName) as error:
        _lay_aside(self, carried, error)
        return
    except Exception as error:  # noqa: BLE001 - see above
        failed: Exception | None = error
    else:
        failed = _delivered(self, depot, message)
    # Outside of `except`: events show the context of a Retry, and drivers put documents into their errors.
    if failed is not None:
        _again(self, carried, failed, min(2 ** min(self.request.retries, 20), _LONGEST_WAIT_S))


def _delivered(task: Task, depot: moving.Depot, message: Message) -> Exception | None:
    """Store what a message carries and names. What keeps all of it from being stored; what is refused is told here."""
    try:
        refused = moving.receive(depot, message.rows)
        refused += moving.sweep(depot, message.ids).left if message.ids else []
    except Exception as error:  # noqa: BLE001 - as in `deliver`
        return error
    if refused:
        left = Message(message.alias, message.database, ids=tuple(refused))
        reason = StoreError(f"the store refused {len(refused)} versions; they are in {depot.outbox.name}")
        pause = moving.pause_after(task.request.retries + 1)
        _again(task, left.to_json(), reason, pause.total_seconds(), shown=repr(left))
    return None


@shared_task(name="django_mongo_history.sweep", **_SURE)
def sweep() -> None:
    """Move on what waits in every outbox; for `beat_schedule`. What cannot be moved now waits for the next one."""
    Context().run(_sweep)  # run eagerly, it has no part in a session that its caller has bound


def _sweep() -> None:
    for depot in depots.each():
        try:
            counts = moving.sweep(depot)
        except (StoreError, PyMongoError) as error:
            # Without what is behind it: drivers put documents into their errors.
            logger.error(  # noqa: TRY400
                "The versions in %s could not be moved; the next sweep tries again: %s",
                depot.outbox.name,
                str(error) if isinstance(error, StoreError) else said_by(error),
            )
            continue
        if counts.refused or counts.dead:
            logger.warning(
                "%s: %d versions stored, %d refused, %d laid aside; `manage.py history_status` says more",
                depot.outbox.name,
                counts.stored,
                counts.refused,
                counts.dead,
            )


@worker_process_shutdown.connect
def _finish(**_: Any) -> None:
    """A pool's process ends without what Python calls at the end of one."""
    depots.finish()


def send(message: Message) -> None:
    """Have a message brought to the workers. Raises: whatever the transport raises."""
    settings = runtime.current().settings
    options: dict[str, Any] = {} if settings.celery_queue is None else {"queue": settings.celery_queue}
    if not runs_inline():
        options |= {"connection": _line.connection(settings.broker_timeout_s), "retry_policy": _ONCE_MORE}
    try:
        # What it carries is in no log and no event: `argsrepr` is what both show.
        result = deliver.apply_async(
            args=(message.to_json(),), argsrepr=repr(message), kwargsrepr="{}", ignore_result=True, **options
        )
    except Exception:
        _line.hang_up()
        raise
    if isinstance(result, EagerResult) and result.failed():
        raise result.result


def runs_inline() -> bool:
    """Whether tasks run at once, where they are published (CELERY_TASK_ALWAYS_EAGER)."""
    return bool(current_app.conf.task_always_eager)


def has_broker() -> bool:
    """Whether the Celery app in force has been told of a broker, or needs none."""
    settings = current_app.conf
    return bool(settings.broker_url or settings.broker_write_url or runs_inline())


class InQueue(NamedTuple):
    """Messages that wait in a queue, other tasks' among them; since when the oldest of ours, None where that is not told."""

    messages: int | None
    oldest: datetime | None


def waiting_messages() -> dict[str, InQueue]:
    """
    What waits at the broker in each queue that ours go into; how many is None where the transport cannot tell it.

    Since when only Redis lets itself be asked without taking messages out. Raises: whatever the transport raises.
    """
    settings = runtime.current().settings
    names = {settings.celery_queue or _queue_of(task) for task in ("deliver", "sweep")}
    with current_app.connection_for_read(
        connect_timeout=settings.broker_timeout_s, transport_options=_bounds(settings.broker_timeout_s)
    ) as connection:
        return {name: InQueue(_length(connection, name), _oldest(connection, name)) for name in sorted(names)}


class _Line:
    """
    This thread's own connection to the broker, with waits of its own.

    Celery's pool is not used: it would wait as long as it does for tasks that must not be lost.
    """

    def __init__(self) -> None:
        self._connection: Any = None
        self._made_by: tuple[Any, ...] = ()

    def connection(self, timeout_s: float) -> Any:
        app = current_app._get_current_object()  # noqa: SLF001 - Celery's own way to look behind the proxy
        # Of one thread: another may hang in the connection that it was given before.
        here = os.getpid(), threading.get_ident()
        maker = (here, id(app), app.conf.broker_write_url or app.conf.broker_url, timeout_s)
        if maker != self._made_by:
            self._connection = app.connection_for_write(
                connect_timeout=timeout_s, transport_options=_bounds(timeout_s)
            )
            self._made_by = maker
        return self._connection

    def hang_up(self) -> None:
        """Forget the connection: the next message has a new one."""
        self._connection, self._made_by = None, ()


_line: Final = _Line()
_ONCE_MORE: Final = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""A broker that was restarted closes connections, which is found out by using them."""


def _bounds(timeout_s: float) -> dict[str, Any]:
    """What bounds waits, in the words of the transports that have any (Redis, AMQP)."""
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "read_timeout": timeout_s,
        "write_timeout": timeout_s,
        **_ONCE_MORE,
    }


def _queue_of(task: str) -> str:
    options = current_app.amqp.router.route({}, f"django_mongo_history.{task}")
    queue = options.get("queue")
    return str(getattr(queue, "name", queue) or current_app.conf.task_default_queue)


def _length(connection: Any, name: str) -> int | None:
    channel = connection.channel()  # a failure closes it
    try:
        return int(channel.queue_declare(queue=name, passive=True).message_count)
    except connection.channel_errors:
        return 0  # there is no such queue yet; of Redis none that is empty
    except (AttributeError, NotImplementedError):
        return None


def _oldest(connection: Any, name: str) -> datetime | None:
    """The moment of the first version of the oldest of our messages, among the oldest hundred of the queue."""
    if connection.transport.driver_type != "redis":
        return None
    # Kombu pushes on the left; the body is base64 of [args, kwargs, embed] (Celery's message protocol 2).
    for text in reversed(connection.channel().client.lrange(name, -_MOST_LOOKED_AT, -1)):
        try:
            message = json.loads(text)
            if message["headers"]["task"] == deliver.name:
                carried = json.loads(base64.b64decode(message["body"]))[0][0]
                return moving.moment_of(Message.from_json(carried).rows)
        except (KeyError, TypeError, ValueError, IndexError):
            continue  # another serializer, or none of ours
    return None


def _again(task: Task, carried: Any, error: Exception, wait_s: float, *, shown: str | None = None) -> None:
    """Try a message again later; it stays with the broker where even that cannot be said."""
    if task.request.is_eager:
        raise error
    said = str(error) if isinstance(error, StoreError) else said_by(error)
    logger.warning("%s; tried again in %g s (message %s)", said, wait_s, task.request.id)
    try:
        task.retry(
            args=(carried,),
            countdown=wait_s,
            argsrepr=shown or task.request.get("argsrepr"),  # messages of protocol 1 have none
            kwargsrepr="{}",
            throw=True,
        )
    except Retry:
        raise
    except Exception as failure:
        raise Reject(f"neither stored nor tried again: {failure}", requeue=True) from failure


def _lay_aside(task: Task, carried: Any, error: Exception) -> None:
    """A message that cannot be read, or is for a connection that this worker does not have."""
    logger.error("Message %s is laid aside: %s", task.request.id, error)
    try:
        moving.bury_message(next(iter(depots.each())), carried, str(error))
    except Exception as failure:  # noqa: BLE001 - as in `deliver`
        _again(task, carried, failure, _LONGEST_WAIT_S)
