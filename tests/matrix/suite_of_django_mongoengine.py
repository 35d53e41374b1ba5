"""
django-mongoengine's documents, querysets, fields, forms, connections and users under a history.

Run by the row `django-mongoengine` of `python -m management matrix`, with `tests.matrix.django_mongoengine_settings`.
Not named `test_*.py`, so that runs without django-mongoengine do not collect it.
"""

from __future__ import annotations

import datetime
import decimal
import io
import time
from collections.abc import Iterator
from typing import Any

import django_mongoengine
import mongoengine
import pytest
from asgiref.sync import sync_to_async
from bson import ObjectId
from django.apps import apps
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django_mongoengine import fields
from django_mongoengine.mongo_auth.models import User
from django_mongoengine.views import UpdateView
from pymongo.database import Database

from django_mongo_history import changeset, history_of, track, untrack
from tests.judge import Do, Judge, configured, tracking


class Chapter(django_mongoengine.EmbeddedDocument):
    title = fields.StringField(required=True)
    pages = fields.IntField(default=1)


class Author(django_mongoengine.Document):
    name = fields.StringField(required=True)
    meta = {"collection": "author"}


class Novel(django_mongoengine.Document):
    """A field of every kind that its forms know, and some that they do not."""

    title = fields.StringField(required=True, max_length=100, verbose_name="the title")
    author = fields.ReferenceField(Author, reverse_delete_rule=mongoengine.CASCADE)
    price = fields.DecimalField(precision=2, force_string=True)
    rating = fields.FloatField()
    is_printed = fields.BooleanField(default=False)
    printed = fields.DateTimeField()
    link = fields.URLField()
    contact = fields.EmailField()
    tags = fields.ListField(fields.StringField())
    chapters = fields.EmbeddedDocumentListField(Chapter)
    first = fields.EmbeddedDocumentField(Chapter)
    details = fields.DictField()
    counts = fields.MapField(fields.IntField())
    secret = fields.StringField()
    meta = {"collection": "novel", "allow_inheritance": True}


class Thriller(Novel):
    corpses = fields.IntField(default=1)


class Scrapbook(django_mongoengine.DynamicDocument):
    meta = {"collection": "scrapbook"}


class Archived(django_mongoengine.Document):
    name = fields.StringField()
    meta = {"collection": "archived", "db_alias": "archive"}


DOCUMENTS = (Author, Novel, Scrapbook)


@pytest.fixture
def shop(mongodb: Database[dict[str, Any]]) -> Iterator[Database[dict[str, Any]]]:
    """A database in which everything is tracked."""
    with configured():
        track(Author)
        track(Novel, hidden=["secret"])
        track(Scrapbook)
        yield mongodb
        for document_class in DOCUMENTS:
            untrack(document_class)


def a_novel(**values: Any) -> Novel:
    found = {
        "title": "t",
        "price": decimal.Decimal("9.90"),
        "rating": 1.0,
        "printed": datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "tags": ["a", "b"],
        "chapters": [Chapter(title="one"), Chapter(title="two", pages=3)],
        "first": Chapter(title="one"),
        "details": {"x": [1, {"y": 2.0}]},
        "counts": {"a": 1},
    }
    return Novel(**{**found, **values})


def operations(document: Any) -> list[str]:
    return [str(v.operation) for v in history_of(document)]


# --- documents, querysets, fields: judged against an untracked run ---


@pytest.mark.parametrize("delivery", ["atomic", "sync"])
def test_documents(mongodb: Database[dict[str, Any]], delivery: str) -> None:
    """Same answers, same documents, and a version of each change, field by field."""

    def script(do: Do) -> None:
        author = Author(name="a")
        do("create", author.save)
        novel = a_novel(author=author)
        do("create", novel.save)
        do(None, novel.save)
        novel.title, novel.price, novel.rating = "u", decimal.Decimal("10.00"), 1
        novel.tags.append("c")
        novel.chapters[1].pages = 4
        novel.first.title = "zero"
        novel.details["x"][1]["y"] = 3
        novel.counts["b"] = 2
        do("update", novel.save)
        do("update", lambda: novel.update(set__link="https://example.org/", push__tags="d"))
        do("update", lambda: novel.modify(inc__rating=1))
        do("update", lambda: setattr(novel, "contact", None) or novel.update(unset__rating=1))
        do("create", lambda: Thriller(title="boo", author=author).save())
        do("update", lambda: Thriller.objects(title="boo").update_one(inc__corpses=2))
        do(["delete"] * 3, author.delete)  # the cascade takes both novels along

    with configured(DELIVERY=delivery):
        Judge()(script, Author, Novel)


@pytest.mark.parametrize("delivery", ["atomic", "sync"])
def test_querysets(mongodb: Database[dict[str, Any]], delivery: str) -> None:
    """What its querysets add to MongoEngine's, and MongoEngine's through them."""

    def script(do: Do) -> None:
        objects = Novel.objects
        do("create", lambda: objects.get_or_create(title="a", defaults={"rating": 1.0}))
        do(None, lambda: objects.get_or_create(title="a", defaults={"rating": 2.0}))
        do("update", lambda: objects.update_or_create(title="a", defaults={"rating": 3.0}))
        do("create", lambda: objects.update_or_create(title="b", defaults={"rating": 3.0}))
        do("create", lambda: objects.create(title="c"))
        do(["create"] * 3, lambda: objects.insert([a_novel(title=f"i{n}") for n in range(3)]))
        do(["update"] * 3, lambda: objects(title__startswith="i").update(set__is_printed=True))
        do("update", lambda: objects(title="c").upsert_one(set__rating=5.0))
        do("create", lambda: objects(title="d").update_one(set__rating=5.0, upsert=True))
        do("update", lambda: objects(title="d").modify(set__rating=6.0, new=True))
        do("update", lambda: Novel._default_manager.filter(title="a").update(set__rating=7.0))
        do(None, lambda: [found.title for found in objects.order_by("title").iterator()])
        do(None, lambda: (objects.latest("title").title, objects.earliest("title").title, objects.exists()))
        do("delete", lambda: objects(title="b").delete())
        do("delete", lambda: objects(title="d").modify(remove=True))
        do(["delete"] * 5, objects.delete)

    with configured(DELIVERY=delivery):
        Judge()(script, Novel)


def test_dynamic_documents(mongodb: Database[dict[str, Any]]) -> None:
    """Fields that nobody declared."""

    def script(do: Do) -> None:
        scrapbook = Scrapbook(a=1)
        do("create", scrapbook.save)
        scrapbook.b = {"c": [1, 2.0]}
        do("update", scrapbook.save)
        del scrapbook.a
        do("update", scrapbook.save)
        do("delete", scrapbook.delete)

    with configured():
        Judge()(script, Scrapbook)


# --- reading and going back ---


@pytest.mark.usefixtures("shop")
def test_reading() -> None:
    """Versions are documents of its classes, with their fields; references are followed to how they were."""
    author = Author(name="then").save()
    novel = a_novel(author=author, secret="s").save()
    time.sleep(0.003)
    moment = datetime.datetime.now(datetime.UTC)
    time.sleep(0.003)
    author.name = "now"
    author.save()
    novel.update(set__title="u")
    v = novel.history[0]
    assert isinstance(v.document, Novel)
    assert (v.document.price, v.document.chapters[1].pages) == (decimal.Decimal("9.90"), 3)
    assert v.document._meta.get_field("title").verbose_name == "the title"
    assert "secret" not in v.state
    assert novel.history.version_at(moment)["title"] == "t"
    assert novel.history.version_at(moment).follow("author")["name"] == "then"
    assert [found.title for found in history_of(Novel).as_of(moment)] == ["t"]
    assert [(c.path, c.old, c.new) for c in novel.history[1].changes] == [(("title",), "t", "u")]


@pytest.mark.usefixtures("shop")
def test_going_back() -> None:
    """Both ways, of a document that is gone too."""
    novel = a_novel().save()
    time.sleep(0.003)
    moment = datetime.datetime.now(datetime.UTC)
    time.sleep(0.003)
    novel.update(set__title="u")
    novel.update(set__rating=2.0)
    novel.history[1].take_back()
    assert (Novel.objects.get().title, Novel.objects.get().rating) == ("t", 2.0)
    Novel.objects.delete()
    history_of(Novel, novel.pk).revert(since=moment)
    assert Novel.objects.get().to_mongo() == novel.history[0].document.to_mongo()
    assert operations(novel) == ["create", "update", "update", "update", "delete", "create"]


# --- connections ---


def test_its_connections(mongodb: Database[dict[str, Any]], mongodb_uri: str, settings: Any) -> None:
    """`MONGODB_DATABASES` registers them; each class's versions lie in its own database."""
    names = {"default": mongodb.name, "archive": f"{mongodb.name}_archive"}
    mongoengine.disconnect_all()
    for document_class in DOCUMENTS:
        document_class._collection = None
    settings.MONGODB_DATABASES = {
        alias: {"name": name, "host": mongodb_uri, "uuidRepresentation": "standard", "tz_aware": True}
        for alias, name in names.items()
    }
    apps.get_app_config("django_mongoengine").ready()
    try:
        with configured(), tracking(Author, Archived):
            author, archived = Author(name="a").save(), Archived(name="b").save()
            archived.update(set__name="c")
            assert (operations(author), operations(archived)) == (["create"], ["create", "update"])
        for alias, count in (("default", 1), ("archive", 2)):
            database = mongoengine.get_db(alias)
            assert database.name == names[alias]
            assert database["document_history"].count_documents({}) == count
    finally:
        mongoengine.get_connection("archive").drop_database(names["archive"])
        mongoengine.disconnect_all()
        Archived._collection = None


# --- its users ---


def edit(request: HttpRequest, title: str) -> HttpResponse:
    Novel.objects(title="t").update(set__rating=float(title))
    return HttpResponse(request.user.username)


def lazy_edit(request: HttpRequest) -> HttpResponse:
    Novel.objects(title="t").update(inc__rating=1)
    return HttpResponse()


async def async_edit(request: HttpRequest) -> HttpResponse:
    Novel.objects(title="t").update(inc__rating=1)
    await sync_to_async(Novel.objects(title="t").update)(inc__rating=1)
    return HttpResponse()


class Edit(UpdateView):
    document = Novel
    fields = ["title", "rating"]
    success_url = "/done/"


urlpatterns = [
    path("edit/<str:title>/", edit),
    path("lazy/", lazy_edit),
    path("async/", async_edit),
    path("form/<str:pk>/", Edit.as_view()),
]


@pytest.fixture
def ann(shop: Database[dict[str, Any]]) -> Any:
    """A user of `mongo_auth`, and a novel to write on."""
    a_novel().save()
    return User.create_user("ann", "secret", "ann@example.org")


@pytest.fixture
def browser(ann: Any) -> Client:
    client = Client()
    assert client.login(username="ann", password="secret")
    return client


def last_user() -> Any:
    return history_of(Novel.objects.get())[-1].user


@pytest.mark.parametrize("url", ["/edit/7/", "/lazy/", "/async/"])
def test_the_user_of_a_request(browser: Client, ann: Any, url: str) -> None:
    """Its key as it lies in MongoDB, its name, and its class; looked at by the view or not."""
    assert browser.post(url).status_code == 200
    user = last_user()
    assert (user.pk, user.label, user.model) == (ann.pk, "ann", "mongo_auth.user")
    assert isinstance(user.pk, ObjectId)


async def test_the_user_of_an_async_request(shop: Database[dict[str, Any]]) -> None:
    """In an event loop the user is loaded in a thread."""
    a_novel().save()
    ann = User.create_user("ann", "secret", "ann@example.org")
    client = AsyncClient()
    await sync_to_async(client.force_login)(ann)
    assert (await client.post("/async/")).status_code == 200
    versions = list(Novel.objects.get().history)
    assert [v.user and v.user.label for v in versions] == [None, "ann", "ann"]
    assert versions[1].changeset.id == versions[2].changeset.id


def test_strangers_are_nobody(ann: Any) -> None:
    assert Client().post("/lazy/").status_code == 200
    assert last_user() is None


def test_a_form(browser: Client, ann: Any) -> None:
    """Its form views save documents; the version has the request's user and what the form changed."""
    novel = Novel.objects.get()
    response = browser.post(f"/form/{novel.pk}/", {"title": "from a form", "rating": "4.5"})
    assert (response.status_code, response["Location"]) == (302, "/done/")
    v = history_of(novel)[-1]
    assert {change.path: change.new for change in v.changes} == {("title",): "from a form", ("rating",): 4.5}
    assert v.user.pk == ann.pk


def test_a_block_and_a_command(ann: Any) -> None:
    """Users are taken by `changeset()`, and shown and found by the commands."""
    with changeset(user=ann, reason="why"):
        Novel.objects.update(set__rating=3.0)
    assert last_user().pk == ann.pk
    said = io.StringIO()
    call_command("history_log", user=str(ann.pk), stdout=said)
    assert "ann" in said.getvalue()
    assert "why" in said.getvalue()


def test_users_may_be_tracked(shop: Database[dict[str, Any]]) -> None:
    """A login writes its time: that version is the user's own, and the password is hidden."""
    with tracking(User, hidden=["password"]):
        ann = User.create_user("ann", "secret", "ann@example.org")
        assert Client().login(username="ann", password="secret")
        ann.set_password("other")
        assert operations(ann)[0] == "create"
        assert set(operations(ann)[1:]) == {"update"}
        states = [v.state for v in history_of(ann)]
        assert all("password" not in state for state in states)
        assert states[-1]["last_login"] > states[0]["last_login"]


def test_the_checks_find_nothing(mongodb: Database[dict[str, Any]], settings: Any) -> None:
    """A site as it describes it is a good one."""
    settings.TRACKED_DOCUMENTS = [f"{__name__}.Novel", "django_mongoengine.mongo_auth.models.User"]
    said = io.StringIO()
    call_command("check", stdout=said)
    assert "no issues" in said.getvalue()
    assert operations(a_novel().save()) == ["create"]
