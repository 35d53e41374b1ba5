"""
BSON values as HTML: each with its exact type, documents and lists as trees that fold. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import bson
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.datetime_ms import DatetimeMS
from bson.timestamp import Timestamp
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from django_mongo_history.core import elements, values
from django_mongo_history.core.model import ABSENT, HIDDEN

LONGEST_TEXT: Final = 10_000
"""Characters of one value that a page shows."""
MOST_NODES: Final = 2_000
"""Values of one tree that a page shows."""
_LONGEST_LINE: Final = 60
_BYTES_SHOWN: Final = 64
_OPEN_BELOW: Final = 12
"""Up to how many fields a document that lies on the page's top level stands open."""

_RAW_KINDS: Final = {
    0x01: "double", 0x02: "string", 0x03: "object", 0x04: "array", 0x05: "binData", 0x06: "undefined", 0x07: "objectId",
    0x09: "date", 0x0B: "regex", 0x0C: "dbPointer", 0x0D: "javascript", 0x0E: "symbol", 0x0F: "javascriptWithScope",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """One value as text, and its BSON type by MongoDB's own name for it."""

    text: str
    kind: str


def shown(value: Any) -> Shown:  # noqa: C901, PLR0911, PLR0912 - a table of types, one line each
    """A value that holds no others."""
    match value:
        case None:
            return Shown("null", "null")
        case bool():
            return Shown("true" if value else "false", "bool")
        case Int64():
            return Shown(str(int(value)), "long")
        case int():
            return Shown(str(value), "int" if -(2**31) <= value < 2**31 else "long")
        case float():
            return Shown(_double(value), "double")
        case Code():
            return Shown(str(value), "javascript" if value.scope is None else "javascriptWithScope")
        case str():
            return Shown(value, "string")
        case ObjectId():
            return Shown(str(value), "objectId")
        case Decimal128():
            return Shown(str(value), "decimal")
        case Binary() | bytes():
            return _binary(value)
        case datetime() | DatetimeMS():
            return Shown(_moment(value), "date")
        case Timestamp():
            return Shown(f"{value.time}, {value.inc}", "timestamp")
        case Regex():
            return Shown(f"/{_text(value.pattern)}/{_flags(value.flags)}", "regex")
        case DBRef():
            return Shown(
                ", ".join(str(one) for one in (value.collection, value.id, value.database) if one), "dbRef"
            )
        case MinKey():
            return Shown("MinKey", "minKey")
        case MaxKey():
            return Shown("MaxKey", "maxKey")
        case values.RawValue():
            return Shown(_hexadecimal(value.value), _RAW_KINDS.get(value.kind, f"0x{value.kind:02x}"))
        case _:
            return Shown(str(value), type(value).__name__)


def line(value: Any, *, longest: int = _LONGEST_LINE) -> str:
    """A value in a few words, for summaries: plain text, to be escaped by the template."""
    if value is ABSENT:
        return "–"
    if value is HIDDEN:
        return pgettext("history", "(hidden)")
    if isinstance(value, Mapping):
        return _fields(len(value))
    if isinstance(value, list):
        return _elements(len(value))
    text = " ".join(shown(value).text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def scalar(value: Any, text: SafeString | None = None) -> SafeString:
    """A value that holds no others, with its type; `text` is it with its changed words marked."""
    found = shown(value)
    inner = cut(found.text) if text is None else text
    return format_html(
        '<span class="mh-value mh-{}">{}</span> <span class="mh-type">{}</span>',
        found.kind,
        inner,
        found.kind,
    )


def cut(text: str) -> SafeString:
    """A text, or as much of it as a page shows, and how much is missing."""
    if len(text) <= LONGEST_TEXT:
        return format_html("{}", text)
    rest = len(text) - LONGEST_TEXT
    more = ngettext("… and %(count)d more character", "… and %(count)d more characters", rest) % {
        "count": rest
    }
    return format_html('{}<span class="mh-more">{}</span>', text[:LONGEST_TEXT], more)


def tree(value: Any, *, is_open: bool = False) -> SafeString:
    """A value of any kind; documents and lists fold, and are open at the top where `is_open` says so."""
    return _Tree(MOST_NODES).of(value, is_open=is_open)


def side(value: Any) -> SafeString:
    """One side of a change."""
    if value is ABSENT:
        return format_html('<span class="mh-absent">{}</span>', pgettext("history", "(not there)"))
    if value is HIDDEN:
        return format_html('<span class="mh-hidden">{}</span>', pgettext("history", "(hidden)"))
    return tree(value, is_open=isinstance(value, (Mapping, list)) and len(value) <= _OPEN_BELOW)


def state_tree(state: bytes | None) -> SafeString | None:
    """A whole document; None where there is none. One with a key twice at its top level, too."""
    if state is None:
        return None
    fields = list(_top(state))
    room = _Tree(MOST_NODES)
    return room.body([(name, value) for name, value in fields], "mh-document")


def _top(state: bytes) -> Iterator[tuple[str, Any]]:
    try:
        yield from values.decode(state).items()
    except values.DuplicateKeysError:
        for part in elements.elements(state):
            yield part.name.decode("utf-8", "replace"), values.decode_value(part.kind, part.value)


class _Tree:
    """Draws values until there is no room left."""

    def __init__(self, room: int) -> None:
        self._room = room

    def of(self, value: Any, *, is_open: bool = False) -> SafeString:
        self._room -= 1
        if isinstance(value, Mapping):
            return self._folding(list(value.items()), _fields(len(value)), "mh-object", is_open=is_open)
        if isinstance(value, list):
            found = [(str(index), one) for index, one in enumerate(value)]
            return self._folding(found, _elements(len(value)), "mh-array", is_open=is_open)
        return scalar(value)

    def body(self, inside: list[tuple[str, Any]], name: str) -> SafeString:
        parts: list[SafeString] = []
        for position, (key, value) in enumerate(inside):
            if self._room <= 0:
                rest = len(inside) - position
                more = ngettext("… and %(count)d more", "… and %(count)d more", rest) % {"count": rest}
                parts.append(format_html('<li class="mh-more">{}</li>', more))
                break
            parts.append(format_html('<li><span class="mh-key">{}</span>: {}</li>', key, self.of(value)))
        return format_html('<ul class="mh-tree {}">{}</ul>', name, mark_safe("".join(parts)))  # noqa: S308 - made above

    def _folding(self, inside: list[tuple[str, Any]], label: str, name: str, *, is_open: bool) -> SafeString:
        if not inside:
            return format_html('<span class="mh-empty {}">{}</span>', name, label)
        return format_html(
            '<details class="mh-fold"{}><summary>{}</summary>{}</details>',
            mark_safe(" open") if is_open else "",
            label,
            self.body(inside, name),
        )


def moment(at: datetime | None) -> SafeString:
    """A moment in the user's time zone, with the exact one, in UTC, on hover and for programs."""
    if at is None:
        return format_html('<span class="mh-absent">{}</span>', "–")
    exact = at.astimezone(UTC)
    local = timezone.localtime(at) if timezone.is_aware(at) else at
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        exact.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        exact.strftime("%Y-%m-%d %H:%M:%S.") + f"{exact.microsecond // 1000:03d}",
        _local(local),
    )


def _local(at: datetime) -> str:
    return f"{date_format(at, 'SHORT_DATE_FORMAT')} {at:%H:%M:%S}"


def joined(parts: list[str]) -> SafeString:
    """Texts as a list, escaped."""
    return format_html_join(", ", "{}", ((one,) for one in parts))


def _fields(count: int) -> str:
    return ngettext("%(count)d field", "%(count)d fields", count) % {"count": count}


def _elements(count: int) -> str:
    return ngettext("list of %(count)d", "list of %(count)d", count) % {"count": count}


def _double(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _binary(value: bytes) -> Shown:
    subtype = value.subtype if isinstance(value, Binary) else 0
    if subtype == bson.binary.UUID_SUBTYPE and len(value) == 16:
        digits = bytes(value).hex()
        cuts = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
        return Shown("-".join(digits[start:stop] for start, stop in cuts), "uuid")
    return Shown(_hexadecimal(bytes(value)), "binData" if not subtype else f"binData-{subtype}")


def _hexadecimal(value: bytes) -> str:
    rest = len(value) - _BYTES_SHOWN
    text = value[:_BYTES_SHOWN].hex(" ")
    if rest <= 0:
        return text
    more = ngettext("… and %(count)d more byte", "… and %(count)d more bytes", rest) % {"count": rest}
    return f"{text} {more}"


def _moment(value: datetime | DatetimeMS) -> str:
    if isinstance(value, DatetimeMS):
        return _("%(count)d ms since 1970") % {"count": int(value)}
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(pattern: str | bytes) -> str:
    return pattern.decode("utf-8", "replace") if isinstance(pattern, bytes) else pattern


def _flags(flags: int) -> str:
    letters = {"i": 2, "l": 4, "m": 8, "s": 16, "u": 32, "x": 64}
    return "".join(letter for letter, bit in letters.items() if flags & bit)
