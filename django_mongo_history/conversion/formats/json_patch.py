"""
Patches of RFC 6902, one row for each save, replayed forward from nothing. The shortest of the formats: see the how-to.

Layout: `ref` (the document), `ops` (the patch), `date`. A patch has no old values, so nothing is known of a document whose
first patch is not its create, but what single rows say (`originalValue`); from the first patch that does not
fit on, steps are walked back to from the live document, as far as such values lead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Final

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.conversion import facts
from django_mongo_history.conversion.base import UNKNOWN, BadRow, Edit, Format, Side, Step, Target, image
from django_mongo_history.conversion.facts import Facts, at, check_field
from django_mongo_history.conversion.moments import Moments
from django_mongo_history.conversion.options import COLLECTION, Given, Option, text
from django_mongo_history.conversion.rows import Row
from django_mongo_history.core import drift, values
from django_mongo_history.core.model import ABSENT
from django_mongo_history.core.policy import Policy

MISFIT: Final = "its patch does not fit what the patches in front of it lead to"
UNTOLD: Final = "nothing says what its patch was made to"
UNPLACED: Final = "a row of the document does not say when: what that one changed may be missing from here on"

_ACTIONS: Final = ("add", "remove", "replace", "move", "copy", "test")
_ORIGINAL: Final = "originalValue"


class MisfitError(ValueError):
    """An operation cannot be applied."""


class JsonPatch(Format):
    """Rows of mongoose-patch-history, and what else is laid out so."""

    name: ClassVar[str] = "json-patch"
    help: ClassVar[str] = "JSON patches (RFC 6902) in a collection"
    options: ClassVar[tuple[Option, ...]] = (
        COLLECTION,
        replace(facts.KEY_FIELD, default="ref"),
        Option("ops_field", "Where a row has its patch.", default="ops", read=text, metavar="PATH"),
        replace(facts.TIME_FIELD, default="date"),
        *facts.WHO,
        facts.SOURCE_TIMEZONE,
    )

    def __init__(self, target: Target, given: Given) -> None:
        super().__init__(target, given)
        self.key = given["key_field"]
        self.sort = (given["time_field"], "_id")
        moments = Moments(given["source_timezone"])
        self._read_moment = moments.read
        self._facts = Facts(given)
        self._renamed = target.source.tracked.renamed
        source = target.source
        self._fitting = documents.Fitting(target.document_class, source.codec_options, moments.read_text)

    def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterator[Step | BadRow]:
        timed = [(row, self._read_moment(at(row.values, self.given["time_field"]))) for row in rows]
        yield from (BadRow(row.id, "it does not say when") for row, moment in timed if moment is None)
        placed = [(row, moment) for row, moment in timed if moment is not None]
        note = UNPLACED if len(placed) < len(rows) else ""
        state: Any = ABSENT
        before: Side = None
        misfit = ""
        for row, moment in sorted(placed, key=lambda one: one[1].at):
            ops = self._ops(row)
            if ops is None:
                yield BadRow(row.id, "it holds no patch")
                before, misfit = None, UNTOLD
                continue
            known, fitting = before, not misfit
            if fitting:
                try:
                    state = apply(state, ops)
                    before = self._image(document_id, state)
                except MisfitError:
                    misfit, fitting = UNTOLD if known is None else MISFIT, False
            notes = [moment.note, note]
            note = ""
            step = Step([row], moment.at, context=self._facts.context(row.values))
            if fitting:
                step = step._replace(before=known, after=before)
            else:
                step = step._replace(before=UNKNOWN if known is None else known, edits=self._edits(ops) or ())
                before = None
                notes.append("" if step.edits and step.before is UNKNOWN else misfit)
            yield step._replace(gap="; ".join(filter(None, notes)))

    def _ops(self, row: Row) -> list[Mapping[str, Any]] | None:
        found = at(row.values, self.given["ops_field"])
        if not isinstance(found, list):
            return None
        is_read = all(
            isinstance(op, Mapping) and op.get("op") in _ACTIONS and _is_pointer(op.get("path"))
            for op in found
        )
        return found if is_read else None

    def _image(self, document_id: Any, state: Any) -> bytes | None:
        if state is ABSENT:
            return None
        if not isinstance(state, Mapping):
            raise MisfitError("no document")
        document_class = self.target.document_class
        if documents.uses_class_names(document_class) and "_cls" not in state:
            state = {"_cls": documents.class_name_of(document_class), **state}
        return drift.rename_keys(image(document_id, self._fitting.state(state)), self._renamed)

    def _edits(self, ops: Iterable[Mapping[str, Any]]) -> list[Edit] | None:
        """The patch as edits that can be undone; None where an old value is missing, or a place may be one of a list."""
        edits: list[Edit] = []
        for op in ops:
            parts = pointer(op["path"])
            parts[:1] = [self._renamed.get(part, part) for part in parts[:1]]
            is_told = op["op"] == "add" or (op["op"] in ("replace", "remove") and _ORIGINAL in op)
            if (
                not is_told
                or not parts
                or any("." in part or part == "-" for part in parts)
                or parts[-1].isdigit()
            ):
                return None
            old, new = op.get(_ORIGINAL), None if op["op"] == "remove" else op.get("value")
            fitted = tuple(self._fitting.value(parts, one) for one in (old, new))
            edits.append(Edit("set", ".".join(parts), fitted))
        return edits

    def since(self, moment: datetime) -> dict[str, Any]:
        other = {"_id": {"$not": {"$type": "objectId"}}}
        return {
            "$or": [
                {"_id": {"$gte": ObjectId.from_datetime(moment)}},
                {self.given["time_field"]: {"$gte": moment}},
                other,
            ]
        }

    def check(self) -> None:
        super().check()
        for name in ("ops_field", "time_field", "user_field", "remote_addr_field", "reason_field"):
            check_field(self.rows, self.given, name)

    def kept(self, row: Row, policy: Policy) -> Any:
        """The row; where the class hides anything, only operations on fields without a rule, values included."""
        if not policy.untracked and not policy.hidden:
            return row.values
        ruled = {rule[0] for rule in (*policy.hidden, *policy.untracked)}
        ruled |= {old for old, new in self._renamed.items() if new in ruled}
        ops = [op for op in self._ops(row) or () if "*" not in ruled | _tops(op) and not ruled & _tops(op)]
        return {"_id": row.id, self.given["ops_field"].replace(".", "_"): ops}

    @classmethod
    def discover(cls, target: Target) -> Iterator[Mapping[str, Any]]:
        name = target.source.collection.name
        singular = name.removesuffix("s")
        for collection in dict.fromkeys((f"{name}_patches", f"{singular}_patches", f"{singular}Patches")):
            wanted = {"ref": {"$exists": True}, "ops.op": {"$exists": True}, "date": {"$exists": True}}
            if target.database[collection].find_one(wanted, {"_id": 1}) is not None:
                yield {"collection": collection}


# -- RFC 6902 --------------------------------------------------------------------------------------------------------


def apply(state: Any, ops: Iterable[Mapping[str, Any]]) -> Any:
    """
    The document after a patch; ABSENT on either side: there is none. Nothing is changed in place.

    To nothing an empty document is assumed where the patch begins inside of one. Raises: MisfitError; then none of it counts.
    """
    holder = {"": deepcopy(state)}
    for op in ops:
        path = pointer(op["path"])
        if holder[""] is ABSENT and path:
            holder[""] = {}
        _apply(holder, op, ["", *path])
    return holder[""]


def pointer(told: str) -> list[str]:
    """The parts of a JSON pointer. Raises: MisfitError."""
    if told and not told.startswith("/"):
        raise MisfitError("no pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in told.split("/")[1:]]


def _apply(holder: Any, op: Mapping[str, Any], path: list[str]) -> None:
    action = op["op"]
    if action in ("move", "copy"):
        origin = ["", *pointer(str(op.get("from", "?")))]
        if action == "move" and path[: len(origin)] == origin and path != origin:
            raise MisfitError("into itself")
        value = _take(holder, origin) if action == "move" else deepcopy(_get(holder, origin))
        _add(holder, path, value)
    elif action == "add":
        _add(holder, path, deepcopy(_value(op)))
    elif action == "remove":
        _take(holder, path)
    elif action == "replace":
        _get(holder, path)
        parent = _get(holder, path[:-1])
        parent[_index(parent, path[-1]) if isinstance(parent, list) else path[-1]] = deepcopy(_value(op))
    elif not _is_equal(_get(holder, path), _value(op)):
        raise MisfitError("another value")


def _value(op: Mapping[str, Any]) -> Any:
    if "value" not in op:
        raise MisfitError("no value")
    return op["value"]


def _get(node: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(node, list):
            node = node[_index(node, part)]
        elif isinstance(node, dict) and node.get(part, ABSENT) is not ABSENT:
            node = node[part]
        else:
            raise MisfitError("nothing there")
    return node


def _add(holder: Any, path: Sequence[str], value: Any) -> None:
    parent = _get(holder, path[:-1])
    if isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else _index(parent, path[-1], last=len(parent)), value)
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        raise MisfitError("no document or list")


def _take(holder: Any, path: Sequence[str]) -> Any:
    value, parent = _get(holder, path), _get(holder, path[:-1])
    if len(path) == 1:
        parent[""] = ABSENT
    elif isinstance(parent, list):
        del parent[_index(parent, path[-1])]
    else:
        del parent[path[-1]]
    return value


def _index(found: Sequence[Any], part: str, *, last: int | None = None) -> int:
    if not (part.isascii() and part.isdigit()) or (part != "0" and part.startswith("0")):
        raise MisfitError("no index")
    if int(part) > (len(found) - 1 if last is None else last):
        raise MisfitError("beyond the list")
    return int(part)


def _is_equal(one: Any, other: Any) -> bool:
    """As JSON: numbers by value, documents whatever the order of their keys."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one == other
    return values.same(one, other)


def _tops(op: Mapping[str, Any]) -> set[str]:
    """The fields that an operation is about; "*" for the whole document."""
    paths = [op["path"], *([op["from"]] if _is_pointer(op.get("from")) else [])]
    return {part for path in paths for part in (pointer(path)[:1] or ["*"])}


def _is_pointer(told: Any) -> bool:
    return isinstance(told, str) and (not told or told.startswith("/"))
