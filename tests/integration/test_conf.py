"""Settings: one frozen value, and a problem in words for every mistake."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_mongo_history import conf
from django_mongo_history.conf.reading import ROWS

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "settings.md"


def problems(settings: Any, given: Any = None, tracked: Any = ()) -> list[conf.Problem]:
    settings.MONGO_HISTORY = {} if given is None else given
    settings.TRACKED_DOCUMENTS = tracked
    return conf.problems()


def test_defaults(settings: Any) -> None:
    """A project that sets nothing has every setting."""
    del settings.TRACKED_DOCUMENTS
    assert dataclasses.asdict(conf.load(strict=True)) == {
        "delivery": "auto",
        "database": None,
        "collection": "document_history",
        "alias": None,
        "snapshot_every": 20,
        "chunk_size": 1000,
        "on_error": "raise",
        "drop_collection": "tombstone",
        "transaction_timeout_s": 100.0,
        "outbox_collection": "document_history_outbox",
        "dead_collection": "document_history_dead",
        "delivery_tries": 8,
        "celery_queue": None,
        "broker_down": "sync",
        "broker_timeout_s": 1.0,
        "confirm_after_s": 30.0,
        "message_max_bytes": 262_144,
        "attribute": "history",
        "trusted_proxies": (),
        "request_id_header": "X-Request-ID",
        "get_user": None,
        "get_remote_addr": None,
        "get_extra": None,
        "require_reason": False,
        "propagate_context": True,
        "conversions": (),
        "admin_scope": None,
        "tracked_documents": (),
    }


def test_every_row_is_a_field_of_settings_and_its_default_is_valid() -> None:
    names = [field.name for field in dataclasses.fields(conf.Settings)]
    assert [row.name for row in ROWS] == names[:-1]
    assert [row.rule(row.default) for row in ROWS] == [row.default for row in ROWS]


def test_is_frozen_and_live(settings: Any) -> None:
    """What was loaded does not change; loading again sees what is set now."""
    settings.MONGO_HISTORY = {"SNAPSHOT_EVERY": 5}
    loaded = conf.load()
    settings.MONGO_HISTORY = {"SNAPSHOT_EVERY": 6}
    assert (loaded.snapshot_every, conf.load().snapshot_every) == (5, 6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.snapshot_every = 7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("DELIVERY", "sync", "sync"),
        ("DELIVERY", "celery", "celery"),
        ("DELIVERY", "outbox", "outbox"),
        ("ALIAS", "archive", "archive"),
        ("OUTBOX_COLLECTION", "on_its_way", "on_its_way"),
        ("DEAD_COLLECTION", "laid_aside", "laid_aside"),
        ("DELIVERY_TRIES", 1, 1),
        ("CELERY_QUEUE", "history", "history"),
        ("BROKER_DOWN", "outbox", "outbox"),
        ("BROKER_TIMEOUT_S", 0.5, 0.5),
        ("CONFIRM_AFTER_S", 5, 5.0),
        ("CONFIRM_AFTER_S", None, None),
        ("MESSAGE_MAX_BYTES", 1024, 1024),
        ("DATABASE", "audit", "audit"),
        ("DATABASE", None, None),
        ("COLLECTION", "audit.versions", "audit.versions"),
        ("SNAPSHOT_EVERY", 1, 1),
        ("CHUNK_SIZE", 10_000, 10_000),
        ("ON_ERROR", "log", "log"),
        ("TRANSACTION_TIMEOUT_S", 5, 5.0),
        ("ATTRIBUTE", "versions", "versions"),
        ("REQUEST_ID_HEADER", "X-Correlation-ID", "X-Correlation-ID"),
        ("REQUEST_ID_HEADER", None, None),
        (
            "TRUSTED_PROXIES",
            ["10.0.0.1", "10.1.2.3/8", "2001:db8::/32", "::ffff:192.0.2.0/120"],
            tuple(map(ipaddress.ip_network, ["10.0.0.1/32", "10.0.0.0/8", "2001:db8::/32", "192.0.2.0/24"])),
        ),
    ],
)
def test_right_values(settings: Any, key: str, value: Any, read: Any) -> None:
    settings.MONGO_HISTORY = {key: value}
    assert getattr(conf.load(strict=True), key.lower()) == read


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("DELIVERY", "celry", "expected 'auto', 'atomic', 'sync', 'celery' or 'outbox', got 'celry'"),
        ("DELIVERY", None, "expected 'auto', 'atomic', 'sync', 'celery' or 'outbox', got None"),
        ("DELIVERY", ["sync"], "expected 'auto', 'atomic', 'sync', 'celery' or 'outbox', got ['sync']"),
        ("ALIAS", " ", "expected a text that is not empty or None, got ' '"),
        ("CELERY_QUEUE", 5, "expected a text that is not empty or None, got 5"),
        ("OUTBOX_COLLECTION", "", "expected the name of a collection, got ''"),
        ("DEAD_COLLECTION", "system.dead", "expected the name of a collection, got 'system.dead'"),
        ("DELIVERY_TRIES", 0, "expected a whole number from 1 to 100, got 0"),
        ("BROKER_DOWN", "ignore", "expected 'sync', 'outbox' or 'raise', got 'ignore'"),
        ("BROKER_TIMEOUT_S", 0, "expected a number of seconds above 0, got 0"),
        ("CONFIRM_AFTER_S", -1, "expected a number of seconds above 0 or None, got -1"),
        ("MESSAGE_MAX_BYTES", 16_000_000, "expected a whole number from 1024 to 8388608, got 16000000"),
        ("DATABASE", "a b", "expected the name of a database or None, got 'a b'"),
        ("DATABASE", "", "expected the name of a database or None, got ''"),
        ("COLLECTION", "system.users", "expected the name of a collection, got 'system.users'"),
        ("COLLECTION", "a$b", "expected the name of a collection, got 'a$b'"),
        ("COLLECTION", None, "expected the name of a collection, got None"),
        ("SNAPSHOT_EVERY", 0, "expected a whole number from 1 up, got 0"),
        ("SNAPSHOT_EVERY", True, "expected a whole number from 1 up, got True"),
        ("SNAPSHOT_EVERY", 2.0, "expected a whole number from 1 up, got 2.0"),
        ("CHUNK_SIZE", 10_001, "expected a whole number from 1 to 10000, got 10001"),
        ("ON_ERROR", "ignore", "expected 'raise' or 'log', got 'ignore'"),
        ("TRANSACTION_TIMEOUT_S", 0, "expected a number of seconds above 0, got 0"),
        ("TRANSACTION_TIMEOUT_S", float("nan"), "expected a number of seconds above 0, got nan"),
        ("TRANSACTION_TIMEOUT_S", float("inf"), "expected a number of seconds above 0, got inf"),
        ("ATTRIBUTE", "my history", "expected a Python name without a leading underscore, got 'my history'"),
        ("ATTRIBUTE", "class", "expected a Python name without a leading underscore, got 'class'"),
        ("ATTRIBUTE", "_data", "expected a Python name without a leading underscore, got '_data'"),
        ("TRUSTED_PROXIES", "10.0.0.1", "expected a list of IP addresses and networks"),
        ("TRUSTED_PROXIES", ["10.0.0"], "expected a list of IP addresses and networks"),
        ("TRUSTED_PROXIES", ["proxy.internal"], "expected a list of IP addresses and networks"),
        ("TRUSTED_PROXIES", ["0.0.0.0/0"], "none of all addresses, got ['0.0.0.0/0']"),
        ("TRUSTED_PROXIES", ["::ffff:0:0/96"], "none of all addresses"),
        ("REQUEST_ID_HEADER", "X Request", "expected the name of an HTTP header or None, got 'X Request'"),
        ("REQUEST_ID_HEADER", "", "expected the name of an HTTP header or None, got ''"),
    ],
)
def test_wrong_values(settings: Any, key: str, value: Any, expected: str) -> None:
    """A problem says which key, what was expected and what was found; the default stands in."""
    (problem,) = problems(settings, {key: value})
    assert problem.message.startswith(f"MONGO_HISTORY[{key!r}]: expected")
    assert expected in problem.message
    assert (problem.key, problem.kind) == (f"MONGO_HISTORY[{key!r}]", conf.Kind.WRONG_VALUE)
    assert problem.hint
    settings.MONGO_HISTORY = {}
    default = getattr(conf.load(), key.lower())
    settings.MONGO_HISTORY = {key: value}
    assert getattr(conf.load(), key.lower()) == default


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("DELIVRY", "Did you mean 'DELIVERY'?"),
        ("delivery", "Did you mean 'DELIVERY'?"),
        ("FROBNICATE", "Known keys: DELIVERY, "),
        (7, "Known keys: "),
    ],
)
def test_unknown_keys(settings: Any, key: Any, hint: str) -> None:
    (problem,) = problems(settings, {key: 1})
    assert problem.message == f"MONGO_HISTORY[{key!r}]: unknown key"
    assert problem.hint.startswith(hint)
    assert problem.kind is conf.Kind.UNKNOWN_KEY


def test_a_setting_that_is_no_dict(settings: Any) -> None:
    (problem,) = problems(settings, ["DELIVERY"])
    assert problem.message == "MONGO_HISTORY: expected a dict, got ['DELIVERY']"
    assert conf.load().delivery == "auto"


def test_strict_lists_every_mistake(settings: Any) -> None:
    settings.MONGO_HISTORY = {"DELIVERY": "celry", "CHUNK": 1}
    settings.TRACKED_DOCUMENTS = [7]
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.load(strict=True)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "MONGO_HISTORY['CHUNK']",
        "MONGO_HISTORY['DELIVERY']",
        "TRACKED_DOCUMENTS[0]",
    ]


def test_tracked_documents(settings: Any) -> None:
    settings.TRACKED_DOCUMENTS = [
        "a.b.C",
        {
            "document": "a.b.D",
            "untracked": ["x", "y.z"],
            "hidden": ("p",),
            "delivery": "sync",
            "renamed": {"old": "new"},
            "collections": ["old_d"],
        },
    ]
    assert conf.load(strict=True).tracked_documents == (
        conf.TrackedSpec("a.b.C"),
        conf.TrackedSpec("a.b.D", ("x", "y.z"), ("p",), "sync", {"old": "new"}, ("old_d",)),
    )


@pytest.mark.parametrize(
    ("entry", "message", "kind"),
    [
        (7, "TRACKED_DOCUMENTS[1]: expected a dotted path or a dict, got 7", conf.Kind.WRONG_ENTRY),
        (
            {"hidden": []},
            "TRACKED_DOCUMENTS[1]: expected the key 'document', got {'hidden': []}",
            conf.Kind.WRONG_ENTRY,
        ),
        (
            "C",
            "TRACKED_DOCUMENTS[1]['document']: expected the dotted path of a document class, got 'C'",
            conf.Kind.WRONG_VALUE,
        ),
        ("a.b.C", "TRACKED_DOCUMENTS[1]: 'a.b.C' has an entry already", conf.Kind.WRONG_ENTRY),
        (
            {"document": "a.b.D", "hiden": ["p"]},
            "TRACKED_DOCUMENTS[1]['hiden']: unknown key",
            conf.Kind.UNKNOWN_KEY,
        ),
        (
            {"document": "a.b.D", "hidden": "password"},
            "TRACKED_DOCUMENTS[1]['hidden']: expected a list of non-empty strings, got 'password'",
            conf.Kind.WRONG_VALUE,
        ),
        (
            {"document": "a.b.D", "delivery": "celry"},
            "TRACKED_DOCUMENTS[1]['delivery']: expected 'auto', 'atomic', 'sync', 'celery' or 'outbox' or None, got 'celry'",
            conf.Kind.WRONG_VALUE,
        ),
        (
            {"document": "a.b.D", "renamed": ["a"]},
            "TRACKED_DOCUMENTS[1]['renamed']: expected a dict of non-empty strings to non-empty strings, got ['a']",
            conf.Kind.WRONG_VALUE,
        ),
        (
            {"document": "a.b.D", "hidden": ["p"], "untracked": ["p"]},
            "TRACKED_DOCUMENTS[1]: expected a path to be hidden or untracked, not both, got ['p']",
            conf.Kind.WRONG_ENTRY,
        ),
    ],
    ids=str,
)
def test_wrong_entries(settings: Any, entry: Any, message: str, kind: conf.Kind) -> None:
    """A wrong entry is left out whole: with its `hidden` unread it would store secrets."""
    (problem,) = problems(settings, tracked=["a.b.C", entry])
    assert (problem.message, problem.kind) == (message, kind)
    assert problem.hint
    assert conf.load().tracked_documents == (conf.TrackedSpec("a.b.C"),)


def test_the_near_key_of_an_entry_is_named(settings: Any) -> None:
    (problem,) = problems(settings, tracked=[{"document": "a.b.D", "hiden": ["p"]}])
    assert problem.hint == "Did you mean 'hidden'?"


def test_tracked_documents_that_are_no_list(settings: Any) -> None:
    (problem,) = problems(settings, tracked="a.b.C")
    assert problem.message == "TRACKED_DOCUMENTS: expected a list of dotted paths and dicts, got 'a.b.C'"


def test_the_settings_page_is_the_table() -> None:
    """docs/settings.md is what settings_reference() gives."""
    assert DOCUMENTATION.read_text(encoding="utf-8") == conf.settings_reference()
