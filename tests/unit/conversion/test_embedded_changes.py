"""Entries of change lists as steps, and what entries are called. No server; the states come of the engine's own undoing."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import mongoengine
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from mongoengine import fields

from django_mongo_history.conversion.base import BadRow, Target
from django_mongo_history.conversion.formats.embedded_changes import BEHIND_BAD, EmbeddedChanges
from django_mongo_history.conversion.listed import entries_of
from django_mongo_history.conversion.options import read_options
from django_mongo_history.conversion.rows import Row
from django_mongo_history.conversion.unapply import undo
from django_mongo_history.core import values
from django_mongo_history.core.policy import Policy
from tests.old_archives import BEGIN


class UnitPerson(mongoengine.Document):
    name = fields.StringField(db_field="nm")
    meta = {"collection": "unit_people"}


def changes(policy: Policy | None = None, **given: Any) -> EmbeddedChanges:
    tracked = SimpleNamespace(
        document_class=UnitPerson, label="unit.UnitPerson", renamed={"old": "new"}, policy=policy or Policy()
    )
    environment = SimpleNamespace(registry=[])
    source = SimpleNamespace(tracked=tracked, codec_options=values.EXACT, environment=environment)
    options = read_options(
        EmbeddedChanges.options, {"list_field": "log", **given}, format_name="embedded-changes"
    )
    return EmbeddedChanges(Target(source), options)  # type: ignore[arg-type]


def steps(found: EmbeddedChanges, document: Any) -> list[Any]:
    return list(found.steps(document["_id"], found._entries(Row(document["_id"], document)) or []))


def entry(field: str, old: Any, new: Any, minute: int, **more: Any) -> dict[str, Any]:
    return {
        "field": field,
        "old_value": old,
        "new_value": new,
        "timestamp": BEGIN + timedelta(minutes=minute),
        **more,
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b.c", "d"]), st.none() | st.integers(0, 3) | st.text("xy", max_size=2)
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_walking_back(saves: list[tuple[str, Any]], is_newest_first: bool) -> None:
    """Whatever the entries were: undone from the last state they lead through each state there was, the list's own too."""
    document: dict[str, Any] = {"_id": 1, "b": {}, "log": []}
    recorded = [values.encode(document)]
    for number, (path, new) in enumerate(saves):
        holder, name = (document["b"], "c") if path == "b.c" else (document, path)
        old = holder.get(name)
        if new is None:
            holder.pop(name, None)
        else:
            holder[name] = new
        told = entry(path, old, new, number)
        document["log"] = [told, *document["log"]] if is_newest_first else [*document["log"], told]
        recorded.append(values.encode(document))
    state: Any = document
    found = steps(changes(order="desc" if is_newest_first else "asc"), document)
    assert len(found) == len(saves)
    for step, expected in zip(reversed(found), reversed(recorded[:-1]), strict=True):
        undone = undo(state, step.edits)
        assert undone.is_exact
        state = undone.before
        before = values.decode(expected)
        assert {name: state.get(name) for name in before} == before
        assert state.keys() == before.keys()


def test_entries_of_one_save() -> None:
    """One moment and one user, no field twice: one version. Else each by itself."""
    log = [
        entry("a", 1, 2, 1, user=1), entry("b", 1, 2, 1, user=1), entry("a", 2, 3, 1, user=1),
        entry("c", 1, 2, 1, user=2), entry("d", 1, 2, 2, user=2), entry("d.e", 1, 2, 2, user=2),
    ]  # fmt: skip
    found = steps(changes(user_field="user"), {"_id": 1, "log": log})
    assert [[edit.path for edit in step.edits[:-1]] for step in found] == [
        ["a", "b"],
        ["a"],
        ["c"],
        ["d"],
        ["d.e"],
    ]
    assert [step.context.user.pk for step in found] == [1, 1, 2, 2, 2]


def test_names_of_fields_are_those_of_the_database() -> None:
    log = [
        entry(name, 1, 2, number) for number, name in enumerate(["name", "nm", "old.x", "tags.0", "no.such"])
    ]
    found = steps(changes(), {"_id": 1, "log": log})
    assert [step.edits[0].path for step in found] == ["nm", "nm", "new.x", "tags.0", "no.such"]


def test_bad_entries_are_in_the_list_all_the_same() -> None:
    log = [5, entry("a", 1, 2, 1), {"field": "a"}, entry("a", 2, 3, 2)]
    found = steps(changes(), {"_id": 1, "log": log})
    bad = [one for one in found if isinstance(one, BadRow)]
    first, second = (one for one in found if not isinstance(one, BadRow))
    assert [one.reason for one in bad] == ["entry 0 is no document", "entry 2 does not say when"]
    assert first.edits[-1] == ("add", ("log",), [(0, 5), (1, log[1]), (2, log[2])])
    assert second.edits[-1] == ("add", ("log",), [(3, log[3])])
    assert (first.gap, second.gap) == (BEHIND_BAD, "")


def test_ids_of_entries() -> None:
    """An entry keeps its id when others come or go, at either end; equal ones are told apart from the oldest on."""
    minted = ObjectId()
    log = [{"x": 1}, {"x": 2}, {"x": 1}, {"_id": minted, "x": 1}, {"_id": 7, "x": 1}]
    ids = [row.id for row in entries_of(Row(7, {"_id": 7, "log": log}), "log", key=7) or ()]
    assert len({repr(one) for one in ids}) == 5
    assert ids[3] == [7, minted]
    assert ids[2] == [*ids[0], 2]
    later = entries_of(Row(7, {"_id": 7, "log": [*log[1:2], *log[3:], {"x": 9}]}), "log", key=7) or []
    assert [row.id for row in later[:3]] == [ids[1], ids[3], ids[4]]
    newest_first = entries_of(
        Row(7, {"_id": 7, "log": [{"x": 9}, *log[::-1]]}), "log", key=7, is_newest_first=True
    )
    assert [row.id for row in newest_first or ()][:5] == ids


def test_kept_entries_hold_nothing_hidden() -> None:
    """A field that may be a hidden one is left out with both sides, by either of its names."""
    policy = Policy(hidden=(("nm",), ("card", "number")), untracked=(("seen",),))
    found = changes(policy, changes_field="all", old_field="o", new_field="n")
    told = [
        {"field": field, "o": "SECRET", "n": "SECRET"}
        for field in ("name", "nm", "card.number", "seen", "seen.deep")
    ]
    told += [
        {"field": "card", "o": {"number": "SECRET", "kind": "v"}, "n": None},
        {"field": "shown", "o": 1, "n": 2},
    ]
    document = {"_id": 1, "nm": "SECRET", "log": [{"timestamp": BEGIN, "all": told, "by": "SECRET"}]}
    (row,) = found._entries(Row(1, document)) or []
    kept = found.kept(row, policy)
    assert "SECRET" not in str(kept)
    assert kept["changes"] == [
        {"path": "card", "old": {"kind": "v"}, "new": None}, {"path": "shown", "old": 1, "new": 2},
    ]  # fmt: skip
