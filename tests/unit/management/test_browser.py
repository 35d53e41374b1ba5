"""A browser is found wherever people have one; where there is none, that is said, and never a pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from management import browser
from management.browser import BrowserError, find_browser


def program(path: Path) -> Path:
    """A program that can be run, if only by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _nobodys_applications(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a Mac these tests do not find what is really installed there."""
    monkeypatch.setattr(browser, "_OF_ALL", tmp_path / "none")


def test_the_named_one_comes_first(tmp_path: Path) -> None:
    """CHROMIUM outweighs the PATH; one that cannot be run is no browser, whatever else there is."""
    named, other = program(tmp_path / "mine" / "browser"), program(tmp_path / "bin" / "chromium")
    path = {"PATH": str(other.parent), "HOME": str(tmp_path)}
    assert find_browser({**path, "CHROMIUM": str(named)}) == named
    assert find_browser(path) == other
    with pytest.raises(BrowserError, match="no program that can be run"):
        find_browser({**path, "CHROMIUM": str(tmp_path / "nothing")})


@pytest.mark.parametrize(
    "name", ["chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge"]
)
def test_one_on_the_path_is_found(tmp_path: Path, name: str) -> None:
    """Under the names that distributions give it."""
    found = program(tmp_path / "bin" / name)
    assert find_browser({"PATH": str(found.parent), "HOME": str(tmp_path)}) == found


@pytest.mark.parametrize(
    ("platform", "place"),
    [
        ("darwin", "Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
        (
            "darwin",
            "Library/Caches/ms-playwright/chromium-1255/chrome-mac/Chromium.app/Contents/MacOS/Chromium",
        ),
        ("win32", "Google/Chrome/Application/chrome.exe"),
        ("win32", "Microsoft/Edge/Application/msedge.exe"),
        ("win32", "ms-playwright/chromium-1255/chrome-win/chrome.exe"),
        ("linux", ".cache/ms-playwright/chromium-1255/chrome-linux64/chrome"),
    ],
)
def test_one_in_its_usual_place_is_found(tmp_path: Path, platform: str, place: str) -> None:
    """On each system, without a PATH, and Playwright's own where somebody has installed it."""
    found = program(tmp_path / place)
    environ = {"PATH": "", "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    assert find_browser(environ, platform) == found


@pytest.mark.parametrize(
    ("platform", "said"),
    [("linux", "apt-get install chromium"), ("win32", "Edge"), ("darwin", "brew install")],
)
def test_none_is_told_with_what_to_install(tmp_path: Path, platform: str, said: str) -> None:
    """In the words of each system."""
    with pytest.raises(BrowserError, match=said):
        find_browser({"PATH": "", "HOME": str(tmp_path)}, platform)
