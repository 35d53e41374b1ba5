"""
A browser for pages as people see them: an installed Chromium, Chrome or Edge, found, and driven by Playwright.

Playwright's own browsers are not downloaded; one that somebody has installed with `playwright install` is used too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from management.errors import ManagementError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VARIABLE = "CHROMIUM"
"""The environment variable that names the browser to use."""
_NAMES = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge",
    "microsoft-edge-stable", "msedge",
)  # fmt: skip
_OF_ALL = Path("/Applications")
_APPLICATIONS = ("Chromium", "Google Chrome", "Microsoft Edge")
_WINDOWS = (
    "Google/Chrome/Application/chrome.exe",
    "Chromium/Application/chrome.exe",
    "Microsoft/Edge/Application/msedge.exe",
)
_OWN_PROGRAMS = (
    "chrome-linux*/chrome",
    "chrome-mac*/Chromium.app/Contents/MacOS/Chromium",
    "chrome-win*/chrome.exe",
)
_INSTALL = {
    "darwin": "install Google Chrome, or Chromium (brew install --cask chromium)",
    "win32": "install Google Chrome or Microsoft Edge",
}
_ON_LINUX = (
    "install Chromium (Debian, Ubuntu: sudo apt-get install chromium; Fedora: sudo dnf install chromium)"
)


class BrowserError(ManagementError):
    """There is no browser: what to install."""


def find_browser(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """
    The program to run: what CHROMIUM names, else one on the PATH, in its usual place, or of Playwright's own.

    `environ`, `platform`: whose, as `os.environ` and `sys.platform` have them. Raises: BrowserError.
    """
    if named := environ.get(VARIABLE):
        if not os.access(named, os.X_OK):
            raise BrowserError(f"{VARIABLE}={named} is no program that can be run")
        return Path(named)
    found = next(_candidates(environ, platform), None)
    if found is None:
        advice = _INSTALL.get(platform, _ON_LINUX)
        raise BrowserError(f"no browser for the browser tests: {advice}, or name one in {VARIABLE}")
    return found


@contextlib.contextmanager
def running_browser(program: Path | None = None) -> Iterator[Browser]:
    """
    A browser without a window; every context of it is a user of its own. Ends with the block.

    While it runs its thread counts as one with an event loop, so Django's ORM needs DJANGO_ALLOW_ASYNC_UNSAFE there.
    """
    from playwright.sync_api import sync_playwright

    program = program or find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_arguments())
        try:
            yield browser
        finally:
            browser.close()


def _arguments() -> list[str]:
    """The same pixels on every machine, as far as that goes; and what a container needs."""
    arguments = ["--force-color-profile=srgb", "--font-render-hinting=none", "--disable-gpu"]
    if sys.platform == "linux":
        arguments.append("--disable-dev-shm-usage")  # containers have little of it
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # root has none
    return arguments


def _candidates(environ: Mapping[str, str], platform: str) -> Iterator[Path]:
    for name in _NAMES:
        if found := shutil.which(name, path=environ.get("PATH")):
            yield Path(found)
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())
    yield from filter(Path.is_file, _usual_places(environ, platform, home))
    yield from _own_of_playwright(environ, platform, home)


def _usual_places(environ: Mapping[str, str], platform: str, home: Path) -> Iterator[Path]:
    if platform == "darwin":
        for applications in (home / "Applications", _OF_ALL):
            for name in _APPLICATIONS:
                yield applications / f"{name}.app" / "Contents" / "MacOS" / name
    elif platform == "win32":
        for variable in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"):
            for name in _WINDOWS:
                if programs := environ.get(variable):
                    yield Path(programs) / name


def _own_of_playwright(environ: Mapping[str, str], platform: str, home: Path) -> Iterator[Path]:
    """Where `playwright install chromium` puts them, the newest first."""
    places = {
        "darwin": home / "Library" / "Caches" / "ms-playwright",
        "win32": Path(environ.get("LOCALAPPDATA") or home) / "ms-playwright",
    }
    usual = places.get(platform, home / ".cache" / "ms-playwright")
    for program in _OWN_PROGRAMS:
        pattern = f"chromium-*/{program}"
        yield from sorted(Path(environ.get("PLAYWRIGHT_BROWSERS_PATH") or usual).glob(pattern), reverse=True)


def main() -> int:
    """Say which browser the tests would use; 1 where there is none."""
    try:
        print(f"browser: {find_browser()}")
    except BrowserError as error:
        print(f"browser: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
