"""What somebody who means ill, or who is unlucky, finds on the admin's pages: nothing that is not theirs, and no error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from django.http import HttpRequest
from django.test import Client, override_settings
from mongoengine import fields

from django_mongo_history import changeset, history_of
from django_mongo_history.admin import Scope
from tests.admin_pages import page, text_of
from tests.judge import configured, tracking

pytestmark = [pytest.mark.django_db]

SECRET = "NOBODY-MAY-KNOW"


class Vault(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    code = fields.StringField()
    keys = fields.DictField()
    meta = {"collection": "vaults", "allow_inheritance": True}


class DeepVault(Vault):
    depth = fields.StringField()


@pytest.fixture
def bank(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(Vault):
        yield mongodb


@pytest.fixture
def staff(admin_client: Client) -> Client:
    return admin_client


def vaults_only(request: HttpRequest, scope: Scope) -> Scope:
    return scope.only(Vault)


def not_two(request: HttpRequest, scope: Scope) -> Scope:
    return scope.where(lambda document_class, key: key != 2)


def broken(bank: Any, number: int) -> None:
    assert bank["document_history"].update_many({"document_id": number}, {"$set": {"format": 99}}).modified_count


def version_page(number: int, index: int = 0) -> str:
    return page("document", "Vault", str(number)) + f"version/{history_of(Vault, number)[index].id}/"


def test_a_digest_says_nothing_of_what_is_hidden_since(staff: Client, bank: Any) -> None:
    Vault(number=1, name="a", code=SECRET).save()
    assert "Digest" in text_of(staff, version_page(1))
    with tracking(Vault, hidden=["code"]):
        text = text_of(staff, version_page(1))
        assert SECRET not in text
        assert "Digest" not in text


def test_unreadable_siblings_take_no_page_down(staff: Client, bank: Any) -> None:
    with changeset(reason="x") as made:
        for number in (1, 2, 3):
            Vault(number=number, name="a").save()
    url = version_page(1)
    url2 = version_page(2)
    one = history_of(Vault, 2)[0].id
    broken(bank, 2)
    assert staff.get(page("changeset", made)).status_code == 200
    assert staff.get(url).status_code == 200


def test_take_back_unreadable(staff: Client, bank: Any) -> None:
    with changeset(reason="x") as made:
        for number in (1, 2, 3):
            Vault(number=number, name="a").save()
    one = history_of(Vault, 2)[0].id
    broken(bank, 2)
    assert staff.get(page("document", "Vault", "2") + f"version/{one}/").status_code == 200
    assert staff.get(page("take_back"), {"version": str(one)}).status_code != 500


def test_take_back_unreadable_changeset(staff: Client, bank: Any) -> None:
    with changeset(reason="x") as made:
        for number in (1, 2, 3):
            Vault(number=number, name="a").save()
    broken(bank, 2)
    assert staff.get(page("take_back_changeset", made)).status_code == 200


def test_export_unreadable(staff: Client, bank: Any) -> None:
    for number in (1, 2, 3):
        Vault(number=number, name="a").save()
    broken(bank, 2)
    for kind in ("csv", "jsonl"):
        body = b"".join(staff.get(page("export"), {"format": kind}).streaming_content).decode()
        assert "cannot be read" in body, body


def test_many_unreadable_end_nothing(staff: Client, bank: Any) -> None:
    for number in range(60):
        Vault(number=number, name="a").save()
    for number in range(5, 60):
        broken(bank, number)
    response = staff.get(page("changelist"))
    seen = 0
    for _ in range(4):
        seen += response.content.decode().count('<tr class="mh-row')
        older = response.context["older_url"]
        if not older:
            break
        response = staff.get(page("changelist") + older)
    assert seen == 5


def test_unknown_subclass(staff: Client, bank: Any) -> None:
    Vault(number=1, name="a").save()
    DeepVault(number=2, name=SECRET).save()
    bank["vaults"].update_one({"_id": 2}, {"$set": {"_cls": "Vault.Gone"}})
    bank["document_history"].update_many({"document_id": 2}, {"$set": {"class": "Vault.Gone"}})
    print(bank["document_history"].find_one({"document_id": 2}))
    text_of(staff, page("document", "Vault", "2"))
    with override_settings(MONGO_HISTORY={"ADMIN_SCOPE": vaults_only}):
        assert SECRET not in text_of(staff, page("changelist"))
        assert staff.get(page("document", "Vault", "2")).status_code == 404


def test_subclass_policy(staff: Client, bank: Any) -> None:
    with tracking(DeepVault, hidden=["depth"]):
        pass
    DeepVault(number=2, name="a", depth=SECRET).save()
    DeepVault.objects(number=2).update(depth=SECRET + "2")
    with tracking(DeepVault, hidden=["depth"]):
        urls = [page("document", "Vault", "2") + x for x in ("", "state/", "compare/", "revert/?preview=1", f"version/{history_of(Vault, 2)[1].id}/")]
        urls += [page("changelist"), page("changelist") + "?class=Vault"]
        for url in urls:
            assert SECRET not in text_of(staff, url), url
        body = b"".join(staff.get(page("export"), {"format": "jsonl"}).streaming_content).decode()
        assert SECRET not in body


def test_problems_in_scope(staff: Client, bank: Any) -> None:
    with changeset(reason="x") as made:
        for number in (1, 2, 3):
            Vault(number=number, name="a").save()
    broken(bank, 2)
    with override_settings(MONGO_HISTORY={"ADMIN_SCOPE": not_two}):
        for url in (page("changelist"), page("changeset", made)):
            text = text_of(staff, url)
            assert "cannot be read" not in text, text[text.index("mh-problems"):][:600]


def test_path_oracle(staff: Client, bank: Any) -> None:
    Vault(number=1, name="a", keys={"alice": 1}).save()
    Vault.objects(number=1).update(keys={"alice": 2})
    with tracking(Vault, hidden=["keys"]):
        for extra in ({"class": "Vault"}, {}):
            a = text_of(staff, page("changelist") + "?path=keys.alice&class=" + extra.get("class", ""))
            b = text_of(staff, page("changelist") + "?path=keys.bob&class=" + extra.get("class", ""))
            assert a.count('<tr class="mh-row') == b.count('<tr class="mh-row'), extra
