"""
What came of a plan that was carried out: which documents were written, which not, and which have no version of it.

Nothing is taken for granted: the store is asked which versions it has, whether the delivery raised or only logged.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson import ObjectId
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from pymongo.errors import ConnectionFailure, PyMongoError, WriteConcernError, WTimeoutError

from django_mongo_history import revert
from django_mongo_history.admin.access import Access
from django_mongo_history.admin.labels import class_label, document_label
from django_mongo_history.admin.views.conflicts import conflict_text
from django_mongo_history.core import values as exact
from django_mongo_history.core.model import DocumentKey
from django_mongo_history.errors import ConflictError, DeliveryError, HistoryError, StoreError
from django_mongo_history.query.records import stores_of
from django_mongo_history.reading import Source
from django_mongo_history.revert import Item, Plan
from django_mongo_history.storage.base import Query

logger: Final = logging.getLogger("django_mongo_history")

MOST_NAMED: Final = 50
"""Documents of each kind that the page names; all of them are counted."""
_UNSURE: Final = (ConnectionFailure, WriteConcernError, WTimeoutError)
"""What may be raised though the write was done, or will be."""

Place = tuple[str, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Result:
    """
    `written`: the places of documents that were. `unstored`: those of them whose version is not in the store, or cannot
    be found there; `coming`: those whose version a broker carries. `left`: what the plan names and was not written,
    conflicts apart. `error`: what ended it. `is_certain`: whether `left` was not written for sure. `was_asked`: whether
    the store could be asked.
    """

    written: list[Place]
    unstored: list[Place] = field(default_factory=list)
    coming: list[Place] = field(default_factory=list)
    left: list[Place] = field(default_factory=list)
    error: Exception | None = None
    is_certain: bool = True
    was_asked: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether everything is as it was meant to be, or on its way there."""
        return self.error is None and not self.unstored


def carried_out(access: Access, plan: Plan, changeset: ObjectId) -> Result:
    """Write what the plan says, as part of a changeset that is open. Raises: nothing; it is logged."""
    error: Exception | None = None
    try:
        revert.apply_or_raise(plan)
    except ConflictError as found:
        error = found
    except Exception as found:  # whatever it was: it may have come when half was done, and that must be said
        logger.exception("A revert in the admin was ended by an error; changeset %s.", changeset)
        error = found
    stored = _stored(access, changeset)
    items = {_place(item.key): item for item in plan.items}
    records = [*plan.made, *(error.records if isinstance(error, DeliveryError) else ())]
    written = list(
        dict.fromkeys([*(_place(one.key) for one in records), *(items.keys() & (stored or set()))])
    )
    missing = [place for place in written if stored is None or place not in stored]
    coming = {place for place in missing if _is_carried(items[place].source)}
    return Result(
        written,
        unstored=[place for place in missing if place not in coming],
        coming=[place for place in missing if place in coming],
        left=_left(plan, items, written) if error and not isinstance(error, ConflictError) else [],
        error=error,
        is_certain=not isinstance(error, _UNSURE),
        was_asked=stored is not None,
    )


def page_of(access: Access, plan: Plan, result: Result) -> dict[str, Any]:
    """What the page about it shows."""
    sources = {_place(item.key): item for item in plan.items}

    def named(places: Sequence[Place]) -> dict[str, Any]:
        rows = [_named(access, sources[place]) for place in places[:MOST_NAMED]]
        return {"rows": rows, "more": len(places) - len(rows)}

    count = len(result.written)
    said = ngettext("%(count)d document was written.", "%(count)d documents were written.", count)
    return {
        "error": _problem(result, count),
        "said": "" if isinstance(result.error, ConflictError) else said % {"count": count},
        "written": named(result.written),
        "unstored": named(result.unstored),
        "left": named(result.left),
        "is_certain": result.is_certain,
        "conflicts": [conflict_text(access, one) for one in plan.conflicts],
    }


def _problem(result: Result, count: int) -> str:  # noqa: PLR0911 - a table of errors, one line each
    """What went wrong, in words of our own: those of servers and drivers may hold values."""
    match result.error:
        case None if not result.was_asked:
            return _("It was written, but the history cannot be asked now whether it has all of it.")
        case None:
            return _("All of it was written, but not all of it is in the history.")
        case ConflictError():
            said = ngettext(
                "Not all could be done. %(count)d document was written; these were left as they are:",
                "Not all could be done. %(count)d documents were written; these were left as they are:",
                count,
            )
            return said % {"count": count}
        case DeliveryError():
            return _(
                "The store of the history did not take what was written last, and nothing was done after that."
            )
        case StoreError():
            return _("The store of the history took no more, so the documents below were left as they are.")
        case _ if not result.is_certain:
            return _(
                "The connection to the database failed, so it is not known whether the documents below were written: "
                "look at them before you try again."
            )
        case _:
            return _("The database refused to go on, so the documents below were left as they are.")


def _named(access: Access, item: Item) -> dict[str, str]:
    return {
        "label": f"{class_label(item.source)} {document_label(item.document_id)}",
        "url": access.addresses.document(item.source, item.document_id),
    }


def _stored(access: Access, changeset: ObjectId) -> set[Place] | None:
    """The documents of which the store, or what waits for it, has a version of this changeset; None if it cannot be asked."""
    try:
        return {
            (head.collection, exact.encode_value(head.document_id))
            for near in stores_of(access.sources)
            for head in near.store.heads(Query(changeset=changeset))
        }
    except (HistoryError, PyMongoError):
        logger.exception("The store could not be asked for the versions of changeset %s.", changeset)
        return None


def _left(plan: Plan, items: Mapping[Place, Item], written: Sequence[Place]) -> list[Place]:
    """What was to be written, is in no conflict, and was not."""
    known = {*written, *(_place(one.key) for one in plan.conflicts)}
    return [place for place, item in items.items() if item.previewed != b"" and place not in known]


def _place(key: DocumentKey) -> Place:
    return key.collection, exact.encode_value(key.document_id)


def _is_carried(source: Source) -> bool:
    """Whether versions of this class go by a broker, so that they need not be in the store at once."""
    return source.environment.mode_for(source.tracked, source.collection) == "celery"
