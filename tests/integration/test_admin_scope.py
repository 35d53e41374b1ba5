"""`ADMIN_SCOPE`, and permissions for single documents: what a user may not see is on no page, whatever the address."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from django.contrib.auth.backends import BaseBackend
from django.http import HttpRequest
from django.test import Client, override_settings
from mongoengine import fields

from django_mongo_history import changeset, history_of
from django_mongo_history.admin import HistorySubject, Scope, history_url
from django_mongo_history.admin.exporting import guarded
from tests.admin_pages import client_of, confirm, page, text_of, user_with
from tests.judge import configured, tracking

pytestmark = [pytest.mark.django_db]

SECRET = "SALARY-IN-FULL"


class Person(mongoengine.Document):
    name = fields.StringField(primary_key=True)
    team = fields.StringField()
    salary = fields.StringField(db_field="s")
    cards = fields.DictField()
    boss = fields.ReferenceField("self")
    meta = {"collection": "persons", "allow_inheritance": True}


class Manager(Person):
    bonus = fields.StringField()


class Cashbook(mongoengine.Document):
    name = fields.StringField(primary_key=True)
    total = fields.IntField()
    meta = {"collection": "ledgers"}


class PersonAgain(mongoengine.Document):
    """Another class over the same documents."""

    name = fields.StringField(primary_key=True)
    pay = fields.StringField(db_field="s")
    meta = {"collection": "persons", "strict": False}


def nothing(request: HttpRequest, scope: Scope) -> Scope:
    return scope.only()


def persons_only(request: HttpRequest, scope: Scope) -> Scope:
    return scope.only(Person)


def managers_only(request: HttpRequest, scope: Scope) -> Scope:
    return scope.only(Manager)


def without_salary(request: HttpRequest, scope: Scope) -> Scope:
    return scope.hide(Person, "salary")


def without_cards(request: HttpRequest, scope: Scope) -> Scope:
    return scope.hide(Person, "cards")


def without_bonus(request: HttpRequest, scope: Scope) -> Scope:
    return scope.hide(Manager, "bonus")


def ann_only(request: HttpRequest, scope: Scope) -> Scope:
    return scope.only_documents(Person, ["ann"])


def by_test(request: HttpRequest, scope: Scope) -> Scope:
    return scope.where(lambda document_class, key: key != "bob")


def of_the_user(request: HttpRequest, scope: Scope) -> Scope:
    return scope if request.user.is_superuser else scope.only(Cashbook)  # type: ignore[union-attr]


def broken(request: HttpRequest, scope: Scope) -> Any:
    return None


@pytest.fixture
def office(mongodb: Any) -> Iterator[Any]:
    """Persons, managers and ledgers, some of them gone; all of it in one changeset, and more after it."""
    with configured(), tracking(Person), tracking(Cashbook):
        yield mongodb


@pytest.fixture
def staff(admin_client: Client) -> Client:
    return admin_client


def people() -> Any:
    """The changeset that made them."""
    with changeset(reason="hired") as made:
        bob = Manager(name="bob", team="x", salary=SECRET, bonus="BONUS").save()
        Person(name="ann", team="x", salary=SECRET, boss=bob).save()
        Cashbook(name="2026", total=1).save()
    Person.objects(name="ann").update(team="y", salary=f"{SECRET} 2")
    Person.objects(name="bob").update(team="y")
    Person(name="eve", salary=SECRET).save().delete()
    return made


def scoped(scope: Any) -> Any:
    return override_settings(MONGO_HISTORY={"ADMIN_SCOPE": scope})


def all_pages(made: Any) -> list[str]:
    """Every page that could tell something of a person."""
    found = [
        page("changelist"),
        page("changelist") + "?class=Person",
        page("changelist") + "?path=salary&class=Person",
        page("changelist") + "?path=s",
        page("chart"),
        page("deleted", "Person"),
        page("deleted", "Person.Manager"),
        page("changeset", made),
        page("changeset", made) + "take-back/",
        page("export") + "?format=csv",
        page("export") + "?format=jsonl",
        page("revert_documents", "Person") + "?key=ann&preview=1&at=2020-01-01T00:00:00Z",
    ]
    for name in ("ann", "bob", "eve"):
        for class_name in ("Person", "Person.Manager", "PersonAgain"):
            document = page("document", class_name, name)
            versions = [str(version.id) for version in history_of(Person, name)]
            found += [
                document,
                document + "compare/",
                document + "revert/",
                document + "revert/?field=salary&preview=1",
            ]
            found += [f"{document}state/?number={number + 1}" for number in range(len(versions))]
            found += [f"{document}version/{one}/" for one in versions]
            found += [f"{document}revert/?preview=1&version={one}" for one in versions]
            found += [f"{document}revert/?preview=1&version={one}&relation=boss" for one in versions]
            found += [page("take_back") + f"?version={one}" for one in versions]
    return found


def content_of(client: Client, url: str) -> tuple[int, str]:
    response = client.get(url)
    body = b"".join(response.streaming_content) if response.streaming else response.content
    return response.status_code, body.decode()


@pytest.mark.parametrize("path", [True, False])
def test_the_scope_is_a_callable_or_its_path(staff: Client, office: Any, path: bool) -> None:
    """Both are called with the request and a scope."""
    people()
    with scoped(f"{__name__}.persons_only" if path else persons_only):
        text = text_of(staff, page("changelist"))
    assert "Cashbook" not in text
    assert "ann" in text


def test_classes_out_of_scope_are_nowhere(staff: Client, office: Any) -> None:
    """Not in the list, the filters, the chart, the export, their own pages, or changesets."""
    made = people()
    with scoped(persons_only):
        for url in (page("changelist"), page("chart"), page("changeset", made), page("deleted_classes")):
            status, text = content_of(staff, url)
            assert status == 200
            assert "Cashbook" not in text
            assert "2026</a>" not in text
        assert '"Cashbook"' not in content_of(staff, page("export") + "?format=jsonl")[1]
        assert "7 changes" not in text_of(staff, page("chart"))
        for url in (
            page("document", "Cashbook", "2026"),
            page("deleted", "Cashbook"),
            page("revert_documents", "Cashbook") + "?key=2026",
        ):
            assert staff.get(url).status_code == 404
        version = history_of(Cashbook, "2026")[0]
        assert staff.get(page("take_back"), {"version": str(version.id)}).status_code == 403
        assert "errorlist" in text_of(staff, page("changelist"), **{"class": "Cashbook"})


def test_a_subclass_alone_can_be_in_scope(staff: Client, office: Any) -> None:
    """Documents of the class above are out, by whatever class the address calls them."""
    made = people()
    with scoped(managers_only):
        for url in all_pages(made):
            status, text = content_of(staff, url)
            assert status in (200, 403, 404), url
            assert "hired" not in text or "bob" in text
            if "/ann/" in url or "/eve/" in url:
                assert status == 404, url
            assert SECRET not in text or "bob" in text
        assert text_of(staff, page("document", "Person.Manager", "bob")).count("mh-version-") > 1
        assert staff.get(page("document", "Person", "bob")).status_code == 404


def test_hidden_values_are_on_no_page(staff: Client, office: Any) -> None:
    """That they changed is shown; by another class over the same documents they are hidden, too."""
    made = people()
    with scoped(without_salary), tracking(PersonAgain):
        seen = 0
        for url in all_pages(made):
            status, text = content_of(staff, url)
            assert status in (200, 403, 404), url
            assert SECRET not in text, url
            seen += status == 200
        assert seen > 30
        assert "salary: changed (hidden)" in text_of(
            staff, page("changelist")
        ) or "changed (hidden)" in text_of(staff, page("document", "Person", "ann"))
        version = history_of(Person, "ann")[1]
        text = text_of(staff, page("document", "Person", "ann") + f"version/{version.id}/")
        assert "changed (hidden)" in text
        assert "Digest" not in text
    assert SECRET in text_of(staff, page("document", "Person", "ann"))


def test_what_a_subclass_hides_is_hidden_by_every_address(staff: Client, office: Any) -> None:
    """Which class a document is of is not for the address to say."""
    made = people()
    with scoped(without_bonus):
        for url in all_pages(made):
            assert "BONUS" not in content_of(staff, url)[1], url
    assert "BONUS" in text_of(staff, page("document", "Person", "bob"))


def test_no_question_reaches_below_what_is_hidden(staff: Client, office: Any) -> None:
    """Keys of a dict may be values: that something in it changed is all that can be asked."""
    Person(name="kim", team="x").save()
    Person.objects(name="kim").update(set__cards__visa4111=1)

    def is_found(path: str) -> bool:
        return '<tr class="mh-row' in text_of(staff, page("changelist"), path=path, **{"class": "Person"})

    assert [is_found(path) for path in ("cards", "cards.visa4111", "cards.visa9999")] == [True, True, False]
    with scoped(without_cards):
        assert [is_found(path) for path in ("cards", "cards.visa4111", "cards.visa9999")] == [
            True,
            True,
            True,
        ]
        assert "visa4111" not in text_of(staff, page("changelist"), path="cards", **{"class": "Person"})
        assert "visa4111" not in text_of(staff, page("document", "Person", "kim"))


def test_a_revert_leaves_hidden_fields_as_they_are(staff: Client, office: Any) -> None:
    """Who may not see them cannot change them; what would lose them is refused."""
    people()
    first = str(history_of(Person, "ann")[0].id)
    with scoped(without_salary):
        confirm(staff, page("document", "Person", "ann") + "revert/", version=first)
        stored = office["persons"].find_one({"_id": "ann"})
        assert (stored["team"], stored["s"]) == ("x", f"{SECRET} 2")
        alive = str(history_of(Person, "eve")[0].id)
        text = text_of(staff, page("document", "Person", "eve") + "revert/", preview="1", version=alive)
        assert "fields that you may not see" in text
        assert "mh-confirm-form" not in text
    versions = history_of(Person, "ann")
    assert versions[-1].changes[0].path == ("team",)


@pytest.mark.parametrize("scope", [ann_only, by_test])
def test_documents_out_of_scope_are_nowhere(staff: Client, office: Any, scope: Any) -> None:
    """Named, or left out by a test; not in lists, exports, related documents or changesets."""
    made = people()
    with scoped(scope):
        assert staff.get(page("document", "Person.Manager", "bob")).status_code == 404
        assert staff.get(page("document", "Person", "bob")).status_code == 404
        assert staff.get(page("document", "Person", "ann")).status_code == 200
        for url in (page("changelist"), page("changeset", made), page("export") + "?format=jsonl"):
            text = content_of(staff, url)[1]
            assert not re.search(r'>bob<|"bob", "user|: bob', text), url
            assert "ann" in text
        text = text_of(staff, page("changeset", made) + "take-back/")
        assert "changes that you may not see" in text or "change that you may not see" in text
        assert "mh-confirm-form" not in text
        last = str(history_of(Person, "ann")[0].id)
        text = text_of(
            staff, page("document", "Person", "ann") + "revert/", preview="1", version=last, relation="boss"
        )
        assert "a document that you may not change" in text
        assert "bob:" not in text


def test_a_page_is_filled_up_where_rows_are_left_out(staff: Client, office: Any) -> None:
    """As far as it takes, and none is shown twice."""
    Person._get_collection().insert_many(
        [{"_id": f"p{number:04}", "_cls": "Person", "team": "x"} for number in range(400)]
    )
    with scoped(lambda request, scope: scope.where(lambda one, key: key.endswith("7"))):
        text = text_of(staff, page("changelist"))
        found = re.findall(r'name="version" value="(\w+)"', text)
        assert len(found) == 40
        assert len(set(found)) == 40


def test_a_scope_may_be_of_the_user(staff: Client, office: Any) -> None:
    """The request is there to ask."""
    people()
    with scoped(of_the_user):
        assert "ann" in text_of(staff, page("changelist"))
        text = text_of(client_of(user_with("view")), page("changelist"))
        assert "ann" not in text
        assert "Cashbook" in text


def test_a_scope_that_is_none_shows_nothing(staff: Client, office: Any) -> None:
    """No page, instead of everything."""
    people()
    with scoped(broken), pytest.raises(TypeError, match=r"ADMIN_SCOPE.*expected.*return the narrowed scope"):
        staff.get(page("changelist"))
    with scoped(nothing):
        assert "No changes found" in text_of(staff, page("changelist"))
        assert staff.get(page("document", "Person", "ann")).status_code == 404


def test_what_cannot_be_hidden_says_so() -> None:
    """A path that is no field, and one that a history cannot be shown without."""
    with pytest.raises(ValueError, match="nowhere"):
        Scope().hide(Person, "nowhere")
    with pytest.raises(ValueError, match="cannot be hidden"):
        Scope().hide(Person, "name")


def test_classes_that_are_not_tracked_any_more_are_out_of_any_scope(staff: Client, office: Any) -> None:
    """What they may not show can be known no more; without a scope they are shown."""
    with tracking(PersonAgain):
        PersonAgain(name="dan", pay="DAN-PAY").save()
    text = text_of(staff, page("changelist"))
    address = re.search(r'<td class="mh-document">.*?href="([^"]*)"', text, re.DOTALL)
    assert address
    assert "DAN-PAY" in text_of(staff, address.group(1).replace("&amp;", "&"))
    with scoped(without_salary):
        assert "dan" not in text_of(staff, page("changelist"))
    with scoped(persons_only):
        assert "dan" not in text_of(staff, page("changelist"))


def test_no_address_leads_into_another_collection(staff: Client, office: Any, mongodb_client: Any) -> None:
    """Only into one in which versions of this very document lie."""
    people()
    office["somewhere"].insert_one({"_id": "ann", "note": "PRIVATE"})
    url = page("document", "Person", "ann")
    for place in (f"{office.name}.somewhere", "admin.system.users", "nonsense"):
        assert staff.get(url, {"in": place}).status_code == 404
    Person(name="ann", team="z").switch_collection("persons_elsewhere", keep_created=True).save(
        force_insert=True
    )
    elsewhere = history_of(Person, "ann", collection="persons_elsewhere")
    assert len(elsewhere) == 1
    address = history_url(Person, "ann", collection="persons_elsewhere")
    assert "persons_elsewhere" in text_of(staff, address)
    assert "persons_elsewhere" in text_of(staff, page("changelist"))


# -- permissions for single documents ----------------------------------------------------------------------------------


class ByTeam(BaseBackend):
    """Gives permissions for persons of team y, there or gone, and for no other."""

    asked: list[HistorySubject] = []

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        if not isinstance(obj, HistorySubject):
            return False
        self.asked.append(obj)
        is_view = perm == "mongo_history.view_history" or user_obj.username == "reverter"
        return is_view and obj.document_class in (Person, Manager) and obj.document.team == "y"


BACKENDS = ["django.contrib.auth.backends.ModelBackend", f"{__name__}.ByTeam"]


@override_settings(AUTHENTICATION_BACKENDS=BACKENDS)
def test_a_backend_may_give_permissions_for_single_documents(office: Any) -> None:
    """On each page about the document, and for the ways back."""
    people()
    Person(name="eva", team="x").save()
    Person(name="yan", team="y").save().delete()
    client = Client()
    client.force_login(user_with(), backend=BACKENDS[0])
    assert client.get(page("changelist")).status_code == 403
    assert client.get(page("document", "Person", "ann")).status_code == 200
    assert client.get(page("document", "Person", "yan")).status_code == 200
    assert client.get(page("document", "Person", "eva")).status_code == 403
    assert client.get(page("document", "Person", "ann") + "revert/").status_code == 403
    first = str(history_of(Person, "ann")[0].id)
    assert client.post(page("take_back"), {"version": first}).status_code == 403
    reverter = Client()
    reverter.force_login(user_with(name="reverter"), backend=BACKENDS[0])
    assert confirm(reverter, page("document", "Person", "ann") + "revert/", version=first).status_code == 302
    assert history_of(Person, "ann")[-1].user.label == "reverter"
    assert reverter.get(page("document", "Person", "eva") + "revert/").status_code == 403
    assert {type(one) for one in ByTeam.asked} == {HistorySubject}


# -- exports -----------------------------------------------------------------------------------------------------------


def test_an_export_is_what_the_list_shows(staff: Client, office: Any) -> None:
    """All pages of it, with its filters, as CSV and as JSON lines."""
    people()
    rows = content_of(staff, page("export") + "?format=csv&class=Person")[1].splitlines()
    assert rows[0].lstrip("\ufeff").startswith("id,at,operation,class,document_id,user")
    assert len(rows) == 1 + 6
    lines = [
        json.loads(line)
        for line in content_of(staff, page("export") + "?format=jsonl&operation=delete")[1].splitlines()
    ]
    assert [(one["operation"], one["document_id"]) for one in lines] == [("delete", "eve")]
    assert staff.get(page("export"), {"format": "xml"}).status_code == 404
    assert staff.get(page("export"), {"format": "csv", "since": "x"}).status_code == 404


def test_a_long_export_is_streamed(staff: Client, office: Any) -> None:
    """In pieces, more than one page of them."""
    Person._get_collection().insert_many([{"_id": number, "_cls": "Person"} for number in range(1234)])
    response = staff.get(page("export"), {"format": "jsonl"})
    assert response.streaming
    assert response["Content-Disposition"].startswith('attachment; filename="history-')
    lines = b"".join(response.streaming_content).decode().splitlines()
    assert len({json.loads(line)["id"]["$oid"] for line in lines}) == 1234


BEGINNINGS = [
    "=",
    "+",
    "-",
    "@",
    "\t=",
    "\r=",
    "\n=",
    "\x00=",
    "＝",
    "＋",
    "－",
    "＠",
    " =",
    "\xa0=",
    "\u200b=",
    "\ufeff=",
    '"=',
    "'\t=",
]
"""What OWASP names, and what spreadsheets drop before it."""
BROKEN = [";=", "a;=", "a; =", 'a;"=', "a|@", "a\t+", "a\n-", "a\r\n=", "a\u2028=", ";;=", "a;\t =", "\t"]
"""What begins a cell for readers that split elsewhere."""


@pytest.mark.parametrize("beginning", [*BEGINNINGS, *BROKEN])
def test_no_cell_is_a_formula(staff: Client, office: Any, beginning: str) -> None:
    """Whatever was written where, and wherever a spreadsheet's language says that cells end."""
    text = f"{beginning}HYPERLINK(1)"
    with changeset(user=text, reason=text, remote_addr=text):
        Person(name=text, team=text).save()
    body = content_of(staff, page("export") + "?format=csv")[1].lstrip("\ufeff")
    for separator in ",;|\t":
        for row in csv.reader(io.StringIO(body, newline=""), delimiter=separator):
            assert not [cell for cell in row if begins_formula(cell)], (separator, row)
    for line in re.split(r"[;|\t]|[\r\n\u2028]+", body):
        assert not begins_formula(line.lstrip('"')), line
    exact = json.loads(content_of(staff, page("export") + "?format=jsonl")[1])
    assert (exact["document_id"], exact["reason"], exact["remote_addr"]) == (text, text, text)
    (row,) = csv.DictReader(io.StringIO(body, newline=""))
    assert json.loads(row["changes"]) == exact["changes"], "JSON in a cell says the same as JSON"
    assert text in [change.get("new") for change in exact["changes"]]


def begins_formula(cell: str) -> bool:
    """Whether a spreadsheet may calculate it: after all that one of them may drop."""
    dropped = cell.lstrip("".join(map(chr, range(33))) + '\x7f\xa0\u2028\u2029\u200b\ufeff"')
    return cell[:1] in {"\t", "\r", "\n", "\x00"} or dropped.startswith(tuple("=+-@＝＋－＠"))


@pytest.mark.parametrize("text", ["-5", "+49", "-1.5", "a-b", "a = b", "x, -5 %", "1;2", "a;b=c"])
def test_what_is_no_formula_stays_as_it_is(staff: Client, office: Any, text: str) -> None:
    """Numbers, and prose."""
    with changeset(reason=text):
        Person(name="eve").save()
    body = content_of(staff, page("export") + "?format=csv")[1].lstrip("\ufeff")
    (row,) = csv.DictReader(io.StringIO(body, newline=""))
    assert row["reason"] == text


def test_a_long_text_of_separators_costs_what_a_long_text_costs(staff: Client, office: Any) -> None:
    """Each character is looked at once; were it once for each separator, this would take days."""
    text = "\t" * 1_000_000
    assert guarded(text) == f"'{text}"
    assert guarded(f"{text}=") == f"'\t'{text[1:]}'="


def test_a_hidden_value_is_in_no_export(staff: Client, office: Any) -> None:
    """That it changed is."""
    people()
    with scoped(without_salary):
        lines = [
            json.loads(line) for line in content_of(staff, page("export") + "?format=jsonl")[1].splitlines()
        ]
    hidden = [change for one in lines for change in one["changes"] if change.get("hidden")]
    assert {"path": ["s"], "op": "change", "hidden": True} in hidden
