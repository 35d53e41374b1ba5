"""`manage.py history_convert`: old histories, brought over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from bson import json_util
from bson.binary import UuidRepresentation
from django.core.management.base import CommandError, CommandParser

from django_mongo_history.conversion.formats import known_formats
from django_mongo_history.conversion.run import CHUNK
from django_mongo_history.converter import HistoryConverter, Plan, Report, Status
from django_mongo_history.management import arguments, conversions
from django_mongo_history.management.base import HistoryCommand, progress_bar

_JSON: Final = json_util.RELAXED_JSON_OPTIONS.with_options(uuid_representation=UuidRepresentation.STANDARD)
_MOST_LISTED: Final = 20
_RESTART: Final = "What was done so far is forgotten; versions of other options are removed and made anew."
_LOOKS: Final = ("dry_run", "verify", "status")
_COLUMNS: Final = ("documents", "rows", "versions", "gaps", "told", "untracked", "bad", "differences")


class DifferencesFoundError(CommandError):
    """`--verify` has found differences. Exit code 1. `reports`: one for each source."""

    def __init__(self, message: str, *, reports: Sequence[Report]) -> None:
        super().__init__(message)
        self.reports = list(reports)


class Command(HistoryCommand):
    help = (
        "Converts the history that a project already has: reads the old rows, stores versions, changes nothing in the source. "
        "Without SOURCE it looks for old histories of the tracked classes, and asks. Safe beside live writes; what was cut "
        "short is gone on with by calling it again. The last line is the number of documents that were converted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        known = ", ".join(known_formats())
        parser.add_argument(
            "source", nargs="?", metavar="SOURCE", help=f"{known}; or the dotted path of a class."
        )
        arguments.add_documents(parser)
        parser.add_argument("--using", metavar="ALIAS", help="Another connection than the class's own.")
        parser.add_argument(
            "--chunked",
            action="store_true",
            help="Convert --chunk-size documents and end; 0 means that all is done.",
        )
        parser.add_argument(
            "--chunk-size",
            type=arguments.positive,
            metavar="N",
            help=f"Documents of one run of --chunked; {CHUNK} if not told otherwise.",
        )
        parser.add_argument(
            "--until-done", action="store_true", help="With --chunked: go on until all is done."
        )
        parser.add_argument(
            "--update-from",
            metavar="MOMENT",
            help=f"Catch up with rows stored since this moment at least. {arguments.MOMENT_HELP}",
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--dry-run", action="store_true", help="Say what would become of the rows; write nothing."
        )
        what.add_argument(
            "--verify", action="store_true", help="Compare rows and versions; exit code 1 where they differ."
        )
        what.add_argument("--status", action="store_true", help="Say how far each conversion is.")
        what.add_argument("--restart", action="store_true", help="Forget how far it is, and begin anew.")
        parser.add_argument("--json", action="store_true", help="One JSON object in the place of the output.")
        parser.add_argument(
            "--no-input", "--noinput", dest="interactive", action="store_false", help="Do not ask."
        )
        conversions.add_options(parser)

    def work(self, options: dict[str, Any]) -> None:
        _check_together(options)
        since = arguments.parse_moment(options["update_from"], name="--update-from", say=self.remark)
        found = conversions.find_conversions(
            options["source"],
            options["document"],
            conversions.given_options(options),
            using=options["using"],
        )
        self.is_json = options["json"]
        if options["status"]:
            self._status([one.status() for one in found])
        elif options["verify"]:
            self._verify(found)
        elif options["dry_run"]:
            self._dry_run(found)
        else:
            self._begin(found, options)
            self._convert(found, options, since)

    # -- looking ---------------------------------------------------------------------------------------------------

    def _status(self, found: Sequence[Status]) -> None:
        if self.is_json:
            self._print_json({"conversions": [_status_json(one) for one in found]})
            return
        for one in found:
            counts = one.counts
            text = f"{one.label} from {one.source} {one.place}: {one.state}"
            if one.state != "not begun":
                text += (
                    f", {counts.documents} documents, {counts.rows} rows, {counts.versions} versions, {counts.gaps} gaps, "
                    f"{counts.bad} bad rows"
                )
            if one.caught_up_to is not None:
                text += f", caught up to {one.caught_up_to.isoformat(timespec='seconds')}"
            self.stdout.write(text)
            for document_id, row, reason in one.bad:
                self.stdout.write(f"    bad row {row} of {document_id!r}: {reason}")

    def _dry_run(self, found: Sequence[HistoryConverter]) -> None:
        plans = self._plans(found)
        for remark in (remark for _one, plan in plans for remark in plan.remarks):
            self.remark(remark)
        reports = [self._with_bar(one, one.dry_run, plan) for one, plan in plans]
        if self.is_json:
            self._print_json({"dry_run": [one.to_dict() for one in reports]})
            return
        for report in reports:
            self.stdout.write(f"{_summary(report)} would be made")
            self._list(report)

    def _verify(self, found: Sequence[HistoryConverter]) -> None:
        reports = [self._with_bar(one, one.verify, plan) for one, plan in self._plans(found)]
        if self.is_json:
            self._print_json({"verify": [one.to_dict() for one in reports]})
        else:
            for line in _table(reports):
                self.stdout.write(line)
            for report in reports:
                for one in report.differences[:_MOST_LISTED]:
                    self.stdout.write(f"difference: {report.label} {one.document_id!r}: {one.reason}")
                for one in report.remarks[:_MOST_LISTED]:
                    self.remark(f"{report.label} {one.document_id!r}: {one.reason}")
                if report.remark_count > _MOST_LISTED:
                    self.remark(
                        f"{report.remark_count} documents of which this is so; --json names more of them."
                    )
        count = sum(report.difference_count for report in reports)
        if count:
            raise DifferencesFoundError(f"{count} differences.", reports=reports)

    # -- converting ------------------------------------------------------------------------------------------------

    def _begin(self, found: Sequence[HistoryConverter], options: dict[str, Any]) -> None:
        """Say what there is, and ask where that is due. Everything is checked before anything is written."""
        is_restart, is_found = options["restart"], options["source"] is None
        for one in found:
            one.check(is_restart=is_restart)
        if is_found and not self.is_json:
            for one, plan in self._plans(found, is_restart=is_restart):
                self.stdout.write(
                    f"{plan.label}: {plan.documents} documents, {plan.rows} rows in {plan.place} ({one.format.name})"
                )
        questions = [one.format.asks for one in found if one.format.asks]
        if is_restart:
            questions.append(_RESTART)
        if is_found or questions:
            self._ask(questions, is_interactive=options["interactive"])
        for one in found:
            if is_restart:
                one.restart()
            for remark in one.remarks():
                self.remark(remark)

    def _convert(self, found: Sequence[HistoryConverter], options: dict[str, Any], since: Any) -> None:
        count = 0
        reports: list[Report] = []
        for one in found:
            total = one.format.reader().size().documents if sys.stderr.isatty() else None
            with progress_bar(one.label, total=total) as progress:
                one.on_progress(progress)
                made, some = _converted(one, options, since)
            count += made
            reports.extend(some)
        if self.is_json:
            self._print_json({"converted": count, "sources": [report.to_dict() for report in reports]})
            return
        for report in reports:
            self.stdout.write(f"{_summary(report)}, {report.new_versions} of them new")
            self._list(report)
        self.stdout.write(str(count))

    # -- saying ----------------------------------------------------------------------------------------------------

    def _plans(
        self, found: Sequence[HistoryConverter], *, is_restart: bool = False
    ) -> list[tuple[HistoryConverter, Plan]]:
        """All plans before anything else, so that what is wrong with one of them is said first."""
        return [(one, one.plan(is_restart=is_restart)) for one in found]

    def _with_bar(self, one: HistoryConverter, call: Callable[[], Report], plan: Plan) -> Report:
        with progress_bar(one.label, total=plan.documents) as progress:
            one.on_progress(progress)
            return call()

    def _list(self, report: Report) -> None:
        """Bad rows by name, gaps by number."""
        for one in report.bad[:_MOST_LISTED]:
            self.remark(f"bad row {one.row} of {report.label} {one.document_id!r}: {one.reason}")
        if len(report.bad) > _MOST_LISTED:
            self.remark(f"{report.counts.bad} bad rows; --json names more of them.")

    def _ask(self, questions: Sequence[str], *, is_interactive: bool) -> None:
        if not is_interactive:
            return
        if not sys.stdin.isatty():
            raise CommandError("There is no terminal to ask on: give --no-input to convert, or --dry-run.")
        for question in questions:
            self.stdout.write(question)
        try:
            answer = input("Convert this? Type 'yes' to go on: ")
        except EOFError:
            answer = ""
        if answer.strip().lower() != "yes":
            raise CommandError("Cancelled, nothing was written.")

    def _print_json(self, value: dict[str, Any]) -> None:
        self.stdout.write(json_util.dumps(value, json_options=_JSON, ensure_ascii=False))


def _check_together(options: dict[str, Any]) -> None:
    """Raises: CommandError for options that do not go together."""
    looks = [name for name in _LOOKS if options[name]]
    if options["chunk_size"] is not None and not options["chunked"]:
        raise CommandError("--chunk-size goes with --chunked.")
    if options["until_done"] and not options["chunked"]:
        raise CommandError("--until-done goes with --chunked.")
    if options["update_from"] is not None and (options["chunked"] or looks or options["restart"]):
        raise CommandError(
            "--update-from goes with none of --chunked, --dry-run, --verify, --status and --restart."
        )
    if options["chunked"] and looks:
        raise CommandError(f"--chunked does not go with --{looks[0].replace('_', '-')}.")


def _converted(one: HistoryConverter, options: dict[str, Any], since: Any) -> tuple[int, list[Report]]:
    """How many documents, and what became of them."""
    if since is not None:
        return one.update(since), [one.last_report]
    if not options["chunked"]:
        report = one.convert_all()
        return one.converted, [report]
    size = options["chunk_size"] or CHUNK
    count = one.convert(size)
    reports = [one.last_report]
    if options["until_done"]:
        while more := one.convert(size):
            count += more
            reports[0].join(one.last_report)
    return count, reports


def _summary(report: Report) -> str:
    counts = report.counts
    parts = [f"{counts.documents} documents, {counts.rows} rows, {counts.versions} versions"]
    for name, text in (
        ("gaps", "with a gap"),
        ("told", "rows told by live versions"),
        ("untracked", "rows of nothing tracked"),
        ("bad", "bad rows"),
        ("skipped", "documents of other classes"),
    ):
        if getattr(counts, name):
            parts.append(f"{getattr(counts, name)} {text}")
    return f"{report.label} from {report.source}: {', '.join(parts)}"


def _table(reports: Sequence[Report]) -> list[str]:
    rows: list[tuple[str, ...]] = [("class", *_COLUMNS, "source")]
    for report in reports:
        counts = {**report.counts.to_dict(), "differences": report.difference_count}
        rows.append((report.label, *(str(counts[name]) for name in _COLUMNS), report.source))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _status_json(one: Status) -> dict[str, Any]:
    return {
        "document": one.label,
        "source": one.source,
        "place": one.place,
        "options": one.options,
        "state": one.state,
        "counts": one.counts.to_dict(),
        "caught_up_to": one.caught_up_to,
        "leases": one.leases,
        "bad": [list(row) for row in one.bad],
    }
