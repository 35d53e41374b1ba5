"""
The calls of mongoengine-history 1.0 and 1.1 on our history: change the import, and nothing else.

Its API as its documentation describes it, none of its code. What it gets wrong works here, see `docs/coming-from.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any

from mongoengine import signals

from django_mongo_history import context, documents, runtime
from django_mongo_history.compat.knowing import check, know
from django_mongo_history.compat.lookups import instant
from django_mongo_history.compat.rows import MARK, History
from django_mongo_history.context import UNSET
from django_mongo_history.core import policy
from django_mongo_history.core.model import ABSENT, DocumentKey, Operation
from django_mongo_history.core.overlay import AmbiguousListError, lay_over
from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import ConflictError, DocumentDeletedError
from django_mongo_history.query import Version
from django_mongo_history.reading import DocumentHistory, read_document

__all__ = ["DocumentTrack", "History", "load_history", "revert", "track_changes"]

_Patch = tuple[str, list[Any], Any]


def track_changes(sender: Any, document: Any = None, **_: Any) -> None:  # noqa: ARG001 - as signals call it
    """
    Connect it to `post_save` or `pre_save` with the class as `sender`; from then on the class has a history.

    What is recorded is what `DocumentTrack` says; a class that is tracked by the settings or by `track()` stays as it is.
    Nothing happens in the signal itself, since capture sees every write, and not only saves.
    Raises: TypeError when it is connected to a class that cannot be tracked.
    """
    if documents.is_document_class(sender) and not documents.is_time_series(sender):
        know(sender)


class DocumentTrack:
    """
    `with DocumentTrack(document, user.id): ...` records what is written to this document inside of the block.

    Its class needs no entry in the settings; if it has none, writes outside of such blocks and to other documents are
    not recorded. Where the class is tracked everything is, and `History.objects` shows what was written in the blocks.
    `identity` is who does it: a key, or a user; without one it is whoever the changeset or request around says.
    Blocks may be nested, for one document or several, and used again.
    Raises: TypeError for what is no document of a class that can be tracked, or no user.
    """

    def __init__(self, document: Any, identity: Any = None) -> None:
        know(type(document))
        self.document = document
        self.identity = identity
        self._block = context.open_scope(
            _key_of(document), user=UNSET if identity is None else identity, extra={MARK: True}
        )

    def __enter__(self) -> DocumentTrack:
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, traceback)


def revert(document: Any, since: datetime | Mapping[str, Any] | None = None) -> Any:
    """
    Give the document the state that it had at `since`, and return it unsaved; None means the very first state.

    Units: a naive moment is local time. Bounds: a version is in force from its own moment on, so what was written at
    exactly `since` stays; before the first version the first state counts. Hidden and untracked fields stay as they are.
    Nothing is recorded before the document is saved, in a `DocumentTrack` where its class needs one. Where it is deleted
    the save makes it anew. A document without any history is returned as it is.
    Raises: DocumentDeletedError where it was deleted at that moment; ConflictError where a hidden value cannot be kept
    because its list changed; BrokenChainError where the state is not known.
    """
    history = _history(document)
    if history is None or not history.steps:
        return document
    index = 0 if since is None or isinstance(since, Mapping) else history.index_at(instant(since)) or 0
    state = history.after(index)
    if state is None:
        raise DocumentDeletedError(
            f"{type(document).__name__} {documents.primary_key_of(document)!r} was deleted at that moment; take an "
            "earlier one.",
            document_id=history.key.document_id,
        )
    rules = history.rules_at(index)
    if history.image is not None:
        state = _laid_over(state, history, rules)
    options = history.source.codec_options
    documents.overwrite(
        document,
        documents.user_values(state, options),
        None if history.image is None else documents.user_values(history.image, options),
        but=_unseen(type(document), rules),
    )
    return document


def load_history(
    document: Any,
    since: datetime | Mapping[str, Any] | None = None,
    until: datetime | None = None,
) -> Iterator[_Patch]:
    """
    The recorded changes as patches in dictdiffer's format, newest first, streamed.

    `dictdiffer.revert(load_history(document), document.to_mongo().to_dict())` is the first state, exactly, and lists
    with several removed items come one item a patch for that, for dictdiffer puts them back in the wrong order.
    Shape: `("change", path, (old, new))`, `("add" | "remove", path, [(key, value), ...])` with database field names in
    list paths; values as PyMongo reads them. The first create is no change; the `_id` is in no patch.
    Units: naive moments are local time. Bounds: `since` and `until` are inclusive; what is no moment (their README
    passes the document) bounds nothing.
    Raises: BrokenChainError at a version that cannot be read.
    """
    low = None if since is None or isinstance(since, Mapping) else instant(since)
    high = None if until is None else instant(until)
    history = _history(document)
    if history is None:
        return
    sources = runtime.sources()
    for index in reversed(range(len(history.steps))):
        step = history.steps[index]
        is_change = step.entry is not None and not (index == 0 and step.operation is Operation.CREATE)
        if not is_change or step.at is None:
            continue
        if (low is None or step.at >= low) and (high is None or step.at <= high):
            version = Version(sources, history.source, history=history, index=index)
            yield from reversed([one for entry in version.patch for one in _revertible(*entry)])


# -- tracking ------------------------------------------------------------------------------------------------------

_waiting: list[type[Any]] = []
"""The senders that `track_changes` was connected for before the settings were read."""


def _note_connection(_signal: Any, *, receiver: Any, sender: Any, **_: Any) -> None:
    """Blinker says who is connected, so a class has its history before the first signal is sent."""
    if receiver is not track_changes or not documents.is_document_class(sender):
        return
    check(sender)
    if runtime.is_configured():
        know(sender)
    else:  # to read the settings now could import the module that is just being imported
        _waiting.append(sender)


def _know_waiting() -> None:
    while _waiting:
        know(_waiting.pop())


def _key_of(document: Any) -> Callable[[], DocumentKey]:
    """Where the document lies, found out anew at each write: it may get its key, or another one, in the block."""
    known: list[Any] = [None, ABSENT]

    def key() -> DocumentKey:
        collection = documents.collection_of(document)
        pk = documents.known_key_of(document)
        if pk is not known[0]:
            options = runtime.sources().of_instance(document).codec_options
            known[:] = pk, ABSENT if pk is None else documents.exact_id(type(document), pk, options)
        return DocumentKey(str(collection.full_name), known[1])

    return key


for _signal in (signals.pre_save, signals.pre_save_post_validation, signals.post_save):
    _signal.receiver_connected.connect(_note_connection)
runtime.on_configured(_know_waiting)


# -- reading -------------------------------------------------------------------------------------------------------


def _history(document: Any) -> DocumentHistory | None:
    """The versions of a document; None where it has no key, or cannot have any."""
    document_class = type(document)
    know(document_class)
    pk = documents.known_key_of(document)
    if pk is None:
        return None
    source = runtime.sources().of_instance(document)
    return read_document(source, documents.exact_id(document_class, pk, source.codec_options))


def _laid_over(state: bytes, history: DocumentHistory, rules: Policy) -> bytes:
    assert history.image is not None
    try:
        return lay_over(state, history.image, rules)
    except AmbiguousListError as error:
        raise ConflictError(
            f"{history.key.document_id!r} in {history.key.collection} cannot be put back: {error}. "
            "Use history_of(document).version_at(moment).revert(fields=[...]) for the other fields.",
            conflicts=[],
        ) from error


def _unseen(document_class: type[Any], rules: Policy) -> frozenset[str]:
    """The database names of whole fields of which the history knows no value."""
    names = {documents.state_key(document_class, name) for name in documents.field_names(document_class)}
    return frozenset(
        name for name in names if policy.is_hidden((name,), rules) or policy.is_untracked((name,), rules)
    )


def _revertible(action: str, path: list[Any], data: Any) -> Iterator[_Patch]:
    """One entry as dictdiffer can revert it; without the `_id`, which never changes."""
    if action != "change" and not path:
        data = [(key, value) for key, value in data if key != "_id"]
    is_list = action == "remove" and all(isinstance(key, int) for key, _value in data)
    if is_list:
        yield from ((action, path, [one]) for one in data)
    elif data:
        yield action, path, data
