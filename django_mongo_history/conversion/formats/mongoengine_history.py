"""
Rows of mongoengine-history 1.0 and 1.1: one for each entry of a dictdiffer patch, none of which says what the document was.

Layout and traps: `_id`, `identity`, `document_id`, `document_type` (a collection's name), `action`, `path` (joined by dots),
`data`, `created_at` (a naive local time, stored as if it were UTC). 1.0 calls the key of an item `index`, 1.1 `key`; both may
lie in one collection. Nothing links the rows of one save.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from statistics import median
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.conversion import scrubbing
from django_mongo_history.conversion.base import BadRow, Edit, Format, Step, Target
from django_mongo_history.conversion.options import Given, Option, text, timezone
from django_mongo_history.conversion.rows import CollectionReader, Reader, Row
from django_mongo_history.core.model import Context, UserRef
from django_mongo_history.core.policy import Policy

DEFAULT_COLLECTION: Final = "history"
MARK: Final = {"document_track": True}
"""What versions of `DocumentTrack` blocks carry in `extra`: `compat` shows those as the old package's rows."""

_ACTIONS: Final = ("change", "add", "remove")
_SAVE: Final = timedelta(seconds=1)
"""How long the rows of one save lie apart, one from the next."""
_MOST_BETWEEN: Final = 256
"""How many ObjectIds a process may have minted between two rows of one save."""
_SAMPLE: Final = 200
_APART_S: Final = 900.0


class MongoengineHistory(Format):
    """Rows of mongoengine-history."""

    name: ClassVar[str] = "mongoengine-history"
    help: ClassVar[str] = "rows of mongoengine-history 1.0 and 1.1"
    options: ClassVar[tuple[Option, ...]] = (
        Option(
            "collection",
            "The collection that the old rows lie in.",
            default=DEFAULT_COLLECTION,
            read=text,
        ),
        Option(
            "source_timezone",
            "The time zone in whose local time the old rows are; by default the project's TIME_ZONE.",
            default="UTC",
            read=timezone,
            metavar="ZONE",
        ),
        Option(
            "identity_model",
            "The model of the users whose keys the old rows hold, as in auth.user.",
            read=text,
            metavar="LABEL",
        ),
    )
    key = "document_id"
    sort = ("created_at", "_id")

    def __init__(self, target: Target, given: Given) -> None:
        super().__init__(target, given)
        self._zone = ZoneInfo(given["source_timezone"])
        self._is_fixed = given["source_timezone"] in ("UTC", "Etc/UTC")
        self._users: dict[Any, Context] = {}

    def query(self) -> dict[str, Any]:
        return {"document_type": {"$in": _collections(self.target)}}

    def reader(self) -> Reader:
        return CollectionReader(
            self.rows, key=self.key, sort=self.sort, query=self.query(), since=self.since, is_of_pymongo=True
        )

    @cached_property
    def _binary_fields(self) -> frozenset[str]:
        return documents.binary_fields(self.target.document_class)

    def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterable[Step | BadRow]:
        """One for each save: rows of one process, one user and one moment, none of which says a thing twice."""
        found: list[_Read] = []
        for row in rows:
            read = self._read(row)
            if isinstance(read, BadRow):
                yield read
            else:
                found.append(read)
        found.sort(key=lambda one: one.at)  # stable: ties stay in the order of their ids
        for save in _saves(found):
            yield self._step(save)

    def _step(self, save: list[_Read]) -> Step:
        first = save[0]
        notes = "; ".join(dict.fromkeys(one.note for one in save if one.note))
        return Step(
            rows=[one.row for one in save],
            at=first.at,
            edits=[one.edit for one in save],
            context=self._context(first.row.values.get("identity")),
            gap=notes,
        )

    def _context(self, identity: Any) -> Context:
        name = repr(identity)
        known = self._users.get(name)
        if known is None:
            user = None if identity is None else UserRef(identity, "", self.given["identity_model"])
            if len(self._users) > 10_000:
                self._users.clear()
            known = self._users[name] = Context(user=user, extra=MARK)
        return known

    def _read(self, row: Row) -> _Read | BadRow:
        stored = row.values
        action, path, created = stored.get("action"), stored.get("path", ""), stored.get("created_at")
        if action not in _ACTIONS:
            return BadRow(
                row.id, f"its action is {action!r}" if isinstance(action, str) else "it has no action"
            )
        if not isinstance(path, str):
            return BadRow(row.id, "its path is no text")
        if not isinstance(created, datetime):
            return BadRow(row.id, "it has no created_at")
        payload = _payload(action, stored.get("data"))
        if payload is None:
            return BadRow(row.id, "its data is not that of its action")
        path, payload = self._todays(action, path, payload)
        if path.partition(".")[0] in self._binary_fields or (not path and self._binary_fields):
            payload = self._with_bytes(action, path, payload)
        at, note = self._moment(created, row.id)
        return _Read(row, at, Edit(action, path, payload), note)

    def _todays(self, action: str, path: str, payload: Any) -> tuple[str, Any]:
        """The same with fields called as today, by which the class also says what it hides."""
        renamed = self.target.source.tracked.renamed
        if not renamed:
            return path, payload
        if path:
            head, dot, rest = path.partition(".")
            return f"{renamed.get(head, head)}{dot}{rest}", payload
        if action == "change":
            return path, payload
        return path, [(renamed.get(key, key), value) for key, value in payload]

    def _with_bytes(self, action: str, path: str, payload: Any) -> Any:
        """Bytes were stored as lists of numbers; which field holds bytes, the class says."""
        if action == "change":
            return tuple(map(_bytes_of, payload)) if path in self._binary_fields else payload
        if path:
            return payload
        return [(key, _bytes_of(value) if key in self._binary_fields else value) for key, value in payload]

    def _moment(self, created: datetime, row_id: Any) -> tuple[datetime, str]:
        """
        The moment that a local time means. Where clocks were put back and it means two, the one nearer to the row's
        ObjectId; where they were put forward and it means none, as if they had not been, which the version then says.
        """
        if self._is_fixed:
            return created.replace(tzinfo=UTC), ""  # what is read is so, in a zone that is slow to ask
        local = created.replace(tzinfo=None)
        first = local.replace(tzinfo=self._zone).astimezone(UTC)
        second = local.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        if first == second:
            return first, ""
        if second < first:  # it never was: fold 0 reads it by the offset before the change
            return first, "its local time did not exist: clocks were put forward then"
        if isinstance(row_id, ObjectId):
            minted = row_id.generation_time
            return (second if abs(second - minted) < abs(first - minted) else first), ""
        return first, "its local time was there twice: clocks were put back then"

    def since(self, moment: datetime) -> dict[str, Any]:
        return {"_id": {"$gte": ObjectId.from_datetime(moment)}}

    def remarks(self) -> Iterator[str]:
        """Ids of rows tell the time, too: where both lie apart, the time zone is not the one that was given."""
        found = self.rows.find(self.query(), {"created_at": 1}).limit(_SAMPLE)
        apart: list[float] = []
        for row in found:
            created, row_id = row.get("created_at"), row["_id"]
            if isinstance(created, datetime) and isinstance(row_id, ObjectId):
                local = created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
                at, _note = self._moment(local, row_id)
                apart.append((at - row_id.generation_time).total_seconds())
        if apart and abs(median(apart)) > _APART_S:
            yield (
                f"The times of the rows lie {median(apart) / 3600:+.1f} hours from those that their ids tell: is "
                f"--source-timezone {self.given['source_timezone']} right?"
            )

    def kept(self, row: Row, policy: Policy) -> Any:
        renamed = self.target.source.tracked.renamed
        if not renamed or not (policy.hidden or policy.untracked):
            return scrubbing.scrubbed_row(row.values, policy)
        path = row.values.get("path")
        head = path.partition(".")[0] if isinstance(path, str) else ""
        if head and head not in renamed:
            return scrubbing.scrubbed_row(row.values, policy)
        # Rules are by today's names: a row by an old one, or with whole fields, keeps no value.
        return {name: value for name, value in row.values.items() if name != "data"}

    @classmethod
    def discover(cls, target: Target) -> Iterator[Mapping[str, Any]]:
        wanted = {
            "document_type": {"$in": _collections(target)},
            "action": {"$in": list(_ACTIONS)},
            "data": {"$type": "object"},
        }
        if target.database[DEFAULT_COLLECTION].find_one(wanted, {"_id": 1}) is not None:
            yield {}


def _collections(target: Target) -> list[str]:
    """The names of the documents' collection, those that it had before too."""
    return [target.source.collection.name, *target.source.tracked.collections]


class _Read:
    """A row that could be read."""

    __slots__ = ("at", "edit", "note", "row")

    def __init__(self, row: Row, at: datetime, edit: Edit, note: str) -> None:
        self.row, self.at, self.edit, self.note = row, at, edit, note


def _payload(action: str, stored: Any) -> Any:
    """What an entry of dictdiffer's would hold; None for what is none."""
    if not isinstance(stored, dict):
        return None
    if action == "change":
        return (stored.get("old"), stored.get("new")) if "old" in stored or "new" in stored else None
    items = stored.get("items")
    if not isinstance(items, list) or not items:
        return None
    pairs: list[tuple[Any, Any]] = []
    for item in items:
        if not isinstance(item, dict):
            return None
        key = item.get("key", item.get("index"))
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            return None
        pairs.append((key, item.get("value")))
    return pairs if len({isinstance(key, int) for key, _value in pairs}) == 1 else None


def _saves(found: Iterable[_Read]) -> Iterator[list[_Read]]:
    save: list[_Read] = []
    for one in found:
        if save and not _is_same_save(save, one):
            yield save
            save = []
        save.append(one)
    if save:
        yield save


def _is_same_save(save: list[_Read], one: _Read) -> bool:
    last = save[-1]
    if one.row.is_converted is not last.row.is_converted or one.at - last.at > _SAVE:
        return False
    if one.row.values.get("identity") != last.row.values.get("identity"):
        return False
    if not _are_neighbours(last.row.id, one.row.id):
        return False
    # dictdiffer tells keys of the document itself last, those that came before those that went.
    if not last.edit.path and (one.edit.path or (last.edit.action, one.edit.action) != ("add", "remove")):
        return False
    return all(other.edit[:2] != one.edit[:2] for other in save)


def _are_neighbours(one: Any, other: Any) -> bool:
    """Whether one process has minted these ids, the second shortly after the first."""
    if not isinstance(one, ObjectId) or not isinstance(other, ObjectId):
        return False
    left, right = one.binary, other.binary
    between = (int.from_bytes(right[9:], "big") - int.from_bytes(left[9:], "big")) % (1 << 24)
    return left[4:9] == right[4:9] and 0 < between <= _MOST_BETWEEN


def _bytes_of(value: Any) -> Any:
    if isinstance(value, list) and all(type(one) is int and 0 <= one < 256 for one in value):
        return bytes(value)
    return value
