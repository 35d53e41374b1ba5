"""The test project's pages, as a visitor and as a member of staff use them, against a real server."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_mongo_history import history_of
from testproject.airports.documents import Airport, Country, Location

pytestmark = [pytest.mark.usefixtures("mongodb"), pytest.mark.django_db]

FORM = {
    "name": "Berlin Brandenburg Airport",
    "city": "Berlin",
    "subdivision": "",
    "country": "DE",
    "iata": "BER",
    "lid": "",
    "lat": "52.38",
    "lon": "13.52",
    "elevation": "157",
    "tz": "Europe/Berlin",
    "reason": "the new one is open",
}


@pytest.fixture
def airport() -> Airport:
    """One airport in one country, as the 2020 release has it."""
    country = Country(code="DE", name="Germany").save()
    location = Location(lat=52.38, lon=13.52, elevation=157.0)
    facts: dict[str, Any] = {
        "name": "Berlin-Schonefeld",
        "iata": "SXF",
        "city": "Berlin",
        "subdivision": "Brandenburg",
    }
    codes = ["EDDB", "SXF"]
    return Airport(
        icao="EDDB", country=country, location=location, codes=codes, tz="Europe/Berlin", **facts
    ).save()


@pytest.fixture
def staff(admin_client: Client) -> Client:
    """A client whose user may edit."""
    return admin_client


def text_of(client: Client, name: str, *args: object, **query: str) -> str:
    """The page's HTML."""
    response = client.get(reverse(f"airports:{name}", args=args), query)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("words", ["EDDB", "sxf", "schonefeld", "berlin"])
def test_the_list_finds_by_code_name_and_city(client: Client, airport: Airport, words: str):
    """A search looks at codes, names and cities."""
    assert "Berlin-Schonefeld" in text_of(client, "list", q=words)


def test_the_list_says_when_nothing_is_found(client: Client, airport: Airport):
    """No hit is a page too."""
    assert "Nothing found" in text_of(client, "list", q="<nowhere>")


def test_an_edit_is_seen_in_the_history_with_its_user_and_reason(staff: Client, airport: Airport):
    """What a visitor changes stands at the top of the history, with who and why."""
    staff.post(reverse("airports:edit", args=["EDDB"]), FORM)
    page = text_of(staff, "history", "EDDB")
    assert "the new one is open" in page
    assert "by admin" in page
    assert "double → int" in page
    assert len(history_of(Airport, "EDDB")) == 2


def test_an_edit_writes_what_changed_and_nothing_else(staff: Client, airport: Airport):
    """An emptied field is gone, a double typed as an int is an int, the rest stays."""
    staff.post(reverse("airports:edit", args=["EDDB"]), FORM)
    edited = Airport.objects.get(pk="EDDB")
    assert edited.subdivision is None
    assert type(edited.location.elevation) is int
    assert edited.codes == ["EDDB", "BER"]


def test_an_edit_that_changes_nothing_writes_nothing(staff: Client, airport: Airport):
    """The same values make no version."""
    for _ in range(2):
        staff.post(reverse("airports:edit", args=["EDDB"]), FORM)
    assert len(history_of(Airport, "EDDB")) == 2


def test_a_wrong_number_is_refused(staff: Client, airport: Airport):
    """The form says what it wants, and nothing is written."""
    response = staff.post(reverse("airports:edit", args=["EDDB"]), {**FORM, "elevation": "high"})
    assert "Write a number" in response.content.decode()
    assert len(history_of(Airport, "EDDB")) == 1


def test_strangers_cannot_write(client: Client, airport: Airport):
    """Editing and reverting need a staff login."""
    for name, args in (("edit", ["EDDB"]), ("revert", ["EDDB", 1])):
        response = client.post(reverse(f"airports:{name}", args=args), FORM)
        assert response.status_code == 302
        assert reverse("admin:login") in response["Location"]
    assert len(history_of(Airport, "EDDB")) == 1


def test_a_version_can_be_written_back(staff: Client, airport: Airport):
    """The button on an old version's page makes a new version with the old state."""
    staff.post(reverse("airports:edit", args=["EDDB"]), FORM)
    assert "Write this state back" in text_of(staff, "version", "EDDB", 1)
    staff.post(reverse("airports:revert", args=["EDDB", 1]))
    reverted = Airport.objects.get(pk="EDDB")
    assert (reverted.iata, reverted.location.elevation) == ("SXF", 157.0)
    assert type(reverted.location.elevation) is float
    assert len(history_of(Airport, "EDDB")) == 3


def test_a_version_page_follows_the_reference(client: Client, airport: Airport):
    """The country is shown as it was when the version was made."""
    Country.objects.get(pk="DE").modify(name="Deutschland")
    assert "Germany" in text_of(client, "version", "EDDB", 1)


def test_a_deleted_airport_has_its_history_still(client: Client, airport: Airport):
    """The page of a deleted airport shows its versions, the delete among them."""
    airport.delete()
    page = text_of(client, "history", "EDDB")
    assert "Berlin-Schonefeld" in page
    assert "deleted" in page


@pytest.mark.parametrize("path", ["/airports/XXXX/", "/airports/EDDB/versions/9/", "/airports/XXXX/edit/"])
def test_what_never_was_is_not_found(staff: Client, airport: Airport, path: str):
    """An unknown airport and an unknown version are 404."""
    assert staff.get(path).status_code == 404


def test_the_class_as_of_a_moment(client: Client, airport: Airport):
    """The page shows every airport as it stood then."""
    moment = timezone.now()
    airport.revise({"name": "Another name"})
    airport.save()
    page = text_of(client, "as-of", moment=moment.isoformat())
    assert "Berlin-Schonefeld" in page
    assert "Another name" not in page


@pytest.mark.parametrize(
    "moment", ["nonsense", (timezone.now() + timedelta(days=9)).isoformat()], ids=["nonsense", "not yet"]
)
def test_a_wrong_moment_is_told(client: Client, airport: Airport, moment: str):
    """What is no moment, or none yet, is an error beside the field."""
    assert "errorlist" in text_of(client, "as-of", moment=moment)


def test_values_are_escaped(staff: Client, airport: Airport):
    """A name with markup is shown, not interpreted."""
    staff.post(reverse("airports:edit", args=["EDDB"]), {**FORM, "name": "<b>Berlin</b>"})
    assert "<b>Berlin" not in text_of(staff, "history", "EDDB")
