"""
From outbox, message or dead letter into the store: each version once, whoever brings it, and none of them dropped.

Note [Stored, then removed]
A version is stored before it is taken out of where it waited, and storing it again does nothing. So this may die at any
point, and any number may do it at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import pymongo
from bson import ObjectId
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidName,
    PyMongoError,
    WriteConcernError,
)

from django_mongo_history.core import elements, values
from django_mongo_history.core.replay import Unreadable
from django_mongo_history.delivery.messages import Message
from django_mongo_history.errors import StoreError
from django_mongo_history.storage import rows
from django_mongo_history.storage.mongo import MongoStore
from django_mongo_history.storage.outbox import DeadLetter, DeadLetters, Outbox, Packet
from django_mongo_history.storage.refusals import failures_of, is_there_already, said_by

_MOST_AT_ONCE: Final = 500
_MOST_BYTES: Final = 16 * 1024 * 1024
_FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 600.0
_PASSING_CODES: Final = frozenset(
    {6, 7, 50, 64, 89, 91, 112, 189, 202, 262, 9001, 10107, 11600, 11602, 13435, 13436}
)
"""
The server's codes for what passes by itself: elections, shutdowns, networks, time limits, conflicts
(https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml).
"""

Packets = Mapping[ObjectId, Packet]


@dataclass(slots=True)
class Counts:
    """What became of versions that were to be moved."""

    stored: int = 0
    refused: int = 0
    dead: int = 0
    errors: list[str] = field(default_factory=list)
    left: list[ObjectId] = field(default_factory=list)
    """Those that were refused and wait in the outbox."""

    def add(self, other: Counts) -> None:
        """Count what `other` has counted as well."""
        self.stored += other.stored
        self.refused += other.refused
        self.dead += other.dead
        self.errors.extend(other.errors)
        self.left.extend(other.left)


@dataclass(frozen=True, slots=True)
class Depot:
    """
    Where versions of one database's documents wait, and where they belong. `store_of` gives the store for a namespace
    `db.collection`, ready to be written. `tries`: how often a version is tried before it is laid aside.
    """

    outbox: Outbox
    dead_letters: DeadLetters
    store_of: Callable[[str], MongoStore]
    now: Callable[[], datetime]
    tries: int


def store(depot: Depot, packets: Packets) -> dict[ObjectId, str]:
    """
    Store versions, in one insert for all where that goes well; those that the store refuses, each with the reason.

    Raises: StoreError where the store cannot be reached: then some may be stored, and all are to be tried again.
    """
    refused: dict[ObjectId, str] = {}
    readable: dict[ObjectId, Packet] = {}
    for version_id, packet in packets.items():
        problem = problem_of(packet)
        if problem is None:
            readable[version_id] = packet
        else:
            refused[version_id] = problem
    for namespace, some in _by_namespace(readable).items():
        try:
            target = depot.store_of(namespace)
        except InvalidName as error:
            refused.update(dict.fromkeys(some, f"{namespace!r} is no namespace: {error}"))
        except ConnectionFailure as error:
            raise StoreError(f"The store for {namespace} cannot be reached: {error}") from error
        else:
            refused.update(_stored(target, some))
    return refused


def receive(depot: Depot, carried: Sequence[bytes]) -> list[ObjectId]:
    """
    Store versions that a message carries, a row each; the ids of those that are refused, which are in the outbox then.

    What is no version that this release can read is laid aside at once. Raises: StoreError where the store cannot be
    reached.
    """
    packets: dict[ObjectId, Packet] = {}
    for row in carried:
        problem = problem_of([row])
        if problem is None:
            packets[_field(row, b"_id")] = [row]
        else:
            bury(depot, [row], problem, 1)
    refused = store(depot, packets)
    for version_id, reason in refused.items():
        depot.outbox.put(packets[version_id])
        tries = depot.outbox.refuse(version_id, reason)
        depot.outbox.postpone(version_id, depot.now() + pause_after(tries))
    return list(refused)


def missing(
    depot: Depot, carried: Sequence[bytes], *, timeout_s: float, is_foreign: bool
) -> dict[ObjectId, Packet]:
    """
    Those of these versions, a row each, that are neither stored nor in the outbox nor laid aside.

    `is_foreign`: the store is on a server of its own, which may be away: then all count as not stored. Cost: a question to
    each store; where some are missing, one to the dead letters and one to the outbox. Each is waited for so long.
    Raises: the driver's errors.
    """
    left: dict[ObjectId, Packet] = {_field(row, b"_id"): [row] for row in carried}
    stores = {id(target): target for target in map(depot.store_of, _by_namespace(left))}
    questions: list[Callable[[list[ObjectId]], frozenset[ObjectId]]] = [
        _unless_away(target.stored) if is_foreign else target.stored for target in stores.values()
    ]
    for ask in (*questions, depot.dead_letters.holds, depot.outbox.store.stored):
        with pymongo.timeout(timeout_s):
            for version_id in ask(list(left)) if left else ():
                del left[version_id]
    return left


def _unless_away(
    ask: Callable[[list[ObjectId]], frozenset[ObjectId]],
) -> Callable[[list[ObjectId]], frozenset[ObjectId]]:
    def answer(ids: list[ObjectId]) -> frozenset[ObjectId]:
        try:
            return ask(ids)
        except (ConnectionFailure, ExecutionTimeout):
            return frozenset()

    return answer


def sweep(
    depot: Depot,
    ids: Sequence[ObjectId] | None = None,
    *,
    with_postponed: bool = False,
    progress: Callable[[int], object] = bool,
) -> Counts:
    """
    Move what waits in the outbox: these versions, or all; those that are to be tried later only if they are named, or
    `with_postponed`. Memory: 16 MB of them.

    Raises: StoreError where the store cannot be reached.
    """
    counts = Counts()
    ready_at = None if with_postponed or ids is not None else depot.now()
    for packets in _chunks(depot.outbox.packets(ids, ready_at=ready_at)):
        counts.add(_move(depot, packets))
        progress(len(packets))
    return counts


def _move(depot: Depot, packets: Packets) -> Counts:
    refused = store(depot, packets)
    moved = {version_id: packet for version_id, packet in packets.items() if version_id not in refused}
    depot.outbox.remove(moved)
    counts = Counts(stored=len(moved))
    for version_id, reason in refused.items():
        tries = depot.outbox.refuse(version_id, reason)
        if not tries:
            continue  # somebody else has moved it, or laid it aside, since it was read here
        counts.errors.append(f"{version_id}: {reason}")
        if tries >= depot.tries:
            bury(depot, packets[version_id], reason, tries)
            depot.outbox.remove({version_id: packets[version_id]})
            counts.dead += 1
        else:
            depot.outbox.postpone(version_id, depot.now() + pause_after(tries))
            counts.refused += 1
            counts.left.append(version_id)
    return counts


def bury(depot: Depot, packet: Packet, reason: str, tries: int) -> None:
    """Lay a version aside. Raises: StoreError."""
    depot.dead_letters.bury(
        DeadLetter(_identity(packet), packet, reason, tries, depot.now(), **_whereabouts(packet[-1]))
    )


def bury_message(depot: Depot, carried: Any, reason: str) -> None:
    """Lay a message aside that cannot be read, as it came. Raises: StoreError."""
    text = json.dumps(carried, default=repr, sort_keys=True).encode()
    letter = DeadLetter(_identity([text]), [text], reason, 1, depot.now(), is_message=True)
    depot.dead_letters.bury(letter)


def revive(
    depot: Depot, depot_of: Callable[[str, str], Depot], *, progress: Callable[[int], object] = bool
) -> Counts:
    """
    Try what was laid aside once more. What is refused again stays, with the new reason.

    `depot_of` finds the depot of an alias and a database, for messages that could not be read.
    Raises: StoreError where the store cannot be reached.
    """
    counts = Counts()
    for letter in depot.dead_letters.letters():
        stored, problem = _revived(depot, depot_of, letter)
        if problem is None:
            depot.dead_letters.remove(letter)
        else:
            depot.dead_letters.bury(
                replace(letter, error=problem, tries=letter.tries + 1, died_at=depot.now())
            )
            counts.dead += 1
            counts.errors.append(f"{letter.id}: {problem}")
        counts.stored += stored
        progress(1)
    return counts


def _revived(
    depot: Depot, depot_of: Callable[[str, str], Depot], letter: DeadLetter
) -> tuple[int, str | None]:
    """How many versions of a letter are stored now, and why it must stay."""
    if not letter.is_message:
        problem = store(depot, {letter.id: letter.packet}).get(letter.id)
        return int(problem is None), problem
    try:
        message = Message.from_json(json.loads(letter.packet[-1]))
        target = depot_of(message.alias, message.database)
    except (ValueError, InvalidName) as error:
        return 0, str(error)
    refused = receive(
        target, message.rows
    )  # what it refuses waits in the outbox from now on, or is a letter itself
    return len(message.rows) - len(refused), None


def pause_after(tries: int) -> timedelta:
    """How long after so many tries the next one is: 2 s, twice as long each time, up to ten minutes."""
    return timedelta(seconds=min(_FIRST_PAUSE_S * 2 ** min(tries, 20), LONGEST_PAUSE_S))


def problem_of(packet: Packet) -> str | None:
    """Why these rows are no version that this release can read, which then must not be stored; None where they are."""
    *further, head = packet
    try:
        found = rows.decode(head, further)
    except Exception as error:  # noqa: BLE001 - bytes from a broker may be anything, and the others must go on
        return f"it is no version: {type(error).__name__}: {error}"
    return f"it is no version: {found.reason}" if isinstance(found, Unreadable) else None


def moment_of(carried: Sequence[bytes]) -> datetime | None:
    """When the oldest of these versions was written."""
    found = (_whereabouts(row, b"at").get("at") for row in carried)
    return min((at for at in found if isinstance(at, datetime)), default=None)


def is_passing(error: StoreError) -> bool:
    """Whether a store that gives this error will take the same again: it could not be reached, or was changing hands."""
    cause = error.__cause__
    if isinstance(cause, (ConnectionFailure, ExecutionTimeout, WriteConcernError)):
        return True
    if isinstance(cause, BulkWriteError):
        return all(is_there_already(one) or one.get("code") in _PASSING_CODES for one in failures_of(cause))
    if isinstance(cause, PyMongoError):
        return getattr(cause, "code", None) in _PASSING_CODES or cause.has_error_label("RetryableWriteError")
    return False


def _stored(target: MongoStore, packets: Packets) -> dict[ObjectId, str]:
    """The versions that the store refuses: all are tried together, and one by one where that fails."""
    try:
        target.append_rows([row for packet in packets.values() for row in packet], is_moved=True)
    except StoreError as error:
        if is_passing(error):
            raise
        if len(packets) == 1:
            return dict.fromkeys(packets, said_by(error.__cause__ or error))
    else:
        return {}
    refused: dict[ObjectId, str] = {}
    for version_id, packet in packets.items():
        refused.update(_stored(target, {version_id: packet}))
    return refused


def _chunks(found: Iterator[tuple[ObjectId, Packet]]) -> Iterator[dict[ObjectId, Packet]]:
    """As many versions at a time as are few enough, and small enough together."""
    chunk: dict[ObjectId, Packet] = {}
    size = 0
    for version_id, packet in found:
        length = sum(map(len, packet))
        if chunk and (len(chunk) >= _MOST_AT_ONCE or size + length > _MOST_BYTES):
            yield chunk
            chunk, size = {}, 0
        chunk[version_id] = packet
        size += length
    if chunk:
        yield chunk


def _identity(packet: Packet) -> ObjectId:
    """The version's id; one made from the bytes where they have none."""
    found = _whereabouts(packet[-1], b"_id").get("_id")
    if isinstance(found, ObjectId):
        return found
    return ObjectId(hashlib.sha256(b"".join(packet)).digest()[:12])


def _whereabouts(head: bytes, *names: bytes) -> dict[str, Any]:
    """What a row says of where it belongs, as far as it can be read."""
    found: dict[str, Any] = {}
    for name in names or (b"collection", b"document_id"):
        try:
            found[name.decode()] = _field(head, name)
        except Exception:  # noqa: BLE001 - bytes from a broker may be anything
            return {}
    return found


def _by_namespace(packets: Packets) -> dict[str, dict[ObjectId, Packet]]:
    found: dict[str, dict[ObjectId, Packet]] = {}
    for version_id, packet in packets.items():
        found.setdefault(_namespace(packet[-1]), {})[version_id] = packet
    return found


def _namespace(head: bytes) -> str:
    return str(_field(head, b"collection"))


def _field(head: bytes, name: bytes) -> Any:
    found = elements.find_value(head, name)
    return None if found is None else values.decode_value(found.kind, found.value)
