"""Scopes: which writes are one document's while a block lasts, and what its versions say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId
from bson.int64 import Int64

from django_mongo_history import context
from django_mongo_history.context import UNSET
from django_mongo_history.core.model import ABSENT, DocumentKey, UserRef
from django_mongo_history.registry import Registry, Tracked

KEYS = [DocumentKey("db.one", 1), DocumentKey("db.one", 2), DocumentKey("db.two", 1)]


def open_scope(key: DocumentKey, **facts: Any) -> Any:
    return context.open_scope(lambda: key, **facts)


def covered() -> list[bool]:
    return [context.scope_of(key, is_create=False) is not None for key in KEYS]


def test_a_scope_is_of_one_document() -> None:
    """Of three that share a key or a collection."""
    assert covered() == [False, False, False]
    with open_scope(KEYS[0]):
        assert covered() == [True, False, False]
        assert context.has_scope()
        assert (context.has_scope("db.one"), context.has_scope("db.two")) == (True, False)
        with open_scope(KEYS[2]):
            assert covered() == [True, False, True]
        assert covered() == [True, False, False]
    assert covered() == [False, False, False]
    assert not context.has_scope()


def test_documents_are_told_apart_by_scopes_and_appended_info() -> None:
    """What a write of many documents asks once, to spare each of them the questions."""
    with context.open_changeset():
        assert not context.tells_documents_apart()
        with open_scope(KEYS[0]):
            assert context.tells_documents_apart()
        assert not context.tells_documents_apart()
        context.append_change_info(KEYS[1], {"a": 1})
        assert context.tells_documents_apart()
        context.consume_appended(KEYS[1])
        assert not context.tells_documents_apart()


@pytest.mark.parametrize(
    ("key", "is_same"), [(Int64(1), True), (1.0, True), (True, False), ("1", False), (ObjectId(), False)]
)
def test_keys_are_one_where_the_server_says_so(key: Any, *, is_same: bool) -> None:
    with open_scope(KEYS[0]):
        assert (context.scope_of(DocumentKey("db.one", key), is_create=False) is not None) is is_same


def test_a_document_without_a_key() -> None:
    """Until it has one, creates in its collection are its own; then the documents of that key."""
    keys: Iterator[DocumentKey] = iter([DocumentKey("db.one", ABSENT)] * 3 + [KEYS[0]] * 2)
    with context.open_scope(lambda: next(keys)):
        found = [(KEYS[1], True), (KEYS[1], False), (KEYS[2], True), (KEYS[1], True), (KEYS[0], False)]
        answers = [context.scope_of(key, is_create=is_create) is not None for key, is_create in found]
    assert answers == [True, False, False, False, True]


def test_what_its_versions_say() -> None:
    """The innermost scope of a document says who; without a user it is whoever the block around says."""
    with (
        context.open_changeset(user="around", extra={"a": 1}),
        open_scope(KEYS[0], user="outer", extra={"b": 2}),
    ):
        captured = context.capture_context()
        with open_scope(KEYS[0], user=None), open_scope(KEYS[1], user=UNSET):
            inner, other = (context.scope_of(key, is_create=False) for key in KEYS[:2])
            assert context.scoped(captured, inner).context.user is None
            assert context.scoped(captured, other).context.user == UserRef("around", "around")
        outer = context.scoped(captured, context.scope_of(KEYS[0], is_create=False))
        assert outer.context.user == UserRef("outer", "outer")
        assert outer.context.extra == {"a": 1, "b": 2}
        assert outer.changeset == captured.changeset
        assert context.scoped(captured, None) is captured


def test_a_scope_ends_with_its_block() -> None:
    """Also where somebody still holds it, and after an exception."""
    held = []

    def fail() -> None:
        with open_scope(KEYS[0]):
            held.append(context.scope_of(KEYS[0], is_create=False))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert covered() == [False, False, False]
    assert not held[0].covers(KEYS[0], is_create=False)


def test_wrong_users_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="expected a user"):
        open_scope(KEYS[0], user=object())


def test_classes_in_scopes_only() -> None:
    """A class is in scopes only if nothing that tracks it, or shares its collection, says otherwise."""

    class Base: ...

    class Below(Base): ...

    class Beside: ...

    def sharing(document_class: type) -> list[type]:
        return [document_class, Beside]

    registry = Registry(lambda name: None)
    assert not registry.has_scoped
    registry.add(Tracked(Base, "Base", only_in_scopes=True))
    assert registry.has_scoped
    assert [registry.is_scoped(one, sharing) for one in (Base, Below)] == [True, True]
    registry.add(Tracked(Beside, "Beside"))
    assert not registry.is_scoped(Base, sharing)
    registry.remove(Beside)
    registry.add(Tracked(Below, "Below"))
    assert [registry.require(one).only_in_scopes for one in (Base, Below)] == [True, False]
    registry.add(Tracked(Base, "Base"))
    assert not registry.has_scoped
