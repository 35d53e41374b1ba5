"""
Writes of many documents in turns: plain, the floor, and tracked in `atomic` and in `sync`.

The floor is what any atomic history must have the server do, in transactions of a chunk each: read the documents as
bytes (but for inserts), write them, and insert as many rows as ours are, made before the time begins, into a
collection with our indexes.

Each round inserts documents of about 250 bytes, sets a field of all, increments one, and deletes them, so that each
kind meets what the one before it left. The history is emptied between rounds: it shall be as large in the last as in
the first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import bson
import mongoengine
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from management.benchmarks.rounds import ratios, shuffled, timed_clean
from management.benchmarks.surroundings import (
    bench_place,
    collection_of,
    facts,
    history_with_indexes,
    say,
    set_up_django,
)
from management.benchmarks.tables import Table

SIZES, LARGE = (1_000, 10_000), 100_000
COLUMNS = ("write of many", "documents", "floor", "`atomic`", "`sync`", "`atomic` to floor")
KINDS = (
    "`insert_many`",
    "queryset `insert`",
    "queryset `update`, `$set`",
    "queryset `update`, `$inc`",
    "queryset `delete`",
)
INSERTS = KINDS[:2]
FEWEST_ROUNDS = 3
SAMPLE = 100
"""Documents of the rounds that do not count, in which the floor learns what rows there are."""
CHUNK_SIZE = 1_000  # as the package's by default
FILTER = {"group": "all"}
_NOTE = (
    "To the plain write: the median, quartiles in parentheses; rounds: {counts} documents. Floor: transactions of "
    "1,000 documents that read, write, and insert ready-made rows into our indexes."
)
Took = dict[str, dict[str, list[float]]]
"""Kind of write, then way, to seconds round by round."""


def measure(*, rounds: int, is_large: bool) -> Table:
    """Ratios to the plain write."""
    table = Table("many", COLUMNS)
    set_up_django()
    with bench_place():
        ways = _ways()
        _take_turns(ways, size=SAMPLE, rounds=2)
        sizes = (*SIZES, LARGE) if is_large else SIZES
        measured = {size: _take_turns(ways, size=size, rounds=rounds_of(size, rounds)) for size in sizes}
        table.rows = [row for kind in KINDS for row in _rows(kind, measured)]
        counts = ", ".join(f"{rounds_of(size, rounds)} of {size:,}" for size in sizes)
        table.notes = [_NOTE.format(counts=counts), facts()]
    return table


def rounds_of(size: int, rounds: int) -> int:
    """Fewer rounds of larger writes: `rounds` of the smallest, in proportion to the root of the size, three at least."""
    return max(FEWEST_ROUNDS, round(rounds * math.sqrt(SIZES[0] / size)))


def _rows(kind: str, measured: Mapping[int, Took]) -> list[list[str]]:
    rows = []
    for size, took in measured.items():
        ways = took[kind]
        to_plain = [ratios(ways[name], ways["plain"]) for name in ("floor", "atomic", "sync")]
        rows.append([kind, f"{size:,}", *map(str, [*to_plain, ratios(ways["atomic"], ways["floor"])])])
    return rows


def _take_turns(ways: Mapping[str, ManyWays], *, size: int, rounds: int) -> Took:
    took: Took = defaultdict(lambda: defaultdict(list))
    for number in range(1, rounds + 1):
        say(f"{size:,} documents, round {number} of {rounds}")
        history = history_with_indexes()
        for kind in KINDS:
            for name in shuffled(list(ways), number):
                took[kind][name].append(ways[name].seconds(kind, size, number))
                if name == "atomic" and size == SAMPLE:
                    ways["floor"].learn(kind, history)
        for way in ways.values():
            way.end_round()
    return took


class ManyWays:
    """The writes of one class, each made ready outside its time."""

    def __init__(self, document_class: Any) -> None:
        self.document_class = document_class

    def seconds(self, kind: str, size: int, number: int) -> float:
        """One write of a kind, in the round of this number."""
        documents = self._documents(size) if kind in INSERTS else []
        if kind == "`insert_many`":
            self.collection.drop()
            raw = [document.to_mongo() for document in documents]
            seconds = timed_clean(partial(self.collection.insert_many, raw))
            self.collection.drop()  # what follows begins with the queryset's
            return seconds
        if kind == "queryset `insert`":
            return timed_clean(partial(self.document_class.objects.insert, documents, load_bulk=False))
        found = self.document_class.objects(**FILTER)
        if kind == "queryset `delete`":
            return timed_clean(found.delete)
        return timed_clean(partial(found.update, __raw__=_update(kind, number)))

    def learn(self, kind: str, history: Any) -> None:
        """See what rows the package stores."""

    def end_round(self) -> None:
        """Leave nothing to the next one."""
        self.collection.drop()

    def _documents(self, size: int) -> list[Any]:
        return [_document(self.document_class, index) for index in range(size)]

    @property
    def collection(self) -> Any:
        return collection_of(self.document_class)


class FloorWays(ManyWays):
    """The same by PyMongo, in transactions, each with rows like ours."""

    def __init__(self, document_class: Any) -> None:
        super().__init__(document_class)
        self.history = history_with_indexes("many_floor_history")
        self._samples: dict[str, dict[str, Any]] = {}

    def learn(self, kind: str, history: Any) -> None:
        row = history.find_one(sort=[("_id", -1)])
        assert row is not None
        self._samples[kind] = row

    def seconds(self, kind: str, size: int, number: int) -> float:
        rows = self._made(kind, size) if kind in self._samples else []
        documents = self._documents(size) if kind in INSERTS else []
        if kind == "`insert_many`":
            raw = [document.to_mongo() for document in documents]
            seconds = timed_clean(partial(self._insert, raw, rows))
            self.collection.drop()
            return seconds
        if kind == "queryset `insert`":
            return timed_clean(lambda: self._insert([document.to_mongo() for document in documents], rows))
        return timed_clean(partial(self._change, kind, number, rows))

    def end_round(self) -> None:
        super().end_round()
        self.history = history_with_indexes("many_floor_history")

    def _made(self, kind: str, size: int) -> list[RawBSONDocument]:
        sample = self._samples[kind]
        rows = ({**sample, "_id": ObjectId(), "document_id": ObjectId()} for _ in range(size))
        return [RawBSONDocument(bson.encode(row)) for row in rows]

    def _insert(self, documents: list[Any], rows: list[RawBSONDocument]) -> None:
        for low in range(0, len(documents), CHUNK_SIZE):
            chunk = documents[low : low + CHUNK_SIZE]
            self._in_transaction(partial(self.collection.insert_many, chunk), rows[low : low + CHUNK_SIZE])

    def _change(self, kind: str, number: int, rows: list[RawBSONDocument]) -> None:
        raw = self.collection.with_options(codec_options=CodecOptions(document_class=RawBSONDocument))
        ids = [document["_id"] for document in raw.find(FILTER)]
        for low in range(0, len(ids), CHUNK_SIZE):
            wanted = {"_id": {"$in": ids[low : low + CHUNK_SIZE]}}
            write = (
                partial(self.collection.delete_many, wanted)
                if kind == "queryset `delete`"
                else partial(self.collection.update_many, wanted, _update(kind, number))
            )
            self._in_transaction(write, rows[low : low + CHUNK_SIZE])

    def _in_transaction(self, write: Callable[..., Any], rows: list[RawBSONDocument]) -> None:
        client = self.collection.database.client
        with client.start_session(causal_consistency=False) as session, session.start_transaction():
            write(session=session)
            if rows:
                self.history.insert_many(rows, ordered=False, session=session)


def _update(kind: str, number: int) -> dict[str, Any]:
    return {"$inc": {"count": 1}} if kind.endswith("`$inc`") else {"$set": {"state": f"state {number}"}}


def _ways() -> dict[str, ManyWays]:
    from django_mongo_history import track

    classes = {name: _document_class(name) for name in ("plain", "floor", "atomic", "sync")}
    track(classes["atomic"], delivery="atomic")
    track(classes["sync"], delivery="sync")
    return {
        name: (FloorWays if name == "floor" else ManyWays)(document_class)
        for name, document_class in classes.items()
    }


def _document_class(name: str) -> Any:
    fields = {
        "group": mongoengine.StringField(),
        "state": mongoengine.StringField(),
        "count": mongoengine.IntField(),
        "title": mongoengine.StringField(),
        "text": mongoengine.StringField(),
        "price": mongoengine.FloatField(),
        "tags": mongoengine.ListField(mongoengine.StringField()),
    }
    meta = {"collection": f"many_{name}"}
    return type(f"Many{name.title()}", (mongoengine.Document,), {**fields, "meta": meta})


def _document(document_class: Any, index: int) -> Any:
    """A document of about 250 bytes."""
    return document_class(
        group="all",
        state="new",
        count=index,
        title=f"The title of number {index}",
        text="x" * 80,
        price=index / 7,
        tags=["red", "green"],
    )
