"""`bulk_write`: its requests as works of their own, in one transaction; split where one of them fails."""

# ruff: noqa: SLF001 - PyMongo's requests show what they hold by no public name

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure
from pymongo.results import BulkWriteResult, DeleteResult, UpdateResult

from django_mongo_history.capture import works
from django_mongo_history.capture.running import Run
from django_mongo_history.capture.works import Failure, Insert, Many, Single
from django_mongo_history.core.identity import id_bytes, place_of, write_of
from django_mongo_history.core.model import Write
from django_mongo_history.delivery.atomic import TransactionRefusedError
from django_mongo_history.delivery.base import Outcome, Work
from django_mongo_history.driver.images import Images

_COUNTS: Final = ("nInserted", "nUpserted", "nMatched", "nModified", "nRemoved")
_WORTH_READING: Final = 4
"""Requests that are cheaper together: three commands do them all, one or two each of them alone."""
_ORDER_OF_KINDS: Final = {
    InsertOne: 0,
    UpdateOne: 1,
    UpdateMany: 1,
    ReplaceOne: 1,
    DeleteOne: 2,
    DeleteMany: 2,
}


class Pinned(NamedTuple):
    """The `_id` in a request: as the caller wrote it, its BSON, and what it shares with every `_id` equal to it."""

    value: Any
    image: tuple[int, bytes]
    place: Any


@dataclass(slots=True)
class Part:
    """
    One request: its place among the caller's, its work, and how its answer counts.

    `pinned`: the `_id` of the only document that it can touch; None if it may touch others.
    """

    index: int
    request: Any
    work: Work
    count: Callable[[Any], dict[str, Any]]
    pinned: Pinned | None = None


@dataclass(slots=True)
class Batch:
    """
    The requests in one attempt. `call` is the caller's own `bulk_write` of given requests.

    In a transaction, requests in a row that each touch a document of their own are done by one call, between a reading
    of these documents before and one after it.
    """

    images: Images
    namespace: str
    parts: Sequence[Part]
    call: Callable[[list[Any], Any], Any]
    needs_transaction: bool = True

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        counts = blank_counts()
        writes: list[Write] = []
        for stretch in _stretches(self.parts) if transactional else ([part] for part in self.parts):
            done = self._together(stretch, session) if len(stretch) >= _WORTH_READING else None
            if done is None:
                done = _one_after_the_other(stretch, session, transactional=transactional)
            writes.extend(done.writes)
            if isinstance(done.result, Failure):  # of a part on its own: what it wrote is recorded first
                return Outcome(done.result, writes)
            merge(counts, done.result)
        return Outcome(counts, writes)

    def original(self, session: Any) -> Any:
        return self.call([part.request for part in self.parts], session)

    def _together(self, stretch: Sequence[Part], session: Any) -> Outcome | None:
        """All of them by one call; None, with nothing done, where their `_id`s are not those of the documents."""
        ids = {part.pinned.image: part.pinned.value for part in stretch if part.pinned is not None}
        query = {"_id": {"$in": list(ids.values())}}
        befores = {id_bytes(image): image for image in self.images.find(query, session)}
        if not befores.keys() <= ids.keys():  # 1 finds 1.0, and under a collation "a" finds "A"
            return None
        result = self.call([part.request for part in stretch], session).bulk_api_result
        afters = {id_bytes(image): image for image in self.images.find(query, session)}
        upserted = [{**one, "index": stretch[one["index"]].index} for one in result["upserted"]]
        writes = [
            write_of(self.namespace, befores.get(place), afters.get(place))
            for place in ids
            if place in befores or place in afters
        ]
        return Outcome({**{name: result[name] for name in _COUNTS}, "upserted": upserted}, writes)


def _one_after_the_other(parts: Sequence[Part], session: Any, *, transactional: bool) -> Outcome:
    counts = blank_counts()
    writes: list[Write] = []
    for part in parts:
        outcome = part.work.attempt(session, transactional=transactional)
        writes.extend(outcome.writes)
        if isinstance(outcome.result, Failure):
            return Outcome(outcome.result, writes)
        add(counts, part, outcome.result)
    return Outcome(counts, writes)


def _stretches(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Parts in a row that each touch a document of their own; any other stands alone."""
    stretch: list[Part] = []
    taken: set[Any] = set()
    for part in parts:
        if stretch and (part.pinned is None or part.pinned.place in taken):
            yield stretch
            stretch, taken = [], set()
        if part.pinned is None:
            yield [part]
        else:
            stretch.append(part)
            taken.add(part.pinned.place)
    if stretch:
        yield stretch


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
    if not run.can_see_in_transaction():
        return _one_by_one(run, chunk, options)
    try:
        return run.deliver(_batch(run, chunk, options), falls_back=False), None
    except TransactionRefusedError:
        return _one_by_one(run, chunk, options)
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
    def call(requests: list[Any], session: Any) -> Any:
        return run.images.plain.bulk_write(
            requests, **{**options, "ordered": True}, **run.session_option(session)
        )

    return Batch(run.images, run.namespace, parts, call)


def _part(run: Run, index: int, request: Any, options: dict[str, Any]) -> Part:
    shared = _shared_options(request, options)
    plain, namespace = run.images.plain, run.namespace
    if isinstance(request, InsertOne):
        sent = works.with_id(request._doc)

        def insert(session: Any) -> Any:
            return plain.insert_one(sent, **shared, **run.session_option(session))

        work = Insert(run.images, namespace, [sent], insert)
        return Part(index, InsertOne(sent), work, _count_insert, _pinned(run, sent["_id"]))
    query, update = request._filter, getattr(request, "_doc", None)
    own = _own_options(request)
    removes = isinstance(request, (DeleteOne, DeleteMany))
    count = _count_delete if removes else _count_update
    pinned = _pinned(run, query["_id"]) if works.pins_id(query) and "collation" not in own else None
    if isinstance(request, (UpdateMany, DeleteMany)):
        return Part(index, request, _many(run, request, own, shared), count, pinned)
    change: dict[str, Any] = {"remove": True} if removes else {"update": update}
    single = Single(
        run.images,
        namespace,
        {"query": query, **change, **own, **shared},
        lambda session: _as_single(
            plain.bulk_write([request], **run.session_option(session)), removes=removes
        ),
        _delete_answer if removes else _update_answer(run, request),
    )
    return Part(index, request, single, count, pinned)


def _pinned(run: Run, document_id: Any) -> Pinned:
    image = id_bytes(works.encoded({"_id": document_id}, run.images))
    return Pinned(document_id, image, place_of(*image))


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


def _shared_options(request: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Those of the whole `bulk_write` that a request on its own takes."""
    names = {"comment"}
    if not isinstance(request, InsertOne):
        names.add("let")
    if not isinstance(request, (DeleteOne, DeleteMany)):
        names.add("bypass_document_validation")
    return {name: options[name] for name in names if options.get(name) is not None}


def _own_options(request: Any) -> dict[str, Any]:
    names = ("upsert", "collation", "array_filters", "hint", "sort")
    found = {name: getattr(request, f"_{name}", None) for name in names}
    return {name: value for name, value in found.items() if value not in (None, False)}


def _as_single(result: BulkWriteResult, *, removes: bool) -> UpdateResult | DeleteResult:
    """What the caller's own call of one request says, in the form of a write of one document."""
    done = result.bulk_api_result
    if removes:
        return DeleteResult({"n": done["nRemoved"], "ok": 1.0}, acknowledged=True)
    upserted = {"upserted": done["upserted"][0]["_id"]} if done["upserted"] else {}
    raw = {"n": done["nMatched"] + done["nUpserted"], "nModified": done["nModified"], "ok": 1.0}
    return UpdateResult({**raw, "updatedExisting": done["nMatched"] > 0, **upserted}, acknowledged=True)


def _update_answer(run: Run, request: Any) -> Callable[[Any, bytes | None], Any]:
    replacement = works.encoded(request._doc, run.images) if isinstance(request, ReplaceOne) else None
    return lambda found, after: works.update_result(
        found, after, acknowledged=True, decode=run.decoded_reply, replacement=replacement
    )


def _delete_answer(found: Any, _after: bytes | None) -> Any:
    return works.delete_result(found, acknowledged=True)


def blank_counts() -> dict[str, Any]:
    """The counts of a batch that has done nothing, by the server's names."""
    return {**dict.fromkeys(_COUNTS, 0), "upserted": []}


def add(counts: dict[str, Any], part: Part, result: Any) -> None:
    """Count the answer of one request."""
    if isinstance(result, BulkWriteResult):  # the caller's own call, where nothing was found
        done = result.bulk_api_result
        upserted = [{**one, "index": part.index} for one in done["upserted"]]
        merge(counts, {**{name: done[name] for name in _COUNTS}, "upserted": upserted})
        return
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
