"""
What a source format is: rows of one document in, steps of its history out.

A format has one method that it must have, `steps`; everything else has a default for rows that lie in a collection of their
own. It makes no version and knows no store: `engine` does that, by the rules that hold for every format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar, Final, NamedTuple

from bson import ObjectId

from django_mongo_history import documents
from django_mongo_history.conversion.options import COLLECTION, Given, Option
from django_mongo_history.conversion.rows import CollectionReader, Reader, Row
from django_mongo_history.core import values
from django_mongo_history.core.model import Context, Path, State
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import ConversionError
from django_mongo_history.reading import Source


class Unknown(Enum):
    """The side of a step of which the rows say nothing."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return self.name


UNKNOWN: Final = Unknown.UNKNOWN

NOBODY: Final = Context()
"""Nothing is known of who and why."""

Side = State | bytes | None | Unknown
"""A whole document, `_id` included, as a dict of exact values or as BSON; None: it did not exist; or UNKNOWN."""


class BadRow(NamedTuple):
    """A row that nothing can be made of, and why. It goes to the report. No value of the row belongs into `reason`."""

    id: Any
    reason: str


class Edit(NamedTuple):
    """
    One change that a row tells of, for formats that do not have whole states.

    `action` and `payload` as dictdiffer has them: "change" (old, new); "add" and "remove" [(key, value), ...], keys of
    documents as text, indexes of lists as numbers. And "set" (old, new) for sources that do not tell null from absent: None
    is either. `path`: a tuple, or a dotted text, which is resolved against the state that it meets.
    """

    action: str
    path: Path | str
    payload: Any


class Step(NamedTuple):
    """
    One step of an old history: what becomes one version.

    `rows`: those that it is made of, each in one step only. `at`: when the write was made, aware. `before` and `after`: the
    document on both sides as far as the rows say so. Where they say UNKNOWN, it is what the neighbours say: `after` what
    the next step, the first live version or the live document begins with; `before` what `edits` undone lead to, else
    the state after the step in front (a first step without any of it becomes a baseline). `gap`: why the rows do not
    determine what they should, empty where they do. `changeset`: what steps of several documents have in common that
    belong together, any BSON value; None: each by itself. `hidden`: dotted database paths that were changed and whose
    values the rows do not have; those count that the class hides.
    """

    rows: Sequence[Row]
    at: datetime
    before: Side = UNKNOWN
    after: Side = UNKNOWN
    edits: Sequence[Edit] = ()
    context: Context = NOBODY
    gap: str = ""
    changeset: Any = None
    hidden: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Whose history it becomes: the tracked class, and where its documents lie."""

    source: Source

    @property
    def document_class(self) -> type[Any]:
        return self.source.tracked.document_class

    @property
    def label(self) -> str:
        return self.source.tracked.label

    @property
    def database(self) -> Any:
        """The database of the documents, the driver's own."""
        return self.source.collection.database

    def policy_of(self, class_name: str | None) -> Policy:
        """The rules for a document of this `_cls`; None: all that the class and those below it have."""
        registry = self.source.environment.registry
        found = None if class_name is None else registry.of_image(class_name, self.document_class)
        if found is not None:
            return found.policy
        policy = self.source.tracked.policy
        for one in registry:
            if issubclass(one.document_class, self.document_class):
                policy = policy.joined(one.policy)
        return policy

    def document_id(self, key: Any) -> Any:
        """A key as the class's documents have it: texts of ObjectIds become ObjectIds where those are its keys."""
        return documents.spelled_id(self.document_class, key)

    def keys_of(self, document_id: Any) -> list[Any]:
        """The keys that rows of a document may have, whichever are there: all those of which `document_id` makes this one."""
        return documents.spellings_of(self.document_class, document_id)


class Format(ABC):
    """
    A source format. Made for one target with its options, which are read and checked already (`given`).

    Rows lie in the collection that the option `collection` names, belong to the document whose `_id` is at `key` (a dotted
    path) and are given to `steps` in the order of `sort`; `query` limits them. `time`: the path of the moment at which a row
    was stored, for looking for rows that came later; without it ObjectIds tell.
    """

    name: ClassVar[str]
    help: ClassVar[str] = ""
    options: ClassVar[tuple[Option, ...]] = (COLLECTION,)
    key: str = "document_id"
    sort: tuple[str, ...] = ("_id",)
    time: str | None = None

    def __init__(self, target: Target, given: Given) -> None:
        self.target = target
        self.given = given

    # -- the one that every format has -----------------------------------------------------------------------------

    @abstractmethod
    def steps(self, document_id: Any, rows: Sequence[Row]) -> Iterable[Step | BadRow]:
        """
        The steps of one document, oldest first. `rows`: all rows of the document, in the order of `sort`.

        The same rows give the same steps; rows that come later give further steps, behind or between. What cannot be read
        is a BadRow; an exception would end the run.
        """

    # -- where its rows lie ----------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> Any:
        """The driver's collection of the rows."""
        return self.target.database[self.given["collection"]]

    passing_options: ClassVar[frozenset[str]] = frozenset()
    """Options that change nothing about the versions, so that each run may have them as it likes."""

    def check_removal(self, document_ids: Iterable[Any]) -> None:  # noqa: B027 - most can make theirs anew
        """Raises: ConversionError where the versions of one of these documents could not be made anew: its rows are gone."""

    @property
    def place(self) -> str:
        """What people call the source: `database.collection`, and whatever else tells two of them apart."""
        return str(self.rows.full_name) if self.given.get("collection") else str(self.target.database.name)

    def query(self) -> dict[str, Any]:
        """Which rows of the collection are meant, besides having a key."""
        return {}

    def since(self, moment: datetime) -> dict[str, Any]:
        """A query for the rows that may have been stored since; more than those do no harm."""
        if self.time is not None:
            return {self.time: {"$gte": moment}}
        return {"_id": {"$gte": ObjectId.from_datetime(moment)}}

    def check(self) -> None:
        """Raises: ConversionError where the source is not there or empty, or an option is missing. Nothing is written yet."""
        if not self.given.get("collection"):
            raise ConversionError(f"{self.name}: name the collection of the old rows with --collection.")
        if self.rows.name not in self.target.database.list_collection_names(filter={"name": self.rows.name}):
            raise ConversionError(
                f"{self.name}: there is no collection {self.rows.name} in the database {self.target.database.name}."
            )
        if self.rows.find_one(self.query(), {"_id": 1}) is None:
            raise ConversionError(
                f"{self.name}: {self.place} holds no rows for {self.target.label}.", is_empty=True
            )
        if self.rows.find_one({**self.query(), self.key: {"$exists": True}}, {"_id": 1}) is None:
            raise ConversionError(
                f"{self.name}: no row in {self.place} has the field {self.key}, which says whose it is."
            )

    def reader(self) -> Reader:
        """What reads its rows, document by document; see `conversion.rows` for what that must be able to do."""
        return CollectionReader(self.rows, key=self.key, sort=self.sort, query=self.query(), since=self.since)

    def remarks(self) -> Iterator[str]:
        """What a user should know before a run: options that the rows themselves speak against, say."""
        yield from ()

    # -- what rows are called ------------------------------------------------------------------------------------------

    def known_as(self, rows: Sequence[Row], policy: Policy) -> Sequence[Any]:
        """
        What these rows, all of one document, were called when they were read under the rules of `policy`, in their order.

        An id of a row is stored, in the clear and in digests: no value that a class hides belongs into it, nor a digest of one.
        For formats whose rows have no ids of their own, and call them after what they may show.
        """
        return [row.id for row in rows]

    # -- what of a row is kept where it says more than a version can -------------------------------------------------

    def kept(self, row: Row, policy: Policy) -> Any:
        """
        The row as it is kept beside a gap; without whatever the class hides or leaves untracked.

        By default nothing but the id where the class hides anything, for only the format knows which value is of which path.
        """
        return row.values if not policy.untracked and not policy.hidden else {"_id": row.id}

    # -- work that is left when versions are stored ----------------------------------------------------------------------

    empties_source: ClassVar[bool] = False
    """Whether rows may be gone because they are converted: then a check finds nothing wrong in that."""

    asks: str = ""
    """What the user is asked before a run that changes the source; empty where none does."""

    def finish(self, document_id: Any, rows: Sequence[Row], *, is_whole: bool) -> None:  # noqa: B027 - most have nothing to do
        """
        Called for each document once all versions of `rows` are stored. `is_whole`: none of the rows was bad.

        For formats that change the source when it is asked of them.
        """

    # -- finding by itself --------------------------------------------------------------------------------------------

    @classmethod
    def discover(cls, target: Target) -> Iterator[Mapping[str, Any]]:  # noqa: ARG003 - for those that override it
        """The options of every source of this format that is there for the target, without being told."""
        yield from ()


def image(document_id: Any, fields: Mapping[str, Any]) -> bytes:
    """The BSON of a document from its fields without or with `_id`, which comes first."""
    rest = {name: value for name, value in fields.items() if name != "_id"}
    return values.encode({"_id": document_id, **rest})
