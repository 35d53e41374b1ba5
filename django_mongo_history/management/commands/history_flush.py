"""`manage.py history_flush`: moves on what waits in outboxes, for projects without a worker, and when one was down."""

from __future__ import annotations

import time
from contextvars import Context
from typing import Any

from django.core.management.base import CommandError, CommandParser
from pymongo.errors import PyMongoError

from django_mongo_history import depots
from django_mongo_history.delivery import moving
from django_mongo_history.errors import StoreError
from django_mongo_history.management import arguments
from django_mongo_history.management.base import HistoryCommand, one_line, progress_bar

_MOST_LISTED = 20


class Command(HistoryCommand):
    help = (
        "Stores the versions that wait in outboxes. Safe beside workers and other flushes, and safe to kill: a version "
        "is stored once. Ends with 1 where something is left."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dead",
            action="store_true",
            help="Try once more what was laid aside after its tries, too. What is refused again stays there.",
        )
        parser.add_argument(
            "--all",
            action="store_true",
            help="Try versions again that were refused a moment ago, without waiting for their time.",
        )
        parser.add_argument("--using", metavar="ALIAS", help="Only outboxes of this MongoEngine connection.")
        parser.add_argument(
            "--every",
            type=arguments.positive,
            metavar="SECONDS",
            help="Go on, with pauses of so many seconds, until it is interrupted: in the place of a worker.",
        )

    def work(self, options: dict[str, Any]) -> None:
        Context().run(self._flush, options)  # a session that the caller has bound is none of this

    def _flush(self, options: dict[str, Any]) -> None:
        arguments.check_alias(options["using"])
        if options["every"] is None:
            self._once(options)
            return
        while True:
            try:
                self._once(options)
            except (CommandError, StoreError, PyMongoError) as error:
                self.remark(one_line(error))
            time.sleep(options["every"])

    def _once(self, options: dict[str, Any]) -> None:
        total = moving.Counts()
        failures: list[Exception] = []
        try:
            for depot in depots.each(using=options["using"]):
                try:
                    counts = self._flushed(depot, options)
                except (StoreError, PyMongoError) as error:  # what waits elsewhere has its turn all the same
                    failures.append(error)
                    continue
                total.add(counts)
                if counts.stored or counts.refused or counts.dead or options["every"] is None:
                    self.stdout.write(f"{depot.outbox.name}: {_sentence(counts)}")
        except PyMongoError as error:  # a server of which it is not known what waits there
            failures.append(error)
        for reason in total.errors[:_MOST_LISTED]:
            self.remark(reason)
        if len(total.errors) > _MOST_LISTED:
            self.remark(f"... and {len(total.errors) - _MOST_LISTED} more")
        is_refused = bool(total.refused or total.dead)
        for failure in failures if is_refused else failures[1:]:
            self.remark(one_line(failure))
        if is_refused:
            raise CommandError(
                f"{total.refused + total.dead} versions could not be stored. Mend what the reasons name, then run "
                "`manage.py history_flush --all --dead`."
            )
        if failures:
            raise failures[0]

    def _flushed(self, depot: moving.Depot, options: dict[str, Any]) -> moving.Counts:
        waiting = depot.outbox.waiting().count
        with progress_bar(depot.outbox.name, total=waiting) as progress:
            counts = moving.sweep(depot, with_postponed=options["all"], progress=progress)
        if options["dead"]:
            with progress_bar(depot.dead_letters.name, total=depot.dead_letters.count()) as progress:
                counts.add(moving.revive(depot, depots.of, progress=progress))
        return counts


def _sentence(counts: moving.Counts) -> str:
    parts = [f"{counts.stored} versions stored"]
    if counts.refused:
        parts.append(f"{counts.refused} refused and kept")
    if counts.dead:
        parts.append(f"{counts.dead} laid aside")
    return ", ".join(parts)
