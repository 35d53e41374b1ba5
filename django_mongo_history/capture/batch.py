"""`bulk_write`: its requests as works of their own, in one transaction; split where one of them fails."""

# ruff: noqa: SLF001 - PyMongo's requests show what they hold by no public name

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure, WriteConcernError
from pymongo.results import BulkWriteResult, DeleteResult, UpdateResult

from django_mongo_history.capture import works
from django_mongo_history.capture.many import Many
from django_mongo_history.capture.running import Run
from django_mongo_history.capture.tally import COUNTS, Tally, blank_counts, merge
from django_mongo_history.capture.wording import as_of_a_write
from django_mongo_history.capture.works import Failure, Insert, Refused, Single
from django_mongo_history.core.identity import id_bytes, place_of, write_of
from django_mongo_history.core.model import Write
from django_mongo_history.delivery.atomic import TransactionRefusedError
from django_mongo_history.delivery.base import Outcome, Work
from django_mongo_history.driver import topology
from django_mongo_history.driver.images import Images

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
    is_callers_call: bool = False
    done: dict[str, Any] = field(default_factory=blank_counts)
    """What the last attempt did, whatever came of it afterwards."""
    position: int = 0
    """How far it got."""

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        self.done, self.position = blank_counts(), 0
        writes: list[Write] = []
        for stretch in _stretches(self.parts) if transactional else ([part] for part in self.parts):
            done = self._together(stretch, session) if len(stretch) >= _WORTH_READING else None
            for outcome in self._alone(stretch, session, transactional) if done is None else [done]:
                writes.extend(outcome.writes)
                if isinstance(
                    outcome.result, Failure
                ):  # of a part on its own: what it wrote is recorded first
                    return Outcome(outcome.result, writes)
                merge(self.done, outcome.result)
            self.position += len(stretch) if done is not None else 0
        return Outcome(self.done, writes)

    def _alone(self, stretch: Sequence[Part], session: Any, transactional: bool) -> Iterator[Outcome]:  # noqa: FBT001
        for part in stretch:
            outcome = part.work.attempt(session, transactional=transactional)
            if not isinstance(outcome.result, Failure):
                outcome.result = counted(part, outcome.result)
            yield outcome
            self.position += 1

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
        return Outcome({**{name: result[name] for name in COUNTS}, "upserted": upserted}, writes)


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
    tally = Tally()
    chunk_size = run.environment.chunk_size
    while parts:
        chunk, parts = parts[:chunk_size], parts[chunk_size:]
        failed = _chunk(run, chunk, options, tally)
        if failed is not None:
            parts = [] if ordered else chunk[failed + 1 :] + parts
    return tally.answer(acknowledged=run.acknowledged)


def _chunk(run: Run, chunk: Sequence[Part], options: dict[str, Any], tally: Tally) -> int | None:
    """Do the requests as far as the first that fails: its position is the answer."""
    if not run.can_see_in_transaction():
        return _one_by_one(run, chunk, options, tally)
    batch = _batch(run, chunk, options)
    try:
        tally.add(run.deliver(batch, falls_back=False))
    except TransactionRefusedError:
        return _one_by_one(run, chunk, options, tally)
    except WriteConcernError as error:
        tally.add(batch.done)
        tally.late.append(error.details)
    except BulkWriteError as error:
        if run.is_joined():
            raise
        first = error.details["writeErrors"][0]
        position: int = first["index"]
        if position:
            _chunk(run, chunk[:position], options, tally)
        tally.fail(chunk[position].index, first)
        return position
    except OperationFailure as error:
        if not run.is_joined() or error.has_error_label("TransientTransactionError"):
            raise
        raise _as_bulk_error(error, batch, tally) from None
    return None


def _one_by_one(run: Run, chunk: Sequence[Part], options: dict[str, Any], tally: Tally) -> int | None:
    for position, part in enumerate(chunk):
        batch = _batch(run, [part], options)
        try:
            done = run.deliver(batch)
            if done is None:
                return position
            tally.add(done)
        except WriteConcernError as error:
            tally.add(batch.done)
            tally.late.append(error.details)
        except BulkWriteError as error:
            if error.details["writeErrors"]:
                tally.fail(part.index, error.details["writeErrors"][0])
                return position
            tally.add({name: error.details[name] for name in (*COUNTS, "upserted")})
            tally.late.extend(error.details["writeConcernErrors"])
        except OperationFailure:
            try:
                _raise_as_bulk(run, part, options)
            except BulkWriteError as error:
                tally.fail(part.index, error.details["writeErrors"][0])
                return position
            raise
    return None


def _as_bulk_error(error: OperationFailure, batch: Batch, tally: Tally) -> BulkWriteError:
    """The error of a request that was done in another form, in a transaction that it has ended."""
    worded = as_of_a_write(error)
    tally.add(batch.done)
    part = batch.parts[batch.position]
    details = worded.details or {}
    found = {name: details[name] for name in ("code", "errmsg", "keyPattern", "keyValue") if name in details}
    tally.fail(part.index, {"index": part.index, **found, "op": _as_sent(part.request)})
    return BulkWriteError(tally.details())


def _as_sent(request: Any) -> Any:
    """A request as the driver's errors show it."""
    if isinstance(request, InsertOne):
        return request._doc
    own = {
        name: value
        for name, value in _own_options(request).items()
        if name not in ("upsert", "array_filters")
    }
    if isinstance(request, (DeleteOne, DeleteMany)):
        return {"q": request._filter, "limit": int(isinstance(request, DeleteOne)), **own}
    filters = getattr(request, "_array_filters", None)
    return {
        "q": request._filter,
        "u": request._doc,
        "multi": isinstance(request, UpdateMany),
        "upsert": bool(request._upsert),
        **({} if filters is None else {"arrayFilters": filters}),
        **own,
    }


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
    if "sort" in own and not topology.sorts_updates(plain.database.client):
        refused = Refused(lambda session: plain.bulk_write([request], **run.session_option(session)))
        return Part(index, request, refused, count)
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


def counted(part: Part, result: Any) -> dict[str, Any]:
    """The answer of one request as counts."""
    if isinstance(result, BulkWriteResult):  # the caller's own call, where nothing was found
        done = result.bulk_api_result
        upserted = [{**one, "index": part.index} for one in done["upserted"]]
        return {**{name: done[name] for name in COUNTS}, "upserted": upserted}
    found = {**blank_counts(), **part.count(result)}
    if "upserted_id" in found:
        found["upserted"] = [{"index": part.index, "_id": found.pop("upserted_id")}]
    return found


def _count_insert(_result: Any) -> dict[str, Any]:
    return {"nInserted": 1}


def _count_update(result: Any) -> dict[str, Any]:
    if "upserted" in result.raw_result:
        return {"nUpserted": 1, "upserted_id": result.raw_result["upserted"]}
    return {"nMatched": result.matched_count, "nModified": result.modified_count}


def _count_delete(result: Any) -> dict[str, Any]:
    return {"nRemoved": result.deleted_count}
