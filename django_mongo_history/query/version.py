"""A version and a changeset as users hold them: each leads to the other, and both have the ways back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django_mongo_history import documents, reading, revert
from django_mongo_history.core import policy
from django_mongo_history.core.model import Change, Operation, PatchEntries, State, VersionRecord
from django_mongo_history.errors import DocumentDeletedError, HiddenFieldError, UntrackedFieldError
from django_mongo_history.query.facts import VersionFacts
from django_mongo_history.query.records import records_of
from django_mongo_history.query.relations import Places, Then
from django_mongo_history.query.summaries import ChangesetFacts
from django_mongo_history.reading import Source
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
        """
        An unsaved instance of the state, built leniently. Its references lead to documents as they were at `at`, which
        are read once they are looked at.

        Raises: DocumentDeletedError for a delete.
        """
        state = self._chain.after(self.index)
        if state is None:
            raise DocumentDeletedError(
                f"Version {self.number} of {self.document_id!r} deleted the document; take `.previous` for what it was.",
                document_id=self.document_id,
                version=self.id,
            )
        return Then.at(self._sources, self.at).instance(self.document_class, state, self._source)

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

    @property
    def is_on_its_way(self) -> bool:
        """
        Whether it is still in the outbox, from where a worker will move it on; it is complete all the same.

        What a broker carries is not known before it arrives. Cost: nothing, or one look into the outbox.
        """
        record = self._stored
        return record is not None and self._source.is_on_its_way(record.id)

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

    def follow(self, relation: str) -> Any:
        """
        What a reference led to at `at`: the version in force then of the document that it named.

        Shape: None for an empty reference, a list for a list, a dict for a map. `relation` is a path: through embedded
        documents, through lists without an index, `*` for any key of a map; behind a reference it goes on in the document
        that this led to. Of a class that is not tracked the answer is a `LiveDocument`, and a `VanishedDocument` where the
        document did not exist then. A version whose `at` is None is asked for first versions. Of a delete it is None.
        Cost: two queries for up to 1,000 documents of a collection, for each reference on the path.
        Raises: ValueError for what is no reference; HiddenFieldError; UntrackedFieldError.
        """
        return Then.at(self._sources, self.at).follow(
            self.document_class,
            self._chain.after(self.index),
            relation,
            self._chain.source.policy,
            lambda history, index: Version(self._sources, history.source, history=history, index=index),
        )

    # -- the ways back ---------------------------------------------------------------------------------------------

    def revert(self, fields: Iterable[str] | None = None, relations: Iterable[str] = ()) -> Version | None:
        """
        Write the state after this version back, as a new version; of a delete, delete the document again.

        `fields` limits it to these (attribute or database names). Hidden and untracked paths keep their present value.
        `relations` names references, as in `follow`: every document that they led to, those on the way of a dotted path
        too, goes back to what it was at `at`, whether it has been deleted since or not. All of it is one changeset.
        Returns the new version of this document, None where nothing had to be written.
        Raises: ConflictError, with nothing written, where something stands in the way of any of them; ValueError for a
        relation that is no reference; HiddenFieldError; UntrackedFieldError; BrokenChainError.
        """
        plan = revert.plan_related(
            self.target(fields),
            relations,
            moment=self.at,
            locate=Places(self._sources),
            revert_of=self.id,
        )
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


class Changeset(ChangesetFacts):
    """What belongs together, versions and drops of collections: with its versions, and the way back for all of them."""

    def versions(self) -> list[Version]:
        """Its stored versions of all classes, in the order in which they were made."""
        return [Version(self._sources, source, record=record) for source, record in self._records()]

    def by_class(self) -> dict[type[Any] | str, list[Version]]:
        """
        What it changed: its stored versions by the class of their documents, in the order in which they were made.

        A class that is not known any more is given by the name that it is stored under.
        """
        found: dict[type[Any] | str, list[Version]] = {}
        for source, record in self._records():
            known = documents.find_class(record.document_class) or record.document_class
            found.setdefault(known, []).append(Version(self._sources, source, record=record))
        return found

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
