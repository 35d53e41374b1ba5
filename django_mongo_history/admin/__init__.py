"""
History pages in Django's admin: see it, compare it, take it back. Found by the admin's own autodiscovery.

Reads through `query`, `reading` and `revert` like everybody else; no page writes, but the confirmed ones that revert.
"""

from django_mongo_history.admin.addresses import history_url
from django_mongo_history.admin.mixin import HistoryAdminMixin
from django_mongo_history.admin.scope import HistorySubject, Scope
from django_mongo_history.admin.site import HistoryAdmin

__all__ = ["HistoryAdmin", "HistoryAdminMixin", "HistorySubject", "Scope", "history_url"]
