"""What the server will not have is a conflict of that document, and no other one waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from mongoengine import fields
from pymongo.errors import BulkWriteError

from django_mongo_history import changeset, changesets, history_of
from django_mongo_history.errors import ConflictError
from tests.judge import configured, tracking


class Valve(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    pressure = fields.IntField()
    note = fields.StringField()
    left = fields.DynamicField()
    right = fields.DynamicField()
    meta = {"collection": "valves"}


@pytest.fixture(params=["replica set", "standalone"])
def plant(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Valves are tracked, with transactions and without."""
    name = "mongodb" if request.param == "replica set" else "standalone_mongodb"
    database = request.getfixturevalue(name)
    with configured(), tracking(Valve):
        yield database


def damaged() -> Any:
    """Three valves, and the changeset that made the pressure of all of them 1; the second one's was 99."""
    for number, pressure in ((1, 5), (2, 99), (3, 5)):
        Valve(number=number, pressure=pressure, note="n").save()
    with changeset(reason="a mistake") as made:
        for valve in Valve.objects:
            valve.modify(pressure=1)
    return made


def forbid(plant: Any) -> None:
    """From now on no pressure is above 10."""
    schema = {"properties": {"pressure": {"maximum": 10}}}
    plant.command("collMod", "valves", validator={"$jsonSchema": schema})


def pressures() -> list[int]:
    return [valve.pressure for valve in Valve.objects.order_by("number")]


def test_a_refused_document_is_a_conflict_and_the_others_are_written(plant: Any) -> None:
    """Each that was written is counted once and is no conflict; the refused one is named, with the field."""
    made = damaged()
    forbid(plant)
    (whole,) = changesets(reason="a mistake")
    with pytest.raises(ConflictError, match="2 other documents were written") as caught:
        whole.take_back()
    assert pressures() == [5, 1, 5]
    (refused,) = caught.value.conflicts
    assert refused.key.document_id == 2
    assert not refused.can_be_forced
    assert "validation (pressure)" in refused.reason
    assert "99" not in refused.reason
    assert [len(history_of(Valve, number)) for number in (1, 2, 3)] == [3, 2, 3]
    assert str(made) == str(whole.id)


def test_a_refused_revert_of_one_document_writes_nothing(plant: Any) -> None:
    """And says why."""
    damaged()
    forbid(plant)
    with pytest.raises(ConflictError, match="the server refuses"):
        history_of(Valve, 2)[0].revert()
    assert pressures() == [1, 1, 1]
    assert len(history_of(Valve, 2)) == 2


def test_what_an_index_cannot_take_is_a_conflict(plant: Any) -> None:
    """Two lists below one compound index."""
    Valve(number=1, left=[1], right=[1]).save()
    Valve.objects(number=1).update(left=1, right=1)
    plant["valves"].create_index([("left", 1), ("right", 1)])
    with pytest.raises(ConflictError, match="the server refuses"):
        history_of(Valve, 1)[0].revert()
    assert Valve.objects.get(number=1).left == 1


def test_what_is_no_refusal_of_a_document_is_raised(mongodb: Any, mongodb_client: Any) -> None:
    """Rights, for one: nothing is known of the documents then."""
    with configured(), tracking(Valve):
        damaged()
        data = {"failCommands": ["update"], "errorCode": 13, "namespace": f"{mongodb.name}.valves"}
        mongodb_client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
        try:
            with pytest.raises(Exception, match="Failing command") as caught:
                history_of(Valve, 2)[0].revert()
        finally:
            mongodb_client.admin.command("configureFailPoint", "failCommand", mode="off")
        assert not isinstance(caught.value, (ConflictError, BulkWriteError))
        assert pressures() == [1, 1, 1]
