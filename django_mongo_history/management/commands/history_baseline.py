"""`manage.py history_baseline`: stored first versions for documents that are older than their history."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_mongo_history import baseline, context
from django_mongo_history.management import arguments
from django_mongo_history.management.base import HistoryCommand, progress_bar
from django_mongo_history.reading import Source


class Command(HistoryCommand):
    help = (
        "Stores, for every document of the tracked classes that has no version yet, what it is now as its first one. "
        "Safe beside live writes. What was begun and cut short is gone on with by calling it again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_documents(parser)
        parser.add_argument(
            "--chunk-size",
            type=arguments.positive,
            metavar="N",
            help="Up to how many documents are read and stored at once. The default is MONGO_HISTORY['CHUNK_SIZE'].",
        )
        parser.add_argument("--dry-run", action="store_true", help="Count what is missing and store nothing.")

    def work(self, options: dict[str, Any]) -> None:
        selection = arguments.parse_selection(options["document"])
        walk = baseline.count_missing if options["dry_run"] else baseline.write_baselines
        sources = [source for source, _ids in selection.targets()]
        for source in sources:
            _refuse_transactions(source)
        with context.open_changeset(extra={"command": "history_baseline"}) as changeset:
            for source in sources:
                total = source.collection.estimated_document_count()
                with progress_bar(source.tracked.label, total=total) as progress:
                    counts = walk(source, progress=progress, chunk_size=options["chunk_size"])
                self._report(source.tracked.label, counts, dry_run=options["dry_run"])
        if not options["dry_run"]:
            self.stdout.write(f"Changeset {changeset}")

    def _report(self, label: str, counts: baseline.Counts, *, dry_run: bool) -> None:
        verb = "missing" if dry_run else "stored"
        text = f"{label}: {counts.written} baselines {verb}, {counts.present} documents have versions already"
        if counts.untracked:
            text += f", {counts.untracked} are of classes that are not tracked"
        self.stdout.write(text)


def _refuse_transactions(source: Source) -> None:
    """
    A walk is as many transactions as it has chunks, each committed before the next. Done beside the caller's, it would
    pass by what that has written; as a part of it, it would be one that no server lets grow so long.
    """
    if source.bound_session() is not None:
        raise CommandError(
            f"{source.namespace}: this code has bound a transaction, and baselines are stored in transactions of their "
            "own. Call history_baseline after the commit. Nothing was stored."
        )
