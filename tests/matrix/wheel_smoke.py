"""
A project made from nothing, with the installed wheel and what it depends on, and nothing else: no tests, no sources.

Run by the row `wheel` of `python -m management matrix`; MONGODB_URI names a server. Says what it did, fails by a
traceback.
"""

import contextlib
import io
import os
import secrets
import sys
from importlib import metadata
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from mongoengine import Document, IntField, StringField, connect, get_connection

DATABASE = f"smoke_{secrets.token_hex(4)}"


class SmokeTest(Document):
    """What is tracked."""

    name = StringField()
    count = IntField(default=0)


def main() -> None:
    import django_mongo_history

    package = Path(django_mongo_history.__file__).parent
    assert Path(sys.prefix) in package.parents, f"{package} is not what was installed"
    assert (package / "py.typed").is_file(), "without py.typed nobody's type checker reads the annotations"
    assert metadata.metadata("django-mongo-history")["License-Expression"] == "MIT"
    settings.configure(
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_mongo_history"],
        MIDDLEWARE=[
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django_mongo_history.middleware.HistoryMiddleware",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        TRACKED_DOCUMENTS=[f"{SmokeTest.__module__}.SmokeTest"],
        USE_TZ=True,
    )
    connect(DATABASE, host=os.environ["MONGODB_URI"], uuidRepresentation="standard")
    django.setup()
    try:
        work()
    finally:
        get_connection().drop_database(DATABASE)


def work() -> None:
    from django_mongo_history import changeset, history_of

    assert "no issues" in said("check", "--database", "default")
    assert "made" in said("history_indexes")
    with changeset(user="ada", reason="smoke"):
        thing = SmokeTest(name="a").save()
        thing.update(inc__count=1)
    SmokeTest.objects.update(name="b")
    moment = thing.history[1].at
    assert [str(v.operation) for v in thing.history] == ["create", "update", "update"]
    thing.history.revert(since=moment)
    assert [v["name"] for v in history_of(thing)] == ["a", "a", "b", "a"]
    assert "smoke" in said("history_log")
    assert "0 baselines missing" in said("history_baseline", "--dry-run")
    said("history_revert", "--since", moment.isoformat(), "--dry-run")
    said("makemigrations", "--check", "--dry-run")
    print(f"the wheel alone: {len(thing.history)} versions, 4 commands, from {Path(sys.prefix).name}")


def said(*command: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        call_command(*command, stdout=out)
    return out.getvalue()


if __name__ == "__main__":
    main()
