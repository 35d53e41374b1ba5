"""Versions never change: not in anybody's hands, and not in the store, whatever is called."""

from __future__ import annotations

import copy
import io
from typing import Any

import mongoengine
import pytest
from django.core.management import call_command
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import (
    append_change_info,
    changeset,
    changesets,
    extra_change_info,
    history_of,
    rationale,
    suppress_history,
    track,
    untrack,
)
from tests.commanding import iso, now, revert, run
from tests.judge import HISTORY, configured, tracking
from tests.overheard import overhear


class Deed(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    notes = fields.DictField()
    secret = fields.StringField()
    other = fields.ReferenceField("self")
    meta = {"collection": "deed"}


LABEL = f"{Deed.__module__}.Deed"
TOUCHING = frozenset(
    {"update", "delete", "findAndModify", "drop", "renameCollection", "collMod", "bulkWrite"}
)


@pytest.fixture
def versions(mongodb: Database) -> Any:
    """The last versions of three documents."""
    with (
        configured(),
        tracking(Deed, hidden=["secret"]),
        changeset(user="ann", reason="why", nested={"a": [1]}),
    ):
        made = [Deed(number=n, notes={"k": [1, {"x": 1}]}, secret="s").save() for n in (1, 2, 3)]
        for document in made:
            document.update(notes={"k": [2, {"x": 2}]}, name="b")
        yield [document.history[-1] for document in made]


# -- in the hand ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "state",
        "changes",
        "user",
        "reason",
        "extra",
        "at",
        "number",
        "name",
        "secret",
        "anything",
        "_record",
        "_index",
    ],
)
def test_attributes_cannot_be_set_or_deleted(versions: list[Any], name: str) -> None:
    """Neither those that a version has nor new ones."""
    for v in versions:
        before = (v.id, v.number, v.state, v.changes, v.extra)
        with pytest.raises(AttributeError, match="versions never change"):
            setattr(v, name, "forged")
        with pytest.raises(AttributeError, match="versions never change"):
            delattr(v, name)
        assert (v.id, v.number, v.state, v.changes, v.extra) == before


def test_items_cannot_be_set(versions: list[Any]) -> None:
    with pytest.raises(TypeError):
        versions[0]["name"] = "forged"
    with pytest.raises(TypeError):
        del versions[0]["name"]


def test_what_is_read_of_a_version_is_a_private_copy(versions: list[Any]) -> None:
    """However deep: whoever changes it changes nobody else's."""
    v = versions[1]
    state, extra, patch = v.state, v.extra, v.patch
    state["notes"]["k"][1]["x"] = "forged"
    extra["nested"]["a"].append("forged")
    v["notes"]["k"].append("forged")
    document = v.document
    document.notes["k"].append("forged")
    for change in v.changes:
        if isinstance(change.new, list):
            change.new.append("forged")
        if isinstance(change.new, dict):
            change.new["x"] = "forged"
        with pytest.raises(AttributeError):
            change.new = "forged"
    patch.clear()
    v.changes.clear()
    with pytest.raises(AttributeError):
        v.user.label = "forged"
    for seen in (v, v.previous, v.next, *versions, *history_of(Deed, 2), *v.changeset.versions()):
        if seen is not None:
            assert "forged" not in repr((seen.state, seen.extra, seen.changes, seen.patch, seen.user))


def test_copies_of_a_version_are_the_version(versions: list[Any]) -> None:
    """There is nothing in it to be different; as a key it keeps its place."""
    for v in versions:
        assert copy.copy(v) is copy.deepcopy(v) is v
        assert {v: 1}[history_of(Deed, v.document_id)[-1]] == 1


# -- in the store -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["atomic", "sync"])
def test_nothing_changes_or_deletes_a_stored_version(
    mongodb: Database, mongodb_client: Any, mongodb_uri: str, delivery: str
) -> None:
    """The whole of what can be called, overheard: the history collection is only read and added to."""
    heard = overhear(mongodb.name, mongodb_uri)
    store = mongodb_client[mongodb.name][HISTORY]
    seen: dict[str, dict[str, Any]] = {}

    def look() -> None:
        """Rows that were there are there still, as they were."""
        rows = {str(row["_id"]): row for row in store.find()}
        assert {key: rows.get(key) for key in seen} == seen
        seen.update(rows)

    Deed._get_collection().insert_many([{"_id": number, "name": "old"} for number in (7, 8, 9)])
    with configured(DELIVERY=delivery, SNAPSHOT_EVERY=2):
        track(Deed, hidden=["secret"])
        for step in (_write, _read, _go_back, _commands, _drop):
            step()
            look()
        track(Deed, untracked=["name"])
        _read()
        untrack(Deed)
    look()
    assert len(seen) > 30
    assert [one for one in heard.commands if one[1] == HISTORY and one[0] in TOUCHING] == []
    assert ("insert", HISTORY) in heard.commands


def _write() -> None:
    with changeset(user="ann", reason="why", ticket=1), rationale("inner"), extra_change_info(a=1):
        made = [Deed(number=n, name="a", notes={"k": [n]}, secret="s").save() for n in (1, 2, 3)]
        made[1].update(other=made[0])
        append_change_info(made[2], scanner=1)
        for document in made:
            document.modify(name="b")
            document.secret = "t"
            document.save()
    Deed.objects.update(set__notes__x=1)
    Deed.objects(number__gt=1).update(name="c")
    Deed.objects.insert([Deed(number=n) for n in (4, 5)])
    with suppress_history("import"):
        Deed.objects(number=4).update(name="past")
    Deed.objects(number=5).delete()


def _read() -> None:
    h = history_of(Deed, 2)
    for v in (*h, *history_of(Deed, 5), *history_of(Deed, 4), *history_of(Deed, 7)):
        _ = (
            v.state,
            v.changes,
            v.patch,
            v.extra,
            v.user,
            v.previous,
            v.next,
            v.changeset,
            v.request,
            v.revert_of,
        )
    if h[-1].operation != "delete":
        _ = h[-1].document, h.diff(1), h.diff(1, 2, include_hidden=True)
    if len(h) > 2:
        _ = (
            h.versions(touching="notes"),
            h.version_at(now()),
            h.has_changed_since(now()),
            h[1].follow("other"),
        )
    k = history_of(Deed)
    _ = list(k.as_of(now())), list(k.states_as_of(now())), list(k.versions()), list(k.deleted())
    for c in changesets(touching=Deed):
        _ = c.versions(), c.user, c.reason, c.at, c.dropped


def _go_back() -> None:
    since = now()
    Deed.objects(number__lte=3).update(name="d")
    h = history_of(Deed, 2)
    h[0].revert()
    h.revert()
    h.revert(since=since)
    history_of(Deed, 1)[-1].take_back()
    history_of(Deed, 5)[-1].previous.revert()
    with changeset() as c:
        Deed.objects(number=3).update(name="e")
    c.take_back()


def _commands() -> None:
    since = now()
    Deed.objects(number__lte=3).update(name="f")
    call_command("history_baseline", document=[LABEL], stdout=io.StringIO())
    call_command("history_indexes", stdout=io.StringIO())
    for arguments in (["--document", LABEL], ["--document", LABEL, "--json"]):
        assert run("history_log", *arguments).error is None
    assert revert("--since", iso(since), "--document", LABEL, "--dry-run").error is None
    assert revert("--since", iso(since), "--document", LABEL).error is None


def _drop() -> None:
    with changeset() as c:
        Deed.drop_collection()
    _read()
    c.take_back()
    Deed.objects.delete()
