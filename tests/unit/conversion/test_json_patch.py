"""RFC 6902 applied: its operations, its pointers, and that a patch counts as a whole or not at all."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.conversion.formats.json_patch import MisfitError, apply, pointer
from django_mongo_history.core.model import ABSENT

DOCUMENT = {"a": 1, "l": [1, 2, 3], "d": {"x/y": {"~": 1}, "": 2}, "n": None}


def op(action: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": action, "path": path, **more}


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        (op("add", "/b", value={"c": 1}), {**DOCUMENT, "b": {"c": 1}}),
        (op("add", "/a", value=2), {**DOCUMENT, "a": 2}),
        (op("add", "/l/0", value=0), {**DOCUMENT, "l": [0, 1, 2, 3]}),
        (op("add", "/l/3", value=4), {**DOCUMENT, "l": [1, 2, 3, 4]}),
        (op("add", "/l/-", value=4), {**DOCUMENT, "l": [1, 2, 3, 4]}),
        (op("remove", "/l/1"), {**DOCUMENT, "l": [1, 3]}),
        (op("remove", "/n"), {name: DOCUMENT[name] for name in "ald"}),
        (op("replace", "/l/1", value=None), {**DOCUMENT, "l": [1, None, 3]}),
        (op("replace", "/d/x~1y/~0", value=2), {**DOCUMENT, "d": {"x/y": {"~": 2}, "": 2}}),
        (op("remove", "/d/"), {**DOCUMENT, "d": {"x/y": {"~": 1}}}),
        (op("move", "/l/0", **{"from": "/l/2"}), {**DOCUMENT, "l": [3, 1, 2]}),
        (op("move", "/d", **{"from": "/d/x~1y"}), {**DOCUMENT, "d": {"~": 1}}),
        (op("copy", "/l/-", **{"from": "/a"}), {**DOCUMENT, "l": [1, 2, 3, 1]}),
        (op("test", "/d", value={"": 2, "x/y": {"~": 1.0}}), DOCUMENT),
        (op("replace", "", value={"z": 1}), {"z": 1}),
        (op("remove", ""), ABSENT),
    ],
)
def test_operations(patch: Any, after: Any) -> None:
    before = deepcopy(DOCUMENT)
    assert apply(before, [patch]) == after
    assert before == DOCUMENT


@pytest.mark.parametrize(
    "patch",
    [
        op("remove", "/b"),
        op("replace", "/b", value=1),
        op("add", "/b/c", value=1),
        op("add", "/l/4", value=1),
        op("add", "/l/01", value=1),
        op("add", "/l/x", value=1),
        op("add", "/l/²", value=1),
        op("remove", "/l/-"),
        op("add", "/a/b", value=1),
        op("add", "/c"),
        op("move", "/d/x", **{"from": "/d"}),
        op("copy", "/c", **{"from": "/nowhere"}),
        op("copy", "/c"),
        op("test", "/a", value=True),
        op("test", "/n", value=0),
        op("test", "/l", value=[1, 2]),
    ],
)
def test_what_does_not_fit(patch: Any) -> None:
    """The whole patch does not count, what stands in front of the operation included."""
    before = deepcopy(DOCUMENT)
    with pytest.raises(MisfitError):
        apply(before, [op("add", "/first", value=1), patch])
    assert before == DOCUMENT


def test_from_nothing() -> None:
    assert apply(ABSENT, [op("add", "/a", value=1)]) == {"a": 1}
    assert apply(ABSENT, [op("add", "", value={})]) == {}
    with pytest.raises(MisfitError):
        apply(ABSENT, [op("replace", "/a", value=1)])
    with pytest.raises(MisfitError):
        apply(ABSENT, [op("remove", "")])


def test_pointers() -> None:
    assert pointer("") == []
    assert pointer("/") == [""]
    assert pointer("/a~1b/~01/c d") == ["a/b", "~1", "c d"]
    with pytest.raises(MisfitError):
        pointer("a")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab~/01", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab~/01.", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text("ab~/01.", max_size=3), VALUES, max_size=4)


@given(DOCUMENTS, DOCUMENTS)
def test_what_a_patch_says_comes_out(before: Any, after: Any) -> None:
    """Keys of any text: a patch that takes all away and puts all in leads from any document to any other."""
    escaped = lambda name: name.replace("~", "~0").replace("/", "~1")  # noqa: E731
    patch = [op("remove", f"/{escaped(name)}") for name in before]
    patch += [op("add", f"/{escaped(name)}", value=value) for name, value in after.items()]
    patch += [op("test", f"/{escaped(name)}", value=value) for name, value in after.items()]
    assert apply(deepcopy(before), patch) == after


@given(st.lists(st.integers(), max_size=5), st.data())
def test_moves_in_lists(items: list[int], data: st.DataObject) -> None:
    """As a removal and an insertion, in this order."""
    if not items:
        return
    origin, goal = (data.draw(st.integers(0, len(items) - 1)) for _ in range(2))
    expected = [*items]
    expected.insert(goal, expected.pop(origin))
    found = apply({"l": items}, [op("move", f"/l/{goal}", **{"from": f"/l/{origin}"})])
    assert found == {"l": expected}
