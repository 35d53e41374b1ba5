"""The ways back in the admin: a preview that is exact and writes nothing, then a reason, then one changeset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from django.contrib.auth.models import User
from django.test import Client
from mongoengine import fields

from django_mongo_history import changeset, changesets, history_of, track, untrack
from django_mongo_history.admin import history_url
from tests.admin_pages import check_page, client_of, confirm, hidden_fields, links, page, text_of, user_with
from tests.judge import configured, tracking

pytestmark = [pytest.mark.django_db]


class Warden(mongoengine.Document):
    name = fields.StringField(primary_key=True)
    phone = fields.StringField()
    meta = {"collection": "keepers"}


class Lighthouse(mongoengine.Document):
    name = fields.StringField(primary_key=True)
    height = fields.IntField(db_field="h")
    colour = fields.StringField()
    code = fields.StringField(unique=True, sparse=True)
    secret = fields.StringField()
    keeper = fields.ReferenceField(Warden)
    meta = {"collection": "lighthouses"}


@pytest.fixture(autouse=True)
def coast(mongodb: Any) -> Iterator[Any]:
    """Lighthouses and keepers are tracked; a secret is hidden."""
    with configured(), tracking(Lighthouse, hidden=["secret"]), tracking(Warden):
        yield mongodb


@pytest.fixture
def staff(admin_client: Client) -> Client:
    """May do everything."""
    return admin_client


def of(name: str, page_name: str = "", *, document_class: Any = Lighthouse) -> str:
    """The address of a page about a lighthouse."""
    return history_url(document_class, name) + (f"{page_name}/" if page_name else "")


def three() -> list[str]:
    """Three lighthouses of three versions each; the ids of the first one's."""
    for name in ("A", "B", "C"):
        tower = Lighthouse(name=name, height=10, colour="red", secret="s").save()
        tower.modify(height=20)
        tower.modify(colour="white", secret="t")
    return [str(version.id) for version in history_of(Lighthouse, "A")]


def rows_of(text: str) -> list[tuple[str, str, str]]:
    """The changed paths of a page with both sides, without their tags."""
    found = re.findall(
        r'<tr class="mh-change.*?<th scope="row"[^>]*>(.*?)</th>.*?mh-old">(.*?)</td><td class="mh-new">(.*?)</td>',
        text,
        re.DOTALL,
    )
    plain = [
        tuple(re.sub(r"<span class=\"mh-type\">.*?</span>|<[^>]*>", "", part).strip() for part in row)
        for row in found
    ]
    return sorted(plain)  # type: ignore[arg-type]


def test_a_revert_does_what_its_preview_said(staff: Client, coast: Any) -> None:
    """Path by path; as one changeset, by this user, with the reason and the version it went back to; on to the new one."""
    ids = three()
    text = text_of(staff, of("A", "revert"), preview="1", version=ids[0])
    assert rows_of(text) == [("colour", "white", "red"), ("height", "20", "10")]
    others = [coast["lighthouses"].find_one({"_id": name}) for name in "BC"]
    response = confirm(staff, of("A", "revert"), reason="storm", version=ids[0])
    assert response.status_code == 302
    new = history_of(Lighthouse, "A")[-1]
    assert response["Location"] == of("A") + f"version/{new.id}/"
    assert (new.reason, str(new.user), str(new.revert_of)) == ("storm", "admin", ids[0])
    assert new.request.path == of("A", "revert")
    assert coast["lighthouses"].find_one({"_id": "A"}) == {
        "_id": "A",
        "h": 10,
        "colour": "red",
        "secret": "t",
    }
    assert [coast["lighthouses"].find_one({"_id": name}) for name in "BC"] == others
    assert len(new.changeset.versions()) == 1
    shown = text_of(staff, response["Location"])
    assert "1 document was written." in shown
    assert "storm" in shown


def test_some_fields_are_reverted_alone(staff: Client) -> None:
    """The others stay as they are."""
    ids = three()
    text = text_of(staff, of("A", "revert"), preview="1", version=ids[0], field="height")
    assert rows_of(text) == [("height", "20", "10")]
    confirm(staff, of("A", "revert"), version=ids[0], field="height")
    tower = Lighthouse.objects.get(name="A")
    assert (tower.height, tower.colour) == (10, "white")


def test_the_choice_offers_what_there_is(staff: Client) -> None:
    """Versions, fields and relations; of a version that is asked for it shows that one."""
    ids = three()
    text = text_of(staff, of("A", "revert"), version=ids[1])
    assert f'<option value="{ids[1]}" selected>' in text
    assert re.findall(r'name="field" value="(\w+)"', text) == ["height", "colour"]
    assert re.findall(r'name="relation" value="(\w+)"', text) == ["keeper"]


def test_related_documents_go_back_with_it(staff: Client) -> None:
    """The preview names them, and all is one changeset."""
    keeper = Warden(name="Ann", phone="1").save()
    tower = Lighthouse(name="A", height=1, keeper=keeper).save()
    keeper.modify(phone="2")
    tower.modify(height=2)
    first = str(history_of(Lighthouse, "A")[0].id)
    text = text_of(staff, of("A", "revert"), preview="1", version=first, relation="keeper")
    assert rows_of(text) == [("height", "2", "1"), ("phone", "2", "1")]
    keeper.modify(phone="3")
    tower.modify(colour="red")
    first_at = history_of(Warden, "Ann")[0]
    assert first_at.at is not None
    later = str(history_of(Lighthouse, "A")[1].id)
    text = text_of(staff, of("A", "revert"), preview="1", version=later, relation="keeper")
    assert ("phone", "3", "2") in rows_of(text)
    response = confirm(staff, of("A", "revert"), version=later, relation="keeper")
    assert "/changeset/" in response["Location"]
    assert Warden.objects.get(name="Ann").phone == "2"
    assert len(history_of(Warden, "Ann")[-1].changeset.versions()) == 2


def test_a_deleted_document_is_brought_back(staff: Client) -> None:
    """From the list of deleted documents, by the link beside it."""
    three()
    Lighthouse.objects(name="A").delete()
    listed = text_of(staff, page("deleted", "Lighthouse"))
    (back,) = links(listed, "mh-link-revert")
    version_id = re.search(r"version=([^&]*)", back)
    assert version_id
    response = confirm(staff, of("A", "revert"), version=version_id.group(1))
    assert response.status_code == 302
    assert Lighthouse.objects.get(name="A").colour == "white"
    assert history_of(Lighthouse, "A")[-1].operation == "create"


def test_a_revert_to_a_delete_deletes(staff: Client) -> None:
    """And says so before."""
    Lighthouse(name="A", height=1).save().delete()
    Lighthouse(name="A", height=2).save()
    gone = str(history_of(Lighthouse, "A")[1].id)
    assert "will be deleted" in text_of(staff, of("A", "revert"), preview="1", version=gone)
    response = confirm(staff, of("A", "revert"), version=gone)
    assert Lighthouse.objects.count() == 0
    assert "deleted" in text_of(staff, response["Location"])


def test_a_reason_is_asked_for(staff: Client) -> None:
    """Without one nothing is written, and the form says so."""
    ids = three()
    text = text_of(staff, of("A", "revert"), preview="1", version=ids[0])
    sent = hidden_fields(text, "mh-confirm-form")
    for reason in ("", "   "):
        response = staff.post(of("A", "revert"), {**sent, "confirm": "1", "reason": reason})
        assert response.status_code == 200
        assert "errorlist" in response.content.decode()
    assert len(history_of(Lighthouse, "A")) == 3


def test_what_changed_since_the_preview_is_shown_first(staff: Client) -> None:
    """Nothing is written that the preview had not said."""
    ids = three()
    text = text_of(staff, of("A", "revert"), preview="1", version=ids[0])
    sent = hidden_fields(text, "mh-confirm-form")
    Lighthouse.objects(name="A").update(height=99)
    response = staff.post(of("A", "revert"), {**sent, "confirm": "1", "reason": "r"})
    again = response.content.decode()
    assert "Something was changed since" in again
    assert ("height", "99", "10") in rows_of(again)
    assert Lighthouse.objects.get(name="A").height == 99
    sent = hidden_fields(again, "mh-confirm-form")
    assert staff.post(of("A", "revert"), {**sent, "confirm": "1", "reason": "r"}).status_code == 302
    assert Lighthouse.objects.get(name="A").height == 10


def test_a_hand_made_post_without_a_preview_writes_nothing(staff: Client) -> None:
    """It gets the preview."""
    ids = three()
    for digest in ({}, {"digest": ""}, {"digest": "0" * 64}):
        response = staff.post(of("A", "revert"), {"version": ids[0], "confirm": "1", "reason": "r", **digest})
        assert response.status_code == 200
    assert len(history_of(Lighthouse, "A")) == 3


def test_a_get_never_writes_whatever_it_says(staff: Client) -> None:
    """All that a confirmation says, in an address."""
    ids = three()
    text = text_of(staff, of("A", "revert"), preview="1", version=ids[0])
    sent = hidden_fields(text, "mh-confirm-form")
    assert staff.get(of("A", "revert"), {**sent, "confirm": "1", "reason": "r"}).status_code == 200
    taken = hidden_fields(text_of(staff, page("take_back"), version=ids[2]), "mh-confirm-form")
    assert staff.get(page("take_back"), {**taken, "confirm": "1", "reason": "r"}).status_code == 200
    assert len(history_of(Lighthouse, "A")) == 3


def test_nothing_to_do_is_said(staff: Client) -> None:
    """And there is no button."""
    ids = three()
    text = text_of(staff, of("A", "revert"), preview="1", version=ids[2])
    assert "everything is so already" in text
    assert "mh-confirm-form" not in text


def test_a_field_that_is_none_is_not_found(staff: Client) -> None:
    """Neither is a hidden one, a relation that is none, or a version of another document."""
    ids = three()
    other = str(history_of(Lighthouse, "B")[0].id)
    for query in (
        {"field": "nothing"},
        {"field": "secret"},
        {"field": "_id"},
        {"relation": "colour"},
        {"version": other},
        {"version": "x"},
    ):
        assert staff.get(of("A", "revert"), {"preview": "1", "version": ids[0], **query}).status_code == 404


def test_a_conflict_is_shown_and_nothing_can_be_confirmed(staff: Client) -> None:
    """Who holds what must be unique stands in the way; at the write, where it is found, everything stays."""
    tower = Lighthouse(name="A", code="x").save()
    tower.modify(code="y")
    Lighthouse(name="B", code="x").save()
    first = str(history_of(Lighthouse, "A")[0].id)
    response = confirm(staff, of("A", "revert"), version=first)
    assert response.status_code == 200
    text = response.content.decode()
    assert "0 documents were written" in text
    assert "must be unique" in text
    assert Lighthouse.objects.get(name="A").code == "y"
    assert staff.get(of("A", "revert"), {"preview": "1", "version": first}).status_code == 200


def test_a_change_is_taken_back_and_later_work_stays(staff: Client, coast: Any) -> None:
    """The inverse of just this version."""
    ids = three()
    response = confirm(staff, page("take_back"), version=ids[1])
    assert response.status_code == 302
    assert coast["lighthouses"].find_one({"_id": "A"}) == {
        "_id": "A",
        "h": 10,
        "colour": "white",
        "secret": "t",
    }
    assert str(history_of(Lighthouse, "A")[-1].revert_of) == ids[1]


def test_what_others_changed_again_is_a_conflict(staff: Client) -> None:
    """It is named, and there is no button."""
    ids = three()
    Lighthouse.objects(name="A").update(height=30)
    text = text_of(staff, page("take_back"), version=ids[1])
    assert "changed the same again" in text
    assert "Lighthouse A" in text
    assert "mh-confirm-form" not in text


def test_selected_changes_are_taken_back_together(staff: Client) -> None:
    """The list's action: a preview by POST that writes nothing, then one changeset of all."""
    three()
    wanted = [str(history_of(Lighthouse, name)[1].id) for name in "AB"]
    response = staff.post(page("take_back"), {"version": wanted, "action": "take_back", "preview": "1"})
    text = response.content.decode()
    assert response.status_code == 200
    assert "2 documents will be changed" in text
    assert len(history_of(Lighthouse, "A")) == 3
    sent = hidden_fields(text, "mh-confirm-form")
    response = staff.post(page("take_back"), {**sent, "confirm": "1", "reason": "both"})
    assert "/changeset/" in response["Location"]
    assert [Lighthouse.objects.get(name=name).height for name in "ABC"] == [10, 10, 20]
    assert text_of(staff, response["Location"]).count("both") >= 2


def test_selected_deleted_documents_are_brought_back_together(staff: Client) -> None:
    """The action of their list."""
    three()
    Lighthouse.objects(name__in=["A", "B"]).delete()
    listed = text_of(staff, page("deleted", "Lighthouse"))
    wanted = re.findall(r'name="version" value="(\w+)"', listed)
    text = staff.post(page("take_back"), {"version": wanted, "preview": "1"}).content.decode()
    assert "2 documents will be brought back" in text
    staff.post(page("take_back"), {**hidden_fields(text, "mh-confirm-form"), "confirm": "1", "reason": "r"})
    assert Lighthouse.objects.count() == 3


def test_nothing_selected_is_said(staff: Client) -> None:
    """Back to the list; what is no version is not found."""
    response = staff.post(page("take_back"), {"action": "take_back"}, follow=True)
    assert "No change was selected" in response.content.decode()
    assert staff.post(page("take_back"), {"version": "x"}).status_code == 404
    assert staff.post(page("take_back"), {"version": str(ObjectId())}).status_code == 404


def test_a_whole_changeset_is_taken_back(staff: Client) -> None:
    """Creates go, deletes come back, updates are inverted; of all classes."""
    Lighthouse(name="old", height=1).save()
    Warden(name="Ann", phone="1").save()
    with changeset(reason="a mistake") as made:
        Lighthouse(name="new").save()
        Lighthouse.objects(name="old").delete()
        Warden.objects(name="Ann").update(phone="2")
    text = text_of(staff, page("changeset", made))
    (url,) = links(text, "mh-link-take-back")
    response = confirm(staff, url, reason="undo it")
    assert response.status_code == 302
    assert [one.name for one in Lighthouse.objects] == ["old"]
    assert Warden.objects.get(name="Ann").phone == "1"
    assert len(changesets(reason="undo it")) == 1


def test_a_dropped_collection_comes_back(staff: Client) -> None:
    """With its changeset."""
    three()
    with changeset(reason="oh no") as made:
        Lighthouse.drop_collection()
    text = text_of(staff, page("changeset", made) + "take-back/")
    assert "3 documents will be brought back" in text
    confirm(staff, page("changeset", made) + "take-back/")
    assert Lighthouse.objects.count() == 3


def test_selected_documents_go_back_to_a_moment(staff: Client) -> None:
    """Each to its own state then; the moment is asked for first."""
    three()
    moment = history_of(Lighthouse, "A")[1].at
    assert moment is not None
    url = page("revert_documents", "Lighthouse")
    text = text_of(staff, url, key=["A", "B"])
    assert "Lighthouse A" in text
    assert 'name="at"' in text
    text = text_of(staff, url, key=["A", "B"], preview="1", at=moment.isoformat())
    assert "1 document will be changed" in text
    assert "1 document will be deleted" in text
    confirm(staff, url, key=["A", "B"], at=moment.isoformat())
    assert Lighthouse.objects.get(name="A").colour == "red"
    assert [one.name for one in Lighthouse.objects.order_by("name")] == ["A", "C"]
    assert staff.get(url).status_code == 404


def test_the_documents_of_selected_changes_go_back_to_a_moment(staff: Client) -> None:
    """The other action of the list: each document once; of one class, which is said."""
    three()
    Warden(name="Ann").save()
    wanted = [str(version.id) for name in "AB" for version in history_of(Lighthouse, name)]
    response = staff.post(
        page("take_back"), {"version": wanted, "action": "documents", "preview": "1"}, follow=True
    )
    text = response.content.decode()
    assert response.status_code == 200
    assert text.count('name="key"') == 2
    assert "As they stood at" in text
    wanted.append(str(history_of(Warden, "Ann")[0].id))
    response = staff.post(page("take_back"), {"version": wanted, "action": "documents"}, follow=True)
    assert "documents of one class" in response.content.decode()


def test_the_documents_of_changes_travel_in_no_address(staff: Client) -> None:
    """Fifty ids of a kilobyte each: from the list to the last page they are in bodies, as many as they are."""
    names = [f"{number:03d}{'x' * 900}" for number in range(50)]
    Warden.objects.insert([Warden(name=name, phone="1") for name in names])
    moment = history_of(Warden, names[0])[0].at
    assert moment is not None
    Warden.objects.update(phone="2")
    wanted = [str(history_of(Warden, name)[1].id) for name in names]
    response = staff.post(page("take_back"), {"version": wanted, "action": "documents", "preview": "1"})
    assert response.status_code == 200
    text = response.content.decode()
    check_page(text)
    sent = hidden_fields(text, "mh-revert-form")
    assert len(sent["key"]) == 50
    assert '<form method="post"' in text
    url = page("revert_documents", "Warden")
    text = staff.post(url, {**sent, "preview": "1", "at": moment.isoformat()}).content.decode()
    assert "50 documents will be changed" in text
    assert [len(history_of(Warden, name)) for name in names[:3]] == [2, 2, 2]
    sent = hidden_fields(text, "mh-confirm-form")
    response = staff.post(url, {**sent, "confirm": "1", "reason": "r"})
    assert response.status_code == 302
    assert len(response["Location"]) < 200
    assert {one.phone for one in Warden.objects} == {"1"}


def test_the_documents_of_too_many_changes_are_refused_with_the_number(staff: Client) -> None:
    """And those who may not revert learn nothing of numbers."""
    Warden.objects.insert([Warden(name=str(number)) for number in range(101)])
    wanted = [str(history_of(Warden, str(number))[0].id) for number in range(101)]
    sent = {"version": wanted, "action": "documents", "preview": "1"}
    response = staff.post(page("take_back"), sent, follow=True)
    assert response.redirect_chain[0][0] == page("changelist")
    assert "At most 100 can be selected at once" in response.content.decode()
    viewer = client_of(user_with("view"))
    assert viewer.post(page("take_back"), sent).status_code == 403
    keys = {"key": [str(number) for number in range(101)]}
    assert viewer.get(page("revert_documents", "Warden"), keys).status_code == 403
    assert (
        viewer.post(page("take_back"), {"version": [str(ObjectId()) for _ in range(501)]}).status_code == 403
    )


def test_too_many_at_once_are_refused(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a changeset that is too large is left to the command."""
    with changeset() as made:
        Warden.objects.insert([Warden(name=str(number)) for number in range(12)])
    ids = [str(ObjectId()) for _ in range(501)]
    response = staff.post(page("take_back"), {"version": ids}, follow=True)
    assert "At most 500 can be selected at once" in response.content.decode()
    keys = [str(number) for number in range(101)]
    response = staff.get(page("revert_documents", "Warden"), {"key": keys}, follow=True)
    assert "At most 100 can be selected at once" in response.content.decode()
    monkeypatch.setattr("django_mongo_history.admin.views.taking_back.MOST_OF_A_CHANGESET", 11)
    response = staff.get(page("take_back_changeset", made), follow=True)
    assert "more than 11 versions" in response.content.decode()
    monkeypatch.setattr("django_mongo_history.admin.views.taking_back.MOST_OF_A_CHANGESET", 12)
    assert "12 documents will be deleted" in text_of(staff, page("take_back_changeset", made))


def test_a_preview_gives_nothing_away_by_its_digest(staff: Client, settings: Any) -> None:
    """It is made of whole documents, so nobody without the site's key can make one."""
    ids = three()

    def digest() -> str:
        text = text_of(staff, of("A", "revert"), preview="1", version=ids[0])
        return hidden_fields(text, "mh-confirm-form")["digest"][0]

    one = digest()
    assert digest() == one
    settings.SECRET_KEY = "another one"
    staff.force_login(User.objects.get(username="admin"))
    assert digest() != one


def test_what_is_not_tracked_any_more_is_not_reverted(staff: Client, coast: Any) -> None:
    """What would be written had no version: neither by an address made by hand, nor by taking back."""
    keeper = Warden(name="Ann", phone="1").save()
    keeper.modify(phone="2")
    first, second = (str(version.id) for version in history_of(Warden, "Ann"))
    address = history_url(keeper)
    untrack(Warden)
    try:
        place = f"?in={coast.name}.keepers"
        assert "mh-version-2" in text_of(staff, address + place)
        assert staff.get(f"{address}revert/{place}&version={first}&preview=1").status_code == 404
        assert staff.get(address).status_code == 404
        assert "not tracked any more" in text_of(staff, page("take_back"), version=second)
    finally:
        track(Warden)
    assert Warden.objects.get(name="Ann").phone == "2"


# -- who may -----------------------------------------------------------------------------------------------------------


def writing_urls() -> list[tuple[str, dict[str, Any]]]:
    """Every address that can write, with what it needs."""
    ids = three()
    made = history_of(Lighthouse, "A")[0].changeset
    now = datetime.now(UTC).isoformat()
    return [
        (of("A", "revert"), {"version": ids[0], "preview": "1"}),
        (of("A", "revert"), {}),
        (page("take_back"), {"version": ids[0]}),
        (page("take_back"), {}),
        (page("take_back_changeset", made.id), {}),
        (page("revert_documents", "Lighthouse"), {"key": ["A"], "at": now, "preview": "1"}),
        (page("revert_documents", "Lighthouse"), {"key": ["A"]}),
        (page("revert_documents", "Lighthouse"), {}),
    ]


@pytest.mark.parametrize("permissions", [("view",), ("view", "export"), ("revert",), ()])
def test_without_the_permission_every_way_back_is_forbidden(permissions: tuple[str, ...]) -> None:
    """By GET and by a hand-made POST, with and without a confirmation; and nothing is written. Revert alone is not
    enough: who reverts must see."""
    client = client_of(user_with(*permissions))
    for url, query in writing_urls():
        sent = {**query, "confirm": "1", "reason": "r", "digest": "0" * 64}
        assert client.get(url, query).status_code == 403, url
        assert client.post(url, query).status_code == 403, url
        assert client.post(url, sent).status_code == 403, url
    assert len(history_of(Lighthouse, "A")) == 3


def test_without_viewing_nothing_is_shown() -> None:
    """Not one page; strangers are asked to log in."""
    three()
    made = history_of(Lighthouse, "A")[0].changeset
    version = history_of(Lighthouse, "A")[0]
    urls = [
        page("changelist"),
        page("chart"),
        page("export") + "?format=csv",
        page("deleted_classes"),
        page("deleted", "Lighthouse"),
        page("changeset", made.id),
        of("A"),
        of("A", "compare"),
        of("A", "state"),
        of("A") + f"version/{version.id}/",
    ]
    client = client_of(user_with("export"))
    for url in urls:
        assert client.get(url).status_code == 403, url
    visitor, customer = Client(), client_of(user_with("view", name="customer", is_staff=False))
    for url in urls:
        for somebody in (visitor, customer):
            response = somebody.get(url)
            assert response.status_code == 302, url
            assert response["Location"].startswith("/admin/login/")
    assert "History" not in client.get("/admin/").content.decode()


def test_viewing_shows_no_way_to_write() -> None:
    """All pages, without a button for what is not allowed."""
    three()
    client = client_of(user_with("view"))
    made = history_of(Lighthouse, "A")[0].changeset
    version = history_of(Lighthouse, "A")[0]
    urls = [
        page("changelist"),
        page("deleted", "Lighthouse"),
        page("changeset", made.id),
        of("A"),
        of("A") + f"version/{version.id}/",
    ]
    for url in urls:
        text = text_of(client, url)
        for name in ("mh-link-revert", "mh-link-take-back", "mh-link-export", "mh-actions"):
            assert name not in text, (url, name)
    assert client.get(page("export"), {"format": "csv"}).status_code == 403


def test_a_post_needs_the_csrf_token(admin_user: Any) -> None:
    """As every form of the admin."""
    ids = three()
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    response = client.post(of("A", "revert"), {"version": ids[0], "confirm": "1", "reason": "r"})
    assert response.status_code == 403
