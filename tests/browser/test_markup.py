"""Markup in every string that can hold some: it is shown as it was written, and none of it ever runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User

from django_mongo_history import changeset
from tests.admin_pages import page
from tests.browser.harbour import Ferry, Pier, every_page
from tests.browser.visitor import Visitor

Visit = Callable[..., Visitor]

MARKUP = [
    "<script>window.ran = 1; alert(1)</script>",
    '"><img src=x onerror="window.ran = 1; alert(2)">',
    "'><svg onload='window.ran = 1; alert(3)'>",
    "</textarea></title></select><script>window.ran = 1</script>",
    "{{ 7|add:7 }}{% debug %}",
]
SCRIPT_FOR_A_LINK = "javascript:alert(4)//"
STRANGERS = """() => [...document.querySelectorAll(
  "main script, main style, main img, main iframe, main svg:not([class]), main [onerror], main [onload], main [onclick]"
)].map((one) => one.outerHTML)"""
BAD_LINKS = """() => [...document.querySelectorAll("[href], [src], [action]")].filter((one) =>
  /^\\s*(javascript|data|vbscript):/i.test(one.getAttribute("href") || one.getAttribute("src") || one.getAttribute("action") || "")
).map((one) => one.outerHTML)"""


@pytest.mark.parametrize("markup", [" ".join(MARKUP), SCRIPT_FOR_A_LINK], ids=["markup", "for a link"])
def test_markup_never_runs(visit: Visit, markup: str) -> None:
    """In a value, a key, an id, a name of a user, an address, a reason, what stands with the changeset, and in filters."""
    user = User.objects.create_superuser(markup, password="secret", first_name=markup[:60])
    with changeset(user=user, remote_addr=markup, reason=markup, note=markup):
        Pier(name=markup, depth=1.0).save()
        ferry = Ferry(number=markup, name=markup, log=f"{markup} and so much more than that", secret=markup)
        ferry.route = {_key(markup): [markup, {_key(markup): markup}]}
        ferry.pier = Pier(name=markup)
        ferry.save()
        Ferry(number=2, name=markup).save()
        Ferry(number=f"{markup}!").save()
    with changeset(user=user, reason=markup) as mistake:
        ferry.name, ferry.log = f"{markup}{markup}", f"{markup} and a little less than that"
        ferry.route = {_key(markup): {_key(markup): markup}}
        ferry.save()
        Ferry.objects(number=2).update(set__name="b")
        Ferry.objects(number=f"{markup}!").delete()
    ferry.name = "changed since"
    ferry.save()

    visitor = visit(user=user)
    pages = every_page(markup, changeset=str(mistake), gone=f"{markup}!")
    for name in ("class", "id", "operation", "user", "since", "address", "reason", "path", "older"):
        pages[f"filter {name}"] = ""
    seen = 0
    for name, path in pages.items():
        if name.startswith("filter "):
            _open_filtered(visitor, name.removeprefix("filter "), markup)
        else:
            visitor.open(path)
            seen += visitor.page.get_by_text(markup).count() > 0
        visitor.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert visitor.page.evaluate("window.ran") is None, name
        assert visitor.page.evaluate(STRANGERS) == [], name
        assert visitor.page.evaluate(BAD_LINKS) == [], name
    assert seen > len(MARKUP)  # it is there to be read, too


def test_back_links_stay_here(visit: Visit, harbour: dict[str, Any], admin_user: User) -> None:
    """An address elsewhere, or a script in its place, makes no link at all."""
    visitor = visit(user=admin_user)
    address = every_page(changeset=harbour["mistake"])["version"]
    for elsewhere in ("https://example.com/", "//example.com/", "javascript:alert(1)", "/\\example.com"):
        visitor.open(f"{address}?back={elsewhere}")
        assert visitor.page.locator(".mh-back a").count() == 0
        assert visitor.page.evaluate(BAD_LINKS) == []
    visitor.open(f"{address}?back=/admin/mongo_history/history/?class=Ferry")
    visitor.page.locator(".mh-back a").click()
    visitor.page.wait_for_url(f"**{page('changelist')}?class=Ferry")


def _open_filtered(visitor: Visitor, name: str, markup: str) -> None:
    """The list with this in one of its filters; a place that is none has no page."""
    path = f"{page('changelist')}?{name}={quote(markup)}"
    if name == "older":
        assert visitor.context.request.get(path).status == 404
        return
    visitor.open(path)


def _key(markup: str) -> str:
    """As a key of a document, which MongoEngine lets have no dots and no dollars."""
    return markup.replace(".", "·").replace("$", "")
