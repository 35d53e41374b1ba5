"""The history pages of the admin on a real server: what they show, and what they never do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import mongoengine
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, json_util
from bson.timestamp import Timestamp
from django.test import Client, override_settings
from django.utils import timezone
from mongoengine import fields

from django_mongo_history import changeset, depots, history_of
from django_mongo_history.admin import history_url
from django_mongo_history.context import begin_task, end_task
from django_mongo_history.core.model import TaskRef
from django_mongo_history.delivery import moving
from tests.admin_pages import check_page, links, page, text_of
from tests.judge import configured, tracking

pytestmark = [pytest.mark.django_db]


class Quay(mongoengine.Document):
    """Something that others refer to."""

    name = fields.StringField(primary_key=True)
    depth = fields.FloatField()
    meta = {"collection": "quays"}


class Lading(mongoengine.EmbeddedDocument):
    what = fields.StringField()
    tons = fields.IntField()


class Steamer(mongoengine.Document):
    """Has a bit of everything."""

    number = fields.DynamicField(primary_key=True)
    name = fields.StringField(db_field="n")
    log = fields.StringField()
    secret = fields.StringField()
    cargo = fields.EmbeddedDocumentListField(Lading)
    notes = fields.DictField()
    quay = fields.ReferenceField(Quay)
    anything = fields.DynamicField()
    meta = {"collection": "vessels"}


@pytest.fixture(autouse=True)
def harbour(mongodb: Any) -> Iterator[Any]:
    """Vessels and quays are tracked; a secret is hidden."""
    with configured(), tracking(Steamer, hidden=["secret"]), tracking(Quay):
        yield mongodb


@pytest.fixture
def staff(admin_client: Client) -> Client:
    """May do everything."""
    return admin_client


def of(name: str, *more: object, key: Any = 1) -> str:
    """The address of a page about a vessel."""
    return history_url(Steamer, key) + "/".join([name, *map(str, more), ""])


# -- all changes -------------------------------------------------------------------------------------------------------


def test_the_list_says_who_what_when_from_where_and_why(staff: Client) -> None:
    """One row for each version, newest first, with a summary of what changed."""
    with changeset(user="anna", remote_addr="192.0.2.7", reason="launch"):
        Steamer(number=1, name="Fram", log="a").save()
    vessel = Steamer.objects.get(number=1)
    vessel.name, vessel.log = "Maud", "b"
    vessel.save()
    text = text_of(staff, page("changelist"))
    rows = re.findall(r'<tr class="mh-row.*?</tr>', text, re.DOTALL)
    assert len(rows) == 2
    assert "name: Fram → Maud, 1 more" in rows[0]
    for said in ("anna", "192.0.2.7", "launch", "5 fields", "created", "Steamer"):
        assert said in rows[1]
    at = history_of(Steamer, 1)[0].at
    assert at is not None
    assert f'datetime="{at.isoformat(timespec="milliseconds").replace("+00:00", "Z")}"' in rows[1]


def test_a_hidden_field_is_said_to_have_changed(staff: Client) -> None:
    """And its value is nowhere."""
    Steamer(number=1, name="Fram", secret="gold under the deck").save()
    Steamer.objects(number=1).update(secret="nothing at all")
    for url in (page("changelist"), history_url(Steamer, 1), page("changelist") + "?path=secret"):
        text = text_of(staff, url)
        assert "secret: changed (hidden)" in text
        assert "gold" not in text
        assert "nothing at all" not in text


def test_pages_follow_each_other_by_key(staff: Client) -> None:
    """Forward to the end and back to the beginning, each version once."""
    Steamer.objects.insert([Steamer(number=number) for number in range(120)])
    seen: list[list[str]] = []
    url = page("changelist")
    while True:
        text = text_of(staff, url)
        seen.append(re.findall(r'name="version" value="(\w+)"', text))
        older = links(text, "mh-older")
        if not older:
            break
        url = page("changelist") + older[0]
    assert [len(one) for one in seen] == [50, 50, 20]
    assert len({name for one in seen for name in one}) == 120
    back = [seen[-1]]
    while newer := links(text, "mh-newer"):
        text = text_of(staff, page("changelist") + newer[0])
        back.append(re.findall(r'name="version" value="(\w+)"', text))
    assert back == seen[::-1]


def test_filters_hold_together(staff: Client, admin_user: Any) -> None:
    """Class, operation, user, changeset, dates, address, reason and path; each finds some and not others."""
    with changeset(user=admin_user, remote_addr="192.0.2.1", reason="spring cleaning") as spring:
        Steamer(number=1, name="Fram").save()
        Quay(name="West", depth=4.0).save()
    with changeset(user="bo", remote_addr="192.0.2.2", reason="autumn"):
        Steamer.objects(number=1).update(name="Maud")
        Quay.objects(name="West").update(depth=5.0)
    Steamer.objects(number=1).delete()

    def found(**query: Any) -> int:
        text = text_of(staff, page("changelist"), **query)
        assert 'class="errorlist"' not in text
        return len(re.findall(r'<tr class="mh-row', text))

    today = timezone.localdate()
    assert found() == 5
    assert found(**{"class": "Steamer"}) == 3
    assert found(**{"class": "Steamer", "operation": "update"}) == 1
    assert found(operation="delete") == 1
    assert found(operation="create") == 2
    assert found(user="admin") == 2
    assert found(user=str(admin_user.pk)) == 2
    assert found(user="bo") == 2
    assert found(user="nobody") == 0
    assert found(changeset=str(spring)) == 2
    assert found(changeset=str(spring), operation="update") == 0
    assert found(since=today, until=today) == 5
    assert found(until=today - timedelta(days=1)) == 0
    assert found(since=today + timedelta(days=1)) == 0
    assert found(address="192.0.2.2") == 2
    assert found(reason="CLEAN") == 2
    assert found(path="name", **{"class": "Steamer"}) == 1
    assert found(path="n") == 1
    assert found(path="depth", user="bo") == 1
    assert found(id="West") == 2
    assert found(id="1") == 3
    assert found(id="1", **{"class": "Quay"}) == 0


def test_what_has_no_index_is_bounded_and_says_so(staff: Client, harbour: Any) -> None:
    """By thirty days, unless a class or dates bound it."""
    with changeset(reason="old", remote_addr="192.0.2.9"):
        Steamer(number=1).save()
    long_ago = datetime.now(UTC) - timedelta(days=40)
    harbour["document_history"].update_many({}, {"$set": {"at": long_ago.replace(microsecond=0)}})
    for query in ({"reason": "old"}, {"address": "192.0.2.9"}, {"path": "name"}, {"user": "somebody"}):
        text = text_of(staff, page("changelist"), **query)
        assert "Searched in the last 30 days" in text
        assert "No changes found" in text
    for query in ({"reason": "old", "class": "Steamer"}, {"address": "192.0.2.9", "since": "2001-01-01"}):
        text = text_of(staff, page("changelist"), **query)
        assert "Searched in the last" not in text
        assert '<tr class="mh-row' in text


IDS: list[tuple[Any, str]] = [
    ("plain", "plain"),
    (5, "5"),
    (Int64(2**40), str(2**40)),
    (2.5, "2.5"),
    (ObjectId("0123456789abcdef01234567"), "0123456789abcdef01234567"),
    (Binary.from_uuid(__import__("uuid").UUID(int=7)), "00000000-0000-0000-0000-000000000007"),
    ({"a": 1, "b": "x"}, '{"a": {"$numberInt": "1"}, "b": "x"}'),
    (datetime(2026, 2, 8, 23, 3, tzinfo=UTC), '{"$date": "2026-02-08T23:03:00Z"}'),
    (True, "true"),
]


@pytest.mark.parametrize(("key", "text"), IDS, ids=[str(text) for _key, text in IDS])
@pytest.mark.parametrize("document_class", ["", "Steamer"])
def test_an_id_of_any_type_is_found_by_its_text(
    staff: Client, harbour: Any, key: Any, text: str, document_class: str
) -> None:
    """With and without a class; and the row leads to the document's history."""
    Steamer._get_collection().insert_one({"_id": key, "n": "found me"})
    Steamer(number="another").save()
    shown = text_of(staff, page("changelist"), id=text, **{"class": document_class})
    rows = re.findall(r'<tr class="mh-row.*?</tr>', shown, re.DOTALL)
    assert len(rows) == 1
    address = re.search(r'<td class="mh-document">.*?href="([^"]*)"', rows[0], re.DOTALL)
    assert address
    assert "found me" in text_of(staff, address.group(1).replace("&amp;", "&"))


def test_an_impossible_filter_is_told_beside_its_field(staff: Client) -> None:
    """And nothing is searched."""
    Steamer(number=1).save()
    for query in (
        {"changeset": "xyz"},
        {"since": "2026-03-01", "until": "2026-02-01"},
        {"class": "Steamer", "path": "nowhere"},
        {"class": "Unheard"},
        {"operation": "external"},
        {"reason": "a\0b"},
    ):
        text = text_of(staff, page("changelist"), **query)
        assert "errorlist" in text
        assert '<tr class="mh-row' not in text


def test_a_search_that_takes_too_long_says_what_to_do(staff: Client, mongodb_client: Any) -> None:
    """The server ends it, and the page says why and what would be quicker."""
    Steamer(number=1).save()
    for command in ("find",):
        fail = {
            "failCommands": [command],
            "errorCode": 50,
            "namespace": f"{mongoengine.get_db().name}.document_history",
        }
        mongodb_client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=fail)
        try:
            for url in (page("changelist"), page("chart"), page("deleted", "Steamer")):
                assert "stopped after 5 seconds" in text_of(staff, url)
        finally:
            mongodb_client.admin.command("configureFailPoint", "failCommand", mode="off")


def test_a_row_that_cannot_be_read_is_told(staff: Client, harbour: Any) -> None:
    """The others are shown."""
    Steamer(number=1).save()
    Steamer(number=2).save()
    harbour["document_history"].update_one({"document_id": 1}, {"$set": {"format": 99}})
    text = text_of(staff, page("changelist"))
    assert "1 version cannot be read" in text
    assert len(re.findall(r'<tr class="mh-row', text)) == 1


@pytest.mark.parametrize(
    "place", ["nonsense", "5-xyz", "999999999999999999999-0123456789abcdef01234567", "-"]
)
def test_a_place_that_is_none_is_not_found(staff: Client, place: str) -> None:
    """Whoever writes addresses by hand gets no error of the server's."""
    assert staff.get(page("changelist"), {"older": place}).status_code == 404


# -- the chart ---------------------------------------------------------------------------------------------------------


def test_the_chart_counts_days_by_operation(staff: Client) -> None:
    """As a page, and as a part of the list; with the filters of the list; as a picture and as a table."""
    for number in range(3):
        Steamer(number=number).save()
    Steamer.objects(number=0).update(name="x")
    for query in ({}, {"fragment": "1"}):
        text = text_of(staff, page("chart"), **query)
        assert ("<html" in text) == (not query)
        assert "4 changes" in text
        assert "3 created</title>" in text
        assert "1 changed</title>" in text
        assert re.search(r"<td>3</td>\s*<td>1</td>", text)
    assert "1 change," in text_of(staff, page("chart"), operation="update")
    assert "No changes found" in text_of(staff, page("chart"), operation="delete")


def test_the_chart_says_that_it_is_cut(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at the newest ones only, and says how many those are."""
    monkeypatch.setattr("django_mongo_history.admin.charting.MOST", 2)
    Steamer.objects.insert([Steamer(number=number) for number in range(5)])
    text = text_of(staff, page("chart"))
    assert "2 changes" in text
    assert "(the newest 50,000 matches)" in text


# -- a document --------------------------------------------------------------------------------------------------------


def full_of_types() -> dict[str, Any]:
    return {
        "double": 1.0, "int": 1, "long": Int64(1), "bool": True, "null": None, "decimal": Decimal128(Decimal("1.10")),
        "date": datetime(2026, 2, 8, 23, 3, 0, 5000, tzinfo=UTC), "binData": b"\x00\xff", "objectId": ObjectId("a" * 24),
        "regex": Regex("^a", "i"), "timestamp": Timestamp(5, 6), "dbRef": DBRef("quays", "West"), "minKey": MinKey(),
        "maxKey": MaxKey(), "javascript": Code("f()"), "uuid": Binary(bytes(16), 4), "empty": {}, "emptylist": [],
    }  # fmt: skip


def test_every_bson_type_is_shown_as_what_it_is(staff: Client) -> None:
    """1, 1.0 and Int64(1) look different, in the changes and in the whole state."""
    Steamer._get_collection().insert_one({"_id": 1, "anything": full_of_types()})
    for url in (history_url(Steamer, 1), of("state")):
        text = text_of(staff, url)
        for kind in set(full_of_types()) - {"empty", "emptylist"}:
            assert f'<span class="mh-type">{kind}</span>' in text, kind
        assert '<span class="mh-value mh-double">1.0</span>' in text
        assert "2026-02-08T23:03:00.005Z" in text
        assert "00000000-0000-0000-0000-000000000000" in text


def test_changes_stand_side_by_side(staff: Client) -> None:
    """Path by path, list elements and embedded documents too; lists and documents fold; what is not there says so."""
    Steamer(number=1, cargo=[Lading(what="tea", tons=3)], notes={"a": {"b": 1}}).save()
    Steamer.objects(number=1).update(__raw__={"$set": {"cargo.0.tons": 4, "notes.a.c": [1, {"d": 2}]}})
    text = text_of(staff, history_url(Steamer, 1))
    assert "cargo.0.tons" in text
    assert "notes.a.c" in text
    assert "(not there)" in text
    assert "<summary>list of 2</summary>" in text
    rows = re.findall(r'<tr class="mh-change.*?</tr>', text, re.DOTALL)
    tons = next(row for row in rows if "cargo.0.tons" in row)
    old, new = re.search(r'mh-old">(.*?)</td>', tons), re.search(r'mh-new">(.*?)</td>', tons)  # fmt: skip
    assert old
    assert new
    assert ">3<" in old.group(1)
    assert ">4<" in new.group(1)


def test_changed_words_of_long_texts_are_marked(staff: Client) -> None:
    """What is gone on one side, what has come on the other."""
    Steamer(number=1, log="The wind was strong from the west and we reefed the sails.").save()
    Steamer.objects(number=1).update(log="The wind was weak from the west and we set the sails.")
    text = text_of(staff, history_url(Steamer, 1))
    assert "<del>strong</del>" in text
    assert "<ins>weak</ins>" in text
    assert "<del>reefed</del>" in text


def test_a_document_has_its_derived_versions_marked(staff: Client, harbour: Any) -> None:
    """What went round the tracker stands in the timeline and has a page of its own."""
    harbour["vessels"].insert_one({"_id": 1, "n": "before tracking"})
    Steamer.objects(number=1).update(name="tracked")
    harbour["vessels"].update_one({"_id": 1}, {"$set": {"n": "past the tracker"}})
    text = text_of(staff, history_url(Steamer, 1))
    assert text.count("derived, not stored") == 2
    assert "past the tracker" in text
    for name in ("before-now",):
        shown = text_of(staff, of("version", name))
        assert "past the tracker" in shown
        assert "Take this change back" not in shown


def test_a_timeline_is_paged(staff: Client) -> None:
    """Twenty versions at a time, the newest first."""
    vessel = Steamer(number=1).save()
    for number in range(30):
        vessel.modify(name=f"name {number}")
    text = text_of(staff, history_url(Steamer, 1))
    assert re.findall(r'id="mh-version-(\d+)"', text) == [str(number) for number in range(31, 11, -1)]
    older = links(text, "mh-older")
    text = text_of(staff, older[0])
    assert re.findall(r'id="mh-version-(\d+)"', text) == [str(number) for number in range(11, 0, -1)]
    assert staff.get(history_url(Steamer, 1), {"upto": "x"}).status_code == 404


def test_a_deleted_document_has_its_history(staff: Client) -> None:
    """And says that it is gone."""
    Steamer(number=1, name="Fram").save().delete()
    text = text_of(staff, history_url(Steamer, 1))
    assert "does not exist now" in text
    assert "Fram" in text
    assert "did not exist then" in text_of(staff, of("state"))
    assert "Fram" in text_of(staff, of("state"), number=1)


def test_any_two_versions_are_compared(staff: Client) -> None:
    """Or one and now; whichever is given first, the older one is the left side."""
    vessel = Steamer(number=1, name="one", secret="a").save()
    vessel.modify(name="two")
    vessel.modify(name="three", secret="b")
    ids = [str(version.id) for version in history_of(Steamer, 1)]

    def sides(a: str, b: str) -> tuple[str, ...]:
        text = text_of(staff, of("compare"), a=a, b=b)
        row = re.search(r'mh-old">.*?>(\w+)</span>.*?mh-new">.*?>(\w+)</span>', text, re.DOTALL)
        return row.groups() if row else ()

    assert sides(ids[0], ids[1]) == ("one", "two")
    assert sides(ids[2], ids[0]) == ("one", "three")
    assert sides(ids[1], "now") == ("two", "three")
    assert sides(ids[2], "now") == ()
    assert "changed (hidden)" in text_of(staff, of("compare"), a=ids[0], b="now")
    assert sides("1", "2") == ("one", "two")
    assert staff.get(of("compare"), {"a": "x"}).status_code == 404
    assert staff.get(of("compare"), {"a": "0"}).status_code == 200


def test_a_document_as_it_stood_at_any_moment(staff: Client) -> None:
    """By its number, by a version, by a moment in the user's time zone or with an offset; before the first there is none."""
    Steamer(number=1, name="one").save()
    first = history_of(Steamer, 1)[0].at
    assert first is not None
    Steamer.objects(number=1).update(name="two")
    url = of("state")
    exact = first.isoformat()
    assert ">one<" in text_of(staff, url, number=1)
    assert ">two<" in text_of(staff, url)
    assert ">one<" in text_of(staff, url, version=str(history_of(Steamer, 1)[0].id))
    assert ">one<" in text_of(staff, url, at=exact)
    assert "did not exist" in text_of(staff, url, at=(first - timedelta(seconds=1)).isoformat())
    assert ">two<" in text_of(staff, url, at=(first + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S"))
    assert "<html" not in text_of(staff, url, number=1, fragment="1")
    assert "errorlist" in text_of(staff, url, at="yesterday")


def test_a_state_that_cannot_be_known_says_so(staff: Client, harbour: Any) -> None:
    """The page is there, with the reason."""
    vessel = Steamer(number=1, name="one").save()
    for name in ("two", "three"):
        vessel.modify(name=name)
        harbour["vessels"].update_one({"_id": 1}, {"$set": {"n": f"past {name}"}})
    harbour["document_history"].update_many({"operation": "update"}, {"$unset": {"snapshot": 1}})
    for number in range(1, len(history_of(Steamer, 1)) + 1):
        text_of(staff, of("state"), number=number)
    text_of(staff, history_url(Steamer, 1))


# -- a version, a changeset, deleted documents -------------------------------------------------------------------------


def test_a_version_tells_everything_recorded(staff: Client) -> None:
    """Its patch as JSON, the other versions of its changeset, its neighbours, and what extra it carries."""
    with changeset(user="anna", reason="why", ticket="T-1"):
        Steamer(number=1, name="one").save()
        Quay(name="West").save()
    Steamer.objects(number=1).update(name="two")
    first, second = history_of(Steamer, 1)
    text = text_of(staff, of("version", first.id))
    for said in ("anna", "why", "ticket", "T-1", "Quay", "vessels", str(first.changeset)):
        assert said in text
    assert str(second.id) in "".join(links(text, "mh-next"))
    text = text_of(staff, of("version", second.id))
    patch = re.search(r'<pre class="mh-json">(.*?)</pre>', text, re.DOTALL)
    assert patch
    assert json_util.loads(patch.group(1).replace("&quot;", '"')) == [["change", ["n"], ["one", "two"]]]
    assert staff.get(of("version", ObjectId())).status_code == 404


def test_a_changeset_shows_all_that_it_did(staff: Client) -> None:
    """Of all classes; one that does not exist is not found."""
    with changeset(user="anna", reason="why", ticket="T-1") as made:
        Steamer(number=1).save()
        Quay(name="West").save()
    text = text_of(staff, page("changeset", made))
    assert len(re.findall(r'<tr class="mh-row', text)) == 2
    for said in ("anna", "why", "T-1", "Take the whole changeset back"):
        assert said in text
    assert staff.get(page("changeset", ObjectId())).status_code == 404
    assert staff.get(page("changeset", "xyz")).status_code == 404


def test_a_large_changeset_is_paged(staff: Client) -> None:
    """Like the list of all changes."""
    with changeset(reason="many") as made:
        Steamer.objects.insert([Steamer(number=number) for number in range(70)])
    text = text_of(staff, page("changeset", made))
    assert len(re.findall(r'<tr class="mh-row', text)) == 50
    text = text_of(staff, page("changeset", made) + links(text, "mh-older")[0])
    assert len(re.findall(r'<tr class="mh-row', text)) == 20
    assert "many" in text


def test_deleted_documents_are_listed_with_the_way_back(staff: Client) -> None:
    """Newest first; one that is back, or was deleted again, says so."""
    for number in range(3):
        Steamer(number=number, name=f"vessel {number}").save().delete()
    Steamer(number=1).save()
    text = text_of(staff, page("deleted", "Steamer"))
    assert len(links(text, "mh-link-revert")) == 2
    assert text.count("exists again") == 1
    assert "vessel" in text_of(staff, links(text, "mh-link-revert")[0])
    assert "Steamer" in text_of(staff, page("deleted_classes"))
    assert staff.get(page("deleted", "Unheard")).status_code == 404


def test_a_dropped_collection_is_told(staff: Client) -> None:
    """Its documents have no delete of their own, but the changeset that dropped them has a page."""
    with changeset(reason="sunk") as made:
        Steamer(number=1).save()
        Steamer.drop_collection()
    text = text_of(staff, page("deleted", "Steamer"))
    assert "was dropped" in text
    assert "was dropped" in text_of(staff, page("changeset", made))
    assert "sunk" in text_of(staff, page("changeset", made))


# -- what no page does -------------------------------------------------------------------------------------------------

SCRIPT = "<script>alert('x')</script>"


def every_page(made: Any, quay: Any) -> list[str]:
    """The addresses of every page, with something on each."""
    key = f"Steamer {SCRIPT}"
    history = history_of(Steamer, key)
    document = history_url(Steamer, key)
    return [
        page("changelist"),
        page("changelist") + f"?reason={SCRIPT}&user={SCRIPT}&id={SCRIPT}&path={SCRIPT}&address={SCRIPT}",
        page("changelist") + f"?class=Steamer&path={SCRIPT}",
        page("changelist") + f"?changeset={SCRIPT}&since={SCRIPT}&operation={SCRIPT}&class={SCRIPT}",
        page("changelist") + f"?back={SCRIPT}",
        page("chart"),
        page("chart") + "?fragment=1",
        page("deleted_classes"),
        page("deleted", "Steamer"),
        page("changeset", made),
        page("changeset", made) + "take-back/",
        page("take_back") + f"?version={history[0].id}",
        document,
        document + "compare/",
        document + "state/?number=1",
        document + f"state/?at={SCRIPT}",
        document + "revert/",
        document + f"revert/?preview=1&version={history[0].id}",
        document + f"revert/?preview=1&version={history[0].id}&relation=quay",
        *(f"{document}version/{version.id}/" for version in history),
        page("revert_documents", "Quay") + f"?key={quay}",
        page("revert_documents", "Quay") + f"?key={quay}&preview=1&at=2026-01-01T00:00:00Z",
    ]


def test_a_script_in_any_text_is_text_on_every_page(staff: Client) -> None:
    """In ids, keys, values, labels, addresses, reasons, extra, requests, filters; on every page and in no header."""
    with changeset(
        user=f"user {SCRIPT}", remote_addr=SCRIPT, reason=f"reason {SCRIPT}", **{SCRIPT: SCRIPT}
    ) as made:
        quay = Quay(name=f"Quay{SCRIPT}").save()
        vessel = Steamer(
            number=f"Steamer {SCRIPT}",
            name=SCRIPT,
            log="word " * 20 + SCRIPT,
            notes={SCRIPT: {SCRIPT: [SCRIPT]}},
        )
        vessel.quay = quay
        vessel.anything = {"code": Code(SCRIPT), "regex": Regex(SCRIPT), "ref": DBRef(SCRIPT, SCRIPT)}
        vessel.save()
        vessel.update(log="other " * 20 + SCRIPT, name=f"2{SCRIPT}")
        Steamer._get_collection().insert_one({"_id": f"gone {SCRIPT}", f"field{SCRIPT}": SCRIPT})
        Steamer.objects(number=f"gone {SCRIPT}").delete()
    key = history_url(Quay, quay.name).rstrip("/").rpartition("/")[2]
    for url in every_page(made, key):
        response = staff.get(url)
        assert response.status_code == 200, url
        text = response.content.decode()
        assert SCRIPT not in text, url
        assert "<script>" not in text, url
        check_page(text)


def test_no_page_writes(staff: Client, mongodb_uri: str, mongodb_client: Any, harbour: Any) -> None:
    """Every command to the server is a read, previews of reverts included; and each page needs a few."""
    from tests.overheard import WRITES, overhear

    with changeset(user="anna", reason="why") as made:
        quay = Quay(name="West").save()
        vessel = Steamer(number=f"Steamer {SCRIPT}", name="one", quay=quay).save()
        vessel.update(name="two")
        Steamer(number="gone").save().delete()
    urls = [*every_page(made, "West"), page("export") + "?format=csv", page("export") + "?format=jsonl"]
    database = mongodb_client[harbour.name]
    listener = overhear(harbour.name, mongodb_uri)
    before = {name: list(database[name].find()) for name in database.list_collection_names()}
    for url in urls:
        listener.commands.clear()
        response = staff.get(url)
        assert response.status_code == 200, url
        b"".join(response.streaming_content) if response.streaming else response.content
        names = [name for name, _collection in listener.commands]
        assert not WRITES & set(names), (url, names)
        assert not {"create", "createIndexes", "commitTransaction"} & set(names), (url, names)
        assert len([name for name in names if name in ("find", "aggregate", "distinct")]) <= 20, (url, names)
    assert {name: list(database[name].find()) for name in database.list_collection_names()} == before


def test_pages_that_change_nothing_answer_no_post(staff: Client) -> None:
    """They say which methods they know."""
    Steamer(number=1).save()
    document = history_url(Steamer, 1)
    for url in (
        page("changelist"),
        page("chart"),
        page("export"),
        document,
        f"{document}compare/",
        f"{document}state/",
    ):
        assert staff.post(url).status_code == 405


@pytest.mark.parametrize(
    ("back", "is_followed"),
    [
        ("/admin/", True),
        ("/admin/mongo_history/history/?older=1", True),
        ("https://example.com/", False),
        ("//example.com/", False),
        ("/\\example.com/", False),
        ("\\\\example.com", False),
        ("javascript:alert(1)", False),
        ("http:///example.com", False),
        ("relative/", False),
        (" /admin/", False),
        ("/\t/example.com", False),
    ],
)
def test_back_links_are_local(staff: Client, back: str, is_followed: bool) -> None:
    """Paths of this very site, and nothing else."""
    Steamer(number=1).save()
    text = text_of(staff, history_url(Steamer, 1), back=back)
    found = re.search(r'<p class="mh-back"><a href="([^"]*)"', text)
    assert (found is not None) == is_followed


@override_settings(TIME_ZONE="Asia/Kolkata")
def test_times_are_in_the_users_zone(staff: Client) -> None:
    """With the exact one in UTC beside it."""
    Steamer(number=1).save()
    at = history_of(Steamer, 1)[0].at
    assert at is not None
    text = text_of(staff, page("changelist"))
    with timezone.override("Asia/Kolkata"):
        assert f"{timezone.localtime(at):%H:%M:%S}</time>" in text
    assert f'title="{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"' in text


def test_settings_of_numbers_and_times_are_no_matter(staff: Client) -> None:
    """Without time zones, and with thousands set apart, forms and addresses are what they were."""
    steamer = Steamer(number=1, name="one").save()
    steamer.modify(name="two")
    first = history_of(Steamer, 1)[0].at
    assert first is not None
    with override_settings(USE_TZ=False, USE_THOUSAND_SEPARATOR=True, NUMBER_GROUPING=1, TIME_ZONE="UTC"):
        later = (first + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
        assert ">two<" in text_of(staff, of("state"), at=later)
        today = datetime.now(UTC).date()
        for query in ({"reason": "x"}, {"since": today, "until": today}, {}):
            text_of(staff, page("changelist"), **query)
        text_of(staff, page("chart"))
        for _number in range(10):
            steamer.modify(name=f"name {_number}")
        text = text_of(staff, history_url(Steamer, 1))
        assert 'max="12"' in text
        assert 'id="mh-version-12"' in text
        assert 'max="12"' in text_of(staff, of("state"))


def test_who_stood_behind_a_task_and_what_is_on_its_way(staff: Client, harbour: Any) -> None:
    """A version of a task names it; one that waits in the outbox is shown in its place, and says that it waits."""
    with configured(DELIVERY="outbox"):
        begin_task(TaskRef("0f3a7d1e", "harbour.tasks.<b>rename</b>"))
        try:
            Steamer(number=1, name="a").save()
        finally:
            end_task("0f3a7d1e")
        (version,) = history_of(Steamer, 1)
        said = text_of(staff, of("version", version.id))
        assert "<code>harbour.tasks.&lt;b&gt;rename&lt;/b&gt;</code> <code>0f3a7d1e</code>" in said
        assert "on its way to the store" in said
        for depot in depots.each():
            moving.sweep(depot)
        assert "on its way to the store" not in text_of(staff, of("version", version.id))
        lines = b"".join(staff.get(page("export"), {"format": "jsonl"}).streaming_content)  # type: ignore[arg-type]
        assert json_util.loads(lines)["task"] == {"id": "0f3a7d1e", "name": "harbour.tasks.<b>rename</b>"}
