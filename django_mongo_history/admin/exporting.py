"""The filtered list as CSV or JSON lines: read in pages and sent as it is read, so memory holds one page."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from bson import json_util
from django.http import StreamingHttpResponse
from pymongo.errors import ExecutionTimeout

from django_mongo_history.admin import values
from django_mongo_history.admin.access import EXPORT, Access
from django_mongo_history.admin.diffs import record_changes, summary_of
from django_mongo_history.admin.labels import class_label
from django_mongo_history.admin.listing import Found, read_page
from django_mongo_history.admin.searching import Search, too_long
from django_mongo_history.core.model import ABSENT, HIDDEN, Change, VersionRecord
from django_mongo_history.core.values import RawValue
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading import Source
from django_mongo_history.registry import label_of

AT_ONCE: Final = 500
COLUMNS: Final = (
    "id", "at", "operation", "class", "document_id", "user", "user_key", "remote_addr", "reason", "changeset", "summary",
    "changes",
)  # fmt: skip
JSON: Final = json_util.CANONICAL_JSON_OPTIONS.with_options(uuid_representation=0)
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_SIGNS: Final = r"=+\-@＝＋－＠﹦﹢﹣﹫−"
"""What spreadsheets take for the beginning of a formula, in each width that one of them reads as the same."""
_DROPPED: Final = r"\s\"\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202f\u2060-\u2064\ufeff"
"""What one or another of them drops before it: white space, quotes, control characters, characters without a width."""
_BEGINS: Final = re.compile(rf"[\x00-\x1f\x7f-\x9f]|[{_DROPPED}]*[{_SIGNS}]")
_AFTER_SEPARATOR: Final = re.compile(
    # The whole run is matched, formula or not, so that no character is looked at twice.
    rf"([;|\x00-\x1f\x85\u2028\u2029])([;|{_DROPPED}]*)([{_SIGNS}])?"
)
"""
The same within a cell, behind what ends a cell elsewhere: in many countries a semicolon does, where commas are in
numbers, and there the quotes around a cell are not seen. Commas end none: where they would, the quotes are seen.
"""


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def export_response(access: Access, search: Search, chosen: str) -> StreamingHttpResponse:
    """The file, newest version first, in the user's own scope."""
    write, kind, ending = FORMATS[chosen]
    name = f"history-{datetime.now(UTC):%Y%m%d-%H%M%S}.{ending}"
    response = StreamingHttpResponse(write(_found(access, search)), content_type=f"{kind}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _found(access: Access, search: Search) -> Iterator[Found | str]:
    """The versions, and where one cannot be read, or the server stopped looking, the words for it."""
    older = ""
    while True:
        try:
            page = read_page(access, search.queries, older_than=older, size=AT_ONCE)
        except ExecutionTimeout:
            yield too_long()
            return
        for source, record in page.found:
            if access.sees_record(source, record, EXPORT):
                yield source, record
        yield from page.problems
        older = page.older
        if not older:
            return


def as_csv(found: Iterable[Found | str]) -> Iterator[str]:
    """
    A line for each version, every cell of it in quotes; before what a spreadsheet would take for a formula stands an
    apostrophe. What is missing is said in the column `summary` of a line that is empty otherwise.
    """
    yield "\ufeff" + csv.writer(_Echo()).writerow(COLUMNS)
    writer = csv.writer(_Echo(), quoting=csv.QUOTE_ALL)
    for one in found:
        cells = (
            [one if name == "summary" else "" for name in COLUMNS] if isinstance(one, str) else _cells(*one)
        )
        yield writer.writerow([guarded(cell) for cell in cells])


def as_json_lines(found: Iterable[Found | str]) -> Iterator[str]:
    """
    An object for each version, its values in canonical extended JSON, as `history_log --json` says them. One that has
    nothing but a `problem` says what is missing.
    """
    for one in found:
        said = {"problem": one} if isinstance(one, str) else _object(*one)
        yield json_util.dumps(said, json_options=JSON, ensure_ascii=False) + "\n"


FORMATS: Final[dict[str, tuple[Callable[[Iterable[Found | str]], Iterator[str]], str, str]]] = {
    "csv": (as_csv, "text/csv", "csv"),
    "jsonl": (as_json_lines, "application/x-ndjson", "jsonl"),
}


def guarded(text: str) -> str:
    """
    A cell that no spreadsheet calculates, nor any part of it, wherever it thinks that cells end. Numbers stay as they are.

    Source: OWASP on CSV injection, and what its list leaves to the program that reads the file.
    """
    if _NUMBER.fullmatch(text):
        return text
    inside = _AFTER_SEPARATOR.sub(_quoted, text)
    return f"'{inside}" if _BEGINS.match(text) else inside


def _quoted(found: re.Match[str]) -> str:
    separator, rest, sign = found.groups()
    if not sign:
        return found[0]
    return f"{separator}'{rest}'{sign}" if rest else f"{separator}'{sign}"


def _guarded_json(text: str) -> str:
    """The same of JSON, which says the same when it is read: a sign is spelled by its number."""
    return _AFTER_SEPARATOR.sub(
        lambda found: f"{found[1]}{found[2]}\\u{ord(found[3]):04x}" if found[3] else found[0], text
    )


def _cells(source: Source, record: VersionRecord) -> list[str]:
    context = record.context
    changes, problem = _changes(source, record)
    user = context.user
    return [
        str(record.id),
        record.at.isoformat(timespec="milliseconds"),
        record.operation.value,
        class_label(source),
        values.shown(record.document_id).text,
        "" if user is None else str(user),
        "" if user is None else values.shown(user.pk).text,
        context.remote_addr or "",
        context.reason or "",
        "" if record.changeset is None else str(record.changeset),
        problem or summary_of(source, record.operation, changes or []),
        ""
        if changes is None
        else _guarded_json(
            json_util.dumps([_change(one) for one in changes], json_options=JSON, ensure_ascii=False)
        ),
    ]


def _object(source: Source, record: VersionRecord) -> dict[str, Any]:
    context = record.context
    user, request, task = context.user, context.request, context.task
    changes, problem = _changes(source, record)
    found = source.tracked.document_class
    return {
        "id": record.id,
        "at": record.at,
        "operation": record.operation.value,
        "class": source.tracked.label if found is object else label_of(found),
        "document_id": _plain(record.document_id),
        "user": user and {"pk": user.pk, "label": user.label, "model": user.model},
        "remote_addr": context.remote_addr,
        "reason": context.reason,
        "extra": dict(context.extra),
        "request": request and {"id": request.id, "method": request.method, "path": request.path},
        "task": task and {"id": task.id, "name": task.name},
        "changeset": record.changeset,
        "revert_of": record.revert_of,
        "changes": None if changes is None else [_change(one) for one in changes],
        **({"problem": problem} if problem else {}),
    }


def _plain(value: Any) -> Any:
    """What JSON can hold; a value that no Python type stands for by its bytes."""
    return values.shown(value).text if isinstance(value, RawValue) else value


def _changes(source: Source, record: VersionRecord) -> tuple[list[Change] | None, str]:
    try:
        return record_changes(source, record), ""
    except BrokenChainError as error:
        return None, str(error)


def _change(change: Change) -> dict[str, Any]:
    """A side that is not there has no key; a hidden one says so instead of its value."""
    found: dict[str, Any] = {"path": list(change.path), "op": change.op}
    if HIDDEN in (change.old, change.new):
        return {**found, "hidden": True}
    sides = {"old": change.old, "new": change.new}
    return {**found, **{name: value for name, value in sides.items() if value is not ABSENT}}
