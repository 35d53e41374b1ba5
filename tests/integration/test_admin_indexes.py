"""What the admin's pages ask the server: a few questions each, every one of them answered from an index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from django.test import Client
from mongoengine import fields
from pymongo.monitoring import CommandListener

from django_mongo_history import changeset, history_of
from django_mongo_history.admin import history_url
from django_mongo_history.storage.indexes import INDEXES
from tests.admin_pages import links, page, text_of
from tests.judge import configured, tracking

pytestmark = [pytest.mark.django_db]

READS = ("find", "aggregate", "distinct")
ENVELOPE = ("$db", "lsid", "txnNumber", "$clusterTime", "readConcern", "startTransaction", "autocommit", "$readPreference", "maxTimeMS")  # fmt: skip


class Carton(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    label = fields.StringField()
    weight = fields.IntField()
    meta = {"collection": "crates"}


class Rack(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    label = fields.StringField()
    meta = {"collection": "shelves"}


class Commands(CommandListener):
    """Keeps every reading command on a collection, as it was sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        if event.command_name in READS:
            self.sent.append(dict(event.command))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


def stages(plan: Any) -> Iterator[dict[str, Any]]:
    """Every stage of an explained plan."""
    if isinstance(plan, dict):
        if "stage" in plan:
            yield plan
        for name, value in plan.items():
            if name != "rejectedPlans":
                yield from stages(value)
    elif isinstance(plan, list):
        for one in plan:
            yield from stages(one)


@pytest.fixture
def store_room(mongodb: Any, mongodb_uri: str) -> Iterator[Commands]:
    """Some thousand versions of many documents, users, changesets and operations; on a connection that is listened to."""
    listener = Commands()
    mongoengine.disconnect()
    options = {"uuidRepresentation": "standard", "tz_aware": True, "event_listeners": [listener]}
    mongoengine.connect(mongodb.name, host=mongodb_uri, **options)
    with configured(), tracking(Carton), tracking(Rack):
        with changeset(user="anna", reason="delivery", remote_addr="192.0.2.1"):
            Carton.objects.insert([Carton(number=number, label="new") for number in range(600)])
            Rack.objects.insert([Rack(number=number, label="new") for number in range(100)])
        for number in range(6):
            with changeset(user=f"user {number % 3}", reason=f"round {number}"):
                Carton.objects(number__mod=(3, number % 3)).update(weight=number)
                Rack.objects.update(label=f"label {number}")
        with changeset(user="bo", reason="out"):
            Carton.objects(number__gte=580).delete()
        yield listener


def addresses() -> dict[str, str]:
    """Each page, and each way to filter."""
    version = history_of(Carton, 5)[1]
    document = history_url(Carton, 5)
    query = page("changelist")
    first = query + "?"
    older = page("changelist") + "?older={place}"
    return {
        "all": query,
        "older": older,
        "newer": page("changelist") + "?newer={place}",
        "class": first + "class=Carton",
        "class, older": first + "class=Carton&older={place}",
        "operation": first + "operation=delete",
        "create": first + "operation=create",
        "update": first + "operation=update",
        "class and operation": first + "class=Rack&operation=delete",
        "user": first + "user=bo",
        "user, older": first + "user=anna&older={place}",
        "changeset": first + f"changeset={version.changeset}",
        "dates": first + "since=2020-01-01&until=2100-01-01",
        "address": first + "address=192.0.2.1",
        "reason": first + "reason=round",
        "class and reason": first + "class=Carton&reason=delivery",
        "path": first + "path=weight",
        "class and path": first + "class=Carton&path=weight",
        "id": first + "id=5",
        "class and id": first + "class=Carton&id=5",
        "everything": first
        + "class=Carton&operation=update&user=user+1&since=2020-01-01&reason=round&path=weight",
        "chart": page("chart"),
        "chart of a class": page("chart") + "?class=Carton",
        "export": page("export") + "?format=csv&class=Rack",
        "deleted classes": page("deleted_classes"),
        "deleted": page("deleted", "Carton"),
        "a changeset": page("changeset", version.changeset.id),
        "document": document,
        "compare": document + "compare/",
        "state": document + "state/?number=2",
        "version": f"{document}version/{version.id}/",
        "revert": document + "revert/",
        "preview": document + f"revert/?preview=1&version={version.id}",
        "take back": page("take_back") + f"?version={version.id}",
    }


def test_every_question_is_answered_from_an_index(
    admin_client: Client, store_room: Commands, mongodb_client: Any
) -> None:
    """No page walks a collection; what is shown in pages is not sorted either, so that a page reads no more than it shows."""
    database = mongodb_client[mongoengine.get_db().name]
    named = addresses()
    place = links(text_of(admin_client, page("changelist")), "mh-older")[0].partition("older=")[2]
    names = {index.document["name"] for index in INDEXES} | {"_id_"}
    used: set[str] = set()
    for name, url in named.items():
        store_room.sent.clear()
        response = admin_client.get(url.format(place=place))
        assert response.status_code == 200, name
        b"".join(response.streaming_content) if response.streaming else response.content
        sent = [dict(one) for one in store_room.sent]
        assert sent or name == "deleted classes", name
        assert len(sent) <= 16, (name, len(sent))
        for command in sent:
            asked = {key: value for key, value in command.items() if key not in ENVELOPE}
            if asked.get("aggregate") == 1 or "$collStats" in str(asked.get("pipeline")):
                continue
            explained = database.command("explain", asked, verbosity="executionStats")
            found = list(stages(explained))
            kinds = {stage["stage"] for stage in found}
            assert "COLLSCAN" not in kinds, (name, asked)
            indexes = {stage["indexName"] for stage in found if "indexName" in stage}
            assert indexes <= names | {"_id_"}, (name, indexes)
            used |= indexes
            is_page = asked.get("limit") in (51, 2) and "changeset" not in str(asked.get("filter"))
            if is_page and asked["find"] == "document_history" and "id" not in name:
                assert "SORT" not in kinds, (name, asked)
    assert {"at", "collection_at", "user_at", "changeset", "links", "collection_operation_at"} <= used


def test_a_page_reads_about_what_it_shows(
    admin_client: Client, store_room: Commands, mongodb_client: Any
) -> None:
    """Wherever it lies: the last page costs what the first one costs."""
    database = mongodb_client[mongoengine.get_db().name]
    url = page("changelist")
    costs: list[int] = []
    while True:
        store_room.sent.clear()
        text = text_of(admin_client, url)
        cost = 0
        for command in store_room.sent:
            asked = {key: value for key, value in command.items() if key not in ENVELOPE}
            if asked.get("find") == "document_history":
                stats = database.command("explain", asked, verbosity="executionStats")["executionStats"]
                cost += stats["totalDocsExamined"]
        costs.append(cost)
        older = links(text, "mh-older")
        if not older:
            break
        url = page("changelist") + older[0]
    assert len(costs) > 30
    assert max(costs) <= 2 * 52
