"""Relations as they were: what references led to at a moment, for versions and for the instances of that moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import bson

from django_mongo_history import documents
from django_mongo_history.core import elements, values
from django_mongo_history.core.policy import Policy
from django_mongo_history.documents import Pointer, Reference, Shape
from django_mongo_history.query.sources import Sources
from django_mongo_history.reading import DocumentHistory, Source
from django_mongo_history.reading.relations import Led, check_known, lead_to, place_of, pointers_of

MakeVersion = Callable[[DocumentHistory, int], Any]


@dataclass(frozen=True, slots=True)
class LiveDocument:
    """
    What a reference led to, as it is *now*: its class is not tracked, so nobody knows what it was then.

    `document` is an instance as MongoEngine loads it; `live["name"]` is a field of it, as with versions.
    """

    document: Any

    @property
    def document_class(self) -> type[Any]:
        return type(self.document)

    @property
    def document_id(self) -> Any:
        """Its primary key."""
        return documents.primary_key_of(self.document)

    def __getitem__(self, name: str) -> Any:
        return self.document[name]


@dataclass(frozen=True, slots=True)
class VanishedDocument:
    """
    What a reference led to that led nowhere: the document did not exist then. False in a condition.

    `document_class`: None where the class is not known any more; `class_name` is what the reference calls it.
    """

    document_class: type[Any] | None
    class_name: str
    document_id: Any

    def __bool__(self) -> bool:
        return False


@dataclass(slots=True)
class Places:
    """Where the documents of references lie; equal places are one object."""

    sources: Sources
    known: dict[tuple[type[Any], str | None], Source | None] = field(default_factory=dict)

    def __call__(self, reference: Reference) -> Source | None:
        """None where the class is not tracked, nor one below it, or not known any more."""
        if reference.document_class is None:
            return None
        name = reference.document_class, reference.collection
        if name not in self.known:
            self.known[name] = self._found(reference.document_class, reference.collection)
        return self.known[name]

    def _found(self, document_class: type[Any], collection: str | None) -> Source | None:
        registry = self.sources.environment.registry
        tracked = registry.get(document_class)
        if tracked is None:
            shared = set(documents.sharing(document_class))
            below = (one for one in registry if one.document_class in shared)
            tracked = next((one for one in below if issubclass(one.document_class, document_class)), None)
        if tracked is None:
            return None
        own = documents.collection_name_of(tracked.document_class)
        is_own = collection in (None, own, *tracked.collections)
        return self.sources.of_class(tracked.document_class, collection=None if is_own else collection)


@dataclass(frozen=True, slots=True)
class Then:
    """
    Documents as of a moment, by the references that lead to them. `moment`: None for all time before first versions.
    """

    sources: Sources
    moment: datetime | None
    places: Places

    @classmethod
    def at(cls, sources: Sources, moment: datetime | None) -> Then:
        return cls(sources, moment, Places(sources))

    def follow(
        self, document_class: type[Any], state: bytes | None, relation: str, rules: Policy, make: MakeVersion
    ) -> Shape:
        """
        What a relation of a state led to: what `make` makes of versions, `LiveDocument`, `VanishedDocument`.

        Shape: that of the relation; None where it was empty.
        Raises: ValueError for what is no relation; HiddenFieldError, UntrackedFieldError; BrokenChainError.
        """
        documents.check_relation(document_class, relation)
        return self._followed(
            pointers_of(document_class, state, documents.parts_of(relation), rules), make=make
        )

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        """
        The documents of that moment as unsaved instances, None for those that led nowhere; their references lead on.

        Of a class that is not tracked the document as it is now. Keys are as Python sees them.
        """
        led = lead_to([self._stored(one) for one in references], self.places, self.moment)
        return [self._instance(one) for one in led]

    def instance(self, document_class: type[Any], state: bytes, source: Source) -> Any:
        """An unsaved instance of a state whose references lead to documents of that moment."""
        seen = documents.user_values(state, source.codec_options)
        return documents.instance_of(document_class, seen, self.fetch)

    def _followed(self, shape: Shape, *, make: MakeVersion) -> Shape:
        pointers = list(documents.leaves(shape))
        if not pointers:
            return shape
        led = lead_to([one.reference for one in pointers], self.places, self.moment)
        answers = [_answer(one, make) for one in led]
        further = [
            self._further(pointer, one, answer)
            for pointer, one, answer in zip(pointers, led, answers, strict=True)
        ]
        ahead = [one for one in further if one is not None]
        check_known(
            (pointer.rest, one.document_class) for pointer, one in zip(pointers, further, strict=True) if one
        )
        behind = iter(self._followed([one.shape for one in ahead], make=make))
        found = (
            answer if one is None else next(behind) for one, answer in zip(further, answers, strict=True)
        )
        return documents.filled(shape, found)

    def _further(self, pointer: Pointer, led: Led, answer: Any) -> _Behind | None:
        """What lies behind a document that the path goes on from; None where it does not, or the document vanished."""
        if not pointer.rest or isinstance(answer, VanishedDocument):
            return None
        if led.history is None:
            found = documents.live_document(led.reference)
            live = {} if found is None else found[1]
            document_class = type(answer.document)
            return _Behind(document_class, documents.pointers_in(document_class, live, pointer.rest))
        source, state = led.history.source, led.state or elements.EMPTY_DOCUMENT
        named = led.reference.document_class or source.tracked.document_class
        shape = pointers_of(named, state, pointer.rest, source.policy)
        return _Behind(documents.class_of(named, values.decode(state)), shape)

    def _instance(self, led: Led) -> Any:
        if led.history is None:
            found = documents.live_document(led.reference)
            return None if found is None else found[0]
        state = led.state
        if state is None:
            return None
        source = led.history.source
        return self.instance(led.reference.document_class or source.tracked.document_class, state, source)

    def _stored(self, reference: Reference) -> Reference:
        source = self.places(reference)
        if source is None or reference.document_class is None:
            return reference
        try:
            key = documents.exact_id(reference.document_class, reference.key, source.codec_options)
        except ValueError:  # no key of that class: whoever wrote it, it leads nowhere
            key = values.decode(bson.encode({"v": reference.key}, codec_options=source.codec_options))["v"]
        return replace(reference, key=key)


@dataclass(frozen=True, slots=True)
class _Behind:
    """Where a path goes on, and what it holds there."""

    document_class: type[Any]
    shape: Shape


def names(reference: Reference, source: Source, document_id: Any, places: Places) -> bool:
    """Whether a reference names this document."""
    if reference.document_class is None or place_of("", reference.key) != place_of("", document_id):
        return False
    found = places(reference)
    return found is not None and found.namespace == source.namespace


def _answer(led: Led, make: MakeVersion) -> Any:
    if led.history is None:
        found = documents.live_document(led.reference)
        return _vanished(led.reference) if found is None else LiveDocument(found[0])
    if led.index is None or led.history.steps[led.index].after is None:
        return _vanished(led.reference)
    return make(led.history, led.index)


def _vanished(reference: Reference) -> VanishedDocument:
    return VanishedDocument(reference.document_class, reference.class_name, documents.shown_key(reference))
