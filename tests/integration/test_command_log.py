"""`history_log` on a real server: who changed what, newest first."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import mongoengine
import pytest
from bson import json_util
from mongoengine import fields

from django_mongo_history import UserRef, changeset, history_of
from tests.commanding import iso, now, run
from tests.judge import configured, tracking


class Letter(mongoengine.Document):
    """Has values that JSON has no types for."""

    number = fields.IntField(primary_key=True)
    text = fields.StringField()
    seal = fields.StringField()
    weight = fields.DynamicField()
    stamp = fields.UUIDField()
    sent = fields.DateTimeField()
    price = fields.Decimal128Field()

    meta = {"collection": "letters"}


class Envelope(mongoengine.Document):
    """Another class."""

    name = fields.StringField(primary_key=True)
    meta = {"collection": "envelopes"}


LETTER = f"{Letter.__module__}.Letter"
AWARE = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=True, tzinfo=UTC)
ENVELOPE = f"{Envelope.__module__}.Envelope"


@pytest.fixture(autouse=True)
def office(mongodb: Any) -> Iterator[Any]:
    """Letters and envelopes are tracked."""
    with configured(), tracking(Letter, hidden=["seal"]), tracking(Envelope):
        yield mongodb


def objects(*arguments: Any) -> list[Any]:
    """What `--json` says, each line read back."""
    said = run("history_log", "--json", *arguments)
    assert said.error is None
    return [json_util.loads(line, json_options=AWARE) for line in said.lines]


def test_versions_of_all_classes_newest_first() -> None:
    """One line each: when, what, which, who, why, where, and the changeset."""
    with changeset(user="anna", reason="post") as first:
        Letter(number=1, text="a").save()
    Envelope(name="e").save()
    with changeset(user="bilal"):
        Letter.objects.update(text="b", seal="s")
    lines = run("history_log").lines
    assert len(lines) == 3
    assert "update" in lines[0]
    assert f"{LETTER} 1 by bilal [text, seal]" in lines[0]
    assert f"{ENVELOPE} 'e'" in lines[1]
    assert lines[2].endswith(f"create {LETTER} 1 by anna (post) changeset {first}")


def test_conditions_hold_together() -> None:
    """Class, user, operation, changeset, both bounds and the limit."""
    with changeset(user="anna"):
        Letter(number=1, text="a").save()
        Envelope(name="e").save()
    low = now()
    with changeset(user=UserRef(7, "bilal", "auth.user")) as second:
        Letter.objects.update(text="b")
        Letter.objects.update(text="c")
        Letter(number=2).save()
    high = now()
    Letter.objects(number=2).delete()

    def count(*arguments: Any) -> int:
        return len(run("history_log", *arguments).lines)

    assert count() == 6
    assert count("--document", ENVELOPE) == 1
    assert count("--document", ENVELOPE, "--document", LETTER) == 6
    assert count("--user", "anna") == 2
    assert count("--user", "bilal") == 3
    assert count("--user", "7") == 3
    assert count("--operation", "update") == 2
    assert count("--changeset", second.id) == 3
    assert count("--since", iso(low)) == 4
    assert count("--until", iso(low)) == 2
    assert count("--since", iso(low), "--until", iso(high), "--operation", "create") == 1
    assert count("--limit", 2) == 2
    assert count("--user", "nobody") == 0


def test_a_bound_of_a_versions_own_moment() -> None:
    """--until includes it and --since does not, so that both together are all."""
    Letter(number=1).save()
    at = history_of(Letter, 1)[0].at
    assert len(run("history_log", "--until", iso(at)).lines) == 1
    assert len(run("history_log", "--since", iso(at)).lines) == 0


def test_one_document_with_derived_versions_and_changes() -> None:
    """What nobody stored shows too, and under each version the paths with both sides."""
    mongoengine.get_db()["letters"].insert_one({"_id": 1, "text": "old"})
    with changeset(user="anna"):
        Letter.objects(number=1).update(text="new")
    mongoengine.get_db()["letters"].update_one({"_id": 1}, {"$set": {"text": "round"}})
    lines = run("history_log", "--document", LETTER, "--id", 1).lines
    kinds = [line.split()[1] for line in lines if not line.startswith(" ")]
    assert kinds == ["external", "update", "baseline"]
    assert "    text: 'new' -> 'round'" in lines
    assert "    text: 'old' -> 'new'" in lines
    assert lines[-1].split()[0] == "-"


def test_one_document_by_condition() -> None:
    """The conditions hold for one document, too."""
    with changeset(user="anna") as first:
        Letter(number=1, text="a").save()
    with changeset(user="bilal"):
        Letter.objects.update(text="b")
    one = ("--document", LETTER, "--id", 1)
    assert [line["operation"] for line in objects(*one, "--user", "anna")] == ["create"]
    assert [line["operation"] for line in objects(*one, "--changeset", first.id)] == ["create"]
    assert [line["operation"] for line in objects(*one, "--limit", 1)] == ["update"]


def test_json_keeps_every_type() -> None:
    """Canonical extended JSON: read back it is the value, to the BSON type."""
    stamp, sent = uuid.uuid4(), datetime(2020, 2, 3, 4, 5, 6, 7000, tzinfo=UTC)
    Letter(number=1, weight=1, stamp=stamp, sent=sent, price=Decimal("1.50")).save()
    Letter.objects.update(weight=1.0)
    update, create = objects()
    assert [(change["path"], change["op"]) for change in update["changes"]] == [(["weight"], "change")]
    (change,) = update["changes"]
    assert (type(change["old"]), type(change["new"])) == (int, float)
    values = {change["path"][0]: change["new"] for change in create["changes"]}
    assert values["stamp"].as_uuid() == stamp
    assert values["sent"] == sent
    assert str(values["price"]) == "1.50"
    assert '{"$numberInt": "1"}' in run("history_log", "--json", "--operation", "create").out


def test_json_says_all_of_the_context() -> None:
    """Who, from where and why, and what it was a revert of."""
    with changeset(user=UserRef(7, "anna", "auth.user"), remote_addr="10.0.0.1", reason="why", ticket=3):
        Letter(number=1, text="a").save()
    Letter.objects.update(text="b")
    version = history_of(Letter, 1)[0].revert()
    revert, _update, create = objects()
    assert create["user"] == {"pk": 7, "label": "anna", "model": "auth.user"}
    assert (create["remote_addr"], create["reason"], create["extra"]) == ("10.0.0.1", "why", {"ticket": 3})
    assert (create["class"], create["document_id"], create["derived"]) == (LETTER, 1, False)
    assert (revert["id"], revert["revert_of"]) == (version.id, create["id"])


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--document", LETTER, "--id", 1)])
def test_hidden_values_are_nowhere(arguments: tuple[Any, ...]) -> None:
    """The fact that one changed is; its value is not."""
    Letter(number=1, seal="lion-1").save()
    Letter.objects.update(seal="lion-2")
    mongoengine.get_db()["letters"].update_one({"_id": 1}, {"$set": {"seal": "lion-3", "text": "round"}})
    out = run("history_log", *arguments).out
    assert "lion" not in out
    assert "seal" in out


def test_a_deleted_document_has_its_log() -> None:
    """Nothing has to be there now."""
    Letter(number=1, text="a").save()
    Letter.objects.delete()
    log = objects("--document", LETTER, "--id", 1)
    assert [line["operation"] for line in log] == ["delete", "create"]


def test_a_row_that_cannot_be_read_is_named() -> None:
    """One broken patch costs its own line only."""
    Letter(number=1, text="a").save()
    Letter.objects.update(text="b")
    Letter.objects.update(text="c")
    rows = mongoengine.get_db()["document_history"]
    broken = history_of(Letter, 1)[1].id
    rows.update_one({"_id": broken}, {"$set": {"patch": {"$": "nonsense"}}})
    said = run("history_log")
    assert str(broken) in said.err
    assert len(said.lines) == 2


def test_it_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest lines come before the oldest rows are read."""
    Letter.objects.insert([Letter(number=number) for number in range(500)])
    assert len(run("history_log", "--limit", 3).lines) == 3
    assert len(run("history_log").lines) == 500


def test_rows_that_cannot_be_read_hide_no_others(office: Any) -> None:
    """Each is named once on stderr, the rest is listed, and the exit code tells."""
    for number in range(3):
        Letter(number=number, text="a").save()
    Letter.objects.update(text="b")
    broken = history_of(Letter, 1)[-1].id
    office["document_history"].update_one({"_id": broken}, {"$set": {"format": 99}})
    for arguments, count in (
        ((), 5),
        (("--json",), 5),
        (("--document", LETTER), 5),
        (("--document", LETTER, "--id", "1"), 1),
        (("--since", "2020-01-01T00:00:00Z", "--operation", "update"), 2),
    ):
        said = run("history_log", *arguments)
        assert len([line for line in said.lines if not line.startswith("    ")]) == count
        assert said.err.count(str(broken)) == 1
        assert "format is 99" in said.err
        assert said.error is not None
        assert said.error.returncode == 1
