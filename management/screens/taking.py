"""The pictures themselves: every page in a window of one size, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from management.browser import running_browser
from management.screens.site import PASSWORD, USER, Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
HIGHEST = 1250
"""Pixels of a page that a picture shows from the top."""
QUALITY = 82


@dataclass(frozen=True, slots=True)
class Look:
    """How wide the window is, and what the files are."""

    width: int
    kind: str


def take_all(
    site: Site, program: Path, directory: Path, look: Look, *, only: str | None = None
) -> Iterator[Path]:
    """Take each page, light and dark; the files, as they come."""
    directory.mkdir(parents=True, exist_ok=True)
    with running_browser(program) as browser:
        for scheme in SCHEMES:
            context = _logged_in(browser, site, look, scheme)
            for name, path in site.paths.items():
                if only in (None, name):
                    yield _take(context, site.url + path, directory / f"{name}-{scheme}.{look.kind}", look)
            context.close()


def _logged_in(browser: Browser, site: Site, look: Look, scheme: Literal["light", "dark"]) -> BrowserContext:
    context = browser.new_context(
        viewport={"width": look.width, "height": 800},
        color_scheme=scheme,
        reduced_motion="reduce",
        timezone_id="UTC",
    )
    page = context.new_page()
    page.goto(f"{site.url}/admin/login/")
    page.fill("#id_username", USER)
    page.fill("#id_password", PASSWORD)
    page.click("[type=submit]")
    page.wait_for_url("**/admin/")
    page.evaluate("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
    page.close()
    return context


def _take(context: BrowserContext, url: str, path: Path, look: Look) -> Path:
    page = context.new_page()
    page.goto(url, wait_until="networkidle")
    height = min(int(page.evaluate("document.documentElement.scrollHeight")), HIGHEST)
    if look.kind == "png":
        page.set_viewport_size({"width": look.width, "height": height})
        page.screenshot(path=path)
    else:
        path.write_bytes(_webp(page, look.width, height))
    page.close()
    return path


def _webp(page: Page, width: int, height: int) -> bytes:
    """A fifth of a PNG's size; Playwright itself makes none."""
    page.set_viewport_size({"width": width, "height": height})
    session = page.context.new_cdp_session(page)
    made = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    return base64.b64decode(made["data"])
