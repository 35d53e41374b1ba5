"""
A document's history as a list of changes of fields: what projects that keep such a list on the document itself read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django_mongo_history import documents
from django_mongo_history.core.model import ABSENT, Operation
from django_mongo_history.query.version import Version


@dataclass(frozen=True, slots=True)
class FieldChange:
    """
    One field that one version changed.

    `field`: attribute names and list indexes joined by dots, `"runways.0.length"`; the deepest place that changed.
    `old_value`, `new_value`: as PyMongo reads them; None where there was or is nothing, HIDDEN for what is hidden.
    `timestamp`: aware, UTC, milliseconds. `version` is where it comes from, with who and why.
    """

    field: str
    old_value: Any
    new_value: Any
    timestamp: datetime
    version: Version


def field_changes(versions: Iterable[Version]) -> Iterator[FieldChange]:
    """
    The changes of fields that these versions made, in their order.

    Creates, deletes and baselines are no changes of fields. Nor is another order of the same keys.
    Raises: BrokenChainError at a version that cannot be read.
    """
    for version in versions:
        if version.operation not in (Operation.UPDATE, Operation.EXTERNAL) or version.at is None:
            continue
        for change in version.changes:
            if change.op != "order":
                yield FieldChange(
                    field=documents.attribute_path(version.document_class, change.path),
                    old_value=_value(change.old),
                    new_value=_value(change.new),
                    timestamp=version.at,
                    version=version,
                )


def _value(side: Any) -> Any:
    return None if side is ABSENT else side
