"""
Take the pictures of the admin's history pages that the docs show: each page, light and dark, with real airports.

Everything happens in places of its own: a new MongoDB, a new SQLite file, a site on a free port. The days are made up,
so that the pictures stay alike; the releases are real.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

EXTRA = "test"
IMAGES = Path("docs") / "images"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m management screenshots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--directory", type=Path, default=IMAGES, metavar="DIR", help="where they go (default: docs/images)"
    )
    parser.add_argument("--only", metavar="NAME", help="one page alone, such as admin-changes")
    parser.add_argument("--png", action="store_true", help="as PNG, for looking at; the docs have WebP")
    parser.add_argument(
        "--language", default="en", metavar="CODE", help="of the pages (default: %(default)s)"
    )
    parser.add_argument("--width", type=int, default=1200, help="of the window (default: %(default)s)")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    from management.browser import find_browser
    from management.screens.site import running_site
    from management.screens.taking import Look, take_all

    program = find_browser()
    look = Look(width=options.width, kind="png" if options.png else "webp")
    with running_site(language=options.language) as site:
        for path in take_all(site, program, options.directory, look, only=options.only):
            print(f"{path}  {path.stat().st_size / 1024:.0f} KB", flush=True)
    return 0
