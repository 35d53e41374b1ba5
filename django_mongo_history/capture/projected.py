"""`find_one_and_*` with a projection: the images are read beside the caller's own call, which shapes the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo.collection import ReturnDocument

from django_mongo_history.capture.running import Run
from django_mongo_history.capture.works import Single
from django_mongo_history.core.identity import id_of, write_of
from django_mongo_history.core.model import Write
from django_mongo_history.delivery.base import Outcome
from django_mongo_history.driver.images import Found


@dataclass(slots=True)
class Projected:
    """
    `call(session, query, **changed options)` is the caller's own; `single` knows how to see the after-image;
    `read(session, id)` gives a document in the shape that the caller asked for.
    """

    single: Single
    returns_after: bool
    call: Callable[..., Any]
    read: Callable[[Any, Any], Any]
    needs_transaction: bool = True
    is_callers_call: bool = False

    def attempt(self, session: Any, *, transactional: bool) -> Outcome:
        parts = self.single.parts
        reading = {
            name: parts[name] for name in ("sort", "hint", "collation", "let") if parts.get(name) is not None
        }
        before = self.single.images.find_one(parts["query"], session, **reading)
        if before is None:
            return self._unmatched(session)
        identity = id_of(before)
        dropped = {name: None for name in ("sort", "hint") if name in reading}
        # The filter stays beside the _id, so that a positional `$` still finds its place.
        answer = self.call(session, {"$and": [parts["query"], {"_id": identity}]}, **dropped)
        return Outcome(answer, [self._write(before, session)])

    def original(self, session: Any) -> Any:
        return self.call(session)

    def _write(self, before: bytes, session: Any) -> Write:
        return write_of(self.single.namespace, before, self.single.after(Found(before), session))

    def _unmatched(self, session: Any) -> Outcome:
        if not self.single.parts.get("upsert"):
            return Outcome(self.call(session))
        made = self.call(session, projection={"_id": 1}, return_document=ReturnDocument.AFTER)
        after = self.single.images.find_one({"_id": made["_id"]}, session)
        answer = self.read(session, made["_id"]) if self.returns_after else None
        return Outcome(answer, [write_of(self.single.namespace, None, after)])


def projected(
    run: Run, query: Any, change: dict[str, Any], options: dict[str, Any], call: Callable[..., Any]
) -> Projected:
    """The work of a `find_one_and_*`; `change` holds its update, or says that it removes."""

    def read(session: Any, identity: Any) -> Any:
        return run.images.plain.find_one(
            {"_id": identity}, options["projection"], **run.session_option(session)
        )

    others = {name: value for name, value in options.items() if name not in ("projection", "return_document")}
    given = {name: value for name, value in others.items() if value is not None}
    single = Single(
        run.images, run.namespace, {**given, "query": query, **change}, call, lambda found, after: None
    )
    return Projected(single, options.get("return_document") == ReturnDocument.AFTER, call, read)
