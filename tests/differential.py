"""
The same operations on classes that nobody tracks and on the same classes tracked, and everything seen compared.

A case is a function of `see`, which runs one call and writes down what an application can observe of it: the answer or
the exception, the signals with their arguments, and how many commands the database of the documents got. At the end of
a case the stored documents are compared byte by byte, and the indexes. The history lies in a database of its own, so
that a command on the database of the documents is there for their sake.

Ids that the driver makes up differ from run to run; they are compared by the order in which they appear.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import bson
import mongoengine
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from mongoengine import signals
from mongoengine.base import BaseDocument, get_document
from mongoengine.document import MapReduceDocument
from mongoengine.queryset.base import BaseQuerySet
from pymongo import MongoClient
from pymongo.errors import InvalidOperation, PyMongoError
from pymongo.monitoring import CommandListener
from pymongo.results import BulkWriteResult, _WriteResult

from tests.judge import DRIVERS_OWN, configured, tracking

MODES = ("atomic", "sync", "standalone")
OTHER = "other"
"""The alias of a second database of documents."""
RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
SIGNALS = {
    "pre_init": signals.pre_init,
    "post_init": signals.post_init,
    "pre_save": signals.pre_save,
    "pre_save_post_validation": signals.pre_save_post_validation,
    "post_save": signals.post_save,
    "pre_bulk_insert": signals.pre_bulk_insert,
    "post_bulk_insert": signals.post_bulk_insert,
}
DELETE_SIGNALS = {"pre_delete": signals.pre_delete, "post_delete": signals.post_delete}

WRITES = {"insert", "update", "delete", "findAndModify"}

See = Callable[..., Any]
_ID = re.compile(r"ObjectId\(\\*'([0-9a-f]{24})\\*'\)")
_OF_OURS = re.compile(r"Recording(FindMethods|Methods|Collection)")
"""Messages name the class; that it is ours is the documented difference."""
_NUMBERS = re.compile(r"txnNumber: \d+")
_SERVERS_OWN = re.compile(r", full error:.*", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """
    `images`: how many commands more than plain the documents' database gets, by mode or in all; None: not compared.
    `receivers`: whether somebody listens to deletes, which makes MongoEngine delete one by one.
    `modes`: where the case makes sense.
    """

    name: str
    run: Callable[[See], Any]
    images: int | Mapping[str, int] | None = 0
    again: int | Mapping[str, int] | None = 0
    receivers: bool = False
    modes: Sequence[str] = MODES
    open: str = ""
    """A difference that is known and not mended, so that the test fails as soon as it is."""
    marks: Sequence[pytest.MarkDecorator] = ()
    """pytest's: versions that the case asks for."""

    def more_in(self, mode: str) -> dict[str, int]:
        """What is expected beyond the plain commands."""
        expected = {"find": self.images, "write": self.again}
        found = {
            name: one.get(mode, 0) if isinstance(one, Mapping) else one for name, one in expected.items()
        }
        return {name: count for name, count in found.items() if count is not None}


class Cases(list[Case]):
    """The table of a module; `@cases` or `@cases(images=1)` adds a row."""

    def __call__(self, function: Any = None, **options: Any) -> Any:
        if function is None:
            return lambda decorated: self(decorated, **options)
        name = f"{function.__name__}{'_with_receivers' if options.get('receivers') else ''}"
        self.append(Case(name, function, **options))
        return function

    def test(self) -> Any:
        """The decorator of a test that runs them one by one, each in its modes; for a fixture `world`."""
        rows = [
            pytest.param(
                mode,
                case,
                id=f"{mode}-{case.name}",
                marks=[
                    *case.marks,
                    *([pytest.mark.xfail(reason=case.open, strict=True)] if case.open else []),
                ],
            )
            for mode in MODES
            for case in self
            if mode in case.modes
        ]
        return pytest.mark.parametrize(("world", "one"), rows, indirect=["world"], scope="module")


@dataclass
class Seen:
    """What one run showed. `entries`: the observations as text, in order."""

    entries: list[str] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)


class _Heard(CommandListener):
    """Every command that the client sends."""

    def __init__(self) -> None:
        self.commands: list[Any] = []

    def started(self, event: Any) -> None:
        self.commands.append(
            (event.database_name, event.command_name, bson.decode(bson.encode(event.command)))
        )

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@dataclass
class World:
    """A connection in one mode of delivery, and the classes that are tracked in the second run."""

    mode: str
    name: str
    classes: Sequence[type[Any]]
    client: MongoClient[Any]
    heard: _Heard

    @property
    def databases(self) -> tuple[str, str]:
        return self.name, f"{self.name}_other"

    def compare(self, case: Case) -> None:
        """Run the case both ways; everything seen must be the same."""
        plain = self.run(case)
        with tracking(*self.classes):
            tracked = self.run(case)
        for number, (wanted, found) in enumerate(zip(plain.entries, tracked.entries, strict=False)):
            assert found == wanted, f"observation {number}\n  tracked {found}\n  plain   {wanted}"
        assert len(tracked.entries) == len(plain.entries)
        more = Counter(map(_kind, tracked.commands))
        more.subtract(Counter(map(_kind, plain.commands)))
        expected = case.more_in(self.mode)
        found = {name: count for name, count in more.items() if count or name in expected}
        if case.images is not None:
            assert {"find": 0, "write": 0, **found} == {"find": 0, "write": 0, **expected}, (
                f"plain {plain.commands}\ntracked {tracked.commands}"
            )

    def run(self, case: Case) -> Seen:
        """One run of a case from an empty database, and what it showed."""
        self.clear()
        for document_class in self.classes:
            for member in (document_class, *document_class._subclasses):
                get_document(member)._get_collection() if isinstance(
                    member, str
                ) else member._get_collection()
        seen = Seen()
        with ExitStack() as stack:
            log = stack.enter_context(_listening(receivers=case.receivers))

            def see(call: Callable[[], Any]) -> Any:
                self.heard.commands.clear()
                log.clear()
                answer = attempted(call)
                shown_answer = shown(answer)  # where it is lazy, this is what asks
                commands = self._commands()
                seen.commands += commands
                seen.entries += [str(shown_answer), *log]
                return answer

            log.clear()
            self.heard.commands.clear()
            case.run(see)
        seen.entries += self._stored()
        seen.entries = _with_ids_by_place(seen.entries)
        return seen

    def clear(self) -> None:
        """Remove all documents; collections and indexes stay, for it takes long to make them anew."""
        for name in self.databases:
            for collection in self.client[name].list_collection_names():
                if not collection.startswith("system."):
                    self.client[name][collection].delete_many({})

    def _commands(self) -> list[tuple[str, str]]:
        return [
            (name, str(command.get(name)))
            for database, name, command in self.heard.commands
            if database in self.databases
        ]

    def _stored(self) -> Iterator[str]:
        for database in self.databases:
            for name in sorted(self.client[database].list_collection_names(filter={"type": "collection"})):
                if name.startswith("system."):
                    continue
                collection = self.client[database].get_collection(name, codec_options=RAW)
                yield f"{name}: {sorted(one['name'] for one in collection.list_indexes())}"
                for document in collection.find():
                    decoded = bson.decode(
                        document.raw,
                        CodecOptions(
                            uuid_representation=4,
                            datetime_conversion=3,
                            unicode_decode_error_handler="replace",
                        ),
                    )
                    if decoded.pop("uploadDate", None) is None:  # of GridFS: the time of the run
                        yield f"{name}: {decoded!r} {document.raw.hex()}"
                    else:
                        yield f"{name}: {decoded!r}"


@contextmanager
def world(
    request: pytest.FixtureRequest,
    classes: Sequence[type[Any]],
    settings: Mapping[str, Any] | None = None,
    *,
    uri_options: str = "",
    client_options: Mapping[str, Any] | None = None,
) -> Iterator[World]:
    """
    For fixtures with the modes as `params`: connections to databases of their own, by the aliases `default`, `other`.

    `uri_options`: for the classes' connection, as they stand in a URI; `client_options`: the same as keywords.
    """
    mode = request.param if isinstance(request.param, str) else request.param[0]
    found = request.getfixturevalue("standalone" if mode == "standalone" else "mongodb_uri")
    uri = found if isinstance(found, str) else found.uri
    name = f"test_{secrets.token_hex(6)}"
    heard = _Heard()
    _connect(name, _with_options(uri, uri_options), heard, client_options or {})
    delivery = {
        "DELIVERY": "sync" if mode == "sync" else "auto",
        "DATABASE": f"{name}_history",
        "CHUNK_SIZE": 50,
    }
    client: MongoClient[Any]
    with MongoClient(uri) as client:
        try:
            with configured(**{**delivery, **(settings or {})}):
                yield World(mode, name, classes, client, heard)
        finally:
            disconnect()
            for suffix in ("", "_other", "_history"):
                client.drop_database(name + suffix)


def _with_options(uri: str, options: str) -> str:
    return f"{uri}{'&' if '?' in uri else '/?'}{options}" if options else uri


def _connect(name: str, uri: str, heard: _Heard, options: Mapping[str, Any]) -> None:
    disconnect()
    shared: dict[str, Any] = {
        "host": uri,
        "uuidRepresentation": "standard",
        "tz_aware": True,
        "event_listeners": [heard],
        **options,
    }
    mongoengine.connect(name, **shared)
    mongoengine.connect(f"{name}_other", alias=OTHER, **shared)


def disconnect() -> None:
    """Forget every connection and every class's collection."""
    for alias in list(mongoengine.connection._connection_settings):
        mongoengine.disconnect(alias)
    pending = [mongoengine.Document]
    while pending:
        document_class = pending.pop()
        pending += document_class.__subclasses__()
        if document_class.__dict__.get("_collection") is not None:
            document_class._collection = None


def _kind(command: tuple[str, str]) -> str:
    """Single updates and removals are findAndModify when recorded; that is the documented difference."""
    return "write" if command[0] in WRITES else command[0]


def attempted(call: Callable[[], Any]) -> Any:
    """The answer of a call, or the exception that it raised."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - it is compared
        return error


def shown(answer: Any) -> Any:
    """An answer as text that is equal where an application could not tell two answers apart."""
    if isinstance(answer, BaseException):
        return _shown_error(answer)
    if isinstance(answer, BaseQuerySet):
        return (
            type(answer).__name__,
            shown(attempted(lambda: repr(answer))),
            shown(attempted(lambda: list(answer.clone()))),
        )
    if isinstance(answer, MapReduceDocument):
        return type(answer).__name__, repr(answer.key), repr(answer.value)
    if isinstance(answer, BaseDocument):
        return _shown_document(answer)
    if isinstance(answer, _WriteResult):
        return type(answer).__name__, _shown_result(answer)
    if isinstance(answer, Mapping):
        return type(answer).__name__, _shown_items(answer)
    if isinstance(answer, (list, tuple, set, frozenset)):
        return type(answer).__name__, [shown(one) for one in answer]
    if hasattr(answer, "__next__"):
        return "iterator", shown(attempted(lambda: list(answer)))
    return type(answer).__name__, repr(answer)


def _shown_items(answer: Mapping[str, Any]) -> Any:
    """A raw document is decoded here, and what the driver cannot decode shows as its error."""
    keys = attempted(lambda: [key for key in answer if key not in DRIVERS_OWN])
    return shown(keys) if isinstance(keys, Exception) else [(key, shown(answer[key])) for key in keys]


def _shown_error(error: BaseException) -> Any:
    """Type, words, code and details; and what MongoEngine's own exceptions were made from."""
    text = _in_short(str(error))
    if isinstance(error, PyMongoError):
        labels = sorted(error._error_labels - {"TransientTransactionError"})
        details = _in_short(str(shown(_sorted(getattr(error, "details", None)))))
        return type(error).__name__, text, getattr(error, "code", None), details, labels
    of_driver = error.__context__ if isinstance(error.__context__, PyMongoError) else None
    return type(error).__name__, text, shown(of_driver) if of_driver else None


def _in_short(text: str) -> str:
    """A message without what differs from run to run."""
    return _NUMBERS.sub("txnNumber: N", _OF_OURS.sub("Collection", _SERVERS_OWN.sub("", text)))


def _sorted(details: Any) -> Any:
    return dict(sorted(details.items())) if isinstance(details, dict) else details


def _shown_document(document: Any) -> Any:
    state = attempted(document.to_mongo)
    changed = attempted(document._get_changed_fields)
    return (
        type(document).__name__,
        list(state.items()) if isinstance(state, Mapping) else shown(state),
        getattr(document, "_created", None),
        sorted(changed) if isinstance(changed, list) else shown(changed),
        repr(getattr(document, "_data", {}).keys()),
    )


def _shown_result(result: Any) -> Any:
    names = [name for name in dir(result) if not name.startswith("_") and name != "raw_result"]
    values = {name: shown(attempted(lambda name=name: getattr(result, name))) for name in names}
    raw = attempted(
        lambda: result.bulk_api_result if isinstance(result, BulkWriteResult) else result.raw_result
    )
    if isinstance(raw, (AttributeError, InvalidOperation)):
        return values
    return values, shown(_sorted(raw))


@contextmanager
def _listening(*, receivers: bool) -> Iterator[list[str]]:
    """What the signals tell, in order."""
    log: list[str] = []
    heard = {**SIGNALS, **(DELETE_SIGNALS if receivers else {})}
    kept = []
    for name, signal in heard.items():

        def receive(sender: Any, name: str = name, **arguments: Any) -> None:
            told = {key: shown(value) for key, value in sorted(arguments.items()) if key != "document"}
            document = arguments.get("document")
            # Not the document's whole state: to ask for that consumes numbers of sequences.
            about = None if document is None else type(document).__name__
            if name not in {"pre_init", "post_init"} and document is not None:
                about = f"{about} {document._data.get('id')!r} {document._data}"
            log.append(f"{name} {sender.__name__} {about} {told}")

        kept.append((signal, receive))
        signal.connect(receive, weak=False)
    try:
        yield log
    finally:
        for signal, receive in kept:
            signal.disconnect(receive)


def _with_ids_by_place(entries: Sequence[str]) -> list[str]:
    places: dict[str, str] = {}
    for entry in entries:
        for found in _ID.findall(entry):
            places.setdefault(found, f"id_{len(places):021d}")
    if not places:
        return list(entries)
    pattern = re.compile("|".join(places))
    return [pattern.sub(lambda match: places[match.group()], entry) for entry in entries]


def key(number: int) -> ObjectId:
    """An id that both runs know."""
    return ObjectId(f"{number:024x}")
