"""How the pages look and behave for everybody: light and dark, narrow and wide, both directions, keyboard, paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.admin_pages import page
from tests.browser.harbour import every_page
from tests.browser.visitor import Visitor

Visit = Callable[..., Visitor]

COLOURS = ("color-contrast", "link-in-text-block")
SIDEWAYS = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  const hidden = one.closest(".visually-hidden, .skip-to-content-link, .mh-results, .mh-chart-table, pre, svg, #nav-sidebar");
  return box.width && !hidden && (box.right > innerWidth + 1 || box.left < -1);
}).map((one) => one.outerHTML.slice(0, 120))"""
UNSEEN_FOCUS = """() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 1;
}"""


@pytest.fixture
def pages(harbour: dict[str, Any]) -> dict[str, str]:
    return every_page(changeset=harbour["mistake"])


@pytest.mark.parametrize(("scheme", "rules"), [("light", ()), ("dark", COLOURS)], ids=["light", "dark"])
def test_axe_finds_nothing(
    visit: Visit, pages: dict[str, str], admin_user: Any, scheme: str, rules: tuple[str, ...]
) -> None:
    """No rule of axe is broken on any page, everything unfolded; in the dark, none of those that look at colours."""
    visitor = visit(user=admin_user, scheme=scheme)
    found = {}
    for name, path in pages.items():
        visitor.open(path)
        visitor.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        if violations := visitor.violations(*rules):
            found[name] = violations
    assert found == {}


@pytest.mark.parametrize("language", ["en", "de", "he"])
def test_a_phone_is_wide_enough(visit: Visit, pages: dict[str, str], admin_user: Any, language: str) -> None:
    """At 360 pixels no page scrolls sideways, from the left or from the right; what is wide scrolls inside."""
    visitor = visit(user=admin_user, width=360, height=740, language=language)
    found = {}
    for name, path in pages.items():
        visitor.open(path)
        direction = visitor.page.get_attribute("html", "dir")
        assert direction == ("rtl" if language == "he" else "ltr")
        visitor.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        width = visitor.page.evaluate("document.documentElement.scrollWidth")
        beyond = visitor.page.evaluate(SIDEWAYS)
        if width > 360 or beyond:
            found[name] = (width, beyond)
    assert found == {}


def test_it_speaks_the_language_of_the_visitor(
    visit: Visit, harbour: dict[str, Any], admin_user: Any
) -> None:
    """Each of those that come with it; any other hears English where Django's own admin has no word."""
    titles = {
        "de": "Alle Änderungen",
        "fr": "Toutes les modifications",
        "es-MX": "Todos los cambios",
        "ko": "모든 변경",
        "zh-CN": "所有变更",
        "nl": "All changes",
    }
    seen = {}
    for language in titles:
        visitor = visit(user=admin_user, language=language)
        visitor.open(page("changelist"))
        seen[language] = visitor.page.locator("#content h1").inner_text()
    assert seen == titles


def test_it_is_laid_out_from_the_right(visit: Visit, pages: dict[str, str], admin_user: Any) -> None:
    """In Hebrew, what stands at the left in English stands at the right: the line of time, the old side of a change."""
    places = {}
    for language in ("en", "he"):
        visitor = visit(user=admin_user, language=language)
        visitor.open(pages["document"])
        old, new = (
            visitor.page.locator(f".mh-diff .mh-{side}").first.bounding_box() for side in ("old", "new")
        )
        assert old is not None
        assert new is not None
        places[language] = old["x"] < new["x"]
    assert places == {"en": True, "he": False}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_admins_theme_is_followed(
    visit: Visit, pages: dict[str, str], admin_user: Any, scheme: str
) -> None:
    """The system's scheme at first; then the one that the admin's own switch sets, whatever the system has."""
    visitor = visit(user=admin_user, scheme=scheme)
    visitor.open(pages["compare"])

    def is_dark() -> list[bool]:
        seen = visitor.page.evaluate(
            """() => [".mh-old", "body"].map((one) => getComputedStyle(document.querySelector(one)).backgroundColor)"""
        )
        return [sum(map(int, one.strip("rgb()").split(", "))) < 250 for one in seen]

    assert is_dark() == [scheme == "dark"] * 2
    other = "light" if scheme == "dark" else "dark"
    while visitor.page.get_attribute("html", "data-theme") != other:
        visitor.page.click(".theme-toggle")
    assert is_dark() == [other == "dark"] * 2


def test_the_keyboard_reaches_everything_and_is_seen(
    visit: Visit, pages: dict[str, str], admin_user: Any
) -> None:
    """The skip link is first and leads to the content; from there each control is reached and shows its focus."""
    visitor = visit(user=admin_user)
    for name in ("changes", "document", "compare", "state", "revert", "preview"):
        visitor.open(pages[name])
        visitor.page.keyboard.press("Tab")
        assert visitor.page.evaluate("document.activeElement.className") == "skip-to-content-link"
        visitor.page.keyboard.press("Enter")
        seen = 0
        while True:
            visitor.page.keyboard.press("Tab")
            if not visitor.page.evaluate("document.activeElement.closest('.mh-main') !== null"):
                break
            seen += 1
            assert not visitor.page.evaluate(UNSEEN_FOCUS), visitor.page.evaluate(
                "document.activeElement.outerHTML.slice(0, 200)"
            )
        assert seen >= 5


def test_a_version_is_folded_and_compared_by_keyboard_alone(
    visit: Visit, pages: dict[str, str], admin_user: Any
) -> None:
    """A summary opens by Enter; versions are chosen by the arrow keys' radio buttons and compared by Enter."""
    visitor = visit(user=admin_user)
    visitor.open(pages["document"])
    summary = visitor.page.locator(".mh-version-diff > summary").nth(1)
    summary.focus()
    visitor.page.keyboard.press("Enter")
    assert visitor.page.locator(".mh-version-diff").nth(1).get_attribute("open") is not None
    visitor.page.locator("input[name=a]").last.focus()
    visitor.page.keyboard.press("Space")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url("**/compare/**")
    expect(visitor.page.locator(".mh-sides + .mh-diff-box")).to_have_count(1)


def test_paper_shows_what_happened_and_no_buttons(
    visit: Visit, pages: dict[str, str], admin_user: Any
) -> None:
    """Printed, what is folded is open and what can only be clicked is gone; afterwards all is as it was."""
    visitor = visit(user=admin_user)
    visitor.open(pages["document"])
    closed = visitor.page.locator(".mh-version-diff:not([open])").count()
    visitor.page.emulate_media(media="print")
    visitor.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert visitor.page.locator(".mh-version-diff:not([open])").count() == 0
    for hidden in ("#header", ".mh-compare-bar", ".mh-pick", ".object-tools", ".mh-state-form"):
        assert not visitor.page.locator(hidden).first.is_visible(), hidden
    assert visitor.page.locator(".mh-diff").first.is_visible()
    visitor.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert closed
    assert visitor.page.locator(".mh-version-diff:not([open])").count() == closed


def test_a_slider_shows_each_state(visit: Visit, pages: dict[str, str], admin_user: Any) -> None:
    """Moved by the keyboard, it brings the document as that version left it, and says so to those who listen."""
    visitor = visit(user=admin_user)
    visitor.open(pages["document"])
    place = visitor.page.locator("[data-mh-state]")
    assert place.get_attribute("aria-live") == "polite"
    slider = visitor.page.get_by_role("slider")
    slider.focus()
    visitor.page.keyboard.press("Home")
    place.get_by_text("Fram").wait_for()
    visitor.page.keyboard.press("ArrowRight")
    place.get_by_text("Nansen").wait_for()
    expect(visitor.page.locator("output").first).to_have_text("2")


def test_everything_unfolds_and_folds_at_once(visit: Visit, pages: dict[str, str], admin_user: Any) -> None:
    """One button for all of a page's trees and changes."""
    visitor = visit(user=admin_user)
    visitor.open(pages["state"])
    folds = visitor.page.locator(".mh-state details")
    button = visitor.page.locator("[data-mh-unfold]")
    for is_open in (True, False):
        button.click()
        assert button.get_attribute("aria-pressed") == str(is_open).lower()
        assert {one.get_attribute("open") is not None for one in folds.all()} == {is_open}


def test_the_chart_comes_into_the_list(visit: Visit, harbour: dict[str, Any], admin_user: Any) -> None:
    """With a bar for each kind of change, named for those who cannot see it, and as a table."""
    visitor = visit(user=admin_user)
    visitor.open(page("changelist"))
    figure = visitor.page.locator(".mh-chart-box svg[role=img]")
    figure.wait_for()
    assert visitor.page.locator(".mh-chart-box rect.mh-bar-delete title").first.text_content()
    visitor.page.locator(".mh-chart-table summary").click()
    assert visitor.page.locator(".mh-chart-table tbody tr").count() >= 1
