"""One version as users hold it: what it says, what it changed, the state after it, and the ways back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from django_mongo_history import documents, reading, revert
from django_mongo_history.core import policy
from django_mongo_history.core.model import (
    Change,
    Context,
    Operation,
    PatchEntries,
    RequestRef,
    State,
    UserRef,
    VersionRecord,
)
from django_mongo_history.errors import DocumentDeletedError, HiddenFieldError, UntrackedFieldError
from django_mongo_history.query.sources import Sources
from django_mongo_history.reading import DocumentHistory, Source, read_document
from django_mongo_history.reading.changes import patch_between
from django_mongo_history.revert import Plan, Target

if TYPE_CHECKING:
    from django_mongo_history.query.changesets import Changeset


class Version:
    """
    One version of one document. It never changes; what is read from it is a private copy.

    Besides the names below every tracked field of the document is an attribute, and `version["field"]` is always the
    field. All values are those *after* the version; of a delete there are none.
    """

    __slots__ = ("_history", "_index", "_record", "_source", "_sources")

    def __init__(
        self,
        sources: Sources,
        source: Source,
        *,
        record: VersionRecord | None = None,
        history: DocumentHistory | None = None,
        index: int | None = None,
    ) -> None:
        self._sources = sources
        self._source = source if history is None else history.source
        self._record = record
        self._history = history
        self._index = index

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
                raise LookupError(f"version {self._record and self._record.id} is no longer in the store")
            self._index = found
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
    def user(self) -> UserRef | None:
        """The user behind it as plain values (`pk`, `label`, `model`)."""
        return self._context.user

    @property
    def remote_addr(self) -> str | None:
        return self._context.remote_addr

    @property
    def reason(self) -> str | None:
        return self._context.reason

    @property
    def extra(self) -> dict[str, Any]:
        return dict(self._context.extra)

    @property
    def request(self) -> RequestRef | None:
        """The HTTP request that it was made in: id, method, path."""
        return self._context.request

    @property
    def changeset(self) -> Changeset | None:
        """The changeset that it belongs to; None for a derived version."""
        from django_mongo_history.query.changesets import Changeset

        record = self._stored
        return (
            None if record is None or record.changeset is None else Changeset(self._sources, record.changeset)
        )

    @property
    def revert_of(self) -> Any:
        """What it reverted, if it was made by a revert or a take-back."""
        return None if self._stored is None else self._stored.revert_of

    @property
    def document_class(self) -> type[Any]:
        return self._source.tracked.document_class

    @property
    def document_id(self) -> Any:
        """The `_id` of its document."""
        return reading.changes.read_value(self._key.document_id, self._source.codec_options)

    # -- what it holds ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> State | None:
        """
        The document after it: database field names to values as PyMongo reads them. None of a delete.

        Raises: BrokenChainError where it cannot be known; `changes` may still work.
        """
        state = self._chain.after(self.index)
        return None if state is None else documents.user_values(state, self._source.codec_options)

    @property
    def document(self) -> Any:
        """An unsaved instance of the state, built leniently. Raises: DocumentDeletedError for a delete."""
        state = self.state
        if state is None:
            raise DocumentDeletedError(
                f"Version {self.number} of {self.document_id!r} deleted the document; take `.previous` for what it was.",
                document_id=self.document_id,
                version=self.id,
            )
        return documents.instance_of(self.document_class, state)

    @property
    def changes(self) -> list[Change]:
        """What it changed, path by path, with both sides. Raises: BrokenChainError for an unreadable row."""
        record = self._stored
        if record is not None:
            if record.operation is Operation.BASELINE:
                return []
            return reading.changes_of(record, self._source.view)
        return reading.changes_between(*self._sides, self._source.codec_options)

    @property
    def patch(self) -> PatchEntries:
        """The same in dictdiffer's format: `[("change", ["a", 0, "b"], (old, new)), ...]`."""
        record = self._stored
        if record is not None:
            if record.operation is Operation.BASELINE:
                return []
            return reading.shown_entries(record, self._source.view)
        return patch_between(*self._sides, self._source.codec_options)

    def __getitem__(self, name: str) -> Any:
        """A field as it was; by its attribute name or its database name."""
        stored_name = documents.state_key(self.document_class, name)
        self._refuse(stored_name, name)
        state = self.state
        if state is None:
            raise KeyError(name)
        return state[stored_name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except HiddenFieldError:
            raise
        except UntrackedFieldError:
            raise
        except KeyError:
            raise AttributeError(
                f"version {self.number} of {self.document_id!r} has no field {name!r}"
            ) from None

    # -- its neighbours --------------------------------------------------------------------------------------------

    @property
    def previous(self) -> Version | None:
        """The version before it, derived ones included."""
        return self._neighbour(self.index - 1) if self.index > 0 else None

    @property
    def next(self) -> Version | None:
        """The version after it, as far as was known when its history was read."""
        return self._neighbour(self.index + 1) if self.index + 1 < len(self._chain.steps) else None

    def follow(self, field: str) -> Version | None:
        """
        The version in force at `at` of the document that a reference field pointed to; None for an empty field.

        Raises: NotTrackedError where the document pointed to is of a class without history.
        """
        target = documents.reference_target(self.document_class, field, self[field])
        if target is None:
            return None
        document_class, key = target
        source = self._sources.of_class(document_class)
        history = read_document(source, documents.exact_id(document_class, key, source.codec_options))
        first = 0 if history.steps else None
        index = first if self.at is None else history.index_at(self.at)
        return None if index is None else Version(self._sources, source, history=history, index=index)

    # -- the ways back ---------------------------------------------------------------------------------------------

    def revert(self, fields: Iterable[str] | None = None, relations: Iterable[str] = ()) -> Version | None:
        """
        Write the state after this version back, as a new version; of a delete, delete the document again.

        `fields` limits it to these (attribute or database names). Hidden and untracked paths keep their present value.
        `relations` names reference fields: each document they pointed to goes back to what it was then, too.
        Returns the new version, None where nothing had to be written.
        Raises: ConflictError, with nothing written; BrokenChainError.
        """
        targets = [self.target(fields)]
        for name in relations:
            related = self.follow(name)
            if related is not None:
                targets.append(related.target())
        plan = revert.plan_states(targets, revert_of=self.id)
        revert.apply_or_raise(plan)
        return self._latest(plan)

    def take_back(self) -> Version | None:
        """
        Apply the inverse of just this version to the present.

        Returns the new version, None where nothing had to be written.
        Raises: ConflictError where a later version changed the same paths, with nothing written.
        """
        plan = revert.plan_take_back([(self._source, self._record_needed())], revert_of=self.id)
        revert.apply_or_raise(plan)
        return self._latest(plan)

    def target(self, fields: Iterable[str] | None = None) -> Target:
        """The document and the state after this version, for a plan of reverts."""
        names = (
            None if fields is None else [documents.state_key(self.document_class, name) for name in fields]
        )
        return Target(self._source, self._key.document_id, self._chain.after(self.index), names)

    def _latest(self, plan: Plan) -> Version | None:
        made = next((one for one in plan.made if one.key == self._key), None)
        return None if made is None else Version(self._sources, self._source, record=made)

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _key(self) -> Any:
        return self._record.key if self._record is not None else self._chain.key

    @property
    def _chain(self) -> DocumentHistory:
        if self._history is None:
            assert self._record is not None
            self._history = read_document(self._source, self._record.document_id)
        return self._history

    @property
    def _stored(self) -> VersionRecord | None:
        if self._record is None:
            self._record = self._chain.record(self.index)
        return self._record

    def _record_needed(self) -> VersionRecord:
        record = self._stored
        if record is None:
            raise ValueError(
                f"Version {self.id} was derived on reading and is not stored, so it cannot be taken back; "
                "`.previous.revert()` writes the state before it back."
            )
        return record

    @property
    def _context(self) -> Context:
        record = self._stored
        return Context() if record is None else record.context

    @property
    def _sides(self) -> tuple[bytes | None, bytes | None]:
        return self._chain.before(self.index), self._chain.after(self.index)

    def _neighbour(self, index: int) -> Version:
        return Version(self._sources, self._source, history=self._chain, index=index)

    def _refuse(self, stored_name: str, name: str) -> None:
        rules = self._source.policy
        facts: Mapping[str, Any] = {"field": name, "document_class": self.document_class}
        if policy.is_hidden((stored_name,), rules):
            raise HiddenFieldError(
                f"{name!r} of {self.document_class.__name__} is hidden: the history keeps the fact of a change, never "
                "the value.",
                **facts,
            )
        if policy.is_untracked((stored_name,), rules):
            raise UntrackedFieldError(
                f"{name!r} of {self.document_class.__name__} is untracked: the history knows nothing of it.",
                **facts,
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._key == other._key and self.id == other.id

    def __hash__(self) -> int:
        return hash((self._key.collection, self.id))

    def __repr__(self) -> str:
        when = "" if self.at is None else f" at {self.at.isoformat(timespec='milliseconds')}"
        return f"<Version {self.operation} of {self.document_class.__name__} {self.document_id!r}{when}>"
