"""The sender's address: only what a trusted proxy vouches for, right or None, and never an exception."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_mongo_history.remote_addr import remote_addr

TRUSTED = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "192.0.2.10/32", "2001:db8:1::/48")))


def found(peer: Any, forwarded: Any = None) -> str | None:
    return remote_addr({"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded}, TRUSTED)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7:51234", "203.0.113.7"),
        ("127.0.0.1", "127.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("", None),
        ("   ", None),
        (None, None),
        (b"203.0.113.7", None),
        ("unknown", None),
        ("unix:", None),
        ("0.0.0.0", None),
        ("::", None),
        ("255.255.255.255", None),
        ("999.1.1.1", None),
        ("203.0.113", None),
        ("203.0.113.7, 203.0.113.8", None),
        ("203.0.113.7:port", None),
        ("[2001:db8::1", None),
        ("1" * 10_000, None),
        ("\x00", None),
        ("²03.0.113.7", None),
    ],
)
def test_peer_alone(peer: Any, expected: str | None) -> None:
    """Without a proxy the connection's address is the sender's, in its shortest form."""
    assert remote_addr({"REMOTE_ADDR": peer}) == expected


def test_without_any_meta() -> None:
    assert remote_addr({}) is None
    assert remote_addr({}, TRUSTED) is None


@pytest.mark.parametrize("forwarded", ["198.51.100.1", "198.51.100.1, 10.0.0.1", "unknown", "", ","])
def test_nobody_is_trusted_unless_named(forwarded: str) -> None:
    """Without TRUSTED_PROXIES the header is anybody's claim."""
    assert remote_addr({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": forwarded}) == "10.0.0.1"


@pytest.mark.parametrize("forwarded", ["198.51.100.1", "10.0.0.1", "198.51.100.1, 10.0.0.1", "unknown"])
def test_header_of_a_stranger_is_not_read(forwarded: str) -> None:
    """A sender that comes past the proxies cannot lend itself an address."""
    assert found("203.0.113.7", forwarded) == "203.0.113.7"


@pytest.mark.parametrize(
    "header",
    ["HTTP_X_REAL_IP", "HTTP_CLIENT_IP", "HTTP_FORWARDED", "HTTP_CF_CONNECTING_IP", "X_FORWARDED_FOR"],
)
def test_other_headers_are_not_read(header: str) -> None:
    """python-ipware knows thirty headers; a proxy that one trusts sets one of them, and passes the others on."""
    assert remote_addr({"REMOTE_ADDR": "10.0.0.1", header: "198.51.100.66"}, TRUSTED) == "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.2, 192.0.2.10, 2001:db8:1::5", "203.0.113.7"),
        # what the sender claimed stands further left
        ("198.51.100.66, 203.0.113.7", "203.0.113.7"),
        ("198.51.100.66, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.99, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("unknown, 203.0.113.7", "203.0.113.7"),
        (", ,203.0.113.7", "203.0.113.7"),
        ("<script>, 203.0.113.7", "203.0.113.7"),
        # where the trail ends, what stands further left is nobody's word
        ("198.51.100.66, unknown", None),
        ("198.51.100.66, unknown, 10.0.0.2", None),
        ("198.51.100.66, 203.0.113.7.8, 10.0.0.2", None),
        ("unknown", None),
        ("garbage", None),
        ("_hidden", None),
        # forms
        ("203.0.113.7:4711", "203.0.113.7"),
        ("[2001:db8:2::1]:4711", "2001:db8:2::1"),
        ("[2001:db8:2::1]", "2001:db8:2::1"),
        ("2001:DB8:2:0::1", "2001:db8:2::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, ::ffff:10.0.0.2", "203.0.113.7"),
        ("  203.0.113.7  ,\t10.0.0.2 ", "203.0.113.7"),
        ('"203.0.113.7"', "203.0.113.7"),
        ("203.0.113.7,", "203.0.113.7"),
        # a request from the inside, or a proxy that says nothing
        ("10.0.0.5", "10.0.0.5"),
        ("10.0.0.5, 10.0.0.6", "10.0.0.5"),
        ("", "10.0.0.1"),
        (" , ", "10.0.0.1"),
        (None, "10.0.0.1"),
        (b"203.0.113.7", "10.0.0.1"),
    ],
)
def test_header_of_a_trusted_proxy(forwarded: Any, expected: str | None) -> None:
    """Each trusted proxy vouches for the address at its left, and the first stranger is the sender."""
    assert found("10.0.0.1", forwarded) == expected


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "10.0.0.1:8080", "[2001:db8:1::9]:443"])
def test_trusted_peer_in_other_forms(peer: str) -> None:
    assert found(peer, "203.0.113.7") == "203.0.113.7"


@pytest.mark.parametrize(
    "peer", ["192.0.2.100", "192.0.2.1", "110.0.0.1", "2001:db8:10::1", "", "unknown", None]
)
def test_trust_is_exact(peer: Any) -> None:
    """192.0.2.10 is trusted, 192.0.2.100 is not: networks, not beginnings of text."""
    assert found(peer, "198.51.100.66") != "198.51.100.66"


@given(st.text(), st.text())
@example("10.0.0.1", "1.2.3.4, " * 500)
def test_never_raises_and_gives_an_address_or_none(peer: str, forwarded: str) -> None:
    for sender in ("10.0.0.1", peer):
        answer = found(sender, forwarded)
        assert answer is None or str(ipaddress.ip_address(answer)) == answer


@given(st.lists(st.sampled_from(["198.51.100.66", "10.9.9.9", "unknown", "", "[::1]:80", '"'])))
def test_no_claim_of_the_sender_moves_its_address(claims: list[str]) -> None:
    """Whatever the sender writes into the header, the proxy appends the true address."""
    assert found("10.0.0.1", ", ".join([*claims, "203.0.113.7", "10.0.0.2"])) == "203.0.113.7"
