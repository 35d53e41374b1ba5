"""What the engine takes, and what it gives: one document with all that is known of it, and what became of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bson import ObjectId

from django_mongo_history.conversion.base import BadRow, Step
from django_mongo_history.conversion.rows import Row
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import Entry, VersionRecord
from django_mongo_history.core.policy import Policy
from django_mongo_history.reading import DocumentHistory


@dataclass(slots=True)
class Entity:
    """
    One document and all that is known of it. `image`: the live document. `live`: its versions that were not converted, None
    where there are none. `stored`: the ids of its converted versions, and of the rows that each of them comes from. `entries`:
    what order needs of all its versions. `is_echo`: it comes by once more under another spelling of its key, with the same rows.
    """

    id: Any
    rows: Sequence[Row]
    image: bytes | None = None
    live: DocumentHistory | None = None
    stored: Mapping[ObjectId, Sequence[Any]] = field(default_factory=dict)
    entries: Sequence[Entry] = ()
    is_echo: bool = False


class Gap(NamedTuple):
    """Where rows do not determine a state. `is_new`: its version is one of those that are to be stored."""

    row: Any
    reason: str
    is_new: bool


@dataclass(slots=True)
class Made:
    """
    What became of a document's rows. `records`: the versions that are to be stored, `steps` how many there are with those that
    are stored already. `told`: rows that live versions tell, `untracked`: rows of nothing that is tracked.
    """

    records: list[VersionRecord] = field(default_factory=list)
    steps: int = 0
    rows: int = 0
    told: list[Any] = field(default_factory=list)
    untracked: list[Any] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


@dataclass(slots=True)
class Rules:
    """How the documents of one class are recorded."""

    document_class: str
    policy: Policy


def class_name_of(entity: Entity, steps: Sequence[Step]) -> str | None:
    """The `_cls` of a document: of the live one, else by the last step that tells one."""
    if entity.image is not None:
        return class_name(entity.image)
    for step in reversed(steps):
        for side in (step.after, step.before):
            if isinstance(side, bytes):
                return class_name(side)
            if isinstance(side, Mapping):
                name = side.get("_cls")
                return name if isinstance(name, str) else None
    return None
