"""
Errors of a `findAndModify` as an update or a removal says them.

A write in a transaction of one's own can be asked again in the caller's form. In the caller's transaction it cannot:
the first error has ended that.
"""

from __future__ import annotations

from typing import Any, Final

from pymongo.errors import DuplicateKeyError, OperationFailure, WriteConcernError, WriteError

_PREFIX: Final = "Plan executor error during findAndModify :: caused by :: "
_TRANSIENT: Final = "TransientTransactionError"
_DUPLICATE_KEY: Final = 11000
_OF_COMMANDS: Final = frozenset({13, 50, 251, 262, 11600, 11602})
"""Unauthorized, a time limit, no such transaction, interrupted: of the command as a whole in every form of it."""
_KEPT: Final = ("keyPattern", "keyValue", "errInfo")


def as_of_a_write(error: OperationFailure) -> OperationFailure:
    """The error as the server reports it of an update or a removal; the same object where there is no difference."""
    details: Any = error.details
    if isinstance(error, WriteConcernError) or not isinstance(details, dict) or "errmsg" not in details:
        return error
    message = str(details["errmsg"]).removeprefix(_PREFIX)
    if error.has_error_label(_TRANSIENT) or error.code in _OF_COMMANDS:
        if message == details["errmsg"]:
            return error
        return type(error)(message, error.code, {**details, "errmsg": message})
    if "index" in details:
        return error
    kept = {name: details[name] for name in _KEPT if name in details}
    if error.code == _DUPLICATE_KEY:
        return DuplicateKeyError(
            message, error.code, {"index": 0, "code": error.code, "errmsg": message, **kept}
        )
    return WriteError(message, error.code, {"index": 0, "code": error.code, "errmsg": message, **kept})
