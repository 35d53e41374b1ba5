"""
What a plan would write, document by document, exactly: decided as it is when the plan is applied, and nothing written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from django_mongo_history.core import values
from django_mongo_history.core.model import DocumentKey
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading import DocumentHistory, Source, scan
from django_mongo_history.revert.goals import ObstacleError
from django_mongo_history.revert.plan import (
    Decision,
    Kind,
    Plan,
    chunks,
    conflict,
    decide,
    digest_of,
    prefetch,
)

_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What becomes of one document. `before` and `after`: its tracked states as its reader may see them, None where there
    is no document.
    """

    source: Source
    key: DocumentKey
    kind: Kind
    before: bytes | None
    after: bytes | None


@dataclass(slots=True)
class Preview:
    """
    The outcomes of a plan, streamed once. `digest`, when all were read: of everything that would be written over what;
    two equal ones mean that the same would happen. From then on the plan writes just that: what is otherwise by the time
    that it is applied is a conflict.
    """

    plan: Plan
    digest: str = ""

    def __iter__(self) -> Iterator[Outcome]:
        """Cost: every document that the plan names is read. What has come up since is added to the plan's conflicts."""
        seen: dict[tuple[str, tuple[int, bytes]], bytes] = {}
        for kind in Kind:
            for items in chunks(self.plan.of_kind(kind), _CHUNK):
                source = items[0].source
                goals = {values.encode_value(item.document_id): item.goal for item in items}
                for histories in scan(source, document_ids=[item.document_id for item in items]):
                    pairs = [(one, goals[values.encode_value(one.key.document_id)]) for one in histories]
                    prefetch(pairs)
                    for history, goal in pairs:
                        try:
                            decision = decide(source, history, goal, force=self.plan.force)
                        except (ObstacleError, BrokenChainError) as error:
                            self.plan.conflicts.append(conflict(source, history, error))
                            continue
                        if decision.kind is not None:
                            seen[_place(history.key)] = digest_of(history.key, decision)
                            yield _outcome(history, decision, decision.kind)
        self.plan.items = [
            replace(item, previewed=seen.get(_place(item.key), b"")) for item in self.plan.items
        ]
        self.digest = hashlib.sha256(b"".join(sorted(seen.values()))).hexdigest()


def _place(key: DocumentKey) -> tuple[str, tuple[int, bytes]]:
    return key.collection, values.encode_value(key.document_id)


def _outcome(history: DocumentHistory, decision: Decision, kind: Kind) -> Outcome:
    view = history.source.view
    return Outcome(history.source, history.key, kind, view.show(decision.before), view.show(decision.after))
