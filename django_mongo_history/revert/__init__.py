"""Back to what was: plan, look for what stands in the way, apply. Two verbs: revert to a state, take versions back."""

from django_mongo_history.revert.applying import apply, apply_or_raise
from django_mongo_history.revert.drops import Drop
from django_mongo_history.revert.goals import Target
from django_mongo_history.revert.plan import (
    Conflict,
    Item,
    Kind,
    Plan,
    plan_since,
    plan_states,
    plan_take_back,
)
from django_mongo_history.revert.previewing import Outcome, Preview
from django_mongo_history.revert.relations import plan_related

__all__ = [
    "Conflict",
    "Drop",
    "Item",
    "Kind",
    "Outcome",
    "Plan",
    "Preview",
    "Target",
    "apply",
    "apply_or_raise",
    "plan_related",
    "plan_since",
    "plan_states",
    "plan_take_back",
]
