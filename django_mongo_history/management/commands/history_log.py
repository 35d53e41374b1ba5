"""`manage.py history_log`: who changed what, newest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_mongo_history.core.model import Operation, UserRef
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.management import arguments, lines
from django_mongo_history.management.base import HistoryCommand, one_line
from django_mongo_history.query import Conditions, History, Selection, Version


class Command(HistoryCommand):
    help = (
        "Lists versions and drops of collections, newest first, one a line. With --document and --id: the whole history "
        "of that document, the versions included that are derived on reading, with every change."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_documents(parser)
        parser.add_argument(
            "--id", metavar="PK", help="Only the document with this primary key, of the one --document."
        )
        parser.add_argument(
            "--since", metavar="MOMENT", help=f"Versions after this moment. {arguments.MOMENT_HELP}"
        )
        parser.add_argument("--until", metavar="MOMENT", help="Versions up to this moment, included.")
        parser.add_argument("--user", metavar="U", help="Versions of this user, by name or key.")
        parser.add_argument(
            "--operation",
            choices=[operation.value for operation in Operation],
            help="Versions that did this. `external` ones are derived, so they show with --id only.",
        )
        parser.add_argument("--changeset", metavar="ID", help="Versions of this changeset.")
        parser.add_argument("--limit", type=arguments.positive, metavar="N", help="The newest N and no more.")
        parser.add_argument(
            "--json",
            action="store_true",
            help="One JSON object a line, values in MongoDB's canonical extended JSON.",
        )

    def work(self, options: dict[str, Any]) -> None:
        self.unreadable: dict[Any, BrokenChainError] = {}
        wanted = self._conditions(options)
        selection = arguments.parse_selection(
            options["document"], [] if options["id"] is None else [options["id"]]
        )
        is_one = selection.document_ids is not None
        found: Iterator[Version | Tombstone] = (
            _of_one(selection, wanted) if is_one else _of_all(selection, wanted)
        )
        for version in islice(found, options["limit"]):
            try:
                said = _said(version, is_json=options["json"], with_changes=is_one)
            except BrokenChainError as error:
                self._leave_out(error)
                continue
            for line in said:
                self.stdout.write(line)
        if self.unreadable:
            raise CommandError(
                f"Stored versions that cannot be read and are not listed: {len(self.unreadable)}."
            )

    def _leave_out(self, error: BrokenChainError) -> None:
        """Say it once, and go on: one broken row is no reason to hide the others."""
        if error.version not in self.unreadable:
            self.unreadable[error.version] = error
            self.remark(one_line(error))

    def _conditions(self, options: dict[str, Any]) -> Conditions:
        operation = options["operation"]
        return Conditions(
            after=arguments.parse_moment(options["since"], name="--since", say=self.remark),
            before=arguments.until(arguments.parse_moment(options["until"], name="--until", say=self.remark)),
            users=arguments.parse_user(options["user"]),
            operation=None if operation is None else Operation(operation),
            changeset=arguments.parse_changeset(options["changeset"]),
            unreadable=self._leave_out,
        )


def _said(version: Version | Tombstone, *, is_json: bool, with_changes: bool) -> list[str]:
    """The lines about a version. Raises: BrokenChainError where its row cannot be read."""
    if isinstance(version, Tombstone):
        return [lines.dropped_json(version) if is_json else lines.dropped(version)]
    if is_json:
        return [lines.json_line(version)]
    return [lines.summary(version), *(lines.change_lines(version) if with_changes else ())]


def _of_all(selection: Selection, wanted: Conditions) -> Iterator[Version | Tombstone]:
    records = selection.records(wanted, newest_first=True)
    drops: list[Tombstone] = [drop.tombstone for drop in selection.drops(wanted, newest_first=True)]
    for source, record in records:
        while drops and drops[0].at >= record.at:
            yield drops.pop(0)
        yield Version(selection.sources, source, record=record)
    yield from drops


def _of_one(selection: Selection, wanted: Conditions) -> Iterator[Version]:
    """One document's history: read as a whole, for a derived version shows only there."""
    (source, ids), *_ = selection.targets()
    history = History(selection.sources, source, (ids or [None])[0])
    found: dict[Any, Version] = {}
    users: Sequence[UserRef | None] = wanted.users or [None]
    for user in users:
        versions = history.versions(
            before=wanted.before, after=wanted.after, user=user, operation=wanted.operation
        )
        found.update({version.id: version for version in versions})
    for version in sorted(found.values(), key=lambda one: one.index, reverse=True):
        if wanted.changeset is None or version.changeset == wanted.changeset:
            yield version
