"""
Schema drift: fields that were called otherwise when a version was stored. Mapped on reading; rows are never rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django_mongo_history.core import elements
from django_mongo_history.core.model import PatchEntries, PathPart

Renamed = Mapping[str, str]
"""Old database names of top-level fields to today's."""


def rename_keys(document: bytes, renamed: Renamed) -> bytes:
    """The document with today's names; a field whose new name is taken keeps its old one."""
    if not renamed:
        return document
    parts = elements.elements(document)
    there = {part.name.decode("utf-8", "surrogateescape") for part in parts}
    mapped = []
    for part in parts:
        name = part.name.decode("utf-8", "surrogateescape")
        new = renamed.get(name, name)
        mapped.append(part if new in there else part._replace(name=new.encode("utf-8", "surrogateescape")))
    return elements.assemble(mapped)


def rename_entries(entries: PatchEntries, renamed: Renamed) -> PatchEntries:
    """A patch with today's names."""
    return [_renamed(*entry, renamed) for entry in entries] if renamed else entries


def _renamed(operation: str, path: list[PathPart], payload: Any, renamed: Renamed) -> Any:
    if path:
        return operation, [_name(path[0], renamed), *path[1:]], payload
    if operation == "change":
        return operation, path, payload
    return operation, path, [(_name(key, renamed), value) for key, value in payload]


def _name(part: PathPart, renamed: Renamed) -> PathPart:
    return renamed.get(part, part) if isinstance(part, str) else part


def names_ever(name: str, renamed: Renamed) -> tuple[str, ...]:
    """A dotted path under today's name and under each it had before."""
    first, dot, rest = name.partition(".")
    before = [old for old, new in renamed.items() if new == first]
    return tuple(f"{one}{dot}{rest}" for one in [first, *before])
