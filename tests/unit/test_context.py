"""Context: who and why, in blocks that nest, in threads and in tasks. No Django, no server."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import logging
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from bson import Binary, Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.context import (
    UNSET,
    append_change_info,
    capture_context,
    consume_appended,
    current_changeset,
    extra_change_info,
    is_suppressed,
    open_changeset,
    rationale,
    suppress_history,
    user_ref,
)
from django_mongo_history.context.blocks import MAX_NOTED_DOCUMENTS
from django_mongo_history.context.frames import current
from django_mongo_history.core.model import Context, DocumentKey, RequestRef, UserRef
from tests.naming import stable

KEY = DocumentKey("db.airports", "EDDF")
OTHER_KEY = DocumentKey("db.airports", "LFPG")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Every test must leave the context as it was: empty."""

    def emptiness() -> tuple[Any, ...]:
        frame = current.get()
        return (
            frame.outer,
            frame.changeset,
            frame.reason,
            dict(frame.extra),
            frame.suppressed,
            frame.user.now(),
        )

    assert emptiness() == (None, None, None, {}, None, None)
    yield
    assert emptiness() == (None, None, None, {}, None, None)


class FakeUser:
    """As Django's users look from outside."""

    class _meta:  # noqa: N801 - Django's name
        label_lower = "auth.user"

    is_authenticated = True

    def __init__(self, pk: Any, name: str) -> None:
        self.pk = pk
        self.name = name

    def get_username(self) -> str:
        return self.name


class MongoUser:
    """As MongoEngine's users look: `_meta` is a dict."""

    _meta = {"collection": "users"}
    is_authenticated = True

    def __init__(self, pk: Any) -> None:
        self.pk = pk

    def __str__(self) -> str:
        return "mo"


class Anonymous:
    pk = None
    is_authenticated = False


def context() -> Context:
    return capture_context().context


class TestChangeset:
    def test_gives_its_id_to_every_write_in_it(self) -> None:
        """All writes of a block belong to one changeset."""
        with open_changeset() as changeset:
            assert {capture_context().changeset, capture_context().changeset, current_changeset()} == {
                changeset
            }

    def test_without_one_every_write_is_its_own(self) -> None:
        """Outside of any changeset each write has a fresh one."""
        assert current_changeset() is None
        assert capture_context().changeset != capture_context().changeset

    def test_carries_what_it_was_given(self) -> None:
        request = RequestRef("r1", "POST", "/airports")
        with open_changeset(
            user="ann", remote_addr="192.0.2.1", reason="why", extra={"a": 1}, request=request
        ):
            assert context() == Context(UserRef("ann", "ann"), "192.0.2.1", "why", {"a": 1}, request)
        assert context() == Context()

    def test_nested_inherits_what_is_not_given(self) -> None:
        """An inner changeset has an id of its own, the outer's facts, and merged extra."""
        with open_changeset(user="ann", reason="outer", extra={"a": 1, "b": 1}) as outer:
            with open_changeset(reason="inner", extra={"b": 2}) as inner:
                assert inner != outer
                assert context() == Context(UserRef("ann", "ann"), None, "inner", {"a": 1, "b": 2})
            assert capture_context().changeset == outer
            assert context() == Context(UserRef("ann", "ann"), None, "outer", {"a": 1, "b": 1})

    def test_nested_can_take_a_value_away(self) -> None:
        """None is a value: nobody, not 'as outside'."""
        with (
            open_changeset(user="ann", reason="r", remote_addr="::1"),
            open_changeset(user=None, reason=None, remote_addr=None),
        ):
            assert context() == Context()

    def test_continues_one_begun_elsewhere(self) -> None:
        """A worker can write into its sender's changeset, which is nested in itself without harm."""
        begun = ObjectId()
        with open_changeset(changeset=begun, user="ann"):
            with open_changeset(changeset=begun, user="bob"):
                assert capture_context().changeset == begun
            assert context().user == UserRef("ann", "ann")

    def test_the_same_block_can_be_entered_again_and_mints_an_id_each_time(self) -> None:
        block = open_changeset(user="ann")
        with block as first, block as second:
            assert first != second
            assert capture_context().changeset == second
        with block as third:
            assert third not in {first, second}

    def test_ends_when_an_exception_passes(self) -> None:
        with pytest.raises(KeyError), open_changeset(user="ann"), rationale("r"):
            raise KeyError
        assert context() == Context()

    def test_yielding_maps_what_the_block_gives(self) -> None:
        with open_changeset().yielding(str) as text:
            assert text == str(current_changeset())

    @pytest.mark.parametrize(
        "wrong",
        [{"reason": 7}, {"remote_addr": b"::1"}, {"request": "r1"}, {"user": object()}, {"user": True}],
        ids=stable,
    )
    def test_refuses_what_no_version_can_carry(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match=next(iter(wrong))):
            open_changeset(**wrong)

    def test_a_reason_that_is_no_utf8_is_refused(self) -> None:
        with pytest.raises(ValueError, match="reason"):
            rationale("\ud800")


class TestUser:
    @pytest.mark.parametrize(
        ("user", "expected"),
        [
            (None, None),
            (UserRef(3, "ann", "auth.user"), UserRef(3, "ann", "auth.user")),
            (FakeUser(3, "ann"), UserRef(3, "ann", "auth.user")),
            (MongoUser(ObjectId("5" * 24)), UserRef(ObjectId("5" * 24), "mo", "MongoUser")),
            (Anonymous(), None),
            ("ann", UserRef("ann", "ann")),
            (7, UserRef(7, "7")),
            (ObjectId("5" * 24), UserRef(ObjectId("5" * 24), "5" * 24)),
            (FakeUser(Decimal("1.5"), "d"), UserRef("1.5", "d", "auth.user")),
            (FakeUser(2**70, "big"), UserRef(str(2**70), "big", "auth.user")),
            (FakeUser(1, "a\ud800"), UserRef(1, "a?", "auth.user")),
        ],
        ids=stable,
    )
    def test_becomes_plain_values(self, user: Any, expected: UserRef | None) -> None:
        assert user_ref(user) == expected

    def test_a_uuid_becomes_what_mongodb_stores(self) -> None:
        key = uuid4()
        assert user_ref(FakeUser(key, "u")) == UserRef(Binary.from_uuid(key), "u", "auth.user")
        assert user_ref(key) == UserRef(Binary.from_uuid(key), str(key))

    def test_is_asked_for_at_each_write(self) -> None:
        """Whoever is the user when the write happens is the one."""
        users = iter(["ann", "bob"])
        with open_changeset(resolve_user=lambda: next(users)):
            assert [context().user, context().user] == [UserRef("ann", "ann"), UserRef("bob", "bob")]

    def test_is_not_asked_for_without_a_write(self) -> None:
        with open_changeset(resolve_user=lambda: pytest.fail("asked")):
            pass

    def test_that_cannot_be_had_is_none_and_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        """A write does not fail because nobody can say whose it is."""
        with open_changeset(resolve_user=lambda: 1 / 0):
            assert context().user is None
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert caplog.records[0].exc_info

    def test_a_resolver_that_writes_does_not_wait_for_itself(self) -> None:
        """Loading the user may write a session: that write has no user, and there is no endless recursion."""
        inner: list[UserRef | None] = []

        def resolve() -> str:
            inner.append(context().user)
            return "ann"

        with open_changeset(resolve_user=resolve):
            assert context().user == UserRef("ann", "ann")
        assert inner == [None]

    def test_after_the_end_is_the_last_one_known(self) -> None:
        """Work that outlives its request never calls the request's resolver, and keeps the user."""
        calls: list[int] = []
        with open_changeset(resolve_user=lambda: calls.append(1) or "ann") as changeset:
            context()
            outliving = contextvars.copy_context()
        late = outliving.run(capture_context)
        assert (late.changeset, late.context.user, len(calls)) == (changeset, UserRef("ann", "ann"), 1)

    def test_after_the_end_is_none_where_no_write_asked(self) -> None:
        with open_changeset(resolve_user=lambda: pytest.fail("dead resolver called")):
            outliving = contextvars.copy_context()
        assert outliving.run(context).user is None

    def test_nested_changeset_keeps_the_resolver_alive(self) -> None:
        """Only the block that brought the resolver lets it go."""
        with open_changeset(resolve_user=lambda: "ann"):
            with open_changeset():
                pass
            assert context().user == UserRef("ann", "ann")


class TestReasonAndExtra:
    def test_inner_reason_stands_in_for_the_outer(self) -> None:
        with rationale("outer"):
            with rationale("inner"):
                assert context().reason == "inner"
            assert context().reason == "outer"

    def test_extra_is_merged_and_restored(self) -> None:
        with extra_change_info(a=1, b=1):
            with extra_change_info(b=2, c={"d": [3]}):
                assert context().extra == {"a": 1, "b": 2, "c": {"d": [3]}}
            assert context().extra == {"a": 1, "b": 1}

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            (object(), TypeError),
            ({1, 2}, TypeError),
            (2**70, ValueError),
            ({"in": Decimal(1)}, TypeError),
            ({1: 2}, TypeError),
        ],
        ids=stable,
    )
    def test_extra_that_bson_cannot_hold_is_refused_at_once(self, value: Any, error: type[Exception]) -> None:
        """The mistake is found where it is made, by its key, and not when a document is saved."""
        for refused in (
            partial(extra_change_info, ok=1, ticket=value),
            partial(open_changeset, extra={"ok": 1, "ticket": value}),
            partial(append_change_info, KEY, {"ok": 1, "ticket": value}),
        ):
            with pytest.raises(error, match=r"\['ticket'\]"):
                refused()

    def test_a_circle_is_refused(self) -> None:
        circle: dict[str, Any] = {}
        circle["self"] = circle
        with pytest.raises(ValueError, match="circle"):
            extra_change_info(circle=circle)

    def test_extra_keys_are_text(self) -> None:
        with pytest.raises(TypeError, match="expected text"):
            open_changeset(extra={1: 2})  # type: ignore[dict-item]

    def test_extra_is_a_copy(self) -> None:
        """What is changed after it was handed over does not change the versions."""
        tags = ["a"]
        with extra_change_info(tags=tags):
            tags.append("b")
            assert context().extra == {"tags": ["a"]}

    def test_extra_keeps_bson_types(self) -> None:
        given = {
            "at": datetime(2026, 1, 2, tzinfo=UTC),
            "n": Int64(1),
            "f": 1.0,
            "d": Decimal128("1.10"),
            "u": uuid4(),
        }
        with extra_change_info(**given):
            extra = context().extra
        assert {name: type(value) for name, value in extra.items()} == {
            "at": datetime,
            "n": Int64,
            "f": float,
            "d": Decimal128,
            "u": Binary,
        }
        assert extra["at"] == given["at"]

    def test_a_captured_context_is_the_writes_own(self) -> None:
        with extra_change_info(a=1):
            taken = context()
            assert isinstance(taken.extra, dict)
            taken.extra["a"] = 2
            assert context().extra == {"a": 1}


class TestSuppression:
    def test_is_on_inside_only(self) -> None:
        with suppress_history("import"):
            with suppress_history("inner"):
                assert is_suppressed()
            assert is_suppressed()
        assert not is_suppressed()

    def test_lasts_in_a_changeset_that_begins_inside(self) -> None:
        with suppress_history("import"), open_changeset():
            assert is_suppressed()

    def test_tells_the_log_why(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="django_mongo_history"):
            block = suppress_history("nightly import")
            assert not caplog.records
            with block:
                pass
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("django_mongo_history", logging.INFO)
        assert "nightly import" in record.getMessage()

    @pytest.mark.parametrize("reason", ["", "  "])
    def test_needs_a_reason(self, reason: str) -> None:
        with pytest.raises(ValueError, match="reason"):
            suppress_history(reason)

    def test_needs_a_reason_that_is_text(self) -> None:
        with pytest.raises(TypeError, match="reason"):
            suppress_history(None)  # type: ignore[arg-type]

    def test_a_bare_decorator_is_told(self) -> None:
        """`@rationale` without a reason must not pass for a block named after the function."""
        with pytest.raises(TypeError, match="expected text"):

            @rationale  # type: ignore[arg-type]
            def view() -> None: ...


class TestAppendedInfo:
    def test_is_for_that_document_only(self) -> None:
        append_change_info(KEY, {"a": 1})
        assert capture_context(OTHER_KEY).context.extra == {}
        assert capture_context().context.extra == {}
        assert capture_context(KEY).context.extra == {"a": 1}
        consume_appended(KEY)

    def test_is_for_the_next_version_only(self) -> None:
        """A write that is tried again carries it again; a version that is stored takes it away."""
        append_change_info(KEY, {"a": 1})
        append_change_info(KEY, {"b": 2})
        assert capture_context(KEY).context.extra == capture_context(KEY).context.extra == {"a": 1, "b": 2}
        consume_appended(KEY)
        assert capture_context(KEY).context.extra == {}

    def test_goes_over_the_extra_of_blocks(self) -> None:
        with extra_change_info(a=1, b=1):
            append_change_info(KEY, {"b": 2})
            assert capture_context(KEY).context.extra == {"a": 1, "b": 2}
            consume_appended(KEY)
            assert capture_context(KEY).context.extra == {"a": 1, "b": 1}

    def test_is_dropped_with_its_changeset(self) -> None:
        with open_changeset():
            append_change_info(KEY, {"a": 1})
            outliving = contextvars.copy_context()
        assert capture_context(KEY).context.extra == {}
        assert outliving.run(capture_context, KEY).context.extra == {}

    def test_outlasts_a_rationale(self) -> None:
        """Only changesets bound it, not every block."""
        with open_changeset():
            with rationale("r"):
                append_change_info(KEY, {"a": 1})
            assert capture_context(KEY).context.extra == {"a": 1}

    def test_taken_by_an_inner_changeset_is_gone_outside(self) -> None:
        with open_changeset():
            append_change_info(KEY, {"a": 1})
            with open_changeset():
                assert capture_context(KEY).context.extra == {"a": 1}
                consume_appended(KEY)
            assert capture_context(KEY).context.extra == {}

    def test_that_an_inner_changeset_did_not_take_is_still_there(self) -> None:
        with open_changeset():
            append_change_info(KEY, {"a": 1})
            with open_changeset():
                append_change_info(KEY, {"inner": 1})
            assert capture_context(KEY).context.extra == {"a": 1}

    async def test_is_taken_by_one_task_only(self) -> None:
        """Two tasks have copied the context; one version carries the info."""

        async def write() -> dict[str, Any]:
            extra = dict(capture_context(KEY).context.extra)
            consume_appended(KEY)
            return extra

        with open_changeset():
            append_change_info(KEY, {"a": 1})
            written = await asyncio.gather(write(), write())
        assert sorted(map(len, written)) == [0, 1]

    async def test_of_one_task_is_not_seen_by_another(self) -> None:
        async def write(name: str) -> Any:
            append_change_info(KEY, {"by": name})
            await asyncio.sleep(0)
            return capture_context(KEY).context.extra["by"]

        with open_changeset():
            assert await asyncio.gather(*(write(str(n)) for n in range(5))) == [str(n) for n in range(5)]

    @pytest.mark.parametrize(
        ("noted", "written"),
        [
            (1, Int64(1)),
            (1, 1.0),
            ({"a": 1}, {"a": 1}),
            (uuid := UUID(int=2**127 + 5), Binary.from_uuid(uuid)),
            ([1], [1]),
        ],
        ids=repr,
    )
    def test_finds_its_document_by_what_mongodb_calls_the_same_id(self, noted: Any, written: Any) -> None:
        with open_changeset():
            append_change_info(DocumentKey("db.c", noted), {"a": 1})
            assert capture_context(DocumentKey("db.c", written)).context.extra == {"a": 1}

    @pytest.mark.parametrize(
        ("noted", "written"), [(1, True), (1, "1"), ({"a": 1}, {"a": 2}), (ObjectId("5" * 24), "5" * 24)]
    )
    def test_does_not_mistake_another_id(self, noted: Any, written: Any) -> None:
        with open_changeset():
            append_change_info(DocumentKey("db.c", noted), {"a": 1})
            assert capture_context(DocumentKey("db.c", written)).context.extra == {}

    def test_is_bounded(self, caplog: pytest.LogCaptureFixture) -> None:
        """A script that notes and never writes does not grow; the oldest goes first, and is told."""
        with open_changeset():
            for number in range(MAX_NOTED_DOCUMENTS + 1):
                append_change_info(DocumentKey("db.c", number), {"n": number})
            assert len(current.get().notes) == MAX_NOTED_DOCUMENTS
            assert capture_context(DocumentKey("db.c", 0)).context.extra == {}
            assert capture_context(DocumentKey("db.c", MAX_NOTED_DOCUMENTS)).context.extra == {
                "n": MAX_NOTED_DOCUMENTS
            }
        assert "dropped" in caplog.text


class TestDecorator:
    def test_covers_a_function_and_keeps_its_face(self) -> None:
        @rationale("because")
        def change(a: int, *, b: int) -> tuple[int, str | None]:
            """What it does."""
            return a + b, context().reason

        assert change(1, b=2) == (3, "because")
        assert (change.__name__, change.__doc__) == ("change", "What it does.")

    async def test_covers_an_async_function_until_its_end(self) -> None:
        @rationale("because")
        async def change() -> tuple[str | None, str | None]:
            before = context().reason
            await asyncio.sleep(0)
            return before, context().reason

        assert await change() == ("because", "because")

    async def test_covers_an_async_function_in_disguise(self) -> None:
        class View:
            async def __call__(self) -> str | None:
                await asyncio.sleep(0)
                return context().reason

        assert await rationale("because")(View())() == "because"
        assert await rationale("because")(partial(View()))() == "because"

    def test_each_call_is_a_changeset(self) -> None:
        @open_changeset(user="ann")
        def change(depth: int) -> list[ObjectId | None]:
            return [current_changeset(), *(change(depth - 1) if depth else [])]

        assert len({*change(2), *change(2)}) == 6

    async def test_concurrent_calls_do_not_mix(self) -> None:
        @open_changeset()
        async def change(delay: int) -> bool:
            mine = current_changeset()
            for _ in range(delay):
                await asyncio.sleep(0)
            return mine == current_changeset()

        assert all(await asyncio.gather(*(change(n % 5) for n in range(20))))

    def test_refuses_generators(self) -> None:
        """A generator runs in its caller's context, after the call: the block would cover nothing."""

        def generator() -> Iterator[int]:
            yield 1

        async def agenerator() -> AsyncIterator[int]:
            yield 1

        for function in (generator, agenerator):
            with pytest.raises(TypeError, match="is a generator"):
                rationale("r")(function)

    @pytest.mark.parametrize("thing", [FakeUser, staticmethod(len), classmethod(len), 7], ids=repr)
    def test_refuses_what_is_no_function(self, thing: Any) -> None:
        with pytest.raises(TypeError, match="no function"):
            rationale("r")(thing)

    def test_restores_when_the_function_raises(self) -> None:
        @suppress_history("r")
        def change() -> None:
            raise KeyError

        with pytest.raises(KeyError):
            change()
        assert not is_suppressed()


class TestConcurrency:
    def test_fifty_threads_have_their_own(self) -> None:
        """Thread by thread the context is its own, however they interleave."""
        everybody_is_in = threading.Barrier(50)

        def work(name: str) -> tuple[UserRef | None, str | None, Context]:
            with open_changeset(user=name), rationale(f"why {name}"):
                everybody_is_in.wait(30)
                inside = context()
                everybody_is_in.wait(30)
            return inside.user, inside.reason, context()

        with ThreadPoolExecutor(50) as pool:
            seen = list(pool.map(work, map(str, range(50))))
        assert seen == [(UserRef(str(n), str(n)), f"why {n}", Context()) for n in range(50)]

    async def test_fifty_tasks_have_their_own(self) -> None:
        async def work(name: str) -> tuple[UserRef | None, ObjectId | None, ObjectId, Context]:
            with open_changeset(user=name) as changeset:
                for _ in range(int(name) % 7):
                    await asyncio.sleep(0)
                threaded = await sync_to_async(context)()
                assert threaded == context()
                found = current_changeset()
            return threaded.user, found, changeset, context()

        seen = await asyncio.gather(*(work(str(n)) for n in range(50)))
        assert [user for user, *_ in seen] == [UserRef(str(n), str(n)) for n in range(50)]
        assert all(found == changeset for _, found, changeset, _ in seen)
        assert len({changeset for _, _, changeset, _ in seen}) == 50
        assert all(after == Context() for *_, after in seen)

    def test_one_block_shared_by_threads(self) -> None:
        """A decorator is one object for all threads that call the function."""
        shared = open_changeset(user="ann")
        both_are_in = threading.Barrier(2)

        def work(_: int) -> tuple[ObjectId, ObjectId | None, ObjectId | None]:
            with shared as changeset:
                both_are_in.wait(30)
                return changeset, current_changeset(), None

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(work, range(2))
        assert first[0] == first[1] != second[0] == second[1]

    async def test_sync_to_async_and_back(self) -> None:
        def middle() -> tuple[str | None, str | None]:
            with rationale("thread"):
                return async_to_sync(inner)(), context().reason

        async def inner() -> str | None:
            return context().reason

        with rationale("loop"):
            assert await sync_to_async(middle)() == ("thread", "thread")
            assert context().reason == "loop"

    async def test_to_thread_sees_it(self) -> None:
        with open_changeset(user="ann"):
            assert (await asyncio.to_thread(context)).user == UserRef("ann", "ann")

    async def test_info_appended_in_a_thread_comes_back(self) -> None:
        """A sync view appends, async code around it writes."""
        with open_changeset():
            await sync_to_async(append_change_info)(KEY, {"a": 1})
            assert capture_context(KEY).context.extra == {"a": 1}


def _suspended(block: Any) -> Iterator[None]:
    with block:
        yield


class TestLeaving:
    def test_leaving_in_the_wrong_order_leaves_nothing_behind(self) -> None:
        """Generators may end in any order: the block that is still open keeps its say, and then all is empty."""
        first, second = _suspended(open_changeset(user="ann")), _suspended(rationale("second"))
        next(first)
        next(second)
        first.close()
        assert context().reason == "second"
        second.close()
        assert current_changeset() is None

    def test_leaving_in_another_context_harms_nobody(self) -> None:
        """A fixture or generator that is torn down elsewhere neither raises nor changes what is in force there."""
        generator = _suspended(open_changeset(user="ann"))
        contextvars.copy_context().run(next, generator)
        with rationale("mine"):
            generator.close()
            assert context().reason == "mine"

    def test_leaving_in_a_copy_of_the_context_leaves_there(self) -> None:
        generator = _suspended(rationale("r"))
        began = contextvars.copy_context()
        began.run(next, generator)
        later = began.copy()
        later.run(generator.close)
        assert later.run(context).reason is None


class TestCarriedBlock:
    def test_is_in_force_in_its_steps_only(self) -> None:
        carried = open_changeset(user="ann").carried()
        assert current_changeset() is None
        for _ in range(2):
            with carried.step() as changeset:
                assert (current_changeset(), changeset) == (carried.value, carried.value)
            assert current_changeset() is None
        carried.end()

    def test_a_block_left_open_by_a_step_is_open_in_the_next(self) -> None:
        carried = open_changeset().carried()
        generator = _suspended(rationale("spans steps"))
        with carried.step():
            next(generator)
        assert context().reason is None
        with carried.step():
            assert context().reason == "spans steps"
            generator.close()
            assert context().reason is None

    def test_steps_run_in_any_thread(self) -> None:
        carried = open_changeset(user="ann").carried()

        def step() -> tuple[ObjectId | None, ObjectId | None]:
            with carried.step():
                inside = current_changeset()
            return inside, current_changeset()

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(step).result() == step() == (carried.value, None)

    def test_end_lets_the_resolver_go_and_keeps_the_user(self) -> None:
        calls: list[int] = []
        carried = open_changeset(resolve_user=lambda: calls.append(1) or "ann").carried()
        with carried.step():
            context()
        carried.end()
        carried.end()
        with carried.step():
            assert context().user == UserRef("ann", "ann")
        assert len(calls) == 1

    @pytest.mark.parametrize(
        ("glance", "expected"),
        [(lambda: "bob", UserRef("bob", "bob")), (lambda: UNSET, None), (lambda: 1 / 0, None)],
    )
    def test_end_glances_at_the_user_for_those_who_outlive_it(
        self, glance: Callable[[], Any], expected: UserRef | None
    ) -> None:
        carried = open_changeset(resolve_user=lambda: "ann").carried()
        carried.end(glance)
        with carried.step():
            assert context().user == expected

    def test_end_does_not_glance_where_a_write_has_asked(self) -> None:
        carried = open_changeset(resolve_user=lambda: "ann").carried()
        with carried.step():
            context()
        carried.end(lambda: "bob")
        with carried.step():
            assert context().user == UserRef("ann", "ann")

    def test_end_drops_appended_info(self) -> None:
        carried = open_changeset().carried()
        with carried.step():
            append_change_info(KEY, {"a": 1})
        with carried.step():
            assert capture_context(KEY).context.extra == {"a": 1}
        carried.end()
        with carried.step():
            assert capture_context(KEY).context.extra == {}


@given(
    st.lists(
        st.tuples(st.sampled_from(["changeset", "reason", "extra", "suppress"]), st.integers(0, 3)),
        max_size=12,
    )
)
def test_any_nesting_is_undone_step_by_step(steps: list[tuple[str, int]]) -> None:
    """After leaving n blocks the context is what it was before entering them."""
    makers: dict[str, Callable[[int], Any]] = {
        "changeset": lambda n: open_changeset(user=n),
        "reason": lambda n: rationale(str(n)),
        "extra": lambda n: extra_change_info(**{str(n): n}),
        "suppress": lambda n: suppress_history(str(n)),
    }

    def now() -> tuple[Any, ...]:
        return current_changeset(), context(), is_suppressed()

    seen, blocks = [now()], []
    for kind, number in steps:
        blocks.append(makers[kind](number))
        blocks[-1].__enter__()
        seen.append(now())
    while blocks:
        assert now() == seen.pop()
        blocks.pop().__exit__(None, None, None)
    assert now() == seen.pop()


def test_what_is_captured_can_be_sent_away() -> None:
    """A version is delivered by other processes: its context is plain."""
    with open_changeset(user="ann", extra={"a": [1]}):
        captured = capture_context()
    assert pickle.loads(pickle.dumps(captured)) == copy.deepcopy(captured) == captured
