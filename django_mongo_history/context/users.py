"""
Users as plain values, and when they are asked for.

Knows users by their attributes only: Django's, MongoEngine's and one's own look alike here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from enum import Enum
from typing import Any, Final
from uuid import UUID

from bson import ObjectId

from django_mongo_history.context.storable import storable_key, storable_text
from django_mongo_history.core.model import UserRef

logger = logging.getLogger("django_mongo_history")


class Unset(Enum):
    """The default of values for which None means something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


def user_ref(user: Any) -> UserRef | None:
    """
    A user as plain values: of Django, of MongoEngine, a bare key (which is its own label), or None for nobody.

    A UUID becomes the BSON binary that MongoDB stores; a key that BSON cannot hold becomes its text.
    Raises: TypeError for what is no user.
    """
    if user is None or user.__class__ is type(None):  # the second: a lazy object around None
        return None
    if isinstance(user, UserRef):
        return replace(user, pk=storable_key(user.pk))
    if isinstance(user, (str, int, ObjectId, UUID)) and not isinstance(user, bool):
        return UserRef(storable_key(user), str(user))
    if not getattr(user, "is_authenticated", True):
        return None
    if not hasattr(user, "pk"):
        raise TypeError(f"user: expected a user, a UserRef, a key or None, got {user.__class__.__name__}")
    name = user.get_username() if hasattr(user, "get_username") else user
    model = getattr(getattr(user, "_meta", None), "label_lower", None)
    model = model if isinstance(model, str) else user.__class__.__name__
    return UserRef(storable_key(user.pk), storable_text(str(name)), model)


class User:
    """Who is behind the writes: known from the start, or asked for at each of them until the changeset ends."""

    __slots__ = ("_is_known", "_last", "_resolve")

    def __init__(self, user: UserRef | None = None, *, resolve: Callable[[], Any] | None = None) -> None:
        self._last = user
        self._is_known = resolve is None
        self._resolve = resolve

    def now(self) -> UserRef | None:
        """Never raises: a write must not fail because nobody can say whose it is."""
        resolve = self._resolve
        # Finding out who the user is may itself write (a session, a last login): that write cannot wait for itself.
        if resolve is None or _is_resolving.get():
            return self._last
        with resolving():
            try:
                return self._keep(resolve())
            except Exception:
                logger.warning(
                    "The user behind a write could not be found out; its version has none", exc_info=True
                )
                return None

    def glance(self, glance: Callable[[], Any]) -> None:
        if self._is_known:
            return
        with suppress(Exception):  # no write needs this user; that it cannot be had is no news
            if (user := glance()) is not UNSET:
                self._keep(user)

    def close(self) -> None:
        self._resolve = None

    def _keep(self, user: Any) -> UserRef | None:
        self._last = user_ref(user)
        self._is_known = True
        return self._last


_is_resolving: ContextVar[bool] = ContextVar("django_mongo_history_resolving", default=False)


def is_resolving() -> bool:
    """Whether this very moment somebody finds out who writes."""
    return _is_resolving.get()


@contextmanager
def resolving() -> Iterator[None]:
    """Finding out who writes: what is written meanwhile must not ask for the same."""
    token = _is_resolving.set(True)
    try:
        yield
    finally:
        _is_resolving.reset(token)
