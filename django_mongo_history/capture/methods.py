"""
The writing methods of a recording collection. What they answer or raise is what the driver would have answered or raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pymongo import InsertOne, UpdateMany, UpdateOne
from pymongo.results import InsertOneResult

from django_mongo_history.capture import arguments, batch, bulk, works
from django_mongo_history.capture.calls import worded
from django_mongo_history.capture.finding import RecordingFindMethods
from django_mongo_history.capture.strictness import Reach
from django_mongo_history.driver.images import Found


class RecordingMethods(RecordingFindMethods):
    """The writing methods, over `_images` (the collection beneath) and `_subject`."""

    # -- inserts ---------------------------------------------------------------------------------------------------

    def insert_one(self, document: Any, *args: Any, **options: Any) -> Any:
        named = arguments.named("insert_one", 1, args, options)
        if not self._is_recording() or named is None or not _is_fit(named, document):
            return self._beneath("insert_one")(document, *args, **options)
        run = self._run(named.pop("session", None), lambda: [Reach(document=document)])
        sent = works.with_id(document)

        def call(session: Any) -> Any:
            done = run.images.plain.insert_one(sent, **named, **run.session_option(session))
            return InsertOneResult(done.inserted_id, run.acknowledged)

        done = run.deliver(works.Insert(run.images, run.namespace, [sent], call))
        return InsertOneResult(sent["_id"], acknowledged=False) if done is None else done

    def insert_many(self, documents: Any, *args: Any, **options: Any) -> Any:
        named = arguments.named("insert_many", 1, args, options)
        if isinstance(documents, Iterable) and not isinstance(documents, (Mapping, str)):
            given = documents
            documents = list(documents) or given  # an iterator that has nothing is refused in other words
        if not self._is_recording() or named is None or not _is_fit(named, *_sequence(documents)):
            return self._beneath("insert_many")(documents, *args, **options)
        sent = list(documents)
        run = self._run(named.pop("session", None), lambda: [Reach(document=one) for one in sent])
        return bulk.insert_many(run, sent, named)

    # -- updates ---------------------------------------------------------------------------------------------------

    def update_one(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("update_one", filter, args, options)
        if named is None or not arguments.is_update(update) or self._passes(update, named):
            return self._beneath("update_one")(filter, update, *args, **options)
        return self._record_update("update_one", filter, update, named)

    def replace_one(self, filter: Any, replacement: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("replace_one", filter, args, options)
        if named is None or not arguments.is_replacement(replacement) or not self._is_recording():
            return self._beneath("replace_one")(filter, replacement, *args, **options)
        return self._record_update("replace_one", filter, replacement, named)

    def update_many(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("update_many", filter, args, options)
        if named is None or not arguments.is_update(update) or self._passes(update, named):
            return self._beneath("update_many")(filter, update, *args, **options)
        if works.pins_id(filter):
            return self._record_update("update_many", filter, update, named)
        run = self._run(named.pop("session", None), lambda: [Reach(filter, options=named)], update)
        with worded(run):
            return bulk.update_many(run, filter, update, named)

    def _record_update(self, name: str, filter: Any, update: Any, options: dict[str, Any]) -> Any:
        """An update or replacement of one document at most."""
        is_replacement = name == "replace_one"
        run = self._run(
            options.pop("session", None),
            lambda: [Reach(filter, options=options)],
            None if is_replacement else update,
        )
        replacement = works.encoded(update, run.images) if is_replacement else None

        def call(session: Any) -> Any:
            return getattr(run.images.plain, name)(filter, update, **options, **run.session_option(session))

        def answer(found: Found, after: bytes | None) -> Any:
            return works.update_result(
                found,
                after,
                acknowledged=run.acknowledged,
                decode=run.decoded_reply,
                replacement=replacement,
            )

        with worded(run):
            return run.single({**options, "query": filter, "update": update}, call, answer)

    # -- removals --------------------------------------------------------------------------------------------------

    def delete_one(self, filter: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("delete_one", filter, args, options, given=1)
        if named is None or not self._is_recording():
            return self._beneath("delete_one")(filter, *args, **options)
        return self._record_removal("delete_one", filter, named)

    def delete_many(self, filter: Any, *args: Any, **options: Any) -> Any:
        named = self._taken("delete_many", filter, args, options, given=1)
        if named is None or not self._is_recording():
            return self._beneath("delete_many")(filter, *args, **options)
        if works.pins_id(filter):
            return self._record_removal("delete_many", filter, named)
        run = self._run(named.pop("session", None), lambda: [Reach(filter, options=named)])
        with worded(run):
            return bulk.delete_many(run, filter, named)

    def _record_removal(self, name: str, filter: Any, options: dict[str, Any]) -> Any:
        """A removal of one document at most."""
        run = self._run(options.pop("session", None), lambda: [Reach(filter, options=options)])

        def call(session: Any) -> Any:
            return getattr(run.images.plain, name)(filter, **options, **run.session_option(session))

        def answer(found: Found, _after: bytes | None) -> Any:
            return works.delete_result(found, acknowledged=run.acknowledged)

        with worded(run):
            return run.single({**options, "query": filter, "remove": True}, call, answer)

    # -- several at once -------------------------------------------------------------------------------------------

    def bulk_write(self, requests: Any, *args: Any, **options: Any) -> Any:
        named = arguments.named("bulk_write", 1, args, options)
        if (
            not self._is_recording()
            or named is None
            or arguments.are_refused({}, named, acknowledged=True)
            or not isinstance(requests, list)
            or not requests
            or not all(arguments.is_request(one, acknowledged=self._is_answered(named)) for one in requests)
        ):
            return self._beneath("bulk_write")(requests, *args, **options)
        run = self._run(named.pop("session", None), lambda: self._reaches(requests))
        with worded(run):
            return batch.bulk_write(run, list(requests), named)

    def _reaches(self, requests: Iterable[Any]) -> Iterator[Reach]:
        """What the requests of a `bulk_write` are about, without those that can change untracked paths only."""
        for request in requests:
            if isinstance(request, InsertOne):
                yield Reach(document=request._doc)  # noqa: SLF001 - requests show what they hold by no public name
                continue
            upserts = bool(getattr(request, "_upsert", False))
            is_update = isinstance(request, (UpdateOne, UpdateMany))
            if upserts or not is_update or not self._is_untracked(request._doc):  # noqa: SLF001
                collation = getattr(request, "_collation", None)
                yield Reach(request._filter, options={"upsert": upserts, "collation": collation})  # noqa: SLF001


def _is_fit(options: dict[str, Any], *documents: Any) -> bool:
    """Whether the driver sends these documents with these options."""
    return (
        bool(documents)
        and all(map(arguments.is_document, documents))
        and not arguments.are_refused({}, options, acknowledged=True)
    )


def _sequence(documents: Any) -> Any:
    return documents if isinstance(documents, list) else ()
