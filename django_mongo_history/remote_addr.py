"""
The address of whoever sent a request, which only a proxy that one trusts may tell.

Single addresses are read by python-ipware (ports, brackets, IPv4 in IPv6, addresses that nobody can have). Which of a
chain counts is decided here: ipware wants to know how many proxies there are, we know which.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final

from python_ipware import IpWare

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ONE_ADDRESS: Final = "REMOTE_ADDR"
_READER: Final = IpWare(precedence=(_ONE_ADDRESS,))


def remote_addr(meta: Mapping[str, Any], trusted: Sequence[Network] = ()) -> str | None:
    """
    The sender's address, or None where it is missing or cannot be read. Never raises.

    `X-Forwarded-For` counts only if the request came from a trusted proxy, and is read from the right: each trusted
    proxy vouches for the address at its left, and the first that is no trusted proxy is the sender. What stands
    further left was claimed by the sender. Where all are trusted, the leftmost is (a request from the inside).
    An entry that cannot be read (`unknown`) is where the trail ends: None, and not the entry at its left.
    """
    sender = _address(meta.get("REMOTE_ADDR"))
    for hop in reversed(_hops(meta.get("HTTP_X_FORWARDED_FOR"))):
        if sender is None or not _is_within(sender, trusted):
            break
        sender = _address(hop)
    return None if sender is None else str(sender)


def _hops(header: Any) -> list[str]:
    # Empty list elements are to be ignored: RFC 9110, section 5.6.1.
    return [hop for hop in header.split(",") if hop.strip()] if isinstance(header, str) else []


def _address(text: Any) -> Address | None:
    if not isinstance(text, str) or "," in text:
        return None
    address: Address | None = _READER.get_client_ip({_ONE_ADDRESS: text})[0]
    # The zone of an IPv6 address names a network card of the machine that wrote it.
    return ipaddress.IPv6Address(int(address)) if isinstance(address, ipaddress.IPv6Address) else address


def _is_within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
