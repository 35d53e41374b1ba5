"""
`History.objects`: the recorded changes as rows with the fields and the queries of mongoengine-history.

Rows are drawn from stored versions at each reading; nothing is stored for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar, Final, overload

import mongoengine
from mongoengine.errors import OperationError

from django_mongo_history import context, documents, runtime
from django_mongo_history.compat import lookups
from django_mongo_history.compat.knowing import know_collection
from django_mongo_history.core import values
from django_mongo_history.core.model import ABSENT, UserRef, VersionRecord
from django_mongo_history.query import Sources, Version
from django_mongo_history.query.records import records_of
from django_mongo_history.reading import Source
from django_mongo_history.storage.base import Query

MARK: Final = "document_track"
"""What versions carry in `extra` that were made in a `DocumentTrack`, with the value True."""


class _Objects:
    """`History.objects`: all rows, anew at each access; rows themselves have none."""

    def __get__(self, instance: Any, owner: type[Any]) -> Rows:
        if instance is not None:
            raise AttributeError("objects can be used on the class History only")
        return Rows()


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """
    One change of one version: what one entry of its patch did.

    `action`: "change", "add" or "remove". `path`: database field names and list indexes joined by dots; empty for the
    document itself. `data`: `{"old": ..., "new": ...}`, or `{"items": [{"key": ..., "value": ...}]}` with the names or
    indexes that came or went. `created_at` is naive local time. `version` is where it comes from.
    """

    objects = _Objects()
    DoesNotExist: ClassVar[type[Exception]] = type(
        "DoesNotExist", (mongoengine.DoesNotExist,), {"__module__": __name__}
    )
    MultipleObjectsReturned: ClassVar[type[Exception]] = type(
        "MultipleObjectsReturned", (mongoengine.MultipleObjectsReturned,), {"__module__": __name__}
    )

    id: str
    version: Version
    action: str
    path: str
    data: dict[str, Any]
    document_id: Any
    document_type: str
    identity: Any

    @property
    def pk(self) -> str:
        return self.id

    @property
    def at(self) -> datetime:
        """When its version was made: aware, UTC."""
        at = self.version.at
        assert at is not None  # rows are of stored versions
        return at

    @property
    def created_at(self) -> datetime:
        """The same in naive local time."""
        return self.at.astimezone().replace(tzinfo=None)

    def __iter__(self) -> Iterator[History]:
        """Itself alone, so that what `objects.get()` gives can be looped over."""
        yield self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(slots=True)
class Rows:
    """
    The rows that fulfil every condition, oldest first unless ordered; used like a MongoEngine queryset.

    Made lazily, read once and kept, like a queryset; `all()` or another condition makes one that reads anew. A slice is one
    more of its kind, but with a step or from the end a list.
    Cost: document, document type, identity and moments are looked up in an index, other conditions and orders are
    applied to what that finds.
    """

    _wanted: tuple[lookups.Condition, ...] = ()
    _given: dict[str, Any] | None = None
    _order: tuple[str, ...] = ()
    _low: int = 0
    _high: int | None = None
    _alias: str | None = None
    _known: list[History] | None = None

    # -- narrowing -------------------------------------------------------------------------------------------------

    def __call__(self, *conditions: Any, **given: Any) -> Rows:
        """
        Those that fulfil these too: fields with MongoEngine's operators (`path__startswith`), and `Q` objects.

        Raises: InvalidQueryError for a field or an operator that there is not; ValueError for what is no moment.
        """
        wanted = (*self._wanted, *(lookups.of_tree(one) for one in conditions), *lookups.of_names(given))
        return self._changed(_wanted=wanted, _given={**(self._given or {}), **given})

    filter = __call__

    def all(self) -> Rows:
        return self._changed()

    def clone(self) -> Rows:
        return self._changed()

    def order_by(self, *names: str) -> Rows:
        """Sorted by these fields, `-` before a name turns it round; ties stay in the order in which they were made."""
        for name in names:
            lookups.check_field(name.lstrip("+-"))
        return self._changed(_order=names)

    def limit(self, count: int | None) -> Rows:
        return self._changed(_high=None if not count else self._low + count)

    def skip(self, count: int | None) -> Rows:
        size = None if self._high is None else self._high - self._low
        low = count or 0
        return self._changed(_low=low, _high=None if size is None else low + size)

    def using(self, alias: str) -> Rows:
        """Those of the databases of another connection."""
        return self._changed(_alias=alias)

    # -- reading ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[History]:
        return iter(self._rows())

    def __len__(self) -> int:
        return len(self._rows())

    def __bool__(self) -> bool:
        return self.first() is not None

    @overload
    def __getitem__(self, index: int) -> History: ...
    @overload
    def __getitem__(self, index: slice) -> Rows | list[History]: ...
    def __getitem__(self, index: int | slice) -> History | Rows | list[History]:
        if isinstance(index, int):
            return self._rows()[index] if index < 0 or self._known is not None else self._at(index)
        low, high = index.start or 0, index.stop
        if index.step not in (None, 1) or low < 0 or (high is not None and high < 0):
            return self._rows()[index]
        ends = [end for end in (self._high, None if high is None else self._low + high) if end is not None]
        start = self._low + low
        return self._changed(_low=start, _high=max(min(ends), start) if ends else None)

    def get(self, *conditions: Any, **given: Any) -> History | Rows:
        """
        The row that fulfils the conditions; where there are several, all of them, to be looped over.

        Both can be looped over, as the documentation of mongoengine-history does. `.action` and the other fields of
        several rows raise MultipleObjectsReturned.
        Raises: History.DoesNotExist where there is none.
        """
        found = self(*conditions, **given)
        rows = list(islice(found.stream(), 2))
        if not rows:
            raise History.DoesNotExist("No change in the history fulfils these conditions.")
        return rows[0] if len(rows) == 1 else found

    def first(self) -> History | None:
        return next(iter(self._known if self._known is not None else self.stream()), None)

    def count(self, with_limit_and_skip: bool = False) -> int:  # noqa: FBT001, FBT002 - as MongoEngine's
        """How many there are; as MongoEngine counts, without regard to a slice unless asked for."""
        whole = self if with_limit_and_skip else self._changed(_low=0, _high=None)
        return sum(1 for _row in whole.stream())

    def scalar(self, *names: str) -> list[Any]:
        """The values of these fields: of one the value, of several tuples."""
        for name in names:
            lookups.check_field(name)
        rows = ([getattr(row, name) for name in names] for row in self)
        return [row[0] if len(names) == 1 else tuple(row) for row in rows]

    values_list = scalar

    def distinct(self, name: str) -> list[Any]:
        """The values of a field, each once, in the order in which they first appear."""
        found: list[Any] = []
        for value in self.scalar(name):
            if value not in found:
                found.append(value)
        return found

    def delete(self, *_: Any, **__: Any) -> None:
        """Raises: OperationError, always: no call changes or deletes a stored version."""
        raise OperationError(
            "The rows of History are drawn from stored versions, which are never changed or deleted."
        )

    update = update_one = modify = insert = upsert_one = delete

    def __getattr__(self, name: str) -> Any:
        if name in lookups.FIELDS:
            raise History.MultipleObjectsReturned(
                f"{self.count()} changes fulfil the conditions, so they have no one {name!r}; loop over them."
            )
        raise AttributeError(f"the rows of History have no {name!r}")

    def __repr__(self) -> str:
        shown = list(islice(self, 21))
        return repr(shown[:20])[:-1] + (", ...]" if len(shown) > 20 else "]")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _changed(self, **changes: Any) -> Rows:
        return replace(self, **{"_known": None, **changes})

    def _rows(self) -> list[History]:
        if self._known is None:
            self._known = list(self.stream())
        return self._known

    def _at(self, index: int) -> History:
        found = next(islice(self.stream(), index, None), None)
        if found is None:
            raise IndexError(f"there is no change at index {index}")
        return found

    def stream(self) -> Iterator[History]:
        """The rows as they are read, kept by nobody."""
        is_turned = self._order == ("-created_at",)
        rows: Iterator[History] = (
            row for row in self._all(newest_first=is_turned) if all(one(row) for one in self._wanted)
        )
        if self._order and self._order not in (("created_at",), ("-created_at",), ("+created_at",)):
            rows = iter(_sorted(list(rows), self._order))
        return islice(rows, self._low, self._high)

    def _all(self, *, newest_first: bool) -> Iterator[History]:
        if isinstance(kind := (self._given or {}).get("document_type"), str):
            know_collection(kind)
        sources = runtime.sources()
        for source, record in _records(sources, self._given or {}, self._alias, newest_first=newest_first):
            if MARK in record.context.extra:
                rows = list(_rows_of(Version(sources, source, record=record), record))
                yield from reversed(rows) if newest_first else rows


def _rows_of(version: Version, record: VersionRecord) -> Iterator[History]:
    user = record.context.user
    shared = {
        "version": version,
        "document_id": version.document_id,
        "document_type": _collection(record.collection),
        "identity": None if user is None else user.pk,
    }
    for number, (action, path, payload) in enumerate(version.patch):
        data = _data(action, path, payload)
        if data:
            place = ".".join(map(str, path))
            yield History(id=f"{record.id}-{number}", action=action, path=place, data=data, **shared)


def _data(action: str, path: Sequence[Any], payload: Any) -> dict[str, Any]:
    if action == "change":
        return {"old": payload[0], "new": payload[1]}
    items = [{"key": key, "value": value} for key, value in payload if path or key != "_id"]
    return {"items": items} if items else {}


def _records(
    sources: Sources, given: dict[str, Any], alias: str | None, *, newest_first: bool
) -> Iterator[tuple[Source, VersionRecord]]:
    """The stored versions that the conditions may be about, sorted by moment; by indexes where they say enough."""
    queries = [replace(query, newest_first=newest_first) for query in _queries(sources, given, alias)]
    return records_of(sources, *queries, using=alias) if queries else iter(())


def _queries(sources: Sources, given: dict[str, Any], alias: str | None) -> Iterator[Query]:
    identity = given.get("identity")
    user = None if identity is None else UserRef(context.storable_key(getattr(identity, "pk", identity)))
    after, before = lookups.bounds(given)
    shared = Query(user=user, after=after, before=before)
    kind, key = given.get("document_type"), given.get("document_id")
    if kind is None and key is None:
        yield shared
        return
    found = list(sources.all(using=alias))
    places = [[name for name in source.namespaces if kind in (None, _collection(name))] for source in found]
    if not any(places):  # documents were switched there, of whichever class
        places = [[f"{source.collection.database.name}.{kind}"] for source in found]
    for source, names in zip(found, places, strict=True):
        stored = _stored_key(source, key)
        if names and (key is None or stored is not ABSENT):
            yield replace(shared, collections=tuple(names), document_id=stored)


def _collection(namespace: str) -> str:
    """The name of a collection without its database's."""
    return namespace.partition(".")[2]


def _stored_key(source: Source, key: Any) -> Any:
    """A key as documents of this class would have it in the database; ABSENT where they cannot have it."""
    if key is None:
        return ABSENT
    pk = getattr(key, "pk", key)
    try:
        return documents.exact_id(source.tracked.document_class, pk, source.codec_options)
    except ValueError:
        return ABSENT


def _sorted(rows: list[History], names: Sequence[str]) -> list[History]:
    for name in reversed(names):
        read = _sort_key(name.lstrip("+-"))
        rows.sort(key=read, reverse=name.startswith("-"))
    return rows


def _sort_key(name: str) -> Callable[[History], Any]:
    return lambda row: values.sort_key(lookups.value_of(row, name))
