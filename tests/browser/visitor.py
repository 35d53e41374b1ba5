"""Somebody with a browser of their own, who notes scripts that ran, messages of the console, and breaches of the policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Response

POLICY = "default-src 'self'"
_LISTENER = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample} at ${event.sourceFile}`);
});
"""


def strict_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: nothing but files of this site, so no script, style or picture in a page."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return answer


class Visitor:
    """One context of the browser with one page. `user`: logged in without the form."""

    def __init__(
        self,
        browser: Browser,
        site: str,
        *,
        user: User | None = None,
        width: int = 1280,
        height: int = 800,
        scheme: Any = "light",
        language: str = "en",
        has_javascript: bool = True,
    ) -> None:
        self.site = site
        self.troubles: list[str] = []
        self.context = browser.new_context(
            base_url=site,
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            locale=language,
            java_script_enabled=has_javascript,
            reduced_motion="reduce",
        )
        if has_javascript:
            self.context.add_init_script(_LISTENER)
        if user is not None:
            self._log_in(user)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("dialog", self._note_dialog)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", self._note_error)

    def open(self, path: str) -> Response:
        """Go there and wait until everything has come; the answer."""
        response = self.page.goto(path)
        self.page.locator("[aria-busy=true]").wait_for(state="detached")
        assert response is not None
        assert response.status == 200, path
        assert response.headers.get("content-security-policy") == POLICY
        return response

    def post(self, path: str, **fields: str) -> int:
        """A hand-made POST with the right token, as a form would send it; the status of the answer."""
        tokens = {cookie.get("name"): cookie.get("value") for cookie in self.context.cookies()}
        token = tokens.get(settings.CSRF_COOKIE_NAME) or ""
        form: dict[str, Any] = {**fields, "csrfmiddlewaretoken": token}
        headers = {"Origin": self.site, "Referer": self.site + path}
        return self.context.request.post(path, form=form, headers=headers, max_redirects=0).status

    def violations(self, *rules: str) -> list[str]:
        """What axe finds wrong with the page: each rule with the elements that break it; `rules`: these alone."""
        options = {
            "preload": False,
            "resultTypes": ["violations"],
            **({"runOnly": list(rules)} if rules else {}),
        }
        before = len(self.troubles)
        found = Axe().run(self.page, options=options).response["violations"]
        del self.troubles[before:]  # axe tries styles of its own, which the policy forbids
        return [f"{one['id']}: {node['html'][:160]} {_said(node)}" for one in found for node in one["nodes"]]

    def leave(self) -> None:
        self.context.close()

    def _log_in(self, user: User) -> None:
        client = Client()
        client.force_login(user)
        name = settings.SESSION_COOKIE_NAME
        self.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": self.site}])

    def _note_dialog(self, dialog: Dialog) -> None:
        self.troubles.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _note_console(self, message: ConsoleMessage) -> None:
        is_icon = message.location.get("url", "").endswith("/favicon.ico")
        if message.type == "error" and not is_icon:
            self.troubles.append(f"console at {self.page.url}: {message.text}")

    def _note_error(self, error: Error) -> None:
        self.troubles.append(f"a script failed at {self.page.url}: {error.message}")


def _said(node: dict[str, Any]) -> str:
    return "; ".join(one["message"] for one in [*node["any"], *node["all"], *node["none"]])[:200]
