"""
What the driver refuses before it asks the server: wrong types, unknown names, empty updates.

Such a call is left to the driver's own method, which says so in its own words. Everything here must be certain: a call
that the driver does not refuse after all would be a write that nobody records.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collation import Collation
from pymongo.collection import Collection
from pymongo.common import validate_ok_for_replace, validate_ok_for_update

_KEYS: Final = (list, tuple, Mapping)
_FOUND_AND_MODIFIED: Final = frozenset(
    {
        "sort",
        "upsert",
        "return_document",
        "array_filters",
        "hint",
        "session",
        "let",
        "comment",
        "collation",
        "maxTimeMS",
        "bypassDocumentValidation",
    }
)


def named(method: str, given: int, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any] | None:
    """All arguments behind the first `given` ones by name; None where the driver's method does not take them."""
    if not args and not options:
        return options
    names, takes_others = _parameters(method)
    positional = names[given : given + len(args)]
    if len(positional) < len(args) or any(name in options for name in positional):
        return None
    found = {**dict(zip(positional, args, strict=True)), **options}
    return found if takes_others or found.keys() <= set(names) else None


@lru_cache(maxsize=32)
def _parameters(method: str) -> tuple[tuple[str, ...], bool]:
    """The names of a driver's method's parameters, without `self`, and whether it takes any other."""
    parameters = list(inspect.signature(getattr(Collection, method)).parameters.values())[1:]
    takes_others = any(one.kind is one.VAR_KEYWORD for one in parameters)
    return tuple(one.name for one in parameters if one.kind is not one.VAR_KEYWORD), takes_others


def are_refused(query: Any, options: Mapping[str, Any], *, acknowledged: bool) -> bool:
    """Whether an update or a removal with this filter and these options is one that the driver does not send."""
    if not isinstance(query, Mapping) or not isinstance(options.get("upsert", False), bool):
        return True
    if not options:
        return False
    sort = options.get("sort")
    if not acknowledged and (options.get("collation"), options.get("array_filters")) != (None, None):
        return True
    return _are_wrong(options) or not (sort is None or isinstance(sort, Mapping))


def are_refused_found(query: Any, options: Mapping[str, Any], *, acknowledged: bool) -> bool:
    """As `are_refused`, for `find_one_and_*`."""
    if not isinstance(query, Mapping) or not isinstance(options.get("upsert") or False, bool):
        return True
    if not isinstance(options.get("return_document", False), bool):
        return True
    sort = options.get("sort")
    if not acknowledged and (options.get("collation"), options.get("array_filters")) != (None, None):
        return True
    return _are_wrong(options) or not (sort is None or (isinstance(sort, _KEYS) and len(sort) > 0))


def _are_wrong(options: Mapping[str, Any]) -> bool:
    session, hint = options.get("session"), options.get("hint")
    return not (
        (session is None or isinstance(session, ClientSession))
        and isinstance(options.get("collation"), (dict, Collation, type(None)))
        and isinstance(options.get("array_filters"), (list, type(None)))
        and isinstance(options.get("let"), (Mapping, type(None)))
        and (hint is None or isinstance(hint, str) or (isinstance(hint, _KEYS) and len(hint) > 0))
    )


def is_update(update: Any) -> bool:
    """Whether the driver takes this for an update: operators, or a pipeline."""
    return _passes(validate_ok_for_update, update)


def is_replacement(document: Any) -> bool:
    """Whether the driver takes this for a replacement: a document without operators."""
    return _passes(validate_ok_for_replace, document)


def _passes(validate: Any, value: Any) -> bool:
    try:
        validate(value)
    except Exception:  # noqa: BLE001 - whatever it is, the driver's own call raises it again
        return False
    return True


def is_document(document: Any) -> bool:
    """Whether the driver takes this for something to insert."""
    return isinstance(document, (dict, MutableMapping, RawBSONDocument))


def is_request(request: Any, *, acknowledged: bool) -> bool:
    """Whether `bulk_write` takes this."""
    if not acknowledged and any(getattr(request, name, None) for name in ("_collation", "_array_filters")):
        return False
    if isinstance(request, InsertOne):
        return is_document(request._doc)  # noqa: SLF001 - requests show what they hold by no public name
    if isinstance(request, (UpdateOne, UpdateMany)):
        return is_update(request._doc)  # noqa: SLF001
    if isinstance(request, ReplaceOne):
        return is_replacement(request._doc)  # noqa: SLF001
    return isinstance(request, (DeleteOne, DeleteMany))


def are_for_the_server_alone(options: Mapping[str, Any]) -> bool:
    """Whether `find_one_and_*` got options that go to the server as they are; they may shape its answer."""
    return not options.keys() <= _FOUND_AND_MODIFIED
