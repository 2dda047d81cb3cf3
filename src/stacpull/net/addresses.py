"""Which addresses may be connected to, judged at the connected address.

A name can resolve to anything, and a redirect can name anything; so the rule is applied to the address a
socket is about to be made for, literal or resolved, before any connection is tried. Link-local addresses
(cloud metadata services live there), unspecified and multicast ones are never connected to. Private ones,
loopback, carrier-grade NAT and unique-local among them, only when the policy allows it: when SOURCE or a
configured endpoint is on one, or with --allow-private-hosts.

An IPv4 address that is wrapped in an IPv6 one is judged as what it is: mapped (RFC 4291, 2.5.5.2), the
older compatible form (2.5.5.1), 6to4 (RFC 3056) and NAT64 (RFC 6052, 2.1).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

__all__ = ["AddressInfo", "AddressPolicy", "AddressRefusedError", "literal_address", "socket_factory"]

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""One result of `getaddrinfo`: family, type, protocol, canonical name, socket address."""

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = ipaddress.ip_address("fd00:ec2::254")  # Amazon's, the one outside of the link-local ranges
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_LOW_32_BITS = 0xFFFF_FFFF
_NUMBERS = frozenset("0123456789abcdefx.")


class AddressRefusedError(OSError):
    """The policy refuses this address; nothing was sent to it.

    Its text is always the same: aiohttp merges the errors of several addresses of one host into one of a
    plain type unless their texts are equal.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(errno.EACCES, "refused by the address rules")
        self.address = address
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The rule. `allow_private` lets private, loopback, shared (CGNAT) and unique-local addresses pass."""

    allow_private: bool = False

    def refusal(self, address: str) -> str | None:
        """Return why `address` (a literal IPv4 or IPv6 address) is refused, or None if it may be used."""
        try:
            plain = _unwrapped(ipaddress.ip_address(address))
        except ValueError:
            return "not an IP address"
        reason = _never(plain)
        if reason is None and not self.allow_private:
            return _private(plain)
        return reason


def literal_address(host: str) -> str | None:
    """Return the address that `host`, as it stands in a URL, is another way to write; None for a name.

    For hosts that somebody else looks up, a proxy: whatever that may take for an address is judged as one.
    Numbers may be short, octal or hexadecimal (`inet_aton`, POSIX.1-2017), digits percent-encoded (RFC 3986,
    3.2.2) or wide (UTS 46, 4), a dot may follow; and `localhost` is loopback (RFC 6761, 6.3).
    """
    plain = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").lower().rstrip(".")
    if plain == "localhost" or plain.endswith(".localhost"):
        return "127.0.0.1"
    if ":" in plain:
        return plain.strip("[]")
    try:
        return socket.inet_ntoa(socket.inet_aton(plain)) if _NUMBERS.issuperset(plain) else None
    except OSError:
        return None


def socket_factory(policy: AddressPolicy) -> Callable[[AddressInfo], socket.socket]:
    """Return a maker of sockets, for aiohttp's connector, that refuses what `policy` refuses.

    aiohttp calls it once for every address it is about to connect to, literals included.

    Raises:
        AddressRefusedError: From the returned function, before there is a socket.
    """

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, sockaddr = info
        address = str(sockaddr[0])
        reason = policy.refusal(address)
        if reason is not None:
            raise AddressRefusedError(address, reason)
        return socket.socket(family=family, type=kind, proto=protocol)

    return make


def _unwrapped(address: _IPAddress) -> _IPAddress:
    """Return the IPv4 address inside an IPv6 one, if there is one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return inner
    compatible = address in _COMPATIBLE and int(address) > 1  # `::` and `::1` are no IPv4 addresses
    if compatible or address in _NAT64:
        return ipaddress.IPv4Address(int(address) & _LOW_32_BITS)
    return address


def _never(address: _IPAddress) -> str | None:
    if address.is_link_local:
        return "link-local"
    if address == _METADATA:
        return "a cloud metadata service"
    if address.is_unspecified or address in _THIS_NETWORK:
        return "unspecified"
    if address.is_multicast:
        return "multicast"
    return None


def _private(address: _IPAddress) -> str | None:
    if address.is_loopback:
        return "loopback"
    if address in _SHARED:
        return "shared (carrier-grade NAT)"
    if address.is_private or address.is_reserved or not address.is_global:
        return "private"
    return None
