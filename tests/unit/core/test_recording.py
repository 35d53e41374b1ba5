"""From a write to the version that is stored of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.core import diff, patches, policy, values
from django_mongo_history.core.model import CLOCK_BIT, Context, DocumentKey, Operation, VersionRecord, Write
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.recording import Circumstances, record_baseline, record_write
from django_mongo_history.storage import rows
from tests.strategies import Choices, choices, pairs, policies, random_policy

AT = datetime(2026, 2, 8, 23, 3, tzinfo=UTC)
KEY = DocumentKey("db.things", "the id")
ORDER = Timestamp(7, 1)
NEVER = Policy(snapshot_every=2**40)


def around(rules: Policy = NEVER, order: Timestamp | None = ORDER) -> Circumstances:
    return Circumstances("Thing", rules, AT, order, ObjectId(), Context())


def write_of(before: Any, after: Any) -> Write:
    images = [
        state if state is None or isinstance(state, bytes) else values.encode(state)
        for state in (before, after)
    ]
    return Write(KEY, *images)


def recorded(before: Any, after: Any, rules: Policy = NEVER) -> VersionRecord:
    record = record_write(write_of(before, after), around(rules))
    assert record is not None
    return record


@given(pairs, policies)
def test_digests_are_of_the_tracked_states(pair: tuple[bytes, bytes], rules: Policy) -> None:
    """`before` and `after` are the digests of what the policy leaves of each side."""
    record = record_write(write_of(*pair), around(rules))
    if record is not None:
        expected = [values.digest(policy.prune(image, rules)) for image in pair]
        assert [record.before, record.after] == expected


@given(pairs, policies)
def test_a_version_is_stored_exactly_where_something_counts(pair: tuple[bytes, bytes], rules: Policy) -> None:
    """None where neither the tracked state nor a hidden value changed: untracked changes leave no trace."""
    before, after = (policy.prune(image, rules) for image in pair)
    counts = before != after or policy.hidden_changes(*pair, rules)
    assert (record_write(write_of(*pair), around(rules)) is not None) == bool(counts)


@given(pairs, policies)
def test_the_patch_leads_between_the_tracked_states(pair: tuple[bytes, bytes], rules: Policy) -> None:
    """What is stored of an update leads from the pruned state before to the pruned state after it."""
    record = record_write(write_of(*pair), around(rules))
    if record is not None and record.patch is not None:
        patch = patches.Patch(patches.decode_entries(record.patch), record.key_order or [])
        before, after = (policy.prune(image, rules) for image in pair)
        assert values.encode(diff.apply(patch, values.decode(before))) == after


class Tokens:
    """Random documents in which each value is a text of its own, so that a leak can be found by its bytes."""

    def __init__(self, choose: Choices) -> None:
        self._choose = choose
        self._count = 0

    def document(self, depth: int = 3) -> dict[str, Any]:
        names = "abcd"
        return {names[self._choose.below(4)]: self.value(depth) for _ in range(1 + self._choose.below(4))}

    def value(self, depth: int) -> Any:
        form = self._choose.below(5) if depth else 0
        if form < 2:
            self._count += 1
            return f"<secret {self._count}>"
        if form == 2:
            return [self.value(depth - 1) for _ in range(self._choose.below(4))]
        return self.document(depth - 1)

    def edited(self, state: dict[str, Any]) -> dict[str, Any]:
        """Some values anew, some gone, keys in another order."""
        kept = {key: self._inside(value) for key, value in state.items() if self._choose.below(4)}
        items = [*kept.items(), *self.document(1).items()]
        return dict(items[::-1] if self._choose.below(2) else items)

    def _inside(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self.edited(value)
        if isinstance(value, list):
            return [self._inside(one) for one in value[self._choose.below(2) :]]
        return self.value(1) if self._choose.below(2) else value


def texts(value: Any, names: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    """Every text of a state with the names that lead to it."""
    if isinstance(value, dict):
        return [one for key, inner in value.items() for one in texts(inner, (*names, key))]
    if isinstance(value, list):
        return [one for inner in value for one in texts(inner, names)]
    return [(names, value)]


def is_covered(names: tuple[str, ...], rules: Policy) -> bool:
    return any(
        len(rule) <= len(names) and all(part in ("*", name) for part, name in zip(rule, names, strict=False))
        for rule in rules.hidden + rules.untracked
    )


@given(choices, st.data())
def test_no_hidden_value_is_anywhere_in_a_version(choose: Choices, data: st.DataObject) -> None:
    """Not in patch, snapshot, key order or changed paths: the bytes of a pruned value are not in the row."""
    tokens = Tokens(choose)
    before = tokens.document()
    after = tokens.edited(before)
    rules = Policy(
        **{kind: data.draw(rule_paths) for kind in ("hidden", "untracked")},
        snapshot_every=1 + choose.below(2),
    )
    writes = [(before, after), (None, after), (before, None)]
    records = [record_write(write_of(*write), around(rules)) for write in writes]
    secrets = [text for state in (before, after) for names, text in texts(state) if is_covered(names, rules)]
    stored = b"".join(row for record in records if record is not None for row in rows.encode(record))
    assert [secret for secret in secrets if secret.encode() in stored] == []


rule_paths = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d", "*"]), min_size=1, max_size=3).map(tuple), max_size=2
).map(tuple)


@given(pairs, choices)
def test_a_baseline_says_how_a_document_was(pair: tuple[bytes, bytes], choose: Choices) -> None:
    """Both sides are the pruned state, and so is its snapshot."""
    rules = random_policy(choose)
    record = record_baseline(KEY, pair[0], around(rules))
    state = policy.prune(pair[0], rules)
    assert (record.before, record.after, record.snapshot) == (
        values.digest(state),
        values.digest(state),
        state,
    )


@pytest.mark.parametrize(
    ("before", "after", "operation"),
    [
        (None, {"a": 1}, Operation.CREATE),
        ({"a": 1}, {"a": 2}, Operation.UPDATE),
        ({"a": 1}, None, Operation.DELETE),
    ],
)
def test_the_images_say_the_operation(before: Any, after: Any, operation: Operation) -> None:
    """A side that is missing makes a create or a delete."""
    assert recorded(before, after).operation is operation


@pytest.mark.parametrize(("before", "after"), [(None, {"a": 1}), ({"a": 1}, None)])
def test_creates_and_deletes_store_the_state_and_no_patch(before: Any, after: Any) -> None:
    """A create keeps the state after it, a delete the one before it."""
    record = recorded(before, after)
    assert (record.patch, record.snapshot) == (None, values.encode(before or after))


def test_an_unchanged_document_has_no_version() -> None:
    """A save that changes nothing is no version."""
    assert record_write(write_of({"a": 1}, {"a": 1}), around()) is None


def test_a_hidden_change_alone_is_a_version() -> None:
    """The fact is kept: both digests are the same, and there is no patch."""
    record = recorded({"a": 1, "s": 1}, {"a": 1, "s": 2}, Policy(hidden=(("s",),), snapshot_every=2**40))
    assert (record.before == record.after, record.patch, record.hidden_changed) == (True, None, ("s",))


def test_an_untracked_change_alone_is_none() -> None:
    """Neither the value nor the fact is kept."""
    rules = Policy(untracked=(("s",),))
    assert record_write(write_of({"a": 1, "s": 1}, {"a": 1, "s": 2}), around(rules)) is None


def test_a_snapshot_is_stored_where_the_patch_would_be_larger() -> None:
    """Replay starts there; a state costs less than the edits that lead to it."""
    record = recorded({"a": "x" * 50}, {"a": "y"})
    assert record.snapshot == values.encode({"a": "y"})


def test_a_small_change_of_a_large_document_stores_no_snapshot() -> None:
    """An update is its patch."""
    state = {f"k{number}": number for number in range(100)}
    assert recorded(state, {**state, "k50": -1}).snapshot is None


def test_the_id_decides_on_a_snapshot() -> None:
    """About every Nth version stores its state: with N = 1 each does."""
    state = {f"k{number}": number for number in range(100)}
    after = {**state, "k50": -1}
    assert recorded(state, after, Policy(snapshot_every=1)).snapshot == values.encode(after)


def test_changed_names_every_path_with_its_prefixes() -> None:
    """`touching` a container finds what changed inside of it; indexes of lists are left out."""
    record = recorded({"a": {"b": [{"c": 1}]}, "x": 1}, {"a": {"b": [{"c": 2}]}, "x": 1, "y": 1})
    assert record.changed == ("a", "a.b", "a.b.c", "y")


def test_changed_names_hidden_paths_too() -> None:
    """A hidden change is found by its path like any other."""
    record = recorded({"a": {"s": 1}}, {"a": {"s": 2}}, Policy(hidden=(("a", "s"),)))
    assert record.changed == ("a", "a.s")


def test_creates_and_deletes_touch_no_path() -> None:
    """A hidden one as little as any other: `touching` asks for updates."""
    hides = Policy(hidden=(("a", "s"),))
    for before, after in ((None, {"a": {"s": 1}}), ({"a": {"s": 1}}, None)):
        record = recorded(before, after, hides)
        assert record.changed == ()
        assert record.hidden_changed == ("a.s",)


def test_more_than_a_hundred_changed_paths_become_top_level_names() -> None:
    """The index stays small whatever a write touches."""
    before = {"a": {f"k{number}": number for number in range(200)}, "b": {"c": 1}}
    after = {"a": {f"k{number}": -number - 1 for number in range(200)}, "b": {"c": 2}}
    assert recorded(before, after).changed == ("a", "b")


def test_an_order_is_made_from_the_clock_where_there_is_none() -> None:
    """Without cluster time `order` is the moment to the millisecond, marked as a clock's."""
    record = record_write(write_of(None, {"a": 1}), around(order=None))
    assert record is not None
    assert (record.order.time, record.order.inc) == (int(AT.timestamp()), CLOCK_BIT)


def test_the_id_source_is_an_argument() -> None:
    """Ids are minted by whoever the caller says, once for each version."""
    wanted = ObjectId()
    record = record_write(write_of(None, {"a": 1}), around(), new_id=lambda: wanted)
    assert record is not None
    assert record.id == wanted
