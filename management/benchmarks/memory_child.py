"""The process in which one write of many documents is made; answers how far its memory rose, in kilobytes."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path
from typing import Any

import mongoengine

from management.benchmarks.children import answer, questions, told
from management.benchmarks.surroundings import Place, collection_of, connect, set_up_django

STATUS = Path("/proc/self/status")
SETTLED = -1
"""The number of the document with which everything is done once before."""


class MemoryCounter(mongoengine.Document):  # type: ignore[misc]
    """What is written."""

    number = mongoengine.IntField(primary_key=True)
    group = mongoengine.StringField()
    text = mongoengine.StringField()
    state = mongoengine.StringField()
    meta = {"collection": "memory_counter"}


def document(number: int) -> dict[str, Any]:
    """A document of about 250 bytes, as the driver takes it."""
    return {"_id": number, "group": "all", "text": "x" * 170, "state": "new"}


def main() -> None:
    said = told()
    set_up_django()
    connect(Place(*said["place"]))
    if said["delivery"]:
        from django_mongo_history import track

        track(MemoryCounter, delivery=said["delivery"])
    for _question in questions():
        answer(_risen(said["kind"], said["size"]))


def _risen(kind: str, size: int) -> int:
    collection_of(MemoryCounter).insert_one({**document(SETTLED), "group": "one"})
    _write("update", "one", 1, [])
    _write("delete", "one", 1, [])
    documents = [document(index) for index in range(size)] if kind == "insert of a list" else []
    gc.collect()
    start = _forget_peak()
    _write(kind, "all", size, documents)
    return peak() - start


def _write(kind: str, group: str, size: int, documents: list[dict[str, Any]]) -> None:
    collection = collection_of(MemoryCounter)
    if kind == "update":
        collection.update_many({"group": group}, {"$set": {"state": "changed"}})
    elif kind == "delete":
        collection.delete_many({"group": group})
    elif kind == "insert of a list":
        collection.insert_many(documents)
    else:
        collection.insert_many(document(index) for index in range(size))


def _forget_peak() -> int:
    """Make the present the peak, where the system can, and return it in kilobytes."""
    if not STATUS.exists():
        return peak()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def peak() -> int:
    """
    The largest resident memory so far, in kilobytes.

    From the kernel's own account where there is one: what `resource` tells begins at the parent's peak.
    """
    if STATUS.exists():
        lines = STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 1024 if sys.platform == "darwin" else most


if __name__ == "__main__":
    main()
