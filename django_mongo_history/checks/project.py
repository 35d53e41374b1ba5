"""
System checks: every mistake in the settings that can be found before the first write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import mongoengine
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's names
from django.utils.module_loading import import_string

from django_mongo_history import conf, runtime
from django_mongo_history.checks.entries import TAG, TrackedEntry, imported, tracked_entries
from django_mongo_history.conf import Kind
from django_mongo_history.conversion.formats import find_format
from django_mongo_history.conversion.options import read_options
from django_mongo_history.documents import (
    field_names,
    is_document_class,
    is_identity,
    is_time_series,
    translate_path,
)
from django_mongo_history.errors import ConversionError

_MIDDLEWARE: Final = "django_mongo_history.middleware.HistoryMiddleware"
_AUTHENTICATION: Final = (
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.RemoteUserMiddleware",
)


@register(TAG)
def check_keys(**_: Any) -> list[CheckMessage]:
    """E001: a key that nobody knows, so that what was meant by it does not happen."""
    return _problems(Kind.UNKNOWN_KEY, "mongo_history.E001")


@register(TAG)
def check_values(**_: Any) -> list[CheckMessage]:
    """E002: a value that a key cannot have."""
    return _problems(Kind.WRONG_VALUE, "mongo_history.E002")


@register(TAG)
def check_entries(**_: Any) -> list[CheckMessage]:
    """E003: an entry of TRACKED_DOCUMENTS of the wrong shape, or a second one for a class."""
    return _problems(Kind.WRONG_ENTRY, "mongo_history.E003")


@register(TAG)
def check_classes(**_: Any) -> list[CheckMessage]:
    """E004: a dotted path that does not import. E005: one of something whose documents lie in no collection."""
    messages: list[CheckMessage] = []
    for spec in conf.load().tracked_documents:
        found = imported(spec.document)
        if isinstance(found, Exception):
            text = f"TRACKED_DOCUMENTS: {spec.document!r} cannot be imported: {found}"
            hint = "Give the dotted path of the module and the class, as in 'shop.documents.Order'."
            messages.append(Error(text, hint=hint, id="mongo_history.E004"))
        elif not is_document_class(found):
            text = f"TRACKED_DOCUMENTS: {spec.document!r} is {_kind_of(found)}"
            hint = "Name a concrete mongoengine Document; embedded documents are tracked with those that hold them."
            messages.append(Error(text, hint=hint, id="mongo_history.E005"))
    return messages


@register(TAG)
def check_paths(**_: Any) -> list[CheckMessage]:
    """E006: a path that is no field of the class. E007: hidden or untracked identity of a document."""
    return [message for tracked in tracked_entries() for message in _path_messages(tracked)]


@register(TAG)
def check_time_series(**_: Any) -> list[CheckMessage]:
    """E008: time-series collections know neither updates of a document nor transactions."""
    return [
        Error(
            f"TRACKED_DOCUMENTS: {tracked.spec.document!r} is a time-series class, which cannot be tracked",
            hint="Take it out: measurements are written once and are their own history.",
            id="mongo_history.E008",
        )
        for tracked in tracked_entries()
        if is_time_series(tracked.document_class)
    ]


@register(TAG)
def check_shadowed_fields(**_: Any) -> list[CheckMessage]:
    """W001: fields that an attribute of Version stands before, so that `version.field` is something else."""
    reserved = _version_attributes()
    messages: list[CheckMessage] = []
    for tracked in tracked_entries():
        for name in sorted(field_names(tracked.document_class) & reserved):
            text = f"{tracked.spec.document}: Version has an attribute {name!r} of its own, which shadows the field"
            hint = f"Read the field of a version with version[{name!r}]; or silence this check."
            messages.append(Warning(text, hint=hint, id="mongo_history.W001"))
    return messages


@register(TAG)
def check_attribute(**_: Any) -> list[CheckMessage]:
    """W002: a class that has something else where its history shall be."""
    attribute = conf.load().attribute
    wanted = {tracked.document_class: (tracked.spec.document, attribute) for tracked in tracked_entries()}
    return [
        Warning(
            f"{label} has something else named {name!r}, where its history was to be",
            hint="Set MONGO_HISTORY['ATTRIBUTE'] to another name, or use history_of(document).",
            id="mongo_history.W002",
        )
        for document_class, (label, name) in {**_registered(), **wanted}.items()
        if name in field_names(document_class) or _has_other(document_class, name)
    ]


@register(TAG)
def check_middleware(**_: Any) -> list[CheckMessage]:
    """W003: no HistoryMiddleware, so that versions have no user. E009: one that stands before authentication."""
    stack = list(getattr(django_settings, "MIDDLEWARE", None) or ())
    own = _positions(stack, _MIDDLEWARE)
    if not own:
        return [_missing_middleware()] if conf.load().tracked_documents else []
    authentication = [index for dotted in _AUTHENTICATION for index in _positions(stack, dotted)]
    if not authentication or own[0] > min(authentication):
        return []
    text = f"MIDDLEWARE: {stack[own[0]]!r} stands before {stack[min(authentication)]!r}"
    hint = "Put it after, so that the request has its user."
    return [Error(text, hint=hint, id="mongo_history.E009")]


@register(TAG)
def check_callables(**_: Any) -> list[CheckMessage]:
    """E011: a dotted path that names nothing that can be called, so that versions would not say who or why."""
    settings = conf.load()
    keys = ("get_user", "get_remote_addr", "get_extra")
    named = [(f"MONGO_HISTORY[{key.upper()!r}]", getattr(settings, key)) for key in (*keys, "admin_scope")]
    named += [
        (f"TRACKED_DOCUMENTS: {key!r} of {spec.document!r}", getattr(spec, key))
        for spec in settings.tracked_documents
        for key in keys
    ]
    return [
        Error(
            f"{place}: {path!r} cannot be called: {error}",
            hint="Give the dotted path of a function, or of a static or class method, that takes what is said of the key.",
            id="mongo_history.E011",
        )
        for place, path in named
        if isinstance(path, str) and (error := _not_called(path)) is not None
    ]


@register(TAG)
def check_conversions(**_: Any) -> list[CheckMessage]:
    """E014: an old history in CONVERSIONS of which no format or no option is known."""
    messages: list[CheckMessage] = []
    for number, entry in enumerate(conf.load().conversions):
        options = {name: value for name, value in entry.items() if name not in ("source", "document")}
        try:
            found = find_format(entry["source"])
            read_options(found.options, options, format_name=found.name)
        except ConversionError as error:
            text = f"MONGO_HISTORY['CONVERSIONS'][{number}]: {error}"
            hint = (
                "`manage.py history_convert --help` lists formats and options; documentation: converting.md."
            )
            messages.append(Error(text, hint=hint, id="mongo_history.E014"))
    return messages


def _problems(kind: Kind, identifier: str) -> list[CheckMessage]:
    return [
        Error(problem.message, hint=problem.hint, id=identifier)
        for problem in conf.problems()
        if problem.kind is kind
    ]


def _registered() -> dict[type[Any], tuple[str, str]]:
    """The classes that are tracked by now, those of `track()` too: dotted path, and where their history is to be."""
    if not runtime.is_configured():
        return {}
    current = runtime.current()
    return {
        tracked.document_class: (tracked.label, current.settings.attribute)
        for tracked in current.environment.registry
    }


def _not_called(path: str) -> Exception | None:
    try:
        conf.find_callable(path)
    except Exception as error:  # noqa: BLE001 - as above
        return error
    return None


def _kind_of(found: Any) -> str:
    if not isinstance(found, type):
        return "no class"
    if issubclass(found, mongoengine.EmbeddedDocument):
        return "an embedded document"
    return (
        "an abstract class"
        if issubclass(found, mongoengine.Document)
        else "no class of MongoEngine documents"
    )


def _path_messages(tracked: TrackedEntry) -> Iterator[CheckMessage]:
    spec = tracked.spec
    for option, paths in (
        ("untracked", spec.untracked),
        ("hidden", spec.hidden),
        ("renamed", spec.renamed.values()),
    ):
        for path in paths:
            place = f"TRACKED_DOCUMENTS: {option!r} of {spec.document!r}"
            try:
                translated = translate_path(tracked.document_class, path)
            except ValueError as error:
                hint = "Paths are names of fields joined by dots, through lists without an index, '*' for any key."
                yield Error(f"{place}: {error}", hint=hint, id="mongo_history.E006")
                continue
            if option != "renamed" and is_identity(tracked.document_class, translated):
                text = f"{place}: {path!r} is part of the primary key, the class name or the shard key"
                yield Error(text, hint="A history cannot be kept without it.", id="mongo_history.E007")


def _has_other(document_class: type[Any], attribute: str) -> bool:
    """Whether the class or a base of it has an attribute so named that is not the package's own."""
    found = [vars(base)[attribute] for base in document_class.__mro__ if attribute in vars(base)]
    return any(not type(value).__module__.startswith("django_mongo_history") for value in found)


def _version_attributes() -> frozenset[str]:
    found = imported("django_mongo_history.query.Version")
    return (
        frozenset(name for name in dir(found) if not name.startswith("_"))
        if isinstance(found, type)
        else frozenset()
    )


def _positions(stack: list[str], dotted: str) -> list[int]:
    """Where this middleware, or a class made from it, stands."""
    wanted = import_string(dotted)
    return [index for index, entry in enumerate(stack) if entry == dotted or _is_made_from(wanted, entry)]


def _is_made_from(wanted: type[Any], entry: str) -> bool:
    found = imported(entry)
    return isinstance(found, type) and issubclass(found, wanted)


def _missing_middleware() -> CheckMessage:
    return Warning(
        "MIDDLEWARE: HistoryMiddleware is missing, so versions that requests write tell neither user nor request",
        hint=f"Add {_MIDDLEWARE!r} after the authentication middleware.",
        id="mongo_history.W003",
    )
