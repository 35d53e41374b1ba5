"""
What users call. Arguments are checked here; the work is done further in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId

from django_mongo_history import context, documents, runtime
from django_mongo_history.context import UNSET, Block
from django_mongo_history.core.model import ABSENT
from django_mongo_history.query import (
    Changeset,
    Changesets,
    ClassHistory,
    History,
    changesets_named,
    find_changesets,
)
from django_mongo_history.registry import label_of


def track(  # noqa: PLR0913 - each is a key of an entry of the settings
    document_class: type[Any],
    *,
    untracked: Sequence[str] = (),
    hidden: Sequence[str] = (),
    delivery: str | None = None,
    get_user: Callable[[type[Any]], Any] | str | None = None,
    get_remote_addr: Callable[[type[Any]], Any] | str | None = None,
    get_extra: Callable[[type[Any]], Any] | str | None = None,
    require_reason: bool | None = None,
) -> None:
    """
    Track a class, its subclasses with it, from the next write on: the same as an entry of `TRACKED_DOCUMENTS`.

    Paths are attribute or database names, through lists without an index, `*` for any key. `get_...` are called at
    each write with the class that is written, and answer, or give NotImplemented to leave it to the base's, the project's
    and the request. `require_reason`: whether a write without a reason is refused; None as the project.
    Raises: TypeError for what is no document class with a collection of its own; ValueError for a path that names no
    field, an identity that cannot be left out, or something that cannot be called.
    """
    if not documents.is_document_class(document_class):
        raise TypeError(
            f"track(): expected a MongoEngine document class that is not abstract, got {document_class!r}"
        )
    if documents.is_time_series(document_class):
        raise TypeError(
            f"track(): {document_class.__name__} is a time series; MongoDB cannot tell its changes apart"
        )
    options: dict[str, Any] = {"untracked": list(untracked), "hidden": list(hidden)}
    given = {
        "delivery": delivery,
        "get_user": get_user,
        "get_remote_addr": get_remote_addr,
        "get_extra": get_extra,
        "require_reason": require_reason,
    }
    options |= {name: value for name, value in given.items() if value is not None}
    spec = runtime.spec_of(label_of(document_class), options)
    runtime.register(runtime.tracked_from(document_class, spec, runtime.current().settings))


def untrack(document_class: type[Any]) -> None:
    """Undo `track`, without a trace on the class. Stored versions stay. Raises: NotTrackedError."""
    runtime.unregister(document_class)


def history_of(
    subject: Any, pk: Any = UNSET, *, using: str | None = None, collection: str | None = None
) -> Any:
    """
    The history of a document (an instance, or its class and primary key), or of a whole class.

    It works for documents that are deleted. `using` names another connection alias, `collection` another collection;
    an instance that was switched to another one brings its own.
    The history of an instance without a primary key is empty.
    Raises: NotTrackedError; ValueError for a key that the class cannot have.
    """
    sources = runtime.sources()
    if isinstance(subject, type):
        source = sources.of_class(subject, using=using, collection=collection)
        if pk is UNSET:
            return ClassHistory(sources, source)
        return History(sources, source, documents.exact_id(subject, pk, source.codec_options))
    document_class = type(subject)
    source = sources.of_instance(subject, using=using, collection=collection)
    key = documents.primary_key_of(subject) if pk is UNSET else pk
    exact = ABSENT if key is None else documents.exact_id(document_class, key, source.codec_options)
    is_its_own = pk is UNSET and using is None and collection is None
    return History(sources, source, exact, document=subject if is_its_own else None)


def is_modified(document: Any) -> bool:
    """
    Whether a save of this instance would record a version now: `bool(document.history.pending())`.

    Raises: TypeError for a class; NotTrackedError; see `History.pending`.
    """
    if isinstance(document, type):
        raise TypeError(f"is_modified(): expected a document, got the class {document.__name__}")
    return bool(history_of(document).pending())


def changeset(
    *,
    user: Any = UNSET,
    remote_addr: Any = UNSET,
    reason: Any = UNSET,
    **extra: Any,
) -> Block[Changeset]:
    """
    A block, or a decorator, whose versions belong together and say who made them and why.

    `user`: a user, a key, or None for nobody. `extra`: anything that BSON can hold. What is not given comes from the
    block or request around it; the changeset is one of its own. Gives a `Changeset`.
    Raises: TypeError or ValueError at once for values that no version can carry.
    """
    opened = context.open_changeset(user=user, remote_addr=remote_addr, reason=reason, extra=extra)
    return opened.yielding(lambda changeset_id: Changeset(runtime.sources(), changeset_id))


def changesets(
    id: ObjectId | str | None = None,  # noqa: A002 - what it is called everywhere
    *,
    user: Any = None,
    since: datetime | None = None,
    until: datetime | None = None,
    touching: Any = None,
    reason: str | None = None,
    newest_first: bool = False,
) -> Changesets:
    """
    The changesets that fulfil every condition, oldest first, as a lazy sequence; with `id`, that one.

    Bounds: `since` and `until` are inclusive, aware. `touching` is a tracked class, or a document of one.
    Cost: see `Changesets`; a `reason` or the label of a user alone has no index, and walks all versions between the
    bounds. Raises: ValueError for a naive moment or an id that is none; NotTrackedError.
    """
    if id is not None:
        if not ObjectId.is_valid(id):
            raise ValueError(f"changesets(): {id!r} is no id of a changeset")
        return changesets_named(runtime.sources(), ObjectId(id))
    return find_changesets(
        runtime.sources(),
        user=user,
        since=since,
        until=until,
        touching=touching,
        reason=reason,
        newest_first=newest_first,
    )


def append_change_info(document: Any, **info: Any) -> None:
    """
    Put values into `extra` of the next version of this document, and of no other.

    A text called `reason` or `rationale` is that version's reason, over any other.
    Raises: NotTrackedError; ValueError for a document without a primary key (use `extra_change_info` around its
    first save); TypeError or ValueError for a value that BSON cannot hold.
    """
    sources = runtime.sources()
    source = sources.of_instance(document)
    key = documents.primary_key_of(document)
    if key is None:
        raise ValueError(
            "append_change_info(): the document has no primary key yet; put its first save into "
            "`with extra_change_info(...):` instead"
        )
    context.append_change_info(
        source.key(documents.exact_id(type(document), key, source.codec_options)), info
    )


class HistoryAttribute:
    """`document.history` and `DocumentClass.history`."""

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        return history_of(owner if instance is None else instance)


def _put_attribute(document_class: type[Any], name: str | None) -> None:
    """Give a class the attribute, or (None) take it away; never in the place of anything that it has."""
    for key, value in list(vars(document_class).items()):
        if isinstance(value, HistoryAttribute) and key != name:
            delattr(document_class, key)
    if name is not None and inspect.getattr_static(document_class, name, None) is None:
        setattr(document_class, name, HistoryAttribute())


runtime.on_register(_put_attribute)
