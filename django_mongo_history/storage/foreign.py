"""
The store on another server than the documents'.

A session that the caller has bound (`ClientSession.bind()`) is of the documents' client, and while it is in force the
driver lets no other client do anything. What this store does is no part of that session, so there it is done without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import Context
from typing import Any, Final, ParamSpec, TypeVar

from bson import ObjectId
from pymongo.errors import InvalidOperation

from django_mongo_history.core.model import ABSENT, DocumentKey, Entry, VersionRecord
from django_mongo_history.core.replay import Records
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.storage.base import Head, Mark, Query, Summary
from django_mongo_history.storage.mongo import MongoStore

P = ParamSpec("P")
T = TypeVar("T")
_END: Final = object()


class ForeignStore(MongoStore):
    """The versions in `collection`, whatever session of another client is bound. `session` must be of its own client."""

    def append_rows(self, encoded: Sequence[bytes], *, session: Any = None, is_moved: bool = False) -> None:
        self._apart(super().append_rows, encoded, session=session, is_moved=is_moved)

    def entries(self, key: DocumentKey, *, session: Any = None) -> list[Entry]:
        return self._apart(super().entries, key, session=session)

    def entries_of(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> Iterator[Entry]:
        return self._streamed(super().entries_of(collection, document_ids, session=session))

    def scan(
        self, collection: str, *, above: Any = ABSENT, upto: Any = ABSENT, session: Any = None
    ) -> Iterator[Entry]:
        return self._streamed(super().scan(collection, above=above, upto=upto, session=session))

    def snapshots(
        self, collection: str, document_ids: Sequence[Any], *, session: Any = None
    ) -> frozenset[ObjectId]:
        return self._apart(super().snapshots, collection, document_ids, session=session)

    def records(self, ids: Iterable[ObjectId], *, session: Any = None) -> Records:
        return self._apart(super().records, ids, session=session)

    def find(self, query: Query, *, session: Any = None) -> Iterator[VersionRecord]:
        return self._streamed(super().find(query, session=session))

    def marks(self, query: Query, *, session: Any = None) -> Iterator[Mark]:
        return self._streamed(super().marks(query, session=session))

    def heads(self, query: Query) -> Iterator[Head]:
        return self._streamed(super().heads(query))

    def collections(self) -> list[str]:
        return self._apart(super().collections)

    def summaries(self, changesets: Sequence[ObjectId]) -> list[Summary]:
        return self._apart(super().summaries, changesets)

    def append_tombstone(self, tombstone: Tombstone) -> None:
        self._apart(super().append_tombstone, tombstone)

    def tombstones(self, query: Query) -> list[Tombstone]:
        return self._apart(super().tombstones, query)

    def missing(self) -> list[str]:
        return self._apart(super().missing)

    def prepare(self) -> list[str]:
        return self._apart(super().prepare)

    def _apart(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._is_another_bound():
            return call(*args, **kwargs)
        # Empty, so without a time limit of `pymongo.timeout()`, too; there is no public way to unbind one session.
        return Context().run(call, *args, **kwargs)

    def _streamed(self, found: Iterator[T]) -> Iterator[T]:
        """Each step as it is asked for: a session may have been bound between two of them."""
        try:
            while (one := self._apart(next, found, _END)) is not _END:
                yield one  # type: ignore[misc]
        finally:
            self._apart(getattr(found, "close", bool))  # which ends the server's cursor

    def _is_another_bound(self) -> bool:
        find = getattr(self._exact.database.client, "_get_bound_session", None)  # since PyMongo 4.17
        if callable(find):
            try:
                find()
            except InvalidOperation:
                return True
        return False
