"""
Writers in processes of their own (`delivery_writer`), and the judgement of what became of their writes.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mongoengine

from django_mongo_history import depots, history_of
from django_mongo_history.delivery import moving
from django_mongo_history.errors import StoreError
from management.cli import ROOT
from tests.celery_parts import Worker, eventually, program_environ
from tests.fault.delivery_writer import CLASSES, address_of, digest_of, image_of, user_of

PATIENCE_S = 120
CLOCK_S = 0.002
"""What the rounding of moments to milliseconds may take away."""
_RECEIVED = re.compile(r"Task django_mongo_history\.deliver\[([0-9a-f-]+)\] received")


class Load:
    """One writer, and what it has said so far."""

    def __init__(
        self, name: str, modes: Sequence[str], *, documents: int, count: int, environ: Mapping[str, str]
    ) -> None:
        self.name = name
        self.modes = tuple(modes)
        self.documents = documents
        self.done: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.sent: list[str] = []
        """Ids of the messages with versions in them that the broker took; known at the end of one that was not killed."""
        program = Path(__file__).with_name("delivery_writer.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), name, str(count), str(documents), *self.modes],
            cwd=ROOT,
            env={**environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def wait_for(self, count: int) -> None:
        """Return when so many further writes were acknowledged."""
        wanted = len(self.done) + count
        deadline = time.monotonic() + PATIENCE_S
        while len(self.done) < wanted:
            assert time.monotonic() < deadline, f"{self.name} made {len(self.done)} of {wanted} writes"
            self._take(self._said.get(timeout=PATIENCE_S))

    def wait(self) -> None:
        """Return when it has ended by itself."""
        self._process.wait(PATIENCE_S * 3)
        self._hear()

    def stop(self) -> None:
        """Have it end after the write that it is about."""
        self._process.terminate()
        self.wait()
        assert self.exit_code == 0

    def kill(self) -> None:
        """SIGKILL, and hear what it had said until then."""
        self._process.kill()
        self._process.wait()
        self._hear()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line)

    def _hear(self) -> None:
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        while not self._said.empty():
            self._take(self._said.get())

    def _take(self, line: str) -> None:
        if not line.endswith("\n"):
            return  # it was killed while it said so
        told = json.loads(line)
        if "sent" in told:
            self.sent = told["sent"]
            return
        (self.failed if "error" in told else self.done).append(told)


@contextmanager
def load(
    name: str,
    *modes: str,
    documents: int = 8,
    count: int = 0,
    settings: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Load]:
    """A writer that works on the database and the broker of this test; dead at the end. `settings` are Django's."""
    writer = Load(
        name,
        modes,
        documents=documents,
        count=count,
        environ=program_environ(settings=settings, environ=environ),
    )
    try:
        yield writer
    finally:
        writer.kill()


@dataclass
class Counts:
    """What a test prints."""

    acknowledged: int = 0
    unsure: int = 0
    versions: int = 0
    documents: int = 0
    missing: int = 0
    """Acknowledged writes without a version."""
    problems: list[str] = field(default_factory=list)


def check(*writers: Load) -> Counts:
    """
    Every acknowledged write has exactly one version, in its place and with its user; none else has one.

    A write that failed, and the one that was under way when its writer was killed, may have one. History replays to
    what the database held after each write, and to what it holds now: no gap, nothing `external`.
    """
    counts = Counts()
    for writer in writers:
        for mode in writer.modes:
            done = {told["number"]: told for told in writer.done if told["mode"] == mode}
            unsure = {told["number"] for told in writer.failed if told["mode"] == mode}
            under_way = max([*done, *unsure, -1]) + 1
            counts.acknowledged += sum(told["has_effect"] for told in done.values())
            counts.unsure += len(unsure)
            seen: Counter[int] = Counter()
            for place in range(writer.documents):
                seen.update(_check_document(writer, mode, f"{writer.name}-{place}", done, counts))
            wanted = {number for number, told in done.items() if told["has_effect"]}
            missing = sorted(wanted - set(seen))
            counts.missing += len(missing)
            _note(counts, "acknowledged writes without a version", missing)
            _note(counts, "two versions of one write", [one for one, count in seen.items() if count > 1])
            _note(counts, "versions of no write", sorted(set(seen) - wanted - unsure - {under_way}))
    return counts


def _check_document(
    writer: Load, mode: str, key: str, done: dict[int, dict[str, Any]], counts: Counts
) -> list[int]:
    """The numbers of the writes that the versions of this document are of."""
    document_class = CLASSES[mode]
    found = versions_of(mode, key)
    counts.documents += 1
    numbers: list[int] = []
    for version in found:
        if version.operation in {"external", "baseline"}:  # the second where the create is missing
            reason = version.next and version.next.reason
            _note(counts, f"{mode} {key}: {version.operation} before", [reason])
            continue
        number = int(str(version.reason).removeprefix("write "))
        numbers.append(number)
        who = (version.user.pk, version.remote_addr)
        if who != (user_of(writer.name, number), address_of(number)):
            _note(counts, f"{mode} {key}: somebody else's", [who])
        if number in done:
            _check_version(version, done[number], counts)
    counts.versions += len(numbers)
    if numbers != sorted(numbers):
        _note(counts, f"{mode} {key}: not in order", numbers)
    last = found[-1]._chain.after(found[-1].index) if found else None
    if last != image_of(document_class, key):
        _note(counts, f"{mode} {key}: the last version is not what the database holds", [numbers[-1:]])
    return numbers


def _check_version(version: Any, told: dict[str, Any], counts: Counts) -> None:
    name = f"{told['mode']} {told['key']} {told['number']}"
    if "digest" in told and digest_of(version._chain.after(version.index)) != told["digest"]:
        _note(counts, f"{name}: not the recorded copy", [version.operation])
    if str(version.changeset.id) != told["changeset"]:
        _note(counts, f"{name}: another changeset", [version.changeset.id])
    if not told["begun"] - CLOCK_S <= version.at.timestamp() <= told["ended"] + CLOCK_S:
        _note(counts, f"{name}: another moment", [version.at])


def _note(counts: Counts, what: str, found: Sequence[Any]) -> None:
    if found:
        counts.problems.append(f"{what}: {found[:10]} ({len(found)})")


def versions_of(mode: str, key: str) -> list[Any]:
    """The versions of one document of the writers."""
    return list(history_of(CLASSES[mode], key))


def stored() -> int:
    """Rows of versions in the store of the default database."""
    return mongoengine.get_db()["document_history"].count_documents({"at": {"$exists": True}})


def waiting() -> int:
    return mongoengine.get_db()["document_history_outbox"].count_documents({})


def dead() -> int:
    return mongoengine.get_db()["document_history_dead"].count_documents({})


def sweep() -> moving.Counts:
    """Move on all that waits, as `history_flush` does."""
    counts = moving.Counts()
    for depot in depots.each():
        counts.add(moving.sweep(depot))
    return counts


def flush() -> None:
    """Sweep until nothing waits: what a dead writer had sent off may still come."""

    def is_empty() -> bool:
        try:
            sweep()
        except StoreError:
            return False
        return not waiting()

    eventually(is_empty, what="an empty outbox")


def received(*workers: Worker) -> Counter[str]:
    """How often each message was received, by its id."""
    found: Counter[str] = Counter()
    for worker in workers:
        if worker.log.exists():
            found.update(_RECEIVED.findall(worker.log.read_text(errors="replace")))
    return found


def duplicates(*workers: Worker) -> int:
    """Messages that came once more."""
    return sum(count - 1 for count in received(*workers).values())


def at_broker(client: Any) -> int:
    """Messages that nobody has worked off: in queues, or with a worker that has not said so."""
    return int(client.llen("celery")) + int(client.hlen("unacked"))


def await_empty(client: Any, workers: Sequence[Worker]) -> None:
    """
    Return when all messages are worked off; a worker that has ended is started again.

    A message that has left the queue is for a moment nowhere to be seen: what is empty is looked at once more.
    """

    def is_empty() -> bool:
        for worker in workers:
            if not worker.is_running():
                worker.start()
        if at_broker(client):
            return False
        time.sleep(0.5)
        return at_broker(client) == 0

    eventually(is_empty, what="the messages to be worked off", timeout_s=PATIENCE_S)


def await_versions(*writers: Load) -> None:
    """Return when as many versions are stored as writes were acknowledged, or will not be."""
    wanted = sum(told["has_effect"] for writer in writers for told in writer.done)
    with contextlib.suppress(AssertionError):  # what is missing is told by `check`
        eventually(lambda: stored() >= wanted, what="the versions")
