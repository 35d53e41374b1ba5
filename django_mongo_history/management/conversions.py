"""Which old histories a command line means: named ones, those of the settings, and those that are found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser

from django_mongo_history import documents, runtime
from django_mongo_history.conversion.base import Format, Target
from django_mongo_history.conversion.formats import find_format, known_formats
from django_mongo_history.conversion.options import Option
from django_mongo_history.converter import HistoryConverter
from django_mongo_history.management import arguments

Given = dict[str, Any]

_RESERVED: Final = frozenset({"document", "using", "option", "source"})
_TAKEN: Final = frozenset(
    (
        *(
            "chunked",
            "chunk_size",
            "until_done",
            "update_from",
            "dry_run",
            "verify",
            "status",
            "restart",
            "json",
            "interactive",
        ),
        *(
            "version",
            "verbosity",
            "settings",
            "pythonpath",
            "traceback",
            "no_color",
            "force_color",
            "skip_checks",
            "help",
        ),
    )
)
"""Names under which the parser has values of its own."""


def add_options(parser: CommandParser) -> None:
    """A flag for each option of each known format, and `--option` for those of others."""
    for option, names in _options().values():
        text = f"{option.help} ({', '.join(names)})"
        if option.is_flag:
            parser.add_argument(
                option.flag, dest=_place(option.name), action="store_true", default=None, help=text
            )
        else:
            parser.add_argument(option.flag, dest=_place(option.name), metavar=option.metavar, help=text)
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="An option of a format that is given by its dotted path.",
    )


def given_options(options: Mapping[str, Any]) -> Given:
    """The options of formats that were given."""
    given = {
        name: options[_place(name)] for name in _options() if options.get(_place(name)) not in (None, False)
    }
    for text in options["option"]:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise CommandError(f"--option: expected NAME=VALUE, got {text!r}.")
        given[name] = value
    return given


def find_conversions(
    source: str | None, labels: Sequence[str], given: Given, *, using: str | None = None
) -> list[HistoryConverter]:
    """
    The conversions that are meant, each source of a class once.

    Raises: CommandError where there are none, where something named is unknown, and for options that none of them has.
    """
    if using is not None and using not in documents.connection_aliases():
        known = ", ".join(documents.connection_aliases()) or "none"
        raise CommandError(f"--using: there is no connection {using!r}. Connections: {known}.")
    classes = _classes(labels)
    if source is not None:
        wanted = list(_of_source(find_format(source), classes, given, using, is_named=bool(labels)))
    else:
        wanted = list(_of_all(classes, given, using))
        _refuse_left(given, [one for one, _class, _options in wanted])
    if not wanted:
        raise CommandError(_nothing(source, classes))
    found = [
        HistoryConverter(document_class, one, using=using, **options)
        for one, document_class, options in wanted
    ]
    for converter in found:
        converter.beside(frozenset(one.format.place for one in found))
    return found


_Wanted = tuple[type[Format], type[Any], Given]


def _of_source(
    found: type[Format], classes: Sequence[type[Any]], given: Given, using: str | None, *, is_named: bool
) -> Iterator[_Wanted]:
    """One format: for the classes that were named, or for those of which there is such a history."""
    configured = [(one, options) for name, one, options in _configured(classes) if find_format(name) is found]
    for document_class in classes:
        options = [options for one, options in configured if one is document_class]
        if is_named:
            yield from ((found, document_class, {**one, **given}) for one in options or [{}])
        else:
            for one in options or _discovered(found, document_class, using):
                yield found, document_class, {**one, **given}


def _of_all(classes: Sequence[type[Any]], given: Given, using: str | None) -> Iterator[_Wanted]:
    """What the settings name, and what is found besides."""
    named: set[tuple[type[Format], type[Any]]] = set()
    for name, document_class, options in _configured(classes):
        found = find_format(name)
        named.add((found, document_class))
        yield found, document_class, {**options, **_for(found, given)}
    for found in known_formats().values():
        for document_class in classes:
            if (found, document_class) not in named:
                for options in _discovered(found, document_class, using):
                    yield found, document_class, {**options, **_for(found, given)}


def _discovered(found: type[Format], document_class: type[Any], using: str | None) -> Iterator[Given]:
    target = Target(runtime.sources().of_class(document_class, using=using))
    yield from (dict(options) for options in found.discover(target))


def _configured(classes: Sequence[type[Any]]) -> Iterator[tuple[str, type[Any], Given]]:
    for entry in runtime.current().settings.conversions:
        rest = {name: value for name, value in entry.items() if name not in ("source", "document")}
        found = documents.find_label(entry["document"])
        if found is None or runtime.current().environment.registry.get(found) is None:
            raise CommandError(
                f"MONGO_HISTORY['CONVERSIONS']: {entry['document']} is no tracked class. Name one of TRACKED_DOCUMENTS."
            )
        if found in classes:
            yield entry["source"], found, rest


def _for(found: type[Format], given: Given) -> Given:
    names = {option.name for option in found.options}
    return {name: value for name, value in given.items() if name in names}


def _refuse_left(given: Given, formats: Iterable[type[Format]]) -> None:
    known = {option.name for one in formats for option in one.options}
    for name in given:
        if name not in known:
            raise CommandError(
                f"--{name.replace('_', '-')} is no option of any history that was found; name the SOURCE that it is of."
            )


def _classes(labels: Sequence[str]) -> list[type[Any]]:
    """The classes that are meant; with a class come those below it, so they are not told apart from it."""
    if labels:
        found = list(dict.fromkeys(map(arguments.parse_label, labels)))
    else:
        found = [tracked.document_class for tracked in runtime.current().environment.registry]
    return [one for one in found if not any(_comes_with(one, other) for other in found)]


def _comes_with(one: type[Any], other: type[Any]) -> bool:
    is_below = one is not other and issubclass(one, other)
    return is_below and documents.collection_name_of(one) == documents.collection_name_of(other)


def _nothing(source: str | None, classes: Sequence[type[Any]]) -> str:
    labels = (
        ", ".join(f"{one.__module__}.{one.__qualname__}" for one in classes)
        or "nothing, for no class is tracked"
    )
    if source is None:
        known = ", ".join(known_formats())
        return (
            f"No old history was found of {labels}. Looked for: {known}. Name the SOURCE and where it lies, or put it into "
            "MONGO_HISTORY['CONVERSIONS']."
        )
    return f"No history of the format {source} was found of {labels}. Name the class with --document, and where its rows lie."


def _options() -> dict[str, tuple[Option, list[str]]]:
    """Every option of the known formats, with the formats that have it."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for name, one in known_formats().items():
        for option in one.options:
            if option.name not in _RESERVED:
                found.setdefault(option.name, (option, []))[1].append(name)
    return found


def _place(name: str) -> str:
    """Where the parser puts it: under its own name, unless the command or Django has something else there."""
    return f"of_format_{name}" if name in _TAKEN else name
