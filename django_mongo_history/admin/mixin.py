"""
For admins of documents (django-mongoengine's `DocumentAdmin`): the "History" button, and an action, that lead here.

Knows nothing of django-mongoengine but the names that a `ModelAdmin` has too.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_mongo_history import documents, runtime
from django_mongo_history.admin.addresses import Addresses, history_url, key_text
from django_mongo_history.errors import NotTrackedError

MOST_SELECTED: Final = 100
"""Documents of one action: their keys travel in an address."""
LONGEST_ADDRESS: Final = 4000
"""Characters of an address that servers take: some have their limit a little above it."""


class HistoryAdminMixin:
    """
    Comes before `DocumentAdmin` among the bases.

    `history_site`: the name of the admin site that has the history pages.
    """

    history_site: str = "admin"
    model: Any
    admin_site: Any
    actions: Any = ["revert_to_moment"]

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseRedirect:
        """On to the document's history, there or gone. Whether the user may see it is asked there."""
        try:
            key = documents.parse_id(self.model, unquote(object_id))
            return HttpResponseRedirect(history_url(self.model, key, site=self.history_site))
        except (ValueError, NotTrackedError) as error:
            raise Http404(str(error)) from error

    def revert_to_moment(self, request: HttpRequest, queryset: Any) -> HttpResponseRedirect | None:
        """The selected documents, on to the page that asks for the moment and shows what would happen."""
        source = runtime.sources().of_class(self.model)
        keys = [
            quote(key_text(source, documents.exact_id(self.model, one.pk, source.codec_options)))
            for one in islice(queryset, MOST_SELECTED + 1)
        ]
        if len(keys) > MOST_SELECTED:
            messages.error(
                request, _("At most %(count)d can be selected at once.") % {"count": MOST_SELECTED}
            )
            return None
        name = documents.class_name_of(self.model)
        address = Addresses(self.history_site).of("revert_documents", quote(name), key=keys)
        if len(address) > LONGEST_ADDRESS:
            messages.error(
                request, _("The ids of the selected documents are too long for an address: select fewer.")
            )
            return None
        return HttpResponseRedirect(address)

    revert_to_moment.short_description = gettext_lazy("Revert selected documents to a moment")  # type: ignore[attr-defined]
