"""
Every exception of the package, under one base class.

Each takes facts as keyword arguments, keeps them as attributes, and says in this order: what happened, to which
document and version, what to do. An error of the driver is always its `__cause__`.
"""

from __future__ import annotations

from typing import Any


class HistoryError(Exception):
    """Base of all errors of this package. `facts` holds the keyword arguments, also readable as attributes."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default drops keyword arguments, and errors cross process borders (Celery results, pytest-xdist).
        return _rebuild, (type(self), self.args, self.facts)


class NotTrackedError(HistoryError):
    """A class or document that is not registered was asked for its history."""


class VersionNotFoundError(HistoryError, LookupError):
    """No version answers to the number, id or moment that was asked for."""


class DocumentDeletedError(HistoryError):
    """The document does not exist at the moment that the caller needs it to."""


class BrokenChainError(HistoryError):
    """A state cannot be known: a stored row is unreadable, or a write that went round the tracker lies between."""


class ConflictError(HistoryError):
    """
    A revert or a take-back would destroy something or cannot be written.

    `conflicts` is the list of what stands in the way, one `revert.Conflict` a document.
    """


class CollectionExistsError(HistoryError):
    """A collection is to be written whose name belongs to another one. `collection` is that name, nothing was written."""


class StoreError(HistoryError):
    """A version could not be stored or read for a reason that is the store's."""


class DeliveryError(HistoryError):
    """
    A version could not be delivered.

    `written` says whether the document itself was written; `records` holds the undelivered versions.
    """


class ReasonRequiredError(HistoryError):
    """
    A write without a reason, where the settings ask for one. It was refused before it reached the server.

    `document_class` is the class whose documents it would have written.
    """


class ConversionError(HistoryError):
    """An old history cannot be converted as asked."""


class HiddenFieldError(HistoryError, AttributeError, KeyError):
    """The field is hidden by policy: the fact that it changed is known, its value is kept nowhere."""

    __str__ = Exception.__str__  # KeyError would print the repr of the message


class UntrackedFieldError(HistoryError, AttributeError, KeyError):
    """The field is untracked by policy: neither its value nor the fact of a change is kept."""

    __str__ = Exception.__str__


def _rebuild(cls: type[HistoryError], args: tuple[Any, ...], facts: dict[str, Any]) -> HistoryError:
    return cls(*args, **facts)
