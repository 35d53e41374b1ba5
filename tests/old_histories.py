"""
Projects with a home-made history, simulated: rows as mongoengine-history leaves them, from documents that change.

What the rows look like is written down from the package's documented behaviour; the differences are dictdiffer's own, as
they are there. Every state is recorded beside, to be compared with what conversion makes of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dictdiffer
from bson import ObjectId

State = dict[str, Any]


@dataclass
class OldTracker:
    """
    One process with mongoengine-history. `rows` are its rows, `states` the recorded copies: by document, (moment, state).

    `item_key`: "key" as 1.1 spells it, "index" as 1.0. `zone`: the local time in which rows are stored.
    """

    document_type: str
    item_key: str = "key"
    zone: str = "UTC"
    now: datetime = datetime(2024, 3, 1, 12, tzinfo=UTC)
    pause: timedelta = timedelta(minutes=1)
    process: bytes = b"\x01\x02\x03\x04\x05"
    rows: list[State] = field(default_factory=list)
    states: dict[Any, list[tuple[datetime, State]]] = field(default_factory=dict)
    _counter: int = 1000

    def mint(self) -> ObjectId:
        """The next id of this process, at its own time."""
        self._counter += 1
        return ObjectId(
            int(self.now.timestamp()).to_bytes(4, "big") + self.process + self._counter.to_bytes(3, "big")
        )

    def local(self) -> datetime:
        """Now, as `datetime.now()` says it and as it is stored: as if it were UTC, to the millisecond."""
        local = self.now.astimezone(ZoneInfo(self.zone)).replace(tzinfo=UTC)
        return local.replace(microsecond=local.microsecond // 1000 * 1000)

    def begin(self, document: State) -> None:
        """A document as it was when nothing was tracked yet."""
        self.states[_name(document)] = [(self.now, deepcopy(document))]

    def save(self, before: State, after: State, identity: Any = None) -> list[State]:
        """One save of a tracked document: a row for each entry. The next one is a pause later."""
        self.now += self.pause
        made = [self._row(entry, after["_id"], identity) for entry in _entries(before, after)]
        self.rows.extend(made)
        self.states.setdefault(_name(after), []).append((self.now, deepcopy(after)))
        self.now += timedelta(milliseconds=len(made))
        return made

    def untracked(self, after: State) -> None:
        """A write that went past the tracker: no row."""
        self.now += self.pause
        self.states.setdefault(_name(after), []).append((self.now, deepcopy(after)))

    def _row(self, entry: Any, document_id: Any, identity: Any) -> State:
        action, path, payload = entry
        if action == "change":
            data: State = {"old": payload[0], "new": payload[1]}
        else:
            data = {"items": [{self.item_key: key, "value": value} for key, value in payload]}
        row = {
            "_id": self.mint(),
            "identity": identity,
            "document_id": document_id,
            "document_type": self.document_type,
            "action": action,
            "path": ".".join(map(str, path)),
            "data": deepcopy(data),
            "created_at": self.local(),
        }
        if identity is None:
            del row["identity"]
        return row


def _entries(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Any]:
    yield from dictdiffer.diff(dict(before), dict(after), ignore=["_id"], dot_notation=False)


def _name(document: Mapping[str, Any]) -> Any:
    return document["_id"]


def store(database: Any, tracker: OldTracker, documents: Iterable[State]) -> None:
    """Put documents as they are now, and the rows of their old history, into a database."""
    documents = list(documents)
    if documents:
        database[tracker.document_type].insert_many(documents)
    if tracker.rows:
        database["history"].insert_many(deepcopy(tracker.rows))


def last_states(tracker: OldTracker) -> list[State]:
    """Every document as it is now."""
    return [deepcopy(states[-1][1]) for states in tracker.states.values()]
