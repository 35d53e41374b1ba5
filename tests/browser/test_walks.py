"""What people come for, walked from the login to the result, as they would: with JavaScript and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from django_mongo_history import history_of
from django_mongo_history.admin import history_url
from tests.admin_pages import page, user_with
from tests.browser.harbour import Ferry, Pier, every_page
from tests.browser.visitor import Visitor

Visit = Callable[..., Visitor]


@pytest.mark.parametrize("has_javascript", [True, False], ids=["javascript", "no javascript"])
def test_find_a_change_compare_and_revert_it(
    visit: Visit, harbour: dict[str, Any], has_javascript: bool
) -> None:
    """From the login form to the new version; what is hidden is neither shown nor touched."""
    user_with("view", "revert", name="vera")
    visitor = visit(has_javascript=has_javascript)
    at = visitor.page
    visitor.open("/admin/")
    at.get_by_label("Username").fill("vera")
    at.get_by_label("Password").fill("secret")
    at.get_by_role("button", name="Log in").click()
    at.locator("#content .model-history").get_by_role("link", name="History", exact=True).click()

    at.get_by_label("Reason").fill("rename")
    at.get_by_label("Class").select_option("Ferry")
    at.get_by_role("button", name="Filter").click()
    expect(at.locator("tr.mh-row")).to_have_count(1)
    expect(at.locator(".mh-summary")).to_contain_text("name: Fram → Nansen")
    at.locator("tr.mh-row .mh-document a").click()

    expect(at.locator(".mh-version")).to_have_count(3)
    at.locator(".mh-version").last.get_by_label("compare from").check()
    at.get_by_label("with the document now").check()
    at.get_by_role("button", name="Compare the chosen versions").click()
    expect(at.locator("#content h1")).to_contain_text("Compare")
    rows = {row.locator("th").inner_text(): row for row in at.locator("tr.mh-change").all()}
    assert set(rows) == {"name", "log", "route.hours.last", "secret"}
    assert rows["log"].locator("del").all_inner_texts() == ["western", "tide"]
    assert rows["log"].locator("ins").all_inner_texts() == ["eastern", "storm"]
    assert "changed (hidden)" in rows["secret"].inner_text()
    at.locator(".mh-sides a").first.click()

    at.get_by_role("link", name="Revert to this version").click()
    at.get_by_role("button", name="Preview").click()
    expect(at.locator(".mh-outcome")).to_have_count(1)
    assert Ferry.objects.get(number=1).name == "LOST"
    at.get_by_label("Reason").fill("She was the Fram all along")
    at.get_by_role("button", name="Do it").click()

    expect(at.locator(".messagelist")).to_contain_text("1 document was written")
    expect(at.locator("#content h1")).to_contain_text("Version 4")
    expect(at.locator(".mh-who").first).to_contain_text("She was the Fram all along")
    now = Ferry.objects.get(number=1)
    assert (now.name, now.secret, now.route["hours"]["last"]) == ("Fram", "y", 23)
    last = history_of(now)[-1]
    assert (str(last.user), last.reason) == ("vera", "She was the Fram all along")


@pytest.mark.parametrize("has_javascript", [True, False], ids=["javascript", "no javascript"])
def test_some_fields_alone_go_back(
    visit: Visit, harbour: dict[str, Any], admin_user: User, has_javascript: bool
) -> None:
    """The fields that were ticked, and no others."""
    visitor = visit(user=admin_user, has_javascript=has_javascript)
    visitor.open(every_page(changeset=harbour["mistake"])["revert"])
    visitor.page.get_by_label("name", exact=True).check()
    visitor.page.get_by_role("button", name="Preview").click()
    expect(visitor.page.locator("tr.mh-change th")).to_have_text(["name"])
    visitor.page.get_by_label("Reason").fill("only the name")
    visitor.page.get_by_role("button", name="Do it").click()
    expect(visitor.page.locator(".messagelist")).to_contain_text("1 document was written")
    now = Ferry.objects.get(number=1)
    assert (now.name, now.route["hours"]["last"]) == ("Fram", 0)


def test_a_mistake_is_taken_back_as_a_whole(visit: Visit, harbour: dict[str, Any], admin_user: User) -> None:
    """Found by one of its changes, shown with all of them, taken back as one changeset."""
    visitor = visit(user=admin_user)
    at = visitor.page
    visitor.open(page("changelist") + "?reason=mistake&class=Pier")
    at.locator("tr.mh-row .mh-changeset a").click()
    expect(at.locator("tr.mh-row")).to_have_count(3)
    at.get_by_role("link", name="Take the whole changeset back").click()
    expect(at.locator(".mh-outcome")).to_have_count(3)
    at.get_by_role("button", name="Do it").click()
    expect(at.get_by_label("Reason")).to_be_focused()  # the browser asks for it before it sends anything
    assert Pier.objects.get(name="West").depth == -1.0
    at.get_by_label("Reason").fill("It was one")
    at.get_by_role("button", name="Do it").click()
    expect(at.locator(".messagelist")).to_contain_text("3 documents were written")
    expect(at.locator("tr.mh-row")).to_have_count(3)
    assert {one.name for one in Ferry.objects} == {"Nansen", "Gjøa"}
    assert Pier.objects.get(name="West").depth == 4.5


def test_a_deleted_document_comes_back(visit: Visit, harbour: dict[str, Any], admin_user: User) -> None:
    """From the list of what is gone."""
    visitor = visit(user=admin_user)
    at = visitor.page
    visitor.open(page("changelist"))
    at.get_by_role("link", name="Deleted documents").click()
    at.get_by_role("link", name="Ferry").click()
    at.get_by_role("link", name="Bring back").click()
    at.get_by_role("button", name="Preview").click()
    expect(at.locator(".mh-outcome")).to_contain_text("will be brought back")
    assert Ferry.objects(number=3).count() == 0
    at.get_by_label("Reason").fill("Scrapped too early")
    at.get_by_role("button", name="Do it").click()
    expect(at.locator(".messagelist")).to_contain_text("1 document was written")
    assert Ferry.objects.get(number=3).name == "Maud"


def test_selected_changes_are_taken_back(visit: Visit, harbour: dict[str, Any], admin_user: User) -> None:
    """All rows by one box, less one by its own."""
    visitor = visit(user=admin_user)
    at = visitor.page
    visitor.open(page("changelist") + "?reason=mistake&class=Ferry")
    everything, boxes = at.get_by_label("Select all"), at.locator(".action-select")
    everything.check()
    assert [one.is_checked() for one in boxes.all()] == [True, True]
    at.locator("tr.mh-row", has_text="Nansen").locator(".action-select").uncheck()
    assert everything.evaluate("(one) => one.indeterminate")
    at.get_by_role("button", name="Preview").click()
    expect(at.locator(".mh-outcome")).to_have_count(1)
    at.get_by_label("Reason").fill("only this one")
    at.get_by_role("button", name="Do it").click()
    at.locator(".messagelist").wait_for()
    assert {one.number: one.name for one in Ferry.objects} == {1: "LOST", 2: "Gjøa"}


def test_who_may_only_look_can_only_look(visit: Visit, harbour: dict[str, Any]) -> None:
    """No page has a button or a link that leads to a change, and a POST by hand, token and all, is refused."""
    visitor = visit(user=user_with("view"))
    pages = every_page(changeset=harbour["mistake"])
    ways_back = {
        "revert",
        "preview",
        "preview of a changeset",
        "preview in conflict",
        "documents to a moment",
    }
    before = [one.to_mongo() for one in [*Ferry.objects, *Pier.objects]]
    for name, path in pages.items():
        if name in ways_back:
            assert visitor.context.request.get(path).status == 403, name
            continue
        visitor.open(path)
        for way in (
            ".mh-link-revert",
            ".mh-link-take-back",
            ".mh-actions",
            ".action-select",
            ".mh-link-export",
        ):
            assert visitor.page.locator(way).count() == 0, (name, way)
        assert visitor.page.locator(".mh-main form[method=post]:has(button, input[type=submit])").count() == 0
    ids = [str(version.id) for version in history_of(Ferry, 1)]
    sent = {"reason": "mine", "confirm": "1", "digest": "0" * 64}
    own = history_url(Ferry, 1)
    assert visitor.post(f"{own}revert/", version=ids[0], **sent) == 403
    assert visitor.post(page("take_back"), version=ids[1], **sent) == 403
    assert visitor.post(page("take_back_changeset", harbour["mistake"]), **sent) == 403
    assert (
        visitor.post(page("revert_documents", "Ferry"), key=own.split("/")[-2], at="2000-01-01", **sent)
        == 403
    )
    assert [one.to_mongo() for one in [*Ferry.objects, *Pier.objects]] == before


def test_the_hand_made_post_is_a_good_one(visit: Visit, harbour: dict[str, Any], admin_user: User) -> None:
    """Sent by somebody who may, the same POST is not refused: so it was the permission that the other lacked."""
    visitor = visit(user=admin_user)
    visitor.open(page("changelist"))
    version = str(history_of(Ferry, 1)[0].id)
    sent = {"version": version, "reason": "mine", "confirm": "1", "digest": "0" * 64}
    assert (
        visitor.post(f"{history_url(Ferry, 1)}revert/", **sent) == 200
    )  # and the preview again: the digest is wrong


def test_the_list_is_paged(visit: Visit, harbour: dict[str, Any], admin_user: User) -> None:
    """Older, and newest again."""
    Ferry.objects.insert([Ferry(number=number) for number in range(100, 170)])
    visitor = visit(user=admin_user)
    at = visitor.page
    visitor.open(page("changelist") + "?class=Ferry")
    expect(at.locator("tr.mh-row")).to_have_count(50)
    at.get_by_role("link", name="Older").click()
    expect(at.locator("tr.mh-row")).to_have_count(27)
    at.get_by_role("link", name="Newest").click()
    expect(at.locator("tr.mh-row")).to_have_count(50)


def test_a_file_comes_of_the_filtered_list(visit: Visit, harbour: dict[str, Any], admin_user: User) -> None:
    """A download, and what is in it is what the filters leave."""
    visitor = visit(user=admin_user)
    visitor.open(page("changelist") + "?operation=delete")
    with visitor.page.expect_download() as caught:
        visitor.page.get_by_role("link", name="Export as CSV").click()
    lines = caught.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert caught.value.suggested_filename.endswith(".csv")
    assert len(lines) == 2
    assert "Scrapped" in lines[1]
