"""
Ways of doing one thing, measured in turns, and the arithmetic of their ratios.

On a shared machine absolute times say little, and the mean of them less: a slow moment hits whoever is running. So the
ways take turns round by round, each round gives one ratio of its own, and what is told is the median of those ratios
with their quartiles.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Way = Callable[[int], float]
"""Do it once, in the round of this number (from 1), and return what it took, in seconds."""


class Spread(NamedTuple):
    """A median between its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def timed(call: Callable[[], Any]) -> float:
    """Seconds that the call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def timed_clean(call: Callable[[], Any]) -> float:
    """The same for a long call, which shall not pay for the garbage of the one before it."""
    gc.collect()
    return timed(call)


def interleave(ways: Mapping[str, Way], *, rounds: int, warmup: int = 0) -> dict[str, list[float]]:
    """
    Let the ways take turns and give what each took, round by round.

    `warmup`: rounds before the first that counts. Each round has an order of its own, so that none always follows the
    same neighbour, of whose work a server may still be busy.
    """
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(1, warmup + rounds + 1):
        for name in shuffled(list(ways), number):
            seconds = ways[name](number)
            if number > warmup:
                took[name].append(seconds)
    return took


def shuffled(names: Sequence[str], number: int) -> list[str]:
    """The names in an order that the number alone decides."""
    return random.Random(number).sample(names, len(names))  # noqa: S311 - an order, no secret


def ratios(took: Sequence[float], base: Sequence[float]) -> Spread:
    """What `took` is to `base`, of each round for itself. Raises: ValueError where the two are not of the same rounds."""
    return spread([one / other for one, other in zip(took, base, strict=True)])


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of a single value all three are that value. Raises: ValueError for none."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    if not values:
        raise ValueError("no rounds")
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)
