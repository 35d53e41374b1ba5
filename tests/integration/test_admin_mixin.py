"""`HistoryAdminMixin`: the "History" button of a document's admin, and its action, lead to the history pages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from django.contrib import admin
from django.contrib.messages.storage.base import BaseStorage
from django.core.management import call_command
from django.db import connection
from django.http import Http404
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from mongoengine import fields

from django_mongo_history import history_of, track, untrack
from django_mongo_history.admin import HistoryAdmin, HistoryAdminMixin, history_url
from django_mongo_history.models import History
from tests.admin_pages import text_of
from tests.judge import configured, tracking

pytestmark = [pytest.mark.django_db]


class Bollard(mongoengine.Document):
    """Has an id of MongoDB's own."""

    colour = fields.StringField()
    meta = {"collection": "bollards"}


class Mooring(mongoengine.Document):
    name = fields.StringField(primary_key=True)
    meta = {"collection": "moorings"}


class PlainAdmin:
    """What every admin of documents has, django-mongoengine's too."""

    def __init__(self, model: Any, admin_site: Any) -> None:
        self.model = model
        self.admin_site = admin_site


def bases() -> list[Any]:
    """The admin above, and django-mongoengine's own where that is installed (the matrix has a row for it)."""
    found: list[Any] = [PlainAdmin]
    if find_spec("django_mongoengine"):
        from django_mongoengine.mongo_admin.options import DocumentAdmin

        found.append(DocumentAdmin)
    return found


@pytest.fixture(autouse=True)
def pier(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(Bollard), tracking(Mooring):
        yield mongodb


@pytest.fixture(params=range(len(bases())), ids=["plain", "django-mongoengine"][: len(bases())])
def document_admin(request: pytest.FixtureRequest) -> Any:
    """An admin of bollards."""
    base = bases()[request.param]
    made = type("BollardAdmin", (HistoryAdminMixin, base), {})
    if base is PlainAdmin:
        return made(Bollard, admin.site)
    instance = made.__new__(made)  # its own start wants a document class of django-mongoengine's
    instance.model, instance.admin_site = Bollard, admin.site
    return instance


def request_of(**sent: Any) -> Any:
    return RequestFactory().get("/", sent)


def test_the_history_button_leads_to_the_history(document_admin: Any, admin_client: Client) -> None:
    """There or gone; what no document can have as its key is not found."""
    bollard = Bollard(colour="red").save()
    response = document_admin.history_view(request_of(), str(bollard.pk))
    assert (response.status_code, response["Location"]) == (302, history_url(bollard))
    assert "red" in text_of(admin_client, response["Location"])
    bollard.delete()
    assert document_admin.history_view(request_of(), str(bollard.pk))["Location"] == response["Location"]
    with pytest.raises(Http404):
        document_admin.history_view(request_of(), "no id")


def test_a_class_that_is_not_tracked_has_no_history(document_admin: Any) -> None:
    """Not found, with the reason."""
    bollard = Bollard(colour="red").save()
    untrack(Bollard)
    try:
        with pytest.raises(Http404, match="not tracked"):
            document_admin.history_view(request_of(), str(bollard.pk))
    finally:
        track(Bollard)


def test_the_action_leads_to_the_page_that_asks_for_the_moment(
    document_admin: Any, admin_client: Client
) -> None:
    """With the documents that were selected."""
    Bollard.objects.insert([Bollard(colour="red") for _ in range(3)])
    response = document_admin.revert_to_moment(request_of(), Bollard.objects[:2])
    text = text_of(admin_client, response["Location"])
    assert text.count("<li>Bollard ") == 2


def test_too_many_are_refused(document_admin: Any) -> None:
    """With a message, and nothing else happens."""
    Bollard.objects.insert([Bollard(colour="red") for _ in range(101)])
    request = listening()
    assert document_admin.revert_to_moment(request, Bollard.objects) is None
    assert request.said == ["At most 100 can be selected at once."]


def test_an_address_that_is_too_long_is_refused(document_admin: Any) -> None:
    """Servers take about four thousand characters of one: a hundred ids of the usual kind, and fewer long ones."""
    document_admin.model = Mooring
    Mooring.objects.insert([Mooring(name=f"{number}{'x' * 900}") for number in range(5)])
    request = listening()
    assert document_admin.revert_to_moment(request, Mooring.objects[:3]).status_code == 302
    assert document_admin.revert_to_moment(request, Mooring.objects) is None
    assert request.said == ["The ids of the selected documents are too long for an address: select fewer."]
    document_admin.model = Bollard
    Bollard.objects.insert([Bollard(colour="red") for _ in range(100)])
    response = document_admin.revert_to_moment(request, Bollard.objects)
    assert len(response["Location"]) < 4000


def listening() -> Any:
    """A request that keeps its messages in `said`."""
    request = request_of()
    request.said = []

    class Storage(BaseStorage):
        def add(self, level: int, message: Any, extra_tags: str = "") -> None:
            request.said.append(str(message))

    request._messages = Storage(request)
    return request


def test_plain_code_links_to_a_history(admin_client: Client) -> None:
    """By an instance, or by class and key; with `{% url %}` by the names of the pages."""
    mooring = Mooring(name="a/b c?d#é").save()
    url = history_url(mooring)
    assert url == history_url(Mooring, "a/b c?d#é")
    assert "Mooring a/b c?d#é" in text_of(admin_client, url)
    for name in (".", "..", "bson:", " ", "%2e", "_2F"):
        Mooring(name=name).save()
        assert len(history_of(Mooring, name)) == 1
        assert "mh-version-1" in text_of(admin_client, history_url(Mooring, name)), name
    with pytest.raises(ValueError, match="primary key"):
        history_url(Bollard())
    with pytest.raises(ValueError, match="which document"):
        history_url(Bollard)
    assert admin_client.get(history_url(Bollard, ObjectId())).status_code == 404


def test_the_history_is_in_the_menu(admin_client: Client) -> None:
    """Of the admin's index, without a way to add one."""
    text = admin_client.get("/admin/").content.decode()
    assert "/admin/mongo_history/history/" in text
    assert "/admin/mongo_history/history/add/" not in text


def test_the_pages_are_in_any_site_that_they_are_registered_in(admin_user: Any) -> None:
    """Under its own addresses, and they lead to each other."""
    with override_settings(ROOT_URLCONF=__name__):
        mooring = Mooring(name="x").save()
        url = history_url(mooring, site="ops")
        assert url.startswith("/ops/mongo_history/history/document/")
        client = Client()
        client.force_login(admin_user)
        text = text_of(client, url)
        assert "/ops/mongo_history/history/" in text
        assert 'href="/admin/' not in text
        assert "Mooring" in text_of(client, "/ops/mongo_history/history/")


ops = admin.AdminSite(name="ops")
ops.register(History, HistoryAdmin)
urlpatterns = [path("ops/", ops.urls)]


def test_a_project_without_the_admin_starts() -> None:
    """And one without users, sessions or an SQL database."""
    started = subprocess.run(
        [sys.executable, "-c", BARE],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert (started.stdout, started.returncode) == ("started\n", 0), started.stderr


BARE = """
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_mongo_history"], DATABASES={})
import django, sys
django.setup()
assert "django.contrib.admin" not in sys.modules and "django.contrib.auth.models" not in sys.modules
print("started")
"""


def test_django_finds_nothing_to_migrate() -> None:
    """The migration is shipped, and makes no table."""
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
    assert not [name for name in connection.introspection.table_names() if "history" in name]
