"""
Tasks that only tests need: they leave documents, so that versions say whose work it was, and end in every way there is.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import chain, shared_task
from celery.exceptions import Ignore, Reject
from mongoengine import Document, fields

from django_mongo_history import append_change_info, changeset, extra_change_info, rationale, suppress_history
from django_mongo_history.compat.mongoengine_history import DocumentTrack


class Seen(Document):
    """What a task has left, under a name of the test's. Tracked in workers, see `tests.worker_settings`."""

    name = fields.StringField(primary_key=True)
    value = fields.StringField()
    meta = {"collection": "seen"}


class TaskFailedError(Exception):
    """A task fails because a test wants it to."""


@shared_task
def see(name: str, value: str = "") -> str:
    """Leave a document."""
    Seen(name=name, value=value).save()
    return name


@shared_task
def see_after(_before: Any, name: str) -> str:
    """The same as a later part of a chain, or the body of a chord."""
    return see(name)


@shared_task
def see_failure(name: str) -> str:
    """As `see`. Celery publishes an error callback of one argument, and calls one of several where it stands."""
    return see(name)


@shared_task(bind=True)
def see_header(self, name: str) -> None:
    """Leave the message's own headers: the user's, and how the package's looks."""
    headers = self.request.headers or {}
    see(name, f"{headers.get('x-shop')} {str(headers.get('django_mongo_history'))[:2]}")


@shared_task(bind=True, max_retries=5)
def see_and_retry(self, name: str, times: int) -> str:
    """Leave a document at each try; the last one succeeds."""
    see(name, str(self.request.retries))
    if self.request.retries < times:
        with changeset(user="somebody else", reason="while trying again"):
            raise self.retry(countdown=0)
    return name


@shared_task(bind=True, autoretry_for=(TaskFailedError,), retry_backoff=False, default_retry_delay=0)
def see_and_fail_once(self, name: str) -> None:
    """Leave a document at each try; the first one raises."""
    see(name, str(self.request.retries))
    if self.request.retries == 0:
        raise TaskFailedError


@shared_task
def spawn(*names: str) -> None:
    """Leave documents by tasks of their own."""
    for name in names:
        see.delay(name)


@shared_task
def spawn_in_block(name: str) -> None:
    """The same in a changeset of the task's own, with somebody else as the user."""
    with changeset(user="the task", reason="its own"):
        see.delay(name)


@shared_task
def spawn_chain(*names: str) -> None:
    """The same, one after another."""
    chain(see.si(name) for name in names).delay()


@shared_task
def spawn_eagerly(name: str, inner: str) -> None:
    """A task that runs another one as a part of itself, and goes on."""
    see.apply([inner])
    see(name)


@shared_task
def see_with_reason(name: str, reason: str) -> None:
    with rationale(reason):
        see(name)


@shared_task
def see_as(name: str, user: Any = None) -> None:
    """Leave a document by the calls of mongoengine-history."""
    document = Seen(name=name)
    with DocumentTrack(document, user):
        document.save()


@shared_task
def leave_open(name: str) -> None:
    """Open what nobody closes, and leave a document in it."""
    changeset(user="left open", reason="left open", mark="left open").__enter__()
    extra_change_info(more="left open").__enter__()
    see(name)
    append_change_info(Seen(name="later"), note="left open")
    suppress_history("left open").__enter__()


@shared_task(bind=True)
def end_badly(self, name: str, how: str) -> None:
    """Leave a document in a block that nobody closes, and do not come to an end."""
    changeset(reason="left open").__enter__()
    see(name)
    if how == "raise":
        raise TaskFailedError
    if how == "exit":
        raise SystemExit(1)
    if how == "ignore":
        raise Ignore
    if how == "reject":
        raise Reject("a test wants it to", requeue=False)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # a time limit ends it


@shared_task
def hold(name: str, path: str) -> None:
    """Leave a document once there is a file, so that a test decides when."""
    while not Path(path).exists():
        time.sleep(0.01)
    see(name)


def in_worker(document_class: type) -> str:
    """As `GET_USER`: whom a worker knows, which is itself."""
    return "worker"
