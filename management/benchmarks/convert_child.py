"""The process in which an old history is converted, and the one in which its rows are read and the same versions written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from management.benchmarks.children import answer, questions, told
from management.benchmarks.memory_child import peak
from management.benchmarks.surroundings import HISTORY, Place, connect, set_up_django

ROWS_OF_ONE = 20
_AT_ONCE = 1_000
_BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)


class ConvertBench(mongoengine.Document):  # type: ignore[misc]
    """What has an old history."""

    name = mongoengine.StringField()
    price = mongoengine.FloatField()
    count = mongoengine.IntField()
    tags = mongoengine.ListField(mongoengine.StringField())
    text = mongoengine.StringField()
    info = mongoengine.DictField()
    meta = {"collection": "convert_bench"}


def fill(database: Any, documents: int) -> None:
    """Documents of about 300 bytes and the rows of 20 saves each: fields of several kinds, and lists that grow."""
    made: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number in range(documents):
        document, history = _made(number)
        made.append(document)
        rows.extend(history)
        if len(made) == _AT_ONCE or number == documents - 1:
            database["convert_bench"].insert_many(made)
            database["history"].insert_many(rows)
            made, rows = [], []


def _made(number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    document: dict[str, Any] = {
        "_id": ObjectId(),
        "name": f"name {number}",
        "price": 1.5,
        "count": 0,
        "tags": ["red"],
        "text": "x" * 120,
        "info": {"size": 3, "place": {"shelf": "a", "row": 1}},
    }
    rows = []
    for step in range(ROWS_OF_ONE):
        at = _BEGIN + timedelta(minutes=number % 1000, hours=step * 7)
        action, path, data = _change(document, step)
        rows.append(
            {
                "_id": ObjectId(int(at.timestamp()).to_bytes(4, "big") + ObjectId().binary[4:]),
                "document_id": document["_id"],
                "document_type": "convert_bench",
                "action": action,
                "path": path,
                "data": data,
                "created_at": at,
            }
        )
    return document, rows


def _change(document: dict[str, Any], step: int) -> tuple[str, str, dict[str, Any]]:
    """Change the document and say how, as dictdiffer would."""
    if step % 5 == 4:
        document["tags"].append(f"tag {step}")
        return "add", "tags", {"items": [{"key": len(document["tags"]) - 1, "value": f"tag {step}"}]}
    name, value = (("name", f"name {step}"), ("price", step / 3), ("count", step + 1))[step % 3]
    if step % 4 == 1:
        old, document["info"]["place"]["row"] = document["info"]["place"]["row"], step + 100
        return "change", "info.place.row", {"old": old, "new": step + 100}
    old, document[name] = document[name], value
    return "change", name, {"old": old, "new": value}


def main() -> None:
    said = told()
    set_up_django()
    connect(Place(*said["place"]))
    for question in questions():
        answer(_convert() if question["call"] == "convert" else _floor())


def _convert() -> dict[str, Any]:
    from django_mongo_history import HistoryConverter, track

    track(ConvertBench)
    begin = time.perf_counter()
    report = HistoryConverter(ConvertBench, "mongoengine-history", source_timezone="UTC").convert_all()
    seconds = time.perf_counter() - begin
    return {"rows": report.counts.converted, "seconds": seconds, "peak": peak()}


def _floor() -> dict[str, Any]:
    database = mongoengine.get_db()
    begin = time.perf_counter()
    rows = 0
    with closing(database.get_collection("history", codec_options=_RAW).find()) as found:
        for _row in found:
            rows += 1
    seconds = time.perf_counter() - begin
    floor = database.get_collection("convert_floor", codec_options=_RAW)
    for some in _portions(database.get_collection(HISTORY, codec_options=_RAW).find()):
        begin = time.perf_counter()
        floor.insert_many(some, ordered=False)
        seconds += time.perf_counter() - begin
    return {"rows": rows, "seconds": seconds, "peak": peak()}


def _portions(found: Any) -> Iterator[list[Any]]:
    some: list[Any] = []
    for one in found:
        some.append(RawBSONDocument(bytes(one.raw)))
        if len(some) == 5 * _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


if __name__ == "__main__":
    main()
