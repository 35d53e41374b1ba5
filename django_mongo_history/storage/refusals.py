"""
What a server says of a write that it refuses, without the documents that were refused.

Note [Errors hold documents]
Drivers hang on their errors what was to be written (`op`), validators the value that they took offence at (`errInfo`),
unique indexes the key (`keyValue`); and of a few refusals the server's own words quote the whole document, in braces.
Errors end up in logs, in Celery's events, on error pages, as the cause of another one too. So what a store raises has
been stripped of it where it was caught.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pymongo.errors import BulkWriteError, OperationFailure, WriteError

_DUPLICATE_KEY: Final = 11000
_MOST_SAID: Final = 1000
_OF_DOCUMENTS: Final = ("op", "errInfo", "keyValue")
_OF_MONGOMOCK: Final = ("_id",)
"""It does not tell which index it was, and tests have none of their own."""


def said_by(error: BaseException) -> str:
    """What the server said, up to 1,000 characters, without any document; see Note [Errors hold documents]."""
    details = getattr(error, "details", None) or {}
    failures = failures_of(error)
    others = [one for one in failures if not is_there_already(one)]
    unmet = details.get("writeConcernErrors") if isinstance(error, BulkWriteError) else None
    told = (others or unmet or [details])[0].get("errmsg") or str(error).partition(", full error:")[0]
    return f"{type(error).__name__}: {_unquoted(told)}"[:_MOST_SAID]


def strip(error: Exception) -> None:
    """Take the documents out of an error of the driver, in place. Type, code, labels and what was said stay."""
    if not isinstance(error, OperationFailure):
        return
    details: Any = error.details
    own = [details] if isinstance(error, WriteError) and details else []  # mongomock's have none
    for one in (*own, *failures_of(error)):
        for name in _OF_DOCUMENTS:
            one.pop(name, None)
    for one in (details, *failures_of(error)):
        if isinstance(one, dict) and "errmsg" in one:
            one["errmsg"] = _unquoted(one["errmsg"])
    error.args = (said_by(error).partition(": ")[2],)


def failures_of(error: BaseException) -> Iterable[Any]:
    """What a `BulkWriteError` tells of single documents; of other errors nothing."""
    return (error.details.get("writeErrors") or ()) if isinstance(error, BulkWriteError) else ()


def is_there_already(failure: Mapping[str, Any]) -> bool:
    """
    Whether one of `failures_of` says that a row is there by its id. A unique index of somebody else's is none of that.
    """
    return failure.get("code") == _DUPLICATE_KEY and "_id" in failure.get("keyPattern", _OF_MONGOMOCK)


def _unquoted(text: Any) -> str:
    return str(text).partition("{")[0].rstrip(" :")
