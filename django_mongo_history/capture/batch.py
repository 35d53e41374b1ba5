"""`bulk_write`: its requests as works of their own, in one transaction; split where one of them fails."""

# ruff: noqa: SLF001 - PyMongo's requests show what they hold by no public name

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure
from pymongo.results import BulkWriteResult

from django_mongo_history.capture import works
from django_mongo_history.capture.running import Run
from django_mongo_history.capture.works import Failure, Insert, Many, Single
from django_mongo_history.core.model import Write
from django_mongo_history.delivery.base import Outcome, Work

_COUNTS: Final = ("nInserted", "nUpserted", "nMatched", "nModified", "nRemoved")
_ORDER_OF_KINDS: Final = {
    InsertOne: 0,
    UpdateOne: 1,
    UpdateMany: 1,
    ReplaceOne: 1,
    DeleteOne: 2,
    DeleteMany: 2,
}


@dataclass(slots=True)
class Part:
    """One request: its place among the caller's, its work, and how its answer counts."""

    index: int
    request: Any
    work: Work
    count: Callable[[Any], dict[str, Any]]


@dataclass(slots=True)
class Batch:
    """The requests in one attempt. `call` is the caller's own `bulk_write` of the same requests."""

    parts: Sequence[Part]
    call: Callable[[Any], Any]
    needs_transaction: bool = True

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        counts = blank_counts()
        writes: list[Write] = []
        for part in self.parts:
            outcome = part.work.attempt(session, transactional=transactional)
            writes.extend(outcome.writes)
            if isinstance(outcome.result, Failure):  # of a part on its own: what it wrote is recorded first
                return Outcome(outcome.result, writes)
            add(counts, part, outcome.result)
        return Outcome(counts, writes)

    def original(self, session: Any) -> Any:
        return self.call(session)


def bulk_write(run: Run, requests: list[Any], options: dict[str, Any]) -> Any:
    """
    `bulk_write`, each request recorded.

    A failing request ends an ordered batch; of an unordered one, which runs by kind as the driver runs it, the rest
    goes on. What was done before stays done, and recorded.
    """
    ordered = options.get("ordered", True)
    parts = [_part(run, index, request, options) for index, request in enumerate(requests)]
    if not ordered:
        parts.sort(key=lambda part: _ORDER_OF_KINDS.get(type(part.request), 1))
    counts, errors = blank_counts(), list[dict[str, Any]]()
    chunk_size = run.environment.chunk_size
    while parts:
        chunk, parts = parts[:chunk_size], parts[chunk_size:]
        done, failure = _chunk(run, chunk, options)
        merge(counts, done)
        if failure is not None:
            position, error = failure
            errors.append({**error, "index": chunk[position].index})
            parts = [] if ordered else chunk[position + 1 :] + parts
    if errors and run.acknowledged:
        errors.sort(key=lambda error: error["index"])
        raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": [], **counts})
    answer = {"writeErrors": [], "writeConcernErrors": [], **counts}
    return BulkWriteResult(answer if run.acknowledged else {}, run.acknowledged)


def _chunk(
    run: Run, chunk: Sequence[Part], options: dict[str, Any]
) -> tuple[dict[str, Any], tuple[int, dict[str, Any]] | None]:
    """What a chunk did, and where it failed: the position and the driver's own error."""
    if not run.runs_in_transaction():
        return _one_by_one(run, chunk, options)
    try:
        return run.deliver(_batch(run, chunk, options)), None
    except BulkWriteError as error:
        if run.is_joined():
            raise
        failed = error.details["writeErrors"][0]
        before = chunk[: failed["index"]]
        done = run.deliver(_batch(run, before, options)) if before else blank_counts()
        return done, (failed["index"], failed)


def _one_by_one(
    run: Run, chunk: Sequence[Part], options: dict[str, Any]
) -> tuple[dict[str, Any], tuple[int, dict[str, Any]] | None]:
    counts = blank_counts()
    for position, part in enumerate(chunk):
        try:
            done = run.deliver(_batch(run, [part], options))
            if done is None:  # it failed, and nobody waits for the error
                return counts, (position, {})
            merge(counts, done)
        except BulkWriteError as error:
            return counts, (position, error.details["writeErrors"][0])
        except OperationFailure:
            try:
                _raise_as_bulk(run, part, options)
            except BulkWriteError as error:
                return counts, (position, error.details["writeErrors"][0])
            raise
    return counts, None


def _raise_as_bulk(run: Run, part: Part, options: dict[str, Any]) -> None:
    """The error of a single request in the form that `bulk_write` gives it."""
    run.images.plain.bulk_write([part.request], **{**options, "ordered": True})


def _batch(run: Run, parts: Sequence[Part], options: dict[str, Any]) -> Batch:
    requests = [part.request for part in parts]

    def call(session: Any) -> Any:
        return run.images.plain.bulk_write(
            requests, **{**options, "ordered": True}, **run.session_option(session)
        )

    return Batch(parts, call)


def _part(run: Run, index: int, request: Any, options: dict[str, Any]) -> Part:
    shared = {name: options[name] for name in ("comment", "let") if options.get(name) is not None}
    plain, namespace = run.images.plain, run.namespace
    if isinstance(request, InsertOne):
        sent = works.with_id(request._doc)

        def insert(session: Any) -> Any:
            return plain.insert_one(sent, **shared, **run.session_option(session))

        return Part(index, InsertOne(sent), Insert(run.images, namespace, [sent], insert), _count_insert)
    query, update = request._filter, getattr(request, "_doc", None)
    own = _own_options(request)
    removes = isinstance(request, (DeleteOne, DeleteMany))
    count = _count_delete if removes else _count_update
    if isinstance(request, (UpdateMany, DeleteMany)):
        return Part(index, request, _many(run, request, own, shared), count)
    change: dict[str, Any] = {"remove": True} if removes else {"update": update}
    single = Single(
        run.images,
        namespace,
        {"query": query, **change, **own, **shared},
        lambda session: plain.bulk_write([request], **run.session_option(session)),
        _delete_answer if removes else _update_answer(run),
    )
    return Part(index, request, single, count)


def _many(run: Run, request: Any, own: dict[str, Any], shared: dict[str, Any]) -> Many:
    plain = run.images.plain
    reading: dict[str, Any] = {name: own[name] for name in ("hint", "collation") if name in own}
    removes = isinstance(request, DeleteMany)

    def call(query: Any, session: Any) -> Any:
        arguments = {**own, **shared, **run.session_option(session)}
        if removes:
            return plain.delete_many(query, **arguments)
        return plain.update_many(query, request._doc, **arguments)

    update = None if removes else request._doc
    return Many(
        run.images,
        run.namespace,
        request._filter,
        reading,
        call,
        update=update,
        has_filters="array_filters" in own,
    )


def _own_options(request: Any) -> dict[str, Any]:
    names = ("upsert", "collation", "array_filters", "hint", "sort")
    found = {name: getattr(request, f"_{name}", None) for name in names}
    return {name: value for name, value in found.items() if value not in (None, False)}


def _update_answer(run: Run) -> Callable[[Any, bytes | None], Any]:
    return lambda found, after: works.update_result(found, after, acknowledged=True, decode=run.decoded)


def _delete_answer(found: Any, _after: bytes | None) -> Any:
    return works.delete_result(found, acknowledged=True)


def blank_counts() -> dict[str, Any]:
    """The counts of a batch that has done nothing, by the server's names."""
    return {**dict.fromkeys(_COUNTS, 0), "upserted": []}


def add(counts: dict[str, Any], part: Part, result: Any) -> None:
    """Count the answer of one request."""
    found = part.count(result)
    merge(counts, {**blank_counts(), **found})
    if "upserted_id" in found:
        counts["upserted"].append({"index": part.index, "_id": found["upserted_id"]})


def merge(counts: dict[str, Any], more: dict[str, Any]) -> None:
    """Add up counts."""
    for name in _COUNTS:
        counts[name] += more[name]
    counts["upserted"].extend(more["upserted"])


def _count_insert(_result: Any) -> dict[str, Any]:
    return {"nInserted": 1}


def _count_update(result: Any) -> dict[str, Any]:
    if "upserted" in result.raw_result:
        return {"nUpserted": 1, "upserted_id": result.raw_result["upserted"]}
    return {"nMatched": result.matched_count, "nModified": result.modified_count}


def _count_delete(result: Any) -> dict[str, Any]:
    return {"nRemoved": result.deleted_count}
