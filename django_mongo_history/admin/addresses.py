"""
Where the pages are: documents and versions as parts of addresses, and back. Ids of any BSON type survive both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from bson.errors import BSONError
from django.contrib.admin.utils import quote, unquote
from django.http import HttpRequest, QueryDict
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from django_mongo_history import documents, runtime
from django_mongo_history.context import UNSET
from django_mongo_history.core import values
from django_mongo_history.models import History
from django_mongo_history.reading import Source

EXACT: Final = "bson:"
"""Begins a key that stands as the bytes of its BSON, since its text alone would not lead back to it."""

OPTIONS: Final = History._meta  # noqa: SLF001 - Django's own name for it
PREFIX: Final = f"{OPTIONS.app_label}_{OPTIONS.model_name}"
"""What the names of all pages begin with: `admin:mongo_history_history_changelist`."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the pages in one admin site; `site` is the name of that site."""

    site: str = "admin"

    def of(self, page: str, *arguments: str, **query: Any) -> str:
        """The address of a page by the end of its name; query parameters that are empty or None are left out."""
        path = reverse(f"admin:{PREFIX}_{page}", args=arguments, current_app=self.site)
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return f"{path}?{urlencode(given, doseq=True)}" if given else path

    def document(
        self, source: Source, document_id: Any, page: str = "document", *more: str, **query: Any
    ) -> str:
        """The address of a page about one document; `document_id` as it lies in the database."""
        name, key = name_of(source), key_text(source, document_id)
        elsewhere = None if source.namespace in today(source) else source.namespace
        return self.of(page, quote(name), quote(key), *more, **{"in": elsewhere, **query})


def history_url(
    subject: Any,
    pk: Any = UNSET,
    *,
    site: str = "admin",
    using: str | None = None,
    collection: str | None = None,
) -> str:
    """
    The address of a document's history page: of an instance, or of a class and a primary key, deleted or not.

    `site`: the name of the admin site. `using` and `collection` as in `history_of`.
    Raises: NotTrackedError; ValueError for an instance without a primary key, or a key that the class cannot have;
    NoReverseMatch where the admin has no history pages.
    """
    sources = runtime.sources()
    if isinstance(subject, type):
        if pk is UNSET:
            raise ValueError(f"history_url(): which document of {subject.__name__}? Give its primary key")
        source, document_class, key = (
            sources.of_class(subject, using=using, collection=collection),
            subject,
            pk,
        )
    else:
        source = sources.of_instance(subject, using=using, collection=collection)
        document_class, key = type(subject), documents.primary_key_of(subject) if pk is UNSET else pk
    if key is None:
        raise ValueError("history_url(): the document has no primary key yet, so it has no history")
    return Addresses(site).document(source, documents.exact_id(document_class, key, source.codec_options))


def name_of(source: Source) -> str:
    """The name by which a class stands in addresses: the one that it is stored under."""
    found = source.tracked.document_class
    return documents.class_name_of(found) if documents.is_document_class(found) else source.tracked.label


def today(source: Source) -> tuple[str, ...]:
    """The namespaces in which the documents of the class lie without being asked for; none of an unknown class."""
    found = source.tracked.document_class
    registry = source.environment.registry
    if not documents.is_document_class(found) or registry.get(found) is None:
        return ()
    return runtime.sources().of_class(found).namespaces


def key_text(source: Source, document_id: Any) -> str:
    """An `_id` as text that leads back to exactly this value."""
    text = str(document_id)
    is_plain = bool(text.strip(". ")) and not text.startswith(EXACT)
    found = source.tracked.document_class
    if is_plain and documents.is_document_class(found):
        try:
            read = documents.exact_id(found, documents.parse_id(found, text), source.codec_options)
        except ValueError:
            pass
        else:
            if values.same(read, document_id):
                return text
    kind, value = values.encode_value(document_id)
    return f"{EXACT}{kind:02x}{value.hex()}"


def read_key(source: Source, text: str) -> Any:
    """The `_id` of a part of an address. Raises: ValueError for what is none."""
    if text.startswith(EXACT):
        encoded = bytes.fromhex(text.removeprefix(EXACT))
        if not encoded:
            raise ValueError("an id without a type")
        try:
            return values.decode_value(encoded[0], encoded[1:])
        except (BSONError, IndexError, KeyError, OverflowError) as error:
            raise ValueError(f"{text!r} is no id: {error}") from error
    found = source.tracked.document_class
    if not documents.is_document_class(found):
        raise ValueError(f"{text!r}: ids of an unknown class stand with their type")
    return documents.exact_id(found, documents.parse_id(found, text), source.codec_options)


def unquoted(text: str) -> str:
    """A part of an address as it was before it was put there."""
    return str(unquote(text))


def back_of(request: HttpRequest) -> str:
    """Where the page was come from, if that is a path of this very site; else nothing."""
    wanted = request.GET.get("back") or request.POST.get("back") or ""
    # Browsers drop tabs and line ends, before two slashes become a host; not every Django knows.
    is_plain = wanted.startswith("/") and wanted.isprintable()
    is_local = is_plain and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_local else ""


def without(query: QueryDict, *names: str, **instead: str) -> str:
    """The query string without these parameters, and with others in their place."""
    left = query.copy()
    for name in names:
        left.pop(name, None)
    for name, value in instead.items():
        left[name] = value
    return left.urlencode()
