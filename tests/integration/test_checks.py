"""System checks: every mistake has an id, says where it is, and has a hint."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

import mongoengine as me
import mongomock
import pytest
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, registry, run_checks
from django.utils.module_loading import import_string
from mongoengine.base.common import _document_registry

from django_mongo_history.checks import delivery as delivery_checks
from django_mongo_history.checks import project as project_checks
from django_mongo_history.checks.entries import TAG
from django_mongo_history.middleware import HistoryMiddleware

AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
HISTORY = "django_mongo_history.middleware.HistoryMiddleware"
SHOP = "history_shop"


class OwnMiddleware(HistoryMiddleware):
    """A project's own."""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Django's settings, set without a signal: nothing shall be tracked by them here."""

    class Quiet:
        def __setattr__(self, name: str, value: Any) -> None:
            monkeypatch.setattr(django_settings, name, value, raising=False)

    return Quiet()


@pytest.fixture(autouse=True)
def _shop(settings: Any) -> Iterator[None]:
    """A module of documents that settings can name, and settings without a mistake."""

    class Card(me.EmbeddedDocument):
        number = me.StringField(db_field="no")

    class Base(me.Document):
        meta = {"abstract": True}

    class Account(Base):
        name = me.StringField()
        password = me.StringField(db_field="pw")
        cards = me.ListField(me.EmbeddedDocumentField(Card))
        region = me.StringField()
        meta = {"shard_key": ("region",)}

    class Reading(me.Document):
        taken = me.DateTimeField()
        meta = {"timeseries": {"timeField": "taken"}}

    class Shadowing(me.Document):
        state = me.StringField()
        history = me.ListField()

    module = ModuleType(SHOP)
    vars(module).update(
        Card=Card, Base=Base, Account=Account, Reading=Reading, Shadowing=Shadowing, thing=7, function=len
    )
    sys.modules[SHOP] = module
    settings.MONGO_HISTORY = {}
    settings.TRACKED_DOCUMENTS = [f"{SHOP}.Account"]
    settings.MIDDLEWARE = [AUTHENTICATION, HISTORY]
    yield
    del sys.modules[SHOP]
    for name in ("Card", "Account", "Reading", "Shadowing"):
        _document_registry.pop(name, None)


def found(databases: Sequence[str] = ()) -> list[CheckMessage]:
    """What the checks say; `databases` None would ask all servers from Django 6.1 on, and none before."""
    return ours(run_checks(tags=[TAG], databases=list(databases)))


def ours(messages: Iterable[CheckMessage]) -> list[CheckMessage]:
    return [message for message in messages if str(message.id).startswith("mongo_history.")]


def the_one(identifier: str) -> str:
    """The text of the only message there is."""
    (message,) = found()
    assert message.id == f"mongo_history.{identifier}"
    assert isinstance(message, Error) == identifier.startswith("E")
    assert message.hint
    return str(message.msg)


def entry(**options: Any) -> list[Any]:
    return [{"document": f"{SHOP}.Account", **options}]


def test_a_project_without_mistakes(settings: Any) -> None:
    settings.MONGO_HISTORY = {"DELIVERY": "sync", "TRUSTED_PROXIES": ["10.0.0.0/8"]}
    settings.TRACKED_DOCUMENTS = entry(
        hidden=["password", "cards.no"], untracked=["name"], renamed={"nick": "name"}
    )
    assert found() == []


def test_the_test_project_has_none(settings: Any) -> None:
    project: Any = importlib.import_module("testproject.settings")
    settings.TRACKED_DOCUMENTS, settings.MIDDLEWARE = project.TRACKED_DOCUMENTS, project.MIDDLEWARE
    assert found() == []


def test_all_are_registered_and_only_one_asks_servers() -> None:
    tagged = [check for check in registry.registry.get_checks() if TAG in check.tags]
    assert {check.__name__ for check in tagged} == {
        name
        for module in (delivery_checks, project_checks)
        for name in vars(module)
        if name.startswith("check_")
    }
    assert [check.__name__ for check in tagged if Tags.database in check.tags] == ["check_servers"]


def test_unknown_key(settings: Any) -> None:
    settings.MONGO_HISTORY = {"DELIVRY": "sync"}
    assert the_one("E001") == "MONGO_HISTORY['DELIVRY']: unknown key"


def test_unknown_key_of_an_entry(settings: Any) -> None:
    settings.TRACKED_DOCUMENTS = entry(hiden=["password"])
    assert the_one("E001") == "TRACKED_DOCUMENTS[0]['hiden']: unknown key"


def test_wrong_value(settings: Any) -> None:
    settings.MONGO_HISTORY = {"DELIVERY": "celry"}
    expected = "expected 'auto', 'atomic', 'sync', 'celery' or 'outbox'"
    assert the_one("E002") == f"MONGO_HISTORY['DELIVERY']: {expected}, got 'celry'"


@pytest.mark.parametrize("tracked", ["a.b.C", [7], [{}], [f"{SHOP}.Account"] * 2])
def test_wrong_entry(settings: Any, tracked: Any) -> None:
    settings.TRACKED_DOCUMENTS = tracked
    assert the_one("E003").startswith("TRACKED_DOCUMENTS")


@pytest.mark.parametrize("dotted", ["history_shop.Nothing", "no_such_module.Account"])
def test_path_that_does_not_import(settings: Any, dotted: str) -> None:
    settings.TRACKED_DOCUMENTS = [dotted]
    assert f"{dotted!r} cannot be imported" in the_one("E004")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Card", "an embedded document"),
        ("Base", "an abstract class"),
        ("thing", "no class"),
        ("function", "no class"),
        ("ModuleType", "no class of MongoEngine documents"),
    ],
)
def test_what_has_no_documents(settings: Any, name: str, kind: str) -> None:
    vars(sys.modules[SHOP])["ModuleType"] = ModuleType
    settings.TRACKED_DOCUMENTS = [f"{SHOP}.{name}"]
    assert the_one("E005").endswith(f"is {kind}")


@pytest.mark.parametrize("option", ["hidden", "untracked"])
@pytest.mark.parametrize("path", ["pasword", "cards.nope", "cards.0.number", "name.x", "*"])
def test_path_that_is_no_field(settings: Any, option: str, path: str) -> None:
    settings.TRACKED_DOCUMENTS = entry(**{option: ["name", path]})
    text = the_one("E006")
    assert repr(path) in text
    assert repr(option) in text


def test_renamed_to_what_is_no_field(settings: Any) -> None:
    settings.TRACKED_DOCUMENTS = entry(renamed={"old": "nope", "older": "name"})
    assert "'nope'" in the_one("E006")


@pytest.mark.parametrize("option", ["hidden", "untracked"])
@pytest.mark.parametrize("path", ["id", "pk", "_id", "region"])
def test_identity_cannot_be_kept_out(settings: Any, option: str, path: str) -> None:
    settings.TRACKED_DOCUMENTS = entry(**{option: [path]})
    assert repr(path) in the_one("E007")


def test_time_series(settings: Any) -> None:
    settings.TRACKED_DOCUMENTS = [f"{SHOP}.Reading"]
    assert "time-series" in the_one("E008")


def test_shadowed_field(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`version.state` is the whole state and not the field."""
    query = ModuleType("django_mongo_history.query")
    query.Version = type("Version", (), {"state": 1, "id": 2, "_private": 3})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "django_mongo_history.query", query)
    settings.MONGO_HISTORY = {"ATTRIBUTE": "versions"}
    settings.TRACKED_DOCUMENTS = [f"{SHOP}.Shadowing"]
    assert "'state'" in the_one("W001")


@pytest.mark.parametrize("attribute", ["history", "save", "objects"])
def test_attribute_that_is_taken(settings: Any, monkeypatch: pytest.MonkeyPatch, attribute: str) -> None:
    monkeypatch.setattr(project_checks, "_version_attributes", frozenset)
    settings.MONGO_HISTORY = {"ATTRIBUTE": attribute}
    settings.TRACKED_DOCUMENTS = [f"{SHOP}.Shadowing"]
    assert repr(attribute) in the_one("W002")


def test_missing_middleware(settings: Any) -> None:
    settings.MIDDLEWARE = [AUTHENTICATION]
    assert "HistoryMiddleware is missing" in the_one("W003")
    settings.TRACKED_DOCUMENTS = []
    assert found() == []


@pytest.mark.parametrize("own", [HISTORY, f"{__name__}.OwnMiddleware"])
def test_middleware_before_authentication(settings: Any, own: str) -> None:
    """A project's own class counts as well."""
    assert issubclass(import_string(own), HistoryMiddleware)
    settings.MIDDLEWARE = [own, AUTHENTICATION]
    assert the_one("E009") == f"MIDDLEWARE: {own!r} stands before {AUTHENTICATION!r}"
    settings.MIDDLEWARE = [AUTHENTICATION, own]
    assert found() == []


def test_middleware_without_authentication(settings: Any) -> None:
    settings.MIDDLEWARE = [HISTORY]
    assert found() == []


# --- servers ---


def test_no_server_is_asked_without_a_database(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain `check` must work with MongoDB down."""
    settings.MONGO_HISTORY = {"DELIVERY": "atomic"}
    monkeypatch.setattr(delivery_checks, "_hello", lambda _: pytest.fail("asked"))
    assert ours(run_checks()) == []


@pytest.mark.parametrize(
    ("delivery", "hello", "identifiers"),
    [
        ("atomic", {}, ["mongo_history.E010"]),
        ("atomic", {"setName": "rs0"}, []),
        ("atomic", {"msg": "isdbgrid"}, []),
        ("auto", {}, []),
        ("sync", {}, []),
    ],
)
def test_atomic_needs_transactions(
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    delivery: str,
    hello: dict[str, Any],
    identifiers: list[str],
) -> None:
    monkeypatch.setattr(delivery_checks, "_hello", lambda _: hello)
    settings.MONGO_HISTORY = {"DELIVERY": delivery}
    assert [message.id for message in found(databases=["default"])] == identifiers
    settings.MONGO_HISTORY = {}
    settings.TRACKED_DOCUMENTS = entry(delivery=delivery)
    assert [message.id for message in found(databases=["default"])] == identifiers


@pytest.fixture
def _disconnected() -> Iterator[None]:
    me.disconnect_all()
    yield
    me.disconnect_all()


@pytest.mark.usefixtures("_disconnected")
def test_mongomock_has_no_transactions(settings: Any) -> None:
    me.connect("history_checks", mongo_client_class=mongomock.MongoClient, uuidRepresentation="standard")
    settings.MONGO_HISTORY = {"DELIVERY": "atomic"}
    assert [message.id for message in found(databases=["default"])] == ["mongo_history.E010"]


@pytest.mark.usefixtures("_disconnected")
def test_not_connected(settings: Any) -> None:
    settings.MONGO_HISTORY = {"DELIVERY": "atomic"}
    assert [message.id for message in found(databases=["default"])] == ["mongo_history.W004"]


@pytest.mark.usefixtures("mongodb")
def test_a_replica_set_has_transactions(settings: Any) -> None:
    settings.MONGO_HISTORY = {"DELIVERY": "atomic"}
    assert found(databases=["default"]) == []


@pytest.mark.usefixtures("standalone_mongodb")
def test_a_standalone_server_has_none(settings: Any) -> None:
    settings.MONGO_HISTORY = {"DELIVERY": "atomic"}
    assert [message.id for message in found(databases=["default"])] == ["mongo_history.E010"]


# -- deliveries that are queued ---------------------------------------------------------------------------------------


def test_celery_is_not_installed(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """E012 names the place that asks for it."""
    monkeypatch.setattr(delivery_checks, "find_spec", lambda name: None)
    settings.MONGO_HISTORY = {"DELIVERY": "celery"}
    assert the_one("E012").startswith("MONGO_HISTORY['DELIVERY']: 'celery' delivery needs Celery")
    settings.MONGO_HISTORY = {}
    settings.TRACKED_DOCUMENTS = entry(delivery="celery")
    assert the_one("E012").startswith(
        f"TRACKED_DOCUMENTS: 'delivery' of '{SHOP}.Account': 'celery' delivery needs"
    )
    settings.TRACKED_DOCUMENTS = entry(delivery="outbox")
    assert found() == []


def test_celery_without_a_broker(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """W005: Celery's own default is a broker on this machine, which is seldom what is meant."""
    celery = pytest.importorskip("celery", reason="this environment has no Celery")
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    settings.MONGO_HISTORY = {"DELIVERY": "celery"}
    in_force = celery.current_app._get_current_object()
    with celery.Celery("history_checks", set_as_current=False) as app:
        app.set_current()
        try:
            assert the_one("W005").startswith(
                "MONGO_HISTORY['DELIVERY']: 'celery' delivery, and the Celery app"
            )
            app.conf.broker_url = "redis://127.0.0.1:1/0"
            assert found() == []
            app.conf.update(broker_url=None, task_always_eager=True)
            assert found() == []
        finally:
            in_force.set_current()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"source": "mongoengine_history"}, "Did you mean mongoengine-history?"),
        ({"source": "mongoengine-history", "colection": "x"}, "Did you mean --collection?"),
        ({"source": "mongoengine-history", "source_timezone": "Mars"}, "a time zone that exists"),
    ],
)
def test_an_old_history_that_nobody_can_read(settings: Any, entry: dict[str, str], words: str) -> None:
    """E014: whatever can be known of it before it is converted."""
    settings.MONGO_HISTORY = {"CONVERSIONS": [{"document": f"{SHOP}.Account", **entry}]}
    text = the_one("E014")
    assert text.startswith("MONGO_HISTORY['CONVERSIONS'][0]: ")
    assert words in text


def test_an_old_history_of_the_wrong_shape(settings: Any) -> None:
    """E002, as any value that a key cannot have."""
    settings.MONGO_HISTORY = {"CONVERSIONS": [{"source": "mongoengine-history"}]}
    assert "each with the texts 'source' and 'document'" in the_one("E002")


@pytest.mark.usefixtures("mongodb")
def test_versions_on_another_connection(settings: Any) -> None:
    """E013: the connection must be there, and no transaction spans two servers."""
    settings.MONGO_HISTORY = {"ALIAS": "archive"}
    assert the_one("E013") == "MONGO_HISTORY['ALIAS']: MongoEngine has no connection 'archive'"
    settings.MONGO_HISTORY = {"ALIAS": "default", "DELIVERY": "atomic"}
    assert the_one("E013").startswith(
        "MONGO_HISTORY['DELIVERY']: 'atomic' delivery, while MONGO_HISTORY['ALIAS']"
    )
    settings.MONGO_HISTORY = {"ALIAS": "default", "DELIVERY": "outbox"}
    assert found() == []


@pytest.mark.usefixtures("mongodb")
def test_versions_of_lasting_documents_in_memory(settings: Any) -> None:
    """E013: mongomock for the versions is for tests that mock the documents, too."""
    mocked = {"mongo_client_class": mongomock.MongoClient, "uuidRepresentation": "standard"}
    me.connect("history_checks", alias="archive", **mocked)
    try:
        settings.MONGO_HISTORY = {"ALIAS": "archive"}
        assert the_one("E013") == (
            f"MONGO_HISTORY['ALIAS']: 'archive' is a connection of mongomock's, and {SHOP}.Account is stored on a server"
        )
        me.disconnect("default")
        me.connect("history_checks", **mocked)
        assert found() == []
    finally:
        me.disconnect("archive")
        me.disconnect("default")


@pytest.mark.usefixtures("standalone_mongodb")
def test_an_outbox_needs_transactions(settings: Any) -> None:
    settings.MONGO_HISTORY = {"DELIVERY": "outbox"}
    assert [message.id for message in found(databases=["default"])] == ["mongo_history.E010"]
