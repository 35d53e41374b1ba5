"""
The judge of capture: a script of writes runs on untracked classes first and on tracked ones then.

What an application sees must be the same in both runs: answers, exceptions, documents byte for byte. What the history
holds must be what the database held: before and after each operation, and when it is replayed at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import bson
import mongoengine
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from django.test import override_settings
from pymongo.errors import InvalidOperation, OperationFailure
from pymongo.results import _WriteResult

from django_mongo_history import history_of, track, untrack
from django_mongo_history.core import values
from django_mongo_history.core.identity import id_bytes

RAW = CodecOptions(document_class=RawBSONDocument)
SEEN: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=4, tz_aware=True)
HISTORY = "document_history"
PLACES = (HISTORY, "document_history_outbox")
"""Where versions are stored, and where they wait for it."""
DRIVERS_OWN = {"electionId", "opTime", "$clusterTime", "operationTime"}

Name = tuple[str, tuple[int, bytes]]
"""A document's namespace and its `_id` as bytes."""
Snapshot = dict[Name, bytes]
Script = Callable[["Do"], None]
Do = Callable[..., Any]


@contextmanager
def configured(**settings: Any) -> Iterator[None]:
    """`MONGO_HISTORY` with these keys and nothing tracked by settings."""
    with override_settings(MONGO_HISTORY=settings, TRACKED_DOCUMENTS=[]):
        yield


@contextmanager
def tracking(*document_classes: type, **options: Any) -> Iterator[None]:
    """Classes tracked while the block lasts."""
    for document_class in document_classes:
        track(document_class, **options)
    try:
        yield
    finally:
        for document_class in document_classes:
            untrack(document_class)


@dataclass
class Step:
    """What the untracked run showed of one operation."""

    outcome: Any
    documents: list[tuple[str, bytes]]


@dataclass
class Judge:
    """
    `databases`: aliases whose documents count. `collections`: names of collections by the class through which their
    histories are read, where that is not the tracked class's own. `options`: for `track()`. `is_fresh`: whether the
    tracked run makes its collections anew, too.
    """

    databases: Sequence[str] = ("default",)
    collections: dict[str, type] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    is_fresh: bool = False

    def __call__(self, script: Script, *classes: type, also: Sequence[type] = ()) -> None:
        """Run the script on `classes` untracked and tracked; `also` are classes that it uses and nobody tracks."""
        plain = _PlainRun(self)
        script(plain)
        self.clear((*classes, *also))
        with tracking(*classes, **self.options):
            recorded = _TrackedRun(self, plain.steps, classes)
            script(recorded)
            assert recorded.position == len(plain.steps), "the tracked run ended early"
            recorded.replay()

    def clear(self, classes: Sequence[type]) -> None:
        """Remove all documents; indexes stay, for it takes much longer to make them anew."""
        if self.is_fresh:
            for document_class in classes:
                document_class.drop_collection()
        for alias in self.databases:
            database = mongoengine.get_db(alias)
            for name in database.list_collection_names():
                database[name].delete_many({})

    def snapshot(self) -> Snapshot:
        """Every document that the server holds now, as bytes, in the order of insertion."""
        found: Snapshot = {}
        for alias in self.databases:
            database = mongoengine.get_db(alias)
            for name in sorted(database.list_collection_names(filter={"type": "collection"})):
                if name not in PLACES and not name.startswith("system."):
                    for document in database.get_collection(name, codec_options=RAW).find():
                        image = bytes(document.raw)  # of a large document it is a view on the message
                        found[f"{database.name}.{name}", id_bytes(image)] = image
        return found

    def history(self, name: Name, classes: Sequence[type]) -> Any:
        """The history of a document, as users ask for it."""
        namespace, identity = name
        database, _, collection = namespace.partition(".")
        alias = next(alias for alias in self.databases if mongoengine.get_db(alias).name == database)
        document_class = self.collections.get(collection) or next(
            one for one in classes if one._get_collection_name() == collection
        )
        using = None if alias == "default" else alias
        key = values.decode_value(*identity)
        return history_of(document_class, key, using=using, collection=collection)

    def rows(self) -> list[dict[str, Any]]:
        """The stored versions of all databases."""
        return [
            row
            for alias in self.databases
            for place in PLACES
            for row in mongoengine.get_db(alias)
            .get_collection(place, codec_options=values.EXACT)
            # Further parts of a large version have no operation.
            .find({"operation": {"$exists": True}}, {"operation": 1, "collection": 1, "document_id": 1})
        ]


class _PlainRun:
    """Runs each operation and keeps what it showed."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.ids = _Ids()
        self.steps: list[Step] = []

    def __call__(self, operations: Any, call: Callable[[], Any], note: str = "") -> Any:
        answer = _attempted(call)
        documents = self.ids.documents(self.judge.snapshot())
        self.steps.append(Step(self.ids.text(_shown(answer)), documents))
        return answer


class _TrackedRun:
    """Runs each operation and compares: with the untracked run, and the history with the database."""

    def __init__(self, judge: Judge, steps: list[Step], classes: Sequence[type]) -> None:
        self.judge = judge
        self.ids = _Ids()
        self.steps = steps
        self.classes = classes
        self.position = 0
        self.note = ""
        self.states: dict[Name, list[bytes | None]] = {}

    def __call__(self, operations: Any, call: Callable[[], Any], note: str = "") -> Any:
        self.note = note
        before, known = self.judge.snapshot(), {row["_id"] for row in self.judge.rows()}
        answer = _attempted(call)
        after = self.judge.snapshot()
        expected = self.steps[self.position]
        self.position += 1
        shown = self.ids.documents(after)
        self._same("answer", self.ids.text(_shown(answer)), expected.outcome)
        self._same("documents", shown, expected.documents)
        self._check_versions(operations, before, after, known)
        return answer

    def _check_versions(self, operations: Any, before: Snapshot, after: Snapshot, known: set[Any]) -> None:
        wanted = Counter([operations] if isinstance(operations, str) else operations or ())
        made = [row for row in self.judge.rows() if row["_id"] not in known]
        self._same("operations", Counter(row["operation"] for row in made), wanted)
        written = {(row["collection"], values.encode_value(row["document_id"])) for row in made}
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert written <= changed, "a version of a document that did not change"
        assert len(made) == len(written), "two versions of one document by one operation"
        for name in written:
            self._check_last(name, before.get(name), after.get(name))

    def _check_last(self, name: Name, before: bytes | None, after: bytes | None) -> None:
        history = self.judge.history(name, self.classes)
        last = history[-1]
        operation = "create" if before is None else "delete" if after is None else "update"
        self._same("operation", last.operation, operation)
        self._same("state after", _state(last), after)
        self._same("state before", _state(last.previous), before)
        self._same("state as users see it", _encoded(last.state), _encoded(_decoded(after)))
        self.states.setdefault(name, []).append(after)

    def _same(self, what: str, found: Any, wanted: Any) -> None:
        assert found == wanted, (
            f"operation {self.position} {self.note}: {what}\n  found  {found}\n  wanted {wanted}"
        )

    def replay(self) -> None:
        """Every history, read anew, is the recorded copies in their order: no gap, nothing lost, nothing made up."""
        for name, states in self.states.items():
            versions = list(self.judge.history(name, self.classes))
            assert [_state(version) for version in versions if version.operation != "baseline"] == states
            assert "external" not in [version.operation for version in versions]


@dataclass
class _Ids:
    """Generated ids in both runs by the order in which they appear, since they differ."""

    places: dict[bytes, int] = field(default_factory=dict)

    def documents(self, snapshot: Snapshot) -> list[tuple[str, bytes]]:
        for _namespace, (kind, value) in snapshot:
            if kind == 0x07:
                self.places.setdefault(value, len(self.places))
        found = [
            (namespace.partition(".")[2], self._bytes(image)) for (namespace, _), image in snapshot.items()
        ]
        return sorted(found, key=lambda one: one[0])

    def text(self, shown: Any) -> str:
        text = str(shown)
        for value, place in self.places.items():
            text = text.replace(value.hex(), f"<id {place}>")
        return text

    def _bytes(self, image: bytes) -> bytes:
        for value, place in self.places.items():
            image = image.replace(value, b"id %09d" % place)
        return image


def _attempted(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - it is compared
        return error


def _shown(answer: Any) -> Any:
    """An answer as text that is equal where the application could not tell two answers apart."""
    if isinstance(answer, OperationFailure):
        details = answer.details if isinstance(answer.details, dict) else {}
        kept = {key: value for key, value in sorted(details.items()) if key not in DRIVERS_OWN}
        return type(answer).__name__, _without_drivers_own(str(answer)), answer.code, _shown(kept)
    if isinstance(answer, Exception):
        return type(answer).__name__, _without_drivers_own(str(answer)), type(answer.__cause__).__name__
    if isinstance(answer, mongoengine.Document):
        return (
            type(answer).__name__,
            answer.to_mongo().to_dict(),
            answer._created,
            answer._get_changed_fields(),
        )
    if isinstance(answer, _WriteResult):
        names = [name for name in dir(answer) if not name.startswith("_")]
        return type(answer).__name__, {
            name: _shown(getattr(answer, name)) for name in names if _has(answer, name)
        }
    if isinstance(answer, dict):
        return {key: _shown(value) for key, value in sorted(answer.items()) if key not in DRIVERS_OWN}
    if isinstance(answer, (list, tuple)):
        return [_shown(one) for one in answer]
    return repr(answer)


def _has(answer: Any, name: str) -> bool:
    try:
        getattr(answer, name)
    # Of a write that nobody acknowledged; and PyMongo 4.9 asks an upserted number for its length.
    except (InvalidOperation, AssertionError, TypeError):
        return False
    return True


def _without_drivers_own(text: str) -> str:
    """MongoEngine puts the details of driver errors into its messages; `full error` is the server's reply."""
    return text.partition(", full error:")[0]


def _state(version: Any) -> bytes | None:
    """The exact bytes; `version.state` is what PyMongo makes of them, which is not always the same again."""
    return None if version is None else version._chain.after(version.index)


def _decoded(image: bytes | None) -> dict[str, Any] | None:
    return None if image is None else bson.decode(image, SEEN)


def _encoded(state: dict[str, Any] | None) -> bytes | None:
    return None if state is None else bson.encode(state, codec_options=SEEN)
