"""`find_one_and_update`, `find_one_and_replace` and `find_one_and_delete` of a recording collection."""

from __future__ import annotations

from typing import Any

from pymongo.collection import ReturnDocument

from django_mongo_history.capture import arguments
from django_mongo_history.capture.calls import RecordedCalls
from django_mongo_history.capture.projected import projected
from django_mongo_history.capture.strictness import Reach


class RecordingFindMethods(RecordedCalls):
    """What writes one document and answers with it."""

    def find_one_and_update(self, filter: Any, update: Any, *args: Any, **options: Any) -> Any:
        is_fit = arguments.is_update(update)
        return self._find_and("find_one_and_update", filter, (update,), args, options, is_fit=is_fit)

    def find_one_and_replace(self, filter: Any, replacement: Any, *args: Any, **options: Any) -> Any:
        is_fit = arguments.is_replacement(replacement)
        return self._find_and("find_one_and_replace", filter, (replacement,), args, options, is_fit=is_fit)

    def find_one_and_delete(self, filter: Any, *args: Any, **options: Any) -> Any:
        return self._find_and("find_one_and_delete", filter, (), args, options, is_fit=True)

    def _find_and(
        self,
        name: str,
        filter: Any,
        sent: tuple[Any, ...],
        args: tuple[Any, ...],
        options: dict[str, Any],
        *,
        is_fit: bool,
    ) -> Any:
        named = arguments.named(name, 1 + len(sent), args, options) if is_fit else None
        if (
            named is None
            or arguments.are_refused_found(filter, named, acknowledged=self._is_answered(named))
            or self._passes(sent[0] if sent else None, named)
        ):
            return self._beneath(name)(filter, *sent, *args, **options)
        return self._record_find_and(name, filter, sent, named)

    def _record_find_and(self, name: str, filter: Any, sent: tuple[Any, ...], options: dict[str, Any]) -> Any:
        query = options.get("query", filter)
        run = self._run(options.pop("session", None), lambda: [Reach(query, options=options)], *sent)
        asked = options.pop(
            "query", filter
        )  # as the driver has it: the keyword goes before the first argument
        change: dict[str, Any] = {"update": sent[0]} if sent else {"remove": True}

        def call(session: Any, query: Any = asked, **changed: Any) -> Any:
            given = {**options, **changed, **run.session_option(session)}
            return getattr(run.images.plain, name)(query, *sent, **given)

        if arguments.are_for_the_server_alone(options):
            done = run.deliver(projected(run, asked, change, options, call))
            return done if run.acknowledged else None
        is_after = options.get("return_document", ReturnDocument.BEFORE) == ReturnDocument.AFTER
        others = {key: value for key, value in options.items() if key != "return_document"}
        image = run.single(
            {**others, "query": asked, **change},
            call,
            lambda found, after: after if is_after else found.before,
        )
        if not run.acknowledged:
            return None
        # Only now: what the caller cannot decode is written all the same, as the driver does it.
        return run.decoded(image) if isinstance(image, bytes) else image
