"""
The texts of the package's pages in other languages: found in its sources, kept in `locale/`, compiled, and judged.

Done with Python alone, so that no GNU gettext is needed: `ast` reads the sources, Django's own `templatize` the
templates, polib the catalogues.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polib

PACKAGE = Path(__file__).resolve().parent.parent / "django_mongo_history"
LANGUAGES = ("de", "es", "fr", "ko", "zh_Hans")
"""As Django names their directories."""
PLURALS = {
    "de": "nplurals=2; plural=(n != 1);",
    "es": "nplurals=2; plural=(n != 1);",
    "fr": "nplurals=2; plural=(n > 1);",
    "ko": "nplurals=1; plural=0;",
    "zh_Hans": "nplurals=1; plural=0;",
}
CONTEXT = "history"
"""What stands with short words, so that "Order" is not taken from a shop's catalogue, nor a shop's from here."""
_CALLS = {
    "_": ("text",),
    "gettext": ("text",),
    "gettext_lazy": ("text",),
    "ngettext": ("text", "plural"),
    "ngettext_lazy": ("text", "plural"),
    "pgettext": ("context", "text"),
    "pgettext_lazy": ("context", "text"),
}
_STRING = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_IN_TEMPLATE = re.compile(rf"\b([np]?gettext)\(\s*u?{_STRING}\s*(?:,\s*u?{_STRING}\s*(?:,\s*count\s*)?)?\)")
_PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]|%%")


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """A text, its plural and its context ("" for none), and where it stands first: a path below the package."""

    text: str
    plural: str = ""
    context: str = ""
    place: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What two that are alike have in common."""
        return self.context, self.text, self.plural


def find_messages(package: Path = PACKAGE) -> list[Message]:
    """Every text of the package that is to be translated, each once, in the order of their places."""
    found: dict[tuple[str, str, str], Message] = {}
    for path in sorted([*package.rglob("*.py"), *package.rglob("templates/**/*.html")]):
        place = path.relative_to(package).as_posix()
        for message in _in_python(path) if path.suffix == ".py" else _in_template(path):
            found.setdefault(message.key, replace(message, place=place))
    return list(found.values())


def catalogue_path(language: str, package: Path = PACKAGE) -> Path:
    return package / "locale" / language / "LC_MESSAGES" / "django.po"


def update(language: str, package: Path = PACKAGE) -> tuple[int, int]:
    """Bring a catalogue to the sources and compile it: how many texts are missing in it, and how many have gone."""
    import polib

    path = catalogue_path(language, package)
    old = {_key(entry): entry for entry in polib.pofile(str(path))} if path.is_file() else {}
    made = _empty(language)
    messages = find_messages(package)
    for message in messages:
        made.append(_entry(message, old.get(message.key), language))
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(str(path))
    made.save_as_mofile(str(path.with_suffix(".mo")))
    missing = sum(1 for entry in made if not entry.translated())
    return missing, len(old.keys() - {message.key for message in messages})


def problems(language: str, package: Path = PACKAGE) -> Iterator[str]:
    """What is wrong with a catalogue: texts that are missing, unsure or foreign, other placeholders, an old .mo."""
    import polib

    path = catalogue_path(language, package)
    entries = {_key(entry): entry for entry in polib.pofile(str(path))}
    wanted = {message.key for message in find_messages(package)}
    yield from (f"missing: {text!r}" for _context, text, _plural in sorted(wanted - entries.keys()))
    yield from (f"in no source: {text!r}" for _context, text, _plural in sorted(entries.keys() - wanted))
    for entry in entries.values():
        yield from _problems_of(entry, language)
    compiled = {_key(entry): _translations(entry) for entry in polib.mofile(str(path.with_suffix(".mo")))}
    if compiled != {key: _translations(entry) for key, entry in entries.items() if entry.translated()}:
        yield "the .mo is not that of the .po: python -m management messages"


def _problems_of(entry: polib.POEntry, language: str) -> Iterator[str]:
    texts = _translations(entry)
    if entry.fuzzy:
        yield f"fuzzy: {entry.msgid!r}"
    if not texts or not all(texts):
        yield f"not translated: {entry.msgid!r}"
        return
    count = int(PLURALS[language].partition("nplurals=")[2][0])
    if entry.msgid_plural and len(texts) != count:
        yield f"{len(texts)} plurals, not {count}: {entry.msgid!r}"
    # The number itself may be left to the word where there is but one: "one field" for "%(count)d field".
    own = [_placeholders(one) for one in (entry.msgid, entry.msgid_plural) if one]
    for text in texts:
        if _placeholders(text) not in own:
            yield f"other placeholders: {entry.msgid!r}: {text!r}"
        if (text[:1].isspace(), text[-1:].isspace()) != (
            entry.msgid[:1].isspace(),
            entry.msgid[-1:].isspace(),
        ):
            yield f"other spaces at its ends: {entry.msgid!r}: {text!r}"


def _placeholders(text: str) -> list[str]:
    return sorted(found.group() for found in _PLACEHOLDER.finditer(text))


def _translations(entry: polib.POEntry) -> list[str]:
    if entry.msgid_plural:
        return [entry.msgstr_plural[number] for number in sorted(entry.msgstr_plural)]
    return [entry.msgstr]


def _key(entry: polib.POEntry) -> tuple[str, str, str]:
    return entry.msgctxt or "", entry.msgid, entry.msgid_plural or ""


def _entry(message: Message, old: polib.POEntry | None, language: str) -> polib.POEntry:
    import polib

    entry = polib.POEntry(
        msgid=message.text, msgctxt=message.context or None, occurrences=[(message.place, "")]
    )
    if _PLACEHOLDER.search(message.text + message.plural):
        entry.flags.append("python-format")
    if message.plural:
        entry.msgid_plural = message.plural
        count = int(PLURALS[language].partition("nplurals=")[2][0])
        entry.msgstr_plural = dict(old.msgstr_plural) if old else dict.fromkeys(range(count), "")
    elif old:
        entry.msgstr = old.msgstr
    if old:
        entry.comment = old.comment
        entry.tcomment = old.tcomment
    return entry


def _empty(language: str) -> polib.POFile:
    """A catalogue without a date, so that nothing changes where no text does."""
    import polib

    made = polib.POFile(wrapwidth=100)
    made.metadata = {
        "Project-Id-Version": "django-mongo-history",
        "Language": language,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": PLURALS[language],
    }
    return made


def _in_python(path: Path) -> Iterator[Message]:
    text = path.read_text(encoding="utf-8")
    if "_(" not in text and "gettext" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
            names = _CALLS[node.func.id]
            texts = [_constant(one) for one in node.args[: len(names)]]
            if len(texts) == len(names) and all(texts):
                yield Message(**dict(zip(names, texts, strict=True)))


def _in_template(path: Path) -> Iterator[Message]:
    from django.utils.translation.template import templatize

    for name, *found in _IN_TEMPLATE.findall(templatize(path.read_text(encoding="utf-8"))):
        texts = [ast.literal_eval(one) for one in found if one]
        yield Message(**dict(zip(_CALLS[name], texts, strict=True)))


def _constant(node: Any) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
