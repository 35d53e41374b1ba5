"""Classes that become tracked because compatible calls name them: recorded in scopes only."""

from __future__ import annotations

from typing import Any

from django_mongo_history import documents, runtime
from django_mongo_history.core.policy import Policy
from django_mongo_history.registry import Tracked, label_of


def know(document_class: type[Any]) -> None:
    """
    Track a class in scopes only, unless it is tracked already, itself or with a base.

    Raises: TypeError for a class that cannot be tracked.
    """
    if runtime.current().environment.registry.get(document_class) is not None:
        return
    check(document_class)
    tracked = Tracked(
        document_class=document_class,
        label=label_of(document_class),
        # What goes on between scopes is not recorded. Each version with its state can be read all the same.
        policy=Policy(snapshot_every=1),
        only_in_scopes=True,
    )
    runtime.register(tracked)


def know_collection(name: str) -> None:
    """The same for the classes whose documents lie in a collection of this name, where none of them is tracked."""
    registry = runtime.current().environment.registry
    found = [one for one in documents.classes_in(name) if not documents.is_time_series(one)]
    if not any(registry.get(one) is not None for one in found):
        for document_class in dict.fromkeys(map(documents.base_of_collection, found)):
            know(document_class)


def check(document_class: type[Any]) -> None:
    """Raises: TypeError for a class that cannot be tracked."""
    if not documents.is_document_class(document_class):
        raise TypeError(f"expected a MongoEngine document, got {document_class.__name__}")
    if documents.is_time_series(document_class):
        raise TypeError(
            f"{document_class.__name__} is a time series; MongoDB cannot tell its changes apart, so it has no history"
        )
