"""
What a save of an instance would record now, without saving it.

Made by the same functions that make the version of a save: MongoEngine's own update, the server's after-image, the
pruning and the diff of recording. So the next version says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bson

from django_mongo_history import context, documents, reading
from django_mongo_history.core.after_image import ComputedUpdate, after_replacement, has_server_time
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import (
    ABSENT,
    Change,
    Context,
    Operation,
    PatchEntries,
    State,
    VersionRecord,
    Write,
)
from django_mongo_history.core.policy import prune
from django_mongo_history.core.recording import Circumstances, record_write
from django_mongo_history.documents import Sent
from django_mongo_history.errors import HistoryError
from django_mongo_history.reading import Source

_NO_CHANGESET = bson.ObjectId("0" * 24)


class Pending:
    """
    What a save would record now. False in a condition where that is nothing.

    It is of the moment at which it was asked for, and says nothing of who and why: those are of the save.
    """

    __slots__ = ("_after", "_record", "_source", "document_class", "document_id")

    def __init__(
        self, source: Source, document: Any, record: VersionRecord | None, after: bytes | None
    ) -> None:
        self.document_class: type[Any] = type(document)
        self.document_id = documents.primary_key_of(document)
        """The primary key; None where the document gets one by being saved."""
        self._source = source
        self._record = record
        self._after = after

    @property
    def operation(self) -> Operation | None:
        """`create` or `update`; None where nothing would be recorded."""
        return None if self._record is None else self._record.operation

    @property
    def changes(self) -> list[Change]:
        """As `Version.changes`: a hidden path that changes has HIDDEN on both sides, an untracked one is absent."""
        return [] if self._record is None else reading.changes_of(self._record, self._source.view)

    @property
    def patch(self) -> PatchEntries:
        """The same in dictdiffer's format."""
        return [] if self._record is None else reading.shown_entries(self._record, self._source.view)

    @property
    def state(self) -> State | None:
        """The tracked state after the save; of a document that is yet to get its key, without `_id`."""
        if self._after is None:
            return None
        shown = self._source.view.show(self._after)
        return None if shown is None else documents.user_values(shown, self._source.codec_options)

    def __bool__(self) -> bool:
        return self._record is not None

    def __repr__(self) -> str:
        what = "nothing" if self._record is None else f"{self._record.operation}"
        return f"<Pending {what} of {self.document_class.__name__} {self.document_id!r}>"


def pending_of(source: Source, document: Any) -> Pending:
    """
    What a save of this instance would record now.

    Cost: one look at the live document by its key, none for a document without one or without changes.
    Raises: HistoryError where only the server could say what it would make of the save; what MongoEngine raises for
    values that cannot be stored.
    """
    sent = documents.unsaved(document)
    if sent is None:
        return Pending(source, document, None, None)
    before = source.images.find_one(dict(sent.query), None) if sent.query else None
    after = _after(before, sent, source)
    if after is None:
        raise HistoryError(
            f"What a save of {type(document).__name__} {documents.primary_key_of(document)!r} would record cannot be "
            "said without saving it: only the server can say what becomes of this update. Save it, and read the version.",
            document_class=type(document),
            document_id=documents.primary_key_of(document),
        )
    own = source.under_rules_of(class_name(after))
    if own.tracked.only_in_scopes and not _is_in_scope(source, document, is_create=before is None):
        return Pending(own, document, None, prune(after, own.policy))
    around = Circumstances(class_name(after) or "", own.policy, source.now(), None, _NO_CHANGESET, Context())
    record = record_write(Write(source.key(sent.query.get("_id", ABSENT)), before, after), around)
    return Pending(own, document, record, prune(after, own.policy))


def _is_in_scope(source: Source, document: Any, *, is_create: bool) -> bool:
    """Whether the document is one of those that are recorded here; one without a key is of any that is open for it."""
    key = documents.primary_key_of(document)
    place = ABSENT if key is None else documents.exact_id(type(document), key, source.codec_options)
    return context.scope_of(source.key(place), is_create=is_create) is not None


def _after(before: bytes | None, sent: Sent, source: Source) -> bytes | None:
    """The document after the save, None where that is not certain."""
    encode: Callable[[Any], bytes] = lambda values: bson.encode(values, codec_options=source.codec_options)  # noqa: E731
    if sent.replacement is not None:
        whole = encode(sent.replacement)
        if before is not None:
            return after_replacement(before, whole)
        return None if has_server_time(whole) else whole
    computed = ComputedUpdate.of(sent.update, source.codec_options)
    # Where the document is gone, the server makes it from the query; so does MongoEngine's save, always upserting.
    found = None if computed is None else computed.after(encode(sent.query) if before is None else before)
    return None if found is None else found.image
