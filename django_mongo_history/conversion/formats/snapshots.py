"""
Archives of whole states: one row for each, taken before or after the write that made the row.

Note [Before and after]
A row of an archive of states before holds the state that a write has ended, and says when and by whom it was ended. So its
who and when are those of the version that follows the state, and not of the one that made it: each step begins with the
row's state, and ends with that of the next row, of the first live version, or of the live document. Rows of states
after say it of their own state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Final

from bson import Int64, ObjectId, json_util
from pymongo.collection import Collection

from django_mongo_history import documents
from django_mongo_history.conversion import facts
from django_mongo_history.conversion.base import UNKNOWN, BadRow, Format, Side, Step, Target, image
from django_mongo_history.conversion.facts import Facts, at, first_at
from django_mongo_history.conversion.listed import ListReader, entries_of, own_id
from django_mongo_history.conversion.moments import Moment, Moments
from django_mongo_history.conversion.options import COLLECTION, Given, Option, text
from django_mongo_history.conversion.presets import AFTER, BEFORE, OPERATIONS, PRESETS
from django_mongo_history.conversion.rows import Reader, Row, name_of
from django_mongo_history.core import drift, values
from django_mongo_history.core import policy as policies
from django_mongo_history.core.model import Context
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import ConversionError

FRONT_BAD: Final = "the row in front of it could not be read: what that one changed is in here"
BEHIND_BAD: Final = "the row behind it could not be read: what that one changed is in here"
PARTIAL: Final = "the row holds changed fields only, and nothing says what the others were"
UNTIMED: Final = "no row says when: some time between the first and the last of its list"
UNMATCHED: Final = "not one document has its key, so nothing says which it was of"
AGAIN: Final = "the row behind it has the same number: one of them was made to a state that is not known"
ANEW: Final = "the numbers of its rows begin anew behind it, so it is taken for the delete"

_SAMPLE: Final = 200
_MOST_KINDS: Final = 20
_NAMED: Final = (
    "state_field", "array_field", "version_field", "operation_field", "type_field", "user_field", "remote_addr_field",
    "reason_field",
)  # fmt: skip


def _pairs(value: Any) -> dict[str, str]:
    """Pairs as in "old=new,other=another", or a dict."""
    parts = [one.partition("=")[::2] for one in value.split(",")] if isinstance(value, str) else value
    try:
        found = {str(old).strip(): str(new).strip() for old, new in dict(parts).items()}
    except (TypeError, ValueError) as error:
        raise ValueError("pairs as in old=new,other=another") from error
    if not found or not all(old and new for old, new in found.items()):
        raise ValueError("pairs as in old=new,other=another")
    return found


def _operations(value: Any) -> dict[str, str]:
    found = _pairs(value)
    if not set(found.values()) <= {"create", "update", "delete"}:
        raise ValueError("pairs as in i=create,u=update,r=delete")
    return found


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise ValueError("a whole number") from error


def _query(value: Any) -> dict[str, Any]:
    """A query, as extended JSON where it is a text."""
    try:
        found = json_util.loads(value) if isinstance(value, str) else value
    except (ValueError, TypeError) as error:
        raise ValueError("a query in JSON") from error
    if isinstance(found, dict):
        return found
    raise ValueError("a query in JSON")


class Snapshots(Format):
    """Whole states in an archive: the presets, and whatever else is laid out so, by the names of its fields."""

    name: ClassVar[str] = "snapshots"
    help: ClassVar[str] = "copies of whole documents in a collection"
    options: ClassVar[tuple[Option, ...]] = (
        Option("preset", "The tool that wrote the rows.", read=text, choices=tuple(PRESETS)),
        COLLECTION,
        Option("image", "Which state a row holds: that before the write that made it, or that after it.", read=text,
               choices=(BEFORE, AFTER), metavar="SIDE"),
        facts.KEY_FIELD,
        Option("match_field", "The documents' own field that the keys of the rows are in, if that is not _id.", read=text),
        Option("state_field", "Where in a row the state is, if that is not the row itself.", read=text, metavar="PATH"),
        Option("array_field", "The list of a row in which the copies are, if each row has many.", read=text, metavar="PATH"),
        facts.TIME_FIELD,
        Option("version_field", "Where a row has its number, counted by one.", read=text, metavar="PATH"),
        Option("first_version", "The number of the copy that was made when the document was created.", read=_number,
               metavar="N"),
        Option("operation_field", "Where a row says whether it was a create, an update or a delete.", read=text,
               metavar="PATH"),
        Option("operations", "How rows call these, as in i=create,u=update,r=delete.", read=_operations, metavar="PAIRS"),
        Option("type_field", "Where a row says of which class it is.", read=text, metavar="PATH"),
        Option("type", "What it says there for this class; by default the name of the class.", read=text),
        *facts.WHO,
        facts.SOURCE_TIMEZONE,
        Option("drop_fields", "What of a row is none of the document's, separated by commas.", read=facts.names,
               metavar="NAMES"),
        Option("rename", "Fields of the state that are called otherwise today, as in old=new.", read=_pairs, metavar="PAIRS"),
        Option("hidden_fields", "Where a row names fields that were changed and whose values it does not hold.",
               read=facts.names, metavar="PATHS"),
        Option("partial", "Rows hold only the fields that were changed.", is_flag=True),
        facts.CONVERT_TEXTS,
        Option("where", "Which rows are meant, as a query in JSON.", read=_query, metavar="JSON"),
    )  # fmt: skip

    def __init__(self, target: Target, given: Given) -> None:
        settled = _settled(target, given)
        match_field = settled["match_field"]
        super().__init__(_Matched(target.source, match_field) if match_field else target, settled)
        self._named = {name for name in _NAMED if given.get(name) is not None}
        self.key = settled["key_field"] or "_id"
        self.sort = ("index",) if settled["array_field"] else ("_id",)
        self._moments = Moments(settled["source_timezone"])
        self._facts = Facts(settled)
        self._stored_names: dict[str, str] = {}
        self._fitting = documents.Fitting(
            target.document_class, target.source.codec_options, self._moments.read_text
        )

    # -- rows ------------------------------------------------------------------------------------------------------

    def query(self) -> dict[str, Any]:
        found: dict[str, Any] = dict(self.given["where"] or {})
        type_field = self.given["type_field"]
        if type_field is not None:
            typed = {type_field: self._type}
            found = {"$and": [found, typed]} if found else typed
        return found

    @property
    def _type(self) -> str:
        return str(self.given["type"] or self.target.document_class.__name__)

    def since(self, moment: datetime) -> dict[str, Any]:
        """ObjectIds tell when a row was made; of rows with other ids its time does, where it is a date."""
        found: list[dict[str, Any]] = [{"_id": {"$gte": ObjectId.from_datetime(moment)}}]
        time_field = self.given["time_field"]
        other: dict[str, Any] = {"_id": {"$not": {"$type": "objectId"}}}
        if time_field is not None:
            found.append({time_field: {"$gte": moment}})
        return {"$or": [*found, other]}

    def reader(self) -> Reader:
        array_field = self.given["array_field"]
        if array_field is None:
            return super().reader()
        return ListReader(
            self.rows, key=self.key, list_field=array_field, query=self.query(), explode=self._explode
        )

    def _explode(self, row: Row) -> list[Row]:
        found = entries_of(row, self.given["array_field"], key=at(row.values, self.key))
        if found is None:  # a row of its own
            return [Row(row.id, {"index": 0, "entry": row.values, "around": {}})]
        return found

    # -- steps -----------------------------------------------------------------------------------------------------

    def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterable[Step | BadRow]:
        if isinstance(self.target, _Matched) and name_of(document_id) in self.target.unmatched:
            yield from (BadRow(row.id, UNMATCHED) for row in rows)
            return
        copies = [self._read(row, rows) for row in rows]
        if self.given["image"] == BEFORE and any(copy.version is not None for copy in copies):
            for copy in copies:  # Chrononaut counts from nothing, then from 1
                copy.version = copy.version or 0
        yield from (BadRow(copy.row.id, copy.reason) for copy in copies if copy.reason)
        copies = _in_order(copies)
        make = self._steps_before if self.given["image"] == BEFORE else self._steps_after
        yield from make(document_id, copies)

    def _steps_after(self, document_id: Any, copies: Sequence[_Copy]) -> Iterator[Step]:
        known: Side = UNKNOWN
        fields: Mapping[str, Any] | None = None
        front: _Copy | None = None
        for copy in copies:
            if not copy.reason:
                notes = [copy.note, _missing(front, copy), FRONT_BAD if front and front.reason else ""]
                before, whole = known, copy.fields
                if copy.operation == "create" or self._is_first(copy):
                    before, fields = None, None
                elif self.given["partial"] and copy.operation != "delete":
                    notes.append("" if fields is not None else PARTIAL)
                if self.given["partial"] and whole is not None:
                    whole = None if copy.operation == "delete" else {**(fields or {}), **whole}
                after = None if copy.operation == "delete" else self._image(document_id, whole)
                if after is None and whole is not None:  # it says what was deleted
                    before = self._image(document_id, whole)
                yield self._step(copy, before=before, after=after, notes=notes)
                known, fields = after, None if after is None else whole
            front = copy

    def _steps_before(self, document_id: Any, copies: Sequence[_Copy]) -> Iterator[Step]:
        """See Note [Before and after]."""
        first = min((copy.version for copy in copies if copy.version is not None), default=None)
        for copy, behind in zip(copies, [*copies[1:], None], strict=False):
            if copy.reason:
                continue
            notes = [copy.note, BEHIND_BAD if behind and behind.reason else "", _missing(copy, behind)]
            after: Side = UNKNOWN
            if copy.operation == "delete":
                after = None
            elif copy.operation is None and _begins_anew(copy, behind, first):
                after = None
                notes = [copy.note, ANEW]
            elif behind is not None and copy.version is not None and copy.version == behind.version:
                notes.append(AGAIN)
            before = None if copy.operation == "create" else self._image(document_id, copy.fields)
            yield self._step(copy, before=before, after=after, notes=notes)

    def _step(self, copy: _Copy, *, before: Side, after: Side, notes: Sequence[str]) -> Step:
        assert copy.at is not None
        gap = "; ".join(dict.fromkeys(note for note in notes if note))
        return Step([copy.row], copy.at, before, after, context=copy.context, gap=gap, hidden=copy.hidden)

    def _is_first(self, copy: _Copy) -> bool:
        first = self.given["first_version"]
        return copy.operation is None and first is not None and copy.version == first

    # -- one row ---------------------------------------------------------------------------------------------------

    def _read(self, row: Row, rows: Sequence[Row]) -> _Copy:
        entry, around = self._places(row)
        moment = self._moment(row, rows)
        copy = _Copy(row, None if moment is None else moment.at, "" if moment is None else moment.note)
        copy.version = self._version(entry, around)
        if moment is None:
            copy.reason = "it does not say when"
            return copy
        operation_field = self.given["operation_field"]
        if operation_field is not None:
            copy.operation = self._operation(first_at((entry, around), operation_field))
            if copy.operation is None:
                copy.reason = "its operation is none of those that are known"
                return copy
        copy.fields = self._fields(entry)
        if copy.fields is None and not self._needs_no_state(copy):
            copy.reason = "it holds no state"
            return copy
        copy.context = self._facts.context(entry, around)
        copy.hidden = tuple(self._hidden(entry, around))
        return copy

    def _hidden(self, *places: Any) -> Iterator[str]:
        """The database paths of fields that a row names without their values."""
        for path in self.given["hidden_fields"] or ():
            found = first_at(places, path)
            for name in found if isinstance(found, list) else [found]:
                if isinstance(name, str):
                    yield self._stored_name(name)

    def _needs_no_state(self, copy: _Copy) -> bool:
        return copy.operation == ("create" if self.given["image"] == BEFORE else "delete")

    def _places(self, row: Row) -> tuple[Any, Any]:
        """The copy, and what is around it that may say more of it."""
        if self.given["array_field"] is None:
            return row.values, {}
        return row.values["entry"], row.values["around"]

    def _moment(self, row: Row, rows: Sequence[Row]) -> Moment | None:
        entry, around = self._places(row)
        time_field = self.given["time_field"]
        if time_field is not None:
            return self._moments.read(first_at((entry, around), time_field))
        if not around:
            return self._moments.read(at(entry, "_id")) if isinstance(at(entry, "_id"), ObjectId) else None
        minted = own_id(entry, at(around, self.key))
        if minted is not None:
            return self._moments.read(minted)
        created, modified = (self._moments.read(around.get(name)) for name in ("created", "modified"))
        if row.id == rows[0].id and created is not None:
            return created
        return modified if modified is None or row.id == rows[-1].id else modified._replace(note=UNTIMED)

    def _version(self, *places: Any) -> int | None:
        path = self.given["version_field"]
        if path is None:
            return None
        found = first_at(places, path)
        if isinstance(found, str) and found.isascii() and found.isdigit():
            return int(found)
        is_number = isinstance(found, (int, Int64, float)) and not isinstance(found, bool)
        return int(found) if is_number and found == found // 1 else None

    def _operation(self, found: Any) -> str | None:
        if not isinstance(found, str):
            return None
        named = self.given["operations"]
        return OPERATIONS.get(found.lower()) if named is None else named.get(found)

    def _fields(self, entry: Any) -> Mapping[str, Any] | None:
        path = self.given["state_field"]
        found = entry if path is None else at(entry, path)
        if not isinstance(found, Mapping):
            return None
        renamed = self.given["rename"] or {}
        dropped = self._dropped - renamed.keys()
        return {str(renamed.get(name, name)): value for name, value in found.items() if name not in dropped}

    @cached_property
    def _dropped(self) -> frozenset[str]:
        """Names in a row that are none of the document's."""
        if self.given["drop_fields"] is not None:
            return frozenset({"_id", *self.given["drop_fields"]})
        if self.given["state_field"] is not None:
            return frozenset({"_id"})
        options = ("key_field", "time_field", "version_field", "operation_field", "type_field",
                   "user_field", "remote_addr_field", "reason_field")  # fmt: skip
        paths = [self.given[name] for name in options if self.given[name] is not None]
        told = {
            path.partition(".")[0]
            for path in (*paths, *(self.given["extra_fields"] or ()), *(self.given["hidden_fields"] or ()))
        }
        told.update(self.given["bookkeeping"])
        return frozenset({"_id", *(told - self._declared)})

    @cached_property
    def _declared(self) -> frozenset[str]:
        return documents.stored_field_names(self.target.document_class)

    def _image(self, document_id: Any, fields: Mapping[str, Any] | None) -> bytes | None:
        if fields is None:
            return None
        document_class = self.target.document_class
        complete = dict(fields)
        if self.given["convert_texts"]:
            complete = {self._stored_name(name): value for name, value in complete.items()}
        if documents.uses_class_names(document_class) and "_cls" not in complete:
            complete = {"_cls": documents.class_name_of(document_class), **complete}
        if self.given["convert_texts"]:
            complete = self._fitting.state(complete)
        return drift.rename_keys(image(document_id, complete), self.target.source.tracked.renamed)

    def _stored_name(self, name: str) -> str:
        """Tables call their columns as the class its attributes."""
        if name not in self._stored_names:
            self._stored_names[name] = name
            if name not in self._declared:
                with suppress(ValueError):
                    self._stored_names[name] = documents.translate_path(self.target.document_class, name)[0]
        return self._stored_names[name]

    # -- what is kept, and what is looked at before ----------------------------------------------------------------

    def kept(self, row: Row, policy: Policy) -> Any:
        entry, around = self._places(row)
        if not policy.untracked and not policy.hidden:
            return row.values if not around else {"_id": row.id, "entry": entry}
        fields = self._fields(entry)
        whole = self._image(row.id, fields)
        shown = {} if whole is None else {"state": values.decode(policies.prune(whole, policy))}
        return {"_id": row.id, **shown}

    def check(self) -> None:
        self._check_layout()
        self._check_type()
        super().check()
        for name in ("time_field", *sorted(self._named)):
            self._check_field(name)
        match_field = self.given["match_field"]
        if match_field is not None and not _has(
            self.target.source.collection, {match_field: {"$exists": True}}
        ):
            raise ConversionError(
                f"--match-field: no document of {self.target.label} has {match_field!r}.",
                option="match_field",
            )

    def _check_layout(self) -> None:
        given, wanted = self.given, []
        if given["image"] is None:
            wanted.append(
                "--image before or --image after: whether rows hold the state before or after their write"
            )
        if given["key_field"] is None:
            wanted.append("--key-field: where a row says of which document it is")
        if given["collection"] is None:
            wanted.append("--collection: where the rows lie")
        if wanted:
            presets = ", ".join(PRESETS)
            raise ConversionError(
                f"snapshots: name {'; '.join(wanted)}. Or a --preset that says so; known are {presets}.", known=list(PRESETS)
            )  # fmt: skip
        if given["partial"] and given["image"] == BEFORE:
            raise ConversionError("--partial goes with --image after only.")

    def _check_type(self) -> None:
        """Raises: ConversionError where there are rows of other classes only."""
        type_field = self.given["type_field"]
        if type_field is None or _has(self.rows, self.query()):
            return
        kinds = [str(one) for one in self.rows.distinct(type_field)[:_MOST_KINDS]]
        if kinds:
            raise ConversionError(
                f"--type: no row of {self.place} is of {self._type!r}. There are rows of: {', '.join(kinds)}.",
                known=kinds,
            )

    def _check_field(self, name: str) -> None:
        path = self.given[name]
        if path is None or (name == "array_field" and "array_field" not in self._named):
            return
        array = self.given["array_field"]
        paths = [path] if array is None or name == "array_field" else [path, f"{array}.{path}"]
        there = {"$or": [{one: {"$exists": True}} for one in paths]}
        query = self.query()
        if self.rows.find_one({"$and": [query, there]} if query else there, {"_id": 1}) is None:
            found = ", ".join(sorted(self.rows.find_one(query) or {}))
            raise ConversionError(
                f"--{name.replace('_', '-')}: no row of {self.place} has {path!r}. The fields of one: {found}.",
                option=name,
            )

    def remarks(self) -> Iterator[str]:
        """Keys without a document are those of deleted ones, or of another model; times without a zone are UTC."""
        sample = list(self.rows.find(self.query()).limit(_SAMPLE))
        time_field = self.given["time_field"]
        if time_field is not None and self.given["source_timezone"] is None:
            texts = [found for row in sample if isinstance(found := at(row, time_field), str)]
            if any(self._is_naive(found) for found in texts):
                yield f"Times in {time_field} have no offset and are taken for UTC: is that so? See --source-timezone."
        keys = {repr(found): found for row in sample if (found := at(row, self.key)) is not None}
        wanted = [self.target.document_id(key) for key in keys.values()]
        count = self.target.source.collection.count_documents({"_id": {"$in": wanted}})
        if keys and not count:
            yield (
                f"None of {len(keys)} documents that were looked at is there: are these rows of {self.target.label}, and is "
                f"{self.key} its _id? See --key-field, --match-field and --where."
            )

    def _is_naive(self, found: str) -> bool:
        one, other = Moments("Asia/Tokyo").read_text(found), Moments(None).read_text(found)
        return one is not None and one != other

    # -- finding -----------------------------------------------------------------------------------------------------

    @classmethod
    def discover(cls, target: Target) -> Iterator[Mapping[str, Any]]:
        name = target.source.collection.name
        archive = target.database[f"{name}_history"]
        if _has(
            archive, {"changed": {"$exists": True}, "change_info": {"$exists": True}, "id": {"$exists": True}}
        ):
            yield {"preset": "chrononaut"}
        if _has(archive, {"t": {"$type": "date"}, "o": {"$in": ["i", "u", "r"]}, "d": {"$type": "object"}}):
            yield {"preset": "mongoose-history"}
        yield from _mongoose_versions(target)
        thingy = {"document_type": target.document_class.__name__, "creation_date": {"$type": "date"},
                  "document_id": {"$exists": True}, "operation": {"$exists": True}}  # fmt: skip
        if _has(target.database["revision"], thingy):
            yield {"preset": "mongo-thingy"}
        yield from _pattern_copies(target)


@dataclass(slots=True)
class _Copy:
    """A row as it was read; `reason` says why it could not be."""

    row: Row
    at: datetime | None
    note: str = ""
    reason: str = ""
    operation: str | None = None
    version: int | None = None
    fields: Mapping[str, Any] | None = None
    context: Context = field(default_factory=Context)
    hidden: Sequence[str] = ()


@dataclass(frozen=True)
class _Matched(Target):
    """A target whose documents are found by another field of theirs than `_id`. `unmatched`: keys that none has."""

    match_field: str = ""
    unmatched: set[Any] = field(default_factory=set)

    def document_id(self, key: Any) -> Any:
        found = list(self._exact.find({self.match_field: key}, {"_id": 1}).limit(2))
        if len(found) == 1:
            self.unmatched.discard(name_of(key))
            return found[0]["_id"]
        self.unmatched.add(name_of(key))
        return key

    @property
    def _exact(self) -> Any:
        collection = self.source.collection
        is_real = isinstance(collection, Collection)
        return collection.with_options(codec_options=values.EXACT) if is_real else collection


def _settled(target: Target, given: Given) -> dict[str, Any]:
    """The options with what the preset says where nothing was given."""
    preset = PRESETS.get(given["preset"] or "", {})
    settled: dict[str, Any] = {**given, "bookkeeping": ()}
    for name, value in preset.items():
        if name == "bookkeeping" or settled[name] is None or settled[name] is False:
            settled[name] = value
    if isinstance(settled["collection"], str):
        settled["collection"] = settled["collection"].replace("{collection}", target.source.collection.name)
    return settled


# -- order -----------------------------------------------------------------------------------------------------------


def _in_order(copies: Sequence[_Copy]) -> list[_Copy]:
    """Oldest first, by number where each has another one, else by time. Without those that nobody can place."""
    numbers = [copy.version for copy in copies]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return sorted(copies, key=lambda copy: copy.version or 0)
    placed = [copy for copy in copies if copy.at is not None]
    return sorted(placed, key=lambda copy: (copy.at, copy.version or 0))


def _missing(front: _Copy | None, behind: _Copy | None) -> str:
    if front is None or behind is None or front.version is None or behind.version is None:
        return ""
    if behind.version <= front.version + 1:
        return ""
    return f"there are no rows of the numbers {front.version + 1} to {behind.version - 1}"


def _begins_anew(copy: _Copy, behind: _Copy | None, first: int | None) -> bool:
    if behind is None or behind.version is None or copy.version is None:
        return False
    return first == behind.version < copy.version


# -- finding ---------------------------------------------------------------------------------------------------------


def _has(collection: Any, query: Mapping[str, Any]) -> bool:
    return collection.find_one(query, {"_id": 1}) is not None


def _mongoose_versions(target: Target) -> Iterator[Mapping[str, Any]]:
    """Rows say nothing of their model: those of a collection with no name of its own count if each sampled one is ours."""
    for collection, counts in ((f"{target.source.collection.name}_versions", any), ("versions", all)):
        query = {
            "refId": {"$exists": True},
            "$or": [{"versions": {"$type": "array"}}, {"refVersion": {"$exists": True}}],
        }
        keys = [row["refId"] for row in target.database[collection].find(query, {"refId": 1}).limit(_SAMPLE)]
        wanted = [target.document_id(key) for key in keys]
        found = target.source.collection.find({"_id": {"$in": wanted}}, {"_id": 1})
        there = {name_of(row["_id"]) for row in found}
        if keys and counts(name_of(one) in there for one in wanted):
            yield {"preset": "mongoose-version", "collection": collection}


def _pattern_copies(target: Target) -> Iterator[Mapping[str, Any]]:
    """policies and policyRevisions, with a policyId in both."""
    declared = documents.stored_field_names(target.document_class)
    name = target.source.collection.name
    short = name.removeprefix("current") or name
    short = short[0].lower() + short[1:]
    singular = f"{short[:-3]}y" if short.endswith("ies") else short.removesuffix("s")
    for collection in dict.fromkeys(
        f"{one}{end}" for one in (singular, short) for end in ("Revisions", "_revisions")
    ):
        row = target.database[collection].find_one(
            {"revision": {"$type": "number"}, "dateSet": {"$exists": True}}
        )
        keys = [one for one in row or () if one != "_id" and one.endswith(("Id", "_id"))]
        key = next(
            (one for one in (f"{singular}Id", f"{singular}_id") if one in keys),
            keys[0] if len(keys) == 1 else None,
        )
        if key is not None:
            matched = {"match_field": key} if key in declared else {}
            yield {"preset": "versioning-pattern", "collection": collection, "key_field": key, **matched}
