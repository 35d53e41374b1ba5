"""
The order of one document's versions, derived: by their stored order first, by their links where that is off.

A version knows the digests of the state before and after it, so a history is a walk over edges: the trail that uses
every version, from no document to the live one. `order` is strict between transactions and only a hint where other
writes mix in; so the trail is looked for near the places where links do not fit, never further than the clocks can be
wrong, and never against an order that is strict. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Final

from bson import ObjectId

from django_mongo_history.core.model import ABSENT, CLOCK_BIT, HINT_BIT, Entry, Operation

CLUSTER_WINDOW_S: Final = 10
"""How far apart two versions may lie that have changed places, where `order` is cluster time."""
CLOCK_WINDOW_S: Final = 60
"""The same where `order` was made from a clock."""
BASELINE_WINDOW_S: Final = 60
"""The same where one of them is a baseline: MongoDB's `transactionLifetimeLimitSeconds`."""

_MOST_BEGINS: Final = 8
"""How many places are tried for the begin of a trail that could begin anywhere."""

_Node = bytes | None


def arrange(entries: Iterable[Entry], live: Any = ABSENT) -> list[Entry]:
    """
    The versions of one document in the order in which they happened, each once.

    `live`: the digest of the live document, None where there is none, ABSENT where that is not known.
    Any order and any repetition of `entries` gives the same answer.
    Cost: sorting; and, near links that do not fit, time linear in the versions there.
    """
    ordered = sorted({entry.id: entry for entry in entries}.values(), key=sort_key)
    # First over pauses and far around, so that one side is not put in order for the sake of the other's disorder, with
    # the clocks as the judge. Then, for what is left, closer by; at last on each side of pauses alone.
    for windows, spans_pauses in ((3, True), (1, True), (1, False)):
        for low, high in _regions(ordered, live, windows=windows, spans_pauses=spans_pauses):
            _rearrange(ordered, low, high, live, proves_itself=not spans_pauses)
    return _proven(ordered, live) or ordered


def _proven(ordered: list[Entry], live: Any) -> list[Entry] | None:
    """
    The order that links prove, however wrong the clocks: from no document to the live one, and no state comes twice.

    None where the links fit already, or prove nothing.
    """
    if not _misfits(ordered) or any(
        len({side(entry) for entry in ordered}) < len(ordered) for side in (_before, _after)
    ):
        return None
    trail = _trails(ordered, None, live)
    around = _Around(None, live, is_first=True, is_last=True)
    return trail if live is not ABSENT and not around.gaps(trail) and _keeps_strict_order(trail) else None


def _before(entry: Entry) -> _Node:
    return entry.before


def _after(entry: Entry) -> _Node:
    return entry.after


def _rearrange(ordered: list[Entry], low: int, high: int, live: Any, *, proves_itself: bool) -> None:
    """
    Put a region into the order of its trail, where that has fewer gaps and is likely by the clocks.

    `proves_itself`: a trail without any gap needs no clocks.
    """
    region = ordered[low:high]
    if not region:  # versions have changed places before, so that times do not ascend any more
        return
    is_first, is_last = low == 0, high == len(ordered)
    around = _Around(
        None if is_first else ordered[low - 1].after,
        live if is_last else ordered[high].before,
        is_first,
        is_last,
    )
    trail = _trails(region, around.start, around.end)
    is_proven = proves_itself and around.gaps(trail) == 0
    if (
        around.cost(trail) < around.cost(region)
        and _keeps_strict_order(trail)
        and (is_proven or _is_within_clocks(trail))
    ):
        ordered[low:high] = trail


def sort_key(entry: Entry) -> tuple[int, int, bytes]:
    """Where a version stands by its own account."""
    return entry.order.time, entry.order.inc & ~HINT_BIT, entry.id.binary


def _is_strict(entry: Entry) -> bool:
    """Whether a transaction held the write apart from others, so that its order is that of the writes."""
    return not entry.order.inc & (CLOCK_BIT | HINT_BIT) and entry.operation is not Operation.BASELINE


def _keeps_strict_order(trail: Sequence[Entry]) -> bool:
    strict = [sort_key(entry) for entry in trail if _is_strict(entry)]
    return all(one < other for one, other in pairwise(strict))


def _regions(
    ordered: Sequence[Entry], live: Any, *, windows: int, spans_pauses: bool
) -> list[tuple[int, int]]:
    """
    Half-open ranges around the links that do not fit, so many windows wide; overlapping ones are one.

    A link across a pause longer than the window may not fit because versions on either side have changed places.
    """
    times = [entry.order.time for entry in ordered]
    regions: list[tuple[int, int]] = []
    for index in range(len(ordered) - 1):
        one, other = ordered[index], ordered[index + 1]
        if one.after == other.before:
            continue
        window = _window(one, other)
        low = bisect_left(times, times[index] - windows * window)
        high = bisect_right(times, times[index + 1] + windows * window)
        is_pause = not spans_pauses and times[index + 1] - times[index] > window
        for bounds in [(low, index + 1), (index + 1, high)] if is_pause else [(low, high)]:
            if regions and bounds[0] < regions[-1][1]:
                regions[-1] = (regions[-1][0], max(bounds[1], regions[-1][1]))
            else:
                regions.append(bounds)
    if ordered and live is not ABSENT and ordered[-1].after != live:
        low = bisect_left(times, times[-1] - windows * _window(ordered[-1], ordered[-1]))
        while regions and low < regions[-1][1]:
            low = min(low, regions.pop()[0])
        regions.append((low, len(ordered)))
    return regions


def _is_within_clocks(trail: Sequence[Entry]) -> bool:
    """Whether no version has changed places with one from which it lies further away than clocks can be wrong."""
    latest = trail[0]
    for entry in trail:
        if entry.order.time >= latest.order.time:
            latest = entry
        elif latest.order.time - entry.order.time > _window(latest, entry):
            return False
    return True


def _window(one: Entry, other: Entry) -> int:
    """
    How far apart these two may lie that have changed places.

    A baseline takes no lock on its document: a transaction that has written it may be committed as long afterwards as
    the server lets transactions live.
    """
    if (one.order.inc | other.order.inc) & CLOCK_BIT:
        return CLOCK_WINDOW_S
    return BASELINE_WINDOW_S if Operation.BASELINE in (one.operation, other.operation) else CLUSTER_WINDOW_S


@dataclass(frozen=True, slots=True)
class _Around:
    """The states around a region; None where there is no document, as before all history. `end` may be ABSENT."""

    start: _Node
    end: Any
    is_first: bool
    is_last: bool

    def gaps(self, region: Sequence[Entry]) -> int:
        """How many links do not fit, those to both sides included."""
        return sum(self._misfits(region))

    def cost(self, region: Sequence[Entry]) -> tuple[int, int]:
        """The same, and of these how many are certain: versions around may themselves still be out of order."""
        inside, begin, end = self._misfits(region)
        return inside + begin + end, inside + begin * self.is_first + end * self.is_last

    def _misfits(self, region: Sequence[Entry]) -> tuple[int, bool, bool]:
        end = self.end is not ABSENT and region[-1].after != self.end
        return _misfits(region), region[0].before != self.start, end


def _misfits(line: Sequence[Entry]) -> int:
    return sum(1 for one, other in pairwise(line) if one.after != other.before)


def _trails(region: Sequence[Entry], start: _Node, end: Any) -> list[Entry]:
    """The region's versions as the fewest trails, each as early as it can be; in the order in which they begin."""
    trails: list[list[Entry]] = []
    for component in _components(region):
        trails.extend(_component_trails(component, start, end))
    rank = {entry.id: position for position, entry in enumerate(region)}
    trails.sort(key=lambda trail: _trail_key(trail, rank, start, end))
    return [entry for trail in trails for entry in trail]


def _trail_key(
    trail: list[Entry], rank: dict[ObjectId, int], start: _Node, end: Any
) -> tuple[bool, bool, int]:
    """First what goes on from the state before, last what leads to the state after, else by time."""
    begins = trail[0].before == start
    return not begins, not begins and trail[-1].after == end, min(rank[entry.id] for entry in trail)


def _components(region: Sequence[Entry]) -> list[list[Entry]]:
    """The versions grouped by states that hang together."""
    parent: dict[_Node, _Node] = {}

    def find(node: _Node) -> _Node:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for entry in region:
        parent[find(entry.before)] = find(entry.after)
    groups: dict[_Node, list[Entry]] = defaultdict(list)
    for entry in region:
        groups[find(entry.before)].append(entry)
    return list(groups.values())


def _component_trails(component: list[Entry], start: _Node, end: Any) -> list[list[Entry]]:
    """An Eulerian trail, or the fewest trails that use every version once. `component` is in sort order."""
    begins, ends = _odd_nodes(component)
    if not begins:
        return [_circuit(component, start, end)]
    if start in begins:
        begins.remove(start)
        begins.insert(0, start)
    if end in ends:
        ends.remove(end)
        ends.append(end)
    # A jump joins the end of one trail to the begin of the next, so that a single trail covers all.
    jumps = list(zip(ends, begins[1:], strict=False))
    return _split(_euler(component, jumps, begins[0]))


def _circuit(component: list[Entry], start: _Node, end: Any) -> list[Entry]:
    """A trail that ends where it began: next to a neighbour, else with the earliest version that clocks allow."""
    states = {entry.before for entry in component}
    begins = [node for node in (start, end) if node in states]
    begins.extend(entry.before for entry in component[:_MOST_BEGINS])
    trails = (_split(_euler(component, [], begin))[0] for begin in dict.fromkeys(begins))
    earliest = next(trails)
    return next((trail for trail in chain([earliest], trails) if _is_within_clocks(trail)), earliest)


def _odd_nodes(component: list[Entry]) -> tuple[list[_Node], list[_Node]]:
    """States where trails must begin, earliest first, and where they must end, earliest first."""
    balance: dict[_Node, int] = defaultdict(int)
    for entry in component:
        balance[entry.before] += 1
        balance[entry.after] -= 1
    begins: list[_Node] = []
    ends: list[_Node] = []
    for entry in component:
        if balance[entry.before] > 0:
            begins.append(entry.before)
            balance[entry.before] -= 1
    for entry in component:
        if balance[entry.after] < 0:
            ends.append(entry.after)
            balance[entry.after] += 1
    return begins, ends


def _euler(component: list[Entry], jumps: list[tuple[_Node, _Node]], first: _Node) -> list[Entry | None]:
    """Hierholzer's walk over versions and jumps (None), taking at each state the earliest version that still works."""
    leaving: dict[_Node, list[tuple[Entry | None, _Node]]] = defaultdict(list)
    for source, target in jumps:
        leaving[source].append((None, target))
    for entry in reversed(component):
        leaving[entry.before].append((entry, entry.after))
    stack: list[tuple[_Node, Entry | None]] = [(first, None)]
    walk: list[Entry | None] = []
    while stack:
        node, taken = stack[-1]
        if leaving[node]:
            edge, target = leaving[node].pop()
            stack.append((target, edge))
        else:
            stack.pop()
            walk.append(taken)
    walk.reverse()
    return walk[1:]


def _split(walk: list[Entry | None]) -> list[list[Entry]]:
    trails: list[list[Entry]] = [[]]
    for entry in walk:
        if entry is None:
            trails.append([])
        else:
            trails[-1].append(entry)
    return [trail for trail in trails if trail]
