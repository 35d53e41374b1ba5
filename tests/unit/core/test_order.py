"""The order of versions, derived from clocks and links."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from bson import ObjectId
from bson.timestamp import Timestamp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from django_mongo_history.core import order
from django_mongo_history.core.model import CLOCK_BIT, HINT_BIT, Entry, Operation
from django_mongo_history.core.order import CLOCK_WINDOW_S, CLUSTER_WINDOW_S

AT = datetime(2026, 1, 1, tzinfo=UTC)
START = 1_700_000_000
HINT = HINT_BIT | 1
STRICT = 1


def entry(number: int, link: tuple[str | None, str | None], seconds: int, inc: int = HINT) -> Entry:
    before, after = (None if state is None else state.encode() for state in link)
    version_id = ObjectId(f"65f0000000000000{number:08x}")
    return Entry(version_id, 1, Timestamp(START + seconds, inc), Operation.UPDATE, AT, before, after)


def history(states: Sequence[str | None], seconds: Sequence[int], inc: int = HINT) -> list[Entry]:
    """Versions that lead from each state to the next, as the clocks said it."""
    return [
        entry(number, link, second, inc)
        for number, (link, second) in enumerate(zip(pairwise(states), seconds, strict=True))
    ]


def numbers(entries: Sequence[Entry]) -> list[int]:
    return [int.from_bytes(one.id.binary[-4:], "big") for one in entries]


def gaps(entries: Sequence[Entry]) -> int:
    return sum(1 for one, other in pairwise(entries) if one.after != other.before)


seconds_between = st.lists(st.integers(0, 15), min_size=1, max_size=12)


@st.composite
def noisy_histories(
    draw: st.DrawFn, alphabet: str | None = None, window: int = CLUSTER_WINDOW_S
) -> list[Entry]:
    """A true history whose clocks were off, by half of the window at most: in the order in which it happened."""
    steps = draw(seconds_between)
    length = len(steps)
    true = [sum(steps[: number + 1]) for number in range(length)]
    noise = draw(st.lists(st.integers(0, window // 2), min_size=length, max_size=length))
    states: list[str | None]
    if alphabet is None:
        states = [None, *(f"state {number}" for number in range(length))]
    else:
        states = draw(st.lists(st.sampled_from(alphabet), min_size=length + 1, max_size=length + 1))
    inc = HINT if window == CLUSTER_WINDOW_S else CLOCK_BIT
    return history(states, [second + off for second, off in zip(true, noise, strict=True)], inc)


@given(noisy_histories())
def test_noise_inside_the_window_is_undone(true: list[Entry]) -> None:
    """A linked history comes back in its true order, however the clocks shuffled it inside the window."""
    assert order.arrange(true) == true


@given(noisy_histories(window=CLOCK_WINDOW_S))
def test_the_window_of_clocks_is_wider(true: list[Entry]) -> None:
    """Where `order` was made from clocks they may be off by a minute."""
    assert order.arrange(true) == true


@given(noisy_histories(alphabet="AB") | noisy_histories(alphabet="ABC"), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(true: list[Entry], source: random.Random) -> None:
    """Any permutation of the versions, and any repetition of them, gives the same order."""
    shuffled = [*true, *source.sample(true, len(true) // 2)]
    source.shuffle(shuffled)
    assert order.arrange(shuffled) == order.arrange(true)


@given(noisy_histories(alphabet="ABC"))
def test_every_version_is_there_once(true: list[Entry]) -> None:
    """Nothing is lost and nothing appears twice, whatever the links say."""
    assert sorted(numbers(order.arrange(true))) == list(range(len(true)))


@given(noisy_histories(alphabet="ABC"))
def test_arranging_never_adds_gaps(true: list[Entry]) -> None:
    """The derived order has no more gaps than the stored one."""
    stored = sorted(true, key=lambda one: (one.order, one.id))
    assert gaps(order.arrange(true)) <= gaps(stored)


@given(st.lists(st.sampled_from("AB"), min_size=2, max_size=12), st.integers(1, 20))
def test_a_history_whose_links_fit_stays_as_it_is(states: list[str], step: int) -> None:
    """Where the stored order links without a gap it is the order, repeated states or not."""
    true = history(states, [number * step for number in range(len(states) - 1)])
    assert order.arrange(true) == true


def test_toggles_keep_their_order() -> None:
    """A, B, A, B: links alone say nothing about which toggle came first; the stored order does."""
    true = history("ABABAB", [0, 0, 0, 0, 0])
    assert order.arrange(reversed(true)) == true


def test_toggles_with_one_version_out_of_place_have_no_gap() -> None:
    """The trail that uses every version is found although states repeat."""
    true = history("ABACAB", [0, 1, 5, 3, 4])
    assert gaps(order.arrange(true)) == 0


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 30))
def test_a_real_gap_stays_a_gap(before: int, after: int, pause: int) -> None:
    """Where somebody wrote past the tracker both parts stay whole, in the order of their clocks."""
    first = history([f"a{number}" for number in range(before + 1)], list(range(before)))
    second = [
        entry(100 + number, (f"b{number}", f"b{number + 1}"), before + pause + number)
        for number in range(after)
    ]
    assert order.arrange([*second, *first]) == [*first, *second]


def test_versions_further_apart_than_the_window_do_not_change_places() -> None:
    """A link that would fit the other way round is a coincidence if a minute lies between."""
    stored = [entry(0, ("A", "B"), 0), entry(1, ("C", "A"), 60)]
    assert order.arrange(stored) == stored


def test_a_few_gaps_less_are_no_reason_to_move_a_version_far() -> None:
    """Where gaps remain a link that fits may be a coincidence: nothing moves further than clocks can be wrong."""
    others = [entry(number, (f"p{number}", f"q{number}"), 5 * number) for number in range(1, 4)]
    stored = [entry(0, ("A", "B"), 0), *others, entry(4, ("Z", "A"), 20)]
    assert order.arrange(stored) == stored


def test_versions_inside_the_window_do() -> None:
    """The same ten seconds apart is a clock that was off."""
    stored = [entry(0, ("A", "B"), 0), entry(1, ("C", "A"), 10)]
    assert order.arrange(stored) == stored[::-1]


@pytest.mark.parametrize("is_after_pause", [False, True])
def test_an_exchange_beside_a_long_pause_is_undone(is_after_pause: bool) -> None:
    """The link that does not fit may lie across the pause, and its cause on one side of it."""
    true = [entry(0, ("X", "Y"), 2), entry(1, ("Y", "X"), 1), entry(2, ("X", "Z"), 500)]
    if is_after_pause:
        true = [entry(0, ("W", "X"), 0), entry(1, ("X", "Y"), 502), entry(2, ("Y", "X"), 501)]
    assert order.arrange(true) == true


def test_a_tie_goes_by_id() -> None:
    """Two writes of one transaction have one cluster time; their ids ascend."""
    tied = [entry(5, ("A", "B"), 0), entry(9, ("B", "A"), 0)]
    assert order.arrange(reversed(tied)) == tied


def test_nothing_is_nothing() -> None:
    """A document without versions has an empty order."""
    assert order.arrange([]) == []


class CountedEntry(Entry):
    """An entry that counts how often its links are looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        if name in ("before", "after"):
            CountedEntry.looks += 1
        return super().__getattribute__(name)


@pytest.mark.parametrize("kind", ["shuffled", "toggles"])
def test_ten_thousand_versions_take_linear_time(kind: str) -> None:
    """Ten times the versions are ten times the work, where links are to be sorted out and where states repeat."""
    assert looks_at(kind, 10_000) <= 12 * looks_at(kind, 1_000)


def looks_at(kind: str, length: int) -> int:
    source = random.Random(7)
    names = [f"s{number}" for number in range(length + 1)]
    if kind == "toggles":
        names = [source.choice("ABC") for _ in range(length + 1)]
    links = list(pairwise(names))

    entries = [entry(number, link, number // 10 + source.randint(0, 4)) for number, link in enumerate(links)]
    fields = ("id", "document_id", "order", "operation", "at", "before", "after")
    counted = [CountedEntry(*(getattr(one, name) for name in fields)) for one in entries]
    CountedEntry.looks = 0
    order.arrange(counted)
    return CountedEntry.looks


@settings(derandomize=True)  # states that come again leave room for doubt, so this is no law for every case
@given(noisy_histories(alphabet="ABCDEFGH"))
def test_a_repeated_state_makes_no_gap_of_its_own(true: list[Entry]) -> None:
    """A history without gaps is read without gaps where most of its states differ."""
    assume(len({one.before for one in true}) > 0.7 * len(true))
    assert gaps(order.arrange(true)) == 0


# -- what is certain --------------------------------------------------------------------------------------------------


def test_writes_of_transactions_never_change_places() -> None:
    """Their order is strict: where it leaves a gap, somebody wrote past the tracker."""
    states = [("A", "B"), ("A", "B"), ("B", "A")]  # B became A again past the tracker
    true = [entry(number, link, number, STRICT) for number, link in enumerate(states)]
    assert order.arrange(true) == true
    hints = [entry(number, link, number) for number, link in enumerate(states)]
    assert order.arrange(hints) != hints


@given(noisy_histories(alphabet="ABC"), st.sets(st.integers(0, 11)), st.sampled_from([b"A", b"B", None]))
def test_strict_order_is_kept_beside_hints(true: list[Entry], strict: set[int], live: bytes | None) -> None:
    """Hints may move around them."""
    mixed = [
        replace(one, order=Timestamp(one.order.time, STRICT if number in strict else HINT))
        for number, one in enumerate(true)
    ]
    certain = [one for one in order.arrange(mixed, live) if one.order.inc == STRICT]
    assert certain == sorted(certain, key=order.sort_key)


def test_the_live_document_says_how_a_history_ends() -> None:
    """A, B, past the tracker A, B, A: with the end in sight there is no reason to change the stored order."""
    true = [entry(0, ("A", "B"), 0), entry(1, ("A", "B"), 1), entry(2, ("B", "A"), 2)]
    assert order.arrange(true, b"A") == true
    assert order.arrange(true, b"B") == [true[0], true[2], true[1]]


def test_a_hint_beside_the_live_document_is_put_right() -> None:
    """All links fit, and only the end tells that two versions have changed places."""
    first, second = entry(0, ("A", "B"), 1), entry(1, ("B", "A"), 0)
    assert order.arrange([first, second], b"A") == [first, second]
    assert order.arrange([first, second], b"B") == [second, first]


def test_a_history_begins_with_no_document() -> None:
    """Of two orders the one that needs no state from before all history is likelier."""
    create, update, back = entry(0, (None, "A"), 2), entry(1, ("A", "B"), 1), entry(2, ("B", "A"), 0)
    assert order.arrange([create, update, back], b"A") == [create, update, back]


@given(noisy_histories(alphabet="ABC"), st.sampled_from([b"A", b"B", b"C", None]))
def test_arranging_never_derives_more(true: list[Entry], live: bytes | None) -> None:
    """Counted as readers see it, from no document to the live one."""

    def derived(entries: Sequence[Entry]) -> int:
        return gaps(entries) + (entries[0].before is not None) + (entries[-1].after != live)

    stored = sorted(true, key=order.sort_key)
    assert derived(order.arrange(true, live)) <= derived(stored)


@pytest.mark.parametrize("inc", [HINT, CLOCK_BIT])
def test_links_from_nothing_to_the_live_document_need_no_clock(inc: int) -> None:
    """A clock that jumps by hours and days changes nothing where no state comes twice."""
    true = history([None, *"ABCDEF"], [0, 3600, -7200, 86_400, -86_400, 5], inc)
    assert order.arrange(true, b"F") == true


def test_links_that_prove_nothing_do() -> None:
    """Where a state comes twice, or an end is missing, nothing moves further than clocks can be wrong."""
    repeated = history([None, *"ABA"], [0, 7200, 300])
    assert order.arrange(repeated, b"A") == [repeated[0], repeated[2], repeated[1]]
    torn = history([None, "A", "B"], [7200, 0])
    assert order.arrange(torn, b"C") == torn[::-1]


def test_regions_that_are_empty_by_then_are_passed_over() -> None:
    """Versions have changed places before, so that their moments do not ascend: a window around a gap may hold none."""
    mixed = [
        entry(1, ("b", "a"), 59, 1),
        entry(2, ("a", "d"), 0, CLOCK_BIT | 1),
        entry(3, ("d", "d"), 1000, 3),
        entry(4, ("c", "c"), 30, 4),
    ]
    assert sorted(numbers(order.arrange(mixed, b"d"))) == [1, 2, 3, 4]
