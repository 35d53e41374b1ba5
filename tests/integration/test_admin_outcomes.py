"""What came of a confirmed revert is said exactly: what was written, what was not, and what the history does not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import mongoengine
import pytest
from django.test import Client
from mongoengine import fields

from django_mongo_history import changeset, history_of, track
from django_mongo_history.admin import history_url
from django_mongo_history.signals import document_reverted
from tests.admin_pages import check_page, confirm, page
from tests.judge import HISTORY, configured, tracking

pytestmark = [pytest.mark.django_db]
PIN = "PIN-1234"


class Kiosk(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    stock = fields.IntField()
    pin = fields.StringField()
    name = fields.StringField()
    meta = {"collection": "kiosks"}


class Vendor(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    stock = fields.IntField()
    meta = {"collection": "vendors"}


@pytest.fixture
def market(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(Kiosk), tracking(Vendor):
        yield mongodb


@pytest.fixture
def staff(admin_client: Client) -> Client:
    return admin_client


def damaged() -> Any:
    """Three kiosks and three vendors, and the changeset that emptied them all. Kiosk 2 had more than may be."""
    for number in (1, 2, 3):
        Kiosk(number=number, stock=99 if number == 2 else 5, pin=PIN).save()
        Vendor(number=number, stock=5).save()
    with changeset(reason="a mistake") as made:
        for one in (*Kiosk.objects, *Vendor.objects):
            one.modify(stock=0)
    return made


def forbid(market: Any) -> None:
    schema = {"properties": {"stock": {"maximum": 10}, "pin": {"maxLength": 3}}}
    market.command("collMod", "kiosks", validator={"$jsonSchema": schema})


def refuse_versions(market: Any) -> None:
    """The store takes no version that a revert has made."""
    market.command("collMod", HISTORY, validator={"revert_of": {"$in": [None]}})


@contextmanager
def failing(client: Any, namespace: str, *commands: str, **data: Any) -> Iterator[None]:
    """These commands on this collection fail, whoever sends them."""
    found = {"failCommands": list(commands), "namespace": namespace, **data}
    client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=found)
    try:
        yield
    finally:
        client.admin.command("configureFailPoint", "failCommand", mode="off")


def taken_back(staff: Client, made: Any) -> Any:
    """The answer to the confirmation."""
    return confirm(staff, page("take_back_changeset", made), reason="undo it")


def told(response: Any) -> tuple[list[str], list[str], str]:
    """What the page says was written, what it says was not, and all of its text."""
    assert response.status_code == 200
    text = response.content.decode()
    check_page(text)
    return named(text, "mh-written"), named(text, "mh-left"), text


def named(text: str, class_name: str) -> list[str]:
    section = re.search(rf'<section class="{class_name}.*?</section>', text, re.DOTALL)
    return sorted(set(re.findall(r"(?:Kiosk|Vendor) \d", section.group()))) if section else []


def stocks() -> list[int]:
    return [one.stock for one in (*Kiosk.objects.order_by("number"), *Vendor.objects.order_by("number"))]


def counts() -> list[int]:
    return [len(history_of(one, number)) for one in (Kiosk, Vendor) for number in (1, 2, 3)]


def test_a_document_that_the_server_refuses_is_named(staff: Client, market: Any) -> None:
    """The others were written, and the page says which; no value of what was refused is on it."""
    made = damaged()
    forbid(market)
    Kiosk._get_collection().update_many({}, {"$set": {"pin": "1"}})
    response = taken_back(staff, made)
    written, left, text = told(response)
    assert written == ["Kiosk 1", "Kiosk 3", "Vendor 1", "Vendor 2", "Vendor 3"]
    assert left == ["Kiosk 2"]
    assert "5 documents were written" in text
    assert "Document failed validation (stock)" in text
    assert "What will change" not in text
    assert PIN not in text
    assert stocks() == [5, 0, 5, 5, 5, 5]


def test_a_refused_revert_of_one_document_says_so(staff: Client, market: Any) -> None:
    """And the way to try again is there."""
    damaged()
    forbid(market)
    first = str(history_of(Kiosk, 1)[0].id)
    Kiosk._get_collection().update_many({}, {"$set": {"pin": "1"}})
    written, left, text = told(confirm(staff, history_url(Kiosk, 1) + "revert/", version=first))
    assert (written, left) == ([], ["Kiosk 1"])
    assert "0 documents were written" in text
    assert "mh-again-form" in text


def test_a_refusal_names_no_field_where_any_is_hidden(staff: Client, market: Any) -> None:
    """A key of something hidden may be a value."""
    track(Kiosk, hidden=["pin"])
    made = damaged()
    forbid(market)
    _written, left, text = told(taken_back(staff, made))
    assert left == ["Kiosk 1", "Kiosk 2", "Kiosk 3"]
    assert "refuses" in text
    assert "failed validation" not in text


def test_what_was_written_before_an_error_is_named(staff: Client, market: Any, mongodb_client: Any) -> None:
    """The first class was written when the second one's collection refused: nobody is left to guess."""
    made = damaged()
    with failing(mongodb_client, f"{market.name}.vendors", "update", errorCode=13):
        written, left, text = told(taken_back(staff, made))
    assert written == ["Kiosk 1", "Kiosk 2", "Kiosk 3"]
    assert left == ["Vendor 1", "Vendor 2", "Vendor 3"]
    assert "3 documents were written" in text
    assert "Failing command" not in text, "the server's words may hold values"
    assert stocks() == [5, 99, 5, 0, 0, 0]


def test_a_store_that_refuses_in_a_transaction_leaves_everything(staff: Client, market: Any) -> None:
    """And that is what the page says."""
    made = damaged()
    refuse_versions(market)
    written, left, text = told(taken_back(staff, made))
    assert written == []
    assert len(left) == 6
    assert "0 documents were written" in text
    assert "history" in text
    assert counts() == [2] * 6
    assert stocks() == [0] * 6


@pytest.mark.parametrize("policy", ["raise", "log"])
def test_documents_without_their_versions_are_named(staff: Client, market: Any, policy: str) -> None:
    """Where the write comes first it is done, whether the failure of the store is raised or logged."""
    with configured(DELIVERY="sync", ON_ERROR=policy):
        market.create_collection("document_history_outbox", validator={"never": {"$exists": True}})
        made = damaged()
        refuse_versions(market)
        written, left, text = told(taken_back(staff, made))
        unstored = named(text, "mh-unstored")
    done = 3 if policy == "raise" else 6
    assert stocks() == [5, 99, 5, 5, 5, 5][:done] + [0] * (6 - done)
    assert len(written) == done
    assert unstored == written
    assert len(left) == 6 - done
    assert "nothing was written" not in text.lower()
    assert counts() == [3] * done + [2] * (6 - done), "they show as external"


def test_one_document_without_its_version_leads_to_no_page_that_is_not_there(
    staff: Client, market: Any
) -> None:
    """The new version's page would be a 404."""
    with configured(DELIVERY="sync", ON_ERROR="log"):
        market.create_collection("document_history_outbox", validator={"never": {"$exists": True}})
        damaged()
        first = str(history_of(Kiosk, 1)[0].id)
        refuse_versions(market)
        written, _left, text = told(confirm(staff, history_url(Kiosk, 1) + "revert/", version=first))
        assert written == ["Kiosk 1"]
        assert named(text, "mh-unstored") == ["Kiosk 1"]
        assert "history.html" not in text


def test_a_store_that_cannot_be_asked_is_said(staff: Client, market: Any, mongodb_client: Any) -> None:
    """What is not known is not claimed, nor is it a page of an error."""
    damaged()
    first = str(history_of(Kiosk, 1)[0].id)
    with ExitStack() as stack:

        def go_away(**_facts: Any) -> None:
            """The store fails as soon as the document is written."""
            stack.enter_context(failing(mongodb_client, f"{market.name}.{HISTORY}", "find", errorCode=13))

        document_reverted.connect(go_away)
        stack.callback(document_reverted.disconnect, go_away)
        written, left, text = told(confirm(staff, history_url(Kiosk, 1) + "revert/", version=first))
    assert (written, left) == (["Kiosk 1"], [])
    assert named(text, "mh-unstored") == ["Kiosk 1"]
    assert "cannot be asked now" in text
    assert stocks()[0] == 5


def test_a_lost_connection_is_no_certainty(staff: Client, market: Any, mongodb_client: Any) -> None:
    """Whether the last step was done is not known, and is not claimed."""
    made = damaged()
    with (
        configured(DELIVERY="sync", TRANSACTION_TIMEOUT_S=0.2),
        failing(mongodb_client, f"{market.name}.vendors", "update", closeConnection=True),
    ):
        written, left, text = told(taken_back(staff, made))
    assert written == ["Kiosk 1", "Kiosk 2", "Kiosk 3"]
    assert left == ["Vendor 1", "Vendor 2", "Vendor 3"]
    assert "not known whether" in text


def test_the_way_to_try_again_makes_a_new_preview(staff: Client, market: Any) -> None:
    """By a POST that writes nothing."""
    made = damaged()
    refuse_versions(market)
    _written, _left, text = told(taken_back(staff, made))
    action = re.search(r'<form method="post" action="([^"]*)" class="mh-again-form"', text)
    assert action
    market.command("collMod", HISTORY, validator={})
    again = staff.post(action.group(1), {"preview": "1"}).content.decode()
    assert "6 documents will be changed" in again
    assert counts() == [2] * 6


@pytest.mark.parametrize("number", [1, 3])
def test_versions_on_their_way_lead_to_a_page_that_is_there(
    staff: Client, market: Any, celery_app: Any, number: int
) -> None:
    """A worker stores them later: until then the new version's page may be none."""
    damaged()
    wanted = [str(history_of(Kiosk, one)[1].id) for one in range(1, number + 1)]
    with configured(DELIVERY="celery"):
        response = confirm(staff, page("take_back"), version=wanted)
        assert response.status_code == 302
        text = staff.get(response["Location"]).content.decode()
        check_page(text)
    assert f"{number} document{'s were' if number > 1 else ' was'} written" in text
    assert stocks()[:number] == [5, 99, 5][:number]


def test_an_error_of_the_driver_is_told_as_well(staff: Client, market: Any) -> None:
    """What was and what nobody tracks do not fit into one document together: it never leaves the driver."""
    track(Kiosk, untracked=["pin"])
    damaged()
    half = "x" * 9_000_000
    Kiosk.objects(number=1).update(name=half)
    Kiosk.objects(number=1).update(name="small")
    Kiosk._get_collection().update_one({"_id": 1}, {"$set": {"pin": half}})
    big = str(history_of(Kiosk, 1)[2].id)
    written, left, text = told(confirm(staff, history_url(Kiosk, 1) + "revert/", version=big))
    assert (written, left) == ([], ["Kiosk 1"])
    assert "refused to go on" in text
    assert Kiosk._get_collection().find_one({"_id": 1})["name"] == "small"
