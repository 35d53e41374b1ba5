"""
Drops of whole collections: one tombstone for all documents that were in it, and which of a document's gaps it explains.

Note [A tombstone comes before its drop]
A server drops a collection in no transaction, so one of both comes first. It is the tombstone: a process that dies in
between has recorded a drop that never was, which readers can tell, and never drops what nobody hears of. What is still
there proves that the drop did not happen: a link that fits, or the collection itself, which the tombstone names by its
UUID (a collection that is made anew under the old name has another one). Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Final

from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.core import order as ordering
from django_mongo_history.core.model import CLOCK_BIT, HINT_BIT, Context, Entry

WAIT_S: Final = 60
"""
How long after its tombstone a drop may still come: it waits for transactions on its collection, which live as long
(MongoDB's `transactionLifetimeLimitSeconds`), and what they write is older than the drop.
"""


MOMENT_S: Final = 10
"""The same where the document was not there at the tombstone, and was made while the drop waited."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """
    One drop of a collection, as it was about to be made.

    `collection`: the full namespace. `order` and `at`: as a version's, from before the drop. `document_class`: the one
    through which it was dropped; it counts for all that share the collection. `uuid`: the collection's identity, None
    where the server tells none. `documents`: how many it held by the server's own statistics, None where unknown.
    """

    id: ObjectId
    collection: str
    order: Timestamp
    at: datetime
    document_class: str
    changeset: ObjectId | None = None
    context: Context = field(default_factory=Context)
    uuid: bytes | None = None
    documents: int | None = None


def standing(found: Iterable[Tombstone], present: Set[bytes]) -> list[Tombstone]:
    """
    Those that are not disproved, oldest first. `present`: the identities of the collections that there are.

    Of several for one and the same collection only the last can have come true.
    """
    ordered = sorted(found, key=_place)
    seen, left = set(present), []
    for one in reversed(ordered):
        if one.uuid is None or one.uuid not in seen:
            left.append(one)
        if one.uuid is not None:
            seen.add(one.uuid)
    return left[::-1]


def has_gap(ordered: Sequence[Entry], live: bytes | None) -> bool:
    """Whether there is anything that a tombstone could explain. `live`: digest of the live document, None if absent."""
    return any(gap.lost for gap in _gaps(ordered, live))


def arrange(ordered: list[Entry], drops: Sequence[Tombstone], live: bytes | None) -> list[Entry]:
    """
    The versions of one document in the order that its drops leave possible.

    `ordered`: as they were arranged without them, not empty. A drop leaves no link, so a trail may lead across it.
    """
    places = [_place(one) for one in drops]
    lives = groupby(sorted(ordered, key=_place), key=lambda entry: bisect_right(places, _place(entry)))
    groups = [list(some) for _number, some in lives]
    apart = [entry for some in groups[:-1] for entry in ordering.arrange(some)]
    apart.extend(ordering.arrange(groups[-1], live))
    return min((apart, ordered), key=lambda one: _unexplained(one, drops, live))


def explain(
    ordered: Sequence[Entry], drops: Sequence[Tombstone], live: bytes | None
) -> Mapping[int, Tombstone]:
    """Which drop lies behind which version: by the version's position in `ordered`. `drops`: oldest first."""
    gaps = {gap.position: gap for gap in _gaps(ordered, live) if gap.lost}
    places = [_place_among(one, ordered) for one in drops]
    explained: dict[int, Tombstone] = {}
    waiting: list[tuple[Tombstone, int]] = []
    for one, place in zip(drops, places, strict=True):
        if place in gaps and gaps[place].gone and place not in explained:
            explained[place] = one
        else:
            waiting.append((one, place))
    for one, place in waiting:
        free = [gap for position, gap in gaps.items() if position not in explained]
        is_there = place >= 0 and ordered[place].after is not None and place not in explained
        gap = _near(one, place, ordered, free, wait_s=WAIT_S if is_there else MOMENT_S)
        if gap is not None:
            explained[gap.position] = one
    return explained


def _place(one: Tombstone | Entry) -> tuple[int, int, bytes]:
    """Where it stands by its own account, as versions do: ids are monotone within a process."""
    return one.order.time, one.order.inc & ~HINT_BIT, one.id.binary


@dataclass(frozen=True, slots=True)
class _Gap:
    """Behind the version at `position` a link does not fit. `lost`: the document was there before it; `gone`: not after."""

    position: int
    lost: bool
    gone: bool


def _gaps(ordered: Sequence[Entry], live: bytes | None) -> Iterable[_Gap]:
    for position, entry in enumerate(ordered):
        following = ordered[position + 1].before if position + 1 < len(ordered) else live
        if entry.after != following:
            yield _Gap(position, entry.after is not None, following is None)


def _unexplained(ordered: Sequence[Entry], drops: Sequence[Tombstone], live: bytes | None) -> int:
    gaps = [gap.position for gap in _gaps(ordered, live)]
    return len(gaps) - len(explain(ordered, drops, live))


def _place_among(one: Tombstone, ordered: Sequence[Entry]) -> int:
    """The position of the version that the drop stands behind; -1 where that is none."""
    return sum(1 for entry in ordered if _place(entry) <= _place(one)) - 1


def _near(
    one: Tombstone, place: int, ordered: Sequence[Entry], gaps: Sequence[_Gap], *, wait_s: int
) -> _Gap | None:
    """
    The gap of a drop that lies in none, or in another's: the first behind it that it may have waited for, or that
    clocks allow before it.

    A gap behind which the document is there again, in another state, needs proof that the collection is gone.
    """
    for gap in gaps:
        if gap.gone and gap.position > place and ordered[gap.position].order.time <= one.order.time + wait_s:
            return gap
    around = next((gap for gap in gaps if gap.position == place), None)
    if around is not None:
        return around if one.uuid is not None else None
    for gap in reversed(gaps):
        if gap.gone and gap.position < place and _is_off_by_clocks(one, ordered[gap.position + 1]):
            return gap
    return None


def _is_off_by_clocks(one: Tombstone, following: Entry) -> bool:
    """Whether a version may have been written after the drop, though by the clocks it was before."""
    is_clock = bool((one.order.inc | following.order.inc) & CLOCK_BIT)
    return is_clock and following.order.time >= one.order.time - ordering.CLOCK_WINDOW_S
