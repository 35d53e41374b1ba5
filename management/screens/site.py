"""A site with a history worth a picture: releases of airports loaded on made-up days, and what people did by hand."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from management.listening import HOST
from management.servers import ReplicaSet

USER = "elin"
PASSWORD = "only-for-pictures"  # noqa: S105 - of a site that lives for a minute on this machine
START = datetime(2025, 9, 3, 7, 40, tzinfo=UTC)
PEOPLE = (
    ("anna", "192.0.2.14"),
    ("bilal", "192.0.2.23"),
    ("chloe", "198.51.100.7"),
    ("daichi", "203.0.113.88"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """A running site. `paths`: the addresses of the pages by the names of their pictures."""

    url: str
    paths: dict[str, str]


class Clock:
    """Made-up time, a little later at every look."""

    def __init__(self) -> None:
        self._now = START

    def __call__(self) -> datetime:
        self._now += timedelta(milliseconds=7)
        return self._now

    def wait(self, **time: float) -> None:
        self._now += timedelta(**time)


@contextlib.contextmanager
def running_site(*, language: str = "en") -> Iterator[Site]:
    """The site, with all that happened in it."""
    with contextlib.ExitStack() as stack:
        os.environ["MONGODB_URI"] = stack.enter_context(ReplicaSet()).uri
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="screenshots-"))
        os.environ["TESTPROJECT_SQLITE"] = str(Path(directory) / "db.sqlite3")
        os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.settings"
        clock = _start_django(language)
        paths = _live(clock)
        yield Site(stack.enter_context(_served()), paths)


def _start_django(language: str) -> Clock:
    import django
    from django.conf import settings
    from django.core.management import call_command

    clock = Clock()
    settings.LANGUAGE_CODE = language
    django.setup()
    logging.getLogger("django.request").setLevel(logging.ERROR)  # browsers ask for an icon that there is not
    from django_mongo_history import runtime

    runtime._now = clock  # noqa: SLF001 - the clock is no setting, and pictures are no reason to make it one
    runtime.configure()
    call_command("migrate", verbosity=0)
    return clock


def _live(clock: Clock) -> dict[str, str]:
    """Let it happen; where the pages about it are."""
    from django.contrib.auth import get_user_model

    from django_mongo_history import changeset
    from testproject.airports.loader import load, releases

    users: Any = get_user_model().objects
    users.create_superuser(USER, password=PASSWORD, first_name="Elín")
    people = [(users.create_user(name), address) for name, address in PEOPLE]
    found = releases()
    for number, release in enumerate(found[-4:]):
        user, _address = people[number % len(people)]
        with changeset(user=user, reason=f"Release of {release.name}", file=release.path.name):
            load(release)
        clock.wait(days=3, hours=1, minutes=13)
        if number:
            _correct(clock, people)
    return _paths(_by_hand(clock, people))


def _correct(clock: Clock, people: list[tuple[Any, str]]) -> None:
    """Small things that people put right on the days between."""
    from django_mongo_history import changeset
    from testproject.airports.documents import Airport

    for day in range(3):
        for number, airport in enumerate(Airport.objects.order_by("-pk")[day * 40 : day * 40 + 9 + 7 * day]):
            user, address = people[(day + number) % len(people)]
            with changeset(user=user, remote_addr=address, reason="Survey of elevations"):
                airport.location.elevation = float(airport.location.elevation or 0) + 3
                airport.save()
            clock.wait(minutes=4)
        clock.wait(days=1, hours=-1)


def _by_hand(clock: Clock, people: list[tuple[Any, str]]) -> dict[str, Any]:
    """One airport's life, an accident, and deletes: what the pictures are about."""
    from django_mongo_history import changeset
    from testproject.airports.documents import Airport, Country

    (anna, home), (bilal, office), (chloe, away), (daichi, _far) = people
    with changeset(user=chloe, remote_addr=away, reason="Closed for good"):
        for airport in Airport.objects.order_by("pk").skip(30).limit(4):
            clock.wait(seconds=9)
            airport.delete()
    clock.wait(hours=2)
    busy = Airport.objects(iata__exists=True, city__exists=True).order_by("-name").first()
    edits: list[tuple[Any, str, str, Callable[[Any], None]]] = [
        (anna, home, "The name that the sign has", lambda one: _name(one, f"{one.name} International")),
        (bilal, office, "", lambda one: _move(one, 0.0125)),
        (chloe, away, "Ticket 2231: renamed in honour of its founder", _rename),
        (daichi, office, "Codes of the new register", lambda one: setattr(one, "codes", [*one.codes, "ZZ9"])),
        (anna, home, "Moved to the next time zone", lambda one: setattr(one, "tz", "Europe/Oslo")),
    ]
    for user, address, reason, edit in edits:
        with changeset(user=user, remote_addr=address, reason=reason or None):
            edit(busy)
            busy.save()
        clock.wait(hours=5, minutes=21)
    with changeset(
        user=bilal, remote_addr=office, reason="Import of the northern register", batch=17
    ) as accident:
        for airport in Airport.objects(iata__exists=True).order_by("pk").limit(5):
            airport.city = (airport.city or "").upper()
            airport.tz = "Etc/UTC"
            airport.save()
            clock.wait(seconds=2)
        country = Country.objects.order_by("pk").first()
        country.name = country.name.upper()
        country.save()
    return {"airport": busy, "changeset": accident}


def _name(airport: Any, name: str) -> None:
    airport.name = name


def _rename(airport: Any) -> None:
    airport.name = f"{airport.name.replace('International', 'Memorial')} Regional Airport"
    airport.city = f"{airport.city} (north)"


def _move(airport: Any, degrees: float) -> None:
    airport.location.lat = float(airport.location.lat) + degrees
    airport.location.elevation = float(airport.location.elevation or 0) + 12


def _paths(about: dict[str, Any]) -> dict[str, str]:
    from django.urls import reverse

    from django_mongo_history import history_of
    from django_mongo_history.admin import history_url

    prefix = "admin:mongo_history_history_"
    airport = about["airport"]
    page = history_url(airport)
    versions = list(history_of(airport))
    renamed, before = str(versions[-3].id), str(versions[-6].id)
    own = str(about["changeset"].id)
    return {
        "admin-changes": reverse(f"{prefix}changelist"),
        "admin-document": page,
        "admin-compare": f"{page}compare/?a={before}&b=now",
        "admin-state": f"{page}state/?version={renamed}",
        "admin-version": f"{page}version/{renamed}/",
        "admin-changeset": reverse(f"{prefix}changeset", args=[own]),
        "admin-deleted": reverse(f"{prefix}deleted", args=["Airport"]),
        "admin-revert": f"{page}revert/?version={renamed}",
        "admin-preview": reverse(f"{prefix}take_back_changeset", args=[own]),
    }


@contextlib.contextmanager
def _served() -> Iterator[str]:
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Pictures need no log of requests."""

    server = ThreadedWSGIServer((HOST, 0), Quiet)
    server.set_app(StaticFilesHandler(WSGIHandler()))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
