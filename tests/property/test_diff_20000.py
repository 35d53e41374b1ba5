"""The laws of patches on twenty thousand random pairs: more than `tests/unit` has time for, on every full run."""

from __future__ import annotations

import random

from django_mongo_history.core import diff, patches, values
from tests.strategies import Choices, random_pair

PAIRS = 20_000
SEED = 20260208


def test_patches_lead_both_ways_on_20000_random_pairs() -> None:
    """`apply(diff(a, b), a) == b` and `apply(invert(diff(a, b)), b) == a`, byte for byte, stored form included."""
    source = random.Random(SEED)
    wrong = []
    changed = 0
    for number in range(PAIRS):
        before, after = random_pair(*(Choices(source.randbytes(source.randrange(1, 300))) for _ in range(2)))
        changed += before != after
        if not leads_both_ways(before, after):
            wrong.append((number, before, after))
    assert changed > PAIRS * 0.9
    assert not wrong, f"{len(wrong)} of {PAIRS} pairs, the first: {wrong[0]}"


def leads_both_ways(before: bytes, after: bytes) -> bool:
    stored = diff.diff_images(before, after)
    patch = patches.Patch(patches.decode_entries(stored.patch), stored.key_order)
    back = diff.invert(patch)
    return (
        values.encode(diff.apply(patch, values.decode(before))) == after
        and values.encode(diff.apply(back, values.decode(after))) == before
    )
