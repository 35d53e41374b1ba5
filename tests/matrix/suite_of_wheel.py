"""
What the built wheel holds. Run by the row `wheel` of `python -m management matrix` from a copy of `tests/`.

Not named `test_*.py`, so that the suite of the checkout, where this must fail, does not collect it.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module, metadata
from pathlib import Path

from django.core.management import get_commands

import django_mongo_history

PACKAGE = Path(django_mongo_history.__file__).parent
COPY = Path(__file__).parents[2]
FILES = {str(path) for path in metadata.files("django-mongo-history") or ()}


def test_the_package_is_the_installed_one() -> None:
    """Nothing of the sources lies beside the tests."""
    assert Path(sys.prefix) in PACKAGE.parents
    assert not (COPY / "django_mongo_history").exists()


def test_the_types_are_in_it() -> None:
    assert "django_mongo_history/py.typed" in FILES
    assert (PACKAGE / "py.typed").is_file()


def test_the_commands_are_in_it() -> None:
    """Django finds them where the wheel put them."""
    found = {name for name, app in get_commands().items() if app == "django_mongo_history"}
    assert found >= {"history_baseline", "history_indexes", "history_log", "history_revert"}


def test_the_pages_of_the_admin_are_in_it() -> None:
    """Templates, styles and scripts, and the compiled texts of each language."""
    for part in (
        "templates/admin/mongo_history/changes.html",
        "static/mongo_history/history.css",
        "static/mongo_history/history.js",
    ):
        assert (PACKAGE / part).is_file(), part
    languages = {path.parents[1].name for path in (PACKAGE / "locale").glob("*/LC_MESSAGES/django.mo")}
    assert languages == {"de", "es", "fr", "ko", "zh_Hans"}


def test_nothing_else_is_in_it() -> None:
    """Neither tests nor the test project nor this repository's commands: top-level names would be anybody's."""
    tops = {name.partition("/")[0] for name in FILES}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"django_mongo_history"}


def test_the_licence_is_in_it() -> None:
    assert [name for name in FILES if name.endswith(".dist-info/licenses/LICENSE")]


def test_every_module_can_be_imported() -> None:
    """None is missing that another one needs."""
    names = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "django_mongo_history.")]
    assert len(names) > 50
    for name in names:
        import_module(name)
