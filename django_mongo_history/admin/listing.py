"""
Stored versions page by page, in the order of (at, _id), never by counting: page 10,000 costs what the first one costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from bson import ObjectId

from django_mongo_history.admin.access import VIEW, Access
from django_mongo_history.admin.places import Place, place_text, read_place, sealed_place
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.query.records import records_of, stores_of
from django_mongo_history.reading import Source
from django_mongo_history.storage.base import Head, Query

PAGE_SIZE: Final = 50
_ROUNDS: Final = 20
"""How often a page is filled up where a scope leaves rows out, before it is shown with what there is."""
_MOST_UNREADABLE: Final = 10_000
"""Rows that cannot be read beside those of one round, beyond which no more is looked for."""

Found = tuple[Source, VersionRecord]


@dataclass(frozen=True, slots=True)
class Pages:
    """
    One page. `newer` and `older` are where the pages beside it begin, empty where there is none. `problems`: rows that
    cannot be read.
    """

    found: list[Found] = field(default_factory=list)
    newer: str = ""
    older: str = ""
    problems: list[str] = field(default_factory=list)


def read_page(
    access: Access,
    queries: Sequence[Query],
    *,
    older_than: str = "",
    newer_than: str = "",
    size: int = PAGE_SIZE,
) -> Pages:
    """
    The page behind a place, or before it; without either the newest one.

    Cost: a few indexed queries for `size` + 1 rows, whatever the place. Raises: ValueError for what is no place;
    pymongo's ExecutionTimeout where the server looked longer than it may.
    """
    place = read_place(older_than or newer_than)
    is_back = bool(newer_than and not older_than)
    problems: list[str] = []
    seen, end = _filled(access, queries, place, size=size, newest_first=not is_back, problems=problems)
    has_more = len(seen) > size or end is not None
    seen = seen[:size]
    if is_back:
        seen.reverse()
    first = _place_of(seen[0]) if seen else newer_than or older_than
    last = _place_of(seen[-1]) if seen else older_than or newer_than
    if end is not None:
        first, last = (end, last) if is_back else (first, end)
    return Pages(
        seen,
        newer=first if (has_more if is_back else place is not None) else "",
        older=last if (True if is_back else has_more) and last else "",
        problems=problems,
    )


def _filled(
    access: Access,
    queries: Sequence[Query],
    place: Place | None,
    *,
    size: int,
    newest_first: bool,
    problems: list[str],
) -> tuple[list[Found], str | None]:
    """`size` + 1 rows that the user may see; and where the search was given up, if it was: at one that they may not see."""
    seen: list[Found] = []
    limit = size + 1
    for _round in range(_ROUNDS):
        asked = [replace(one, past=place, newest_first=newest_first) for one in queries]
        batch, told = _batch(access, asked, limit)
        if access.scope.is_everything:  # else nobody knows whether they may be told of
            problems.extend(told)
        seen.extend(
            (access.narrowed(source), record)
            for source, record in batch
            if access.sees_record(source, record, VIEW)
        )
        if len(batch) < limit or len(seen) >= limit:
            return seen, None
        place = batch[-1][1].at, batch[-1][1].id
    return seen, None if place is None else sealed_place(*place)


def _place_of(found: Found) -> str:
    return place_text(found[1].at, found[1].id)


def _batch(access: Access, queries: Sequence[Query], limit: int) -> tuple[list[Found], list[str]]:
    """
    The next `limit` rows of these queries, fewer where there are no more; and what is to be said of those that cannot be
    read. These count for a query's own limit: it is asked again for as many more as there were.
    """
    extra = 0
    while True:
        told: dict[object, str] = {}

        def tell(error: BrokenChainError, told: dict[object, str] = told) -> None:
            told[error.version] = str(error)

        asked = [replace(one, limit=limit + extra, unreadable=tell) for one in queries]
        batch = list(islice(records_of(access.sources, *asked), limit)) if asked else []
        if len(told) <= extra or extra >= _MOST_UNREADABLE:
            return batch, list(told.values())
        extra = 2 * len(told)


def read_heads(access: Access, queries: Sequence[Query], *, most: int) -> Iterator[Head]:
    """
    What the newest `most` versions of these queries did, newest first; of several stores and queries one after another,
    each version once. Those that the user may not see are left out.
    """
    is_everything = access.scope.is_everything and not access.asks_for_each
    seen: set[ObjectId] = set()
    for near in stores_of(access.sources):
        for query in queries:
            for head in near.store.heads(replace(query, limit=most)):
                if head.id in seen or (not is_everything and not _sees_head(access, near, head)):
                    continue
                seen.add(head.id)
                yield head


def _sees_head(access: Access, near: Source, head: Head) -> bool:
    return access.sees(access.sources.of_stored(head.document_class, head.collection, near), head.document_id)
