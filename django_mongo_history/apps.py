"""
Django's entrance: registers the system checks, and has the settings read when all apps are there and when they change.
"""

from __future__ import annotations

import atexit
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.core.signals import setting_changed

if TYPE_CHECKING:
    from django_mongo_history.delivery.messages import Message


class MongoHistoryConfig(AppConfig):
    """The app `mongo_history`; it has nothing to set up but `INSTALLED_APPS`."""

    name = "django_mongo_history"
    label = "mongo_history"
    verbose_name = "History"

    def ready(self) -> None:
        import_module("django_mongo_history.checks")  # registers them
        import_module("django_mongo_history.api")  # gives tracked classes their attribute
        from django_mongo_history import depots, runtime

        if find_spec("celery") is not None:
            runtime.use_broker(_send, _runs_inline, depots.copies)
            atexit.register(depots.finish)
        runtime.configure()
        setting_changed.connect(configure_anew, dispatch_uid="mongo_history.configure_anew")
        listen_to_celery()


def listen_to_celery() -> None:
    """Let tasks have the context of whoever publishes them, where Celery is installed."""
    try:
        task_context = import_module("django_mongo_history.task_context")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "celery":
            raise
    else:
        task_context.connect()


def configure_anew(*, setting: str, **_: Any) -> None:
    """Receiver of `setting_changed`: tests that override the settings of the history get what they set."""
    if setting in {"MONGO_HISTORY", "TRACKED_DOCUMENTS"}:
        from django_mongo_history import runtime

        runtime.configure()


# Celery is imported when the first message is sent, not when Django starts.


def _send(message: Message) -> None:
    import_module("django_mongo_history.tasks").send(message)


def _runs_inline() -> bool:
    return bool(import_module("django_mongo_history.tasks").runs_inline())
