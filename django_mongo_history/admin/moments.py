"""A moment that somebody asks for: a form field in their time zone, and a part of an address."""

from __future__ import annotations

from datetime import datetime

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

EARLIEST, LATEST = 1000, 9000
"""Years of moments that can be asked for: any time zone may be applied to them."""


class DateTimeLocal(forms.DateTimeInput):
    """A moment, chosen in the browser's own calendar."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M:%S", attrs={"step": "1"})


class MomentForm(forms.Form):
    """A moment in the user's time zone; one with an offset is taken at its word."""

    at = forms.DateTimeField(
        required=False,
        label=pgettext_lazy("history", "Moment"),
        widget=DateTimeLocal(),
        help_text=gettext_lazy("in your time zone"),
    )

    def clean_at(self) -> datetime | None:
        given: datetime | None = self.cleaned_data["at"]
        if given is not None and not EARLIEST <= given.year <= LATEST:
            raise ValidationError(_("This moment is out of range."))
        is_naive = given is not None and timezone.is_naive(given)  # as forms give it where USE_TZ is off
        return timezone.make_aware(given) if is_naive and given is not None else given


def exact_moment(text: str) -> datetime | None:
    """A moment with an offset, which is one to the millisecond."""
    try:
        found = parse_datetime(text.strip())
    except ValueError:
        return None
    if found is None or found.utcoffset() is None or not EARLIEST <= found.year <= LATEST:
        return None
    return found
