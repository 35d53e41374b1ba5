"""`manage.py history_as_of`: the documents of a class as they stood, in a collection of their own."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_mongo_history.management import arguments
from django_mongo_history.management.base import HistoryCommand, progress_bar
from django_mongo_history.query import ClassHistory


class Command(HistoryCommand):
    help = (
        "Writes all documents of a class as they stood at a moment into a collection beside the live one, with its "
        "indexes, to be queried. Refuses a name that belongs to anything else. --list and --drop are for those it has made."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("moment", nargs="?", metavar="MOMENT", help=arguments.MOMENT_HELP)
        parser.add_argument(
            "--document",
            metavar="LABEL",
            required=True,
            help="The class, by its dotted path, as in shop.documents.Order; subclasses come with it.",
        )
        parser.add_argument(
            "--using", metavar="ALIAS", help="Another connection of MongoEngine's than the class's own."
        )
        action = parser.add_mutually_exclusive_group(required=True)
        action.add_argument(
            "--into", metavar="NAME", help="The collection to write; one of its own is replaced."
        )
        action.add_argument(
            "--drop", metavar="NAME", help="Drop this one of the collections that it has made."
        )
        action.add_argument("--list", action="store_true", help="List the collections that it has made.")

    def work(self, options: dict[str, Any]) -> None:
        selection = arguments.parse_selection([options["document"]], using=options["using"])
        (source, _ids), *_others = selection.targets()
        history = ClassHistory(selection.sources, source)
        moment = arguments.parse_moment(options["moment"], name="MOMENT", say=self.remark)
        if options["into"] is not None:
            if moment is None:
                raise CommandError(
                    "MOMENT: say as of when, as in history_as_of 2026-02-08T23:03:00Z --into NAME."
                )
            self._write(history, moment, options["into"], total=source.collection.estimated_document_count())
        elif moment is not None:
            raise CommandError("MOMENT goes with --into.")
        elif options["drop"] is not None:
            self._drop(history, options["drop"])
        else:
            for one in history.materialized():
                self.stdout.write(
                    f"{one.collection_name} as of {one.moment.isoformat()}: {one.count} documents"
                )

    def _write(self, history: ClassHistory, moment: Any, name: str, *, total: int) -> None:
        try:
            with progress_bar(name, total=total) as progress:
                made = history.as_of(moment).into(name, progress=progress)
        except (TypeError, ValueError) as error:
            raise CommandError(f"--into: {str(error).removeprefix('into(): ')}") from error
        self.stdout.write(f"{made.collection_name}: {made.count} documents as of {made.moment.isoformat()}")
        for index in made.skipped_indexes:
            self.remark(f"The unique index {index} is left out: the documents of then do not allow it.")

    def _drop(self, history: ClassHistory, name: str) -> None:
        for one in history.materialized():
            if one.collection_name == name:
                one.drop()
                self.stdout.write(f"{name} dropped")
                return
        known = ", ".join(one.collection_name for one in history.materialized()) or "none"
        raise CommandError(f"--drop: {name!r} is none of the collections made of this class: {known}.")
