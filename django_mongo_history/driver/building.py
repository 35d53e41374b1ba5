"""
Collections that are made beside others: built under another name, marked, and there all at once.

The mark is a comment in the collection's validator, which matches every document. So it is part of the collection: it
goes where a rename takes it, and ends with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern

_OWNER: Final = "django_mongo_history"
_BUILDING: Final = ".building-"
_STALE: Final = timedelta(days=1)
_MOST_AT_ONCE: Final = 1000
_MAX_BYTES: Final = 16 * 1024 * 1024
_EXISTS: Final = 48
_DUPLICATE_KEY: Final = 11000

Mark = Mapping[str, Any]
Progress = Callable[[int], None]


class OccupiedError(Exception):
    """The name belongs to something that was not made here."""


def marks(database: Any, *, name: str | None = None) -> dict[str, Mark]:
    """The marks of the collections that were made here and are whole, by name; of one of them, where it is named."""
    wanted: dict[str, Any] = {"options.validator.$comment.owner": _OWNER}
    found = database.list_collections(filter=wanted if name is None else {**wanted, "name": name})
    return {
        one["name"]: {key: _aware(value) for key, value in one["options"]["validator"]["$comment"].items()}
        for one in found
        if _BUILDING not in one["name"]
    }


def _aware(value: Any) -> Any:
    """A moment with its zone, which the driver leaves out of what describes collections."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def is_free(database: Any, name: str) -> bool:
    """Whether a collection of this name may be put there: there is none, or one that was made here."""
    there = list(database.list_collections(filter={"name": name}))
    return not there or bool(marks(database, name=name))


def build(
    like: Any,
    name: str,
    states: Iterable[bytes],
    *,
    mark: Mark,
    indexes: Sequence[Mapping[str, Any]],
    progress: Progress,
) -> tuple[int, list[str]]:
    """
    Put these documents into a collection of that name, in the database and with the collation of `like`.

    It appears whole, with its indexes, in the place of one that was made here before. Returns how many documents there
    are, and the names of unique indexes that they do not allow.
    Raises: OccupiedError; the driver's errors. Then nothing is left of it.
    """
    database = like.database
    _sweep(database, name)
    with _built(like, f"{name}{_BUILDING}{ObjectId()}", {**mark, "owner": _OWNER}) as made:
        count = 0
        for some in _portions(states):
            made.insert_many(some, ordered=False)
            count += len(some)
            progress(len(some))
        refused = [spec["name"] for spec in indexes if not _has_made(made, spec)]
        if not is_free(database, name):
            raise OccupiedError(name)
        try:
            made.rename(name, dropTarget=bool(marks(database, name=name)))
        except OperationFailure as error:
            if error.code == _EXISTS:
                raise OccupiedError(name) from error
            raise
    return count, refused


def drop(database: Any, name: str) -> bool:
    """Drop a collection that was made here; whether there was one. Raises: OccupiedError for any other."""
    if not is_free(database, name):
        raise OccupiedError(name)
    was_there = bool(marks(database, name=name))
    if was_there:
        database.drop_collection(name)
    return was_there


def index_specs(collection: Any) -> list[dict[str, Any]]:
    """The indexes of a collection as the server describes them, ready to be made elsewhere; not that of `_id`."""
    found = [dict(spec) for spec in collection.list_indexes()]
    return [_portable(spec) for spec in found if dict(spec["key"]) != {"_id": 1}]


def _portable(spec: dict[str, Any]) -> dict[str, Any]:
    """Without what ends documents when their time is up: these are of a time that is over."""
    left_out = ("v", "ns", "expireAfterSeconds", "prepareUnique", "background", "clustered")
    return {name: value for name, value in spec.items() if name not in left_out}


def merged(there: Sequence[dict[str, Any]], declared: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The indexes that there are, and those of the declared ones on other keys."""
    found = list(there)
    for spec in declared:
        names = {one["name"] for one in found}
        if spec["name"] not in names and all(_keys(spec) != _keys(one) for one in found):
            found.append(_portable(spec))
    return found


def _keys(spec: Mapping[str, Any]) -> list[Any]:
    return list(dict(spec["key"]).items())


def _has_made(collection: Any, spec: Mapping[str, Any]) -> bool:
    command = {"createIndexes": collection.name, "indexes": [dict(spec)]}
    try:
        collection.database.command(command)
    except OperationFailure as error:
        if error.code != _DUPLICATE_KEY:
            raise
        return False
    return True


def _portions(states: Iterable[bytes]) -> Iterator[list[RawBSONDocument]]:
    some: list[RawBSONDocument] = []
    size = 0
    for state in states:
        some.append(RawBSONDocument(state))
        size += len(state)
        if len(some) == _MOST_AT_ONCE or size >= _MAX_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


@contextmanager
def _built(like: Any, name: str, mark: Mark) -> Iterator[Any]:
    """A marked collection to be filled and renamed; dropped where that fails."""
    options = like.options()
    collation = {"collation": options["collation"]} if "collation" in options else {}
    database = like.database
    database.create_collection(name, validator={"$comment": dict(mark)}, **collation)
    concern = like.write_concern if like.write_concern.acknowledged else WriteConcern(w=1)
    try:
        yield database.get_collection(name, write_concern=concern)
    except BaseException:
        with suppress(PyMongoError):  # the first error says what happened; what is left is swept later
            database.drop_collection(name)
        raise


def _sweep(database: Any, name: str) -> None:
    """Drop what builders of this name left that were killed: nobody builds for a day."""
    prefix = f"{name}{_BUILDING}"
    for left in database.list_collections(filter={"options.validator.$comment.owner": _OWNER}):
        suffix = left["name"].removeprefix(prefix)
        is_one = suffix != left["name"] and ObjectId.is_valid(suffix)
        if is_one and datetime.now(UTC) - ObjectId(suffix).generation_time > _STALE:
            database.drop_collection(left["name"])
