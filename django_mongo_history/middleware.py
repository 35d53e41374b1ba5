"""
One request, one changeset: who sent it and from where, for every version that is written while it lasts.

Works in sync and async stacks. The user is asked for when a write happens, so that whoever the view or REST framework
has made `request.user` by then is the one; a request that writes nothing costs no look at the session.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Final
from uuid import uuid4

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from bson import ObjectId
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject, empty

from django_mongo_history import conf
from django_mongo_history.context import UNSET, CarriedBlock, open_changeset, user_ref
from django_mongo_history.core.model import RequestRef, UserRef
from django_mongo_history.remote_addr import remote_addr

USER_TIMEOUT_S: Final = 10.0
"""How long an event loop waits for the thread that loads the user, before the version goes without."""

_REQUEST_ID: Final = re.compile(r"[\x20-\x7e]{1,128}")
_AUTHENTICATION: Final = "django.contrib.auth.middleware"
_END: Final = object()


class HistoryMiddleware:
    """
    Makes every request a changeset. Goes below the authentication middleware.

    To say something else about requests override `get_user`, `get_remote_addr`, `get_extra` or `get_request_ref`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.settings = conf.load()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self.__acall__(request)
        changeset = self._changeset(request)
        try:
            with changeset.step():
                response = self.get_response(request)
        except BaseException:
            self._end(request, changeset)
            raise
        return self._finish(request, response, changeset)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        changeset = self._changeset(request)
        try:
            with changeset.step():
                response = await self.get_response(request)
        except BaseException:
            self._end(request, changeset)
            raise
        return self._finish(request, response, changeset)

    def get_user(self, request: HttpRequest) -> Any:
        """
        Whoever is behind the write that is happening now: a user, a `UserRef`, a key, or None.

        Called at each write, in an event loop's thread too: there a lazy user may be returned but not looked into,
        which is done in a thread. What it raises is logged, and the version has no user.
        """
        return getattr(request, "user", None)

    def get_remote_addr(self, request: HttpRequest) -> str | None:
        """The address of the sender; called before the view."""
        return remote_addr(request.META, self.settings.trusted_proxies)

    def get_extra(self, request: HttpRequest) -> Mapping[str, Any]:
        """Values for `extra` of all the request's versions; called before the view."""
        return {}

    def get_request_ref(self, request: HttpRequest) -> RequestRef:
        """Which request it is; called before the view."""
        header = self.settings.request_id_header
        given = (request.headers.get(header) or "").strip() if header else ""
        path = request.path.encode("utf-8", "replace").decode()
        return RequestRef(
            id=given if _REQUEST_ID.fullmatch(given) else uuid4().hex, method=request.method or "", path=path
        )

    def _changeset(self, request: HttpRequest) -> CarriedBlock[ObjectId]:
        return open_changeset(
            resolve_user=partial(self._user, request),
            remote_addr=self.get_remote_addr(request),
            extra=self.get_extra(request),
            request=self.get_request_ref(request),
        ).carried()

    def _user(self, request: HttpRequest) -> UserRef | None:
        if not _in_event_loop():
            return user_ref(self.get_user(request))
        try:
            user = _without_work(self.get_user(request), request)
            if user is not UNSET:
                return user_ref(user)
        except SynchronousOnlyOperation:
            pass  # the hook, or a deferred field of the user, reads from the database
        return _in_thread(lambda: user_ref(self.get_user(request)))

    def _end(self, request: HttpRequest, changeset: CarriedBlock[ObjectId]) -> None:
        changeset.end(partial(self._glance, request))

    def _glance(self, request: HttpRequest) -> Any:
        if type(self).get_user is not HistoryMiddleware.get_user:
            return UNSET  # nobody knows what an own hook costs
        return _without_work(getattr(request, "user", None), request)

    def _finish(
        self, request: HttpRequest, response: HttpResponseBase, changeset: CarriedBlock[ObjectId]
    ) -> HttpResponseBase:
        end = partial(self._end, request, changeset)
        # A file keeps its place in the response, for the server's sendfile; reading it writes no documents.
        if isinstance(response, StreamingHttpResponse) and getattr(response, "file_to_stream", None) is None:
            _carry_body(response, changeset, end)
        else:
            end()
        return response


def _carry_body(
    response: StreamingHttpResponse, changeset: CarriedBlock[ObjectId], end: Callable[[], None]
) -> None:
    """
    Run the body, and what closes it, in the request's context: both come after the middleware has returned.

    Django's own privates, because the public `streaming_content` is a second generator around the body, which does not
    close it; and an overridden `close` would tie the response to itself, so that a garbage collector, not the server,
    closed a body whose client has hung up (`test_async_stream_that_is_not_read_to_its_end`).
    """
    body = response._iterator  # type: ignore[attr-defined]  # noqa: SLF001
    closers = response._resource_closers  # type: ignore[attr-defined]  # noqa: SLF001
    closers[:] = [*(partial(_close, closer, changeset) for closer in closers), end]
    streamed = _astream if response.is_async else _stream
    response.streaming_content = streamed(body, changeset, end)


def _close(closer: Callable[[], Any], changeset: CarriedBlock[ObjectId]) -> None:
    with changeset.step():
        closer()


def _stream(
    body: Iterator[bytes], changeset: CarriedBlock[ObjectId], end: Callable[[], None]
) -> Iterator[bytes]:
    try:
        while True:
            with changeset.step():
                part = next(body, _END)
            if part is _END:
                return
            yield part  # type: ignore[misc]
    finally:
        end()


async def _astream(
    body: AsyncIterator[bytes], changeset: CarriedBlock[ObjectId], end: Callable[[], None]
) -> AsyncIterator[bytes]:
    try:
        while True:
            with changeset.step():
                part = await anext(body, _END)
            if part is _END:
                return
            yield part  # type: ignore[misc]
    finally:
        try:
            if hasattr(body, "aclose"):
                with changeset.step():
                    await body.aclose()
        finally:
            end()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _without_work(user: Any, request: HttpRequest) -> Any:
    """The user where that takes no work, or UNSET: a lazy user that was never looked at reads from the database."""
    if not _is_lazy(user) or vars(user).get("_wrapped") is not empty:
        return user
    # Only Django's own lazy user stands for what Django has kept on the request; somebody else's means another user.
    if getattr(vars(user).get("_setupfunc"), "__module__", None) == _AUTHENTICATION:
        for kept in ("_cached_user", "_acached_user"):
            if kept in vars(request):
                return vars(request)[kept]
    return UNSET


def _is_lazy(user: Any) -> bool:
    return issubclass(type(user), LazyObject)  # isinstance() would look into it


def _in_thread(find_user: Callable[[], UserRef | None]) -> UserRef | None:
    """
    Find the user in a thread, where synchronous database access is allowed.

    In a thread of its own, for any other may be waiting for this event loop. An in-memory SQLite database (tests)
    exists in the thread that made it: there the thread that Django runs synchronous code in is asked.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="history-user")
    try:
        return pool.submit(copy_context().run, _with_connections, find_user).result(USER_TIMEOUT_S)
    finally:
        pool.shutdown(wait=False)


def _with_connections(find_user: Callable[[], UserRef | None]) -> UserRef | None:
    if any(_is_in_memory(connection) for connection in connections.all()):
        return asyncio.run(_in_sync_thread(find_user))
    try:
        return find_user()
    finally:
        connections.close_all()


def _is_in_memory(connection: Any) -> bool:
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())


async def _in_sync_thread(find_user: Callable[[], UserRef | None]) -> UserRef | None:
    return await sync_to_async(find_user, thread_sensitive=True)()
