"""
Bring the translations of the package's pages to its sources, and compile them; say what is missing.

A new language is one more name in `management/translations.py`. Nothing but Python is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

EXTRA = "test"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m management messages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, say what is wrong")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    """0 where every language has every text."""
    from management.translations import LANGUAGES, catalogue_path, problems, update

    found = 0
    for language in LANGUAGES:
        if not options.check:
            _missing, gone = update(language)
            print(f"{catalogue_path(language).parent}: written, {gone} texts taken out that no source has")
        for problem in problems(language):
            found += 1
            print(f"{language}: {problem}")
    print(f"{len(LANGUAGES)} languages, {found} problems")
    return 1 if found else 0
