"""
The filters of the list of all changes: a form over the query string, and the queries that it means.

Class, operation, user, changeset, document and dates have an index. Address, reason, changed path, and a user whom
only the versions themselves know by name, have none of their own: there a class or a range of dates bounds the search.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from bson import Binary, ObjectId, Regex, json_util
from bson.binary import UuidRepresentation
from bson.errors import BSONError
from django import forms
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist, ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext, pgettext_lazy

from django_mongo_history import context, documents
from django_mongo_history.admin.access import Access
from django_mongo_history.admin.rows import OPERATIONS
from django_mongo_history.core import values
from django_mongo_history.core.drift import names_ever
from django_mongo_history.core.model import Operation
from django_mongo_history.core.policy import Policy, is_hidden
from django_mongo_history.query.records import stores_of
from django_mongo_history.storage.base import Query

SEARCH_S: Final = 5.0
"""Seconds that the server may look for one page."""
DAYS: Final = 30
"""How far back a search goes that nothing else bounds."""
NAMES: Final = (
    "class", "id", "operation", "user", "changeset", "since", "until", "address", "reason", "path",
)  # fmt: skip
EARLIEST, LATEST = 1000, 9000
"""Years of moments that can be asked for: any time zone may be applied to them."""
_STORED: Final = (Operation.CREATE, Operation.UPDATE, Operation.DELETE, Operation.BASELINE)
_MILLISECOND: Final = timedelta(milliseconds=1)
_INT64: Final = 2**63
_NOT_JSON: Final = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, BSONError)
"""What reading extended JSON raises for a text that is none."""
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


class Day(forms.DateInput):
    """A date, chosen in the browser's own calendar."""

    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


class FilterForm(forms.Form):
    """The filters. `access` says which classes there are to choose from."""

    def __init__(self, data: Any, access: Access) -> None:
        super().__init__(data)
        self._access = access
        self.classes = {documents.class_name_of(one): one for one in access.classes()}
        any_one = [("", pgettext("history", "all"))]
        named = [(name, one.__name__) for name, one in self.classes.items()]
        operations = [(one.value, str(OPERATIONS[one])) for one in _STORED]
        self.fields.update(
            {
                "class": _choice(pgettext_lazy("history", "Class"), [*any_one, *named]),
                "id": _text(
                    pgettext_lazy("history", "Document id"),
                    gettext_lazy("as it is shown, or as extended JSON"),
                ),
                "operation": _choice(pgettext_lazy("history", "Operation"), [*any_one, *operations]),
                "user": _text(gettext_lazy("User"), pgettext_lazy("history", "name or key")),
                "changeset": _text(pgettext_lazy("history", "Changeset")),
                "since": forms.DateField(
                    required=False, label=pgettext_lazy("history", "From"), widget=Day()
                ),
                "until": forms.DateField(required=False, label=pgettext_lazy("history", "To"), widget=Day()),
                "address": _text(pgettext_lazy("history", "Address")),
                "reason": _text(pgettext_lazy("history", "Reason"), pgettext_lazy("history", "a part of it")),
                "path": _text(pgettext_lazy("history", "Changed path"), gettext_lazy("such as address.city")),
            }
        )

    def clean_changeset(self) -> ObjectId | None:
        given = self.cleaned_data["changeset"]
        if not given:
            return None
        if not ObjectId.is_valid(given):
            raise ValidationError(_("This is no id of a changeset: it has 24 hexadecimal digits."))
        return ObjectId(given)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        since, until = cleaned.get("since"), cleaned.get("until")
        for name in ("since", "until"):
            day = cleaned.get(name)
            if day and not EARLIEST <= day.year <= LATEST:
                self.add_error(name, _("This day is out of range."))
        if since and until and since > until:
            self.add_error("until", _("This day lies before the first one."))
        found = self.classes.get(cleaned.get("class") or "")
        if cleaned.get("path") and found is not None:
            try:
                documents.translate_path(found, cleaned["path"])
            except ValueError as error:
                self.add_error("path", str(error))
        return cleaned

    def filters(self) -> Filters:
        """What the form asks for. Only where it is valid."""
        given = self.cleaned_data
        return Filters(
            document_class=self.classes.get(given["class"]),
            document_id=given["id"],
            operation=Operation(given["operation"]) if given["operation"] else None,
            user=given["user"],
            changeset=given["changeset"],
            since=given["since"],
            until=given["until"],
            address=given["address"],
            reason=given["reason"],
            path=given["path"],
        )

    @property
    def is_used(self) -> bool:
        """Whether anything is asked for."""
        return self.is_valid() and any(self.cleaned_data.values())


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list shall show. Texts that are empty ask for nothing."""

    document_class: type[Any] | None = None
    document_id: str = ""
    operation: Operation | None = None
    user: str = ""
    changeset: ObjectId | None = None
    since: date | None = None
    until: date | None = None
    address: str = ""
    reason: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """`queries`: what any of them finds is found. `notes`: what has to be said beside the list."""

    queries: list[Query]
    notes: list[str] = field(default_factory=list)


def search_of(filters: Filters, access: Access) -> Search:
    """The queries that these filters mean, newest first, within the scope of the user."""
    notes: list[str] = []
    users = _user_keys(filters.user)
    after, before = _bounds(filters)
    base = Query(
        operation=filters.operation,
        changeset=filters.changeset,
        user_keys=tuple(users.keys) if filters.user else None,
        remote_addr=filters.address or None,
        reason_part=filters.reason or None,
        after=after,
        before=before,
        newest_first=True,
        max_time_s=SEARCH_S,
    )
    queries = [base]
    if filters.user and not users.is_known:
        queries.append(_bounded(replace(base, user_keys=None, user_label=filters.user), filters, notes))
    if filters.address or filters.reason or filters.path:
        queries = [_bounded(one, filters, notes) for one in queries]
    found = [replace(one, **place) for one in queries for place in _places(filters, access)]
    return Search(found, list(dict.fromkeys(notes)))


def too_long() -> str:
    """What to say when the server was stopped looking."""
    return _(
        "The search was stopped after %(seconds)d seconds. Choose a class, a document, or a shorter range of dates."
    ) % {"seconds": int(SEARCH_S)}


def _bounded(query: Query, filters: Filters, notes: list[str]) -> Query:
    if filters.document_class is not None or filters.since is not None:
        return query
    last = datetime.now(UTC) if query.before is None else query.before
    said = ngettext(
        "Searched in the last %(count)d day. Choose a class, or dates, to look further.",
        "Searched in the last %(count)d days. Choose a class, or dates, to look further.",
        DAYS,
    )
    notes.append(said % {"count": DAYS})
    return replace(query, after=last - timedelta(days=DAYS))


def _places(filters: Filters, access: Access) -> list[dict[str, Any]]:
    """What the queries say about where documents lie: one for all classes, and one for each that is limited further."""
    chosen = filters.document_class
    if chosen is None and access.scope.is_everything:
        return [_everywhere(filters, access)]
    classes = [chosen] if chosen is not None else access.classes()
    together: dict[str, list[str]] = {"collections": [], "classes": []}
    apart: list[dict[str, Any]] = []
    for one in classes:
        source = access.sources.of_class(one)
        ids, wanted = access.scope.ids_of(one), _ids(filters, one, source.codec_options)
        place = {"collections": source.namespaces, "classes": documents.stored_names(one)}
        if ids is not None and wanted is not None:
            places = {values.sort_key(key) for key in ids}
            wanted = tuple(key for key in wanted if values.sort_key(key) in places)
        elif ids is not None:
            wanted = tuple(ids)
        rules = source.policy.joined(access.scope.rules_for(one))
        touching = _touching(filters, one, source.tracked.renamed, rules)
        if wanted is not None or touching is not None:
            apart.append({**place, "document_ids": wanted, "touching": touching})
        else:
            together["collections"].extend(place["collections"])
            together["classes"].extend(place["classes"])
    if together["collections"]:
        apart.append({name: tuple(dict.fromkeys(found)) for name, found in together.items()})
    return apart


def _everywhere(filters: Filters, access: Access) -> dict[str, Any]:
    """
    Everything, classes that are not known any more with it. What is indexed by collection asks for all of them by name.
    """
    place: dict[str, Any] = {}
    wanted = _ids(filters, None, None)
    is_rare = filters.operation not in (None, Operation.UPDATE)
    if wanted is not None or (is_rare and filters.changeset is None and not filters.user):
        names = {name for source in stores_of(access.sources) for name in source.store.collections()}
        place = {"collections": tuple(sorted(names)), "document_ids": wanted}
    if filters.path:
        path = tuple(filters.path.split("."))
        every = [path, *(_shown(path, one.policy) for one in access.sources.environment.registry)]
        shortest = min(every, key=len)
        place["touching"] = (".".join(shortest),)
    return place


def _touching(
    filters: Filters, document_class: type[Any], renamed: Any, rules: Policy
) -> tuple[str, ...] | None:
    if not filters.path:
        return None
    try:
        names = documents.translate_path(document_class, filters.path)
    except ValueError:
        names = tuple(filters.path.split("."))
    return names_ever(".".join(_shown(names, rules)), renamed)


def _shown(names: tuple[str, ...], rules: Policy) -> tuple[str, ...]:
    """A path, or the hidden one above it: below that names may be values (of a dict), which may not be asked for."""
    return next((names[:count] for count in range(1, len(names)) if is_hidden(names[:count], rules)), names)


def _ids(filters: Filters, document_class: type[Any] | None, codec_options: Any) -> tuple[Any, ...] | None:
    """Everything that the text of an id may be: of the class's own type, and of each that is written so."""
    text = filters.document_id
    if not text:
        return None
    found = readings_of(text)
    if document_class is not None:
        try:
            key = documents.parse_id(document_class, text)
            found.insert(0, documents.exact_id(document_class, key, codec_options))
        except ValueError:
            pass  # the class may have had ids of another type once
    return tuple(found)


def readings_of(text: str) -> list[Any]:
    """
    The BSON values that a text may stand for: itself, a number, an ObjectId, a UUID, true or false, or what it says as
    extended JSON.
    """
    found: list[Any] = [text]
    if _NUMBER.fullmatch(text):
        number = float(text) if "." in text else int(text)
        found.extend([number] if abs(number) < _INT64 else [])
    if ObjectId.is_valid(text):
        found.append(ObjectId(text))
    if text in ("true", "false"):
        found.append(text == "true")
    try:
        parsed = UUID(text)
    except ValueError:
        pass
    else:
        styles = (UuidRepresentation.STANDARD, UuidRepresentation.PYTHON_LEGACY)
        found.extend(Binary.from_uuid(parsed, style) for style in styles)
    if text[:1] in '{["':
        with suppress(*_NOT_JSON):
            found.append(json_util.loads(text, json_options=json_util.CANONICAL_JSON_OPTIONS))
    return [one for one in found if _is_storable(one)]


def _is_storable(value: Any) -> bool:
    """Whether a document can have it as its id: what BSON can hold, and MongoDB takes no lists and no patterns."""
    if isinstance(value, (list, Regex, re.Pattern)):
        return False
    try:
        values.encode_value(value)
    except (BSONError, ValueError, OverflowError, TypeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Keys:
    """
    Keys that a user may have. `is_known`: whether a user of today has that name, or the text is a key; else it may be the
    name of a user who is gone.
    """

    keys: list[Any]
    is_known: bool


def _user_keys(text: str) -> _Keys:
    keys = [reading for reading in readings_of(text) if isinstance(reading, (str, int, ObjectId, Binary))]
    known = _user_named(text) if text else None
    if known is not None:
        found = context.user_ref(known)
        keys.extend([] if found is None else [found.pk])
    return _Keys(keys, known is not None or len(keys) > 1)


def _user_named(name: str) -> Any:
    """The user of today who is called so, or None."""
    try:
        users: Any = get_user_model()
        return users._default_manager.get_by_natural_key(name)  # noqa: SLF001 - Django's own name for it
    except (ImproperlyConfigured, AttributeError, ObjectDoesNotExist, ValueError):
        return None


def _bounds(filters: Filters) -> tuple[datetime | None, datetime | None]:
    """The days as exclusive bounds, in the time zone of the user."""
    after = None if filters.since is None else _midnight(filters.since) - _MILLISECOND
    before = None if filters.until is None else _midnight(filters.until + timedelta(days=1))
    return after, before


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min), timezone.get_current_timezone())


def _text(label: Any, hint: Any = "") -> forms.CharField:
    return forms.CharField(
        required=False, label=label, max_length=500, widget=forms.TextInput(attrs={"placeholder": hint})
    )


def _choice(label: Any, choices: list[tuple[str, Any]]) -> forms.ChoiceField:
    return forms.ChoiceField(required=False, label=label, choices=choices)
