"""The pages speak German, Spanish, French, Korean and Simplified Chinese, wholly, and as Django's own admin does."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import django
import polib
import pytest

from management.translations import (
    CONTEXT,
    LANGUAGES,
    PACKAGE,
    _in_python,
    catalogue_path,
    find_messages,
    problems,
    update,
)

SHORT = 12
"""Characters up to which a text is one that other catalogues may have, with another meaning."""


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_complete(language: str) -> None:
    """No text is missing, unsure, or of no source; placeholders are the same; the .mo is that of the .po."""
    assert list(problems(language)) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_django_says_is_said_alike(language: str) -> None:
    """A text without a context is one for the whole project: ours must not put another word into Django's mouth."""
    path = (
        Path(django.__file__).parent / "contrib" / "admin" / "locale" / language / "LC_MESSAGES" / "django.po"
    )
    of_django = {entry.msgid: entry.msgstr for entry in polib.pofile(str(path)) if entry.msgstr}
    ours = {
        entry.msgid: entry.msgstr
        for entry in polib.pofile(str(catalogue_path(language)))
        if not entry.msgctxt
    }
    shared = ours.keys() & of_django.keys()
    assert shared
    assert {text: ours[text] for text in shared} == {text: of_django[text] for text in shared}


def test_short_words_have_a_context() -> None:
    """ "Order" means something else in a shop: catalogues of all apps are one, so a short word says whose it is."""
    path = Path(django.__file__).parent / "contrib" / "admin" / "locale" / "de" / "LC_MESSAGES" / "django.po"
    of_django = {entry.msgid for entry in polib.pofile(str(path))}
    messages = [one for one in find_messages() if len(one.text) <= SHORT and "%(" not in one.text]
    assert {one.text for one in messages if one.context != CONTEXT} <= of_django


def test_every_call_is_understood() -> None:
    """Texts are constants and the functions known ones, so that none is left out in silence."""
    for path in PACKAGE.rglob("*.py"):
        if "gettext" not in (source := path.read_text(encoding="utf-8")):
            continue
        tree, known = ast.parse(source), {message.text for message in _in_python(path)}
        imported = {
            (name.asname or name.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
            for name in node.names
            if "gettext" in name.name
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in imported:
                count = 2 if node.func.id[:1] in "np" else 1
                texts = node.args[:count]
                assert all(isinstance(one, ast.Constant) for one in texts), (
                    f"{path.name}: {ast.unparse(node)}"
                )
                assert known & {one.value for one in texts if isinstance(one, ast.Constant)}, ast.unparse(
                    node
                )


def test_the_check_sees_what_is_wrong(tmp_path: Path) -> None:
    """A missing text, another placeholder, an unsure translation, one of no source, and an old .mo."""
    package = tmp_path / "package"
    path = catalogue_path("de", package)
    path.parent.mkdir(parents=True)
    (package / "texts.py").write_text(
        '_("one"), _("two %(count)d"), ngettext("%(count)d day", "%(count)d days", 2)'
    )
    assert update("de", package) == (3, 0)
    catalogue = polib.pofile(str(path))
    catalogue[0].msgstr = "eins"
    catalogue[1].msgstr = "zwei %(anzahl)d"
    catalogue[2].msgstr_plural = {0: "%(count)d Tag", 1: "%(count)d Tage"}
    catalogue[2].flags.append("fuzzy")
    catalogue.append(polib.POEntry(msgid="five", msgstr="fünf"))
    catalogue.save(str(path))
    (package / "texts.py").write_text(
        '_("one"), _("two %(count)d"), ngettext("%(count)d day", "%(count)d days", 2), _("six")'
    )
    found = "\n".join(problems("de", package))
    for said in (
        "missing: 'six'",
        "in no source: 'five'",
        "fuzzy: ",
        "other placeholders: 'two",
        "the .mo is not",
    ):
        assert said in found


def test_an_update_keeps_what_is_translated(tmp_path: Path) -> None:
    """It writes what is there already, to the byte, when no source has changed."""
    package = tmp_path / "package"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for language in LANGUAGES:
        path = catalogue_path(language, package)
        before = path.read_bytes(), path.with_suffix(".mo").read_bytes()
        assert update(language, package) == (0, 0)
        assert (path.read_bytes(), path.with_suffix(".mo").read_bytes()) == before
