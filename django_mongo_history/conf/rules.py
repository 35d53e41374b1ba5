"""
What a setting's value may be: each rule gives the value as the package uses it, or says what was expected.

Knows no Django and no settings; a rule's `ValueError` is a text that begins with "expected".
"""

from __future__ import annotations

import ipaddress
import keyword
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

Rule = Callable[[Any], Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")
_DATABASE: Final = re.compile(r'[^/\\. "$*<>:|?\x00]{1,63}')
_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_IPV4_IN_IPV6: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def one_of(*names: str) -> Rule:
    expected = "expected " + ", ".join(map(repr, names[:-1])) + f" or {names[-1]!r}"

    def rule(value: Any) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise ValueError(expected)

    return rule


def optional(inner: Rule) -> Rule:
    def rule(value: Any) -> Any:
        if value is None:
            return None
        try:
            return inner(value)
        except ValueError as error:
            raise ValueError(f"{error} or None") from error

    return rule


def whole(minimum: int, maximum: int | None = None) -> Rule:
    bounds = f"from {minimum}" + (f" to {maximum}" if maximum is not None else " up")

    def rule(value: Any) -> int:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole and value >= minimum and (maximum is None or value <= maximum):
            return int(value)
        raise ValueError(f"expected a whole number {bounds}")

    return rule


def seconds(value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and value > 0:
        return float(value)
    raise ValueError("expected a number of seconds above 0")


def attribute(value: Any) -> str:
    if isinstance(value, str) and value.isidentifier() and not keyword.iskeyword(value) and value[0] != "_":
        return value
    raise ValueError("expected a Python name without a leading underscore")


def collection(value: Any) -> str:
    if isinstance(value, str) and value and not value.startswith("system.") and not set(value) & set("$\0"):
        return value
    raise ValueError("expected the name of a collection")


def text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("expected a text that is not empty")


def database(value: Any) -> str:
    if isinstance(value, str) and _DATABASE.fullmatch(value):
        return value
    raise ValueError("expected the name of a database")


def header(value: Any) -> str:
    if isinstance(value, str) and _HEADER.fullmatch(value):
        return value
    raise ValueError("expected the name of an HTTP header")


def dotted_path(value: Any) -> str:
    if isinstance(value, str) and _DOTTED.fullmatch(value):
        return value
    raise ValueError("expected the dotted path of a document class")


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("expected True or False")


def callable_or_path(value: Any) -> Any:
    if callable(value) or (isinstance(value, str) and _DOTTED.fullmatch(value)):
        return value
    raise ValueError("expected a callable, or the dotted path of one")


def texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(text, str) and text for text in value):
        return tuple(value)
    raise ValueError("expected a list of non-empty strings")


def mapping_of_texts(value: Any) -> Mapping[str, str]:
    if isinstance(value, Mapping) and all(
        isinstance(text, str) and text for pair in value.items() for text in pair
    ):
        return MappingProxyType(dict(value))
    raise ValueError("expected a dict of non-empty strings to non-empty strings")


def conversions(value: Any) -> tuple[Mapping[str, Any], ...]:
    is_list = isinstance(value, (list, tuple)) and all(isinstance(entry, Mapping) for entry in value)
    needed = ("source", "document")
    if not is_list or not all(
        isinstance(entry.get(name), str) and entry[name] for entry in value for name in needed
    ):
        raise ValueError("expected a list of dicts, each with the texts 'source' and 'document'")
    if not all(isinstance(name, str) and name.isidentifier() for entry in value for name in entry):
        raise ValueError("expected names of options as keys beside 'source' and 'document'")
    return tuple(MappingProxyType(dict(entry)) for entry in value)


def networks(value: Any) -> tuple[Network, ...]:
    try:
        return tuple(_network(text) for text in texts(value))
    except ValueError as error:
        raise ValueError(
            "expected a list of IP addresses and networks such as '10.0.0.0/8', none of all addresses"
        ) from error


def _network(text: str) -> Network:
    network = ipaddress.ip_network(text.strip(), strict=False)
    if network.prefixlen == 0:
        raise ValueError("every sender would be a trusted proxy")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_IPV4_IN_IPV6):
        # Addresses are compared as IPv4 where they are IPv4 in IPv6.
        return _network(f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}")
    return network
