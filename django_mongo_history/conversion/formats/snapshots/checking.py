"""What is looked at before a run: whether the layout is named, and whether rows have what the options name."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final

from django_mongo_history.conversion.base import Format
from django_mongo_history.conversion.facts import at
from django_mongo_history.conversion.formats.snapshots.finding import has
from django_mongo_history.conversion.formats.snapshots.options import type_of
from django_mongo_history.conversion.moments import Moments
from django_mongo_history.conversion.presets import BEFORE, PRESETS
from django_mongo_history.errors import ConversionError

_SAMPLE: Final = 200
_MOST_KINDS: Final = 20
_NAMED: Final = (
    "state_field", "array_field", "version_field", "operation_field", "type_field", "user_field", "remote_addr_field",
    "reason_field",
)  # fmt: skip


class Check:
    """Looks at the source of one format. `named`: the options that a user gave, and no preset."""

    def __init__(self, source: Format, named: Container[str]) -> None:
        self._source = source
        self.target = source.target
        self.given = source.given
        self._named = [name for name in _NAMED if name in named]

    def layout(self) -> None:
        """Raises: ConversionError where the options do not say how rows are laid out, or there are none of the class."""
        self._check_layout()
        self._check_type()

    def fields(self) -> None:
        """Raises: ConversionError where no row, or no document, has what an option names."""
        for name in ("time_field", *sorted(self._named)):
            self._check_field(name)
        match_field = self.given["match_field"]
        if match_field is not None and not has(
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
        if type_field is None or has(self._source.rows, self._source.query()):
            return
        kinds = [str(one) for one in self._source.rows.distinct(type_field)[:_MOST_KINDS]]
        if kinds:
            raise ConversionError(
                f"--type: no row of {self._source.place} is of {type_of(self.target, self.given)!r}. There are rows of: {', '.join(kinds)}.",
                known=kinds,
            )

    def _check_field(self, name: str) -> None:
        path = self.given[name]
        if path is None or (name == "array_field" and "array_field" not in self._named):
            return
        array = self.given["array_field"]
        paths = [path] if array is None or name == "array_field" else [path, f"{array}.{path}"]
        there = {"$or": [{one: {"$exists": True}} for one in paths]}
        query = self._source.query()
        if self._source.rows.find_one({"$and": [query, there]} if query else there, {"_id": 1}) is None:
            found = ", ".join(sorted(self._source.rows.find_one(query) or {}))
            raise ConversionError(
                f"--{name.replace('_', '-')}: no row of {self._source.place} has {path!r}. The fields of one: {found}.",
                option=name,
            )

    def remarks(self) -> Iterator[str]:
        """Keys without a document are those of deleted ones, or of another model; times without a zone are UTC."""
        sample = list(self._source.rows.find(self._source.query()).limit(_SAMPLE))
        time_field = self.given["time_field"]
        if time_field is not None and self.given["source_timezone"] is None:
            texts = [found for row in sample if isinstance(found := at(row, time_field), str)]
            if any(self._is_naive(found) for found in texts):
                yield f"Times in {time_field} have no offset and are taken for UTC: is that so? See --source-timezone."
        keys = {repr(found): found for row in sample if (found := at(row, self._source.key)) is not None}
        wanted = [self.target.document_id(key) for key in keys.values()]
        count = self.target.source.collection.count_documents({"_id": {"$in": wanted}})
        if keys and not count:
            yield (
                f"None of {len(keys)} documents that were looked at is there: are these rows of {self.target.label}, and is "
                f"{self._source.key} its _id? See --key-field, --match-field and --where."
            )

    def _is_naive(self, found: str) -> bool:
        one, other = Moments("Asia/Tokyo").read_text(found), Moments(None).read_text(found)
        return one is not None and one != other
