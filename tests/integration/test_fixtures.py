"""The laws of the fixtures that every other test here stands on."""

import os

import mongoengine
import pymongo
import pytest
from pymongo import MongoClient
from pymongo.database import Database


class Thing(mongoengine.Document):
    """A document of no importance."""

    number = mongoengine.IntField()


@pytest.mark.parametrize("repetition", range(2))
def test_each_test_has_a_database_of_its_own(repetition: int, mongodb: Database) -> None:
    """What one test stored, the next one does not find, although the class is the same."""
    Thing(number=repetition).save()
    assert [found["number"] for found in mongodb.thing.find()] == [repetition]


def test_the_database_is_on_the_server_of_the_run(mongodb: Database, mongodb_client: MongoClient) -> None:
    """The observer's client sees what MongoEngine writes."""
    Thing(number=1).save()
    assert mongodb_client[mongodb.name].thing.count_documents({}) == 1


def test_child_processes_are_told_the_same_database(mongodb: Database) -> None:
    """MONGODB_URI names server and database, as the test project's settings read them."""
    with pymongo.MongoClient(os.environ["MONGODB_URI"]) as client:
        assert client.get_default_database().name == mongodb.name
        client.admin.command("ping")  # PyMongo 4.9 has no address before the first command
        assert client.address == mongodb.client.address


def test_without_a_fixture_there_is_no_server() -> None:
    """A test that forgot to ask for one is told at once."""
    with pytest.raises(mongoengine.ConnectionFailure):
        Thing.objects.count()


def test_a_standalone_server_can_be_used_alike(standalone_mongodb: Database) -> None:
    """MongoEngine's default connection is what the last fixture gave."""
    Thing(number=1).save()
    assert standalone_mongodb.client.topology_description.topology_type_name == "Single"
