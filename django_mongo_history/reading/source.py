"""Where the documents of a class and their versions lie, and how to read both as of one instant."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Any, Final, TypeVar

from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo.collection import Collection
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from django_mongo_history.core import policy, tombstones, values
from django_mongo_history.core.drift import Renamed, rename_keys
from django_mongo_history.core.model import DocumentKey, Entry
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.delivery.environment import IN_TRANSACTION, Environment
from django_mongo_history.driver import collections, topology
from django_mongo_history.driver.images import Images, MongomockImages, PyMongoImages
from django_mongo_history.driver.topology import bound_session
from django_mongo_history.registry import Tracked
from django_mongo_history.storage.base import Query, Store

_PATIENCE_S: Final = 20.0
_NO_SNAPSHOT: Final = 246
"""SnapshotUnavailable: for good where the collection is capped."""
_NOTHING: Final = Policy()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View:
    """How versions are shown: what today's policy prunes, today's names, and the caller's codec options."""

    policy: Policy
    renamed: Renamed
    codec_options: CodecOptions[Any]

    def show(self, state: bytes | None) -> bytes | None:
        """A stored state as today lets it be seen."""
        return None if state is None else rename_keys(policy.prune(state, self.policy), self.renamed)


@dataclass(frozen=True, slots=True)
class Source:
    """
    One class's documents in one collection (`collection`, the driver's own) and the store of their versions.

    `tracked.policy` is today's: it prunes everything that leaves here. So does `also`, which is what this reader may not
    see; it hides from the reader alone, and nothing is recorded by it.
    """

    tracked: Tracked
    collection: Any
    store: Store
    environment: Environment
    also: Policy = _NOTHING

    def now(self) -> datetime:
        return self.environment.now()

    @property
    def namespace(self) -> str:
        """`db.collection`, where its documents lie now."""
        return str(self.collection.full_name)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The same, and where they lay before: under which versions may be stored."""
        database = self.collection.database.name
        return (self.namespace, *(f"{database}.{name}" for name in self.tracked.collections))

    @property
    def view(self) -> View:
        """How its versions are shown."""
        return View(self.policy, self.tracked.renamed, self.codec_options)

    def under_rules_of(self, class_name: str | None) -> Source:
        """The same for a document of this `_cls`: a subclass may have rules of its own, which then are the document's."""
        found = self.environment.registry.of_image(class_name, self.tracked.document_class)
        if found is None or found is self.tracked or found.policy == self.tracked.policy:
            return self
        return replace(self, tracked=replace(self.tracked, policy=found.policy))

    def entries(self, document_id: Any, session: Any) -> list[Entry]:
        """What order needs of all versions of a document, wherever they are filed."""
        found = (
            self.store.entries(DocumentKey(name, document_id), session=session) for name in self.namespaces
        )
        return list(chain.from_iterable(found))

    def entries_of(self, document_ids: Sequence[Any], session: Any) -> Iterator[Entry]:
        """The same for many documents at once."""
        for name in self.namespaces:
            yield from self.store.entries_of(name, document_ids, session=session)

    def scan(self, *, above: Any, upto: Any, session: Any) -> Iterator[Entry]:
        """The same for all documents, grouped by document, ids ascending in BSON order."""
        found = [self.store.scan(name, above=above, upto=upto, session=session) for name in self.namespaces]
        if len(found) == 1:
            return found[0]
        return heapq.merge(*found, key=lambda entry: values.sort_key(entry.document_id))

    def snapshots(self, document_ids: Sequence[Any]) -> frozenset[ObjectId]:
        """The ids of versions of these documents that hold a snapshot."""
        return frozenset().union(*(self.store.snapshots(name, document_ids) for name in self.namespaces))

    def may_lag(self) -> bool:
        """Whether a document may be seen before its version: where the two are not written in one transaction."""
        is_atomic = self.environment.mode_for(self.tracked, self.collection) in IN_TRANSACTION
        # On another server versions are read a moment after the outbox, so that some of later writes may be among them.
        return (not is_atomic or self.environment.queues.is_foreign) and self.bound_session() is None

    def is_on_its_way(self, version_id: ObjectId) -> bool:
        """Whether a version is still in an outbox. Cost: one look into it, nothing where there is none."""
        outbox = getattr(self.store, "outbox", None)
        return outbox is not None and bool(outbox.holds(version_id))

    def tombstones(self) -> list[Tombstone]:
        """The drops of its collection that are not disproved, oldest first."""
        found = list(self.store.tombstones(Query(collections=self.namespaces)))
        return tombstones.standing(found, collections.identities(self.collection.database)) if found else []

    @property
    def policy(self) -> Policy:
        """All that is pruned: by today's rules, and from this reader."""
        return self.tracked.policy if self.also is _NOTHING else self.tracked.policy.joined(self.also)

    @property
    def codec_options(self) -> CodecOptions[Any]:
        return self.images.codec_options

    @property
    def images(self) -> Images:
        if isinstance(self.collection, Collection):
            return PyMongoImages(self.collection, computes=False)
        return MongomockImages(self.collection)

    def key(self, document_id: Any) -> DocumentKey:
        return DocumentKey(self.namespace, document_id)

    def bound_session(self) -> Any:
        """The caller's session in a transaction that is bound to this context, or None."""
        session = bound_session(self.collection.database.client)
        return session if session is not None and session.in_transaction else None

    def consistently(self, read: Callable[[Any], T]) -> T:
        """
        `read(session)` with everything seen as of one instant, so that a write in between is no false gap.

        On a replica set that is a short read transaction on the primary (the caller's own where one is bound);
        elsewhere there is no such thing and `read` sees what comes.
        """
        client = self.collection.database.client
        is_refused = self.namespace in self.environment.refused
        if is_refused or not topology.has_transactions(client) or bound_session(client) is not None:
            return read(None)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return _in_snapshot(client, read)
            except PyMongoError as error:
                if getattr(error, "code", None) == _NO_SNAPSHOT and self.collection.options().get("capped"):
                    self.environment.refused.add(self.namespace)
                    return read(None)
                if not error.has_error_label("TransientTransactionError") or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)


def _in_snapshot(client: Any, read: Callable[[Any], T]) -> T:
    with client.start_session(causal_consistency=False) as session:
        session.start_transaction(
            read_concern=ReadConcern("snapshot"), read_preference=ReadPreference.PRIMARY
        )
        try:
            return read(session)
        finally:
            if session.in_transaction:
                session.abort_transaction()  # it wrote nothing: there is nothing to wait for
