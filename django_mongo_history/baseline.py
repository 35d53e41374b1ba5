"""
Stored first versions for documents older than tracking: what each of them is now, as its baseline.

Walks by `_id` in chunks. What has a version already is passed over, so a walk that was cut short is simply begun again.
Knows no Django.

Note [Baselines beside live writes]
A document and its versions are read as of one instant, and in `atomic` mode the baseline is stored in that same
transaction. It takes no lock on the document, so a write A to B may be committed before the baseline of A is: then the
history is A to A, A to B, and order finds that by its links, whichever of both was stored first; so it does when the
write deletes the document. A baseline answers for all time until the version after it, whatever the clocks said. Its
id is made from the document's key, so that two walks at once store one. `tests/integration/test_baseline.py` has
writers beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history import context, documents
from django_mongo_history.core.identity import class_name, id_bytes, id_of
from django_mongo_history.core.model import ABSENT, DocumentKey, VersionRecord, Write
from django_mongo_history.core.recording import record_baseline
from django_mongo_history.core.values import encode_value
from django_mongo_history.delivery import atomic
from django_mongo_history.delivery.base import Job, Outcome, cluster_time
from django_mongo_history.delivery.environment import IN_TRANSACTION, Recorder
from django_mongo_history.reading import Source
from django_mongo_history.reading.scanning import ids_above

MAX_BYTES: Final = 16 * 1024 * 1024
"""A chunk ends after so many bytes of documents, however few they are."""

Progress = Callable[[int], None]


@dataclass(slots=True)
class Counts:
    """
    `seen` documents were looked at; `written` got a baseline (or would get one), `present` have versions already,
    `untracked` are of other classes that share the collection.
    """

    seen: int = 0
    written: int = 0
    present: int = 0
    untracked: int = 0

    def add(self, other: Counts) -> None:
        self.seen += other.seen
        self.written += other.written
        self.present += other.present
        self.untracked += other.untracked


def write_baselines(
    source: Source,
    *,
    progress: Progress = lambda count: None,
    limit: int | None = None,
    chunk_size: int | None = None,
) -> Counts:
    """
    Store the baseline of every live document of the class that has no version; all of them as one changeset.

    `progress` is called with the number of documents looked at since the last call; `limit` ends the walk after so
    many baselines. Safe beside live writes, and to be repeated.
    Cost: one transaction a chunk; memory holds one chunk, of documents up to `MAX_BYTES` and one more.
    Raises: StoreError, and the driver's errors; what was stored before stays.
    """
    with ExitStack() as stack:
        if context.current_changeset() is None:
            stack.enter_context(context.open_changeset())
        return _walk(source, _store, progress, limit, chunk_size)


def count_missing(
    source: Source,
    *,
    progress: Progress = lambda count: None,
    limit: int | None = None,
    chunk_size: int | None = None,
) -> Counts:
    """What `write_baselines` would do now. Writes nothing."""
    return _walk(source, _look, progress, limit, chunk_size)


def _walk(
    source: Source,
    visit: Callable[[_Chunk], None],
    progress: Progress,
    limit: int | None,
    chunk_size: int | None,
) -> Counts:
    total, above = Counts(), ABSENT
    size = chunk_size or source.environment.chunk_size
    while limit is None or total.written < limit:
        chunk = _Chunk(source, above, size, None if limit is None else limit - total.written)
        visit(chunk)
        total.add(chunk.counts)
        progress(chunk.counts.seen)
        if chunk.is_last:
            break
        above = chunk.upto
    return total


def _look(chunk: _Chunk) -> None:
    chunk.source.consistently(chunk.read)


def _store(chunk: _Chunk) -> None:
    """Read a chunk and store its baselines: in one transaction where the class's versions are stored so."""
    source, environment = chunk.source, chunk.source.environment
    session, mode = source.bound_session(), environment.mode_for(source.tracked, source.collection)
    # Not by a broker: a walk has time, and each chunk is to be known as stored before the next.
    mode = "sync" if mode == "celery" else mode
    destination = environment.destination(mode, source.collection, session)
    if session is not None or mode in IN_TRANSACTION:
        try:
            job = Job(chunk, chunk.recorded, destination, source.collection, session)
            atomic.deliver(job, timeout_s=environment.timeout_s)
            return
        except atomic.TransactionRefusedError:
            environment.refused.add(source.namespace)
    source.consistently(chunk.read)
    destination.append(chunk.records())


@dataclass(slots=True)
class _Chunk:
    """
    The next documents above an `_id`. As `Work` of delivery it writes nothing itself: its baselines are all there is.

    `room`: how many baselines may still be made, None for any number.
    """

    source: Source
    above: Any
    size: int
    room: int | None
    needs_transaction: bool = True
    is_callers_call: bool = False
    upto: Any = ABSENT
    is_last: bool = False
    missing: list[bytes] = field(default_factory=list)
    order: Timestamp | None = None
    counts: Counts = field(default_factory=Counts)

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        self.read(session)
        return Outcome(None)

    def original(self, session: Any) -> Any:
        return self.read(session)

    def recorded(self, writes: Sequence[Write], order: Timestamp | None) -> list[VersionRecord]:
        return self.records()

    def read(self, session: Any) -> None:
        """Look at the chunk afresh."""
        images = self._images(session)
        self.upto = id_of(images[-1]) if images else ABSENT
        present = self._with_versions(images, session)
        self.order = cluster_time(session)
        self.counts = Counts(seen=len(images))
        self.missing = []
        for image in images:
            if not self._is_ours(image):
                self.counts.untracked += 1
            elif id_bytes(image) in present:
                self.counts.present += 1
            else:
                self.missing.append(image)
        self.missing = self.missing[: self.room]
        self.counts.written = len(self.missing)

    def records(self) -> list[VersionRecord]:
        source = self.source
        environment, tracked = source.environment, source.tracked
        captured = environment.capture(tracked.document_class, tracked)
        recorder = Recorder(environment, tracked.document_class, captured)
        found = []
        for image in self.missing:
            key = source.key(id_of(image))
            around = recorder.circumstances(key, image, self.order)
            if around is not None:
                found.append(record_baseline(key, image, around, new_id=partial(baseline_id, key)))
        return found

    def _images(self, session: Any) -> list[bytes]:
        found: list[bytes] = []
        total = 0
        self.is_last = True
        ahead = self.source.images.find(ids_above(self.above), session, sort=[("_id", 1)], limit=self.size)
        for image in ahead:
            found.append(image)
            total += len(image)
            if len(found) == self.size or total >= MAX_BYTES:
                self.is_last = False
                break
        return found

    def _with_versions(self, images: Sequence[bytes], session: Any) -> set[tuple[int, bytes]]:
        """Those of these documents that have a version, wherever it is filed."""
        if not images:
            return set()
        ours = {id_bytes(image) for image in images}
        entries = self.source.scan(above=self.above, upto=self.upto, session=session)
        return ours.intersection(encode_value(entry.document_id) for entry in entries)

    def _is_ours(self, image: bytes) -> bool:
        name, document_class = class_name(image), self.source.tracked.document_class
        tracked = self.source.environment.registry.of_image(name, document_class)
        return tracked is not None and documents.is_stored_as(document_class, name)


def baseline_id(key: DocumentKey) -> ObjectId:
    """The id of a document's baseline: the same in every walk."""
    kind, value = encode_value(key.document_id)
    named = f"baseline {key.collection}".encode() + bytes([0, kind]) + value
    return ObjectId(hashlib.sha256(named).digest()[:12])
