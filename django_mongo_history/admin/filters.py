"""The filters of the list of all changes: a form over the query string, and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from bson import ObjectId
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext, pgettext_lazy

from django_mongo_history import documents
from django_mongo_history.admin.access import Access
from django_mongo_history.admin.labels import OPERATIONS
from django_mongo_history.admin.moments import EARLIEST, LATEST
from django_mongo_history.core.model import Operation

NAMES: Final = (
    "class", "id", "operation", "user", "changeset", "since", "until", "address", "reason", "path",
)  # fmt: skip
_STORED: Final = (Operation.CREATE, Operation.UPDATE, Operation.DELETE, Operation.BASELINE)


class Day(forms.DateInput):
    """A date, chosen in the browser's own calendar."""

    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


class FilterForm(forms.Form):
    """The filters. `access` says which classes there are to choose from."""

    def __init__(self, data: Any, access: Access) -> None:
        super().__init__(data)
        self._access = access
        self.classes = {documents.class_name_of(one): one for one in access.classes()}
        any_one = [("", pgettext("history", "all"))]
        named = [(name, one.__name__) for name, one in self.classes.items()]
        operations = [(one.value, str(OPERATIONS[one])) for one in _STORED]
        self.fields.update(
            {
                "class": _choice(pgettext_lazy("history", "Class"), [*any_one, *named]),
                "id": _text(
                    pgettext_lazy("history", "Document id"),
                    gettext_lazy("as it is shown, or as extended JSON"),
                ),
                "operation": _choice(pgettext_lazy("history", "Operation"), [*any_one, *operations]),
                "user": _text(gettext_lazy("User"), pgettext_lazy("history", "name or key")),
                "changeset": _text(pgettext_lazy("history", "Changeset")),
                "since": forms.DateField(
                    required=False, label=pgettext_lazy("history", "From"), widget=Day()
                ),
                "until": forms.DateField(required=False, label=pgettext_lazy("history", "To"), widget=Day()),
                "address": _text(pgettext_lazy("history", "Address")),
                "reason": _text(pgettext_lazy("history", "Reason"), pgettext_lazy("history", "a part of it")),
                "path": _text(pgettext_lazy("history", "Changed path"), gettext_lazy("such as address.city")),
            }
        )

    def clean_changeset(self) -> ObjectId | None:
        given = self.cleaned_data["changeset"]
        if not given:
            return None
        if not ObjectId.is_valid(given):
            raise ValidationError(_("This is no id of a changeset: it has 24 hexadecimal digits."))
        return ObjectId(given)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        since, until = cleaned.get("since"), cleaned.get("until")
        for name in ("since", "until"):
            day = cleaned.get(name)
            if day and not EARLIEST <= day.year <= LATEST:
                self.add_error(name, _("This day is out of range."))
        if since and until and since > until:
            self.add_error("until", _("This day lies before the first one."))
        found = self.classes.get(cleaned.get("class") or "")
        if cleaned.get("path") and found is not None:
            try:
                documents.translate_path(found, cleaned["path"])
            except ValueError as error:
                self.add_error("path", str(error))
        return cleaned

    def filters(self) -> Filters:
        """What the form asks for. Only where it is valid."""
        given = self.cleaned_data
        return Filters(
            document_class=self.classes.get(given["class"]),
            document_id=given["id"],
            operation=Operation(given["operation"]) if given["operation"] else None,
            user=given["user"],
            changeset=given["changeset"],
            since=given["since"],
            until=given["until"],
            address=given["address"],
            reason=given["reason"],
            path=given["path"],
        )

    @property
    def is_used(self) -> bool:
        """Whether anything is asked for."""
        return self.is_valid() and any(self.cleaned_data.values())


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list shall show. Texts that are empty ask for nothing."""

    document_class: type[Any] | None = None
    document_id: str = ""
    operation: Operation | None = None
    user: str = ""
    changeset: ObjectId | None = None
    since: date | None = None
    until: date | None = None
    address: str = ""
    reason: str = ""
    path: str = ""


def _text(label: Any, hint: Any = "") -> forms.CharField:
    return forms.CharField(
        required=False, label=label, max_length=500, widget=forms.TextInput(attrs={"placeholder": hint})
    )


def _choice(label: Any, choices: list[tuple[str, Any]]) -> forms.ChoiceField:
    return forms.ChoiceField(required=False, label=label, choices=choices)
