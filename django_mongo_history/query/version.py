"""A version and a changeset as users hold them: each leads to the other, and both have the ways back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from bson import ObjectId

from django_mongo_history import documents, reading, revert
from django_mongo_history.core import policy
from django_mongo_history.core.model import Change, Operation, PatchEntries, State, VersionRecord
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import DocumentDeletedError, HiddenFieldError, UntrackedFieldError
from django_mongo_history.query.facts import VersionFacts
from django_mongo_history.query.records import drops_of, records_of
from django_mongo_history.query.sources import Sources
from django_mongo_history.reading import Source, read_document
from django_mongo_history.reading.changes import patch_between
from django_mongo_history.revert import Plan, Target
from django_mongo_history.storage.base import Query


class Version(VersionFacts):
    """
    One version of one document. It never changes; what is read from it is a private copy.

    Besides the names below every tracked field of the document is an attribute, and `version["field"]` is always the
    field. All values are those *after* the version; of a delete there are none.
    """

    __slots__ = ()

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
        except (HiddenFieldError, UntrackedFieldError):
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

    @property
    def changeset(self) -> Changeset | None:
        """The changeset that it belongs to; None for a derived version, but for a delete that a drop tells of."""
        told = self._stored or self._tombstone
        return None if told is None or told.changeset is None else Changeset(self._sources, told.changeset)

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
        tombstone = self._tombstone
        if tombstone is not None:
            drop = revert.Drop(tombstone, (self._chain.source,), [self._key.document_id])
            plan = revert.plan_take_back([], drops=[drop], revert_of=tombstone.id)
        else:
            plan = revert.plan_take_back([(self._source, self._record_needed())], revert_of=self.id)
        revert.apply_or_raise(plan)
        return self._latest(plan)

    def target(self, fields: Iterable[str] | None = None) -> Target:
        """The document and the state after this version, for a plan of reverts."""
        names = (
            None if fields is None else [documents.state_key(self.document_class, name) for name in fields]
        )
        state, rules = self._chain.after(self.index), self._chain.rules_at(self.index)
        return Target(self._source, self._key.document_id, state, names, rules)

    def _latest(self, plan: Plan) -> Version | None:
        made = next((one for one in plan.made if one.key == self._key), None)
        return None if made is None else Version(self._sources, self._source, record=made)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _record_needed(self) -> VersionRecord:
        record = self._stored
        if record is None:
            raise ValueError(
                f"Version {self.id} was derived on reading and is not stored, so it cannot be taken back; "
                "`.previous.revert()` writes the state before it back."
            )
        return record

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


class Changeset:
    """What belongs together, versions and drops of collections. `id` is its identity; the rest is read when asked for."""

    def __init__(self, sources: Sources, changeset_id: ObjectId) -> None:
        self._sources = sources
        self.id = changeset_id

    def versions(self) -> list[Version]:
        """Its stored versions of all classes, in the order in which they were made."""
        return [Version(self._sources, source, record=record) for source, record in self._records()]

    @property
    def user(self) -> Any:
        """Who made it; None where nobody is known or it wrote nothing."""
        first = self._first()
        return None if first is None else first.context.user

    @property
    def reason(self) -> str | None:
        first = self._first()
        return None if first is None else first.context.reason

    @property
    def at(self) -> datetime | None:
        """When its first version was made, or its first drop; None where it wrote nothing."""
        first = self._first()
        return None if first is None else first.at

    @property
    def dropped(self) -> list[str]:
        """The collections, as `database.collection`, that it dropped leaving a tombstone."""
        return [drop.tombstone.collection for drop in self._drops()]

    def take_back(self) -> list[Version]:
        """
        Apply the inverse of its versions to the present, as one new changeset; the new versions.

        Of a collection that it dropped the documents come back that have a version.
        Raises: ConflictError where a later version changed the same paths, or where documents that it dropped have no
        version; with nothing written.
        """
        plan = revert.plan_take_back(list(self._records()), drops=self._drops(), revert_of=self.id)
        revert.apply_or_raise(plan)
        return [Version(self._sources, plan.source_of(record.key), record=record) for record in plan.made]

    def _records(self) -> Iterator[tuple[Source, VersionRecord]]:
        return records_of(self._sources, Query(changeset=self.id))

    def _drops(self) -> list[revert.Drop]:
        return drops_of(self._sources, Query(changeset=self.id))

    def _first(self) -> VersionRecord | Tombstone | None:
        record = next((record for _source, record in self._records()), None)
        told = [record, *(drop.tombstone for drop in self._drops())]
        return min((one for one in told if one is not None), key=lambda one: one.at, default=None)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ObjectId):
            return self.id == other
        return isinstance(other, Changeset) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<Changeset {self.id}>"
