"""
The one reader of Django's settings.

One table row per key gives its check, default, unit and meaning; the settings, the system checks and the settings page
of the documentation all come from it. Nothing is written back and nothing is kept: `load()` reads what is set now.
"""

from django_mongo_history.conf.callables import as_callables, find_callable
from django_mongo_history.conf.reading import Settings, load, problems
from django_mongo_history.conf.reference import settings_reference
from django_mongo_history.conf.rows import Kind, Problem
from django_mongo_history.conf.tracked import TrackedSpec

__all__ = [
    "Kind",
    "Problem",
    "Settings",
    "TrackedSpec",
    "as_callables",
    "find_callable",
    "load",
    "problems",
    "settings_reference",
]
