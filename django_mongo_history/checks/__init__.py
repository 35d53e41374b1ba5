"""System checks: every mistake in the settings that can be found before the first write. Importing registers them."""

from django_mongo_history.checks import delivery, project

__all__ = ["delivery", "project"]
