"""What a task inherits: the text that carries it, exactly or not at all, and the context of a task while it runs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import contextvars
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from django_mongo_history.context import (
    HeaderError,
    Inherited,
    append_change_info,
    begin_task,
    begin_task_inside,
    capture_context,
    current_changeset,
    decode_header,
    encode_header,
    end_task,
    extra_change_info,
    inheritance,
    is_suppressed,
    open_changeset,
    open_scope,
    rationale,
    scope_of,
    still_to_ask,
    suppress_history,
)
from django_mongo_history.context.frames import current
from django_mongo_history.context.header import MAX_BYTES
from django_mongo_history.core import values
from django_mongo_history.core.finders import Finders
from django_mongo_history.core.model import Context, DocumentKey, RequestRef, TaskRef, UserRef
from tests import strategies

TASK = TaskRef("t-1", "shop.tasks.halve")
OTHER = TaskRef("t-2", "shop.tasks.double")
KEY = DocumentKey("db.airports", "EDDF")
WHO = Inherited(
    Context(
        UserRef(Int64(7), "ann", "auth.user"),
        "192.0.2.1",
        "why",
        {"ticket": "OPS-12"},
        RequestRef("r-1", "POST", "/airports"),
    ),
    ObjectId(),
)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Every test must leave the context as it was: empty."""
    assert current.get().opener is None
    yield
    assert current.get().opener is None


def context() -> Context:
    return capture_context().context


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def inheritances(draw: st.DrawFn) -> Inherited:
    """All that can be inherited, with values of every BSON type in `extra` and as a user's key."""
    extra = draw(strategies.documents.map(values.decode_any).filter(lambda found: isinstance(found, dict)))
    user = draw(st.none() | st.builds(UserRef, st.just(extra.get("_id", 1)), texts, st.none() | texts))
    return Inherited(
        Context(
            user,
            draw(st.none() | texts),
            draw(st.none() | texts),
            extra,
            draw(st.none() | st.builds(RequestRef, texts, texts, texts)),
        ),
        draw(st.none() | st.builds(ObjectId, st.binary(min_size=12, max_size=12))),
        draw(st.frozensets(st.sampled_from(["user", "remote_addr"]))),
    )


def exactly(inherited: Inherited) -> tuple[bytes, Any, Any]:
    """In a form that tells `1` from `1.0`."""
    return values.encode(inherited.context.to_bson()), inherited.changeset, inherited.given


class TestHeader:
    @given(inheritances())
    def test_comes_back_exactly(self, inherited: Inherited) -> None:
        """Every value with its BSON type, its bits and its order of keys."""
        text, left_out = encode_header(inherited, max_bytes=2**30)
        assert exactly(decode_header(json.loads(json.dumps(text)))) == exactly(inherited)
        assert left_out == []

    def test_each_type_comes_back_exactly(self) -> None:
        """As before, for types that a reader of this test can see."""
        extra = {
            "int": 1,
            "long": Int64(1),
            "double": 1.0,
            "bool": True,
            "nan": float("nan"),
            "decimal": Decimal128("1.10"),
            "binary": Binary(b"\x00\xff", 5),
            "bytes": b"\x00",
            "id": ObjectId(),
            "at": datetime(2026, 2, 8, 23, 3, tzinfo=UTC),
            "regex": Regex("a", "i"),
            "code": Code("f()"),
            "scoped": Code("f()", {"x": Int64(2)}),
            "timestamp": Timestamp(1, 2),
            "extremes": [MinKey(), MaxKey(), None],
            "document": {"b": 1, "a": 2},
            "": "\U0001f6eb",
        }
        inherited = Inherited(Context(extra=extra))
        assert exactly(decode_header(encode_header(inherited)[0])) == exactly(inherited)

    @given(inheritances(), st.integers(min_value=200, max_value=2000))
    def test_is_never_larger_than_its_bound(self, inherited: Inherited, max_bytes: int) -> None:
        """What it leaves out is named, and what it has is what it was."""
        text, left_out = encode_header(inherited, max_bytes=max_bytes)
        assert len(base64.b64decode(text.partition(":")[2])) <= max_bytes
        found, whole = decode_header(text), inherited.context
        assert found.changeset == inherited.changeset
        assert {f"extra[{name!r}]" for name in whole.extra if name not in found.context.extra} == {
            name for name in left_out if name.startswith("extra[")
        }
        parts = ("reason", "request", "remote_addr", "user")
        kept = Context(**{name: None if name in left_out else getattr(whole, name) for name in parts})
        # As bytes: NaN equals nothing as a value.
        assert values.encode(replace(found.context, extra={}).to_bson()) == values.encode(kept.to_bson())

    def test_leaves_out_the_largest_extra_first(self) -> None:
        """And the user last."""
        told = Context(UserRef(1, "ann"), None, "why", {"small": "x", "large": "y" * MAX_BYTES, "other": "z"})
        text, left_out = encode_header(Inherited(told))
        assert left_out == ["extra['large']"]
        assert decode_header(text).context == Context(
            UserRef(1, "ann"), None, "why", {"small": "x", "other": "z"}
        )

    def test_a_user_that_is_too_large_is_nobody(self) -> None:
        """Then the task may find out itself, so `given` does not say that a block has told."""
        huge = Inherited(
            Context(UserRef("x" * MAX_BYTES), "192.0.2.1", "y" * MAX_BYTES), given=frozenset({"user"})
        )
        text, left_out = encode_header(huge)
        assert left_out == ["reason", "remote_addr", "user"]
        assert decode_header(text) == Inherited(Context())

    @pytest.mark.parametrize(
        "stored",
        [
            {"user": 1},
            {"user": {"pk": 1, "label": 2}},
            {"user": {"pk": 1, "model": 2}},
            {"remote_addr": 1},
            {"reason": b"why"},
            {"extra": []},
            {"request": "r-1"},
            {"request": {"id": 1}},
            {"changeset": "6b025bdaea085b889fc9e71b"},
            {"given": {"user": 1}},
            {"given": ["everything"]},
            {"given": [1]},
            {"given": [[]]},
            {"given": [Code("user")]},
        ],
        ids=str,
    )
    def test_another_shape_is_refused(self, stored: dict[str, Any]) -> None:
        text = f"1:{base64.b64encode(values.encode(stored)).decode()}"
        with pytest.raises(HeaderError):
            decode_header(text)

    @pytest.mark.parametrize(
        "header", ["", "1", "1:", "1:!", "1:AAAA", "2:AAAA", "secret", None, 1, b"1:", {}, []]
    )
    def test_what_is_no_header_is_refused(self, header: Any) -> None:
        """A `HeaderError` and no other, which says nothing of what it held."""
        with pytest.raises(HeaderError) as raised:
            decode_header(header)
        assert "secret" not in str(raised.value)

    @given(st.binary(max_size=200) | strategies.documents)
    def test_whatever_bytes_there_are_nothing_else_is_raised(self, found: bytes) -> None:
        with contextlib.suppress(HeaderError):
            decode_header(f"1:{base64.b64encode(found).decode()}")

    @given(inheritances(), st.data())
    def test_a_damaged_one_raises_nothing_else(self, inherited: Inherited, data: st.DataObject) -> None:
        encoded = bytearray(base64.b64decode(encode_header(inherited)[0].partition(":")[2]))
        for _ in range(data.draw(st.integers(1, 3))):
            encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(HeaderError):
            decode_header(f"1:{base64.b64encode(encoded).decode()}")

    def test_a_document_in_many_documents_is_refused_or_read(self) -> None:
        """Nesting that no decoder can follow is no way to end a worker."""
        nested = b"\x05\x00\x00\x00\x00"
        for _ in range(20_000):
            inner = b"\x03a\x00" + nested
            nested = (len(inner) + 5).to_bytes(4, "little") + inner + b"\x00"
        whole = b"\x03extra\x00" + nested
        whole = (len(whole) + 5).to_bytes(4, "little") + whole + b"\x00"
        with pytest.raises(HeaderError):
            decode_header(f"1:{base64.b64encode(whole).decode()}")


class TestInheritance:
    def test_is_nothing_where_nothing_is_known(self) -> None:
        assert inheritance() is None

    def test_is_what_a_write_would_carry(self) -> None:
        with open_changeset(
            user="ann", remote_addr="192.0.2.1", reason="why", extra={"a": Int64(1)}
        ) as changeset:
            inherited = inheritance()
            assert inherited is not None
            assert (inherited.context, inherited.changeset) == (context(), changeset)
            assert inherited.given == {"user", "remote_addr"}

    def test_goes_without_a_changeset_too(self) -> None:
        with rationale("why"):
            assert inheritance() == Inherited(Context(reason="why"))

    def test_a_changeset_that_says_nothing_is_enough(self) -> None:
        with open_changeset() as changeset:
            assert inheritance() == Inherited(Context(), changeset)

    def test_of_a_request_has_the_user_who_is_known_now(self) -> None:
        """Asked for as at a write."""
        with open_changeset(resolve_user=lambda: "ann", request=RequestRef("r-1")):
            inherited = inheritance()
            assert inherited is not None
            assert (inherited.context.user, inherited.given) == (UserRef("ann", "ann"), frozenset())

    def test_has_neither_suppression_nor_appended_info(self) -> None:
        """They are about writes made here."""
        with open_changeset(reason="why") as changeset, suppress_history("import"):
            append_change_info(KEY, {"scanner": 3})
            inherited = inheritance()
            assert inherited == Inherited(Context(reason="why"), changeset)
            begin_task(TASK, inherited)
            assert not is_suppressed()
            assert capture_context(KEY).context.extra == {}
            end_task(TASK.id)

    def test_has_what_the_finders_of_the_project_say(self) -> None:
        """Of user and address, with `object` as the class; `extra` is for the task to find."""
        asked: list[Any] = []

        def user(document_class: type) -> str:
            asked.append(document_class)
            return "the till"

        finders = Finders(user=(user,), remote_addr=(lambda _: "192.0.2.2",), extra=(lambda _: {"till": 7},))
        with open_changeset(resolve_user=lambda: "ann", remote_addr="192.0.2.1"):
            inherited = inheritance(finders)
        assert inherited is not None
        assert inherited.context == Context(UserRef("the till", "the till"), "192.0.2.2")
        assert asked == [object]

    def test_a_block_outweighs_the_finders(self) -> None:
        finders = Finders(user=(lambda _: "the till",))
        with open_changeset(user="ann"):
            inherited = inheritance(finders)
        assert inherited is not None
        assert inherited.context.user == UserRef("ann", "ann")

    def test_the_finders_of_the_project_are_not_asked_again(self) -> None:
        """In the task; those of `extra` are, and all are in a task that has inherited nothing."""
        finders = Finders(user=(lambda _: "worker",), extra=(lambda _: {"host": "w1"},))
        begin_task(TASK, WHO)
        assert still_to_ask(finders) == Finders(extra=finders.extra)
        end_task(TASK.id)
        begin_task(TASK)
        assert still_to_ask(finders) is finders
        end_task(TASK.id)

    def test_of_a_task_is_passed_on_without_the_task(self) -> None:
        """The next task says itself which one it is."""
        begin_task(TASK, WHO)
        assert inheritance() == WHO
        end_task(TASK.id)


class TestTask:
    def test_has_what_it_inherited_and_says_which_it_is(self) -> None:
        begin_task(TASK, WHO)
        captured = capture_context()
        assert captured.changeset == WHO.changeset
        assert captured.context.task == TASK
        assert captured.context.request == WHO.context.request
        assert captured.context.to_bson() == {
            **WHO.context.to_bson(),
            "task": {"id": "t-1", "name": "shop.tasks.halve"},
        }
        end_task(TASK.id)

    def test_that_inherited_nothing_has_a_changeset_of_its_own(self) -> None:
        begin_task(TASK)
        first, second = capture_context(), capture_context()
        assert first == second
        assert first.context == Context(task=TASK)
        end_task(TASK.id)
        begin_task(OTHER)
        assert current_changeset() != first.changeset
        end_task(OTHER.id)

    def test_sees_nothing_of_what_is_around_it(self) -> None:
        """Where a worker runs in the process of its caller."""
        with open_changeset(user="ann", reason="why", extra={"a": 1}) as around:
            begin_task(TASK)
            assert context() == Context(task=TASK)
            assert current_changeset() != around
            end_task(TASK.id)
            assert (context().user, current_changeset()) == (UserRef("ann", "ann"), around)

    def test_inside_of_its_caller_it_is_a_part_of_it(self) -> None:
        with open_changeset(user="ann", reason="why") as around:
            before = current.get()
            begin_task_inside(TASK)
            assert context() == Context(UserRef("ann", "ann"), None, "why", task=TASK)
            assert current_changeset() == around
            end_task(TASK.id)
            assert current.get() is before

    def test_inside_of_nothing_it_has_a_changeset_of_its_own(self) -> None:
        begin_task_inside(TASK)
        assert capture_context().changeset == current_changeset() is not None
        end_task(TASK.id)
        assert current_changeset() is None

    def test_one_inside_another_names_the_inner_one(self) -> None:
        begin_task(TASK, WHO)
        begin_task_inside(OTHER)
        assert (context().task, current_changeset()) == (OTHER, WHO.changeset)
        end_task(OTHER.id)
        assert context().task == TASK
        end_task(TASK.id)

    def test_the_same_one_may_run_inside_itself(self) -> None:
        """An eager retry has the id of its task."""
        with open_changeset(user="ann"):
            before = current.get()
            begin_task_inside(TASK)
            begin_task_inside(TASK)
            end_task(TASK.id)
            assert context().task == TASK
            end_task(TASK.id)
            assert current.get() is before

    def test_info_for_a_document_goes_on_where_the_task_is_a_part_of_its_caller(self) -> None:
        """As in any block inside of a changeset."""
        with open_changeset():
            begin_task_inside(TASK)
            append_change_info(KEY, {"scanner": 3})
            end_task(TASK.id)
            assert capture_context(KEY).context.extra == {"scanner": 3}

    def test_a_task_whose_end_nobody_told_is_not_seen_in_the_next(self) -> None:
        """Nor anything that it has opened and never closed; and what was there before it is back in the end."""
        begin_task(TASK, WHO)
        open_changeset(user="mallory", reason="left open").__enter__()
        begin_task_inside(TaskRef("t-3", "inner"))
        append_change_info(KEY, {"scanner": 3})
        begin_task(OTHER)
        assert capture_context(KEY).context == Context(task=OTHER)
        end_task(OTHER.id)
        assert context() == Context()

    def test_blocks_that_a_task_leaves_open_end_with_it(self) -> None:
        begin_task(TASK, WHO)
        extra_change_info(a=1).__enter__()
        suppress_history("never closed").__enter__()
        end_task(TASK.id)
        assert (context(), is_suppressed()) == (Context(), False)

    def test_inside_of_its_caller_too(self) -> None:
        """The caller's context is what it was, with the info that the task has appended before."""
        with open_changeset(user="ann"):
            begin_task_inside(TASK)
            append_change_info(KEY, {"scanner": 3})
            with_it = current.get()
            open_changeset(reason="left open").__enter__()
            append_change_info(KEY, {"dropped": 1})
            end_task(TASK.id)
            assert (current.get().opener, current.get().notes) == (with_it.outer.opener, with_it.notes)  # type: ignore[union-attr]
            assert capture_context(KEY).context == Context(UserRef("ann", "ann"), extra={"scanner": 3})

    def test_scopes_that_a_task_leaves_open_end_with_it(self) -> None:
        """In contexts too that were copied inside of it."""
        begin_task(TASK)
        open_scope(lambda: KEY).__enter__()
        inside = contextvars.copy_context()
        assert inside.run(scope_of, KEY, is_create=False) is not None
        end_task(TASK.id)
        assert inside.run(scope_of, KEY, is_create=False) is None

    def test_the_end_of_a_task_that_never_began_is_nothing(self) -> None:
        with open_changeset(user="ann"):
            before = current.get()
            end_task("unknown")
            assert current.get() is before

    def test_tasks_of_one_loop_do_not_share(self) -> None:
        """Context variables, not threads."""

        async def run(number: int) -> list[Any]:
            task = TaskRef(f"t-{number}", "n")
            begin_task(task, Inherited(Context(UserRef(number))))
            seen = []
            for _ in range(5):
                await asyncio.sleep(0)
                seen.append((context().user, context().task))
            end_task(task.id)
            return [*seen, current.get().opener]

        async def all_of_them() -> list[list[Any]]:
            return await asyncio.gather(*(run(number) for number in range(20)))

        for number, seen in enumerate(asyncio.run(all_of_them())):
            assert seen == [(UserRef(number), TaskRef(f"t-{number}", "n"))] * 5 + [None]

    def test_a_user_who_travelled_is_asked_nobody_for(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing of the request is needed, and nothing is logged."""
        with caplog.at_level(logging.DEBUG):
            begin_task(TASK, decode_header(encode_header(WHO)[0]))
            assert context().user == UserRef(Int64(7), "ann", "auth.user")
            end_task(TASK.id)
        assert caplog.records == []
