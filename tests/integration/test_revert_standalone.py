"""Going back on a server without transactions: what others write meanwhile is never overwritten."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from typing import Any

import mongoengine
import pytest
from mongoengine import fields
from pymongo.database import Database
from pymongo.monitoring import CommandListener, CommandStartedEvent

from django_mongo_history import history_of
from django_mongo_history.errors import ConflictError
from tests.conftest import CLIENT_OPTIONS
from tests.judge import configured, tracking


class Buoy(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    colour = fields.StringField()
    seen = fields.IntField(default=0)
    meta = {"collection": "buoys"}


class Meddler(CommandListener):
    """Somebody else, who writes in the moment in which our write is about to be sent."""

    def __init__(self) -> None:
        self.write: Callable[[], Any] | None = None
        self.times = 0

    def started(self, event: CommandStartedEvent) -> None:
        if self.times and event.command_name in {"update", "delete"}:
            self.times -= 1
            self.write and self.write()

    def succeeded(self, event: Any) -> None:
        """Nothing to do."""

    def failed(self, event: Any) -> None:
        """Nothing to do."""


@pytest.fixture
def meddler(standalone_mongodb: Database[dict[str, Any]], standalone: Any) -> Iterator[Meddler]:
    made = Meddler()
    mongoengine.disconnect()
    Buoy._collection = None
    mongoengine.connect(
        standalone_mongodb.name, host=standalone.uri, event_listeners=[made], **CLIENT_OPTIONS
    )
    with configured(), tracking(Buoy), standalone.client() as other:
        collection = other[standalone_mongodb.name]["buoys"]
        made.write = lambda: collection.update_one({"_id": 1}, {"$inc": {"seen": 1}})
        yield made


def a_moment() -> datetime.datetime:
    time.sleep(0.003)
    moment = datetime.datetime.now(datetime.UTC)
    time.sleep(0.003)
    return moment


def stored() -> dict[int, tuple[str, int]]:
    return {found["_id"]: (found["colour"], found["seen"]) for found in Buoy._get_collection().find()}


def test_a_write_in_between_is_looked_at_again(meddler: Meddler) -> None:
    """Taking back the colour leaves the count that came while it was taken back."""
    for number in (1, 2):
        Buoy(number=number, colour="red").save()
        Buoy.objects(number=number).update(colour="green")
    meddler.times = 1
    history_of(Buoy, 1)[1].take_back()
    assert stored() == {1: ("red", 1), 2: ("green", 0)}
    operations = [str(v.operation) for v in history_of(Buoy, 1)]
    assert operations == ["create", "update", "external", "update"]
    assert [v["colour"] for v in history_of(Buoy, 1)] == ["red", "green", "green", "red"]


def test_a_write_before_a_removal_is_not_lost_unseen(meddler: Meddler) -> None:
    """A document is removed as what it is: the version that says so knows what came in between."""
    moment = a_moment()
    Buoy(number=1, colour="red").save()
    meddler.times = 1
    history_of(Buoy, 1).revert(since=moment)
    assert stored() == {}
    assert [v.previous["seen"] for v in history_of(Buoy, 1) if v.operation == "delete"] == [1]


def test_who_never_stops_is_a_conflict(meddler: Meddler) -> None:
    """It is said, and nothing of his is overwritten."""
    Buoy(number=1, colour="red").save()
    Buoy.objects(number=1).update(colour="green")
    meddler.times = 1000
    with pytest.raises(ConflictError, match="again and again"):
        history_of(Buoy, 1)[1].take_back()
    meddler.times, count = 0, 1000 - meddler.times
    assert stored() == {1: ("green", count)}
