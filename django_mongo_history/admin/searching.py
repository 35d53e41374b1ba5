"""
The queries that filters mean, within what the user may see, and how far they may go.

Class, operation, user, changeset, document and dates have an index. Address, reason, changed path, and a user whom
only the versions themselves know by name, have none of their own: there a class or a range of dates bounds the search.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_mongo_history import documents
from django_mongo_history.admin.access import Access
from django_mongo_history.admin.filters import Filters
from django_mongo_history.admin.readings import keys_of, readings_of, user_keys_of
from django_mongo_history.core import values
from django_mongo_history.core.drift import names_ever
from django_mongo_history.core.model import Operation
from django_mongo_history.core.policy import Policy, is_hidden
from django_mongo_history.query.records import stores_of
from django_mongo_history.storage.base import Query

SEARCH_S: Final = 5.0
"""Seconds that the server may look for one page."""
DAYS: Final = 30
"""How far back a search goes that nothing else bounds."""
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Search:
    """`queries`: what any of them finds is found. `notes`: what has to be said beside the list."""

    queries: list[Query]
    notes: list[str] = field(default_factory=list)


def search_of(filters: Filters, access: Access) -> Search:
    """The queries that these filters mean, newest first, within the scope of the user."""
    notes: list[str] = []
    users = user_keys_of(filters.user) if access.sees_users() else keys_of(filters.user)
    after, before = _bounds(filters)
    base = Query(
        operation=filters.operation,
        changeset=filters.changeset,
        user_keys=tuple(users.keys) if filters.user else None,
        remote_addr=filters.address or None,
        reason_part=filters.reason or None,
        after=after,
        before=before,
        newest_first=True,
        max_time_s=SEARCH_S,
    )
    queries = [base]
    if filters.user and not users.is_known:
        queries.append(_bounded(replace(base, user_keys=None, user_label=filters.user), filters, notes))
    if filters.address or filters.reason or filters.path:
        queries = [_bounded(one, filters, notes) for one in queries]
    found = [replace(one, **place) for one in queries for place in _places(filters, access)]
    return Search(found, list(dict.fromkeys(notes)))


def too_long() -> str:
    """What to say when the server was stopped looking."""
    return _(
        "The search was stopped after %(seconds)d seconds. Choose a class, a document, or a shorter range of dates."
    ) % {"seconds": int(SEARCH_S)}


def _bounded(query: Query, filters: Filters, notes: list[str]) -> Query:
    if filters.document_class is not None or filters.since is not None:
        return query
    last = datetime.now(UTC) if query.before is None else query.before
    said = ngettext(
        "Searched in the last %(count)d day. Choose a class, or dates, to look further.",
        "Searched in the last %(count)d days. Choose a class, or dates, to look further.",
        DAYS,
    )
    notes.append(said % {"count": DAYS})
    return replace(query, after=last - timedelta(days=DAYS))


def _places(filters: Filters, access: Access) -> list[dict[str, Any]]:
    """What the queries say about where documents lie: one for all classes, and one for each that is limited further."""
    chosen = filters.document_class
    if chosen is None and access.scope.is_everything:
        return [_everywhere(filters, access)]
    classes = [chosen] if chosen is not None else access.classes()
    together: dict[str, list[str]] = {"collections": [], "classes": []}
    apart: list[dict[str, Any]] = []
    for one in classes:
        source = access.sources.of_class(one)
        ids, wanted = access.scope.ids_of(one), _ids(filters, one, source.codec_options)
        place = {"collections": source.namespaces, "classes": documents.stored_names(one)}
        if ids is not None and wanted is not None:
            places = {values.sort_key(key) for key in ids}
            wanted = tuple(key for key in wanted if values.sort_key(key) in places)
        elif ids is not None:
            wanted = tuple(ids)
        rules = source.policy.joined(access.scope.rules_for(one))
        touching = _touching(filters, one, source.tracked.renamed, rules)
        if wanted is not None or touching is not None:
            apart.append({**place, "document_ids": wanted, "touching": touching})
        else:
            together["collections"].extend(place["collections"])
            together["classes"].extend(place["classes"])
    if together["collections"]:
        apart.append({name: tuple(dict.fromkeys(found)) for name, found in together.items()})
    return apart


def _everywhere(filters: Filters, access: Access) -> dict[str, Any]:
    """
    Everything, classes that are not known any more with it. What is indexed by collection asks for all of them by name.
    """
    place: dict[str, Any] = {}
    wanted = _ids(filters, None, None)
    is_rare = filters.operation not in (None, Operation.UPDATE)
    if wanted is not None or (is_rare and filters.changeset is None and not filters.user):
        names = {name for source in stores_of(access.sources) for name in source.store.collections()}
        place = {"collections": tuple(sorted(names)), "document_ids": wanted}
    if filters.path:
        path = tuple(filters.path.split("."))
        every = [path, *(_shown(path, one.policy) for one in access.sources.environment.registry)]
        shortest = min(every, key=len)
        place["touching"] = (".".join(shortest),)
    return place


def _touching(
    filters: Filters, document_class: type[Any], renamed: Any, rules: Policy
) -> tuple[str, ...] | None:
    if not filters.path:
        return None
    try:
        names = documents.translate_path(document_class, filters.path)
    except ValueError:
        names = tuple(filters.path.split("."))
    return names_ever(".".join(_shown(names, rules)), renamed)


def _shown(names: tuple[str, ...], rules: Policy) -> tuple[str, ...]:
    """A path, or the hidden one above it: below that names may be values (of a dict), which may not be asked for."""
    return next((names[:count] for count in range(1, len(names)) if is_hidden(names[:count], rules)), names)


def _ids(filters: Filters, document_class: type[Any] | None, codec_options: Any) -> tuple[Any, ...] | None:
    """Everything that the text of an id may be: of the class's own type, and of each that is written so."""
    text = filters.document_id
    if not text:
        return None
    found = readings_of(text)
    if document_class is not None:
        try:
            key = documents.parse_id(document_class, text)
            found.insert(0, documents.exact_id(document_class, key, codec_options))
        except ValueError:
            pass  # the class may have had ids of another type once
    return tuple(found)


def _bounds(filters: Filters) -> tuple[datetime | None, datetime | None]:
    """The days as exclusive bounds, in the time zone of the user."""
    after = None if filters.since is None else _midnight(filters.since) - _MILLISECOND
    before = None if filters.until is None else _midnight(filters.until + timedelta(days=1))
    return after, before


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min), timezone.get_current_timezone())
