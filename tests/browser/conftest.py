"""
The admin in a real browser: a site with a strict Content-Security-Policy, and visitors who note all that goes wrong.

Where there is no browser these tests fail and say what to install: they are never skipped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from playwright.sync_api import Browser
from pytest_django.live_server_helper import LiveServer

from django_mongo_history import changeset
from management.browser import BrowserError, find_browser, running_browser
from tests.browser.harbour import Ferry, Pier
from tests.browser.visitor import Visitor
from tests.judge import configured, tracking

OWN_MIDDLEWARE = ["tests.browser.visitor.strict_policy", "django.middleware.locale.LocaleMiddleware"]


@pytest.fixture(scope="session")
def program() -> Path:
    """The browser of this machine."""
    reason = ""
    try:
        return find_browser()
    except BrowserError as error:
        reason = str(error)
    pytest.fail(f"this test needs a browser: {reason}", pytrace=False)


@pytest.fixture(scope="module")
def browser(program: Path) -> Iterator[Browser]:
    """
    One browser for the tests of a module.

    No longer than that: while Playwright runs, the thread counts as one that has an event loop, and asyncio's own tests
    would find it. For the same reason Django is told here that its ORM may be used.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        with running_browser(program) as running:
            yield running


@pytest.fixture(scope="module")
def site(django_db_setup: None) -> Iterator[str]:
    """The address of the test project's site, under a strict policy, in the language that the visitor asks for."""
    with override_settings(MIDDLEWARE=[*OWN_MIDDLEWARE, *settings.MIDDLEWARE], ALLOWED_HOSTS=["*"]):
        server = LiveServer("127.0.0.1")
        yield server.url
        server.stop()


@pytest.fixture
def visit(
    browser: Browser, site: str, transactional_db: None, mongodb: Any
) -> Iterator[Callable[..., Visitor]]:
    """Make visitors; at the end, nothing may have gone wrong for any of them."""
    visitors: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        visitors.append(Visitor(browser, site, **options))
        return visitors[-1]

    with configured(), tracking(Ferry, hidden=["secret"]), tracking(Pier):
        yield make
        for visitor in visitors:
            visitor.leave()
    assert [trouble for visitor in visitors for trouble in visitor.troubles] == []


@pytest.fixture
def harbour(visit: Any) -> dict[str, Any]:
    """A ferry with a life, a pier, one ferry that is gone, and the changeset that did too much."""
    with changeset(user="anna", remote_addr="192.0.2.7", reason="Launched"):
        pier = Pier(name="West", depth=4.5).save()
        ferry = Ferry(
            number=1,
            name="Fram",
            log="She lies at the western pier and waits for the tide.",
            pier=pier,
            secret="x",
        )
        ferry.route = {"from": "Oslo", "stops": ["Drøbak", "Moss"], "hours": {"first": 6, "last": 23}}
        ferry.save()
        Ferry(number=2, name="Gjøa").save()
        Ferry(number=3, name="Maud").save()
    with changeset(user="bo", remote_addr="192.0.2.8", reason="Renamed"):
        ferry.name, ferry.secret = "Nansen", "y"
        ferry.log = "She lies at the eastern pier and waits for the storm."
        ferry.save()
    with changeset(user="bo", reason="A mistake") as mistake:
        Ferry.objects(number__in=[1, 2]).update(set__name="LOST", set__route__hours__last=0)
        Pier.objects(name="West").update(set__depth=-1.0)
    with changeset(user="anna", reason="Scrapped"):
        Ferry.objects.get(number=3).delete()
    return {"mistake": str(mistake)}
