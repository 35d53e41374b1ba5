"""Change lists inside of the documents, brought along; and the lists removed, where that is asked for and safe."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from bson import ObjectId, json_util
from django.core.management import CommandError, call_command
from mongoengine import fields

from django_mongo_history import HistoryConverter, history_of, track, untrack
from django_mongo_history.conversion.rows import Row
from django_mongo_history.errors import ConversionError
from tests.commanding import run
from tests.judge import configured, tracking

AWARE = json_util.JSONOptions(tz_aware=True)
GOLDEN = Path(__file__).parent / "golden_conversions" / "embedded_changes.json"
BEGIN = datetime(2023, 5, 1, 8, tzinfo=UTC)
LABEL = "tests.integration.test_convert_embedded_changes.OldPerson"

State = dict[str, Any]


class OldPerson(mongoengine.Document):
    """Carries its changes with it."""

    name = fields.StringField(db_field="nm")
    city = fields.StringField()
    born = fields.DateTimeField()
    size = fields.DictField()
    password = fields.StringField(db_field="pw")
    history = fields.DictField()
    meta = {"collection": "old_people", "strict": False}


class GoldenPerson(mongoengine.Document):
    """That of the golden file."""

    meta = {"collection": "golden_people", "strict": False}


@pytest.fixture
def database(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(OldPerson):
        yield mongodb


@pytest.fixture
def list_untracked(mongodb: Any) -> Iterator[Any]:
    with configured():
        track(OldPerson, untracked=["history.changes"], hidden=["password"])
        try:
            yield mongodb
        finally:
            untrack(OldPerson)


def converter(**options: Any) -> HistoryConverter:
    return HistoryConverter(OldPerson, "embedded-changes", **{"list_field": "history.changes", **options})


def states(document_id: Any) -> list[State | None]:
    return [version.state for version in history_of(OldPerson, document_id)]


class Tracked:
    """A document whose application notes its changes in it. `states`: the recorded copies, (moment, user, state)."""

    def __init__(self, *, is_newest_first: bool = False, is_grouped: bool = False) -> None:
        self.now = BEGIN
        self.is_newest_first, self.is_grouped = is_newest_first, is_grouped
        self.state: State = {
            "_id": ObjectId(),
            "nm": "n",
            "city": "c",
            "size": {"w": 1},
            "history": {"changes": []},
        }
        self.states: list[tuple[datetime | None, Any, State]] = [(None, None, deepcopy(self.state))]

    def save(self, user: Any = None, **changed: Any) -> None:
        """One save; "a__b" is a path, None takes a field away."""
        self.now += timedelta(seconds=61)
        changes = [self._change(name.replace("__", "."), new) for name, new in changed.items()]
        if self.is_grouped:
            entries = [{"at": self.now, "by": user, "changes": changes}]
        else:
            entries = [{**change, "timestamp": self.now, "user": user} for change in changes]
        found = self.state["history"]["changes"]
        found[:] = entries[::-1] + found if self.is_newest_first else found + entries
        self.states.append((self.now, user, deepcopy(self.state)))

    def _change(self, path: str, new: Any) -> State:
        holder: Any = self.state
        *outer, last = path.split(".")
        for part in outer:
            holder = holder[part]
        change = {"field": path, "old_value": deepcopy(holder.get(last)), "new_value": deepcopy(new)}
        if new is None:
            holder.pop(last, None)
        else:
            holder[last] = deepcopy(new)
        return change


def random_person(chance: random.Random, **how: bool) -> Tracked:
    one = Tracked(**how)
    for number in range(chance.randrange(1, 9)):
        changed: State = {
            "nm": f"name {number}",
            "size__w": chance.choice([number, float(number), [number, {"x": 1}]]),
            "born": chance.choice([None, BEGIN + timedelta(days=number)]),
            "city": f"city {number}",
        }
        wanted = chance.sample(sorted(changed), chance.randrange(1, 4))
        one.save(f"u{number}", **{name: changed[name] for name in wanted})
    return one


@pytest.mark.parametrize("how", [(False, False), (True, False), (False, True), (True, True)])
def test_every_state(database: Any, how: tuple[bool, bool]) -> None:
    """Flat and grouped, in both orders: every state is the recorded copy, the list in it too, with who and when."""
    is_newest_first, is_grouped = how
    chance = random.Random(str(how))
    people = [
        random_person(chance, is_newest_first=is_newest_first, is_grouped=is_grouped) for _ in range(12)
    ]
    database["old_people"].insert_many([deepcopy(one.state) for one in people])
    options = {"order": "desc" if is_newest_first else "asc", "user_field": "user"}
    if is_grouped:
        options |= {"changes_field": "changes", "time_field": "at", "user_field": "by"}
    made = converter(**options)
    report = made.convert_all()
    assert (report.counts.gaps, report.counts.bad) == (0, 0)
    for one in people:
        versions = list(history_of(OldPerson, one.state["_id"]))
        found = [(version.at, version.user and version.user.pk, version.state) for version in versions]
        assert found == one.states
    assert made.verify().is_ok
    assert made.convert(1000) == 0
    assert made.plan().rows == sum(len(one.state["history"]["changes"]) for one in people)
    assert list(database["old_people"].find()) == [one.state for one in people]


def test_golden(mongodb: Any) -> None:
    """Written by hand: a list as it lies in a document, and what the history is then."""
    golden = json_util.loads(GOLDEN.read_text(encoding="utf-8"), json_options=AWARE)
    mongodb["golden_people"].insert_many(golden["documents"])
    with configured():
        track(GoldenPerson)
        try:
            report = HistoryConverter(GoldenPerson, "embedded-changes", **golden["options"]).convert_all()
            found = [
                {
                    "operation": str(version.operation),
                    "at": version.at,
                    "user": None if version.user is None else version.user.pk,
                    "state": {name: value for name, value in version.state.items() if name != "history"},
                    "entries": len(version.state["history"]),
                }
                for version in history_of(GoldenPerson, golden["documents"][0]["_id"])
            ]
        finally:
            untrack(GoldenPerson)
    assert found == golden["versions"]
    assert {key: value for key, value in report.counts.to_dict().items() if value} == golden["counts"]


def test_strip_is_a_version_where_the_list_is_tracked(database: Any) -> None:
    """All entries converted: the list goes, as a write of its own that says why; runs go on until there is nothing left."""
    people = [random_person(random.Random(number)) for number in range(7)]
    database["old_people"].insert_many([deepcopy(one.state) for one in people])
    made = converter(strip=True)
    counts = [made.convert(3)]
    while counts[-1]:
        counts.append(converter(strip=True).convert(3))
    assert counts == [3, 3, 1, 0]
    for one in people:
        history = history_of(OldPerson, one.state["_id"])
        after = {**one.state, "history": {}}
        assert [version.state for version in history] == [*(state for _at, _user, state in one.states), after]
        assert history[-1].reason == "history_convert --strip"
        assert database["old_people"].find_one({"_id": one.state["_id"]}) == after


def test_strip_is_no_version_where_it_is_not(list_untracked: Any) -> None:
    one = random_person(random.Random(3))
    list_untracked["old_people"].insert_one(deepcopy(one.state))
    made = converter(strip=True)
    assert made.convert_all().counts.gaps == 0
    without = [{**state, "history": {}} for _at, _user, state in one.states]
    assert states(one.state["_id"]) == without
    assert list_untracked["old_people"].find_one() == without[-1]
    assert made.convert(10) == 0
    assert made.update(BEGIN) == 0
    assert list_untracked["document_history"].count_documents({}) == len(one.states) - 1


def test_strip_leaves_what_is_not_converted(database: Any) -> None:
    """A list with an entry that cannot be read stays as it is, and so does one that has grown since it was read."""
    broken, grown, good = (random_person(random.Random(number)) for number in range(3))
    broken.state["history"]["changes"][0]["timestamp"] = "once"
    database["old_people"].insert_many([deepcopy(one.state) for one in (broken, grown, good)])
    made = converter(strip=True)
    rows = made.format.reader().of_keys([grown.state["_id"]])
    found = next(iter(rows.values())).rows
    grown.save("late", city="elsewhere")
    database["old_people"].replace_one({"_id": grown.state["_id"]}, deepcopy(grown.state))
    made.format.finish(grown.state["_id"], found, is_whole=True)
    assert database["old_people"].find_one({"_id": grown.state["_id"]}) == grown.state
    report = made.convert_all()
    assert (report.counts.bad, report.bad[0].reason) == (1, "entry 0 does not say when")
    assert database["old_people"].find_one({"_id": broken.state["_id"]}) == broken.state
    for one in (grown, good):
        assert database["old_people"].find_one({"_id": one.state["_id"]})["history"] == {}


def test_entries_that_come_after_a_strip(database: Any) -> None:
    """The old tracker may still be running: what it notes in a list that begins anew is converted, and goes too."""
    one = random_person(random.Random(8))
    database["old_people"].insert_one(deepcopy(one.state))
    converter(strip=True).convert_all()
    entry = {
        "field": "city",
        "old_value": one.state["city"],
        "new_value": "late",
        "timestamp": datetime.now(UTC),
    }
    database["old_people"].update_one(
        {"_id": one.state["_id"]}, {"$set": {"city": "late", "history.changes": [entry]}}
    )
    made = converter(strip=True)
    made.convert_all()
    made.update(BEGIN)
    assert database["old_people"].find_one() == {**one.state, "city": "late", "history": {}}
    cities = [state["city"] for state in states(one.state["_id"])]
    assert cities[-1] == "late"
    assert cities[: len(one.states)] == [state["city"] for _at, _user, state in one.states]
    assert made.convert(5) == 0


def test_strip_when_all_is_converted_and_checked(database: Any) -> None:
    """To convert first, look, and strip then needs no new start, and makes nothing anew."""
    people = [random_person(random.Random(number)) for number in range(3)]
    database["old_people"].insert_many([deepcopy(one.state) for one in people])
    made = converter()
    made.convert_all()
    assert made.verify().is_ok
    before = list(database["document_history"].find().sort("_id"))
    assert "is tracked" in "".join(made.plan().remarks)
    stripping = converter(strip=True)
    assert stripping.convert(10) == 0
    assert [one["history"] for one in database["old_people"].find()] == [{}, {}, {}]
    after = list(database["document_history"].find({"source": {"$exists": True}}).sort("_id"))
    assert after == before
    assert database["document_history"].count_documents({}) == len(before) + 3


def test_restart_keeps_what_could_not_be_made_anew(database: Any) -> None:
    """With other options versions are removed and made anew; not where the lists that they came of are gone."""
    people = [random_person(random.Random(number)) for number in range(3)]
    database["old_people"].insert_many([deepcopy(one.state) for one in people])
    assert converter(strip=True).convert(1) == 1
    before = list(database["document_history"].find().sort("_id"))
    with pytest.raises(ConversionError, match="of 1 documents that were looked at history"):
        converter(user_field="user").restart()
    assert list(database["document_history"].find().sort("_id")) == before
    converter(strip=True).restart()
    assert converter(strip=True).convert_all().counts.documents == 2


def test_strip_leaves_documents_of_untracked_classes(database: Any) -> None:
    """Where nothing is converted nothing is removed."""
    rows = [Row([1, "a"], {"index": 0, "entry": {"field": "x"}, "around": {}})]
    one = random_person(random.Random(8))
    database["old_people"].insert_one(deepcopy(one.state))
    converter(strip=True).format.finish(one.state["_id"], rows, is_whole=True)
    converter(strip=False).convert_all()
    assert database["old_people"].find_one() == one.state


def test_lists_that_lose_their_oldest_entries(list_untracked: Any) -> None:
    """A list of a limited length: what fell out of it stays converted, nothing is converted twice."""
    one = Tracked()
    for number in range(4):
        one.save("u", city=f"c{number}")
    list_untracked["old_people"].insert_one(deepcopy(one.state))
    made = converter()
    made.convert_all()
    one.save("u", city="c4")
    one.state["history"]["changes"] = one.state["history"]["changes"][2:]
    list_untracked["old_people"].replace_one({"_id": one.state["_id"]}, deepcopy(one.state))
    made.update(BEGIN)
    assert [state["city"] for state in states(one.state["_id"])] == ["c", "c0", "c1", "c2", "c3", "c4"]
    assert list_untracked["document_history"].count_documents({}) == 5


def test_a_write_past_the_list_is_a_gap(database: Any) -> None:
    """The entry is right about its own time, the version says that something is missing, and keeps the entry."""
    one = Tracked()
    one.save("u", city="noted")
    one.state["city"] = "past it"
    database["old_people"].insert_one(deepcopy(one.state))
    report = converter(user_field="user").convert_all()
    assert report.counts.gaps == 1
    stored = database["document_history"].find_one()
    assert stored["source"]["raw"][0]["entry"] == one.state["history"]["changes"][0]
    assert [state["city"] for state in states(one.state["_id"])] == ["c", "noted", "past it"]


def test_hidden_values_are_nowhere(list_untracked: Any) -> None:
    """Not in versions, not in rows beside gaps; whatever the entries call the field. That it changed is known."""
    document_id = ObjectId()
    times = iter(range(9))
    entries = [
        {
            "field": field,
            "old_value": old,
            "new_value": new,
            "timestamp": BEGIN + timedelta(hours=next(times)),
        }
        for field, old, new in (
            ("password", "SECRET-1", "SECRET-2"),
            ("pw", "SECRET-2", "SECRET-3"),
            ("name", "a", "b"),
        )
    ]
    entries[2]["timestamp"] = entries[1]["timestamp"]
    document = {"_id": document_id, "nm": "past it", "pw": "SECRET-4", "history": {"changes": entries}}
    list_untracked["old_people"].insert_one(document)
    report = converter().convert_all()
    assert report.counts.gaps == 1
    stored = list(list_untracked["document_history"].find())
    assert "SECRET" not in str(stored)
    assert [row["hidden_changed"] for row in stored] == [["pw"], ["pw"]]
    assert "SECRET" not in str([version.changes for version in history_of(OldPerson, document_id)])


def test_a_tracked_list_of_hidden_values_is_refused(mongodb: Any) -> None:
    """Every version would hold it: say so, and what to do, before anything is written."""
    entry = {"field": "password", "old_value": "SECRET-1", "new_value": "SECRET-2", "timestamp": BEGIN}
    mongodb["old_people"].insert_one({"nm": "a", "pw": "SECRET-2", "history": {"changes": [entry]}})
    with configured():
        track(OldPerson, hidden=["password"])
        try:
            with pytest.raises(ConversionError, match=r"Add 'history\.changes' to its `untracked`"):
                converter().convert_all()
        finally:
            untrack(OldPerson)
    assert mongodb["document_history"].count_documents({}) == 0


def test_texts_and_attribute_names(database: Any) -> None:
    """Fields by their names in Python, values as texts of the class's types, null where nothing was."""
    document_id = ObjectId()
    entries = [
        {
            "field": "born",
            "old_value": None,
            "new_value": "2001-02-03T00:00:00Z",
            "timestamp": "2023-01-01T10:00:00",
        },
        {"field": "name", "old_value": "a", "new_value": "b", "timestamp": "2023-07-01T10:00:00"},
        {"field": "nobody", "old_value": "x", "timestamp": 1688205600},
    ]
    document = {
        "_id": document_id,
        "nm": "b",
        "born": datetime(2001, 2, 3, tzinfo=UTC),
        "history": {"changes": entries},
    }
    database["old_people"].insert_one(document)
    made = converter(convert_texts=True, source_timezone="Europe/Paris")
    assert made.convert_all().counts.gaps == 0
    versions = list(history_of(OldPerson, document_id))
    shown = [{key: value for key, value in version.state.items() if key != "history"} for version in versions]
    base = {"_id": document_id, "nm": "a", "nobody": "x"}
    born = datetime(2001, 2, 3, tzinfo=UTC)
    assert shown == [
        base,
        {**base, "born": born},
        {**base, "born": born, "nm": "b"},
        {"_id": document_id, "nm": "b", "born": born},
    ]
    assert [version.at for version in versions[1:]] == [
        datetime(2023, 1, 1, 9, tzinfo=UTC), datetime(2023, 7, 1, 8, tzinfo=UTC), datetime(2023, 7, 1, 10, tzinfo=UTC),
    ]  # fmt: skip


def test_bad_entries(database: Any) -> None:
    """Each with its place and its reason; the others go on, and the one next to it says that it may not know all."""
    one = Tracked()
    for number in range(3):
        one.save("u", city=f"c{number}")
    good = one.state["history"]["changes"]
    bad = [
        "text",
        {"field": "city", "timestamp": BEGIN},
        {"old_value": 1, "timestamp": BEGIN},
        {"field": "city", "new_value": 1},
    ]
    one.state["history"]["changes"] = [*bad, good[0], good[1], 5, good[2]]
    database["old_people"].insert_one(deepcopy(one.state))
    report = converter().convert_all()
    assert [row.reason for row in report.bad] == [
        "entry 0 is no document",
        "entry 1 does not say which field, or neither the old nor the new value",
        "entry 2 does not say which field, or neither the old nor the new value",
        "entry 3 does not say when",
        "entry 6 is no document",
    ]
    assert report.counts.gaps == 2
    assert [state["city"] for state in states(one.state["_id"])] == ["c", "c0", "c1", "c2"]


def test_found_by_itself(database: Any) -> None:
    """Lists are found by what they look like; their names and their order too."""
    one = random_person(random.Random(1), is_newest_first=True, is_grouped=True)
    while len(one.states) < 3:
        one.save("u", city="more")
    document = {**one.state, "audit": one.state["history"]["changes"], "history": [1, 2]}
    database["old_people"].insert_one(deepcopy(document))
    answer = run("history_convert", "--no-input")
    assert answer.error is None, answer.error
    assert "old_people audit" in answer.out
    assert answer.lines[-1] == "1"
    assert [version.at for version in history_of(OldPerson, one.state["_id"])] == [
        at for at, _user, _state in one.states
    ]


def test_the_command_asks(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is removed, and nothing converted, without a yes."""
    one = random_person(random.Random(1))
    database["old_people"].insert_one(deepcopy(one.state))
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or "no")
    out = io.StringIO()
    arguments = [
        "history_convert",
        "embedded-changes",
        "--document",
        LABEL,
        "--list-field",
        "history.changes",
        "--strip",
    ]
    with pytest.raises(CommandError, match="Cancelled"):
        call_command(*arguments, stdout=out)
    assert "history.changes is removed" in out.getvalue() + "".join(asked)
    assert database["old_people"].find_one() == one.state
    answer = run(*arguments, "--no-input")
    assert answer.error is None
    assert answer.lines[-1] == "1"
    assert database["old_people"].find_one()["history"] == {}


def test_bad_input(database: Any) -> None:
    database["old_people"].insert_one({"nm": "a", "history": {"changes": [{"field": "nm", "when": BEGIN}]}})
    for arguments, said in (
        ([], "--list-field"),
        (["--list-field", "nowhere"], "has entries in nowhere"),
        (["--list-field", "history.changes"], "The fields of one: field, when"),
        (["--list-field", "history.changes", "--order", "up"], "asc, desc"),
        (["--list-field", "history.changes", "--changes-field", "all"], "no entry of"),
    ):
        answer = run("history_convert", "embedded-changes", "--document", LABEL, "--no-input", *arguments)
        assert said in str(answer.error), (arguments, answer.error)
    assert database["document_history"].count_documents({}) == 0
