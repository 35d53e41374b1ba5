"""
One save in turns: plain MongoEngine, the floor in two forms, and tracked in `atomic` and in `sync`.

The floor is what any atomic history must pay: one transaction of a `find_one_and_update` and an `insert_one` of a row
like ours. Raw, it is PyMongo alone, on a session that is kept, into a collection with no index but that of `_id`. With
MongoEngine's own work it is a `save()` whose driver's update is that transaction, into a collection with our indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import bson
import mongoengine
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.results import UpdateResult

from management.benchmarks import rounds as turns
from management.benchmarks.rounds import Way, ratios, timed
from management.benchmarks.surroundings import (
    HISTORY,
    bench_place,
    facts,
    history_with_indexes,
    say,
    set_up_django,
)
from management.benchmarks.tables import Table

COLUMNS = (
    "save of",
    "raw floor",
    "floor",
    "`atomic`",
    "`sync`",
    "`atomic` to raw floor",
    "`atomic` to floor",
)
SAVES = 5
"""In a row, at each turn of a way."""
SAMPLE = 21
_NOTE = (
    "To a plain save: the median of {rounds} rounds of {saves} saves, quartiles in parentheses; the last two columns to the floors. "
    "Raw floor: PyMongo alone, one transaction of `find_one_and_update` and `insert_one`. Floor: the same "
    "with MongoEngine's own work and our indexes."
)
Change = Callable[[Any, int], dict[str, Any]]
"""Change a document as the round says; what the driver's `$set` is then."""


def measure(*, rounds: int) -> Table:
    """Ratios to a plain save, and of `atomic` to both floors."""
    table = Table("save", COLUMNS)
    set_up_django()
    with bench_place():
        for name, ways in _cases().items():
            say(f"save of {name}")
            several = {way: _several(once) for way, once in ways.items()}
            took = turns.interleave(several, rounds=rounds, warmup=max(5, rounds // 10))
            table.rows.append([name, *_cells(took)])
        table.notes = [_NOTE.format(rounds=rounds, saves=SAVES), facts()]
    return table


def _several(once: Way) -> Way:
    """So many in a row that it does not matter in which phase of the server's journal they begin."""
    return lambda number: sum(once(number * SAVES + index) for index in range(SAVES))


def _cells(took: Mapping[str, list[float]]) -> list[str]:
    to_plain = [ratios(took[name], took["plain"]) for name in ("raw floor", "floor", "atomic", "sync")]
    to_floors = [ratios(took["atomic"], took[name]) for name in ("raw floor", "floor")]
    return [str(one) for one in [*to_plain, *to_floors]]


def _cases() -> dict[str, dict[str, Way]]:
    from django_mongo_history import track

    classes = {name: _document_class(name) for name in ("Plain", "Floor", "Atomic", "Sync")}
    track(classes["Atomic"], delivery="atomic")
    track(classes["Sync"], delivery="sync")
    return {
        "one field": _ways(classes, _one_field),
        "five fields": _ways(classes, _five_fields),
        "one of 1,000 embedded documents": _ways(classes, _one_of_many, items=1000),
    }


def _document_class(name: str) -> Any:
    class Item(mongoengine.EmbeddedDocument):  # type: ignore[misc]
        number = mongoengine.IntField()
        text = mongoengine.StringField()

    fields = {f"field_{index}": mongoengine.IntField() for index in range(10)}
    items = mongoengine.EmbeddedDocumentListField(Item)
    meta = {"collection": name.lower()}
    return type(name, (mongoengine.Document,), {**fields, "items": items, "meta": meta, "Item": Item})


def _one_field(document: Any, number: int) -> dict[str, Any]:
    document.field_0 = number
    return {"field_0": number}


def _five_fields(document: Any, number: int) -> dict[str, Any]:
    for index in range(5):
        setattr(document, f"field_{index}", number)
    return {f"field_{index}": number for index in range(5)}


def _one_of_many(document: Any, number: int) -> dict[str, Any]:
    document["items"][500].number = number
    return {"items.500.number": number}


def _ways(classes: Mapping[str, Any], change: Change, *, items: int = 0) -> dict[str, Way]:
    documents = {name: _saved(document_class, items) for name, document_class in classes.items()}
    row = _row_of(documents["Atomic"], change)
    database = mongoengine.get_db()
    floor = _FloorCollection(database["floor"], history_with_indexes("floor_history"), row)
    return {
        "plain": partial(_save, documents["Plain"], change),
        "raw floor": _raw_floor(database, documents["Plain"], row, change),
        "floor": partial(_save_over, classes["Floor"], floor, documents["Floor"], change),
        "atomic": partial(_save, documents["Atomic"], change),
        "sync": partial(_save, documents["Sync"], change),
    }


def _save(document: Any, change: Change, number: int) -> float:
    change(document, number)
    return timed(document.save)


def _save_over(document_class: Any, collection: Any, document: Any, change: Change, number: int) -> float:
    document_class._get_collection = classmethod(lambda cls: collection)  # noqa: SLF001 - MongoEngine's own name
    return _save(document, change, number)


def _saved(document_class: Any, items: int) -> Any:
    filled = [document_class.Item(number=number, text="x" * 20) for number in range(items)]
    return document_class(items=filled, **{f"field_{index}": 0 for index in range(10)}).save()


def _row_of(document: Any, change: Change) -> dict[str, Any]:
    """A row of an update as ours is in this case: that of middle size, so that the rare snapshot does not count."""
    history = mongoengine.get_db()[HISTORY]
    for number in range(-SAMPLE, 0):
        change(document, number)
        document.save()
    rows: list[dict[str, Any]] = list(history.find({"document_id": document.pk, "operation": "update"}))
    return sorted(rows, key=lambda row: len(bson.encode(row)))[len(rows) // 2]


def _raw_floor(database: Any, document: Any, row: Mapping[str, Any], change: Change) -> Way:
    raw = database["plain"].find_one({"_id": document.pk})
    raw_id = database["raw_floor"].insert_one({**raw, "_id": ObjectId()}).inserted_id
    collection = _raw(database["raw_floor"])
    session = database.client.start_session(causal_consistency=False)
    history = database["raw_floor_history"]

    def write(update: dict[str, Any]) -> None:
        with session.start_transaction():
            collection.find_one_and_update({"_id": raw_id}, update, session=session)
            history.insert_one({**row, "_id": ObjectId()}, session=session)

    def way(number: int) -> float:
        update = {"$set": change(_Blank(), number)}
        return timed(partial(write, update))

    return way


def _raw(collection: Collection[Any]) -> Collection[Any]:
    """Whole documents as bytes: the floor shall not pay for decoding what it does not look at."""
    return collection.with_options(
        codec_options=collection.codec_options.with_options(document_class=RawBSONDocument)
    )


class _FloorCollection(Collection[Any]):
    """A collection whose `update_one` is the floor's transaction, with a session for each as ours has one."""

    def __init__(self, collection: Collection[Any], history: Any, row: Mapping[str, Any]) -> None:
        super().__init__(
            collection.database,
            collection.name,
            codec_options=collection.codec_options,
            write_concern=collection.write_concern,
        )
        self._beneath, self._history, self._row = _raw(collection), history, row

    def with_options(self, *_args: Any, **_options: Any) -> _FloorCollection:
        return self  # MongoEngine asks for the write concern that it has already

    def update_one(self, filter: Any, update: Any, *_args: Any, **_options: Any) -> UpdateResult:  # noqa: A002
        client = self.database.client
        with client.start_session(causal_consistency=False) as session, session.start_transaction():
            self._beneath.find_one_and_update(filter, update, session=session)
            self._history.insert_one({**self._row, "_id": ObjectId()}, session=session)
        return UpdateResult({"n": 1, "nModified": 1, "updatedExisting": True, "ok": 1.0}, acknowledged=True)


class _Blank:
    """Takes the assignments of a change; what the raw way needs is what it sends."""

    def __getitem__(self, name: str) -> Any:
        return {500: self}

    def __setattr__(self, name: str, value: Any) -> None:
        return None
