"""Addresses that nobody was given: whatever stands in them, the server has an answer, and it is no error of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from django.test import Client
from django.utils.http import urlencode
from mongoengine import fields

from django_mongo_history import history_of
from django_mongo_history.admin import history_url
from tests.admin_pages import client_of, page, user_with
from tests.judge import configured, tracking

pytestmark = [pytest.mark.django_db]

ODD = [
    "", " ", ".", "..", "0", "-1", "9" * 400, "9" * 5000, "x" * 5000, "null", "{}", "[]", '{"$regex": "."}', '{"$regularExpression": {"pattern": ".", "options": ""}}', '{"$numberLong": "99999999999999999999"}',
    '{"a": 99999999999999999999}', '{"$numberDouble": "x"}', '{"$binary": 1}', '{"$uuid": 5}', '{"": {"": ' + "[" * 3000, "[" * 9000, '{"$date": 1e400}', '{"$oid": "x"}',
    "0001-01-01", "9999-12-31", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00",
    "9999-12-31T23:59:59", "2026-02-30", "%00", "\x00", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "bson:", "bson:0", "bson:zz", "bson:02", "bson:07ff", "bson:03" + "ff" * 20, "bson:0300000000", "bson:ff", "bson:7f",
    "$where", "a.$b", "a..b", "_3A", "_", "'", '"', "<", "\N{SNOWMAN}",
]  # fmt: skip


class Signpost(mongoengine.Document):
    number = fields.DynamicField(primary_key=True)
    text = fields.StringField()
    meta = {"collection": "signposts"}


@pytest.fixture(autouse=True)
def road(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(Signpost):
        Signpost(number=1, text="a").save()
        Signpost.objects(number=1).update(text="b")
        yield mongodb


def answered(client: Client, url: str) -> None:
    response = client.get(url)
    assert response.status_code in (200, 302, 404), (url, response.status_code)
    if response.streaming:
        b"".join(response.streaming_content)


@pytest.mark.parametrize(
    "name",
    [
        "class",
        "id",
        "operation",
        "user",
        "changeset",
        "since",
        "until",
        "address",
        "reason",
        "path",
        "older",
        "newer",
        "back",
    ],
)
def test_any_filter(admin_client: Client, name: str) -> None:
    """Of the list; the chart and the export read the same filters."""
    for position, text in enumerate(ODD):
        query = urlencode({name: text})
        answered(admin_client, f"{page('changelist')}?{query}")
        answered(admin_client, f"{page('changelist')}?class=Signpost&{query}")
        if position % 7 == 0:
            answered(admin_client, f"{page('chart')}?{query}")
            answered(admin_client, f"{page('export')}?format=csv&{query}")


PARAMETERS = {
    "upto": [""],
    "a": ["compare/"],
    "b": ["compare/"],
    "a_number": ["compare/"],
    "number": ["state/"],
    "at": ["state/"],
    "version": ["state/", "revert/"],
    "in": ["", "revert/"],
    "preview": ["revert/"],
    "field": ["revert/"],
    "relation": ["revert/"],
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_any_parameter_of_a_document(admin_client: Client, name: str) -> None:
    """Of the pages about it that know the parameter."""
    document = history_url(Signpost, 1)
    version = history_of(Signpost, 1)[0].id
    for text in ODD:
        query = urlencode({name: text})
        for rest in PARAMETERS[name]:
            answered(admin_client, f"{document}{rest}?{query}")
            if rest == "revert/":
                answered(admin_client, f"{document}revert/?preview=1&version={version}&{query}")
        if name == "at":
            answered(admin_client, f"{page('revert_documents', 'Signpost')}?key=1&preview=1&{query}")
            answered(
                admin_client, f"{page('revert_documents', 'Signpost')}?key=bson:1001000000&preview=1&{query}"
            )


def test_any_name_and_key(admin_client: Client) -> None:
    """Of documents, versions, changesets and classes."""
    seed = random.Random(7)
    keys = [
        f"bson:{kind:02x}{seed.randbytes(seed.randrange(24)).hex()}" for kind in range(256) for _ in range(2)
    ]
    for text in [*(one for one in ODD if one not in ("", ".", "..")), *keys]:
        part = urlencode({"": text})[1:].replace("+", "%20")
        for url in (
            f"{page('changelist')}document/Signpost/{part}/",
            f"{page('changelist')}document/Signpost/{part}/revert/",
            f"{page('changelist')}document/{part}/1/",
            f"{history_url(Signpost, 1)}version/{part}/",
            f"{page('changelist')}changeset/{part}/",
            f"{page('changelist')}deleted/{part}/",
            f"{page('changelist')}revert/{part}/?key=1",
            f"{page('take_back')}?version={part}",
        ):
            answered(admin_client, url)


def test_who_may_not_look_cannot_find_out_what_there_is() -> None:
    """The answer is the same for a document that there is and one that there is not."""
    client = client_of(user_with())
    version = history_of(Signpost, 1)[0]
    for key in ("bson:1001000000", "nowhere"):
        for rest in ("", "compare/", "state/", "revert/", f"version/{version.id}/"):
            url = f"{page('changelist')}document/Signpost/{key}/{rest}"
            assert client.get(url).status_code == 403, url
    for name in (str(version.id), "0" * 24, "x"):
        assert client.post(page("take_back"), {"version": name}).status_code == 403
    for name in (str(version.changeset), "0" * 24):
        assert client.get(page("changeset", name)).status_code == 403
        assert client.get(page("take_back_changeset", name)).status_code == 403
