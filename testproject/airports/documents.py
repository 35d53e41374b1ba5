"""
What is tracked: airports and the countries they lie in.

Plain MongoEngine, nothing here knows of history. There is one of everything that a history has to get right: a key of
its own, an embedded document, a list, a reference, fields that come and go, a database name unlike the attribute's,
numbers whose type matters, classes that inherit.
"""

from collections.abc import Mapping
from typing import Any

from mongoengine import (
    DENY,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    ListField,
    ReferenceField,
    StringField,
)

from testproject.airports.fields import NumberField, is_exactly

LOCATION_FIELDS = ("lat", "lon", "elevation")


class Country(Document):
    """A country, by its ISO 3166 code."""

    code = StringField(primary_key=True, max_length=2)
    name = StringField(required=True)

    meta = {"collection": "countries", "ordering": ["code"]}

    def __str__(self) -> str:
        return self.name


class Location(EmbeddedDocument):
    """Where an airport lies: degrees, and feet above the sea."""

    lat = NumberField(required=True)
    lon = NumberField(required=True)
    elevation = NumberField()


class Airport(Document):
    """An airport or landing strip, by its ICAO code. What a release leaves empty is absent here."""

    icao = StringField(primary_key=True)
    iata = StringField()
    lid = StringField()
    name = StringField(required=True)
    city = StringField()
    subdivision = StringField(db_field="subd")
    country = ReferenceField(Country, reverse_delete_rule=DENY)
    location = EmbeddedDocumentField(Location, required=True)
    codes = ListField(StringField())
    tz = StringField()

    meta = {
        "collection": "airports",
        "allow_inheritance": True,
        "ordering": ["icao"],
        "indexes": ["country", "codes", "name"],
    }

    kind = "Airport"

    def __str__(self) -> str:
        return f"{self.icao} {self.name}"

    @property
    def country_code(self) -> str | None:
        """The country's code without fetching the country."""
        reference = self._data.get("country")
        return getattr(reference, "id", reference)

    def revise(self, values: Mapping[str, Any]) -> bool:
        """
        Assign those of `values` that differ, and nothing else; whether any did.

        Names are attributes of Airport or of Location, `country` is a Country; None takes a field away.
        `codes` follows by itself. Not saved.
        """
        changed = False
        for name, value in values.items():
            owner = self.location if name in LOCATION_FIELDS else self
            now = self.country_code if name == "country" else getattr(owner, name)
            if not is_exactly(now, value.pk if isinstance(value, Country) else value):
                setattr(owner, name, value)
                changed = True
        codes = known_codes(self.icao, self.iata, self.lid)
        if list(self.codes) != codes:
            self.codes = codes
            changed = True
        return changed


class SeaplaneBase(Airport):
    """An airport on water."""

    kind = "Seaplane base"


class Heliport(Airport):
    """An airport for helicopters only."""

    kind = "Heliport"


def known_codes(*codes: str | None) -> list[str]:
    """The codes that there are, in order, each once."""
    return list(dict.fromkeys(code for code in codes if code))


def class_for(name: str) -> type[Airport]:
    """The class that an airport's name speaks of."""
    words = name.lower()
    if any(word in words for word in ("seaplane", "floatplane", "water aerodrome")):
        return SeaplaneBase
    if "heliport" in words or "helipad" in words:
        return Heliport
    return Airport
