"""
What a task inherits, as the one text that travels with its message, and back.

The text is the layout's number, a colon, and base64 of BSON: safe in JSON and in every broker's headers, and no value
loses its type. Nothing of its content is ever in an error, for errors go to logs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from bson import ObjectId

from django_mongo_history.context.tasks import Inherited
from django_mongo_history.core import values
from django_mongo_history.core.model import Context, RequestRef, UserRef

VERSION: Final = "1"
MAX_BYTES: Final = 16 * 1024
"""Of the BSON, a third more as text. Brokers bound a message's headers: AMQP 128 KB with all that others put there."""

_GIVABLE: Final = frozenset({"user", "remote_addr"})


class HeaderError(ValueError):
    """A text that is no header of this layout. Says what is wrong with it, and nothing of what it holds."""


def encode_header(inherited: Inherited, *, max_bytes: int = MAX_BYTES) -> tuple[str, list[str]]:
    """
    The text, and the names of what it leaves out because all of it would be larger than `max_bytes`.

    Left out are, one after another until the rest fits: values of `extra`, the largest first; then `reason`,
    `request`, `remote_addr`, and at last the user.
    """
    left_out: list[str] = []
    encoded = _encode(inherited)
    remaining = _lesser(inherited)
    while len(encoded) > max_bytes:
        name, lesser = next(remaining)
        left_out.append(name)
        encoded = _encode(lesser)
    return f"{VERSION}:{base64.b64encode(encoded).decode('ascii')}", left_out


def decode_header(text: Any) -> Inherited:
    """The reverse, exact. Raises: HeaderError for any other value, of another version too."""
    if not isinstance(text, str):
        raise HeaderError(f"it is no text but {type(text).__name__}")
    version, _, encoded = text.partition(":")
    if version != VERSION:
        raise HeaderError(f"it is not of version {VERSION}")
    try:
        found = values.decode(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError, IndexError, RecursionError):
        raise HeaderError("it cannot be decoded") from None
    return _read(found)


def _lesser(inherited: Inherited) -> Iterator[tuple[str, Inherited]]:
    """What is given up next, and what remains then."""
    context = inherited.context
    sizes = {name: len(values.encode({name: value})) for name, value in context.extra.items()}
    for largest in sorted(sizes, key=lambda name: -sizes[name]):
        kept = {name: value for name, value in context.extra.items() if name != largest}
        context = replace(context, extra=kept)
        yield f"extra[{largest!r}]", replace(inherited, context=context)
    for name in ("reason", "request", "remote_addr", "user"):
        if getattr(context, name) is not None:
            nothing: dict[str, Any] = {name: None}
            context = replace(context, **nothing)
            inherited = replace(inherited, given=inherited.given - {name})
            yield name, replace(inherited, context=context)


def _encode(inherited: Inherited) -> bytes:
    stored = inherited.context.to_bson()
    if inherited.changeset is not None:
        stored["changeset"] = inherited.changeset
    if inherited.given:
        stored["given"] = sorted(inherited.given)
    return values.encode(stored)


def _read(found: Mapping[str, Any]) -> Inherited:
    given = _of(found, "given", list) or []
    if not all(
        type(name) is str and name in _GIVABLE for name in given
    ):  # BSON's code is a text without a hash
        raise HeaderError("its given is none that is known")
    context = Context(
        user=_part(found, "user", _user),
        remote_addr=_of(found, "remote_addr", str),
        reason=_of(found, "reason", str),
        extra=_of(found, "extra", dict) or {},
        request=_part(found, "request", _request),
    )
    return Inherited(context, _of(found, "changeset", ObjectId), frozenset(given))


def _user(found: Mapping[str, Any]) -> UserRef:
    return UserRef(found.get("pk"), _of(found, "label", str) or "", _of(found, "model", str))


def _request(found: Mapping[str, Any]) -> RequestRef:
    return RequestRef(*(_of(found, name, str) or "" for name in ("id", "method", "path")))


def _part(found: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any]], Any]) -> Any:
    part = _of(found, name, dict)
    return None if part is None else read(part)


def _of(found: Mapping[str, Any], name: str, wanted: type[Any]) -> Any:
    value = found.get(name)
    if value is not None and not isinstance(value, wanted):
        raise HeaderError(f"its {name} is {type(value).__name__} and not {wanted.__name__}")
    return value
