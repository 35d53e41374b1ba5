"""
One save in turns by every delivery, a real broker among them; and what a worker stores in the time of plain inserts.

The writer's side only: what is put into a queue has still to be stored by somebody. How long that takes is the second
part: the versions of many messages, stored by the task's own code, against inserts of the same rows one by one and at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import mongoengine
from bson.raw_bson import RawBSONDocument

from management.benchmarks import rounds as turns
from management.benchmarks.rounds import Way, ratios, timed
from management.benchmarks.surroundings import HISTORY, bench_place, facts, say, set_up_django
from management.benchmarks.tables import Table
from management.valkey import Broker

COLUMNS = ("to a plain save", "`sync`", "`atomic`", "`outbox`", "`celery`")
SAVES = 5
"""In a row, at each turn of a way."""
VERSIONS = 200
MODES: Final = ("sync", "atomic", "outbox", "celery")
_NOTE = (
    "The median of {rounds} rounds of {saves} saves of ten numbers, quartiles in parentheses; broker: Valkey on the same machine. "
    "No worker runs meanwhile; what one has to do is told next."
)
_WORKER_NOTE = (
    "A worker's own work on {versions} messages of one version each takes {single} of as many `insert_one`, and on one message that "
    "carries them all {many} of one `insert_many`."
)


def measure(*, rounds: int) -> Table:
    """Ratios to a plain save; and the worker's to plain inserts, in the notes."""
    table = Table("queued", COLUMNS)
    with Broker() as broker:
        set_up_django(MONGO_HISTORY={"BROKER_TIMEOUT_S": 10.0})
        _celery_app(broker.url)
        with bench_place():
            say("one save by each delivery")
            several = {way: _several(once) for way, once in _ways().items()}
            took = turns.interleave(several, rounds=rounds, warmup=max(5, rounds // 10))
            table.rows.append(["one save", *(str(ratios(took[mode], took["plain"])) for mode in MODES)])
            say(f"{VERSIONS} messages, stored as a worker does")
            single, many = _workers(rounds)
            said = _WORKER_NOTE.format(versions=VERSIONS, single=single, many=many)
            table.notes = [_NOTE.format(rounds=rounds, saves=SAVES), said, facts()]
    return table


def _celery_app(url: str) -> Any:
    from celery import Celery

    app = Celery("benchmark", broker=url, set_as_current=True)
    app.set_default()
    return app


def _several(once: Way) -> Way:
    return lambda number: sum(once(number * SAVES + index) for index in range(SAVES))


def _ways() -> dict[str, Way]:
    from django_mongo_history import track

    documents = {}
    for mode in ("plain", *MODES):
        document_class = _document_class(mode.capitalize())
        if mode != "plain":
            track(document_class, delivery=mode)
        documents[mode] = document_class(**{f"field_{index}": 0 for index in range(10)}).save()
    return {mode: partial(_save, document) for mode, document in documents.items()}


def _document_class(name: str) -> Any:
    fields = {f"field_{index}": mongoengine.IntField() for index in range(10)}
    return type(name, (mongoengine.Document,), {**fields, "meta": {"collection": name.lower()}})


def _save(document: Any, number: int) -> float:
    document.field_0 = number
    return timed(document.save)


def _workers(rounds: int) -> tuple[Any, Any]:
    """What storing messages takes, to plain inserts of the same rows: one by one, and all at once."""
    from django_mongo_history import depots
    from django_mongo_history.delivery import moving

    database = mongoengine.get_db()
    rows = _rows(database)
    depot = depots.of("default", database.name)
    store = database[HISTORY]
    raw = [RawBSONDocument(row) for row in rows]

    def clear() -> None:
        store.delete_many({})

    def one_by_one(number: int) -> float:
        clear()
        return timed(lambda: [moving.receive(depot, [row]) for row in rows])

    def all_at_once(number: int) -> float:
        clear()
        return timed(lambda: moving.receive(depot, rows))

    def inserts(number: int) -> float:
        clear()
        return timed(lambda: [store.insert_one(row) for row in raw])

    def insert_many(number: int) -> float:
        clear()
        return timed(lambda: store.insert_many(raw, ordered=False))

    ways: Mapping[str, Way] = {
        "one by one": one_by_one,
        "all": all_at_once,
        "inserts": inserts,
        "insert_many": insert_many,
    }
    took = turns.interleave(ways, rounds=max(3, rounds // 10), warmup=1)
    return ratios(took["one by one"], took["inserts"]), ratios(took["all"], took["insert_many"])


def _rows(database: Any) -> list[bytes]:
    """Rows of as many versions, as messages carry them."""
    from django_mongo_history import depots, track

    database["document_history_outbox"].delete_many({})
    parcel = _document_class("Parcel")
    track(parcel, delivery="outbox")
    for number in range(VERSIONS):
        parcel(**{f"field_{index}": number for index in range(10)}).save()
    depot = depots.of("default", database.name)
    return [packet[-1] for _, packet in depot.outbox.packets()]
