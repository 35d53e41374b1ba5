"""`history_as_of` on a real server: a class as it stood, in a collection of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import mongoengine
import pytest
from mongoengine import fields

from tests.commanding import iso, now, run
from tests.judge import configured, tracking


class AsOfJar(mongoengine.Document):
    code = fields.StringField(primary_key=True)
    label = fields.StringField()
    meta = {"collection": "as_of_jar", "indexes": ["label"]}


JAR = f"{AsOfJar.__module__}.AsOfJar"


@pytest.fixture(autouse=True)
def shelf(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(AsOfJar):
        yield mongodb


@pytest.fixture
def then() -> datetime:
    """A moment at which three jars had other labels."""
    for n in range(3):
        AsOfJar(code=str(n), label="old").save()
    moment = now()
    AsOfJar.objects.update(label="new")
    return moment


def test_it_writes_lists_and_drops(shelf: Any, then: datetime) -> None:
    """And says each; the live documents stay as they are."""
    said = run("history_as_of", iso(then), "--document", JAR, "--into", "jars_then")
    assert (said.error, said.lines[0].split(" as of")[0]) == (None, "jars_then: 3 documents")
    assert shelf["jars_then"].count_documents({"label": "old"}) == 3
    assert AsOfJar.objects(label="new").count() == 3
    listed = run("history_as_of", "--document", JAR, "--list")
    assert [line.partition(" as of")[0] for line in listed.lines] == ["jars_then"]
    assert listed.lines[0].endswith(": 3 documents")
    assert run("history_as_of", "--document", JAR, "--drop", "jars_then").lines == ["jars_then dropped"]
    assert "jars_then" not in shelf.list_collection_names()
    assert run("history_as_of", "--document", JAR, "--list").lines == []


def test_what_others_made_stays(shelf: Any, then: datetime) -> None:
    """Neither written nor dropped."""
    shelf["mine"].insert_one({"_id": 1})
    said = run("history_as_of", iso(then), "--document", JAR, "--into", "mine")
    assert "exists and was not made by" in str(said.error)
    said = run("history_as_of", "--document", JAR, "--drop", "mine")
    assert str(said.error) == "--drop: 'mine' is none of the collections made of this class: none."
    assert shelf["mine"].count_documents({}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--document", JAR], "one of the arguments --into --drop --list is required"),
        (["--document", JAR, "--into", "x"], "MOMENT: say as of when"),
        (["2024-01-01", "--document", JAR, "--list"], "MOMENT goes with --into"),
        (["yesterday", "--document", JAR, "--into", "x"], "is no moment"),
        (["2024-01-01T00:00:00Z", "--document", "shop.Nothing", "--into", "x"], "--document shop.Nothing"),
        (["2024-01-01T00:00:00Z", "--document", JAR, "--into", "a$b"], "--into: 'a$b' cannot be the name"),
        (["2024-01-01T00:00:00Z", "--into", "x"], "--document"),
        (["--document", JAR, "--using", "nowhere", "--list"], "there is no connection 'nowhere'"),
    ],
    ids=str,
)
def test_wrong_input_ends_before_anything_is_written(
    shelf: Any, then: datetime, arguments: list[str], message: str
) -> None:
    """A CommandError that says what is wrong."""
    before = set(shelf.list_collection_names())
    assert message in str(run("history_as_of", *arguments).error)
    assert set(shelf.list_collection_names()) == before
