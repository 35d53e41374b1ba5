"""Formats by name: the package's own, those of entry points, and classes by their dotted path."""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from django_mongo_history.conversion.base import Format
from django_mongo_history.errors import ConversionError

GROUP: Final = "django_mongo_history.formats"
"""The group of entry points: `name = "package.module:Class"`."""

_OWN: Final = {
    "mongoengine-history": "django_mongo_history.conversion.formats.mongoengine_history:MongoengineHistory",
    "snapshots": "django_mongo_history.conversion.formats.snapshots:Snapshots",
    "embedded-changes": "django_mongo_history.conversion.formats.embedded_changes:EmbeddedChanges",
    "json-patch": "django_mongo_history.conversion.formats.json_patch:JsonPatch",
}


def known_formats() -> dict[str, type[Format]]:
    """All formats by name, the package's own first. One that cannot be imported is left out: `find_format` says why."""
    found: dict[str, type[Format]] = {}
    for name, path in _paths().items():
        try:
            found[name] = _load(path)
        except (ImportError, AttributeError, ConversionError):
            continue
    return found


def find_format(name: str) -> type[Format]:
    """
    A format by its name or the dotted path of its class.

    Raises: ConversionError with the list of known ones; or with what went wrong on importing it.
    """
    path = _paths().get(name)
    if path is None and "." in name:
        module, _, attribute = name.replace(":", ".").rpartition(".")
        path = f"{module}:{attribute}"
    if path is None:
        near = difflib.get_close_matches(name, _paths(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        known = ", ".join(known_formats())
        raise ConversionError(
            f"SOURCE: {name!r} is no known format.{hint} Known: {known}; or give the dotted path of a class.",
            known=list(known_formats()),
        )
    try:
        return _load(path)
    except (ImportError, AttributeError) as error:
        raise ConversionError(f"SOURCE: {name} cannot be imported: {error}.") from error


def forget() -> None:
    """Look for entry points anew: for tests that bring one."""
    _paths.cache_clear()


@lru_cache(maxsize=1)
def _paths() -> dict[str, str]:
    others = {one.name: one.value for one in entry_points(group=GROUP)}
    return _OWN | {name: path for name, path in others.items() if name not in _OWN}


def _load(path: str) -> type[Format]:
    module, _, attribute = path.partition(":")
    found: Any = getattr(import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, Format)):
        raise ConversionError(f"SOURCE: {path.replace(':', '.')} is no class made from Format.")
    return found
