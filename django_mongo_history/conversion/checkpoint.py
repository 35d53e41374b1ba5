"""
How far a conversion is: one document in a collection of its own beside the versions, which no reader of histories looks at.

Note [Passes and leases]
A pass goes through documents in the order of their keys. Whoever takes the next ones moves `upto` behind them and leaves a
lease in one write, which only goes through if nobody else wrote in between; so no range is taken twice, and none is lost: a
lease is removed when its versions are stored, and one whose owner is gone, or has not renewed it in time, is taken over. The
first pass goes through everything. Each later one through the documents of which rows may have been stored since the one
before it began; keys need not ascend for that.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from django_mongo_history.conversion import owners
from django_mongo_history.conversion.report import Counts
from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT
from django_mongo_history.errors import ConversionError

FORMAT: Final = 1
LEASE_S: Final = 60.0
"""How long a range is left to its owner that gives no sign of life, where it cannot be looked for."""

SUFFIX: Final = "_conversions"
"""Behind the name of the collection of versions: where this lies."""

_MOST_BAD: Final = 100
"""Bad rows that the record names."""

Stored = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """A range of keys, `above` exclusive, `upto` not. `since`: of the pass that it belongs to."""

    id: ObjectId
    above: Any
    upto: Any
    since: datetime | None
    is_taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Which conversion: format, place of the rows, namespace of the documents, and the class that it is called for, by its name
    in MongoEngine.
    """

    format: str
    place: str
    target: str
    document_class: str

    def to_bson(self) -> Stored:
        return {
            "format": self.format,
            "target": self.target,
            "place": self.place,
            "document": self.document_class,
        }


class Checkpoint:
    """The record of one conversion. `options`: as text, they are compared. `now` gives aware moments."""

    def __init__(
        self,
        collection: Any,
        identity: Identity,
        options: str,
        *,
        now: Callable[[], datetime],
        lease_s: float = LEASE_S,
    ) -> None:
        self.identity = identity
        self._options = options
        self._now = now
        self._lease = timedelta(seconds=lease_s)
        self._owner = owners.new_owner()
        self._rows = collection
        if isinstance(collection, Collection):
            self._rows = collection.with_options(
                codec_options=values.EXACT,
                read_preference=ReadPreference.PRIMARY,
                read_concern=ReadConcern("local"),
                write_concern=WriteConcern("majority"),  # of the project's own, some have no answer
            )

    # -- the conversion as a whole ---------------------------------------------------------------------------------

    def stored(self) -> Stored | None:
        """What is stored of it; None where it was never begun."""
        found = self._rows.find_one({"_id": self.identity.to_bson()})
        if found is None or isinstance(self._rows, Collection):
            return None if found is None else dict(found)
        return values.decode(values.encode(found))  # mongomock gives moments without a zone

    def check(self, beside: frozenset[str] = frozenset()) -> None:
        """
        Raises: ConversionError where it was begun with other options, or an unfinished one of the same format and documents
        reads other rows. `beside`: places that are converted together with this one.
        """
        mine = self.stored()
        if mine is not None and mine["options"] != self._options:
            raise ConversionError(
                f"{self._said()} was begun with the options {mine['options']}, and is now asked for with "
                f"{self._options}. Give the former, or --restart to forget what was done and begin anew.",
                stored=mine["options"],
                given=self._options,
            )
        for other in self._others():
            place = other["_id"]["place"]
            if place not in beside and not _is_done(other):
                raise ConversionError(
                    f"{self._said()}: a conversion from {place} is not finished, and now {self.identity.place} is asked "
                    "for. Finish that one first, or --restart to forget it.",
                    stored=place,
                    given=self.identity.place,
                )

    def has_other_options(self) -> bool:
        """Whether it was begun with other options: then its versions are not those that would be made now."""
        mine = self.stored()
        return mine is not None and mine["options"] != self._options

    def restart(self) -> None:
        """Forget the conversion, and unfinished ones of other rows of the same format. Versions stay."""
        for other in self._others():
            if not _is_done(other):
                self._rows.delete_one({"_id": other["_id"]})
        self._rows.delete_one({"_id": self.identity.to_bson()})

    def begin(self) -> Stored:
        """Make the record where there is none."""
        found = self.stored()
        if found is not None:
            return found
        with suppress(DuplicateKeyError):  # another run has begun it just now
            self._rows.insert_one(
                {
                    "_id": self.identity.to_bson(),
                    "conversion": FORMAT,
                    "options": self._options,
                    "revision": 0,
                    "begun_at": self._now(),
                    "caught_up_to": None,
                    "pass": None,
                    "counts": {},
                    "bad": [],
                }
            )
        found = self.stored()
        assert found is not None
        return found

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

        current: Stored = self._change(change)["pass"]
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

        self._change(change)
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

        self._change(change)
        return taken

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

        self._change(change)
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

        self._change(change)
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

        self._change(change)

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

        self._change(change)

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

        self._change(change)
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

    def _change(self, change: Callable[[Stored], Stored | None]) -> Stored:
        """The record after a change that was made to what was there: made again where another was faster."""
        while True:
            found = self.stored()
            if found is None:
                raise ConversionError(f"{self._said()}: its record was removed while it ran. Start it again.")
            changed = change(deepcopy(found))
            if changed is None:
                return found
            changed["revision"] = found["revision"] + 1
            guarded = {"_id": self.identity.to_bson(), "revision": found["revision"]}
            if self._rows.replace_one(guarded, changed).matched_count:
                return changed

    def _others(self) -> list[Stored]:
        mine = self.identity.to_bson()
        found = self._rows.find({"conversion": FORMAT})
        return [
            one
            for one in map(dict, found)
            if one["_id"] != mine
            and all(one["_id"].get(name) == mine[name] for name in ("format", "target", "document"))
        ]

    def _said(self) -> str:
        return f"The conversion of {self.identity.document_class} from {self.identity.format}"


def _is_done(record: Mapping[str, Any]) -> bool:
    """Whether the first pass is over."""
    return record["caught_up_to"] is not None


def _stored_key(key: Any) -> Any:
    return None if key is ABSENT else {"key": key}


def _key(stored: Any) -> Any:
    return ABSENT if stored is None else stored["key"]


def _is_same(one: Any, other: Any) -> bool:
    if one is ABSENT or other is ABSENT:
        return one is other
    return values.same(one, other)
