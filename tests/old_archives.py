"""
Projects with archives of whole states, simulated: lives of documents, and the rows that each tool leaves of them.

What rows look like is written down from the tools' documented behaviour. Every state is recorded beside, with who and when.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId

State = dict[str, Any]
BEGIN = datetime(2023, 5, 1, 8, tzinfo=UTC)


@dataclass
class Wrote:
    """One write: when, by whom, and the state after it; None: it was a delete."""

    at: datetime
    user: Any
    state: State | None


@dataclass
class Life:
    """A document from its create on, write by write."""

    id: Any
    writes: list[Wrote] = field(default_factory=list)

    @property
    def last(self) -> State | None:
        return self.writes[-1].state

    def write(self, state: State | None, user: Any = None, pause: timedelta = timedelta(minutes=1)) -> Life:
        at = self.writes[-1].at + pause if self.writes else BEGIN
        self.writes.append(Wrote(at, user, deepcopy(state)))
        return self


def random_lives(
    chance: random.Random, new_id: Callable[[int], Any], count: int = 12, *, deletes: bool = True
) -> list[Life]:
    """Documents that are created, changed up to ten times, and deleted at times; at moments of their own."""
    found = []
    for number in range(count):
        document_id = new_id(number)
        life = Life(document_id)
        state: State = {"_id": document_id, "name": "n", "tags": [], "info": {}}
        life.write(state, "u0")
        for _ in range(chance.randrange(10)):
            state = _changed(state, chance)
            life.write(state, f"u{chance.randrange(4)}", timedelta(milliseconds=chance.randrange(1, 90_000)))
        if deletes and chance.random() < 0.3:
            life.write(None, "remover")
        found.append(life)
    return found


def _changed(state: State, chance: random.Random) -> State:
    changed = deepcopy(state)
    match chance.randrange(7):
        case 0:
            changed["name"] = f"name {chance.randrange(10**6)}"
        case 1:
            changed["tags"].insert(chance.randrange(len(changed["tags"]) + 1), f"t{chance.randrange(99)}")
        case 2:
            changed["info"] = {"a.b": chance.random(), "0": [None, {"x": chance.randrange(9)}]}
        case 3:
            changed["when"] = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(
                milliseconds=chance.randrange(10**9)
            )
        case 4:
            changed["price"] = chance.choice([1, 1.0, True, None])
        case 5:
            changed.pop("price", None)
        case _:
            changed["seen"] = chance.randrange(10**6)
    return changed


def fields_of(state: State | None) -> State:
    return {name: value for name, value in deepcopy(state or {}).items() if name != "_id"}


# -- layouts ---------------------------------------------------------------------------------------------------------


def chrononaut(life: Life) -> Iterator[State]:
    """A row for each write that ended a state."""
    for number, (front, ended) in enumerate(zip(life.writes, life.writes[1:], strict=False)):
        info = {
            "user_id": ended.user,
            "remote_addr": "10.0.0.9",
            "extra": {"rationale": f"why {number}", "ticket": number},
        }
        yield {
            "_id": ObjectId(),
            "id": life.id,
            "version": number,
            **fields_of(front.state),
            "changed": ended.at,
            "change_info": info,
        }


def mongoose_history(life: Life) -> Iterator[State]:
    for number, write in enumerate(life.writes):
        is_delete = write.state is None
        state = life.writes[number - 1].state if is_delete else write.state
        kind = "r" if is_delete else "i" if number == 0 else "u"
        yield {"_id": ObjectId(), "t": write.at, "o": kind, "d": deepcopy(state), "user": write.user}


def mongoose_version(life: Life) -> Iterator[State]:
    """One row; an entry's own id says when. It has neither users nor deletes."""
    kept = [write for write in life.writes if write.state is not None]
    entries = [
        {"_id": _minted(life, write.at, number), **fields_of(write.state), "refVersion": 0}
        for number, write in enumerate(kept)
    ]
    yield {
        "_id": ObjectId(),
        "refId": life.id,
        "created": kept[0].at,
        "modified": kept[-1].at,
        "versions": entries,
        "__v": len(entries),
    }


def mongoose_version_rows(life: Life) -> Iterator[State]:
    """Its other strategy: rows of their own."""
    for number, write in enumerate(life.writes):
        if write.state is not None:
            yield {
                "_id": _minted(life, write.at, number),
                "refId": life.id,
                "refVersion": 0,
                **fields_of(write.state),
                "__v": 0,
            }


def mongo_thingy(life: Life, type_name: str) -> Iterator[State]:
    for number, write in enumerate(life.writes):
        kind = "delete" if write.state is None else "update" if number else "create"
        row = {
            "_id": ObjectId(),
            "document_id": life.id,
            "document_type": type_name,
            "operation": kind,
            "author": write.user,
            "creation_date": write.at,
        }
        yield row if write.state is None else {**row, "document": deepcopy(write.state)}


def versioning_pattern(life: Life) -> Iterator[State]:
    for number, write in enumerate(life.writes, start=1):
        if write.state is not None:
            yield {
                "_id": ObjectId(),
                "bookId": life.id,
                "revision": number,
                "dateSet": write.at,
                **fields_of(write.state),
            }


def _minted(life: Life, at: datetime, number: int) -> ObjectId:
    """An id as a process mints it at that moment; each document has a process of its own."""
    process = hashlib.sha256(repr(life.id).encode()).digest()[:5]
    return ObjectId(int(at.timestamp()).to_bytes(4, "big") + process + number.to_bytes(3, "big"))
