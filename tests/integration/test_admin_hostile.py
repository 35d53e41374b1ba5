"""What somebody who means ill, or who is unlucky, finds on the admin's pages: nothing that is not theirs, and no error."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

import mongoengine
import pytest
from bson import ObjectId
from django.contrib.admin import site
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import Permission
from django.db import connection
from django.http import HttpRequest
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from mongoengine import fields

from django_mongo_history import changeset, history_of, track
from django_mongo_history import revert as revert_module
from django_mongo_history.admin import HistoryAdmin, HistorySubject, Scope
from django_mongo_history.admin.places import read_place, sealed_place
from django_mongo_history.models import History
from tests.admin_pages import client_of, confirm, links, page, text_of, user_with
from tests.judge import configured, tracking

pytestmark = [pytest.mark.django_db]

SECRET = "NOBODY-MAY-KNOW"


class Vault(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    code = fields.StringField()
    keys = fields.DictField()
    other = fields.ReferenceField("self")
    meta = {"collection": "vaults", "allow_inheritance": True}


class DeepVault(Vault):
    depth = fields.StringField()


@pytest.fixture
def bank(mongodb: Any) -> Iterator[Any]:
    """Vaults are tracked."""
    with configured(), tracking(Vault):
        yield mongodb


@pytest.fixture
def staff(admin_client: Client) -> Client:
    """May do everything."""
    return admin_client


def vaults_only(request: HttpRequest, scope: Scope) -> Scope:
    return scope.only(Vault)


def not_two(request: HttpRequest, scope: Scope) -> Scope:
    return scope.where(lambda document_class, key: key != 2)


def scoped(scope: Any) -> Any:
    return override_settings(MONGO_HISTORY={"ADMIN_SCOPE": scope})


def three() -> Any:
    """Three vaults made by one changeset."""
    with changeset(reason="built") as made:
        for number in (1, 2, 3):
            Vault(number=number, name="a").save()
    return made


def spoil(bank: Any, *numbers: int) -> None:
    """Make the stored versions of these vaults unreadable."""
    rows = bank["document_history"]
    found = rows.update_many({"document_id": {"$in": list(numbers)}}, {"$set": {"format": 99}})
    assert found.modified_count


def of(number: int, rest: str = "") -> str:
    return page("document", "Vault", str(number)) + rest


def versions_of(number: int) -> list[str]:
    return [str(one.id) for one in history_of(Vault, number)]


def of_class(name: str) -> dict[str, Any]:
    """The filter by class, whose name Python keeps for itself."""
    return {"class": name}


def count_of(text: str) -> int:
    return len(re.findall(r'<tr class="mh-row', text))


def exported(client: Client, kind: str) -> str:
    response: Any = client.get(page("export"), {"format": kind})
    return b"".join(response.streaming_content).decode()


# -- what is hidden ----------------------------------------------------------------------------------------------------


def test_a_digest_says_nothing_of_what_is_hidden_since(staff: Client, bank: Any) -> None:
    """It was made of the value as well, so a guess could be tried."""
    Vault(number=1, name="a", code=SECRET).save()
    url = of(1, f"version/{versions_of(1)[0]}/")
    assert "Digest" in text_of(staff, url)
    track(Vault, hidden=["code"])
    text = text_of(staff, url)
    assert SECRET not in text
    assert "Digest" not in text
    Vault.objects(number=1).update(name="b")
    assert "Digest" in text_of(staff, of(1, f"version/{versions_of(1)[1]}/"))


@pytest.mark.parametrize("chosen", ["Vault", ""])
def test_no_question_reaches_below_what_the_settings_hide(staff: Client, bank: Any, chosen: str) -> None:
    """Not into versions of before, either: keys of a dict may be values."""
    Vault(number=1, keys={"alice": 1}).save()
    Vault.objects(number=1).update(keys={"alice": 2})
    assert count_of(text_of(staff, page("changelist"), path="keys.bob", **of_class(chosen))) == 0
    track(Vault, hidden=["keys"])
    found = {
        count_of(text_of(staff, page("changelist"), path=path, **of_class(chosen)))
        for path in ("keys", "keys.alice", "keys.bob")
    }
    assert len(found) == 1
    assert found != {0}


@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_clash_names_no_hidden_value(staff: Client, bank: Any, is_hidden: bool) -> None:
    """The server says the whole key, with the fields that are hidden."""
    if is_hidden:
        track(Vault, hidden=["code"])
    bank["vaults"].create_index([("name", 1), ("code", 1)], unique=True)
    Vault(number=1, name="a", code=SECRET).save()
    Vault.objects(number=1).update(name="b")
    Vault(number=2, name="a", code=SECRET).save()
    response: Any = confirm(staff, of(1, "revert/"), version=versions_of(1)[0])
    text = response.content.decode()
    assert "another document holds what must be unique" in text
    assert (SECRET in text) is not is_hidden


def test_documents_of_a_class_that_is_gone_are_out_of_any_scope(staff: Client, bank: Any) -> None:
    """By the address of the class above it, too."""
    DeepVault(number=2, name=SECRET).save()
    bank["vaults"].update_one({"_id": 2}, {"$set": {"_cls": "Vault.Gone"}})
    bank["document_history"].update_many({"document_id": 2}, {"$set": {"document_class": "Vault.Gone"}})
    assert staff.get(of(2)).status_code == 200
    with scoped(vaults_only):
        assert SECRET not in text_of(staff, page("changelist"))
        for rest in ("", "state/", "compare/", "revert/"):
            assert staff.get(of(2, rest)).status_code == 404


def test_what_a_subclass_hides_by_the_settings_is_hidden_by_every_address(staff: Client, bank: Any) -> None:
    """Though the class of the address hides nothing."""
    DeepVault(number=2, name="a", depth=SECRET).save()
    DeepVault.objects(number=2).update(depth=f"{SECRET} 2")
    with tracking(DeepVault, hidden=["depth"]):
        rests = ["", "state/", "compare/", "revert/?preview=1", f"version/{versions_of(2)[1]}/"]
        for url in [
            *(of(2, rest) for rest in rests),
            page("changelist"),
            page("changelist") + "?class=Vault",
        ]:
            assert SECRET not in text_of(staff, url), url
        assert SECRET not in exported(staff, "jsonl")


# -- where a page ends --------------------------------------------------------------------------------------------------


def from_5000_on(request: HttpRequest, scope: Scope) -> Scope:
    return scope.where(lambda document_class, key: key >= 5000)


def places_of(text: str) -> list[str]:
    """What stands in the links to the pages beside it."""
    return [unquote(found) for found in re.findall(r'href="\?[^"]*(?:older|newer)=([^"&]*)', text) if found]


def test_no_link_says_when_something_out_of_sight_was_written(staff: Client, bank: Any) -> None:
    """Where a page gives up among versions that may not be seen, the link leads on, and is nothing but a link."""
    Vault(number=9999, name="first").save()
    Vault.objects.insert([Vault(number=number, name="a") for number in range(1200)])
    Vault(number=9998, name="last").save()
    rows = list(bank["document_history"].find({"document_id": {"$lt": 5000}}, {"at": 1}))
    milliseconds = {
        str((row["at"] - datetime(1970, 1, 1, tzinfo=row["at"].tzinfo)) // timedelta(milliseconds=1))
        for row in rows
    }
    with scoped(from_5000_on):
        seen, steps, url = [], 0, page("changelist")
        while url:
            text = text_of(staff, url)
            seen += re.findall(r"Vault</span> <a[^>]*>(\d+)</a>", text)
            for place in places_of(text):
                assert not [row for row in rows if str(row["_id"]) in place], place
                assert not milliseconds & set(re.findall(r"\d{13}", place)), place
                opaque = base64.urlsafe_b64decode(place + "==") if "-" not in place[:14] else b""
                assert not [row for row in rows if row["_id"].binary in opaque], place
            older = links(text, "mh-older")
            url = page("changelist") + older[0] if older else ""
            steps += 1
        assert seen == ["9998", "9999"]
        assert steps < 5
        newer = links(text, "mh-newer")
        assert newer
        back = page("changelist") + newer[0]
        found = []
        while back and steps < 10:
            text = text_of(staff, back)
            found += re.findall(r"Vault</span> <a[^>]*>(\d+)</a>", text)
            newer = links(text, "mh-newer")
            back = page("changelist") + newer[0] if newer else ""
            steps += 1
        assert found == ["9998"], "the way back gets past them, too"


def test_a_place_that_nobody_has_given_out_is_none(staff: Client, bank: Any, settings: Any) -> None:
    """Neither changed by a character, nor of another site."""
    place = datetime(2026, 1, 2, tzinfo=UTC), ObjectId()
    sealed = sealed_place(*place)
    assert read_place(sealed) == place
    assert sealed_place(*place) == sealed
    assert str(place[1]) not in sealed
    for wrong in (
        sealed[:-1],
        sealed + "A",
        ("A" if sealed[0] != "A" else "B") + sealed[1:],
        sealed.upper(),
        "=",
        "é" * 48,
    ):
        assert staff.get(page("changelist"), {"older": wrong}).status_code == 404, wrong
    settings.SECRET_KEY = "another one"
    with pytest.raises(ValueError, match="no place"):
        read_place(sealed)


# -- who there is -------------------------------------------------------------------------------------------------------


def test_who_may_not_see_users_learns_of_none(bank: Any) -> None:
    """A name that somebody has and one that nobody has get the same page; the users are not even asked."""
    user_with(name="boss@example.com")
    with changeset(user="ann"):
        three()
    client = client_of(user_with("view"))
    pages = []
    for name in ("boss@example.com", "toss@example.com"):
        with CaptureQueriesContext(connection) as asked:
            text = text_of(client, page("changelist"), user=name)
            export: Any = client.get(page("export"), {"user": name, "format": "csv"})
        assert export.status_code == 403
        assert not [one for one in asked.captured_queries if name in one["sql"]]
        assert "Searched in the last 30 days" in text
        shown = re.sub('name="csrfmiddlewaretoken" value="[^"]*"', "", text)
        pages.append(shown.replace(name, "name").replace(quote(name), "name"))
    assert pages[0] == pages[1]
    assert count_of(text_of(client, page("changelist"), user="ann")) == 3, "who is named by versions is found"


def test_who_may_see_users_finds_them_by_their_index(bank: Any) -> None:
    """As far back as there are versions: no note."""
    boss = user_with(name="boss")
    with changeset(user=boss):
        three()
    helper = user_with("view")
    helper.user_permissions.add(Permission.objects.get(codename="view_user"))
    text = text_of(client_of(helper), page("changelist"), user="boss")
    assert count_of(text) == 3
    assert "Searched in the last" not in text


# -- permissions for single documents ----------------------------------------------------------------------------------


class ByClass(BaseBackend):
    """Gives every permission for vaults, and none for those of the class below."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return isinstance(obj, HistorySubject) and obj.document_class is Vault


BACKENDS = ["django.contrib.auth.backends.ModelBackend", f"{__name__}.ByClass"]


@override_settings(AUTHENTICATION_BACKENDS=BACKENDS)
def test_a_reference_by_a_class_above_gives_no_permission(bank: Any) -> None:
    """Asked for is what the related document is of, not what the reference calls it."""
    Vault(number=1, name="a", other=DeepVault(number=2, name=SECRET).save()).save()
    Vault.objects(number=2).update(name="new")
    Vault.objects(number=1).update(name="b")
    client = Client()
    client.force_login(user_with(), backend=BACKENDS[0])
    assert client.get(of(2)).status_code == 403
    sent: dict[str, Any] = {"version": versions_of(1)[0], "relation": "other"}
    text = text_of(client, of(1, "revert/"), preview="1", **sent)
    assert "a document that you may not change" in text
    assert SECRET not in text
    assert "mh-confirm-form" not in text
    client.post(of(1, "revert/"), {**sent, "confirm": "1", "reason": "r", "digest": "0" * 64})
    assert [Vault.objects.get(number=number).name for number in (1, 2)] == ["b", "new"]


class NotTwo(HistoryAdmin):
    """Whoever may see all may not see vault 2."""

    def has_history_permission(
        self, request: HttpRequest, action: str, subject: HistorySubject | None = None
    ) -> bool:
        is_two = subject is not None and subject.document_id == 2
        return not is_two and super().has_history_permission(request, action, subject)


def test_the_chart_counts_no_document_that_may_not_be_seen(
    staff: Client, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for its id, it would say whether there is one."""
    three()
    assert "No changes found" not in text_of(staff, page("chart"), id="2", **of_class("Vault"))
    monkeypatch.setattr(site._registry[History], "__class__", NotTwo)
    assert "No changes found" in text_of(staff, page("chart"), id="2", **of_class("Vault"))
    assert "2 changes" in text_of(staff, page("chart"))
    assert count_of(text_of(staff, page("changelist"))) == 2


# -- what cannot be read -----------------------------------------------------------------------------------------------


def test_a_row_that_cannot_be_read_takes_no_page_down(staff: Client, bank: Any) -> None:
    """Neither its own, nor those of what happened with it; and what cannot be done is said."""
    made = three()
    first, second = versions_of(1)[0], versions_of(2)[0]
    spoil(bank, 2)
    for url in (page("changeset", made), of(1, f"version/{first}/"), of(2, f"version/{second}/"), of(2)):
        text_of(staff, url)
    told = staff.get(page("take_back"), {"version": [first, second]}, follow=True)
    assert "cannot be read" in told.content.decode()
    whole = text_of(staff, page("take_back_changeset", made))
    assert "cannot be read" in whole
    assert "mh-confirm-form" not in whole


def test_what_cannot_be_read_is_told_nobody_who_might_not_see_it(staff: Client, bank: Any) -> None:
    """Whose it is cannot be known, but its id is said."""
    made = three()
    second = versions_of(2)[0]
    spoil(bank, 2)
    with scoped(not_two):
        for url in (page("changelist"), page("changeset", made), page("take_back_changeset", made)):
            assert "cannot be read" not in text_of(staff, url)
        assert staff.get(page("take_back"), {"version": second}).status_code == 404
        assert "may not see" in text_of(staff, page("take_back_changeset", made))
        assert "cannot be read" not in exported(staff, "jsonl")


def test_a_page_of_unreadable_rows_ends_no_list(staff: Client, bank: Any) -> None:
    """What is older than them is found."""
    for number in range(130):
        Vault(number=number, name="a").save()
    spoil(bank, *range(5, 130))
    assert count_of(text_of(staff, page("changelist"))) == 5


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_export_says_what_is_missing_of_it(staff: Client, bank: Any, kind: str) -> None:
    """A row that cannot be read has a line."""
    three()
    spoil(bank, 2)
    lines = exported(staff, kind).splitlines()
    assert len(lines) == (4 if kind == "csv" else 3)
    assert sum("cannot be read" in line for line in lines) == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_export_that_was_ended_says_so(staff: Client, bank: Any, mongodb_client: Any, kind: str) -> None:
    """In its last line."""
    three()
    mongodb_client.admin.command(
        "configureFailPoint", "failCommand", mode="alwaysOn", data={"failCommands": ["find"], "errorCode": 50}
    )
    try:
        lines = exported(staff, kind).splitlines()
    finally:
        mongodb_client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert "stopped after 5 seconds" in lines[-1]
    if kind == "jsonl":
        assert list(json.loads(lines[-1])) == ["problem"]


# -- between the preview and the write ---------------------------------------------------------------------------------


def test_nothing_is_written_over_what_came_after_the_check(
    staff: Client, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preview is compared when it is confirmed, and once more as each document is written."""
    Vault(number=1, name="a").save()
    Vault.objects(number=1).update(name="b")
    apply = revert_module.apply_or_raise

    def interrupted(plan: Any) -> None:
        Vault.objects(number=1).update(code="theirs", name="c")
        apply(plan)

    monkeypatch.setattr(revert_module, "apply_or_raise", interrupted)
    response: Any = confirm(staff, of(1, "revert/"), version=versions_of(1)[0])
    assert response.status_code == 200
    assert "it was written since the preview" in response.content.decode()
    assert bank["vaults"].find_one({"_id": 1})["name"] == "c"
    assert bank["vaults"].find_one({"_id": 1})["code"] == "theirs"
    assert len(versions_of(1)) == 3


@pytest.mark.parametrize(
    "back", ["/\t/evil.example/", "/\n/evil.example/", "/\r/evil.example/", "/\x00/evil.example/"]
)
def test_a_way_back_has_nothing_that_browsers_drop(staff: Client, bank: Any, back: str) -> None:
    """`/`, a tab and `/` are two slashes to them."""
    assert 'class="mh-back"' not in text_of(staff, page("changelist"), back=back)
