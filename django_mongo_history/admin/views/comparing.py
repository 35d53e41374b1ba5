"""Two states of a document compared: of two versions, or of one and the present."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import pgettext

from django_mongo_history.admin.access import Access, Asked
from django_mongo_history.admin.diffs import MOST_CHANGES, diff_of
from django_mongo_history.admin.rows import VersionRow, row_of_step
from django_mongo_history.admin.views.about import (
    MOST_CHOICES,
    NOW,
    about,
    address_of,
    choices_of,
    index_of,
    number_of,
)
from django_mongo_history.admin.views.rendering import render
from django_mongo_history.core import values as exact
from django_mongo_history.core.model import Change
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.query.hidden import hidden_between
from django_mongo_history.reading import DocumentHistory, changes_between


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a version by its place, or the present. `order`: what is older is smaller."""

    name: str
    index: int | None
    order: int


def compare(admin: Asked, request: HttpRequest, name: str, key: str) -> TemplateResponse:
    """What differs between two versions of a document, or between one and the present."""
    access = Access(admin, request)
    history = access.history(name, key)
    asked = request.GET
    left = _side(history, asked.get("a_number") or asked.get("a") or str(history.steps[0].id))
    right = _side(history, asked.get("b_number") or asked.get("b") or NOW)
    if left.order > right.order:
        left, right = right, left
    diff, problem = None, ""
    try:
        found = _changes_of_sides(history, left, right)
        diff = diff_of(history.source, found, most=MOST_CHANGES)
    except BrokenChainError as error:
        problem = str(error)
    context = {
        **about(access, history, pgettext("history", "Compare")),
        "left": _side_row(access, history, left),
        "right": _side_row(access, history, right),
        "diff": diff,
        "problem": problem,
        "choices": choices_of(history, left.index, right.index),
        "has_more_choices": len(history.steps) > MOST_CHOICES,
        "count": len(history.steps),
        "chosen": (left.name, right.name),
        "compare_url": address_of(access, history)("compare"),
    }
    return render(admin, request, "compare.html", context, access=access)


def _side(history: DocumentHistory, name: str) -> Side:
    if name == NOW:
        return Side(NOW, None, len(history.steps))
    if re.fullmatch(r"\d{1,9}", name):
        index = number_of(name, len(history.steps)) - 1
        return Side(str(history.steps[index].id), index, index)
    index = index_of(history, name)
    return Side(name, index, index)


def _changes_of_sides(history: DocumentHistory, left: Side, right: Side) -> list[Change]:
    last = len(history.steps) - 1
    before = history.now() if left.index is None else history.after(left.index)
    after = history.now() if right.index is None else history.after(right.index)
    low = last if left.index is None else left.index
    high = last if right.index is None else right.index
    return [*changes_between(before, after, exact.EXACT), *hidden_between(history, low, high)]


def _side_row(access: Access, history: DocumentHistory, side: Side) -> VersionRow | None:
    return None if side.index is None else row_of_step(access, history, side.index, most=0)
