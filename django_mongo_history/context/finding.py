"""
Asking the project's own functions who writes and why. They may fail: then it is not known, and the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django_mongo_history.context.storable import storable
from django_mongo_history.context.users import UNSET, Unset, is_resolving, resolving, user_ref
from django_mongo_history.core.finders import Find, Finders
from django_mongo_history.core.model import UserRef

logger = logging.getLogger("django_mongo_history")

_REASONS = ("reason", "rationale")


@dataclass(frozen=True, slots=True)
class Found:
    """What they said. UNSET: nobody had anything to say, so that what is in force otherwise counts."""

    user: UserRef | Unset | None = UNSET
    remote_addr: str | Unset | None = UNSET
    reason: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


NOTHING = Found()


def find(finders: Finders, document_class: type[Any], *, but: frozenset[str]) -> Found:
    """
    Ask for all that is not in `but` (`user`, `remote_addr`). Never raises.

    A write that one of the functions makes itself does not ask them again.
    """
    if is_resolving():
        return NOTHING
    with resolving():
        extra = _extra(finders, document_class)
        reason, extra = lifted(extra)
        return Found(
            user=UNSET if "user" in but else _first(finders.user, document_class, "user", user_ref),
            remote_addr=UNSET
            if "remote_addr" in but
            else _first(finders.remote_addr, document_class, "remote address", _address),
            reason=None if reason is UNSET else reason,
            extra=extra,
        )


def lifted(extra: Mapping[str, Any]) -> tuple[str | Unset, dict[str, Any]]:
    """
    The reason that stands in `extra` as `reason` or `rationale`, and the rest; UNSET where there is none.

    What is no text is no reason and stays where it is.
    """
    for name in _REASONS:
        if isinstance(found := extra.get(name), str):
            return found, {key: value for key, value in extra.items() if key != name}
    return UNSET, dict(extra)


def _first(finders: tuple[Find, ...], document_class: type[Any], what: str, read: Any) -> Any:
    """The first answer; None where whoever is asked fails, for the answer was theirs to give."""
    for finder in finders:
        try:
            answer = finder(document_class)
            if answer is not NotImplemented:
                return read(answer)
        except Exception:
            logger.warning(
                "The %s behind a write of %s could not be found out by %r; its version has none",
                what,
                document_class.__name__,
                finder,
                exc_info=True,
            )
            return None
    return UNSET


def _extra(finders: Finders, document_class: type[Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    for finder in reversed(finders.extra):
        try:
            answer = finder(document_class)
            if answer is NotImplemented or answer is None:
                continue
            items = dict(answer).items()
        except Exception:
            logger.warning(
                "%r failed for a write of %s; its version has no extra values of it",
                finder,
                document_class.__name__,
                exc_info=True,
            )
            continue
        for name, value in items:
            extra.update(_checked(finder, name, value))
    return extra


def _checked(finder: Find, name: Any, value: Any) -> dict[str, Any]:
    try:
        return storable({name: value}, called="extra")
    except (TypeError, ValueError):
        logger.warning("%r gave a value that no version can carry; it is left out", finder, exc_info=True)
        return {}


def _address(answer: Any) -> str | None:
    if answer is not None and not isinstance(answer, str):
        raise TypeError(f"expected text or None, got {type(answer).__name__}")
    return None if answer is None else str(storable({"remote_addr": answer}, called="context")["remote_addr"])
