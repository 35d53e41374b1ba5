"""Who is behind a version or a changeset, from where, why and by what: what both say of their context."""

from __future__ import annotations

from abc import abstractmethod
from copy import deepcopy
from typing import Any

from django_mongo_history.core.model import Context, RequestRef, TaskRef, UserRef


class ContextFacts:
    """What `_context` holds. A changeset has that of its first version: a `rationale` inside of it may say more of others."""

    __slots__ = ()

    @property
    @abstractmethod
    def _context(self) -> Context: ...

    @property
    def user(self) -> UserRef | None:
        """The user behind it as plain values (`pk`, `label`, `model`); None where nobody is known."""
        return self._context.user

    @property
    def remote_addr(self) -> str | None:
        """The address that it came from, as text."""
        return self._context.remote_addr

    @property
    def reason(self) -> str | None:
        """Why."""
        return self._context.reason

    @property
    def extra(self) -> dict[str, Any]:
        """A private copy."""
        return deepcopy(dict(self._context.extra))

    @property
    def request(self) -> RequestRef | None:
        """The HTTP request that it was made in: id, method, path."""
        return self._context.request

    @property
    def task(self) -> TaskRef | None:
        """The Celery task that made it: id and name. What a task made that a request has sent has both."""
        return self._context.task
