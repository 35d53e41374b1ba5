"""
Who may what, asked on every page, for every request method: the user's permissions, per document where the backend
knows documents, and the project's scope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from pymongo.errors import InvalidName

from django_mongo_history import documents, runtime
from django_mongo_history.admin.addresses import Addresses, read_key, unquoted
from django_mongo_history.admin.scope import HistorySubject, scope_of
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import VersionRecord
from django_mongo_history.documents import Reference
from django_mongo_history.query.records import stores_of
from django_mongo_history.query.relations import Places
from django_mongo_history.reading import DocumentHistory, Source, changes, read_document, scan
from django_mongo_history.reading.class_names import stored_class_name
from django_mongo_history.storage.base import Query

VIEW, REVERT, EXPORT = "view", "revert", "export"


class Asked(Protocol):
    """The part of `HistoryAdmin` that says who may what."""

    admin_site: Any

    @property
    def asks_for_each(self) -> bool: ...

    def has_history_permission(
        self, request: HttpRequest, action: str, subject: HistorySubject | None = None
    ) -> bool: ...


class Access:
    """What the user of one request may see and do."""

    def __init__(self, admin: Asked, request: HttpRequest) -> None:
        self.request = request
        self.addresses = Addresses(admin.admin_site.name)
        self.scope = scope_of(request)
        self.sources = runtime.sources()
        self.asks_for_each = admin.asks_for_each
        self._admin = admin
        self._narrowed: dict[int, tuple[Source, Source]] = {}

    def may(self, action: str, subject: HistorySubject | None = None) -> bool:
        """Whether the user has the permission, for everything or for this document; viewing is part of every other."""
        actions = {VIEW, action}
        return all(self._admin.has_history_permission(self.request, one, subject) for one in actions)

    def require(self, action: str, subject: HistorySubject | None = None) -> None:
        """Raises: PermissionDenied."""
        if not self.may(action, subject):
            raise PermissionDenied

    def sees_users(self) -> bool:
        """Whether the user may know whom there is to log in: what the admin asks before it lists users."""
        user: Any = self.request.user
        try:
            options: Any = get_user_model()._meta  # noqa: SLF001 - Django's own name for it
            names = [get_permission_codename(action, options) for action in ("view", "change")]
            return any(user.has_perm(f"{options.app_label}.{name}") for name in names)
        except (ImproperlyConfigured, AttributeError):  # users of another kind than Django's
            return bool(getattr(user, "is_superuser", False))

    # -- documents -----------------------------------------------------------------------------------------------------

    def subject(self, source: Source, document_id: Any) -> HistorySubject:
        """What permissions are asked about."""
        found = source.tracked.document_class
        known = found if documents.is_document_class(found) else None
        return HistorySubject(known, changes.read_value(document_id, source.codec_options))

    def sees(self, source: Source, document_id: Any, action: str = VIEW) -> bool:
        """Whether a document is in the user's scope, and the user may do that with it."""
        tracked = source.tracked.document_class
        is_tracked = self.sources.environment.registry.get(tracked) is not None
        found = tracked if is_tracked else None
        if not self.scope.shows(found, document_id):
            return False
        return self.may(action, self.subject(source, document_id))

    def sees_record(self, source: Source, record: VersionRecord, action: str = VIEW) -> bool:
        """The same of the document of a stored version."""
        return self.sees(source, record.document_id, action)

    def unseen(self, source: Source, document_ids: Sequence[Any], action: str = VIEW) -> list[Any]:
        """
        Those of these documents that the user may not see, or not do that with: by the class that each really is of,
        which a reference or an address need not name. Cost: where there are several such classes all are read once.
        """
        if self.scope.is_everything and _is_alone(source.tracked.document_class):
            return [one for one in document_ids if not self.sees(source, one, action)]
        found = []
        for histories in scan(source, document_ids=list(document_ids)):
            for history in histories:
                own = self._own_source(source, history)
                if own is None or not self.sees(own, history.key.document_id, action):
                    found.append(history.key.document_id)
        return found

    def sees_all_of(self, source: Source) -> bool:
        """Whether every document of a class is in the user's scope."""
        return self.scope.shows_all_of(self._class_of(source))

    def narrowed(self, source: Source) -> Source:
        """The source as this user may read from it; the same one for the same one."""
        if id(source) not in self._narrowed:
            self._narrowed[id(source)] = source, self.scope.narrowed(source)
        return self._narrowed[id(source)][1]

    def classes(self) -> list[type[Any]]:
        """The tracked classes whose documents may be seen, by name; those that a scope names below them, too."""
        registry = self.sources.environment.registry
        tracked = {one.document_class for one in registry}
        named = {
            one for group in self.scope.named_classes() for one in group if registry.get(one) is not None
        }
        below = {one for one in tracked if self.scope.shows_class(one)}
        found = below | {one for one in named if self.scope.shows_class(one)}
        return sorted(found, key=lambda one: (one.__name__, one.__module__))

    def source_named(self, name: str, namespace: str = "", document_id_text: str | None = None) -> Source:
        """
        The source of a class by its stored name, as this user may read from it.

        `namespace`: where its documents lie, if not where they lie today; only a place that has versions of the very
        document is looked into. Raises: Http404.
        """
        found = documents.find_class(name)
        registry = self.sources.environment.registry
        is_known = (
            found is not None and documents.is_document_class(found) and registry.get(found) is not None
        )
        if not self.scope.shows_class(found if is_known else None):
            raise Http404
        if is_known and found is not None and not namespace:
            return self.narrowed(self.sources.of_class(found))
        database, _dot, collection = namespace.partition(".")
        if document_id_text is not None and database and collection:
            for near in stores_of(self.sources):
                try:
                    source = self.sources.of_stored(name, namespace, near)
                    key = read_key(source, document_id_text)
                except (ValueError, InvalidName) as error:
                    raise Http404 from error
                stored = documents.stored_names(found) if is_known and found is not None else (name,)
                there = Query(collections=(namespace,), document_ids=(key,), classes=stored, limit=1)
                if next(near.store.heads(there), None) is not None:
                    return self.narrowed(source)
        raise Http404

    def history(self, name: str, key: str, action: str = VIEW) -> DocumentHistory:
        """
        The history of the document that an address names.

        Raises: Http404 where there is none that the user may see; PermissionDenied, also where there is none for somebody
        who might not see it: what there is is not for everybody to find out.
        """
        try:
            return self._history(name, key, action)
        except Http404:
            self.require(action)
            raise

    def _history(self, name: str, key: str, action: str) -> DocumentHistory:
        text = unquoted(key)
        namespace = self.request.GET.get("in") or self.request.POST.get("in") or ""
        source = self.source_named(unquoted(name), namespace, text)
        try:
            document_id = read_key(source, text)
        except ValueError as error:
            raise Http404(str(error)) from error
        history = read_document(source, document_id)
        if not history.steps:
            raise Http404(_("There is no history of this document."))
        own = self._own_source(source, history)
        if own is None or not self.scope.shows(self._class_of(own), document_id):
            raise Http404(_("There is no history of this document."))
        self.require(action, self.subject(own, document_id))
        if action == REVERT and self._class_of(own) is None:
            raise Http404(
                _("The class is not tracked any more, so what is written now would have no version.")
            )
        return history

    def places(self) -> Callable[[Reference], Source | None]:
        """Where the documents of references lie, as this user may read them."""
        places = Places(self.sources)

        def locate(reference: Reference) -> Source | None:
            found = places(reference)
            return None if found is None else self.narrowed(found)

        return locate

    def _class_of(self, source: Source) -> type[Any] | None:
        found = source.tracked.document_class
        return found if self.sources.environment.registry.get(found) is not None else None

    def _own_source(self, source: Source, history: DocumentHistory) -> Source | None:
        """The source of the class that the document really is of; None where that is not one of the address's class."""
        asked = source.tracked.document_class
        if not documents.is_document_class(asked):
            return source
        name = class_name(history.image) or stored_class_name(history)
        if name is None:
            return source
        found = documents.find_class(name)
        if found is None and not self.scope.is_everything:
            return None
        if found is not None and not documents.is_stored_as(asked, name):
            return None
        if found is None or found is asked or not documents.is_document_class(found):
            return source
        return self.sources.of_class(found)


def _is_alone(document_class: type[Any]) -> bool:
    """Whether no other class has documents in the class's collection."""
    if not documents.is_document_class(document_class):
        return True
    near = documents.sharing(document_class)
    return not documents.uses_class_names(document_class) and all(one is document_class for one in near)
