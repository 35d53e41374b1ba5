"""
Scopes: what is recorded of a class that is recorded in scopes only, and whom versions made in a scope are by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django_mongo_history.context.storable import slot_of
from django_mongo_history.context.users import UNSET, Unset
from django_mongo_history.core.model import ABSENT, DocumentKey, UserRef


@dataclass(slots=True, eq=False)
class Scope:
    """
    One document while a block lasts. One object in every context that has copied it: when the block ends it ends for
    tasks too that were begun inside and go on.

    `key`: where the document lies now; `document_id` is ABSENT as long as it has none. `user`: who makes the versions
    of this document, UNSET for whoever makes those around. `extra`: what they carry besides.
    """

    key: Callable[[], DocumentKey]
    user: UserRef | Unset | None = UNSET
    extra: Mapping[str, Any] = field(default_factory=dict)
    is_open: bool = True

    def close(self) -> None:
        self.is_open = False

    def covers(self, key: DocumentKey, *, is_create: bool) -> bool:
        """
        Whether a write is one of its document's.

        The key of a document that has none is made with its first save: until then creates in its collection are.
        """
        if not self.is_open:
            return False
        own = self.key()
        if own.document_id is ABSENT:
            return is_create and own.collection == key.collection
        return own.collection == key.collection and slot_of(own) == slot_of(key)
