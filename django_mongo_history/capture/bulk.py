"""
Writes of many documents: one command and one transaction up to a chunk, one of each per chunk above it.

Chunks walk by `_id`, so a document is written once even where the update takes it out of the filter. Atomic by chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, WriteConcernError
from pymongo.results import DeleteResult, InsertManyResult, UpdateResult

from django_mongo_history.capture import many, works
from django_mongo_history.capture.many import Chunk, Many, TooManyError
from django_mongo_history.capture.running import Run
from django_mongo_history.capture.works import Insert
from django_mongo_history.core.model import ABSENT

_SAMPLE: Final = 20


def insert_many(run: Run, documents: list[Any], options: dict[str, Any]) -> Any:
    """`insert_many` in chunks. An error is raised with the counts and indexes of the whole, as the driver does."""
    if not documents:
        return run.images.plain.insert_many(documents, **options)
    ordered = options.get("ordered", True)
    sent = [works.with_id(document) for document in documents]
    inserted, errors, late = 0, list[dict[str, Any]](), list[Any]()
    pending = list(_chunks(len(sent), _chunk_size(run, sent)))[::-1]
    while pending:
        low, high = pending.pop()
        try:
            _insert(run, sent[low:high], options)
            inserted += high - low
        except (
            WriteConcernError
        ) as error:  # all of them are there, though not on as many members as asked for
            inserted += high - low
            late.append(error.details)
        except BulkWriteError as error:
            if not error.details["writeErrors"]:
                inserted += high - low
                late.extend(error.details["writeConcernErrors"])
                continue
            if _is_rolled_back(run):
                first = error.details["writeErrors"][0]["index"]
                _insert(run, sent[low : low + first], options)
                inserted += first
                errors.append({**error.details["writeErrors"][0], "index": low + first})
                if not ordered and low + first + 1 < high:
                    pending.append((low + first + 1, high))
            else:
                inserted += error.details["nInserted"]
                errors.extend({**one, "index": low + one["index"]} for one in error.details["writeErrors"])
            if ordered:
                break
    if (errors or late) and run.acknowledged:
        raise BulkWriteError({**_details(errors, inserted), "writeConcernErrors": late})
    # The driver knows no ids of raw documents.
    ids = [document["_id"] for document in sent if not isinstance(document, RawBSONDocument)]
    return InsertManyResult(ids, run.acknowledged)


def _chunk_size(run: Run, documents: list[Any]) -> int:
    """How many of them go into one transaction: `CHUNK_SIZE`, fewer of large ones, judged by some of them."""
    sample = documents[:: max(1, len(documents) // _SAMPLE)]
    try:
        size = sum(len(works.encoded(document, run.images)) for document in sample) // len(sample)
    except (BSONError, ValueError, OverflowError, TypeError):
        return run.environment.chunk_size  # what cannot be sent fails in the driver's own words
    return min(run.environment.chunk_size, max(1, many.LARGEST_CHUNK // size))


def _insert(run: Run, documents: list[Any], options: dict[str, Any]) -> None:
    if documents:

        def call(session: Any) -> Any:
            return run.images.plain.insert_many(documents, **options, **run.session_option(session))

        run.deliver(Insert(run.images, run.namespace, documents, call))


def _is_rolled_back(run: Run) -> bool:
    """Whether a failed chunk left nothing behind: it was in a transaction of ours, which one error aborts."""
    return run.runs_in_transaction() and not run.is_joined()


def _details(errors: list[dict[str, Any]], inserted: int) -> dict[str, Any]:
    return {
        "writeErrors": errors,
        "writeConcernErrors": [],
        "nInserted": inserted,
        "nUpserted": 0,
        "nMatched": 0,
        "nModified": 0,
        "nRemoved": 0,
        "upserted": [],
    }


def _chunks(count: int, size: int) -> Iterator[tuple[int, int]]:
    return ((low, min(low + size, count)) for low in range(0, count, size))


def update_many(run: Run, query: Any, update: Any, options: dict[str, Any]) -> Any:
    """`update_many`, in one go where it is one chunk at most."""

    def call(query: Any, session: Any) -> Any:
        return run.images.plain.update_many(query, update, **options, **run.session_option(session))

    def call_chunk(query: Any, session: Any) -> Any:
        existing = {**options, "upsert": False}
        return run.images.plain.update_many(query, update, **existing, **run.session_option(session))

    try:
        done = run.deliver(_many(run, query, call, options, update=update, limit=run.environment.chunk_size))
        return done if run.acknowledged else UpdateResult(None, run.acknowledged)
    except TooManyError:
        counts = _total(_chunked(run, query, call_chunk, options, update=update), "n", "nModified")
    if not run.acknowledged:
        return UpdateResult(None, run.acknowledged)
    return UpdateResult({**counts, "ok": 1.0, "updatedExisting": True}, acknowledged=True)


def delete_many(run: Run, query: Any, options: dict[str, Any]) -> Any:
    """`delete_many`, in one go where it is one chunk at most."""

    def call(query: Any, session: Any) -> Any:
        return run.images.plain.delete_many(query, **options, **run.session_option(session))

    try:
        done = run.deliver(_many(run, query, call, options, limit=run.environment.chunk_size))
        return done if run.acknowledged else works.unanswered_delete()
    except TooManyError:
        counts = _total(_chunked(run, query, call, options), "n")
    if not run.acknowledged:
        return works.unanswered_delete()
    return DeleteResult({**counts, "ok": 1.0}, acknowledged=True)


def _total(results: Iterable[Any], *names: str) -> dict[str, int]:
    """The counts of all chunks, added up as they come; one that failed unacknowledged has none."""
    counts = dict.fromkeys(names, 0)
    for result in results:
        for name in names:
            counts[name] += 0 if result is None else result.raw_result.get(name, 0)
    return counts


def _many(run: Run, query: Any, call: Any, options: dict[str, Any], **shape: Any) -> Many:
    reading = {name: options[name] for name in ("hint", "collation", "let") if options.get(name) is not None}
    return Many(
        run.images,
        run.namespace,
        query,
        reading,
        call,
        has_filters=bool(options.get("array_filters")),
        **shape,
    )


def _chunked(
    run: Run, query: Any, call: Callable[[Any, Any], Any], options: dict[str, Any], update: Any = None
) -> Iterator[Any]:
    """The same write chunk by chunk, each delivered for itself."""
    # Without the caller's hint: in the order of another index each chunk would sort all that is left.
    reading = {name: options[name] for name in ("collation", "let") if options.get(name) is not None}
    chunk: Chunk | None = None
    while chunk is None or chunk.has_more:
        chunk = Chunk(
            run.images,
            run.namespace,
            query,
            reading,
            call,
            update=update,
            limit=run.environment.chunk_size,
            has_filters=bool(options.get("array_filters")),
            above=ABSENT if chunk is None else chunk.last,
        )
        yield run.deliver(chunk)
