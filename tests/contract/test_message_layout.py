"""
Messages and dead letters, held still by golden files: a message outlives the release that sent it, and so does a letter.

A difference here is a change of the layout: a new `FORMAT` in `delivery/messages.py`, and the old one still read.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bson import ObjectId, json_util
from pymongo import MongoClient

from django_mongo_history.delivery.messages import FORMAT, Message
from django_mongo_history.storage.outbox import DeadLetter, DeadLetters

GOLDEN = Path(__file__).parent / "golden" / f"message_v{FORMAT}.json"
LETTERS = GOLDEN.with_name("dead_letter_v1.json")
MESSAGES = {
    "versions": Message("default", "shop", rows=(b"\x05\x00\x00\x00\x00", b"\xff\xfe")),
    "names": Message("archive", "shop", ids=(ObjectId("65f000000000000000000001"),)),
}
DIED = datetime(2026, 2, 8, 23, 3, 0, 123000, tzinfo=UTC)
DEAD = {
    "a version": DeadLetter(
        ObjectId("65f000000000000000000001"),
        [b"\x05\x00\x00\x00\x00"],
        "Document failed validation",
        8,
        DIED,
        "shop.products",
        "M-1",
    ),
    "a version in parts": DeadLetter(
        ObjectId("65f000000000000000000002"),
        [b"two", b"three", b"one"],
        "too large",
        8,
        DIED,
        "shop.products",
        7,
    ),
    "a message": DeadLetter(
        ObjectId("65f000000000000000000003"),
        [b'{"format": 99}'],
        "its format is '99'",
        1,
        DIED,
        is_message=True,
    ),
}


def test_messages() -> None:
    """What is sent is what the golden file has, and what it has is read."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert {name: message.to_json() for name, message in MESSAGES.items()} == golden
    assert {name: Message.from_json(carried) for name, carried in golden.items()} == MESSAGES


def test_dead_letters(mongodb_client: MongoClient[Any]) -> None:
    """The rows that letters make are those of the golden file, and give the letters back."""
    database = mongodb_client[f"test_{ObjectId()}"]
    letters = DeadLetters(database["dead"])
    try:
        for letter in DEAD.values():
            letters.bury(letter)
            letters.bury(letter)
        rows = list(database["dead"].find().sort("_id", 1))
        assert json.loads(json_util.dumps(rows, json_options=json_util.CANONICAL_JSON_OPTIONS)) == json.loads(
            LETTERS.read_text(encoding="utf-8")
        )
        assert list(letters.letters()) == list(DEAD.values())
        assert letters.count() == 3
        for letter in DEAD.values():
            letters.remove(letter)
        assert database["dead"].count_documents({}) == 0
    finally:
        mongodb_client.drop_database(database.name)
