"""`manage.py history_revert`: back to a moment, or without what one user or one changeset did."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from bson import ObjectId
from django.core.management.base import CommandError, CommandParser
from pymongo.errors import PyMongoError

from django_mongo_history import context, revert
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.management import arguments, lines
from django_mongo_history.management.base import HistoryCommand, one_line, progress_bar
from django_mongo_history.query import Conditions
from django_mongo_history.reading import Source
from django_mongo_history.revert import Conflict, Kind, Plan

_DONE: Final = {Kind.REMOVE: "removed", Kind.UPDATE: "updated", Kind.RESTORE: "restored"}


class ConflictsLeftError(CommandError):
    """
    Some documents were left as they are; the others are done. Exit code 1.

    `conflicts`: one a document. `count`: how many documents were written. `changeset`: what they were written as.
    """

    def __init__(
        self, message: str, *, conflicts: list[Conflict], count: int = 0, changeset: ObjectId | None = None
    ) -> None:
        super().__init__(message)
        self.conflicts = conflicts
        self.count = count
        self.changeset = changeset


class Command(HistoryCommand):
    help = (
        "Writes earlier states back, as one new changeset, which can itself be taken back. --since alone: all documents "
        "as they stood at that moment. --since with --user: takes back what that user did since. --changeset: takes "
        "back that changeset. What cannot be done without destroying something is listed, left as it is, and makes "
        "the exit code 1."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--since",
            metavar="MOMENT",
            help=f"Versions after this moment are reverted. {arguments.MOMENT_HELP}",
        )
        what.add_argument("--changeset", metavar="ID", help="The changeset to be taken back.")
        parser.add_argument(
            "--user",
            metavar="U",
            help="With --since: only what this user did, by name (as the versions have it) or key.",
        )
        arguments.add_documents(parser)
        parser.add_argument(
            "--id",
            metavar="PK",
            action="append",
            default=[],
            help="Only the document with this primary key, of the one --document. May be given several times.",
        )
        parser.add_argument(
            "--using",
            metavar="ALIAS",
            help="MongoEngine's alias of the connection whose documents are meant.",
        )
        parser.add_argument("--reason", metavar="TEXT", help="Why: kept with every new version.")
        parser.add_argument(
            "--dry-run", action="store_true", help="List what would happen and write nothing."
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help="Go past conflicts where that is possible: states that today's classes cannot load, missing files, "
            "and what others changed again since.",
        )
        parser.add_argument(
            "--no-input",
            "--noinput",
            dest="interactive",
            action="store_false",
            help="Do not ask before writing.",
        )

    def work(self, options: dict[str, Any]) -> None:
        if options["user"] is not None and options["since"] is None:
            raise CommandError("--user goes with --since.")
        if options["interactive"] and not options["dry_run"] and not sys.stdin.isatty():
            raise CommandError("There is no terminal to ask on: give --no-input to write, or --dry-run.")
        plan = self._plan(options)
        self._show(plan)
        changeset = None
        if options["dry_run"]:
            self._list(plan)
        elif plan.items:
            if options["interactive"]:
                _ask()
            changeset = self._apply(plan, options["reason"])
        if plan.conflicts:
            raise _left(plan, changeset)

    def _plan(self, options: dict[str, Any]) -> Plan:
        moment = arguments.parse_moment(options["since"], name="--since", say=self.stdout.write)
        changeset = arguments.parse_changeset(options["changeset"])
        users = arguments.parse_user(options["user"])
        selection = arguments.parse_selection(options["document"], options["id"], using=options["using"])
        force = options["force"]
        with progress_bar("Looking") as progress:
            if moment is not None and not users:
                return revert.plan_since(selection.targets(), moment, force=force, progress=progress)
            doers: Counter[str] = Counter()
            wanted = Conditions(after=moment, users=users, changeset=changeset)
            drops = selection.drops(wanted)
            plan = revert.plan_take_back(
                _counted(selection.records(wanted), doers),
                drops=drops,
                revert_of=changeset or moment,
                force=force,
                keeps_versions=False,
                progress=progress,
            )
        if changeset is not None and not doers and not drops:
            raise CommandError(f"--changeset: no version belongs to {changeset}.")
        for doer, count in doers.items():
            self.stdout.write(f"Taking back {count} versions of {doer}.")
        for drop in drops:
            self.stdout.write(f"Taking back: {lines.dropped(drop.tombstone)}")
        return plan

    def _show(self, plan: Plan) -> None:
        counts = Counter((item.source.tracked.label, item.kind) for item in plan.items)
        for label in sorted({label for label, _kind in counts}):
            parts = [f"{counts[label, kind]} to be {_DONE[kind]}" for kind in Kind if counts[label, kind]]
            self.stdout.write(f"{label}: {', '.join(parts)}")
        if not plan.items:
            self.stdout.write("Nothing to do.")
        self._list_conflicts(plan.conflicts)

    def _list(self, plan: Plan) -> None:
        for kind in Kind:
            for item in plan.of_kind(kind):
                self.stdout.write(f"would {kind.value} {item.source.tracked.label} {item.document_id!r}")

    def _list_conflicts(self, conflicts: Sequence[Conflict]) -> None:
        for one in conflicts:
            forceable = " (--force goes past it)" if one.can_be_forced else ""
            self.stderr.write(f"conflict: {one}{forceable}")

    def _apply(self, plan: Plan, reason: str | None) -> ObjectId | None:
        known = len(plan.conflicts)
        with _changeset(reason) as changeset:
            try:
                with progress_bar("Writing", total=len(plan.items)) as progress:
                    revert.apply(plan, progress=progress)
            except PyMongoError as error:
                raise CommandError(
                    f"MongoDB: {one_line(error)}. {plan.count} of {len(plan.items)} documents were written before, "
                    f"as changeset {changeset}; call the command again to go on."
                ) from error
        self._list_conflicts(plan.conflicts[known:])
        if plan.count:
            self.stdout.write(f"{plan.count} documents written as changeset {changeset}")
        return changeset if plan.count else None


@contextmanager
def _changeset(reason: str | None) -> Iterator[ObjectId]:
    """The changeset that is open, or one of our own, by nobody; either says that this command wrote in it."""
    extra = {"command": "history_revert"}
    with ExitStack() as stack:
        if context.current_changeset() is None:
            stack.enter_context(context.open_changeset(user=None, reason=reason, extra=extra))
        else:
            stack.enter_context(context.extra_change_info(**extra))
            if reason is not None:
                stack.enter_context(context.rationale(reason))
        changeset = context.current_changeset()
        assert changeset is not None
        yield changeset


def _counted(
    records: Iterable[tuple[Source, VersionRecord]], doers: Counter[str]
) -> Iterator[tuple[Source, VersionRecord]]:
    """The records, their users counted on the way."""
    for source, record in records:
        user = record.context.user
        model = f" ({user.model} {user.pk})" if user is not None and user.model else ""
        doers["nobody known" if user is None else f"{user}{model}"] += 1
        yield source, record


def _ask() -> None:
    try:
        answer = input("Write this? Type 'yes' to go on: ")
    except EOFError:
        answer = ""
    if answer.strip().lower() != "yes":
        raise CommandError("Cancelled, nothing was written.")


def _left(plan: Plan, changeset: ObjectId | None) -> ConflictsLeftError:
    return ConflictsLeftError(
        f"{len(plan.conflicts)} documents are left as they are, see above.",
        conflicts=list(plan.conflicts),
        count=plan.count,
        changeset=changeset,
    )
