"""
Where classes begin and end to be recorded: `_get_collection` and `drop_collection` of the tracked ones and of all that
share a collection.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from django_mongo_history import documents
from django_mongo_history.capture.calls import Subject
from django_mongo_history.capture.drops import Drops
from django_mongo_history.capture.methods import RecordingMethods
from django_mongo_history.capture.stamping import plainly, recorded
from django_mongo_history.delivery.environment import Environment


class _Kind(Enum):
    """Which method of a class is ours."""

    GETTER = "_get_collection"
    DROP = "drop_collection"


_Wrapped = tuple[_Kind, type]


class Attachments:
    """
    The classes that hand out recording collections. `environment` gives the one in force at each write, `drops` the
    way in which a drop is recorded (`tombstone` or `versions`).
    """

    def __init__(
        self, environment: Callable[[], Environment], drops: Callable[[], str] = lambda: "tombstone"
    ) -> None:
        self._environment = environment
        self._drop = Drops(environment, drops)
        self._wrapped: dict[type, set[_Wrapped]] = {}
        self._seen_classes = 0

    def attach(self, document_class: type) -> None:
        """Record this class; querysets made before keep the collection that they were made with."""
        self._wrapped.setdefault(document_class, set())
        self._scan(document_class)

    def detach(self, document_class: type) -> None:
        """Undo `attach`; classes that another tracked one needs stay recorded."""
        wrapped = self._wrapped.pop(document_class, set())
        still_needed = set().union(*self._wrapped.values())
        for kind, member in wrapped - still_needed:
            if kind is _Kind.GETTER:
                documents.unwrap_collection(member, plain_of)
            else:
                documents.unwrap_drop(member)

    def refresh(self) -> None:
        """Look for classes that were imported since and share a collection. Cost: nothing where there are none."""
        count = documents.class_count()
        if count != self._seen_classes:
            self._seen_classes = count
            for document_class in list(self._wrapped):
                self._scan(document_class)

    def _scan(self, document_class: type) -> None:
        wrapped = self._wrapped[document_class]
        registry = self._environment().registry
        base = documents.base_of_collection(document_class)
        for member in dict.fromkeys([base, document_class, *documents.sharing(base)]):
            if registry.get(member) is None:
                registry.adopt(member, document_class)
            if not _is_wrapped(member, _Kind.GETTER, wrapped, inherits=documents.inherits_getter(member)):
                documents.wrap_collection(member, self._record)
                wrapped.add((_Kind.GETTER, member))
            if not _is_wrapped(member, _Kind.DROP, wrapped, inherits=documents.inherits_drop(member)):
                documents.wrap_drop(member, self._drop)
                wrapped.add((_Kind.DROP, member))

    def _record(self, document_class: type[Any], collection: Any) -> Any:
        self.refresh()
        return recorded(collection, Subject(document_class, self._environment))


def plain_of(collection: Any) -> Any:
    """The driver's collection beneath a recording one; any other as it is."""
    # Without an underscore the name would hide a sub-collection of it.
    beneath = plainly(collection)
    return beneath._plain() if isinstance(beneath, RecordingMethods) else beneath  # noqa: SLF001


def before_delete(collection: Any, query: Callable[[], Any]) -> None:
    """For `documents.guard_deletes`: raises ReasonRequiredError while files and cascades are still there."""
    recording = plainly(collection) if not isinstance(collection, RecordingMethods) else collection
    if isinstance(recording, RecordingMethods):
        recording._refuse_removal(query)  # noqa: SLF001 - see above


def _is_wrapped(member: type, kind: _Kind, wrapped: set[_Wrapped], *, inherits: bool) -> bool:
    """Whether the class's own method, or the one that it takes from a base, is ours already."""
    return (kind, member) in wrapped or (
        inherits and any((kind, above) in wrapped for above in member.__mro__[1:])
    )
