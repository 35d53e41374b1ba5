"""What every page has: the admin's surroundings, and the template."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest
from django.template.response import TemplateResponse

from django_mongo_history.admin.access import EXPORT, REVERT, VIEW, Access, Asked
from django_mongo_history.admin.addresses import OPTIONS, back_of

TEMPLATES: Final = "admin/mongo_history"
READING: Final = ("GET", "HEAD")


def render(
    admin: Asked,
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    *,
    access: Access,
    status: int = 200,
) -> TemplateResponse:
    """A page in the admin's own frame."""
    request.current_app = admin.admin_site.name
    back = back_of(request)
    surroundings = {
        **admin.admin_site.each_context(request),
        "opts": OPTIONS,
        "app_label": OPTIONS.app_label,
        "back": back,
        "here": request.get_full_path(),
        "urls": {
            "changes": access.addresses.of("changelist"),
            "deleted": access.addresses.of("deleted_classes"),
        },
        "may": {action: access.may(action) for action in (VIEW, REVERT, EXPORT)},
    }
    return TemplateResponse(request, f"{TEMPLATES}/{template}", {**surroundings, **context}, status=status)
