"""Wrong input to the commands: one CommandError that says what is wrong, before anything is written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import mongoengine
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone
from mongoengine import fields

from tests.commanding import iso, now, revert, run, stored, version_count
from tests.judge import configured, tracking
from tests.plugin import UNREACHABLE


class Coin(mongoengine.Document):
    """Its keys are numbers."""

    number = fields.IntField(primary_key=True)
    value = fields.IntField()
    meta = {"collection": "coins"}


class Medal(mongoengine.Document):
    """Its keys are generated."""

    meta = {"collection": "medals"}


class Button(mongoengine.Document):
    """Not tracked."""

    meta = {"collection": "buttons"}


COIN = f"{Coin.__module__}.Coin"
MEDAL = f"{Medal.__module__}.Medal"


@pytest.fixture
def purse(mongodb: Any) -> Iterator[Any]:
    """Coins and medals are tracked, and there is something to lose."""
    with configured(), tracking(Coin), tracking(Medal):
        Coin(number=1, value=1).save()
        Coin.objects.update(value=2)
        yield mongodb


LONG_AGO = "2020-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "yesterday"], ["--since", "'yesterday' is no moment", "ISO 8601"]),
        (["--since", "2026-02-30"], ["--since", "no moment"]),
        (["--since", ""], ["--since", "no moment"]),
        (["--since", "9999-12-31"], ["future"]),
        (["--since", "0001-01-01T00:00:00+10:00"], ["out of range"]),
        (["--since", LONG_AGO, "--document", "nowhere.Nothing"], ["no MongoEngine document", COIN, MEDAL]),
        (["--since", LONG_AGO, "--document", COIN[:-1]], [f"Did you mean {COIN}?"]),
        (["--since", LONG_AGO, "--document", f"{Button.__module__}.Button"], ["not tracked", COIN]),
        (["--since", LONG_AGO, "--document", ""], ["no MongoEngine document"]),
        (["--since", LONG_AGO, "--id", "1"], ["exactly one --document"]),
        (["--since", LONG_AGO, "--document", COIN, "--document", MEDAL, "--id", "1"], ["exactly one"]),
        (
            ["--since", LONG_AGO, "--document", COIN, "--id", "one"],
            ["--id", "'one' is no primary key of Coin"],
        ),
        (["--since", LONG_AGO, "--document", COIN, "--id", "1", "--id", "x"], ["'x' is no primary key"]),
        (["--since", LONG_AGO, "--document", MEDAL, "--id", "1"], ["'1' is no primary key of Medal"]),
        (["--since", LONG_AGO, "--using", "elsewhere"], ["--using", "'elsewhere'", "default"]),
        (["--since", LONG_AGO, "--user", ""], ["--user"]),
        (["--changeset", "12"], ["--changeset", "'12' is no id"]),
        (["--changeset", "65f000000000000000000000"], ["no version belongs to 65f000000000000000000000"]),
        (["--changeset", "65f000000000000000000000", "--user", "anna"], ["--user goes with --since"]),
        (["--changeset", "65f000000000000000000000", "--since", LONG_AGO], ["not allowed with"]),
        ([], ["one of the arguments --since --changeset is required"]),
        (["--since", LONG_AGO, "--bogus"], ["unrecognized arguments"]),
    ],
)
def test_reverting_refuses_wrong_input(purse: Any, arguments: list[str], words: list[str]) -> None:
    """One error, one line, nothing written."""
    everything = stored("coins", "document_history")
    said = revert(*arguments)
    assert said.error is not None
    assert "\n" not in str(said.error)
    assert [word for word in words if word not in str(said.error)] == []
    assert stored("coins", "document_history") == everything


def test_a_moment_in_the_future_is_refused(purse: Any) -> None:
    """A minute is enough; it is more likely a slip in the zone than a wish."""
    said = revert("--since", iso(timezone.now() + timedelta(minutes=1)))
    assert "lies in the future" in str(said.error)
    assert version_count() == 2


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("history_log", ["--since", "soon"], ["--since"]),
        ("history_log", ["--until", "9999-01-01"], ["--until", "future"]),
        ("history_log", ["--document", "x.Y"], ["--document x.Y"]),
        ("history_log", ["--id", "1"], ["exactly one --document"]),
        ("history_log", ["--document", COIN, "--id", "one"], ["no primary key"]),
        ("history_log", ["--changeset", "zz"], ["--changeset"]),
        ("history_log", ["--operation", "eat"], ["invalid choice: 'eat'"]),
        ("history_log", ["--limit", "0"], ["--limit", "whole number from 1"]),
        ("history_log", ["--limit", "many"], ["--limit", "whole number from 1"]),
        ("history_baseline", ["--document", "x.Y"], ["--document x.Y"]),
        ("history_baseline", ["--chunk-size", "-1"], ["--chunk-size", "whole number from 1"]),
    ],
)
def test_the_other_commands_refuse_wrong_input(
    purse: Any, name: str, arguments: list[str], words: list[str]
) -> None:
    """In the same words."""
    said = run(name, *arguments)
    assert said.error is not None
    assert [word for word in words if word not in str(said.error)] == []
    assert version_count() == 2


# -- moments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-02-08T23:03:00", "2026-02-08T23:03:00+01:00"),
        ("2026-07-08 23:03", "2026-07-08T23:03:00+02:00"),
        ("2026-02-08", "2026-02-08T00:00:00+01:00"),
    ],
)
def test_a_moment_without_a_zone_is_read_in_djangos(purse: Any, text: str, moment: str) -> None:
    """And the output says so, with the zone's name and the moment that it is then."""
    with override_settings(TIME_ZONE="Europe/Berlin"):
        said = run("history_revert", "--since", text, "--dry-run")
    assert said.error is None
    assert f"--since: {text} is read in the time zone Europe/Berlin, so it is {moment}." in said.lines


@pytest.mark.parametrize("text", ["2026-02-08T23:03:00Z", "2026-02-08T23:03:00+05:30", "20260208T230300Z"])
def test_a_moment_with_a_zone_needs_no_words(purse: Any, text: str) -> None:
    """`Z` and offsets say it all."""
    said = run("history_revert", "--since", text, "--dry-run")
    assert said.error is None
    assert "time zone" not in said.out


@pytest.mark.parametrize("text", ["2025-10-26T02:30:00", "2026-03-29T02:30:00"])
def test_a_moment_that_a_clock_showed_twice_or_never_is_refused(purse: Any, text: str) -> None:
    """Which of both is meant only its writer knows."""
    with override_settings(TIME_ZONE="Europe/Berlin"):
        said = revert("--since", text)
    assert "+0200 or +0100" in str(said.error) or "+0100 or +0200" in str(said.error)


def test_a_project_without_time_zones_reads_its_wall_clock(purse: Any) -> None:
    """With USE_TZ off a moment is read in TIME_ZONE, and said so all the same."""
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
        said = run("history_revert", "--since", "2026-02-08", "--dry-run")
    assert said.error is None
    assert "Europe/Berlin" in said.out


def test_the_zone_that_is_active_counts(purse: Any) -> None:
    """As for every other date that Django reads."""
    with timezone.override("Asia/Tokyo"):
        said = run("history_log", "--since", "2026-02-08T23:03:00")
    assert "Asia/Tokyo" in said.err
    assert "Asia/Tokyo" not in said.out


# -- the database --------------------------------------------------------------------------------------------------


@pytest.fixture
def no_server() -> Iterator[None]:
    """A connection to an address where nobody answers."""
    mongoengine.connect(
        "nothing", host=f"mongodb://{UNREACHABLE}/?serverSelectionTimeoutMS=200&uuidRepresentation=standard"
    )
    with configured(), tracking(Coin):
        yield
    mongoengine.disconnect()


@pytest.mark.parametrize(
    "command",
    [
        ["history_revert", "--since", LONG_AGO, "--no-input"],
        ["history_revert", "--changeset", "65f000000000000000000000", "--no-input"],
        ["history_log"],
        ["history_log", "--document", COIN, "--id", "1"],
        ["history_baseline"],
        ["history_indexes"],
    ],
)
def test_a_database_that_is_down_is_one_line(no_server: None, command: list[str]) -> None:
    """No traceback, no topology."""
    said = run(*command)
    assert str(said.error).startswith("MongoDB: ")
    assert UNREACHABLE in str(said.error)
    assert "\n" not in str(said.error)
    assert "Topology" not in str(said.error)


@pytest.mark.parametrize(
    "name", ["history_revert", "history_log", "history_baseline", "history_as_of", "history_indexes"]
)
def test_help_explains_every_argument(name: str) -> None:
    """No argument goes without a word."""
    from django.core.management import get_commands, load_command_class

    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    silent = [action.dest for action in parser._actions if not action.help]
    assert silent == []
    assert parser.description


def test_a_server_that_goes_away_in_the_middle_says_how_far_it_came(
    purse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written stays, has its changeset, and the same call goes on from there."""
    from pymongo.errors import AutoReconnect

    from django_mongo_history import revert as reverting

    Coin.objects.insert([Coin(number=number) for number in range(2, 5)])
    moment = now()
    Coin.objects.delete()

    def interrupted(plan: Any, progress: Any) -> None:
        plan.count = 2
        raise AutoReconnect("gone")

    with monkeypatch.context() as patched:
        patched.setattr(reverting, "apply", interrupted)
        said = revert("--since", iso(moment))
    assert "MongoDB: gone. 2 of 4 documents were written before, as changeset" in str(said.error)
    assert revert("--since", iso(moment)).error is None
    assert Coin.objects.count() == 4


def test_callers_may_use_keywords(purse: Any) -> None:
    """`call_command` with keyword arguments checks the same."""
    with pytest.raises(CommandError, match="no moment"):
        call_command("history_revert", since="x", interactive=False, stdout=io.StringIO())
