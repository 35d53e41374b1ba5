"""
What is stored of one conversion: one document in a collection of its own beside the versions, which no reader of histories looks
at. Every change of it is a write that only goes through if nobody else wrote in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from django_mongo_history.core import values
from django_mongo_history.errors import ConversionError

FORMAT: Final = 1

SUFFIX: Final = "_conversions"
"""Behind the name of the collection of versions: where this lies."""

Stored = dict[str, Any]


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


class Record:
    """The record of one conversion. `options`: as text, they are compared. `now` gives aware moments."""

    def __init__(
        self, collection: Any, identity: Identity, options: str, *, now: Callable[[], datetime]
    ) -> None:
        self.identity = identity
        self.now = now
        self._options = options
        self._rows = collection
        if isinstance(collection, Collection):
            self._rows = collection.with_options(
                codec_options=values.EXACT,
                read_preference=ReadPreference.PRIMARY,
                read_concern=ReadConcern("local"),
                write_concern=WriteConcern("majority"),  # of the project's own, some have no answer
            )

    def stored(self) -> Stored | None:
        """What is stored of it; None where it was never begun."""
        found = self._rows.find_one({"_id": self.identity.to_bson()})
        if found is None or isinstance(self._rows, Collection):
            return None if found is None else dict(found)
        return values.decode(values.encode(found))  # mongomock gives moments without a zone

    def check(self, beside: frozenset[str] = frozenset()) -> None:
        """
        Raises: ConversionError where it was begun with other options, by itself or with a class above or below this one, or
        where an unfinished one of the same format and documents reads other rows. `beside`: places that are converted
        together with this one.
        """
        self.check_above()
        for begun in (self.stored(), *self._overlapping(is_below)):
            if begun is not None and begun["options"] != self._options:
                raise self._refusal(begun, "or --restart to forget what was done and begin anew")
        for other in self._others():
            place = other["_id"]["place"]
            if place not in beside and not _is_done(other):
                raise ConversionError(
                    f"{self._said()}: a conversion from {place} is not finished, and now {self.identity.place} is asked "
                    "for. Finish that one first, or --restart to forget it.",
                    stored=place,
                    given=self.identity.place,
                )

    def check_above(self) -> None:
        """
        Raises: ConversionError where the same rows were converted with a class above this one and other options: the
        versions are that conversion's, and only it can be begun anew.
        """
        for begun in self._overlapping(is_above):
            if begun["options"] != self._options:
                above = begun["_id"]["document"]
                raise self._refusal(
                    begun, f"or --restart with the class {above}, whose documents these are as well"
                )

    def has_other_options(self) -> bool:
        """Whether it was begun with other options: then its versions are not those that would be made now."""
        begun = (self.stored(), *self._overlapping(is_below))
        return any(one is not None and one["options"] != self._options for one in begun)

    def restart(self) -> None:
        """
        Forget the conversion, those of classes below this one, which are a part of it, and unfinished ones of other rows of the
        same format. Versions stay.
        """
        for other in (*self._overlapping(is_below), *(one for one in self._others() if not _is_done(one))):
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
                    "begun_at": self.now(),
                    "caught_up_to": None,
                    "pass": None,
                    "counts": {},
                    "bad": [],
                }
            )
        found = self.stored()
        assert found is not None
        return found

    def change(self, change: Callable[[Stored], Stored | None]) -> Stored:
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

    def _overlapping(self, is_related: Callable[[str, str], bool]) -> list[Stored]:
        """What was begun of the same rows with classes that are so related to this one."""
        mine = self.identity.to_bson()
        return [
            one
            for one in map(dict, self._rows.find({"conversion": FORMAT}))
            if all(one["_id"].get(name) == mine[name] for name in ("format", "target", "place"))
            and is_related(one["_id"]["document"], mine["document"])
        ]

    def _refusal(self, begun: Stored, otherwise: str) -> ConversionError:
        whose = begun["_id"]["document"]
        return ConversionError(
            f"The conversion of {whose} from {self.identity.format} was begun with the options {begun['options']}, and "
            f"{self.identity.document_class} is now asked for with {self._options}. Give the former, {otherwise}.",
            stored=begun["options"],
            given=self._options,
        )

    def _said(self) -> str:
        return f"The conversion of {self.identity.document_class} from {self.identity.format}"


def _is_done(record: Mapping[str, Any]) -> bool:
    """Whether the first pass is over."""
    return record["caught_up_to"] is not None


def is_above(one: str, other: str) -> bool:
    """Whether a class is above another one, by their names in MongoEngine."""
    return other.startswith(f"{one}.")


def is_below(one: str, other: str) -> bool:
    """The other way round."""
    return is_above(other, one)
