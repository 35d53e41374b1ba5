"""
How far a conversion is: the passes over its source, and who is at which part of them.

Note [Passes and leases]
A pass goes through documents in the order of their keys. Whoever takes the next ones moves `upto` behind them and leaves a
lease in one write, which only goes through if nobody else wrote in between; so no range is taken twice, and none is lost: a
lease is removed when its versions are stored, and one whose owner is gone, or has not renewed it in time, is taken over. The
first pass goes through everything. Each later one through the documents of which rows may have been stored since the one
before it began; keys need not ascend for that.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId

from django_mongo_history.conversion import owners
from django_mongo_history.conversion.record import Record, Stored
from django_mongo_history.conversion.report import Counts
from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT

LEASE_S: Final = 60.0
"""How long a range is left to its owner that gives no sign of life, where it cannot be looked for."""

_MOST_BAD: Final = 100
"""Bad rows that the record names."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A range of keys, `above` exclusive, `upto` not. `since`: of the pass that it belongs to."""

    id: ObjectId
    above: Any
    upto: Any
    since: datetime | None
    is_taken_over: bool = False


class Checkpoint:
    """How far the conversion of a record is. `lease_s`: how long a range is left to whoever gives no sign of life."""

    def __init__(self, record: Record, *, lease_s: float = LEASE_S) -> None:
        self._record = record
        self._now = record.now
        self._lease = timedelta(seconds=lease_s)
        self._owner = owners.new_owner()

    # -- passes ----------------------------------------------------------------------------------------------------

    def enter(self, *, skew: timedelta, since: datetime | None = None) -> Stored:
        """
        The pass that is on its way, or the next one.

        `since`: go back so far at least, which begins a pass that does not reach so far anew. `skew`: by how much clocks
        may differ, so far each pass reaches back behind the one before it.
        """

        def change(record: Stored) -> Stored | None:
            current = record["pass"]
            if current is not None:
                if since is None or current["since"] is None or current["since"] <= since:
                    return None
                current["since"], current["upto"], current["is_read"] = since, None, False
                return record
            done = record["caught_up_to"]
            start = None if done is None else min(done - skew, since or done)
            record["pass"] = {
                "id": ObjectId(),
                "since": start,
                "begun_at": self._now(),
                "upto": None,
                "is_read": False,
                "leases": [],
                "found": 0,
            }
            return record

        current: Stored = self._record.change(change)["pass"]
        return current

    def take(self, current: Stored, above: Any, upto: Any) -> Lease | None:
        """The range between two keys, where `above` is how far the pass is; None where another was faster."""
        lease = Lease(ObjectId(), above, upto, current["since"])
        is_taken = False

        def change(record: Stored) -> Stored | None:
            nonlocal is_taken
            is_taken = False
            now = record["pass"]
            if now is None or now["id"] != current["id"] or now["since"] != current["since"]:
                return None
            if not _is_same(_key(now["upto"]), above):
                return None
            now["upto"] = _stored_key(upto)
            now["leases"].append(self._entry(lease))
            is_taken = True
            return record

        self._record.change(change)
        return lease if is_taken else None

    def take_over(self, held: Container[ObjectId] = ()) -> Lease | None:
        """
        A range whose owner is gone, has left it, or has not been heard of in time. `held`: the leases that this one is at.
        """
        taken: Lease | None = None

        def change(record: Stored) -> Stored | None:
            nonlocal taken
            taken = None
            current = record["pass"]
            for entry in () if current is None else current["leases"]:
                is_left = entry["until"] < self._now() or owners.is_gone(entry["owner"])
                if is_left and entry["id"] not in held:
                    taken = Lease(
                        ObjectId(),
                        _key(entry["above"]),
                        _key(entry["upto"]),
                        current["since"],
                        is_taken_over=True,
                    )
                    current["leases"].remove(entry)
                    current["leases"].append(self._entry(taken))
                    return record
            return None

        self._record.change(change)
        return taken

    def split(self, lease: Lease, at: Any) -> Lease:
        """Keep the part of a range up to a key, and leave what is above it to whoever comes. The same where it was taken over."""
        kept = Lease(lease.id, lease.above, at, lease.since, is_taken_over=lease.is_taken_over)
        rest = Lease(ObjectId(), at, lease.upto, lease.since)

        def change(record: Stored) -> Stored | None:
            for entry in () if record["pass"] is None else record["pass"]["leases"]:
                if entry["id"] == lease.id:
                    entry["upto"] = _stored_key(at)
                    record["pass"]["leases"].append({**self._entry(rest), "until": record["begun_at"]})
                    return record
            return None

        self._record.change(change)
        return kept

    def renew(self, lease: Lease) -> bool:
        """Say that the owner is at it; False where the range was taken over."""
        is_mine = False

        def change(record: Stored) -> Stored | None:
            nonlocal is_mine
            is_mine = False
            for entry in () if record["pass"] is None else record["pass"]["leases"]:
                if entry["id"] == lease.id:
                    entry["until"] = self._now() + self._lease
                    is_mine = True
                    return record
            return None

        self._record.change(change)
        return is_mine

    def finish(self, lease: Lease, counts: Counts, bad: list[Any], found: int) -> bool:
        """The range is done, its versions are stored. `found`: documents with something new. False: it was taken over."""
        is_mine = False

        def change(record: Stored) -> Stored | None:
            nonlocal is_mine
            is_mine = False
            current = record["pass"]
            left = [] if current is None else [one for one in current["leases"] if one["id"] != lease.id]
            if current is None or len(left) == len(current["leases"]):
                return None
            current["leases"] = left
            current["found"] += found
            total = Counts.from_dict(record["counts"])
            total.add(counts)
            record["counts"] = total.to_dict()
            record["bad"] = [*record["bad"], *bad][:_MOST_BAD]
            is_mine = True
            return record

        self._record.change(change)
        return is_mine

    def release(self) -> None:
        """Leave all ranges of this owner to whoever comes: it ends before they are done."""

        def change(record: Stored) -> Stored | None:
            current = record["pass"]
            mine = (
                []
                if current is None
                else [one for one in current["leases"] if one["owner"]["id"] == self._owner["id"]]
            )
            for entry in mine:
                entry["until"] = record["begun_at"]
            return record if mine else None

        self._record.change(change)

    def end_reading(self, current: Stored) -> None:
        """There are no keys above how far the pass is."""

        def change(record: Stored) -> Stored | None:
            now = record["pass"]
            if (
                now is None
                or now["id"] != current["id"]
                or now["is_read"]
                or now["since"] != current["since"]
            ):
                return None
            now["is_read"] = True
            return record

        self._record.change(change)

    def leave(self, current: Stored) -> Stored | None:
        """End the pass where all of it is done: the pass as it was; None where ranges are still with others."""
        ended: Stored | None = None

        def change(record: Stored) -> Stored | None:
            nonlocal ended
            ended = None
            now = record["pass"]
            if now is None or now["id"] != current["id"]:
                ended = current  # another run has ended it
                return None
            if not now["is_read"] or now["leases"]:
                return None
            ended = now
            record["caught_up_to"] = max(now["begun_at"], record["caught_up_to"] or now["begun_at"])
            record["pass"] = None
            return record

        self._record.change(change)
        return ended

    # -- inside ----------------------------------------------------------------------------------------------------

    def _entry(self, lease: Lease) -> Stored:
        return {
            "id": lease.id,
            "above": _stored_key(lease.above),
            "upto": _stored_key(lease.upto),
            "owner": self._owner,
            "until": self._now() + self._lease,
        }


def _stored_key(key: Any) -> Any:
    return None if key is ABSENT else {"key": key}


def _key(stored: Any) -> Any:
    return ABSENT if stored is None else stored["key"]


def _is_same(one: Any, other: Any) -> bool:
    if one is ABSENT or other is ABSENT:
        return one is other
    return values.same(one, other)
