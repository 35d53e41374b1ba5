"""
What users call to bring an old history along: one class and one source. The command `history_convert` is this, for several.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from django_mongo_history import documents, runtime
from django_mongo_history.conversion.base import Format, Target
from django_mongo_history.conversion.checkpoint import Checkpoint
from django_mongo_history.conversion.formats import find_format
from django_mongo_history.conversion.options import as_text, read_options
from django_mongo_history.conversion.record import SUFFIX, Identity, Record
from django_mongo_history.conversion.report import Counts, Named, Report
from django_mongo_history.conversion.run import CHUNK, PORTION, Progress, Run
from django_mongo_history.conversion.verifying import verify
from django_mongo_history.errors import ConversionError
from django_mongo_history.storage.base import Store

__all__ = ["Counts", "HistoryConverter", "Named", "Plan", "Report", "Status"]


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What would be converted: the class, the format, where its rows lie, with which options, and how much there is.

    `is_begun`: whether a run has begun it already. `remarks`: what should be looked at before a run.
    """

    label: str
    source: str
    place: str
    options: str
    documents: int
    rows: int
    is_begun: bool
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """
    How far a conversion is. `state`: "not begun", "converting", or "done" when the first pass is over. `caught_up_to`: rows
    stored before that moment are converted. `leases`: portions that somebody is at. `bad`: rows by (document id, row id, reason).
    """

    label: str
    source: str
    place: str
    options: str
    state: str
    counts: Counts
    caught_up_to: datetime | None = None
    leases: int = 0
    bad: tuple[Any, ...] = ()


class HistoryConverter:
    """
    Brings the old history of a class along.

    `source`: the name of a format, the dotted path of its class, or the class; `options` are the format's. `using`: another
    connection of MongoEngine's than the class's own. `progress` is called with numbers of documents.
    Raises: NotTrackedError; ConversionError for an unknown source, and for options that are unknown or wrong.
    """

    def __init__(
        self,
        document_class: type[Any],
        source: str | type[Format],
        *,
        using: str | None = None,
        progress: Progress = lambda count: None,
        **options: Any,
    ) -> None:
        if not documents.is_document_class(document_class):
            raise TypeError(
                f"HistoryConverter(): expected a MongoEngine document class, got {document_class!r}"
            )
        found = find_format(source) if isinstance(source, str) else source
        self._source = runtime.sources().of_class(document_class, using=using)
        target = Target(self._source)
        given = _with_project(found, options)
        self._options = read_options(found.options, given, format_name=found.name)
        self.format = found(target, self._options)
        self._assumes_zone = self._options.get("source_timezone") is not None and not options.get(
            "source_timezone"
        )
        self._progress = progress
        self._beside: frozenset[str] = frozenset()
        self._report: Report | None = None
        self.converted = 0
        """How many documents the last call converted."""

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def last_report(self) -> Report:
        """What the last call that converted did."""
        if self._report is None:
            raise ConversionError("Nothing was converted yet, so there is no report.")
        return self._report

    def remarks(self) -> list[str]:
        """What should be looked at before a run: what was taken for granted, and what the rows speak against."""
        found = list(self.format.remarks())
        if self._assumes_zone:
            zone = self._options["source_timezone"]
            found.insert(
                0, f"{self.label}: without --source-timezone old local times are read as those of {zone}."
            )
        return found

    def on_progress(self, progress: Progress) -> None:
        """Have `progress` called with numbers of documents from now on."""
        self._progress = progress

    @property
    def label(self) -> str:
        """The dotted path of the class."""
        return self._source.tracked.label

    def check(self, *, is_restart: bool = False) -> None:
        """
        Raises: ConversionError where it cannot be begun or gone on with. Writes nothing.

        `is_restart`: what was begun otherwise does not count, for it is to be forgotten.
        """
        if self._source.bound_session() is not None:
            raise ConversionError("An old history cannot be converted inside of a transaction.")
        try:
            self.format.check()
        except ConversionError as error:
            if not error.facts.get("is_empty") or self._record().stored() is None:
                raise  # one that was begun may well have emptied its source
        if is_restart:
            self._record().check_above()
        else:
            self._record().check(self._beside)

    def plan(self, *, is_restart: bool = False) -> Plan:
        """What there is to convert. Cost: all rows are counted. Raises: as `check`."""
        self.check(is_restart=is_restart)
        size = self.format.reader().size()
        return Plan(
            label=self.label,
            source=self.format.name,
            place=self.format.place,
            options=self._shown_options,
            documents=size.documents,
            rows=size.rows,
            is_begun=self._record().stored() is not None,
            remarks=tuple(self.remarks()),
        )

    def status(self) -> Status:
        """How far it is."""
        stored = self._record().stored()
        if stored is None:
            return self._status("not begun", Counts(), options=self._shown_options)
        current = stored["pass"]
        state = "converting" if stored["caught_up_to"] is None else "done"
        return self._status(
            state,
            Counts.from_dict(stored["counts"]),
            options=stored["options"],
            caught_up_to=stored["caught_up_to"],
            leases=0 if current is None else len(current["leases"]),
            bad=tuple(map(tuple, stored["bad"])),
        )

    def dry_run(self) -> Report:
        """What a run would do, in full. Writes nothing. Cost: as converting all of it."""
        self.check()
        return self._run(writes=False).dry_run()

    def verify(self) -> Report:
        """
        Compare source and versions, document by document; `is_ok` where nothing differs. Writes nothing.

        Cost: reads all rows and all versions of their documents. Memory: one portion.
        """
        self.check()
        return verify(self._run(writes=False), self._converted_ids)

    # -- converting ------------------------------------------------------------------------------------------------

    def convert_all(self) -> Report:
        """
        Convert everything that is there. Safe beside live writes, to be repeated, and to be cut short at any moment.

        Raises: ConversionError, with nothing written; StoreError and the driver's errors, and then what was stored stays.
        """
        self._convert(None)
        return self.last_report

    def convert(self, limit: int = CHUNK) -> int:
        """
        Convert up to `limit` documents and return how many it were: 0 when all is done. Raises: as `convert_all`.

        Several processes may do this at once; each document is converted by one of them.
        """
        if not _is_count(limit):
            raise ConversionError(f"convert(): expected a whole number from 1 as limit, got {limit!r}.")
        return self._convert(limit)

    def update(self, update_from: datetime | None = None) -> int:
        """
        Convert what came since the pass before, and what is left of that; the number of documents with something new.

        `update_from`: go back so far at least, aware. Too early costs time and repeats nothing; too late skips nothing, for
        it is known how far the pass before has come. Raises: as `convert_all`.
        """
        if update_from is not None and update_from.utcoffset() is None:
            raise ConversionError(f"update(): expected an aware moment, got {update_from!r}.")
        return self._convert(None, since=update_from)

    def restart(self) -> None:
        """
        Forget how far it is, so that the next run goes over everything again. What is stored is not stored twice.

        Where it was begun with other options, the versions that came of it are removed, to be made anew; those of other classes
        stay. Raises: ConversionError where a class above this one was converted with other options, for its versions these are.
        """
        self.format.check()
        record = self._record()
        record.check_above()
        if record.has_other_options():
            self._remove_versions()
        record.restart()

    # -- inside ----------------------------------------------------------------------------------------------------

    def beside(self, places: frozenset[str]) -> None:
        """Say which sources of one format are converted together: they do not stand in each other's way."""
        self._beside = places

    def _convert(self, limit: int | None, *, since: datetime | None = None) -> int:
        self.check()
        self._record().begin()
        run = self._run(writes=True)
        self._report = run.report
        self.converted = run.convert(limit, since=since)
        return self.converted

    def _run(self, *, writes: bool) -> Run:
        store: Store | None = runtime.store_of(self._source.collection) if writes else None
        return Run(
            self.format,
            self._source,
            checkpoint=Checkpoint(self._record()) if writes else None,
            store=store,
            progress=self._progress,
            portion=PORTION,
        )

    def _record(self) -> Record:
        # By its name in MongoEngine: a class may move to another module.
        identity = Identity(self.format.name, self.format.place, self._source.namespace, self._class_name)
        return Record(self._beside_versions(SUFFIX), identity, self._shown_options, now=self._source.now)

    @property
    def _shown_options(self) -> str:
        """Those on which versions depend."""
        passing = self.format.passing_options
        return as_text({name: value for name, value in self._options.items() if name not in passing})

    def _beside_versions(self, suffix: str) -> Any:
        """A collection in the database of the versions, by what is put behind their collection's name."""
        return runtime.current().stores.beside(self._source.collection, suffix)

    @property
    def _class_name(self) -> str:
        return documents.class_name_of(self._source.tracked.document_class)

    @property
    def _own_versions(self) -> dict[str, Any]:
        """A query for the versions that came of this conversion, or of one of classes below this one."""
        return {
            "collection": {"$in": list(self._source.namespaces)},
            "source.format": self.format.name,
            "source.place": self.format.place,
            "document_class": {"$regex": f"^{re.escape(self._class_name)}(\\.|$)"},
        }

    def _converted_ids(self) -> Iterator[Any]:
        """The keys of the documents of these versions, each once."""
        grouped = [{"$match": self._own_versions}, {"$group": {"_id": "$document_id"}}]
        versions = self._beside_versions("")
        yield from (one["_id"] for one in versions.aggregate(grouped, allowDiskUse=True))

    def _remove_versions(self) -> None:
        self.format.check_removal(self._converted_ids())
        self._beside_versions("").delete_many(self._own_versions)

    def _status(self, state: str, counts: Counts, *, options: str, **more: Any) -> Status:
        return Status(
            label=self.label,
            source=self.format.name,
            place=self.format.place,
            options=options,
            state=state,
            counts=counts,
            **more,
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _with_project(source_format: type[Format], options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the project's time zone where the format asks for one and none was given."""
    names = {option.name for option in source_format.options if option.default is not None}
    given: Callable[[str], bool] = lambda name: options.get(name) is not None  # noqa: E731
    if "source_timezone" in names and not given("source_timezone"):
        return {**options, "source_timezone": timezone.get_default_timezone_name()}
    return options
