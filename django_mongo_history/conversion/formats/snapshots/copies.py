"""Copies as rows hold them: what is read from a row, and the order of those of one document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, Final

from bson import Int64, ObjectId

from django_mongo_history import documents
from django_mongo_history.conversion.base import Target
from django_mongo_history.conversion.base import image as image_of
from django_mongo_history.conversion.facts import Facts, at, first_at
from django_mongo_history.conversion.listed import own_id
from django_mongo_history.conversion.moments import Moment, Moments
from django_mongo_history.conversion.options import Given
from django_mongo_history.conversion.presets import BEFORE, OPERATIONS
from django_mongo_history.conversion.rows import Row
from django_mongo_history.core import drift, values
from django_mongo_history.core import policy as policies
from django_mongo_history.core.model import Context
from django_mongo_history.core.policy import Policy

UNTIMED: Final = "no row says when: some time between the first and the last of its list"


@dataclass(slots=True)
class Copy:
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


class Copies:
    """Reads them for one target. `given`: the options, settled. `key`: where a row says of which document it is."""

    def __init__(self, target: Target, given: Given, key: str, moments: Moments) -> None:
        self.target = target
        self.given = given
        self.key = key
        self._moments = moments
        self._facts = Facts(given)
        self._stored_names: dict[str, str] = {}
        self._policy_of = lru_cache(maxsize=100)(target.policy_of)
        self._fitting = documents.Fitting(
            target.document_class, target.source.codec_options, moments.read_text
        )

    def read(self, row: Row, rows: Sequence[Row]) -> Copy:
        entry, around = self.places(row)
        moment = self._moment(row, rows)
        copy = Copy(row, None if moment is None else moment.at, "" if moment is None else moment.note)
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
        copy.fields = self.fields(entry)
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

    def _needs_no_state(self, copy: Copy) -> bool:
        return copy.operation == ("create" if self.given["image"] == BEFORE else "delete")

    def shown_today(self, row: Row) -> Any:
        """The same by the rules of the class that the copy is of, as far as it says so."""
        fields = self.fields(row.values["entry"]) or {}
        name = fields.get("_cls")
        return self.shown(row, self._policy_of(name if isinstance(name, str) else None))

    def shown(self, row: Row, policy: Policy) -> Any:
        """
        What a version shows of a copy in a list, by rules: its own facts, and its state as far as it may be seen. All of it where
        nothing is ruled out.
        """
        entry, _around = self.places(row)
        if not (policy.hidden or policy.untracked):
            return entry
        if not isinstance(entry, Mapping):
            return []
        given = self.given
        own = (given["time_field"], given["version_field"], given["operation_field"], *self._facts.paths)
        facts = [None if path is None else at(entry, path) for path in own]
        whole = self.image(row.id[0], self.fields(entry))
        return [facts, None if whole is None else values.decode(policies.prune(whole, policy))]

    def places(self, row: Row) -> tuple[Any, Any]:
        """The copy, and what is around it that may say more of it."""
        if self.given["array_field"] is None:
            return row.values, {}
        return row.values["entry"], row.values["around"]

    def _moment(self, row: Row, rows: Sequence[Row]) -> Moment | None:
        entry, around = self.places(row)
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

    def fields(self, entry: Any) -> Mapping[str, Any] | None:
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

    def image(self, document_id: Any, fields: Mapping[str, Any] | None) -> bytes | None:
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
        return drift.rename_keys(image_of(document_id, complete), self.target.source.tracked.renamed)

    def _stored_name(self, name: str) -> str:
        """Tables call their columns as the class its attributes."""
        if name not in self._stored_names:
            self._stored_names[name] = name
            if name not in self._declared:
                with suppress(ValueError):
                    self._stored_names[name] = documents.translate_path(self.target.document_class, name)[0]
        return self._stored_names[name]


def in_order(copies: Sequence[Copy]) -> list[Copy]:
    """Oldest first, by number where each has another one, else by time. Without those that nobody can place."""
    numbers = [copy.version for copy in copies]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return sorted(copies, key=lambda copy: copy.version or 0)
    placed = [copy for copy in copies if copy.at is not None]
    return sorted(placed, key=lambda copy: (copy.at, copy.version or 0))
