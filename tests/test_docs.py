"""
The documentation is true: its examples run, what they print is what they show, its links lead somewhere, its names exist.

How pages are written for this: a `python` block runs in the page's namespace, and a `text` block right behind it is what
it prints. A block that begins with a file's name (`# shop/documents.py`) is that file; `# settings.py` puts its settings in
force for the rest of the page. In a `console` block the history commands are run, and what follows them is what they say.
Every page knows the files of the tutorial. Ids and moments in shown output stand for those of the run, and `…` for
anything; an id or moment that was shown can be used again in a command. The database is called `shop`.
"""

from __future__ import annotations

import builtins
import importlib
import io
import pydoc
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import bson.errors
import django.core.exceptions
import django.core.management
import mongoengine
import mongoengine.errors
import pymongo.errors
import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.test import override_settings
from mongoengine.base.common import _document_registry

import django_mongo_history
import django_mongo_history.models
from django_mongo_history import conf, context, runtime, untrack
from django_mongo_history.checks import project
from django_mongo_history.conf.reading import ROWS
from django_mongo_history.conf.tracked import ENTRY_ROWS, read_tracked
from django_mongo_history.core.model import Operation
from django_mongo_history.query import Changeset, ClassHistory, History, Version

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
PACKAGE = ROOT / "django_mongo_history"

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
FILE_NAME = re.compile(r"# ([\w/]+\.py)$")
TOKEN = re.compile(
    r"(?P<id>\b[0-9a-f]{24}\b)"
    r"|(?P<moment>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?)"
    r"|(?P<time>\b\d\d:\d\d:\d\d(?:\.\d+)?)"
    r"|(?P<any>…)"
)
OF_KIND = {
    "id": r"([0-9a-f]{24})",
    "moment": r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?)",
    "time": r"(\d\d:\d\d:\d\d(?:\.\d+)?)",
    "any": r"(.*)",
}
WORDS = (
    "tracked document",
    "version",
    "operation",
    "state",
    "image",
    "patch",
    "link",
    "snapshot",
    "change",
    "changeset",
    "context",
    "capture, deliver, append",
    "as of",
    "revert",
    "take back",
    "derived version",
    "convert",
    "baseline",
    "hidden / untracked",
)
"""The vocabulary; the glossary is the user's copy of it."""
NOT_OURS = ("time travel", "whodunnit", "keyframe", "audited", "masked", "undo", "undoes", "undone", "delta")
"""Words that others use where the vocabulary has another one."""
FOREIGN_NAMES = {
    *("INSTALLED_APPS", "MIDDLEWARE", "TIME_ZONE", "DATABASES", "CACHES", "ROOT_URLCONF"),
    *(
        "MONGODB_URI",
        "TEST_MONGODB_URI",
        "MONGOD",
        "PATH",
        "SECONDS",
        "REMOTE_ADDR",
        "NULLIFY",
        "PULL",
        "CASCADE",
        "DENY",
    ),
    *(
        "ABSENT",
        "HIDDEN",
        "LABEL",
        "ID",
        "PK",
        "MOMENT",
        "ALIAS",
        "USER",
        "DIR",
        "COMMAND",
        "BSON",
        "E",
        "W",
        "JSON",
        "NAME",
        "VALUE",
        "SOURCE",
        "UNKNOWN",
    ),
}
FIELDS = {"name", "price", "cost", "views", "supplier"}
"""Of the tutorial's product; versions have them as attributes."""
NOT_FOR_USERS = {"target"}
"""`Version.target` is what plans of reverts are made of."""
FOREIGN_OPTIONS = {
    "--no-serve",
    "--celery",
    "--data",
    "--nodes",
    "--hook-type",
    "--database",
    "--ds",
    "--help",
    "--fail-level",
    *("--rounds", "--large", "--markdown", "--write"),
    *("--only", "--list", "--tag"),
}


@dataclass(frozen=True)
class Block:
    """A fenced block: what it holds and the line of its first line."""

    language: str
    body: str
    line: int
    shown: str | None = None

    @property
    def file(self) -> str | None:
        """The name of the file that a Python block is."""
        found = FILE_NAME.match(self.body.partition("\n")[0])
        return found.group(1) if found else None


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page; a `text` block right behind a `python` block is what that one prints."""
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    end = 0
    for found in FENCE.finditer(text):
        language, body = found["language"], found["body"]
        is_output = language == "text" and not text[end : found.start()].strip() and blocks
        if is_output and blocks[-1].language == "python" and blocks[-1].shown is None:
            last = blocks.pop()
            blocks.append(Block(last.language, last.body, last.line, body))
        else:
            blocks.append(Block(language, body, text.count("\n", 0, found.start("body")) + 1))
        end = found.end()
    return blocks


@dataclass
class Matcher:
    """Compares output with what a page shows; remembers which id or moment of the run a shown one stands for."""

    known: dict[str, str] = field(default_factory=dict)

    def check(self, shown: str, printed: str, *, where: str) -> None:
        wanted, got = _lines(shown), _lines(printed)
        for number, (one, other) in enumerate(zip(wanted, got, strict=False)):
            assert self._fits(one, other), (
                f"{where}, line {number + 1} of the output\n  shown:   {one}\n  printed: {other}\n\nall:\n{printed}"
            )
        assert len(wanted) == len(got), (
            f"{where}: {len(wanted)} lines are shown, {len(got)} printed\n\n{printed}"
        )

    def translate(self, text: str) -> str:
        """A command with the run's ids and moments in place of the shown ones."""
        return TOKEN.sub(lambda found: self.known.get(found.group(), found.group()), text)

    def _fits(self, shown: str, printed: str) -> bool:
        pattern, end, tokens = "", 0, []
        for found in TOKEN.finditer(shown):
            pattern += re.escape(shown[end : found.start()]) + OF_KIND[found.lastgroup or "any"]
            tokens.append((found.lastgroup, found.group()))
            end = found.end()
        fits = re.fullmatch(pattern + re.escape(shown[end:]), printed)
        if fits is None:
            return False
        for (kind, token), actual in zip(tokens, fits.groups(), strict=True):
            if kind == "id" and self.known.setdefault(token, actual) != actual:
                return False
            if kind in ("moment", "time"):
                self.known.setdefault(token, actual)
        return True


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").split("\n")]


class Page:
    """One page being run: its namespace, its files, the settings in force."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.matcher = Matcher()
        self.database = str(mongoengine.get_db().name)
        self.module = ModuleType("page")
        self._settings: list[Any] = []

    def run(self) -> Iterator[tuple[Block, str]]:
        """Every block that can be run, with what it printed."""
        for block in blocks_of(self.path):
            if block.language == "python":
                yield block, self.python(block)
            elif block.language == "console":
                yield from self._console(block)

    def python(self, block: Block) -> str:
        """Run a Python block."""
        if block.file == "settings.py" or _sets_settings(block.body):
            self._put_in_force(block)
            return ""
        if block.file is not None:
            self._make_module(block)
            return ""
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(self._compiled(block), self.module.__dict__)
        return self._shown(printed.getvalue())

    def _shown(self, printed: str) -> str:
        """Output with the name that the pages give the database."""
        return printed.replace(self.database, "shop")

    def _console(self, block: Block) -> Iterator[tuple[Block, str]]:
        for part in re.split(r"^(?=\$ )", block.body, flags=re.MULTILINE):
            command, _, shown = part.partition("\n")
            words = shlex.split(self.matcher.translate(command), comments=True)
            if words[:3] and words[0] == "$" and "manage.py" in words:
                name, *arguments = words[words.index("manage.py") + 1 :]
                if name.startswith("history_") and "--help" not in arguments:
                    yield Block("console", command, block.line, shown), self._shown(_called(name, arguments))

    def _make_module(self, block: Block) -> None:
        assert block.file is not None
        name = block.file.removesuffix(".py").replace("/", ".")
        package, _, _ = name.rpartition(".")
        if package and package not in sys.modules:
            sys.modules[package] = ModuleType(package)
        module = ModuleType(name)
        sys.modules[name] = module
        if package:
            setattr(sys.modules[package], name.rpartition(".")[2], module)
        exec(self._compiled(block), module.__dict__)

    def _put_in_force(self, block: Block) -> None:
        given: dict[str, Any] = {}
        exec(self._compiled(block), given)
        wanted = {name: given[name] for name in ("TRACKED_DOCUMENTS", "MONGO_HISTORY") if name in given}
        named = [
            entry if isinstance(entry, str) else entry["document"]
            for entry in wanted.get("TRACKED_DOCUMENTS", ())
        ]
        settings = override_settings(**wanted)
        if all(_is_there(name) for name in named):
            settings.enable()
            self._settings.append(settings)
            assert [message for message in _messages() if message.is_serious()] == []
        else:  # classes that only readers have: the shape can be checked all the same
            assert read_tracked(wanted.get("TRACKED_DOCUMENTS", []))[1] == []
            with override_settings(**{**wanted, "TRACKED_DOCUMENTS": []}):
                assert conf.problems() == []

    def _compiled(self, block: Block) -> Any:
        return compile("\n" * (block.line - 1) + block.body, str(self.path), "exec")

    def close(self) -> None:
        """Leave nothing tracked and no setting."""
        for tracked in list(runtime.current().environment.registry):
            with suppress(django_mongo_history.NotTrackedError):
                untrack(tracked.document_class)
        for settings in reversed(self._settings):
            settings.disable()


def _is_there(label: str) -> bool:
    module, _, name = label.rpartition(".")
    return hasattr(sys.modules.get(module), name)


def _sets_settings(body: str) -> bool:
    return re.match(r"(#.*\n)*(TRACKED_DOCUMENTS|MONGO_HISTORY) = ", body) is not None


def _messages() -> list[Any]:
    own = [project.check_keys, project.check_values, project.check_entries, project.check_classes]
    own += [
        project.check_paths,
        project.check_time_series,
        project.check_shadowed_fields,
        project.check_attribute,
    ]
    return [message for check in own for message in check()]


def _called(name: str, arguments: list[str]) -> str:
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            call_command(name, *arguments, stdout=said, stderr=said)
    except django.core.management.CommandError as error:
        said.write(f"CommandError: {error}\n")
    except SystemExit:
        pass
    return said.getvalue()


@pytest.fixture
def page(request: pytest.FixtureRequest, mongodb: Any, db: None) -> Iterator[Page]:
    """A page that can be run: an empty database, nothing tracked, the files of the tutorial."""
    classes, modules = dict(_document_registry), set(sys.modules)
    with override_settings(TRACKED_DOCUMENTS=[], MONGO_HISTORY={}):
        opened = Page(request.param)
        tutorial = Page(ROOT / "docs" / "tutorial.md")
        own = {block.file for block in blocks_of(opened.path)}
        for block in blocks_of(tutorial.path):
            if block.language == "python" and block.file and block.file not in own:
                tutorial.python(block)
        try:
            yield opened
        finally:
            opened.close()
            tutorial.close()
    _document_registry.clear()
    _document_registry.update(classes)
    for name in set(sys.modules) - modules:
        if not getattr(sys.modules[name], "__spec__", None):
            del sys.modules[name]
    assert context.current_changeset() is None


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_name, indirect=True)
def test_examples(page: Page) -> None:
    """What a page shows is what happens."""
    for block, printed in page.run():
        if block.shown is not None or printed:
            where = f"{_name(page.path)}:{block.line}"
            page.matcher.check(block.shown or "", printed, where=where)


@pytest.mark.parametrize("text", TEXTS, ids=_name)
def test_links(text: Path) -> None:
    """Every relative link leads to a file, and to a heading in it."""
    for target in LINK.findall(text.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        file = (text.parent / name).resolve() if name else text
        assert file.exists(), f"{_name(text)} links to {target}"
        if heading:
            assert heading in _headings(file), f"{_name(text)} links to {target}; there are {_headings(file)}"


def _headings(page: Path) -> set[str]:
    """The anchors of a page, as forges make them."""
    found = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_page_is_on_the_map() -> None:
    """The index leads to every page."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = set(LINK.findall(index))
    assert {page.name for page in PAGES if page.parent.name == "docs"} - {"index.md"} <= linked


def test_glossary() -> None:
    """The glossary has the words of the vocabulary, in its order, and every operation."""
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*(.*?)\*\* \|", glossary, re.MULTILINE)
    assert tuple(row for row in rows if row in WORDS) == WORDS
    assert {f"`{operation}`" for operation in Operation} <= set(re.findall(r"`\w+`", glossary))


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "glossary.md"], ids=_name)
def test_words(page: Path) -> None:
    """One word for one thing: what others call it stands in the glossary only."""
    prose = INLINE.sub("", FENCE.sub("", page.read_text(encoding="utf-8"))).lower()
    assert [word for word in NOT_OURS if re.search(rf"\b{word}\b", prose)] == []


def test_public_names_are_documented() -> None:
    """Whatever can be imported from the package, or asked of what it gives, stands in the documentation."""
    said = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    members = [
        name
        for owner in (History, ClassHistory, Changeset, Version)
        for name in vars(owner)
        if not name.startswith("_")
    ]
    missing = [
        name for name in [*django_mongo_history.__all__, *members] if not re.search(rf"\b{name}\b", said)
    ]
    assert set(missing) <= NOT_FOR_USERS


def _text(page: Path) -> str:
    """A page without the names of others: the first column of the tables for those who come from elsewhere."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^\| .*? \| ", "| ", text, flags=re.MULTILINE) if page.name == "coming-from.md" else text


def _inline_code(page: Path) -> list[str]:
    return INLINE.findall(FENCE.sub("", _text(page)))


def _words(page: Path) -> set[str]:
    return set(re.findall(r"[\w.\-/]+", " ".join(_inline_code(page))))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_errors_exist(page: Path) -> None:
    """No page names an error that nobody raises."""
    homes = [django_mongo_history, builtins, pymongo.errors, mongoengine.errors, bson.errors]
    homes += [django.core.exceptions, django.core.management]
    words = set(re.findall(r"\b[A-Z]\w*Error\b", _text(page)))
    internal = (ROOT / "tests" / "plugin.py").read_text(encoding="utf-8") + "".join(
        path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")
    )
    unknown = {word for word in words if not any(hasattr(home, word) for home in homes)}
    if page.name == "architecture.md":
        unknown = {word for word in unknown if f"class {word}" not in internal}
    assert unknown == set()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_settings_exist(page: Path) -> None:
    """No page names a setting that nobody reads."""
    known = {row.key for row in ROWS} | FOREIGN_NAMES | {"TRACKED_DOCUMENTS", "MONGO_HISTORY"}
    words = {word for code in _inline_code(page) for word in re.findall(r"\b[A-Z][A-Z_]+\b", code)}
    words -= {
        word for word in words if word.startswith("CELERY_") and word not in known
    }  # Celery's own, as Django's
    if page.name == "architecture.md":
        known |= {"FORMAT"}
    assert words - known == set()


def _options(command: str) -> set[str]:
    parser = load_command_class("django_mongo_history", command).create_parser("manage.py", command)
    return {option for action in parser._actions for option in action.option_strings}


def _own_commands() -> set[str]:
    return {name for name, app in get_commands().items() if app == "django_mongo_history"}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_and_options_exist(page: Path) -> None:
    """No page names a command or an option that there is not."""
    text = page.read_text(encoding="utf-8")
    own = _own_commands()
    functions = {"history_of", "history_url", "history_scope", "history_site"}
    assert set(re.findall(r"\bhistory_[a-z]+\b", text)) - own - functions == set()
    every = {option for command in own for option in _options(command)} | FOREIGN_OPTIONS
    assert {word for word in _words(page) if re.fullmatch(r"--[a-z][a-z\-]*", word)} - every == set()
    for block in blocks_of(page):
        for line in block.body.splitlines() if block.language == "console" else ():
            found = re.search(r"manage\.py (history_\w+)(.*)", line)
            if found:
                given = set(re.findall(r"(?<!\S)--[a-z][a-z\-]*", found.group(2)))
                assert given <= _options(found.group(1)), line


TASKS = {"django_mongo_history.deliver", "django_mongo_history.sweep"}
"""What Celery knows them by; `tests/integration/test_delivery_tasks.py` holds the names."""

CHECKS = "".join(module.read_text(encoding="utf-8") for module in (PACKAGE / "checks").glob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_modules_exist(page: Path) -> None:
    """No page names a module of the package, or a file of the repository, that there is not."""
    for word in _words(page):
        if word in TASKS:
            continue
        if word.startswith("django_mongo_history."):
            assert pydoc.locate(word.removesuffix(".")) is not None, word
        elif word.startswith("mongo_history."):
            assert word.removeprefix("mongo_history.") in CHECKS or word in _permissions()
        elif re.fullmatch(r"[\w/]+\.py", word) and page.name == "architecture.md":
            assert (PACKAGE / word).exists() or (ROOT / word).exists(), word


def _permissions() -> set[str]:
    """The permissions of the admin's pages, and the form of their names."""
    options = django_mongo_history.models.History._meta
    return {f"mongo_history.{codename}" for codename, _name in options.permissions}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_members_exist(page: Path) -> None:
    """What pages call with `h.`, `v.`, `c.` and `k.` is there."""
    owners = {"h": (History,), "v": (Version,), "c": (Changeset,), "k": (ClassHistory,)}
    for code in _inline_code(page):
        for letter, name in re.findall(r"(?<![\w.])([hvck])\.([a-z]\w*)", code):
            if letter == "v" and name in FIELDS:
                continue
            assert any(hasattr(owner, name) for owner in owners[letter]), code


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_imports_exist(page: Path) -> None:
    """What examples import from the package is public."""
    for block in blocks_of(page):
        for module, names in re.findall(
            r"^\s*from (django_mongo_history[\w.]*) import (.+)$", block.body, re.MULTILINE
        ):
            for name in re.findall(r"\w+", names.partition("#")[0]):
                assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.mark.parametrize("page", TEXTS, ids=_name)
def test_no_marks_are_left(page: Path) -> None:
    """Nothing that was to be filled in, and no place of one machine."""
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"<!-- [A-Z ]+ -->|TODO|/(?:work|home|root|Users)/", text) == []


def test_settings_page_names_every_key_elsewhere() -> None:
    """Every key that an entry of `TRACKED_DOCUMENTS` may have is explained on the page about tracking."""
    tracking = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
    assert [
        row.key for row in ENTRY_ROWS if f"`{row.key}`" not in tracking and f'"{row.key}"' not in tracking
    ] == []
