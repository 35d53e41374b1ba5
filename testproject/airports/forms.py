"""What visitors type: an airport's values, and a moment."""

from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from testproject.airports.documents import LOCATION_FIELDS, Airport, Country
from testproject.airports.fields import number


class NumberTextField(forms.CharField):
    """A number as text, so that `450` stays an integer and `450.0` a double."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=forms.TextInput(attrs={"inputmode": "decimal"}), **options)

    def clean(self, value: Any) -> int | float | None:
        """The number, or None where nothing was typed."""
        text = super().clean(value)
        if not text:
            return None
        try:
            return number(text)
        except ValueError as error:
            raise ValidationError("Write a number such as 450 or 450.5.") from error


class AirportForm(forms.Form):
    """Everything about an airport that may be edited, and why it is."""

    name = forms.CharField()
    city = forms.CharField(required=False)
    subdivision = forms.CharField(required=False)
    country = forms.ChoiceField()
    iata = forms.CharField(required=False, label="IATA code")
    lid = forms.CharField(required=False, label="Local code")
    lat = NumberTextField(label="Latitude")
    lon = NumberTextField(label="Longitude")
    elevation = NumberTextField(
        required=False, label="Elevation in feet", help_text="450 and 450.0 are not the same."
    )
    tz = forms.CharField(required=False, label="Time zone")
    reason = forms.CharField(required=False, help_text="Stays with the change in the history.")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["country"].choices = country_choices()

    def values(self) -> dict[str, Any]:
        """The cleaned values as `Airport.revise` takes them: what is empty is None."""
        values = {
            name: value if value != "" else None
            for name, value in self.cleaned_data.items()
            if name != "reason"
        }
        return {**values, "country": Country.objects.get(pk=values["country"])}


class MomentForm(forms.Form):
    """A moment, and a country to look at."""

    moment = forms.DateTimeField(
        help_text="UTC",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "0.001"}),
    )
    country = forms.ChoiceField(required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["country"].choices = [("", "All countries"), *country_choices()]

    def clean_moment(self) -> datetime:
        """Histories know the past only."""
        moment = self.cleaned_data["moment"]
        if moment > timezone.now():
            raise ValidationError("That moment is still to come.")
        return moment


def initial_values(airport: Airport) -> dict[str, Any]:
    """The form's values for an airport as it is; numbers as Python writes them, so that a double keeps its point."""
    names = ("name", "city", "subdivision", "iata", "lid", "tz")
    numbers = {name: getattr(airport.location, name) for name in LOCATION_FIELDS}
    return {
        **{name: getattr(airport, name) for name in names},
        **{name: None if value is None else repr(value) for name, value in numbers.items()},
        "country": airport.country_code,
    }


def country_choices() -> list[tuple[str, str]]:
    """All countries by name."""
    return sorted(((country.pk, country.name) for country in Country.objects), key=lambda choice: choice[1])
