"""
From the rows of one document to the versions that are stored of it: the same for every format.

Steps are laid among the live versions (`slots`), walked backwards from what is known behind them (`walk`), and become versions
(`versions`). Pure but for the live history that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from bson.timestamp import Timestamp

from django_mongo_history.conversion.base import BadRow, Format, Step
from django_mongo_history.conversion.engine.entity import Entity, Gap, Made, Rules, class_name_of
from django_mongo_history.conversion.engine.node import Nodes
from django_mongo_history.conversion.engine.slots import Slots
from django_mongo_history.conversion.engine.surroundings import Surroundings
from django_mongo_history.conversion.engine.versions import Maker, Versions
from django_mongo_history.conversion.engine.walk import Walk
from django_mongo_history.conversion.identity import Names
from django_mongo_history.conversion.rows import exact_name

__all__ = ["Engine", "Entity", "Gap", "Made", "Rules", "RulesOf"]

RulesOf: TypeAlias = Callable[[str | None], Rules | None]
"""How a document of this `_cls` is recorded, None: not at all."""


class Engine:
    """Makes versions of one source's rows."""

    def __init__(self, source_format: Format, rules_of: RulesOf) -> None:
        self.format = source_format
        self.names = Names(source_format.name, source_format.place)
        self._rules_of = rules_of

    def convert(self, entity: Entity) -> Made:
        """The versions of a document that are not stored yet, and what became of each row."""
        made = Made(rows=len(entity.rows))
        converted = frozenset(exact_name(row_id) for ids in entity.stored.values() for row_id in ids)
        rows = entity.rows
        if converted:
            rows = [row._replace(is_converted=exact_name(row.id) in converted) for row in rows]
        steps: list[Step] = []
        for one in self.format.steps(entity.id, rows):
            if isinstance(one, BadRow):
                made.bad.append(one)
            else:
                steps.append(one)
        rules = self._rules_of(class_name_of(entity, steps)) if steps else None
        if rules is None:
            made.untracked.extend(row.id for step in steps for row in step.rows)
            return made
        _convert(Maker(self.format, self.names, rules, entity, converted), steps, made)
        return made


def _convert(maker: Maker, steps: Sequence[Step], made: Made) -> None:
    """Versions of the steps of one document, slot by slot."""
    policy = maker.rules.policy
    nodes = Nodes(policy, maker.names)
    surroundings = Surroundings(maker.entity, nodes)
    slots: dict[int, Sequence[Step]] = {0: steps}
    if surroundings.live is not None:
        filling = Slots(surroundings.live, surroundings, nodes, policy)
        slots = dict(filling.filled(steps))
        made.told.extend(filling.told)
    walk, versions = Walk(nodes, surroundings, policy), Versions(maker, nodes, surroundings, made)
    order: Timestamp | None = None
    for number in sorted(slots):
        order = versions.make(walk.resolved(slots[number], number), order, number)
