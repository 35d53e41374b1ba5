"""`manage.py history_status`: how much is on its way, since when, and whether that is well; for monitoring."""

from __future__ import annotations

import json
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_mongo_history import depots, runtime
from django_mongo_history.delivery.moving import Depot
from django_mongo_history.management import arguments
from django_mongo_history.management.base import HistoryCommand

_MOST_LISTED = 10


class Command(HistoryCommand):
    help = (
        "Says how many versions wait in outboxes and since when, how many messages wait at the broker, and what was laid "
        "aside. Ends with 1 where something waits too long, was laid aside, or cannot be asked. Changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--max-age",
            type=arguments.positive,
            default=300,
            metavar="SECONDS",
            help="How old the oldest waiting version may be. The default is 300.",
        )
        parser.add_argument(
            "--max-waiting",
            type=arguments.positive,
            metavar="N",
            help="How many versions may wait in an outbox.",
        )
        parser.add_argument(
            "--max-messages",
            type=arguments.positive,
            metavar="N",
            help="How many messages may wait in a queue of the broker. Their age only Redis tells.",
        )
        parser.add_argument("--using", metavar="ALIAS", help="Only this MongoEngine connection.")
        parser.add_argument("--json", action="store_true", help="One JSON object instead of text.")

    def work(self, options: dict[str, Any]) -> None:
        Context().run(self._look, options)  # a session that the caller has bound is none of this

    def _look(self, options: dict[str, Any]) -> None:
        arguments.check_alias(options["using"])
        now = datetime.now(UTC)
        outboxes = [_facts(depot, now) for depot in depots.each(using=options["using"])]
        queues, broker_error = _messages(now)
        problems = [problem for facts in outboxes for problem in _problems(facts, options)]
        problems += _queue_problems(queues, broker_error, options)
        if options["json"]:
            said = {"outboxes": outboxes, "queues": queues, "problems": problems, "is_well": not problems}
            self.stdout.write(json.dumps(said))
        else:
            self._say(outboxes, queues)
        if problems:
            raise CommandError("; ".join(problems))

    def _say(self, outboxes: list[dict[str, Any]], queues: list[dict[str, Any]]) -> None:
        for facts in outboxes:
            self.stdout.write(f"{facts['outbox']}: {_waiting(facts)}")
            self.stdout.write(f"{facts['dead_letters']}: {facts['dead']} laid aside")
            for letter in facts["letters"]:
                self.stdout.write(
                    f"  {letter['id']} of {letter['collection'] or 'a message'}: {letter['error']}"
                )
        for facts in queues:
            self.stdout.write(f"queue {facts['queue']} of the broker: {_in_queue(facts)}")
        if not outboxes and not queues:
            self.stdout.write("No class is tracked, and there is no outbox.")


def _facts(depot: Depot, now: datetime) -> dict[str, Any]:
    waiting, letters = depot.outbox.waiting(), []
    for letter in depot.dead_letters.letters():
        letters.append({"id": str(letter.id), "collection": letter.collection, "error": letter.error})
        if len(letters) == _MOST_LISTED:
            break
    return {
        "outbox": depot.outbox.name,
        "waiting": waiting.count,
        "refused": waiting.refused,
        "oldest": None if waiting.oldest is None else waiting.oldest.isoformat(),
        "oldest_age_s": None
        if waiting.oldest is None
        else max(0, round((now - waiting.oldest).total_seconds())),
        "dead_letters": depot.dead_letters.name,
        "dead": depot.dead_letters.count(),
        "letters": letters,
    }


def _waiting(facts: dict[str, Any]) -> str:
    if not facts["waiting"]:
        return "nothing waits"
    age = timedelta(seconds=facts["oldest_age_s"])
    said = f"{facts['waiting']} versions wait, the oldest since {facts['oldest']} ({age})"
    return f"{said}; {facts['refused']} were refused before" if facts["refused"] else said


def _in_queue(facts: dict[str, Any]) -> str:
    if facts["messages"] is None:
        return "it does not say how many messages wait"
    said = f"{facts['messages']} messages wait"
    if facts["oldest"] is None:
        return said
    return f"{said}, the oldest version since {facts['oldest']} ({timedelta(seconds=facts['oldest_age_s'])})"


def _messages(now: datetime) -> tuple[list[dict[str, Any]], str | None]:
    """What waits at the broker, where versions go that way; and why it cannot be asked."""
    if not runtime.uses_broker():
        return [], None
    from django_mongo_history import tasks

    try:
        found = tasks.waiting_messages()
    except Exception as error:  # noqa: BLE001 - transports raise what they like, and it is told
        return [], f"{type(error).__name__}: {error}"
    return [
        {"queue": name, "messages": one.messages, **_age(one.oldest, now)} for name, one in found.items()
    ], None


def _age(oldest: datetime | None, now: datetime) -> dict[str, Any]:
    if oldest is None:
        return {"oldest": None, "oldest_age_s": None}
    return {"oldest": oldest.isoformat(), "oldest_age_s": max(0, round((now - oldest).total_seconds()))}


def _problems(facts: dict[str, Any], options: dict[str, Any]) -> list[str]:
    found = []
    if facts["waiting"] and facts["oldest_age_s"] > options["max_age"]:
        found.append(
            f"{facts['outbox']}: the oldest version has waited {facts['oldest_age_s']} s, more than {options['max_age']} s"
        )
    if options["max_waiting"] is not None and facts["waiting"] > options["max_waiting"]:
        found.append(
            f"{facts['outbox']}: {facts['waiting']} versions wait, more than {options['max_waiting']}"
        )
    if facts["dead"]:
        found.append(
            f"{facts['dead_letters']}: {facts['dead']} laid aside; `manage.py history_flush --dead` tries again"
        )
    return found


def _queue_problems(
    queues: list[dict[str, Any]], broker_error: str | None, options: dict[str, Any]
) -> list[str]:
    found = [] if broker_error is None else [f"the broker cannot be asked: {broker_error}"]
    most, oldest = options["max_messages"], options["max_age"]
    for facts in queues:
        name, count, age = facts["queue"], facts["messages"], facts["oldest_age_s"]
        if most is not None and count is not None and count > most:
            found.append(f"queue {name}: {count} messages wait, more than {most}")
        if age is not None and age > oldest:
            found.append(f"queue {name}: the oldest version has waited {age} s, more than {oldest} s")
    return found
