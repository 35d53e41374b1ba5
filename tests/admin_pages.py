"""The admin's history pages as a test's browser: addresses by name, clients of users with some permissions, and laws that
hold for every page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

PREFIX = "admin:mongo_history_history_"


def page(name: str, *arguments: object) -> str:
    """The address of a page by the end of its name."""
    return reverse(f"{PREFIX}{name}", args=arguments)


def user_with(*permissions: str, name: str = "helper", is_staff: bool = True) -> User:
    """A member of staff with some of the history's permissions."""
    user = User.objects.create_user(name, password="secret", is_staff=is_staff)
    for codename in permissions:
        user.user_permissions.add(
            Permission.objects.get(codename=f"{codename}_history", content_type__app_label="mongo_history")
        )
    return user


def client_of(user: User) -> Client:
    """A client that is logged in, and that keeps to the CSRF check like a browser."""
    client = Client()
    client.force_login(user)
    return client


def text_of(client: Client, url: str, *, status: int = 200, **query: Any) -> str:
    """The page's HTML; every page that is shown obeys `check_page`."""
    response = client.get(url, query)
    assert response.status_code == status, (url, response.status_code)
    text = response.content.decode()
    if status == 200 and "html" in response["Content-Type"]:
        check_page(text)
    return text


class _Laws(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.broken: list[str] = []
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.controls: list[dict[str, str | None]] = []
        self._in_script = False
        self._in_label = 0

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._in_script = tag == "script"
        if tag == "script" and "src" not in found:
            self.broken.append("a script without src")
        if tag == "style" or "style" in found:
            self.broken.append(f"style on {tag}")
        self.broken.extend(f"{name} on {tag}" for name in found if name.startswith("on"))
        for name in ("href", "src", "action", "formaction"):
            if (found.get(name) or "").strip().lower().startswith(("javascript:", "data:")):
                self.broken.append(f"{name} of {tag} is {found[name]}")
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "label":
            self._in_label += 1
            self.labelled.add(found.get("for") or "")
        is_control = tag in ("input", "select", "textarea") and found.get("type") not in ("hidden", "submit")
        if is_control and not self._in_label and "aria-label" not in found:
            self.controls.append(found)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False
        if tag == "label":
            self._in_label -= 1

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.broken.append(f"an inline script: {data[:60]}")


def check_page(text: str) -> None:
    """A strict Content-Security-Policy allows all of it, ids are there once, and every control has a label."""
    laws = _Laws()
    laws.feed(text)
    assert laws.broken == []
    assert sorted(laws.ids) == sorted(set(laws.ids))
    own = [one for one in laws.controls if not str(one.get("id", "")).startswith(("nav-filter",))]
    assert [one for one in own if one.get("id") not in laws.labelled] == []


def links(text: str, class_name: str) -> list[str]:
    """The addresses of the links of a class."""
    found = re.findall(r"<a\b[^>]*>", text)
    return [
        match.group(1).replace("&amp;", "&")
        for one in found
        if re.search(rf'class="[^"]*\b{class_name}\b', one) and (match := re.search(r'href="([^"]*)"', one))
    ]


def hidden_fields(text: str, form_class: str) -> dict[str, list[str]]:
    """What a form of this class would send besides what is typed."""
    form = re.search(rf'<form[^>]*class="{form_class}".*?</form>', text, re.DOTALL)
    assert form, f"the page has no form {form_class}"
    found: dict[str, list[str]] = {}
    for one in re.findall(r'<input[^>]*type="hidden"[^>]*>', form.group()):
        name, value = (re.search(rf'{key}="([^"]*)"', one) for key in ("name", "value"))
        assert name
        assert value
        found.setdefault(name.group(1), []).append(
            value.group(1).replace("&quot;", '"').replace("&#x27;", "'")
        )
    return found


def confirm(client: Client, url: str, reason: str = "because", **query: Any) -> Any:
    """Look at a preview, then do what it says. The answer."""
    text = text_of(client, url, **{"preview": "1", **query})
    fields = hidden_fields(text, "mh-confirm-form")
    action = re.search(r'<form method="post" action="([^"]*)" class="mh-confirm-form"', text)
    assert action
    address = action.group(1).replace("&amp;", "&")
    return client.post(address, {**fields, "reason": reason, "confirm": "1"})
