"""
Which classes there are, which of them share a collection, and the place where a class hands its collection out.
"""

# ruff: noqa: SLF001 - this package is where it is done, so that no other has to

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

from mongoengine.base.common import _document_registry
from mongoengine.connection import _connection_settings, _connections, get_connection
from mongoengine.context_managers import switch_db
from pymongo import MongoClient

from django_mongo_history.documents.paths import is_document_class

Wrap = Callable[[type[Any], Any], Any]
"""From a class and its collection to the collection that it shall hand out."""
Around = Callable[[type[Any], Callable[[], Any]], Any]
"""What is called with a class and the drop of its collection, in that drop's place."""

_GETTER: Final = "_get_collection"
_DROP: Final = "drop_collection"
_CACHE: Final = "_collection"
_MARK: Final = "_history_wraps"


def find_class(name: str) -> type[Any] | None:
    """The class of a stored `_cls`; None where no such class is known now."""
    found: type[Any] | None = _document_registry.get(name)
    return found


def find_label(label: str) -> type[Any] | None:
    """The document class of a dotted path, among those that are imported."""
    for candidate in _document_registry.values():
        if f"{candidate.__module__}.{candidate.__qualname__}" == label:
            found: type[Any] = candidate
            return found
    return None


def find_collection_class(collection: str) -> type[Any] | None:
    """The topmost class whose documents lie in a collection of this name, in whatever database."""
    for candidate in list(_document_registry.values()):
        if is_document_class(candidate) and candidate._meta.get("collection") == collection:
            return base_of_collection(candidate)
    return None


def connection_aliases() -> list[str]:
    """The names of the connections that there are."""
    return sorted(_connection_settings)


def is_mock_connection(alias: str) -> bool:
    """Whether a connection is one of mongomock's, or of another that is no server's. Connects to nothing."""
    made_by = _connection_settings.get(alias, {}).get("mongo_client_class", MongoClient)
    return not (isinstance(made_by, type) and issubclass(made_by, MongoClient))


def connection_of(document_class: type[Any]) -> str:
    """The name of the connection that a class asks for."""
    return str(document_class._meta.get("db_alias", "default"))


def alias_of(client: Any) -> str | None:
    """The name under which MongoEngine knows this client; None for one that it has not made."""
    return next((alias for alias, known in list(_connections.items()) if known is client), None)


def client_of(alias: str) -> Any:
    """The client of a connection. Raises: ValueError where there is none of this name."""
    if alias not in _connection_settings:
        known = ", ".join(map(repr, connection_aliases())) or "none"
        raise ValueError(f"MongoEngine has no connection {alias!r}; it has: {known}")
    return get_connection(alias)


def open_clients() -> list[Any]:
    """The clients of the connections that are in use, each once."""
    return list({id(client): client for client in list(_connections.values())}.values())


def class_count() -> int:
    """How many classes MongoEngine knows: it grows when a module with documents is imported late."""
    return len(_document_registry)


def class_name_of(document_class: type[Any]) -> str:
    """The name by which MongoEngine stores and finds a class: the value of `_cls`."""
    return str(document_class._class_name)


def collection_name_of(document_class: type[Any]) -> str:
    """The collection's name without the database; right inside of `switch_collection` too."""
    return str(document_class._get_collection_name())


def uses_class_names(document_class: type[Any]) -> bool:
    """Whether its documents carry `_cls`."""
    return bool(document_class._meta.get("allow_inheritance"))


def is_stored_as(document_class: type[Any], name: str | None) -> bool:
    """Whether a document of that `_cls` is one of this class or of a class below it, known or not."""
    if name is None or name in document_class._subclasses:
        return True
    return name.startswith(f"{class_name_of(document_class)}.")


def stored_names(document_class: type[Any]) -> tuple[str, ...]:
    """The class names under which its documents, and those of classes below it, are stored."""
    return tuple(dict.fromkeys((class_name_of(document_class), *document_class._subclasses)))


def base_of_collection(document_class: type[Any]) -> type[Any]:
    """The topmost class above this one whose documents lie in the same collection."""
    name = document_class._meta.get("collection")
    bases: list[type[Any]] = [base for base in document_class.__mro__ if is_document_class(base)]
    return next((base for base in reversed(bases) if base._meta.get("collection") == name), document_class)


def sharing(document_class: type[Any]) -> Iterator[type[Any]]:
    """All classes whose documents lie in the collection of this one, by name and connection, itself included."""
    place = _place(document_class)
    for candidate in list(_document_registry.values()):
        if is_document_class(candidate) and _place(candidate) == place:
            yield candidate


def classes_in(name: str) -> list[type[Any]]:
    """All classes whose documents lie in a collection of this name, whatever the connection."""
    found = [one for one in list(_document_registry.values()) if is_document_class(one)]
    return [one for one in found if one._meta.get("collection") == name]


def wrap_collection(document_class: type[Any], wrap: Wrap) -> None:
    """Let the class, and all below it, hand out `wrap(class, collection)`. Does nothing where that is so already."""
    own = document_class.__dict__.get(_GETTER)
    if getattr(getattr(own, "__func__", None), _MARK, False):
        return

    def _get_collection(cls: type[Any]) -> Any:
        inner = own.__func__(cls) if own is not None else super(document_class, cls)._get_collection()
        wrapped = wrap(cls, inner)
        if wrapped is not inner and cls._collection is inner:
            cls._collection = wrapped
        return wrapped

    setattr(_get_collection, _MARK, True)
    _get_collection.original = own  # type: ignore[attr-defined]
    setattr(document_class, _GETTER, classmethod(_get_collection))


def unwrap_collection(document_class: type[Any], plain: Callable[[Any], Any]) -> None:
    """Undo `wrap_collection` without a trace; `plain` gives the collection beneath a wrapped one."""
    if not _restore(document_class, _GETTER):
        return
    for member in _below(document_class):
        cached = member.__dict__.get(_CACHE)
        if cached is not None:
            member._collection = plain(cached)


def wrap_drop(document_class: type[Any], around: Around) -> None:
    """Let `drop_collection()` of the class, and of all below it, be `around(class, drop)`. Once, as `wrap_collection`."""
    own = document_class.__dict__.get(_DROP)
    if getattr(getattr(own, "__func__", None), _MARK, False):
        return
    shown = getattr(document_class, _DROP).__func__ if own is None else own.__func__

    @functools.wraps(shown)
    def drop_collection(cls: type[Any], *args: Any, **options: Any) -> Any:
        inner = super(document_class, cls).drop_collection if own is None else own.__get__(None, cls)
        return around(cls, functools.partial(inner, *args, **options))

    setattr(drop_collection, _MARK, True)
    drop_collection.original = own  # type: ignore[attr-defined]
    setattr(document_class, _DROP, classmethod(drop_collection))


def unwrap_drop(document_class: type[Any]) -> None:
    """Undo `wrap_drop` without a trace."""
    _restore(document_class, _DROP)


def inherits_getter(document_class: type[Any]) -> bool:
    """Whether the class takes the place where it hands its collection out from a base."""
    return _GETTER not in document_class.__dict__


def inherits_drop(document_class: type[Any]) -> bool:
    """Whether the class takes `drop_collection` from a base."""
    return _DROP not in document_class.__dict__


def place_of(document_class: type[Any]) -> Any:
    """The driver's collection that `drop_collection()` drops now, not made by asking; None where it has no name."""
    name = document_class._get_collection_name()
    return document_class._get_db()[name] if name else None


def recorded_collection(document_class: type[Any]) -> Any:
    """The collection as the class hands it out: recording, where it is wrapped."""
    return document_class._get_collection()


def plain_collection(
    document_class: type[Any],
    plain: Callable[[Any], Any],
    *,
    using: str | None = None,
    name: str | None = None,
) -> Any:
    """The PyMongo collection of a class, not recording; of another connection or name where they are given."""
    if using is not None:
        with switch_db(document_class, using) as switched:
            return plain_collection(switched, plain, name=name)
    if name is not None:
        collection = plain(document_class._get_collection())
        return collection.database.get_collection(name, codec_options=collection.codec_options)
    return plain(document_class._get_collection())


def _restore(document_class: type[Any], name: str) -> bool:
    """Take our classmethod of this name away; whether there was one."""
    function = getattr(document_class.__dict__.get(name), "__func__", None)
    if not getattr(function, _MARK, False):
        return False
    original = function.original  # type: ignore[union-attr]
    if original is None:
        delattr(document_class, name)
    else:
        setattr(document_class, name, original)
    return True


def _place(document_class: type[Any]) -> tuple[str, str | None]:
    return connection_of(document_class), document_class._meta.get("collection")


def _below(document_class: type[Any]) -> Iterator[type[Any]]:
    yield document_class
    for subclass in document_class.__subclasses__():
        yield from _below(subclass)
