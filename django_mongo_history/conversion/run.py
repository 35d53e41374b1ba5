"""
One run of a conversion: takes documents by the checkpoint, has the engine make versions of their rows, stores these.

What can be repeated is: versions have the same ids in every run, and the store takes one that it has as stored. While one
portion is being stored the next one is being made.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from typing import Any, Final

from pymongo.errors import PyMongoError

from django_mongo_history.conversion.base import Format
from django_mongo_history.conversion.checkpoint import Checkpoint, Lease
from django_mongo_history.conversion.engine import Engine, Entity, Made, Rules
from django_mongo_history.conversion.gathering import SKEW, Gathered, Gathering
from django_mongo_history.conversion.portions import Done, Portion, counts_of
from django_mongo_history.conversion.record import Stored
from django_mongo_history.conversion.report import Counts, Report
from django_mongo_history.conversion.rows import Rows, name_of
from django_mongo_history.conversion.storing import Storing
from django_mongo_history.conversion.stream import Stream, Streams
from django_mongo_history.core.model import ABSENT
from django_mongo_history.documents import class_name_of, is_stored_as
from django_mongo_history.errors import ConversionError
from django_mongo_history.reading import Source
from django_mongo_history.storage.base import Store

CHUNK: Final = 1000
"""Documents that one run of `--chunked` converts, if not told otherwise."""
PORTION: Final = 250
"""Documents that are read, made and stored at once."""
_POLL_S: Final = 0.1
_COLLECT_AFTER: Final = 50_000

Progress = Callable[[int], None]
_Each = tuple[Entity, Made]


class Run:
    """
    Converts one source for one class. `store` None: versions are made and not stored, and no checkpoint is asked.

    `portion`: documents at once.
    """

    def __init__(
        self,
        source_format: Format,
        source: Source,
        *,
        checkpoint: Checkpoint | None,
        store: Store | None,
        progress: Progress = lambda count: None,
        portion: int = PORTION,
    ) -> None:
        self.format = source_format
        self.source = source
        self.reader = source_format.reader()
        self._streams = Streams(self.reader, self._note_keyless, at_once=portion)
        self.engine = Engine(source_format, self._rules_of)
        self.gathering = Gathering(source_format, self.reader, source)
        self.report = Report(f"{source_format.name} {source_format.place}", source.tracked.label)
        self.progress = progress
        self._checkpoint = checkpoint
        self._store = store
        self._portion = portion
        self._stream: Stream | None = None
        self._storing = Storing(None)
        self._unfinished: tuple[Lease, Done] | None = None
        self._begun = Done()
        self._keyless: set[Any] = set()
        self._bad: set[Any] = set()

    # -- what callers ask for --------------------------------------------------------------------------------------

    def convert(self, limit: int | None = None, *, since: datetime | None = None) -> int:
        """
        Convert up to so many documents; how many it were, 0 when all is done. None: until all is done.

        `since`: begin with those of which a row may have been stored since, if the first pass is over.
        """
        with Storing(self._store) as self._storing, _collecting_less():
            try:
                count = self._go_on(limit, since)
                self._flush()
            except BaseException:
                with suppress(PyMongoError, ConversionError):  # the first error says what happened
                    self._record.release()
                raise
            finally:
                self._close_stream()
                self._unfinished, self._begun = None, Done()
        return count

    def _go_on(self, limit: int | None, since: datetime | None) -> int:
        count = passes = 0
        while limit is None or count < limit:
            current = self._record.enter(skew=SKEW, since=since)
            done = self._some(current, None if limit is None else limit - count)
            if done is not None:
                count += done
                continue
            self._flush()
            ended = self._record.leave(current)
            if ended is None:
                time.sleep(_POLL_S)  # the rest is with others
                continue
            since = None
            passes += ended["since"] is not None
            if ended["since"] is not None and (not ended["found"] or (limit is None and passes > 1)):
                break
        return count

    def dry_run(self) -> Report:
        """What would become of all rows. Nothing is written."""
        for gathered in self.everything():
            self._make(gathered)
            self.progress(len(gathered.entities) + gathered.skipped)
        return self.report

    def everything(self) -> Iterator[Gathered]:
        """All documents of the source with all that is known of them."""
        opened_at = self.source.now()
        with closing(Stream(self._streams.opened(None, ABSENT, ABSENT), opened_at)) as stream:
            while some := stream.next(ABSENT, self._portion):
                yield self.gathering.gather(some, opened_at=opened_at)

    # -- portions --------------------------------------------------------------------------------------------------

    @property
    def _record(self) -> Checkpoint:
        assert self._checkpoint is not None
        return self._checkpoint

    def _some(self, current: Stored, limit: int | None) -> int | None:
        """Take some documents and convert them: how many counted; None where there are none to be had."""
        held = () if self._unfinished is None else (self._unfinished[0].id,)
        lease = self._record.take_over(held)
        if lease is not None:
            return self._take_over(lease, limit)
        above = _key(current["upto"])
        if current["is_read"]:
            return None
        stream = self._stream_of(current, above, limit)
        some = stream.next(above, self._at_once(limit))
        if not some:
            self._close_stream()
            if stream.is_whole:
                self._record.end_reading(current)
            return 0
        lease = self._record.take(current, above, some[-1].key)
        if lease is None:  # another was faster, and may have taken fewer of them
            stream.give_back(some)
            return 0
        return self._convert(lease, some, stream.opened_at)

    def _take_over(self, lease: Lease, limit: int | None) -> int:
        """
        Convert a range that another has left, up to so many documents; it may be of several portions. What is above them is left
        to the next one.
        """
        count = taken = 0
        rows = self._streams.opened(lease.since, lease.above, lease.upto)
        with closing(Stream(rows, self.source.now())) as stream:
            some = stream.next(lease.above, self._at_once(limit))
            while some:
                taken += len(some)
                is_full = limit is not None and taken >= limit
                following = stream.next(lease.above, 1 if is_full else self._at_once(limit, taken))
                if following and is_full:
                    lease, following = self._record.split(lease, some[-1].key), []
                count += self._convert(lease, some, stream.opened_at, is_last=not following)
                some = following
        if self._unfinished is None or self._unfinished[0].id != lease.id:  # nothing is left in it
            self._record.finish(lease, Counts(), [], 0)
        return count

    def _at_once(self, limit: int | None, taken: int = 0) -> int:
        """Documents of the next portion, where so many may still be taken."""
        return self._portion if limit is None else min(limit - taken, self._portion)

    def _stream_of(self, current: Stored, above: Any, limit: int | None) -> Stream:
        """The rows above a key; where few documents are wanted, of these only, for the server would sort all others too."""
        name = (current["id"], current["since"])
        if self._stream is None or self._stream.name != name:
            self._close_stream()
            opened_at = self.source.now()
            upto, is_whole = ABSENT, True
            if limit is not None and current["since"] is None:
                keys = [key for key in self.reader.keys(above=above, limit=limit + 1) if key is not ABSENT]
                upto, is_whole = (keys[:limit][-1], False) if keys else (ABSENT, True)
            found = self._streams.opened(current["since"], above, upto)
            self._stream = Stream(found, opened_at, name, is_whole=is_whole)
        return self._stream

    def _note_keyless(self, rows: Rows) -> None:
        """Rows that say of no document that they are its; a later pass may come by once more."""
        for row in rows.rows:
            if repr(row.id) not in self._keyless:
                self._keyless.add(repr(row.id))
                self.report.counts.bad += 1
                self.report.note_bad(None, row.id, "it does not say which document it is of")

    def _convert(self, lease: Lease, some: list[Rows], opened_at: datetime, *, is_last: bool = True) -> int:
        """Convert a portion of a range; where it is the last one, the range is done when it is stored."""
        noted = len(self.report.bad)
        made, skipped = self._made_of(some, opened_at)
        portion = self._sum(made, skipped, catches_up=lease.since is not None)
        self._flush()
        self._storing.store(portion.records)
        done = self._begun
        done.counts.add(portion.counts)
        done.bad.extend(list(one) for one in self.report.bad[noted:])
        done.found += portion.found if lease.since is not None else 0
        if is_last:
            self._unfinished, self._begun = (lease, done), Done()
        else:
            self._record.renew(lease)
        self._finish_source(portion)
        self.progress(len(some))
        return portion.found if lease.since is not None else len(some)

    def _flush(self) -> None:
        """Wait until what was made is stored, and say that its range is done."""
        self._storing.wait()
        if self._unfinished is not None:
            (lease, done), self._unfinished = self._unfinished, None
            self._record.finish(lease, done.counts, done.bad, done.found)

    def _made_of(self, some: list[Rows], opened_at: datetime) -> tuple[list[_Each], int]:
        """
        What becomes of these documents, and how many of them are not meant.

        See Note [Rows and documents at one moment].
        """
        looked = self.gathering.look(some)
        made = {name: (entity, self.engine.convert(entity)) for name, entity in looked.entities.items()}
        stale = self.gathering.stale(looked, opened_at=opened_at)
        for name in [name_of(rows.key) for rows in stale]:
            made.pop(name, None)
            looked.skipped.discard(name)
        gathered = self.gathering.gather(stale, opened_at=opened_at) if stale else Gathered([])
        again = [(entity, self.engine.convert(entity)) for entity in gathered.entities]
        return [*made.values(), *again], len(looked.skipped) + gathered.skipped

    def _make(self, gathered: Gathered) -> Portion:
        """The versions of what was gathered."""
        return self._sum([(one, self.engine.convert(one)) for one in gathered.entities], gathered.skipped)

    def _sum(self, each: Sequence[_Each], skipped: int, *, catches_up: bool = False) -> Portion:
        """A portion of these, counted and noted."""
        portion = Portion.of(each, skipped, catches_up=catches_up)
        for entity, made in each:
            if catches_up or not entity.is_echo:
                self._note(entity, made, catches_up=catches_up)
        self.report.counts.add(portion.counts)
        self.report.new_versions += len(portion.records)
        return portion

    def made_of(self, entity: Entity) -> Made:
        """What becomes of one document, counted."""
        made = self.engine.convert(entity)
        self.report.counts.add(counts_of(made))
        self._note(entity, made)
        return made

    def _note(self, entity: Entity, made: Made, *, catches_up: bool = False) -> None:
        for one in made.bad:
            name = (repr(entity.id), repr(one.id))
            if name not in self._bad:  # a later pass may come by once more
                self._bad.add(name)
                self.report.note_bad(entity.id, one.id, one.reason)
        for gap in made.gaps:
            if gap.is_new or not catches_up:
                self.report.note_gap(entity.id, gap.row, gap.reason)

    def _finish_source(self, portion: Portion) -> None:
        if not self.format.asks:
            return
        self._storing.wait()
        for entity, is_whole in portion.told:
            self.format.finish(entity.id, entity.rows, is_whole=is_whole)

    def _rules_of(self, name: str | None) -> Rules | None:
        document_class = self.source.tracked.document_class
        tracked = self.source.environment.registry.of_image(name, document_class)
        if tracked is None or not is_stored_as(document_class, name):
            return None
        return Rules(name or class_name_of(tracked.document_class), tracked.policy)

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


@contextmanager
def _collecting_less() -> Iterator[None]:
    """
    Rows and states are many small objects without cycles, which live for a portion: looking for cycles among them again
    and again took a seventh of the time.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(max(thresholds[0], _COLLECT_AFTER), *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _key(stored: Any) -> Any:
    return ABSENT if stored is None else stored["key"]
