"""HistoryMiddleware: every request a changeset, in sync and async stacks. What a write would carry is captured."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib.auth import get_user_model, login
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import SynchronousOnlyOperation
from django.core.signals import request_finished
from django.db import close_old_connections
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.urls import path
from django.utils.functional import SimpleLazyObject

from django_mongo_history import middleware
from django_mongo_history.context import (
    Captured,
    append_change_info,
    capture_context,
    current_changeset,
    rationale,
)
from django_mongo_history.core.model import Context, DocumentKey, RequestRef, UserRef
from django_mongo_history.middleware import HistoryMiddleware

KEY = DocumentKey("db.airports", "EDDF")
SEEN: list[Captured] = []
OUTLIVING: list[contextvars.Context] = []
MODULE = sys.modules[__name__]
NEEDS_ASYNC_AUTHENTICATION = pytest.mark.skipif(
    django.VERSION < (5,), reason="Django 5.0 brought auser and alogin"
)


@pytest.fixture(autouse=True)
def _site(settings: Any) -> Iterator[None]:
    """The test project with the views below, and nothing left behind by any test."""
    settings.ROOT_URLCONF = MODULE
    SEEN.clear()
    OUTLIVING.clear()
    request_finished.disconnect(
        close_old_connections
    )  # as the test client does, for responses closed by hand
    yield
    request_finished.connect(close_old_connections)
    assert capture_context().context == Context()
    assert current_changeset() is None


def write() -> None:
    SEEN.append(capture_context(KEY))


def users() -> list[str | None]:
    return [seen.context.user.label if seen.context.user else None for seen in SEEN]


# --- the views ---


def sync_view(request: HttpRequest) -> HttpResponse:
    write()
    write()
    return HttpResponse()


async def async_view(request: HttpRequest) -> HttpResponse:
    write()
    await asyncio.sleep(0)
    await sync_to_async(write)()
    return HttpResponse()


async def auser_view(request: HttpRequest) -> HttpResponse:
    await request.auser()
    write()
    return HttpResponse()


def quiet_view(request: HttpRequest) -> HttpResponse:
    OUTLIVING.append(contextvars.copy_context())
    return HttpResponse()


def looking_view(request: HttpRequest) -> HttpResponse:
    OUTLIVING.append(contextvars.copy_context())
    return HttpResponse(request.user.get_username())


def failing_view(request: HttpRequest) -> HttpResponse:
    write()
    raise KeyError("view")


async def failing_async_view(request: HttpRequest) -> HttpResponse:
    write()
    raise KeyError("view")


def login_view(request: HttpRequest) -> HttpResponse:
    write()
    login(request, get_user_model().objects.get(username="ann"))
    write()
    return HttpResponse()


async def alogin_view(request: HttpRequest) -> HttpResponse:
    from django.contrib.auth import alogin

    write()
    await alogin(request, await get_user_model().objects.aget(username="ann"))
    write()
    return HttpResponse()


def own_user_view(request: HttpRequest) -> HttpResponse:
    """As REST framework does: authentication of its own sets the request's user."""
    request.user = get_user_model()(pk=9, username="token")
    write()
    return HttpResponse()


def _chunks() -> Iterator[bytes]:
    try:
        for number in range(3):
            with rationale(f"chunk {number}"):
                write()
                yield b"x"
                write()
    finally:
        write()


async def _achunks() -> AsyncIterator[bytes]:
    try:
        for number in range(3):
            with rationale(f"chunk {number}"):
                write()
                yield b"x"
                write()
                await asyncio.sleep(0)
    finally:
        write()


def stream_view(request: HttpRequest) -> StreamingHttpResponse:
    write()
    return StreamingHttpResponse(_chunks())


async def astream_view(request: HttpRequest) -> StreamingHttpResponse:
    write()
    return StreamingHttpResponse(_achunks())


def file_view(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"))


async def marking_view(request: HttpRequest, name: str) -> JsonResponse:
    """A request among many: its own user, through the loop, a task and a thread."""
    request.user = get_user_model()(pk=int(name), username=name)
    await asyncio.sleep(0)
    task, thread = await asyncio.gather(asyncio.create_task(_acapture()), sync_to_async(capture_context)())
    here = capture_context()
    return JsonResponse(
        {
            "labels": [str(taken.context.user) for taken in (here, task, thread)],
            "changeset": str(here.changeset),
        }
    )


async def _acapture() -> Captured:
    await asyncio.sleep(0)
    return capture_context()


def sync_marking_view(request: HttpRequest, name: str) -> JsonResponse:
    request.user = get_user_model()(pk=int(name), username=name)
    inside = async_to_sync(_acapture)()
    here = capture_context()
    return JsonResponse(
        {"labels": [str(here.context.user), str(inside.context.user)], "changeset": str(here.changeset)}
    )


urlpatterns = [
    path("sync", sync_view),
    path("async", async_view),
    path("auser", auser_view),
    path("quiet", quiet_view),
    path("looking", looking_view),
    path("failing", failing_view),
    path("failing-async", failing_async_view),
    path("login", login_view),
    path("alogin", alogin_view),
    path("own-user", own_user_view),
    path("stream", stream_view),
    path("astream", astream_view),
    path("file", file_view),
    path("mark/<name>", marking_view),
    path("sync-mark/<name>", sync_marking_view),
]

# --- one request, one changeset ---


@pytest.fixture
def ann(transactional_db: None) -> Any:
    return get_user_model().objects.create_user("ann")


@pytest.fixture
def signed_in(ann: Any) -> Client:
    client = Client()
    client.force_login(ann)
    return client


@pytest.fixture
def asigned_in(ann: Any) -> AsyncClient:
    client = AsyncClient()
    client.force_login(ann)
    return client


def test_sync_request(signed_in: Client, ann: Any) -> None:
    """All writes of a request are one changeset, with its user, address and request."""
    signed_in.post("/sync?q=1", REMOTE_ADDR="192.0.2.1", headers={"X-Request-ID": "abc-1"})
    signed_in.get("/sync", REMOTE_ADDR="192.0.2.1")
    assert SEEN[0].context == Context(
        UserRef(ann.pk, "ann", "auth.user"), "192.0.2.1", None, {}, RequestRef("abc-1", "POST", "/sync")
    )
    assert SEEN[0].changeset == SEEN[1].changeset != SEEN[2].changeset == SEEN[3].changeset


async def test_async_request(asigned_in: AsyncClient) -> None:
    """The first touch of the lazy user is made by a write in the event loop, where Django forbids queries."""
    await asigned_in.post("/async")
    assert users() == ["ann", "ann"]
    assert SEEN[0].changeset == SEEN[1].changeset


@NEEDS_ASYNC_AUTHENTICATION
async def test_async_view_that_knows_its_user(
    asigned_in: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `request.auser()` has loaded is not loaded again."""
    monkeypatch.setattr(middleware, "_in_thread", lambda _: pytest.fail("asked in a thread"))
    await asigned_in.get("/auser")
    assert users() == ["ann"]


async def test_sync_view_under_asgi(asigned_in: AsyncClient) -> None:
    await asigned_in.get("/sync")
    assert users() == ["ann", "ann"]


def test_async_view_under_wsgi(signed_in: Client) -> None:
    signed_in.get("/async")
    assert users() == ["ann", "ann"]


@pytest.mark.parametrize("url", ["/sync", "/async"])
@pytest.mark.django_db(transaction=True)
async def test_nobody(url: str) -> None:
    await AsyncClient().get(url)
    await sync_to_async(Client().get)(url)
    assert users() == [None] * 4


@pytest.mark.django_db
def test_user_is_whoever_it_is_at_the_write() -> None:
    get_user_model().objects.create_user("ann")
    Client().get("/login")
    Client().get("/own-user")
    assert users() == [None, "ann", "token"]


@NEEDS_ASYNC_AUTHENTICATION
@pytest.mark.django_db(transaction=True)
async def test_user_of_an_async_login() -> None:
    await get_user_model().objects.acreate_user("ann")
    await AsyncClient().get("/alogin")
    assert users() == [None, "ann"]


def test_no_write_no_query(signed_in: Client, django_assert_num_queries: Any) -> None:
    """A request that writes nothing looks neither at the session nor at the user."""
    with django_assert_num_queries(0):
        signed_in.get("/quiet")


def test_one_query_for_many_writes(signed_in: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):  # the session, the user
        signed_in.get("/sync")


@pytest.mark.parametrize(("url", "expected"), [("/sync", "ann"), ("/looking", "ann"), ("/quiet", None)])
def test_after_the_request(
    signed_in: Client, django_assert_num_queries: Any, url: str, expected: str | None
) -> None:
    """Work that outlives the request keeps its changeset and the user known last, and asks nobody."""
    OUTLIVING.append(contextvars.copy_context())
    if url == "/sync":
        OUTLIVING[:] = []

        def remember(request: HttpRequest) -> HttpResponse:
            write()
            OUTLIVING.append(contextvars.copy_context())
            return HttpResponse()

        run(remember, request_with(get_user_model()(pk=1, username="ann")))
    else:
        signed_in.get(url)
    with django_assert_num_queries(0):
        late = OUTLIVING[-1].run(capture_context)
    assert (late.context.user.label if late.context.user else None) == expected
    assert late.context.request is not None


@pytest.mark.parametrize("url", ["/failing", "/failing-async"])
async def test_exception_in_the_view(url: str, transactional_db: None) -> None:
    """What is in force afterwards is checked by the fixture."""
    await AsyncClient(raise_request_exception=False).get(url)
    await sync_to_async(Client(raise_request_exception=False).get)(url)
    assert [seen.context.request.path for seen in SEEN if seen.context.request] == [url] * 2


# --- a middleware alone ---


def request_with(user: Any = None, **meta: Any) -> HttpRequest:
    request = RequestFactory().get("/", **meta)
    request.user = user if user is not None else AnonymousUser()
    return request


def run(view: Any, request: HttpRequest, kind: type[HistoryMiddleware] = HistoryMiddleware) -> Any:
    return kind(view)(request)


def test_says_what_it_is() -> None:
    """Django adapts a middleware by these."""
    assert HistoryMiddleware.sync_capable
    assert HistoryMiddleware.async_capable
    assert iscoroutinefunction(HistoryMiddleware(async_view))
    assert not iscoroutinefunction(HistoryMiddleware(sync_view))


@pytest.mark.parametrize("view", [failing_view, failing_async_view])
async def test_exception_that_no_handler_has_turned_into_a_response(view: Any) -> None:
    async def handle() -> None:
        await run(view, request_with())

    with pytest.raises(KeyError, match="view"):
        await handle()
    assert current_changeset() is None


def test_without_authentication() -> None:
    """A project without users has versions without users."""
    request = request_with()
    del request.user
    run(sync_view, request)
    assert users() == [None, None]


def test_user_that_cannot_be_had(caplog: pytest.LogCaptureFixture) -> None:
    """The session store is down: the write goes on, and the log says so."""

    def broken() -> Any:
        raise ConnectionError("no session store")

    run(sync_view, request_with(SimpleLazyObject(broken)))
    assert users() == [None, None]
    assert "no session store" in caplog.text


async def test_user_that_cannot_be_had_in_the_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise ConnectionError("no session store")

    await run(async_view, request_with(SimpleLazyObject(broken)))
    assert users() == [None, None]
    assert "no session store" in caplog.text


def lazy_user(threads: list[int]) -> SimpleLazyObject:
    def load() -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            threads.append(threading.get_ident())
            return get_user_model()(pk=3, username="lazy")
        raise SynchronousOnlyOperation

    return SimpleLazyObject(load)


@pytest.mark.parametrize("is_in_memory", [True, False])
async def test_lazy_user_in_the_event_loop(is_in_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded once, in a thread; of its own unless SQLite lives in memory; whose connections are closed."""
    threads: list[int] = []
    closed: list[int] = []
    monkeypatch.setattr(middleware, "_is_in_memory", lambda _: is_in_memory)
    monkeypatch.setattr(
        type(middleware.connections), "close_all", lambda _: closed.append(threading.get_ident())
    )
    await run(async_view, request_with(lazy_user(threads)))
    assert users() == ["lazy", "lazy"]
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    assert closed == ([] if is_in_memory else threads)
    assert (threads[0] == await sync_to_async(threading.get_ident)()) == is_in_memory


async def test_somebody_elses_lazy_user_is_not_djangos() -> None:
    """A token's user counts, although Django has kept the session's on the request."""
    request = request_with(lazy_user([]))
    request._cached_user = request._acached_user = get_user_model()(pk=1, username="session")
    await run(async_view, request)
    assert users() == ["lazy", "lazy"]


async def test_hook_that_reads_the_database_in_the_event_loop() -> None:
    """An overridden hook may look into the lazy user: then all of it runs in the thread."""

    class Own(HistoryMiddleware):
        def get_user(self, request: HttpRequest) -> Any:
            return request.user.get_username()

    await run(async_view, request_with(lazy_user([])), Own)
    assert users() == ["lazy", "lazy"]


async def test_user_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(middleware, "USER_TIMEOUT_S", 0.05)
    hold = threading.Event()

    async def view(request: HttpRequest) -> HttpResponse:
        write()
        hold.set()
        return HttpResponse()

    await run(view, request_with(SimpleLazyObject(partial(hold.wait, 30))))
    assert users() == [None]
    assert "TimeoutError" in caplog.text


def test_hooks() -> None:
    class Own(HistoryMiddleware):
        def get_user(self, request: HttpRequest) -> Any:
            return UserRef("svc", "service")

        def get_remote_addr(self, request: HttpRequest) -> str | None:
            return "198.51.100.1"

        def get_extra(self, request: HttpRequest) -> dict[str, Any]:
            return {"tenant": 7}

        def get_request_ref(self, request: HttpRequest) -> RequestRef:
            return RequestRef("r", "M", "/p")

    run(sync_view, request_with(), Own)
    assert SEEN[0].context == Context(
        UserRef("svc", "service"), "198.51.100.1", None, {"tenant": 7}, RequestRef("r", "M", "/p")
    )


def test_own_user_hook_is_not_called_without_a_write() -> None:
    class Own(HistoryMiddleware):
        def get_user(self, request: HttpRequest) -> Any:
            pytest.fail("called")

    run(quiet_view, request_with(), Own)


def test_trusted_proxies_are_those_of_the_setting(settings: Any) -> None:
    meta = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "198.51.100.66, 203.0.113.7"}
    settings.MONGO_HISTORY = {}
    run(sync_view, request_with(**meta))
    settings.MONGO_HISTORY = {"TRUSTED_PROXIES": ["10.0.0.0/8"]}
    run(sync_view, request_with(**meta))
    assert [SEEN[0].context.remote_addr, SEEN[2].context.remote_addr] == ["10.0.0.1", "203.0.113.7"]


@pytest.mark.parametrize("given", ["abc-1", "a b", "x" * 128, " padded "])
def test_request_id_of_the_header(given: str) -> None:
    run(sync_view, request_with(HTTP_X_REQUEST_ID=given))
    assert SEEN[0].context.request == RequestRef(given.strip(), "GET", "/")


@pytest.mark.parametrize("given", ["", "  ", "x" * 129, "a\nb", "a\x00", "ü", "a\n", None])
def test_request_id_of_our_own(given: str | None) -> None:
    meta = {} if given is None else {"HTTP_X_REQUEST_ID": given}
    run(sync_view, request_with(**meta))
    run(sync_view, request_with(**meta))
    first, second = (seen.context.request.id for seen in SEEN[::2] if seen.context.request)
    if given == "a\n":
        assert first == second == "a"  # what is around it is not part of it
    else:
        assert first != second
        assert len(first) == 32
        int(first, 16)


def test_request_id_header_of_the_setting(settings: Any) -> None:
    meta = {"HTTP_X_REQUEST_ID": "x", "HTTP_X_TRACE": "t"}
    settings.MONGO_HISTORY = {"REQUEST_ID_HEADER": "X-Trace"}
    run(sync_view, request_with(**meta))
    settings.MONGO_HISTORY = {"REQUEST_ID_HEADER": None}
    run(sync_view, request_with(**meta))
    ids = [seen.context.request.id for seen in SEEN[::2] if seen.context.request]
    assert ids[0] == "t"
    assert ids[1] not in {"x", "t"}


def test_a_path_that_is_no_utf8() -> None:
    request = request_with()
    request.path = "/a\ud800"
    run(sync_view, request)
    assert SEEN[0].context.request is not None
    assert SEEN[0].context.request.path == "/a?"


def test_appended_info_ends_with_the_request() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        append_change_info(KEY, {"a": 1})
        write()
        return HttpResponse()

    run(view, request_with())
    write()
    assert [dict(seen.context.extra) for seen in SEEN] == [{"a": 1}, {}]


# --- streaming bodies ---

REASONS = [None, *(f"chunk {n}" for n in range(3) for _ in range(2)), None]


def assert_streamed_in_one_changeset() -> None:
    assert [seen.context.reason for seen in SEEN] == REASONS
    assert len({seen.changeset for seen in SEEN}) == 1
    assert users() == ["ann"] * len(REASONS)


def test_sync_stream(signed_in: Client) -> None:
    """The body runs after the middleware has returned, and is in the request's changeset all the same."""
    response = signed_in.get("/stream")
    assert current_changeset() is None
    assert len(SEEN) == 1
    assert b"".join(response.streaming_content) == b"xxx"
    response.close()
    assert_streamed_in_one_changeset()


async def test_async_stream(asigned_in: AsyncClient) -> None:
    response = await asigned_in.get("/astream")
    assert len(SEEN) == 1
    assert b"".join([part async for part in response]) == b"xxx"
    assert_streamed_in_one_changeset()


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
async def test_sync_stream_under_asgi(asigned_in: AsyncClient) -> None:
    response = await asigned_in.get("/stream")
    assert b"".join([part async for part in response]) == b"xxx"
    assert_streamed_in_one_changeset()


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_async_stream_under_wsgi(signed_in: Client) -> None:
    response = signed_in.get("/astream")
    assert b"".join(response) == b"xxx"
    response.close()
    assert_streamed_in_one_changeset()


def test_sync_stream_that_is_not_read_to_its_end() -> None:
    """The client hangs up: closing runs the body's `finally` in its changeset, and lets the request go."""
    response = run(stream_view, request_with("ann"))
    parts = iter(response)
    next(parts)
    response.close()
    assert [seen.context.reason for seen in SEEN] == [None, "chunk 0", None]
    assert len({seen.changeset for seen in SEEN}) == 1
    assert users() == ["ann"] * 3


async def test_async_stream_that_is_not_read_to_its_end() -> None:
    """As an ASGI server does that is told of a disconnect: the response's iterator is closed, then let go."""
    handler = HistoryMiddleware(astream_view)
    response = await handler(request_with("ann"))
    parts = aiter(response)
    await anext(parts)
    await parts.aclose()
    del parts, response
    gc.collect()
    for _ in range(20):
        await asyncio.sleep(0)
    assert [seen.context.reason for seen in SEEN] == [None, "chunk 0", None]
    assert len({seen.changeset for seen in SEEN}) == 1
    assert users() == ["ann"] * 3


async def test_async_stream_that_is_cancelled_in_the_body() -> None:
    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.sleep(30)
        finally:
            write()

    async def view(request: HttpRequest) -> StreamingHttpResponse:
        write()
        return StreamingHttpResponse(body())

    response = await run(view, request_with("ann"))

    async def consume() -> None:
        async for _ in response:
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len({seen.changeset for seen in SEEN}) == 1
    assert users() == ["ann"] * 2


def test_stream_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    def body() -> Iterator[bytes]:
        write()
        yield b"x"
        raise KeyError("body")

    response = run(lambda _: StreamingHttpResponse(body()), request_with("ann"))
    with pytest.raises(KeyError):
        list(response)
    response.close()
    assert users() == ["ann"]


def test_two_streams_in_turns() -> None:
    """One thread that serves two bodies chunk by chunk does not mix them."""
    bodies = [iter(run(stream_view, request_with(name))) for name in ("ann", "bob")]
    SEEN.clear()
    for _ in range(3):
        for body in bodies:
            next(body)
            assert current_changeset() is None
    by_user = {
        label: {seen.changeset for seen in SEEN if str(seen.context.user) == label}
        for label in ("ann", "bob")
    }
    assert [len(ids) for ids in by_user.values()] == [1, 1]
    assert by_user["ann"] != by_user["bob"]
    assert len(SEEN) == 10
    for body in bodies:
        list(body)


def test_stream_that_nobody_reads_lets_the_resolver_go() -> None:
    calls: list[int] = []

    class Own(HistoryMiddleware):
        def get_user(self, request: HttpRequest) -> Any:
            calls.append(1)
            return "ann"

    def view(request: HttpRequest) -> StreamingHttpResponse:
        OUTLIVING.append(contextvars.copy_context())
        return StreamingHttpResponse([b"x"])

    response = run(view, request_with(), Own)
    response.close()
    assert OUTLIVING[0].run(capture_context).context.user is None
    assert not calls


def test_file_keeps_its_place(client: Client) -> None:
    """A server's sendfile finds the file, and it is closed with the response."""
    response = run(file_view, request_with())
    file = response.file_to_stream
    assert file is not None
    assert b"".join(response) == Path(__file__).read_bytes()
    response.close()
    assert file.closed


# --- many at once ---


@pytest.mark.parametrize("url", ["/mark", "/sync-mark"])
async def test_fifty_requests_at_once_in_one_loop(url: str, transactional_db: None) -> None:
    """Every write is its own request's, whatever runs beside it."""
    client = AsyncClient()
    answers = await asyncio.gather(*(client.get(f"{url}/{n}") for n in range(50)))
    assert [set(answer.json()["labels"]) for answer in answers] == [{str(n)} for n in range(50)]
    assert len({answer.json()["changeset"] for answer in answers}) == 50


def test_fifty_requests_in_threads() -> None:
    labels: dict[str, list[str | None]] = {}
    everybody_is_in = threading.Barrier(50)

    def view(request: HttpRequest) -> HttpResponse:
        everybody_is_in.wait(30)
        seen = capture_context().context
        labels[str(request.user)] = [seen.user.label if seen.user else None]
        return HttpResponse()

    handler = HistoryMiddleware(view)
    threads = [threading.Thread(target=handler, args=(request_with(str(n)),)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert labels == {str(n): [str(n)] for n in range(50)}


async def test_async_factory_request() -> None:
    request = AsyncRequestFactory().get("/x")
    await run(async_view, request)
    assert SEEN[0].context.request is not None
    assert SEEN[0].context.request.path == "/x"
