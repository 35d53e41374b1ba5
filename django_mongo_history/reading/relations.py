"""
Which documents references led to at a moment: their histories, read for many at once.

Where a class's documents lie is for the caller to say; so is what becomes of what is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django_mongo_history import documents
from django_mongo_history.core import policy, values
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import ABSENT, State
from django_mongo_history.documents import Parts, Pointer, Reference, Shape
from django_mongo_history.errors import HiddenFieldError, UntrackedFieldError
from django_mongo_history.reading.class_names import stored_class_name
from django_mongo_history.reading.document import DocumentHistory
from django_mongo_history.reading.opening import prefetch_states
from django_mongo_history.reading.scanning import scan
from django_mongo_history.reading.source import Source

Locate = Callable[[Reference], Source | None]
"""Where the document of a reference lies; None where its class is not tracked or not known. Equal places, one object."""
Place = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Led:
    """
    What a reference led to at a moment.

    `history`: None where the document is of no tracked class. `index`: of the version in force then, None where the
    document did not exist yet, or never did.
    """

    reference: Reference
    history: DocumentHistory | None = None
    index: int | None = None

    @property
    def state(self) -> bytes | None:
        """Its tracked state then; None where it did not exist. Raises: BrokenChainError."""
        return None if self.history is None or self.index is None else self.history.after(self.index)


def place_of(namespace: str, key: Any) -> Place:
    """A document by its collection and `_id`, as something to look up: to MongoDB 1 and 1.0 are one id."""
    return namespace, values.sort_key(key)


def lead_to(references: Sequence[Reference], locate: Locate, moment: datetime | None) -> list[Led]:
    """
    What each of these references led to at `moment`; None for the moment is all time before the first version.

    Documents that several name are read once. Cost: two queries for up to 1,000 documents of a collection, and the
    rows that their states are replayed from.
    """
    located = [(one, locate(one)) for one in references]
    wanted: dict[int, tuple[Source, dict[Place, Any]]] = {}
    for one, source in located:
        if source is not None:
            ids = wanted.setdefault(id(source), (source, {}))[1]
            ids.setdefault(place_of(source.namespace, one.key), one.key)
    found: dict[Place, DocumentHistory] = {}
    for source, ids in wanted.values():
        for histories in scan(source, document_ids=list(ids.values())):
            found.update({place_of(source.namespace, one.key.document_id): one for one in histories})
            prefetch_states((one, index) for one in histories if (index := index_at(one, moment)) is not None)
    return [
        Led(one) if source is None else _led(one, found[place_of(source.namespace, one.key)], moment)
        for one, source in located
    ]


def index_at(history: DocumentHistory, moment: datetime | None) -> int | None:
    """The version in force at a moment; without one the first."""
    if moment is None:
        return 0 if history.steps else None
    return history.index_at(moment)


def pointers_of(
    document_class: type[Any], state: bytes | None, parts: Parts, rules: policy.Policy | None
) -> Shape:
    """
    What a relation holds in a stored state. `rules`: those of the document, None where nothing is pruned.

    Raises: HiddenFieldError, UntrackedFieldError where the rules keep the reference from the history.
    """
    if state is None:
        return None
    decoded: State = values.decode(state)
    if rules is not None:
        refuse(documents.class_of(document_class, decoded), parts, rules)
    return documents.pointers_in(document_class, decoded, parts)


def check_known(stops: Iterable[tuple[Parts, type[Any]]]) -> None:
    """
    See that of the documents at which a path goes on (its rest, and the class) one knows the rest of it.

    Generic references lead to documents of several classes, and not all of them need to have the field.
    Raises: ValueError where none has it.
    """
    known: dict[Parts, bool] = {}
    classes: dict[Parts, set[str]] = {}
    for parts, document_class in stops:
        known[parts] = known.get(parts, False) or documents.knows_relation(document_class, parts)
        classes.setdefault(parts, set()).add(document_class.__name__)
    for parts, is_known in known.items():
        if not is_known:
            names = " or ".join(sorted(classes[parts])[:5])
            raise ValueError(f"{'.'.join(parts)!r} is no reference of {names}")


def refuse(document_class: type[Any], parts: Parts, rules: policy.Policy) -> None:
    """Raises: HiddenFieldError, UntrackedFieldError for a relation that the history does not know."""
    relation, name = ".".join(parts), document_class.__name__
    facts = {"field": relation, "document_class": document_class}
    for names in documents.relation_names(document_class, parts):
        if policy.is_hidden(names, rules):
            raise HiddenFieldError(
                f"{relation!r} of {name} is hidden: the history does not know what it pointed to.", **facts
            )
        if policy.is_untracked(names, rules):
            raise UntrackedFieldError(
                f"{relation!r} of {name} is untracked: the history does not know what it pointed to.", **facts
            )


def referring(
    source: Source, relation: str, to: Callable[[Reference], bool], moment: datetime | None
) -> Iterator[tuple[DocumentHistory, int]]:
    """
    The documents of a class whose relation named a certain document at `moment` (None: now), in the order of `_id`.

    Streamed, a chunk of documents in memory. Cost: reads every document of the class and its index entries once, and
    the rows of those that were written after `moment`.
    Raises, at once: ValueError for a relation that leads nowhere, or through references; HiddenFieldError;
    UntrackedFieldError. While streaming: BrokenChainError at a document whose state then cannot be known.
    """
    document_class, parts = source.tracked.document_class, documents.parts_of(relation)
    documents.check_relation(document_class, relation)
    if documents.leads_on(document_class, parts):
        raise ValueError(
            f"{relation!r} of {document_class.__name__} leads through a reference; name it up to there"
        )
    refuse(document_class, parts, source.policy)
    return _referring(source, parts, to, moment)


def _referring(
    source: Source, parts: Parts, to: Callable[[Reference], bool], moment: datetime | None
) -> Iterator[tuple[DocumentHistory, int]]:
    document_class = source.tracked.document_class
    for histories in scan(source):
        there = [(one, index) for one in histories if (index := _index_then_or_last(one, moment)) is not None]
        prefetch_states(there)
        for history, index in there:
            state = history.after(index)
            if state is None or not documents.is_stored_as(document_class, class_name(state)):
                continue
            shape = pointers_of(document_class, state, parts, None)
            if any(to(one.reference) for one in _ends(documents.leaves(shape))):
                yield history, index


def _index_then_or_last(history: DocumentHistory, moment: datetime | None) -> int | None:
    if moment is not None:
        return history.index_at(moment)
    return len(history.steps) - 1 if history.steps else None


def _ends(pointers: Iterable[Pointer]) -> Iterator[Pointer]:
    return (one for one in pointers if not one.rest)


def _led(reference: Reference, history: DocumentHistory, moment: datetime | None) -> Led:
    registry = history.source.environment.registry
    if reference.document_class is not None and registry.get(reference.document_class) is None:
        # Only a class below the one that the reference names is tracked: is the document one of it?
        name = _name_of(history)
        tracked = None if name is ABSENT else registry.of_image(name, reference.document_class)
        if tracked is None:
            return Led(reference)
    return Led(reference, history, index_at(history, moment))


def _name_of(history: DocumentHistory) -> Any:
    """The `_cls` of a document, of a deleted one by its last stored version; ABSENT where there is neither."""
    if history.image is not None:
        return class_name(history.image)
    return stored_class_name(history) or ABSENT
