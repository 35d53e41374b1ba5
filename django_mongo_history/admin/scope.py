"""
What of the histories one user may see at all: which classes, which documents, which fields. `MONGO_HISTORY["ADMIN_SCOPE"]`.

A scope only ever narrows, and where it narrows, classes that are not tracked any more are out of sight: nothing is known
of them that it could be compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.http import HttpRequest

from django_mongo_history import conf, documents, runtime
from django_mongo_history.api import history_of
from django_mongo_history.core import values
from django_mongo_history.core.policy import NamePath, Policy
from django_mongo_history.query import History
from django_mongo_history.reading import Source, changes

Test = Callable[[type[Any], Any], bool]
"""Called with a class and the `_id` of a document of it, as PyMongo reads it: whether the user may see that document."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a user may see. Begins as everything; each method gives a narrower one."""

    _classes: tuple[tuple[type[Any], ...], ...] = ()
    _documents: tuple[tuple[type[Any], Mapping[Any, Any]], ...] = ()
    _hidden: tuple[tuple[type[Any], NamePath], ...] = ()
    _tests: tuple[Test, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether nothing was narrowed."""
        return not (self._classes or self._documents or self._hidden or self._tests)

    def only(self, *classes: type[Any]) -> Scope:
        """These classes, and those below them, alone. Without any: nothing at all."""
        return replace(self, _classes=(*self._classes, classes))

    def only_documents(self, document_class: type[Any], keys: Iterable[Any]) -> Scope:
        """
        Of this class, and those below it, the documents with these primary keys alone; other classes stay.

        Raises: NotTrackedError; ValueError for a key that the class cannot have.
        """
        codec_options = runtime.sources().of_class(document_class).codec_options
        exact = [documents.exact_id(document_class, key, codec_options) for key in keys]
        by_place = {values.sort_key(one): one for one in exact}
        return replace(self, _documents=(*self._documents, (document_class, by_place)))

    def where(self, test: Test) -> Scope:
        """The documents alone for which `test(document_class, document_id)` is true. Asked for each that is shown."""
        return replace(self, _tests=(*self._tests, test))

    def hide(self, document_class: type[Any], *paths: str) -> Scope:
        """
        Hide these paths of the class's documents, as `hidden` of the settings does, but from this user alone: that they
        changed is shown, no value of theirs is, and a revert leaves them as they are.

        Raises: ValueError for a path that names no field, or one that no history can be shown without.
        """
        found = [(document_class, documents.translate_path(document_class, path)) for path in paths]
        for _class, path in found:
            if documents.is_identity(document_class, path):
                raise ValueError(f"{'.'.join(path)!r} of {document_class.__name__} cannot be hidden")
        return replace(self, _hidden=(*self._hidden, *found))

    # -- what the pages ask --------------------------------------------------------------------------------------------

    def shows_class(self, document_class: type[Any] | None) -> bool:
        """Whether documents of this class may be seen at all; None for one that is not known any more."""
        if document_class is None:
            return self.is_everything
        return all(any(issubclass(document_class, one) for one in group) for group in self._classes)

    def shows_all_of(self, document_class: type[Any] | None) -> bool:
        """Whether every document of the class, and of those below it, may be seen."""
        if document_class is None or self._tests:
            return self.is_everything
        limited = any(_is_kin(one, document_class) for one, _keys in self._documents)
        return self.shows_class(document_class) and not limited

    def shows(self, document_class: type[Any] | None, document_id: Any) -> bool:
        """Whether this document, by its `_id` as it lies in the database, may be seen."""
        if document_class is None or not self.shows_class(document_class):
            return self.shows_class(document_class)
        place = values.sort_key(document_id)
        if any(issubclass(document_class, one) and place not in ids for one, ids in self._documents):
            return False
        if not self._tests:
            return True
        codec_options = runtime.sources().of_class(document_class).codec_options
        key = changes.read_value(document_id, codec_options)
        return all(test(document_class, key) for test in self._tests)

    def named_classes(self) -> tuple[tuple[type[Any], ...], ...]:
        """The classes that `only` was called with, call by call."""
        return self._classes

    def ids_of(self, document_class: type[Any]) -> list[Any] | None:
        """The only `_id`s of this class's documents that may be seen, where they are named; None where not."""
        found = [ids for one, ids in self._documents if issubclass(document_class, one)]
        if not found:
            return None
        return [key for place, key in found[0].items() if all(place in others for others in found[1:])]

    def rules_for(self, document_class: type[Any]) -> Policy:
        """
        What is hidden of documents in this class's collection: by every class that one of them may be of, since which
        of them a document is of is known only when it has been read.
        """
        if not self._hidden:
            return Policy()
        near = set(documents.sharing(document_class))
        paths = {path for one, path in self._hidden if one in near or _is_kin(one, document_class)}
        return Policy(hidden=tuple(sorted(paths)))

    def narrowed(self, source: Source) -> Source:
        """The source as this user may read from it."""
        rules = self.rules_for(source.tracked.document_class) if self._hidden else None
        return source if rules is None or not rules.hidden else replace(source, also=rules)


@dataclass(frozen=True)
class HistorySubject:
    """
    What permissions are asked about: one document, there or gone. Backends get it as the object of
    `user.has_perm("mongo_history.view_history", subject)`.

    `document_class`: None where the class is not known any more. `document_id`: the `_id`, as PyMongo reads it.
    """

    document_class: type[Any] | None
    document_id: Any

    @cached_property
    def history(self) -> History | None:
        """Its history, unlimited; None where its class is not tracked."""
        if self.document_class is None:
            return None
        found: History = history_of(self.document_class, self.document_id)
        return found

    @cached_property
    def document(self) -> Any:
        """The document as an unsaved instance: as it is, or as it was before it was deleted; None if neither is known."""
        versions: Sequence[Any] = self.history or ()
        for version in reversed(versions[-2:]):
            if version.operation != "delete":
                return version.document
        return None


def scope_of(request: HttpRequest) -> Scope:
    """
    What the user of this request may see.

    Raises: what the project's callable raises; TypeError where it gives no Scope. Either way no page is shown.
    """
    named = runtime.current().settings.admin_scope
    scope = Scope()
    for narrow in conf.as_callables(named):
        scope = narrow(request, scope)
        if not isinstance(scope, Scope):
            raise TypeError(
                f"MONGO_HISTORY['ADMIN_SCOPE']: expected {named!r} to return the narrowed scope, got {scope!r}"
            )
    return scope


def _is_kin(one: type[Any], other: type[Any]) -> bool:
    return issubclass(one, other) or issubclass(other, one)
