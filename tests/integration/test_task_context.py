"""Who is behind a task: real workers on a real broker write what a request, a changeset, a script or a beat asked for."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mongoengine
import pytest
import redis
from bson import Decimal128, Int64, ObjectId
from celery import Celery, chain
from django.test import override_settings
from pymongo.database import Database

from django_mongo_history import (
    ReasonRequiredError,
    RecordChanges,
    changeset,
    changesets,
    history_of,
    rationale,
    suppress_history,
    task_context,
)
from django_mongo_history.context import (
    Inherited,
    begin_task,
    capture_context,
    current_changeset,
    decode_header,
    encode_header,
    end_task,
    inheritance,
    open_changeset,
)
from django_mongo_history.context.frames import Frame, current
from django_mongo_history.core.model import Context, RequestRef, TaskRef, UserRef
from management import cli
from testproject.airports.documents import Country
from testproject.airports.tasks import rename_country
from tests import celery_tasks
from tests.celery_parts import MakeWorker, Program, eventually, program_environ
from tests.celery_requests import ADDRESS, CANVAS, Visitor, facts_of_request, requested
from tests.celery_tasks import Seen, see
from tests.judge import HISTORY, configured, tracking

HEADER = task_context.HEADER

Rows = Callable[..., Any]
POOLS = pytest.mark.parametrize("pool", ["solo", "prefork", "threads"])


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    token = current.set(Frame())
    yield
    assert current.get().opener is None
    current.reset(token)


@pytest.fixture
def stored(mongodb: Database[dict[str, Any]], worker: MakeWorker) -> Rows:
    """The row of the version of the document of this name, once a worker has stored it; with `count` a list of rows."""

    def find(name: str, count: int = 0) -> Any:
        def rows() -> list[dict[str, Any]]:
            found = list(mongodb[HISTORY].find({"document_id": name}).sort("_id"))
            return found if len(found) >= max(count, 1) else []

        found = eventually(rows, what=f"{max(count, 1)} versions of {name}")
        assert len(found) == max(count, 1)
        return found if count else found[0]

    return find


def by(result: Any, task: Any) -> dict[str, Any]:
    """What versions carry of a task."""
    return {"task": {"id": result.id, "name": task.name}}


class TestPublishedInARequest:
    @POOLS
    def test_has_all_of_the_request_and_says_which_task_it_is(
        self, pool: str, worker: MakeWorker, stored: Rows
    ) -> None:
        """User, address and request are those of the request, and the changeset is."""
        worker(pool=pool, concurrency=2)
        seen: list[Any] = []

        def view() -> Any:
            seen.append(current_changeset())
            return see.delay("a")

        result = requested(view)
        row = stored("a")
        assert row["context"] == {**facts_of_request(), **by(result, see)}
        assert row["changeset"] == seen[0]

    def test_is_one_changeset_with_what_the_request_wrote_itself(
        self, worker: MakeWorker, stored: Rows, mongodb: Database[dict[str, Any]]
    ) -> None:
        """Found, shown and taken back as one."""
        worker()

        def view() -> Any:
            Country(code="IS", name="Iceland").save()
            rename_country.delay("NO", "Norway")
            return changesets(current_changeset())[0]

        whole = requested(view)
        stored("NO")
        versions = whole.versions()
        assert [(v.document_id, v.task and v.task.name) for v in versions] == [
            ("IS", None),
            ("NO", rename_country.name),
        ]
        assert {v.user for v in versions} == {UserRef(1, "visitor 1", "auth.user")}
        assert whole.user == UserRef(1, "visitor 1", "auth.user")
        whole.take_back()
        assert mongodb.countries.count_documents({}) == 0

    def test_the_user_is_whoever_it_is_at_that_moment(self, worker: MakeWorker, stored: Rows) -> None:
        """A view may authenticate; and what is found out once for the publish is not asked for again."""
        worker()
        asked: list[int] = []

        class Lazy(Visitor):
            @property
            def is_authenticated(self) -> bool:  # type: ignore[override]
                asked.append(1)
                return True

        requested(lambda: see.delay("a"), user=Lazy(5))
        assert stored("a")["context"]["user"]["pk"] == 5
        assert len(asked) == 1

    def test_nobody_stays_nobody(self, worker: MakeWorker, stored: Rows) -> None:
        """An anonymous request's task has its address and no user."""
        from django.contrib.auth.models import AnonymousUser

        worker()
        result = requested(lambda: see.delay("a"), user=AnonymousUser())
        facts = facts_of_request()
        del facts["user"]
        assert stored("a")["context"] == {**facts, **by(result, see)}

    def test_the_next_task_has_nothing_of_it(self, worker: MakeWorker, stored: Rows) -> None:
        """On one process: a script's task after a request's."""
        worker()
        requested(lambda: see.delay("a"))
        result = see.delay("b")
        stored("a")
        assert stored("b")["context"] == by(result, see)
        assert stored("b")["changeset"] != stored("a")["changeset"]

    def test_in_an_event_loop(self, worker: MakeWorker, stored: Rows) -> None:
        """Twenty at once from async code."""
        worker()

        async def publish(number: int) -> None:
            with changeset(user=number):
                await asyncio.sleep(0)
                see.delay(f"a{number}")

        async def all_of_them() -> None:
            await asyncio.gather(*(publish(number) for number in range(20)))

        asyncio.run(all_of_them())
        for number in range(20):
            assert stored(f"a{number}")["context"]["user"]["pk"] == number

    def test_suppression_does_not_travel(self, worker: MakeWorker, stored: Rows) -> None:
        """It is about writes here; what a task writes is recorded."""
        worker()
        with changeset(user="ann"), suppress_history("import"):
            see.delay("a")
        assert stored("a")["context"]["user"]["pk"] == "ann"


class TestPublishedInABlock:
    def test_has_who_and_why_and_every_type(self, worker: MakeWorker, stored: Rows) -> None:
        """`extra` with the very BSON types that a version of the block itself would have."""
        worker()
        extra = {
            "long": Int64(1),
            "price": Decimal128("1.10"),
            "id": ObjectId(),
            "list": [1, 1.0, True, None],
        }
        with changeset(user="ann", remote_addr=ADDRESS, reason="why", **extra) as block:
            result = see.delay("a")
        row = stored("a")
        assert row["context"] == {
            "user": {"pk": "ann", "label": "ann", "model": None},
            "remote_addr": ADDRESS,
            "reason": "why",
            "extra": extra,
            **by(result, see),
        }
        assert {name: type(value) for name, value in row["context"]["extra"].items()} == {
            name: type(value) for name, value in extra.items()
        }
        assert row["changeset"] == block.id

    def test_a_reason_alone_is_enough(self, worker: MakeWorker, stored: Rows) -> None:
        worker()
        with rationale("why"):
            result = see.delay("a")
        assert stored("a")["context"] == {"reason": "why", **by(result, see)}

    def test_a_block_in_the_task_counts_more(self, worker: MakeWorker, stored: Rows) -> None:
        worker()
        with changeset(user="ann", reason="outside"):
            celery_tasks.see_with_reason.delay("a", "inside")
        context = stored("a")["context"]
        assert (context["user"]["pk"], context["reason"]) == ("ann", "inside")

    def test_document_track_has_the_user_of_the_task(self, worker: MakeWorker, stored: Rows) -> None:
        """By the calls of mongoengine-history: its own identity, else whoever published the task."""
        worker()
        with changeset(user="ann"):
            celery_tasks.see_as.delay("a")
            celery_tasks.see_as.delay("b", "ben")
        assert stored("a")["context"]["user"]["pk"] == "ann"
        assert stored("b")["context"]["user"]["pk"] == "ben"


class TestCanvas:
    """Published by a request in a process of its own, see `tests.celery_requests`."""

    @pytest.fixture(params=["solo", "prefork"])
    def run(
        self,
        request: pytest.FixtureRequest,
        mongodb: Database[dict[str, Any]],
        worker: MakeWorker,
        broker_url: str,
    ) -> Callable[[str], None]:
        results = {"CELERY_RESULT_BACKEND": broker_url}
        worker(pool=request.param, concurrency=2, environ=results)

        def run(name: str) -> None:
            command = [sys.executable, "-m", "tests.celery_requests", name]
            subprocess.run(command, cwd=cli.ROOT, env=program_environ(environ=results), check=True)

        return run

    @pytest.mark.parametrize("name", CANVAS)
    def test_every_part_has_what_the_request_had(
        self, name: str, run: Callable[[str], None], stored: Rows
    ) -> None:
        """Whoever publishes it: the request, a part before it, the last part of a chord, a task that fails."""
        run(name)
        rows = [stored(document) for document in "abcd"]
        for row in rows:
            task = row["context"].pop("task")
            assert row["context"] == {**facts_of_request(), "reason": row["context"]["reason"]}
            assert task["name"].startswith("tests.celery_tasks.")
        reasons = [row["context"]["reason"] for row in rows]
        # Celery calls an error callback of several arguments where the task has failed, in the block that it left open.
        assert reasons == ["why", "why", "why", "left open" if name == "callbacks" else "why"]
        assert len({row["changeset"] for row in rows[:3]}) == 1

    def test_a_subtask_has_what_is_in_force_where_it_is_published(
        self, run: Callable[[str], None], stored: Rows
    ) -> None:
        """A block of the task itself counts more than what the task has inherited."""
        run("block")
        context = stored("a")["context"]
        assert (context["user"]["pk"], context["reason"]) == ("the task", "its own")
        assert context["request"]["id"] == "r-17"

    def test_subtasks_have_the_changeset_of_a_task_that_has_inherited_nothing(
        self, worker: MakeWorker, stored: Rows
    ) -> None:
        """What a script's or beat's task begins belongs together."""
        worker()
        celery_tasks.spawn.delay("a", "b")
        first, second = stored("a"), stored("b")
        assert first["changeset"] == second["changeset"]
        assert "user" not in first["context"]


class TestRetries:
    @pytest.mark.parametrize("pool", ["solo", "prefork"])
    def test_each_try_has_what_the_first_one_had(self, pool: str, worker: MakeWorker, stored: Rows) -> None:
        """And not what is in force where the task asks to be tried again; one task, one id."""
        worker(pool=pool)
        result = requested(lambda: celery_tasks.see_and_retry.delay("a", 3))
        rows = stored("a", 4)
        assert [row["context"] for row in rows] == [
            {**facts_of_request(), **by(result, celery_tasks.see_and_retry)}
        ] * 4
        assert len({row["changeset"] for row in rows}) == 1

    def test_automatic_ones_do_as_well(self, worker: MakeWorker, stored: Rows) -> None:
        worker()
        result = requested(lambda: celery_tasks.see_and_fail_once.delay("a"))
        assert [row["context"] for row in stored("a", 2)] == [
            {**facts_of_request(), **by(result, celery_tasks.see_and_fail_once)}
        ] * 2

    def test_of_a_task_that_has_inherited_nothing(self, worker: MakeWorker, stored: Rows) -> None:
        """Still no user; not even that of the block in which it asks to be tried again."""
        worker()
        result = celery_tasks.see_and_retry.delay("a", 1)
        rows = stored("a", 2)
        assert "user" not in rows[0]["context"]
        assert [row["context"]["task"]["id"] for row in rows] == [result.id] * 2

    def test_the_header_is_there_once(self, celery_app: Celery) -> None:
        """One that is there already stays as it is."""
        kept = encode_header_of("first")
        with changeset(user="second"):
            headers = published(lambda: see.apply_async(["a"], headers={HEADER: kept, "x-shop": "7"}))
        assert headers[HEADER] == kept
        assert headers["x-shop"] == "7"


class TestPublishedByNobody:
    @pytest.mark.parametrize("pool", ["solo", "prefork"])
    def test_a_task_of_a_script_says_which_it_is_and_no_more(
        self, pool: str, worker: MakeWorker, stored: Rows
    ) -> None:
        """A real script, with a changeset for each of its tasks."""
        worker(pool=pool)
        script = (
            "import django; django.setup();"
            "from tests.celery_tasks import see; print(see.delay('a').id, see.delay('b').id)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=cli.ROOT,
            env=program_environ(),
            capture_output=True,
            text=True,
            check=True,
        )
        rows = [stored("a"), stored("b")]
        assert [row["context"] for row in rows] == [
            {"task": {"id": task_id, "name": see.name}} for task_id in done.stdout.split()
        ]
        assert rows[0]["changeset"] != rows[1]["changeset"]

    def test_a_task_of_a_beat(
        self, beat: Callable[..., Program], worker: MakeWorker, mongodb: Database[dict[str, Any]]
    ) -> None:
        """A real beat: each run is a changeset of its own."""
        worker()
        entry = {"task": see.name, "schedule": 0.2, "args": ["a"], "kwargs": {"value": "x"}}
        again = {"task": rename_country.name, "schedule": 0.2, "args": ["IS", "Iceland"]}
        beat(settings={"CELERY_BEAT_SCHEDULE": {"seen": entry, "country": again}})
        wanted = {see.name, rename_country.name}
        rows = eventually(
            lambda: len(found := list(mongodb[HISTORY].find())) == len(wanted) and found, what="both"
        )
        assert {row["context"]["task"]["name"] for row in rows} == wanted
        assert all(set(row["context"]) == {"task"} for row in rows)
        assert rows[0]["changeset"] != rows[1]["changeset"]


class TestLeaks:
    """One task's context is never seen in another, however the first one ends."""

    @POOLS
    def test_two_hundred_tasks_of_twenty_users(
        self, pool: str, worker: MakeWorker, mongodb: Database[dict[str, Any]]
    ) -> None:
        """Published by eight threads at once and in any order, on two processes; some raise, some leave blocks open."""
        worker(pool=pool, concurrency=4)
        worker(pool=pool, concurrency=4)
        sent: dict[str, tuple[int | None, str]] = {}
        jobs = [(f"{number}", number % 20 or None) for number in range(200)]
        random.shuffle(jobs)

        def publish(part: list[tuple[str, int | None]]) -> None:
            for name, user in part:
                task = [see, celery_tasks.leave_open, celery_tasks.end_badly][int(name) % 3]
                args = [name, "raise"] if task is celery_tasks.end_badly else [name]
                if user is None:
                    result = task.apply_async(args)
                else:
                    result = requested(lambda t=task, a=args: t.apply_async(a), user=Visitor(user))
                sent[name] = (user, result.id)

        threads = [threading.Thread(target=publish, args=[jobs[start::8]]) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eventually(lambda: mongodb[HISTORY].count_documents({}) >= 200, what="200 versions")
        rows = {row["document_id"]: row["context"] for row in mongodb[HISTORY].find()}
        assert len(rows) == 200
        for name, (user, task_id) in sent.items():
            context = rows[name]
            opened = {0: (), 1: ("left open",), 2: ("left open",)}[int(name) % 3]
            assert context["task"]["id"] == task_id
            whose = "left open" if int(name) % 3 == 1 else user
            assert (context["user"]["pk"] if "user" in context else None) == whose, name
            assert (context.get("reason"),) == (opened or (None,))
            assert ("request" in context) == (user is not None)

    @pytest.mark.parametrize(
        ("pool", "how"),
        [
            *itertools.product(["solo", "prefork"], ["raise", "ignore", "reject"]),
            ("prefork", "soft"),  # Celery has no time limits in a solo pool
        ],
    )
    def test_after_a_task_that_ends_badly(
        self, pool: str, how: str, worker: MakeWorker, stored: Rows
    ) -> None:
        """The next one in the same process begins with nothing."""
        worker(pool=pool)
        requested(lambda: celery_tasks.end_badly.apply_async(["a", how], soft_time_limit=1))
        result = see.delay("b")
        assert stored("a")["context"]["reason"] == "left open"
        assert stored("b")["context"] == by(result, see)

    @pytest.mark.parametrize("how", ["hard", "kill", "exit"])
    def test_after_a_task_whose_process_ended(self, how: str, worker: MakeWorker, stored: Rows) -> None:
        """Its successor knows nothing of it; and its error callback has its context, though it never came to an end."""
        worker(pool="prefork")
        limits = {"time_limit": 1} if how == "hard" else {}

        def view() -> None:
            celery_tasks.end_badly.apply_async(
                ["a", how], link_error=celery_tasks.see_failure.si("c"), **limits
            )

        requested(view)
        stored("a")
        result = see.delay("b")
        assert stored("b")["context"] == by(result, see)
        context = stored("c")["context"]
        assert {**context, "task": None} == {**facts_of_request(), "task": None}
        assert context["task"]["name"] == celery_tasks.see_failure.name

    @pytest.mark.parametrize("pool", ["solo", "prefork"])
    def test_after_a_task_that_leaves_blocks_open(self, pool: str, worker: MakeWorker, stored: Rows) -> None:
        """Changesets, values, suppression and appended info end with it."""
        worker(pool=pool)
        celery_tasks.leave_open.delay("a")
        result = see.delay("later")
        assert stored("a")["context"]["user"]["pk"] == "left open"
        assert stored("later")["context"] == by(result, see)

    def test_a_revoked_task_changes_nothing(
        self, celery_app: Celery, worker: MakeWorker, stored: Rows, tmp_path: Path
    ) -> None:
        """It never begins."""
        one = worker()
        go = tmp_path / "go"
        requested(lambda: celery_tasks.hold.delay("a", str(go)))
        revoked = requested(lambda: see.delay("b"), user=Visitor(2))
        one_more = see.delay("c")
        celery_app.control.revoke(revoked.id)
        go.touch()
        stored("a")
        context = stored("c")["context"]
        assert context == by(one_more, see)
        assert one.is_running()

    def test_a_worker_that_is_killed_leaves_the_context_in_the_message(
        self, worker: MakeWorker, stored: Rows, tmp_path: Path
    ) -> None:
        """A task that is delivered again is by the same user, in the same changeset."""
        one = worker(settings={"CELERY_TASK_ACKS_LATE": True})
        go = tmp_path / "go"
        result = requested(lambda: celery_tasks.hold.delay("a", str(go)))
        eventually(lambda: result.id in one.output, what="the task to begin")
        one.kill()
        go.touch()
        one.start()
        assert stored("a")["context"] == {**facts_of_request(), **by(result, celery_tasks.hold)}

    def test_a_start_without_an_end_is_thrown_away(self, celery_app: Celery) -> None:
        """As the signals come: a begin whose end nobody told, and the next begin."""
        see.push_request(id="t-1", **{HEADER: encode_header_of("ann")})
        task_context.begin("t-1", see)
        open_changeset(reason="left open").__enter__()
        assert capture_context().context.user == UserRef("ann", "ann")
        see.pop_request()
        see.push_request(id="t-2")
        task_context.begin("t-2", see)
        assert capture_context().context == Context(task=TaskRef("t-2", see.name))
        task_context.end("t-2")
        see.pop_request()
        assert current.get().opener is None


@pytest.fixture
def eager(celery_app: Celery) -> Iterator[None]:
    """`CELERY_TASK_ALWAYS_EAGER`, with errors raised."""
    celery_app.conf.task_always_eager = celery_app.conf.task_eager_propagates = True
    yield
    celery_app.conf.task_always_eager = celery_app.conf.task_eager_propagates = False


@pytest.mark.usefixtures("eager")
class TestEager:
    @pytest.fixture(autouse=True)
    def _tracked(self, mongodb: Database[dict[str, Any]]) -> Iterator[None]:
        with configured(), tracking(Seen):
            yield

    def context_of(self, name: str) -> Context:
        v = history_of(Seen, name)[-1]
        return Context(v.user, v.remote_addr, v.reason, v.extra, v.request, v.task)

    def test_is_a_part_of_the_request(self) -> None:
        """Its context and its changeset, with the task; and the context is afterwards what it was."""
        seen: list[Any] = []

        def view() -> Any:
            before = current.get()
            result = see.delay("a")
            assert current.get() is before
            Seen(name="b").save()
            seen.append(current_changeset())
            return result

        result = requested(view)
        assert self.context_of("a").to_bson() == {**facts_of_request(), **by(result, see)}
        assert self.context_of("b").to_bson() == facts_of_request()
        changesets_of = {history_of(Seen, name)[-1].changeset.id for name in "ab"}
        assert changesets_of == set(seen)

    def test_is_a_part_of_the_request_whatever_is_set(self) -> None:
        """Nothing travels where a task is a call."""
        with override_settings(MONGO_HISTORY={"PROPAGATE_CONTEXT": False}):
            requested(lambda: see.apply_async(["a"], headers={HEADER: None}))
            assert self.context_of("a").user == UserRef(1, "visitor 1", "auth.user")

    def test_that_raises_leaves_the_context_as_it_was(self) -> None:
        with changeset(user="ann"):
            before = current.get()
            with pytest.raises(celery_tasks.TaskFailedError):
                celery_tasks.end_badly.delay("a", "raise")
            assert current.get() is before

    def test_retries_and_chains(self, celery_app: Celery) -> None:
        celery_app.conf.task_eager_propagates = False  # Celery raises what a retry raises otherwise
        with changeset(user="ann") as block:
            before = current.get()
            celery_tasks.see_and_retry.apply(["a", 2], throw=False)
            chain(see.s("b"), celery_tasks.see_after.s("c")).delay()
            assert current.get() is before
        assert [v.document_id for v in block.versions()] == ["a", "a", "a", "b", "c"]
        assert {v.user for v in block.versions()} == {UserRef("ann", "ann")}

    def test_by_itself_it_has_a_changeset_of_its_own(self) -> None:
        """A script's: task, and no user."""
        result = see.delay("a")
        assert self.context_of("a") == Context(task=TaskRef(result.id, see.name))

    def test_inside_another_task(self) -> None:
        with changeset(user="ann"):
            celery_tasks.spawn_eagerly.delay("outer", "inner")
        outer, inner = self.context_of("outer"), self.context_of("inner")
        assert outer.task is not None
        assert inner.task is not None
        assert (outer.task.name, inner.task.name) == (celery_tasks.spawn_eagerly.name, see.name)
        assert outer.user == inner.user == UserRef("ann", "ann")

    def test_a_task_that_is_called_is_a_function(self) -> None:
        """As Celery has it: no task at all."""
        with changeset(user="ann"):
            see("a")
        assert self.context_of("a") == Context(UserRef("ann", "ann"))

    def test_in_an_event_loop_each_call_has_its_own(self) -> None:
        async def one(number: int) -> None:
            with changeset(user=number):
                await asyncio.sleep(0)
                see.delay(f"{number}")
                await asyncio.sleep(0)
                assert capture_context().context == Context(UserRef(number, str(number)))

        async def all_of_them() -> None:
            await asyncio.gather(*(one(number) for number in range(5)))

        asyncio.run(all_of_them())
        for number in range(5):
            assert self.context_of(f"{number}").user == UserRef(number, str(number))


class TestOptOut:
    def test_of_a_project(self, worker: MakeWorker, stored: Rows) -> None:
        """Nothing is put into messages."""
        worker()
        with override_settings(MONGO_HISTORY={"PROPAGATE_CONTEXT": False}):
            result = requested(lambda: see.delay("a"))
        assert stored("a")["context"] == by(result, see)

    def test_of_a_worker(self, worker: MakeWorker, stored: Rows) -> None:
        """Nothing is taken from messages; what is in force is passed on by nobody."""
        worker(settings={"MONGO_HISTORY": {"PROPAGATE_CONTEXT": False}})
        requested(lambda: celery_tasks.spawn.delay("a"))
        assert set(stored("a")["context"]) == {"task"}

    def test_of_one_publish(self, worker: MakeWorker, stored: Rows) -> None:
        """The header set to None: also at each retry of this task."""
        worker()
        result = requested(lambda: celery_tasks.see_and_retry.apply_async(["a", 1], headers={HEADER: None}))
        assert [row["context"] for row in stored("a", 2)] == [by(result, celery_tasks.see_and_retry)] * 2


class TestHeader:
    def test_headers_of_the_user_stay(self, worker: MakeWorker, stored: Rows, mongodb: Any) -> None:
        """Beside the one of the package."""
        worker()
        requested(lambda: celery_tasks.see_header.apply_async(["a"], headers={"x-shop": "7"}))
        stored("a")
        assert mongodb.seen.find_one({"_id": "a"})["value"] == "7 1:"

    def test_one_that_does_not_parse_is_refused(self, worker: MakeWorker, stored: Rows) -> None:
        """The task runs as one without; the log names it, and says nothing of what the header held."""
        one = worker()
        results = [
            see.apply_async([name], headers={HEADER: header})
            for name, header in (
                ("a", "secret"),
                ("b", "1:c2VjcmV0"),
                ("c", "2:" + encode_header_of("secret")[2:]),
                ("d", ["secret"]),
                ("e", {"user": "secret"}),
            )
        ]
        for name, result in zip("abcde", results, strict=True):
            assert stored(name)["context"] == by(result, see)
            line = next(line for line in one.output.splitlines() if result.id in line and "refused" in line)
            assert "WARNING" in line
            assert "secret" not in line.replace(result.id, "")

    def test_nobody_publishes_one_where_nothing_is_known(self, celery_app: Celery) -> None:
        assert HEADER not in published(lambda: see.delay("a"))

    def test_it_is_small_and_one(self, celery_app: Celery) -> None:
        """One header of a few hundred bytes, and nothing else in the message is another."""
        with_it = published(lambda: requested(lambda: see.delay("a")))
        assert {name for name in with_it if "history" in name} == {HEADER}
        assert len(with_it[HEADER]) < 400
        assert decode_header(with_it[HEADER]).context.to_bson() == facts_of_request()

    def test_what_is_too_large_is_left_out_and_said(
        self, celery_app: Celery, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The publish goes on; the log names what is missing, and not its content."""
        with caplog.at_level(logging.WARNING), changeset(user="ann", ticket="OPS-12", blob="secret" * 10_000):
            headers = published(lambda: see.delay("a"))
        assert decode_header(headers[HEADER]).context == Context(
            UserRef("ann", "ann"), extra={"ticket": "OPS-12"}
        )
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        message = record.getMessage()
        assert message.endswith("its versions go without: extra['blob']")
        assert headers["id"] in message
        assert "secret" not in message

    def test_error_callbacks_of_the_user_are_not_changed(self, celery_app: Celery) -> None:
        """The signature that was given stays what it was; the message carries a copy."""
        errback = see.si("b")
        kept = json.dumps(errback)
        with changeset(user="ann"):
            message = message_of(lambda: see.apply_async(["a"], link_error=errback))
        assert json.dumps(errback) == kept
        (sent,) = message["embedded"]["errbacks"]
        assert decode_header(sent["options"]["headers"][HEADER]).context.user == UserRef("ann", "ann")

    def test_the_tasks_of_the_package_carry_none(self, celery_app: Celery) -> None:
        """Their versions have a context already."""
        with changeset(user="ann"):
            headers = published(lambda: celery_app.send_task("django_mongo_history.tasks.anything"))
        assert HEADER not in headers


class TestFindingOut:
    def test_the_finder_of_the_project_is_asked_at_the_publish(
        self, worker: MakeWorker, stored: Rows
    ) -> None:
        """And what a worker would say is not: there it would know only itself."""
        worker(settings={"MONGO_HISTORY": {"GET_USER": "tests.celery_tasks.in_worker"}})
        with override_settings(MONGO_HISTORY={"GET_USER": lambda document_class: "the till"}):
            requested(lambda: see.delay("a"))
            see.delay("b")
        assert stored("a")["context"]["user"]["pk"] == "the till"
        assert stored("b")["context"]["user"]["pk"] == "the till"
        see.delay("c")
        assert stored("c")["context"]["user"]["pk"] == "worker"

    def test_the_finder_of_a_class_is_asked_in_the_worker(self, worker: MakeWorker, stored: Rows) -> None:
        """It knows more than the request, and less than a block, as everywhere."""
        entry = {
            "document": "tests.celery_tasks.Seen",
            "get_user": "tests.celery_tasks.in_worker",
        }
        worker(settings={"TRACKED_DOCUMENTS": [entry]})
        requested(lambda: see.delay("a"))
        with changeset(user="ann"):
            see.delay("b")
        assert stored("a")["context"]["user"]["pk"] == "worker"
        assert stored("b")["context"]["user"]["pk"] == "ann"


class TestRequiredReason:
    def test_a_task_needs_one_as_everybody_does(
        self, worker: MakeWorker, stored: Rows, mongodb: Database[dict[str, Any]]
    ) -> None:
        """It may inherit it, or say it itself; without one its writes are refused, and it fails."""
        one = worker(settings={"MONGO_HISTORY": {"REQUIRE_REASON": True}})
        without = see.delay("a")
        by_request = requested(lambda: see.delay("b"))
        with rationale("why"):
            see.delay("c")
        celery_tasks.see_with_reason.delay("d", "its own")
        assert stored("c")["context"]["reason"] == "why"
        assert stored("d")["context"]["reason"] == "its own"
        assert mongodb.seen.count_documents({}) == 2
        for refused in (without, by_request):
            assert any(
                refused.id in line and ReasonRequiredError.__name__ in line
                for line in one.output.splitlines()
            )


class TestReading:
    def test_a_version_and_its_changeset_say_which_task(
        self, worker: MakeWorker, stored: Rows, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In Python, as a line and as JSON."""
        from django.core.management import call_command

        worker()
        result = requested(lambda: rename_country.delay("IS", "Iceland"))
        Country(code="NO", name="Norway").save()
        stored("IS")
        v = history_of(Country, "IS")[-1]
        assert v.task == TaskRef(result.id, rename_country.name)
        assert v.changeset.task == v.task
        assert history_of(Country, "NO")[-1].task is None
        call_command("history_log", "--json")
        told = {
            line["document_id"]: line["task"]
            for line in map(json.loads, capsys.readouterr().out.splitlines())
        }
        assert told == {"IS": {"id": result.id, "name": rename_country.name}, "NO": None}
        call_command("history_log", "--id", "IS", "--document", "testproject.airports.documents.Country")
        assert f"by visitor 1 in {rename_country.name}" in capsys.readouterr().out


class TaskShelf(RecordChanges, mongoengine.Document):
    """Keeps its latest who and when on itself."""

    label = mongoengine.StringField(primary_key=True)
    meta = {"collection": "task_shelf"}


def test_the_latest_on_the_document_itself_has_whom_the_task_has(mongodb: Database[dict[str, Any]]) -> None:
    """`RecordChanges` finds the user as versions do, and leaves request and task out alike."""
    told = Context(UserRef(7, "ann"), ADDRESS, "why", request=RequestRef("r-17"))
    begin_task(TaskRef("t-1", "shop.tasks.move"), Inherited(told))
    shelf = TaskShelf(label="A").save()
    end_task("t-1")
    assert shelf.change_info == {
        "user": {"pk": 7, "label": "ann", "model": None},
        "remote_addr": ADDRESS,
        "reason": "why",
    }


def encode_header_of(user: str) -> str:
    with changeset(user=user):
        inherited = inheritance()
    assert inherited is not None
    return encode_header(inherited)[0]


def published(publish: Callable[[], Any]) -> dict[str, Any]:
    """The headers of the one message that `publish` sends."""
    return message_of(publish)["headers"]


def message_of(publish: Callable[[], Any]) -> dict[str, Any]:
    """The same and what lies beside the arguments, as the broker has it."""
    publish()
    with redis.Redis.from_url(os.environ["CELERY_BROKER_URL"]) as client:
        (raw,) = client.lrange("celery", 0, -1)
    message = json.loads(raw)
    return {"headers": message["headers"], "embedded": json.loads(base64.b64decode(message["body"]))[2]}


def test_signals_are_connected_once(celery_app: Celery) -> None:
    """Whatever Django's `ready` is called for again."""
    from celery import signals

    before = [
        len(one.receivers) for one in (signals.before_task_publish, signals.task_prerun, signals.task_postrun)
    ]
    task_context.connect()
    after = [
        len(one.receivers) for one in (signals.before_task_publish, signals.task_prerun, signals.task_postrun)
    ]
    assert before == after


def test_without_celery_there_is_nothing(tmp_path: Path) -> None:
    """A site without it starts, and nobody looks for it again."""
    script = f"""
import sys
sys.modules["celery"] = sys.modules["kombu"] = None
sys.path.insert(0, {str(cli.ROOT)!r})
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_mongo_history"])
import django
django.setup()
print(sys.modules["celery"], "django_mongo_history.task_context" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("None False\n", "")
