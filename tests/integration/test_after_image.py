"""The computed after-image of `$set` and `$unset` is the server's, byte for byte, on thousands of random updates."""

import random
from typing import Any

import mongoengine
import pytest
from bson import Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from django_mongo_history.core import values
from django_mongo_history.core.after_image import ComputedUpdate, after_update
from django_mongo_history.core.leaves import replaced_values

ROUNDS, AT_ONCE = 20, 1000
# Not `1a`: beside numbers such names are declined. Not `01` beside `1`: that pair ends some servers.
NAMES = ["a", "b", "c", "_x", "-1", "A", "é", "k2", "z"]
NUMBERS = ["0", "1", "2", "3", "5", "10"]
LEAVES: list[Any] = [
    1, 1.0, True, None, "x", "", Int64(1), Decimal128("1.10"), b"z", ObjectId(b"a" * 12), Timestamp(0, 0),
    Timestamp(5, 1), Regex("a", "i"), [], {}, [1, [2]], {"b": 1, "a": 2}, {"0": 1}, {"$ref": "c", "$id": 1},
]  # fmt: skip


class Cases:
    """Random documents and updates of them, most of which hit something that is there."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def document(self, depth: int = 3) -> dict[str, Any]:
        names = self.random.sample(NAMES + NUMBERS[:3], self.random.randint(1, 5))
        return {name: self.value(depth - 1) for name in names}

    def value(self, depth: int) -> Any:
        kind = self.random.random()
        if depth > 0 and kind < 0.3:
            return self.document(depth)
        if depth > 0 and kind < 0.6:
            return [self.value(depth - 1) for _ in range(self.random.randint(0, 4))]
        return self.random.choice(LEAVES)

    def path(self, document: Any) -> str:
        parts: list[str] = []
        node = document
        for _ in range(self.random.randint(1, 4)):
            parts.append(self._part(node))
            node = self._child(node, parts[-1])
        return ".".join(parts)

    def update(self, document: dict[str, Any]) -> dict[str, Any]:
        update: dict[str, dict[str, Any]] = {}
        chosen: list[str] = []
        for _ in range(self.random.randint(1, 5)):
            path = self.path(document)
            if not any(_conflict(path, other) for other in chosen):
                chosen.append(path)
                operator = self.random.choice(["$set", "$set", "$unset"])
                update.setdefault(operator, {})[path] = self.value(1) if operator == "$set" else ""
        return update

    def _part(self, node: Any) -> str:
        if isinstance(node, dict) and node and self.random.random() < 0.7:
            return self.random.choice(list(node))
        if isinstance(node, list):
            return self.random.choice(NUMBERS)
        return self.random.choice(NAMES + NUMBERS)

    @staticmethod
    def _child(node: Any, part: str) -> Any:
        if isinstance(node, dict):
            return node.get(part)
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            return node[int(part)]
        return None


def _conflict(path: str, other: str) -> bool:
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")


@pytest.mark.usefixtures("mongodb")
def test_the_computed_document_is_what_the_server_stores() -> None:
    """Of the updates that the server accepts at least 94 in 100 are computed, and each computed one is right."""
    raw = values.EXACT.with_options(document_class=RawBSONDocument)
    collection = mongoengine.get_db().get_collection("after_image", codec_options=raw)
    accepted = declined = only_replaced = 0
    for seed in range(ROUNDS):
        befores, updates, afters = _one_round(collection, Cases(seed))
        for number, before in befores.items():
            if number not in afters:
                continue
            accepted += 1
            update = ComputedUpdate.of(updates[number], values.EXACT)
            computed = None if update is None else update.after(before)
            if computed is None:
                declined += 1
                continue
            assert computed.image == afters[number], (values.decode(before), updates[number])
            if computed.replaced is not None:
                only_replaced += 1
                assert computed.replaced == replaced_values(before, computed.image)
    assert accepted > ROUNDS * AT_ONCE * 0.4
    assert declined < accepted * 0.06
    assert only_replaced > accepted * 0.05


def _one_round(
    collection: Any, cases: Cases
) -> tuple[dict[int, bytes], dict[int, dict[str, Any]], dict[int, bytes]]:
    """Documents before, the updates, and documents after; without those that the server refused."""
    collection.delete_many({})
    # Updates of `_id` are declined: they may be no update at all.
    states = {number: cases.document() for number in range(AT_ONCE)}
    documents = [{"_id": number, **state} for number, state in states.items()]
    collection.insert_many([RawBSONDocument(values.encode(document)) for document in documents])
    befores = {found["_id"]: bytes(found.raw) for found in collection.find()}
    updates = {number: cases.update(state) for number, state in states.items()}
    refused: set[int] = set()
    try:
        collection.bulk_write([UpdateOne({"_id": one}, updates[one]) for one in states], ordered=False)
    except BulkWriteError as error:
        refused = {failure["index"] for failure in error.details["writeErrors"]}
    afters = {found["_id"]: bytes(found.raw) for found in collection.find() if found["_id"] not in refused}
    return befores, updates, afters


def test_an_error_free_update_of_a_plain_field_is_never_declined() -> None:
    """What MongoEngine sends for an ordinary save is computed."""
    options: CodecOptions[dict[str, Any]] = CodecOptions()
    before = values.encode({"_id": 1, "a": {"b": [1, {"c": 2}]}, "d": 1})
    after = after_update(before, {"$set": {"a.b.1.c": 3, "e": 1}, "$unset": {"d": 1}}, options)
    assert after == values.encode({"_id": 1, "a": {"b": [1, {"c": 3}]}, "e": 1})
