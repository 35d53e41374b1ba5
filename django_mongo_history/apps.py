"""
Django's entrance: registers the system checks, and has the settings read when all apps are there and when they change.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.core.signals import setting_changed


class MongoHistoryConfig(AppConfig):
    """The app `mongo_history`; it has nothing to set up but `INSTALLED_APPS`."""

    name = "django_mongo_history"
    label = "mongo_history"
    verbose_name = "History"

    def ready(self) -> None:
        import_module("django_mongo_history.checks")  # registers them
        import_module("django_mongo_history.api")  # gives tracked classes their attribute
        from django_mongo_history import runtime

        runtime.configure()
        setting_changed.connect(configure_anew, dispatch_uid="mongo_history.configure_anew")


def configure_anew(*, setting: str, **_: Any) -> None:
    """Receiver of `setting_changed`: tests that override the settings of the history get what they set."""
    if setting in {"MONGO_HISTORY", "TRACKED_DOCUMENTS"}:
        from django_mongo_history import runtime

        runtime.configure()
