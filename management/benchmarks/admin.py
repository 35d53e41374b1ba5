"""
What the history pages of the admin take over a large history, page by page, and how often each asks the server.

The versions are put into the collection as rows, past the package, linked as it would have linked them; the pages are
asked for by Django's test client, so that a time is that of a request without the network.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import Any, Final

import mongoengine
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.monitoring import CommandListener

from management.benchmarks.rounds import timed
from management.benchmarks.surroundings import HISTORY, bench_place, facts, say, set_up_django
from management.benchmarks.tables import Table

SIZE: Final = 1_000_000
LIMIT_MS: Final = 300
COLUMNS: Final = ("page", "ms", "slowest, ms", "questions to MongoDB")
_PER_DOCUMENT: Final = 10
_PER_CHANGESET: Final = 40
_USERS: Final = 200
_AT_ONCE: Final = 5_000
_READS: Final = ("find", "aggregate", "distinct")
_APART: Final = ("chart", "chart of a class", "export of 1,000")
"""What is no page that anybody waits for: it is loaded beside the list, or streamed."""
_NOTE: Final = (
    "Milliseconds of a request to Django's test client, the median and the slowest of {rounds}, over {size:,} versions of "
    f"{{documents:,}} documents. The first one of a page is not counted. Pages are held to {LIMIT_MS} ms; the chart, which the "
    "list loads beside itself, and the export are not."
)


class BenchParcel(mongoengine.Document):  # type: ignore[misc]
    """The documents that were written a million times."""

    number = mongoengine.IntField(primary_key=True)
    city = mongoengine.StringField()
    weight = mongoengine.FloatField()
    text = mongoengine.StringField()
    meta = {"collection": "bench_parcels"}


class _Questions(CommandListener):
    """Counts reading commands."""

    def __init__(self) -> None:
        self.count = 0

    def started(self, event: Any) -> None:
        self.count += event.command_name in _READS

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


def measure(*, rounds: int, size: int) -> Table:
    """A row for each page."""
    table = Table("admin", COLUMNS)
    set_up_django(**_SETTINGS)
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    with bench_place() as place:
        say(f"writing {size:,} versions")
        history = _History(size)
        history.write()
        questions = _Questions()
        mongoengine.disconnect()
        options = {"uuidRepresentation": "standard", "event_listeners": [questions]}
        mongoengine.connect(place.database, host=place.uri, **options)
        client, slow = _client(), []
        for name, url in _pages(client, history).items():
            took, asked = _measured(client, url, questions, rounds=rounds)
            table.rows.append([name, f"{statistics.median(took):.0f}", f"{max(took):.0f}", f"{asked}"])
            if statistics.median(took) >= LIMIT_MS and name not in _APART:
                slow.append(name)
        table.notes = [_NOTE.format(rounds=rounds, size=size, documents=history.documents), facts()]
        if slow:
            say(f"slower than {LIMIT_MS} ms: {', '.join(slow)}")
    return table


class _History:
    """Versions of parcels: one create each, then updates, every hundredth parcel deleted at the end."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.documents = max(size // _PER_DOCUMENT, 1)
        self.start = datetime.now(UTC) - timedelta(days=360)
        self.step = timedelta(days=359) / size
        self.changeset = ObjectId()
        self.user = 0

    def write(self) -> None:
        """The rows of all versions, then the indexes, and the documents as they are at last."""
        from django_mongo_history.storage import rows
        from django_mongo_history.storage.indexes import INDEXES

        stored = mongoengine.get_db()[HISTORY]
        live = mongoengine.get_db()["bench_parcels"]
        records = self._records(live)
        while some := list(islice(records, _AT_ONCE)):
            stored.insert_many(
                [RawBSONDocument(row) for encoded in rows.encode_all(some) for row in encoded], ordered=False
            )
        say("making the indexes")
        stored.create_indexes(INDEXES)

    def _records(self, live: Any) -> Iterator[Any]:
        """In the order in which they were written: round by round over all parcels, as busy sites write."""
        from django_mongo_history.core import diff, values
        from django_mongo_history.core.model import Operation, VersionRecord

        random = Random(7)  # noqa: S311 - figures, no secrets
        states: dict[int, bytes] = {}
        number = 0
        namespace = live.full_name
        for turn in range(_PER_DOCUMENT):
            for key in range(self.documents):
                if number == self.size:
                    break
                number += 1
                before = states.get(key)
                at = self.start + number * self.step
                is_delete = turn == _PER_DOCUMENT - 1 and key % 100 == 0
                state = {
                    "_id": key,
                    "city": f"city {random.randrange(50)}",
                    "weight": random.random(),
                    "text": f"{turn} " * 10,
                }
                after = None if is_delete else values.encode(state)
                edit = None if before is None or after is None else diff.diff_images(before, after)
                operation = (
                    Operation.CREATE
                    if before is None
                    else Operation.DELETE
                    if after is None
                    else Operation.UPDATE
                )
                yield VersionRecord(
                    id=ObjectId(),
                    collection=namespace,
                    document_id=key,
                    order=_order(at, number),
                    operation=operation,
                    at=at.replace(microsecond=at.microsecond // 1000 * 1000),
                    before=None if before is None else values.digest(before),
                    after=None if after is None else values.digest(after),
                    document_class="BenchParcel",
                    changeset=self._changeset_of(number),
                    context=self._context_of(number),
                    patch=None if edit is None else edit.patch,
                    snapshot=(after if before is None else before) if edit is None else None,
                    changed=() if edit is None else tuple(".".join(map(str, path)) for path in edit.paths),
                )
                states[key] = after if after is not None else b""
        live.insert_many([RawBSONDocument(state) for state in states.values() if state], ordered=False)

    def _changeset_of(self, number: int) -> ObjectId:
        if number % _PER_CHANGESET == 0:
            self.changeset = ObjectId()
        return self.changeset

    def _context_of(self, number: int) -> Any:
        from django_mongo_history.core.model import Context, UserRef

        user = number // _PER_CHANGESET % _USERS
        return Context(
            UserRef(user, f"user {user}", "auth.user"), f"192.0.2.{user}", f"reason {number % 1000}"
        )


def _order(at: datetime, number: int) -> Any:
    from bson.timestamp import Timestamp

    return Timestamp(int(at.timestamp()), number % 1_000_000 + 1)


def _pages(client: Any, history: _History) -> dict[str, str]:
    """Each page by a name that says what is on it."""
    from django.urls import reverse

    from django_mongo_history import history_of
    from django_mongo_history.admin import history_url

    def page(name: str, *arguments: object) -> str:
        return reverse(f"admin:mongo_history_history_{name}", args=arguments)

    key = history.documents // 2
    version = history_of(BenchParcel, key)[3]
    made = version.changeset
    document, first = history_url(BenchParcel, key), page("changelist") + "?"
    middle = history.start + history.size // 2 * history.step
    place = f"{int(middle.timestamp() * 1000)}-{ObjectId()}"
    day = middle.date()
    return {
        "all changes": page("changelist"),
        f"all changes, page {history.size // 100:,}": f"{first}older={place}",
        "the same, backward": f"{first}newer={place}",
        "a class": f"{first}class=BenchParcel",
        "an operation": f"{first}operation=delete",
        "an operation that there never was": f"{first}operation=baseline",
        "class and operation": f"{first}class=BenchParcel&operation=create",
        "a user": f"{first}user=7",
        "a changeset": f"{first}changeset={made.id}",
        "a month": f"{first}since={day - timedelta(days=30)}&until={day}",
        "a reason, 30 days": f"{first}reason=reason+77",
        "an address in a month": f"{first}address=192.0.2.9&since={day - timedelta(days=30)}&until={day}",
        "a class and a path": f"{first}class=BenchParcel&path=weight",
        "an id": f"{first}id={key}",
        "a class and an id": f"{first}class=BenchParcel&id={key}",
        "a document": document,
        "a document, compared": f"{document}compare/",
        "a document, its state": f"{document}state/?number=5",
        "a version": f"{document}version/{version.id}/",
        "a changeset's page": page("changeset", made.id),
        "deleted documents": page("deleted", "BenchParcel"),
        "revert, the choice": f"{document}revert/",
        "revert, the preview": f"{document}revert/?preview=1&version={version.id}",
        "take back a change": f"{page('take_back')}?version={history_of(BenchParcel, key)[-1].id}",
        "take back a changeset": page("take_back_changeset", made.id),
        "chart": page("chart") + "?fragment=1",
        "chart of a class": page("chart") + "?fragment=1&class=BenchParcel",
        "export of 1,000": f"{page('export')}?format=csv&until={(history.start + 1000 * history.step).date()}",
    }


def _measured(client: Any, url: str, questions: _Questions, *, rounds: int) -> tuple[list[float], int]:
    """Milliseconds of each round, and how many questions one of them asked."""
    took: list[float] = []
    for number in range(rounds + 1):
        questions.count = 0
        seconds = timed(lambda: _consumed(client.get(url)))
        if number:
            took.append(seconds * 1000)
    return took, questions.count


def _consumed(response: Any) -> None:
    """The whole answer. Raises: RuntimeError where it is not what was asked for."""
    body: Iterable[bytes] = response.streaming_content if response.streaming else [response.content]
    size = sum(map(len, body))
    if response.status_code != 200 or not size:
        raise RuntimeError(f"{response.request['PATH_INFO']}: {response.status_code}")


def _client() -> Any:
    from django.contrib.auth import get_user_model
    from django.test import Client

    users: Any = get_user_model()
    client = Client()
    client.force_login(users.objects.create_superuser("bench"))
    return client


_PLAIN: Final = "django.template.context_processors.request"
_SETTINGS: Final[dict[str, Any]] = {
    "apps": [
        "django.contrib.admin",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django_mongo_history",
    ],
    "ROOT_URLCONF": "management.benchmarks.admin_urls",
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
    "SECRET_KEY": "for one benchmark",
    "STATIC_URL": "static/",
    "ALLOWED_HOSTS": ["testserver"],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django_mongo_history.middleware.HistoryMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    "TEMPLATES": [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    _PLAIN,
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    "TRACKED_DOCUMENTS": [f"{__name__}.BenchParcel"],
}
