"""`manage.py history_indexes`: the history collections and their indexes, and how versions are delivered."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_mongo_history import runtime
from django_mongo_history.management.base import HistoryCommand


class Command(HistoryCommand):
    help = (
        "Makes the collections that versions are stored in, and their indexes; says what was missing, and which "
        "delivery is in force for each tracked class. Safe to repeat."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Say what is missing and make nothing.")

    def work(self, options: dict[str, Any]) -> None:
        sources = list(runtime.sources().all())
        for store in {id(source.store): source.store for source in sources}.values():
            missing = store.missing() if options["dry_run"] else store.prepare()
            verb = "missing" if options["dry_run"] else "made"
            self.stdout.write(
                f"{store.name}: {verb} {', '.join(missing)}" if missing else f"{store.name}: complete"
            )
        for source in sources:
            mode = source.environment.mode_for(source.tracked, source.collection)
            self.stdout.write(f"{source.tracked.label} in {source.namespace}: delivery {mode}")
        if not sources:
            self.stdout.write("No class is tracked.")
