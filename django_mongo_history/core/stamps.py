"""
The latest who and when on the document itself: two fields, and how they get into every form of a write. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django_mongo_history.core import elements, values
from django_mongo_history.core.elements import Element

CHANGE_INFO: Final = "change_info"
CHANGED: Final = "changed"
FIELDS: Final = (CHANGE_INFO, CHANGED)


@dataclass(frozen=True, slots=True)
class Stamp:
    """`info`: who and why, as a version stores its context. `at`: UTC, milliseconds."""

    info: Mapping[str, Any]
    at: datetime

    @property
    def fields(self) -> dict[str, Any]:
        return {CHANGE_INFO: dict(self.info), CHANGED: self.at}

    def on_update(self, update: Any) -> Any:
        """The same update, of operators or a pipeline, which sets the fields too. What it did to them gives way."""
        if isinstance(update, list):
            literal = {CHANGE_INFO: {"$literal": dict(self.info)}, CHANGED: self.at}
            return [*update, {"$unset": list(FIELDS)}, {"$set": literal}]
        kept: dict[str, Any] = {}
        for operator, parts in update.items():
            others = _without_fields(operator, parts)
            if others or not parts:
                kept[operator] = others
        sets = kept.get("$set", {})
        return {**kept, "$set": {**sets, **self.fields}} if isinstance(sets, Mapping) else update

    def on_document(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The same document, which has the fields."""
        return {**document, **self.fields}

    def on_image(self, image: bytes) -> bytes:
        """The same of a document as BSON, every other byte as it is."""
        own = {
            name.encode(): Element(name.encode(), *values.encode_value(value))
            for name, value in self.fields.items()
        }
        found = elements.elements(image)
        names = {part.name for part in found}
        replaced = [own.get(part.name, part) for part in found]
        return elements.assemble([*replaced, *(part for name, part in own.items() if name not in names)])


def _without_fields(operator: str, parts: Any) -> Any:
    if not isinstance(parts, Mapping):
        return parts
    return {
        path: value
        for path, value in parts.items()
        if not _is_ours(path) and not (operator == "$rename" and _is_ours(value))
    }


def _is_ours(path: Any) -> bool:
    return isinstance(path, str) and path.split(".", 1)[0] in FIELDS
