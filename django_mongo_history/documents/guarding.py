"""
A look at deletes before MongoEngine begins with them: it deletes files, cascades and rules first, the document last.

The one place where MongoEngine's own methods are wrapped, and only while somebody asks for it: neither a class's
collection nor a signal hears of a delete before its cascades.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from mongoengine import Document
from mongoengine.queryset.base import BaseQuerySet

Before = Callable[[Any, Callable[[], Any]], None]
"""Called with a class's collection as handed out and what gives the filter, before anything is deleted. May raise."""

_DELETE: Final = "delete"
_MARK: Final = "_history_guards"


def guard_deletes(before: Before | None) -> None:
    """Have every delete of a document or a queryset ask first; None: no more."""
    for owner, guarded in ((Document, _guarded_document), (BaseQuerySet, _guarded_queryset)):
        method = vars(owner)[_DELETE]
        original = getattr(method, _MARK, method)
        setattr(owner, _DELETE, original if before is None else _marked(guarded(original, before), original))


def _marked(method: Any, original: Any) -> Any:
    setattr(method, _MARK, original)
    return method


def _guarded_document(original: Any, before: Before) -> Any:
    @functools.wraps(original)
    def delete(self: Any, *args: Any, **options: Any) -> Any:
        before(self._get_collection(), lambda: self._qs.filter(**self._object_key)._query)  # noqa: SLF001 - as in all of `documents`
        return original(self, *args, **options)

    return delete


def _guarded_queryset(original: Any, before: Before) -> Any:
    @functools.wraps(original)
    def delete(self: Any, *args: Any, **options: Any) -> Any:
        before(self._collection, lambda: self._query)
        return original(self, *args, **options)

    return delete
