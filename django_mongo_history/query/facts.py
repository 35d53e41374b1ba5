"""What a version says about itself: which it is, when, who, from where and why."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime
from typing import Any, Self

from bson import ObjectId

from django_mongo_history import reading
from django_mongo_history.core.model import Context, Operation, VersionRecord
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import VersionNotFoundError
from django_mongo_history.query.sources import Sources
from django_mongo_history.query.who import ContextFacts
from django_mongo_history.reading import DocumentHistory, Source, read_document


class VersionFacts(ContextFacts):
    """
    One version of one document, found by its stored record or by its place in the document's history.

    Whichever of both it was not made with is read when it is first asked for.
    """

    __slots__ = ("_history", "_index", "_record", "_source", "_sources")

    _sources: Sources
    _source: Source
    _record: VersionRecord | None
    _history: DocumentHistory | None
    _index: int | None

    def __init__(
        self,
        sources: Sources,
        source: Source,
        *,
        record: VersionRecord | None = None,
        history: DocumentHistory | None = None,
        index: int | None = None,
    ) -> None:
        self._learn("_sources", sources)
        self._learn("_source", source if history is None else history.source)
        self._learn("_record", record)
        self._learn("_history", history)
        self._learn("_index", index)

    # -- what it says ----------------------------------------------------------------------------------------------

    @property
    def id(self) -> ObjectId | str:
        """Identity: an ObjectId; of a derived version a text that says which stored one it stands before."""
        if self._record is not None:
            return self._record.id
        return self._chain.steps[self.index].id

    @property
    def index(self) -> int:
        """Its place in the document's history, from 0. Computed: a version that arrives late moves it."""
        if self._index is None:
            found = None if self._record is None else self._chain.index_of(self._record.id)
            if found is None:
                raise VersionNotFoundError(
                    f"version {self.id} of {self.document_id!r} is no longer in the store", version=self.id
                )
            self._learn("_index", found)
            return found
        return self._index

    @property
    def number(self) -> int:
        """Its place from 1."""
        return self.index + 1

    @property
    def at(self) -> datetime | None:
        """When it was made: aware, UTC, milliseconds. None of a derived baseline: it answers for all time before."""
        return self._record.at if self._record is not None else self._chain.steps[self.index].at

    @property
    def operation(self) -> Operation:
        """`create`, `update`, `delete`, `baseline` or `external`; compares equal to its text."""
        return self._record.operation if self._record is not None else self._chain.steps[self.index].operation

    @property
    def is_derived(self) -> bool:
        """Whether readers derived it and nobody stored it."""
        return self._record is None and self._chain.steps[self.index].entry is None

    @property
    def revert_of(self) -> Any:
        """What it reverted, if it was made by a revert or a take-back."""
        return None if self._stored is None else self._stored.revert_of

    @property
    def source(self) -> Any:
        """
        What it was converted from, if it was: a private dict of `format`, `place`, `rows` (their ids), and `gap` (why the rows
        do not determine the state) with `raw` rows where there is one.
        """
        return None if self._stored is None else deepcopy(self._stored.source)

    @property
    def document_class(self) -> type[Any]:
        return self._source.tracked.document_class

    @property
    def document_id(self) -> Any:
        """The `_id` of its document."""
        return reading.changes.read_value(self._key.document_id, self._source.codec_options)

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _key(self) -> Any:
        return self._record.key if self._record is not None else self._chain.key

    @property
    def _chain(self) -> DocumentHistory:
        if self._history is None:
            assert self._record is not None
            self._learn("_history", read_document(self._source, self._record.document_id))
        assert self._history is not None
        return self._history

    @property
    def _stored(self) -> VersionRecord | None:
        if self._record is None:
            self._learn("_record", self._chain.record(self.index))
        return self._record

    @property
    def _context(self) -> Context:
        told = self._stored or self._tombstone
        return Context() if told is None else told.context

    @property
    def _tombstone(self) -> Tombstone | None:
        """The drop by which it is told of, of a derived delete."""
        return None if self._record is not None else self._chain.steps[self.index].tombstone

    def _learn(self, name: str, value: Any) -> None:
        """Keep what was read: the only way in which a version becomes another, and not for those who hold it."""
        object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"{name!r} cannot be set: versions never change. Write the document; that makes a new version."
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name!r} cannot be deleted: versions never change.")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: Any) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VersionFacts):
            return NotImplemented
        return self._key == other._key and self.id == other.id

    def __hash__(self) -> int:
        return hash((self._key.collection, self.id))

    def __repr__(self) -> str:
        when = "" if self.at is None else f" at {self.at.isoformat(timespec='milliseconds')}"
        return f"<Version {self.operation} of {self.document_class.__name__} {self.document_id!r}{when}>"
