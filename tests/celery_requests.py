"""
Requests that publish tasks, as a site with the middleware has them. `python -m tests.celery_requests NAME`: one of `CANVAS`.

Those are published by a process of its own, because chords need a result backend, and its clients leave connections to
whatever has become garbage by then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import django
from celery import chain, chord, group

ADDRESS = "192.0.2.7"
PATH = "/airports/EDDF/"


class Visitor:
    """A user, as the authentication middleware puts one on requests."""

    class _meta:  # noqa: N801 - Django's name
        label_lower = "auth.user"

    is_authenticated = True

    def __init__(self, pk: Any) -> None:
        self.pk = pk

    def get_username(self) -> str:
        return f"visitor {self.pk}"


def requested(publish: Callable[[], Any], *, user: Any = None) -> Any:
    """What `publish` gives that is called in a request of this user, by the middleware as a site has it."""
    from django.http import HttpResponse
    from django.test import RequestFactory

    from django_mongo_history.middleware import HistoryMiddleware

    answers = []

    def view(request: Any) -> HttpResponse:
        answers.append(publish())
        return HttpResponse()

    request = RequestFactory().post(PATH, REMOTE_ADDR=ADDRESS, HTTP_X_REQUEST_ID="r-17")
    request.user = Visitor(1) if user is None else user
    HistoryMiddleware(view)(request)
    return answers[0]


def facts_of_request(number: Any = 1) -> dict[str, Any]:
    """What versions carry of such a request."""
    return {
        "user": {"pk": number, "label": f"visitor {number}", "model": "auth.user"},
        "remote_addr": ADDRESS,
        "request": {"id": "r-17", "method": "POST", "path": PATH},
    }


def _canvas() -> dict[str, Callable[[], Any]]:
    """By name: what is published. Each leaves the documents `a`, `b`, `c` and `d`."""
    from tests.celery_tasks import end_badly, see, see_after, see_failure, spawn, spawn_chain, spawn_in_block

    def callbacks() -> None:
        see.apply_async(["a"], link=see_after.s("b"))
        end_badly.apply_async(["raised", "raise"], link_error=see_failure.si("c"))
        end_badly.apply_async(["raised too", "raise"], link_error=see.si("d"))

    def subtasks() -> None:
        spawn.delay("a", "b")
        spawn_chain.delay("c", "d")

    return {
        "chain": lambda: chain(see.s("a"), see_after.s("b"), see_after.s("c"), see_after.s("d")).delay(),
        "group": lambda: group(see.s("a"), see.s("b"), chain(see.s("c"), see_after.s("d"))).delay(),
        "chord": lambda: chord([see.s("a"), see.s("b"), see.s("c")], see_after.s("d")).delay(),
        "chord in a chain": lambda: chain(
            see.s("a"), group(see_after.s("b"), see_after.s("c")), see_after.s("d")
        ).delay(),
        "callbacks": callbacks,
        "subtasks": subtasks,
        "block": lambda: spawn_in_block.delay("a"),
    }


CANVAS = ("chain", "group", "chord", "chord in a chain", "callbacks", "subtasks")


def main(name: str) -> None:
    django.setup()
    from django_mongo_history import rationale

    requested(rationale("why")(_canvas()[name]))


if __name__ == "__main__":
    main(sys.argv[1])
