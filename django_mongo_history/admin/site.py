"""
The entrance: the history in the admin's menu, the addresses of its pages, and who may open them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path

from django_mongo_history.admin.addresses import PREFIX
from django_mongo_history.admin.scope import HistorySubject
from django_mongo_history.admin.views import (
    changes,
    changesets,
    comparing,
    deleted,
    documents,
    reverting,
    states,
    taking_back,
    versions,
)
from django_mongo_history.admin.views.rendering import READING
from django_mongo_history.models import History

View = Callable[..., HttpResponseBase]
_WRITING = (*READING, "POST")


@admin.register(History)
class HistoryAdmin(admin.ModelAdmin):
    """
    The history pages. No page queries the model, which has no table.

    Override `has_history_permission` to decide otherwise who may what; register a subclass in another admin site to have
    the pages there.
    """

    def has_history_permission(
        self, request: HttpRequest, action: str, subject: HistorySubject | None = None
    ) -> bool:
        """
        Whether the user may `view`, `revert` or `export`: all histories, or that of `subject`.

        Asked on every page, for every method, and for each document that is shown. The default: the permission
        `mongo_history.<action>_history`, for all or, from backends that know objects, for the subject.
        """
        name = f"{self.opts.app_label}.{action}_history"
        user: Any = request.user
        return bool(user.has_perm(name) or (subject is not None and user.has_perm(name, subject)))

    @property
    def asks_for_each(self) -> bool:
        """Whether `has_history_permission` was overridden, so that who may see all need not see each document."""
        return type(self).has_history_permission is not HistoryAdmin.has_history_permission

    def get_urls(self) -> list[URLPattern]:
        pages: list[tuple[str, str, View, tuple[str, ...]]] = [
            ("", "changelist", changes.changes, READING),
            ("chart/", "chart", changes.chart, READING),
            ("export/", "export", changes.export, READING),
            ("take-back/", "take_back", taking_back.take_back, _WRITING),
            ("deleted/", "deleted_classes", deleted.deleted_classes, READING),
            ("deleted/<str:name>/", "deleted", deleted.deleted, READING),
            ("changeset/<str:changeset_id>/", "changeset", changesets.changeset, READING),
            (
                "changeset/<str:changeset_id>/take-back/",
                "take_back_changeset",
                taking_back.take_back_changeset,
                _WRITING,
            ),
            ("revert/<str:name>/", "revert_documents", reverting.revert_documents, _WRITING),
            ("document/<str:name>/<str:key>/", "document", documents.document, READING),
            ("document/<str:name>/<str:key>/compare/", "compare", comparing.compare, READING),
            ("document/<str:name>/<str:key>/state/", "state", states.state, READING),
            ("document/<str:name>/<str:key>/revert/", "revert", reverting.revert_document, _WRITING),
            ("document/<str:name>/<str:key>/version/<str:version>/", "version", versions.version, READING),
        ]
        return [
            path(route, self._page(view, methods), name=f"{PREFIX}_{name}")
            for route, name, view, methods in pages
        ]

    def _page(self, view: View, methods: tuple[str, ...]) -> View:
        """The view behind the admin's login and CSRF check, for these methods alone."""

        def page(request: HttpRequest, **arguments: str) -> HttpResponseBase:
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            return view(self, request, **arguments)

        return update_wrapper(self.admin_site.admin_view(page), view)

    # -- what Django's own pages ask -----------------------------------------------------------------------------------

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_history_permission(request, "view")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_history_permission(request, "view")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
