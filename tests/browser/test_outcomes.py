"""What people see when a way back could be gone in part only; and the way of selected documents to a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from django_mongo_history import history_of
from tests.admin_pages import page
from tests.browser.harbour import Ferry, Pier
from tests.browser.visitor import Visitor

Visit = Callable[..., Visitor]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)], ids=["light", "dark phone"])
def test_what_the_server_refused_is_told_and_tried_again(
    visit: Visit, harbour: dict[str, Any], mongodb: Any, admin_user: User, scheme: str, width: int
) -> None:
    """What was written and what not, without a fault that axe finds; then, the obstacle gone, the rest."""
    visitor = visit(user=admin_user, scheme=scheme, width=width)
    at = visitor.page
    schema = {"properties": {"depth": {"maximum": 0}}}
    mongodb.command("collMod", "piers", validator={"$jsonSchema": schema})
    visitor.open(page("take_back_changeset", harbour["mistake"]))
    at.get_by_label("Reason").fill("It was one")
    at.get_by_role("button", name="Do it").click()
    expect(at.get_by_role("alert")).to_contain_text("2 documents were written")
    expect(at.locator(".mh-left")).to_contain_text("Pier West: the server refuses")
    expect(at.locator(".mh-written li")).to_have_count(2)
    assert visitor.violations() == []
    assert at.evaluate("document.documentElement.scrollWidth") <= width
    assert Pier.objects.get(name="West").depth == -1.0
    mongodb.command("collMod", "piers", validator={})
    at.get_by_role("button", name="Look at it again").click()
    expect(at.locator("#content h1")).to_contain_text("Take back changeset")


@pytest.mark.parametrize("has_javascript", [True, False], ids=["javascript", "no javascript"])
def test_documents_of_selected_changes_go_back_to_a_moment(
    visit: Visit, harbour: dict[str, Any], admin_user: User, has_javascript: bool
) -> None:
    """From the list: changes are selected, the moment is asked for, shown, and gone back to."""
    moment = history_of(Ferry, 1)[1].at
    assert moment is not None
    visitor = visit(user=admin_user, has_javascript=has_javascript)
    at = visitor.page
    visitor.open(page("changelist") + "?class=Ferry&reason=mistake")
    for box in at.locator("input.action-select").all():
        box.check()
    at.get_by_label("Action:").select_option("documents")
    at.get_by_role("button", name="Preview").click()
    expect(at.locator(".mh-documents li")).to_have_count(2)
    assert "key=" not in at.url
    at.get_by_label("As they stood at").evaluate("one => { one.type = 'text'; }")
    at.get_by_label("As they stood at").fill(moment.isoformat())
    at.get_by_role("button", name="Preview").click()
    expect(at.locator(".mh-outcome")).to_have_count(2)
    at.get_by_label("Reason").fill("as it was")
    at.get_by_role("button", name="Do it").click()
    expect(at.locator(".messagelist")).to_contain_text("2 documents were written")
    assert {one.name for one in Ferry.objects} == {"Nansen", "Gjøa"}
