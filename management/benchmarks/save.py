"""
One save, four ways in turn: plain MongoEngine, the raw floor, and tracked in `atomic` and in `sync`.

The floor is what any atomic history must pay: one transaction of a `find_one_and_update` and an `insert_one` of a row
like ours, made with PyMongo, without MongoEngine's own work on the document; so it is also given with that work added.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import django
import mongoengine
from bson import ObjectId
from django.conf import settings

from management.servers import running_server

Save = Callable[[int], Any]


def run(*, rounds: int) -> None:
    """Print the medians as ratios to the plain save and to the floor."""
    settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"], USE_TZ=True)
    django.setup()
    with running_server() as uri:
        mongoengine.connect("history_benchmark", host=uri, uuidRepresentation="standard")
        try:
            _print(_cases(), rounds)
        finally:
            mongoengine.get_connection().drop_database("history_benchmark")
            mongoengine.disconnect()


def _print(cases: Mapping[str, Mapping[str, Save]], rounds: int) -> None:
    print(f"{'':24}{'plain':>8}{'floor':>8}{'floor+':>8}{'atomic':>8}{'sync':>8}  atomic/floor+")
    for name, ways in cases.items():
        medians = _measure(ways, rounds)
        # What MongoEngine does before and after the driver's update is in ours too, and not in the raw floor.
        floor = medians["floor"] + medians["plain"] - medians["update"]
        shown = [medians["plain"], medians["floor"], floor, medians["atomic"], medians["sync"]]
        ratios = "".join(f"{value / medians['plain']:8.2f}" for value in shown)
        print(f"{name:24}{ratios}  {medians['atomic'] / floor:13.2f}", flush=True)
    print("Ratios to a plain save. floor: the raw transaction; floor+: with MongoEngine's own work added.")


def _measure(ways: Mapping[str, Save], rounds: int) -> dict[str, float]:
    """Median seconds of each way; the ways take turns, so that a slow moment is everybody's."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(1, rounds + 1):
        for name, save in ways.items():
            start = time.perf_counter()
            save(number)
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[rounds // 10 :]) for name, times in taken.items()}


def _cases() -> dict[str, dict[str, Save]]:
    from django_mongo_history import track

    plain, atomic, sync = (_document_class(name) for name in ("Plain", "Atomic", "Sync"))
    track(atomic)
    track(sync, delivery="sync")
    return {
        "one field": _ways((plain, atomic, sync), _one_field),
        "five fields": _ways((plain, atomic, sync), _five_fields),
        "1 of 1,000 embedded": _ways((plain, atomic, sync), _one_of_many, items=1000),
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


def _ways(
    classes: tuple[Any, Any, Any], change: Callable[[Any, int], dict[str, Any]], *, items: int = 0
) -> dict[str, Save]:
    documents = [_saved(document_class, items) for document_class in classes]
    database = mongoengine.get_db()
    raw = database["plain"].find_one({"_id": documents[0].pk})
    raw_id = database["floor"].insert_one({**raw, "_id": ObjectId()}).inserted_id
    row = database["document_history"].find_one() or {}

    def save(document: Any) -> Save:
        def one(number: int) -> None:
            change(document, number)
            document.save()

        return one

    def floor(number: int) -> None:
        client = database.client
        with client.start_session(causal_consistency=False) as session, session.start_transaction():
            update = {"$set": _values(change, number)}
            database["floor"].find_one_and_update({"_id": raw_id}, update, session=session)
            database["floor_history"].insert_one({**row, "_id": ObjectId()}, session=session)

    def update(number: int) -> None:
        database["floor"].update_one({"_id": raw_id}, {"$set": _values(change, number)})

    _prepare(database["floor_history"])
    plain, atomic, sync = documents
    return {
        "plain": save(plain),
        "floor": floor,
        "update": update,
        "atomic": save(atomic),
        "sync": save(sync),
    }


def _saved(document_class: Any, items: int) -> Any:
    filled = [document_class.Item(number=number, text="x" * 20) for number in range(items)]
    return document_class(items=filled, **{f"field_{index}": 0 for index in range(10)}).save()


class _Blank:
    """Takes the assignments of a change; what the raw ways need is what it sends."""

    def __getitem__(self, name: str) -> Any:
        return {500: self}

    def __setattr__(self, name: str, value: Any) -> None:
        return None


def _values(change: Callable[[Any, int], dict[str, Any]], number: int) -> dict[str, Any]:
    return change(_Blank(), number)


def _prepare(collection: Any) -> None:
    """The floor's rows have the indexes that ours have."""
    from django_mongo_history.storage.mongo import INDEXES

    collection.create_indexes(INDEXES)
