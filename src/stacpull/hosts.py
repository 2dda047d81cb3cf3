"""Hosts, ports and addresses of URLs, parsed in the same way for every decision.

Who gets credentials, which gate a request waits at, whether a redirect leaves the host, whether an address
may be connected to: if two checks parsed one URL differently, an attacker could bypass one of them. A port is
one to five digits, at most 65535; with any other port a URL has no host, and is not requested.

An IPv4 address can be written inside an IPv6 one. It is judged as the IPv4 address: mapped (RFC 4291,
2.5.5.2), compatible (2.5.5.1), translated (RFC 2765, 2.1), 6to4 (RFC 3056), NAT64 (RFC 6052, 2.1; RFC 8215)
and Teredo (RFC 4380, 4), whose server and client are both judged.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from stacpull.schemes import SCHEMES

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
K = TypeVar("K")
V = TypeVar("V")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]@]*\]|[^\[\]:@\\]*)(?::(?P<port>[0-9]{1,5}))?")
HIGHEST_PORT = 65535
MOST_HOSTS = 256
"""The most idle hosts whose state is kept (`forget_hosts`)."""
_LONGEST = 400  # characters of a host that is remembered: names have up to 253

_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle
            "100.100.100.200",  # Alibaba
            "fd20:ce::254",  # Google
            "fd00:ec2::254",  # Amazon: metadata
            "fd00:ec2::23",  # Amazon: credentials of containers and pods
        ),
    )
)
"""Metadata services that are not at a link-local address."""
_BROADCAST = ipaddress.ip_address("255.255.255.255")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")  # RFC 6890; older versions of Python call most of it public
_SITE_LOCAL = ipaddress.ip_network("fec0::/10")  # RFC 3879
_IN_LOW_32_BITS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
_LOW_32_BITS = 0xFFFF_FFFF
_NUMBERS = frozenset("0123456789abcdefx.")


def forget_hosts(known: MutableMapping[K, V], is_needed: Callable[[V], object] = lambda _: False) -> None:
    """Remove old hosts from `known` before another one is added, because a source can name millions.

    Args:
        known: State by host, the oldest first. Above `MOST_HOSTS` entries, the older half is removed.
        is_needed: Returns True for state that is in use and must stay.
    """
    if len(known) < MOST_HOSTS:
        return
    for key in list(islice(known, MOST_HOSTS // 2)):
        value = known.pop(key)
        if is_needed(value):
            known[key] = value


class Origin(NamedTuple):
    """The origin of a URL (RFC 9110, 4.3.1). `host` is empty for a URL without a valid host."""

    scheme: str
    host: str
    port: int | None
    """The port; None for s3, and if there is no host."""


def scheme_of(url: str) -> str:
    """Return the scheme in lower case, empty for a URL without one."""
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def default_port(scheme: str) -> int | None:
    """Return the port of a URL that names none; None for a scheme without ports."""
    known = SCHEMES.get(scheme)
    return None if known is None else known.default_port


def origin_text(url: str) -> str:
    """Return `url` up to its path: the same text for all URLs of a host, short enough to be remembered."""
    start = url.find("://")
    end = url.find("/", start + 3)
    return url if end < 0 else url[:end]


def host_of(url: str) -> str:
    """Return `host` or `host:port` as it stands in the URL, lower case, without credentials.

    Empty for a URL without a host, or with a port that is not a number up to 65535.
    """
    return _read(url)[0]


def origin_of(url: str) -> Origin:
    """Return the origin of an absolute URL, the port of its scheme filled in."""
    return _read(url)[1]


def _read(url: str) -> tuple[str, Origin]:
    server = origin_text(url)
    return _read_server(server) if len(server) < _LONGEST else _parsed(server)


def _parsed(server: str) -> tuple[str, Origin]:
    scheme = scheme_of(server)
    _, found, rest = server.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].lower() if found else ""
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match["host"] or int(match["port"] or 0) > HIGHEST_PORT:
        return "", Origin(scheme, "", None)
    port = int(match["port"]) if match["port"] else default_port(scheme)
    return authority, Origin(scheme, match["host"].rstrip("."), port)


_read_server = lru_cache(maxsize=1024)(_parsed)


def literal_address(host: str) -> str | None:
    """Return the address that `host`, as written in a URL, stands for; None for a name.

    Everything that a resolver reads as an address counts. Numbers may be short, octal or hexadecimal
    (`inet_aton`, POSIX.1-2017), and digits may be percent-encoded (RFC 3986, 3.2.2) or wide (UTS 46, 4). A
    dot may follow. `localhost` is loopback (RFC 6761, 6.3).
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


def plain_address(address: str) -> str:
    """Return a literal address in its one usual spelling, an IPv4 address inside an IPv6 one as IPv4.

    Raises:
        ValueError: It is not an IP address.
    """
    whole = ipaddress.ip_address(address)
    forms = _unwrapped(whole)
    return str(forms[0] if len(forms) == 1 else whole)


def refused_always(address: str) -> str | None:
    """Return why a literal address is never connected to, or None."""
    try:
        forms = _unwrapped(ipaddress.ip_address(address))
    except ValueError:
        return "not an IP address"
    return next((reason for form in forms if (reason := _never(form)) is not None), None)


def refused_outside(address: str) -> str | None:
    """Return why a literal address belongs to this machine or a private network; None if it is public."""
    forms = _unwrapped(ipaddress.ip_address(address))
    return next((reason for form in forms if (reason := _private(form)) is not None), None)


def _unwrapped(address: _IPAddress) -> list[_IPAddress]:
    """Return the IPv4 addresses inside an IPv6 one; the address itself if there are none."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return [inner]
    if address.teredo is not None:
        return [*address.teredo]
    is_own = int(address) <= 1  # `::` and `::1` hold no IPv4 address
    if not is_own and any(address in network for network in _IN_LOW_32_BITS):
        return [ipaddress.IPv4Address(int(address) & _LOW_32_BITS)]
    if address in _LOCAL_NAT64:
        return _translated_locally(int(address)) or [address]
    return [address]


def _translated_locally(bits: int) -> list[_IPAddress]:
    """Return the IPv4 addresses that an address of the local NAT64 prefix may contain.

    There are several, because the length of the prefix is not known. The octet after 64 bits is not part of
    the IPv4 address (RFC 6052, 2.2). A result in 0.0.0.0/8 is left out: the prefix has another length then.
    """
    head, tail = bits >> 64, bits & 0x00FF_FFFF_FFFF_FFFF
    shifted = head << 56 | tail  # without that octet
    found = {bits & _LOW_32_BITS, *((shifted >> shift) & _LOW_32_BITS for shift in (40, 32, 24))}
    return [address for address in map(ipaddress.IPv4Address, sorted(found)) if address not in _THIS_NETWORK]


def _never(address: _IPAddress) -> str | None:
    if address.is_link_local:
        return "link-local"
    if address in _METADATA:
        return "a cloud metadata service"
    if address.is_unspecified or address in _THIS_NETWORK:
        return "unspecified"
    if address.is_multicast:
        return "multicast"
    if address == _BROADCAST:
        return "broadcast"
    return None


def _private(address: _IPAddress) -> str | None:
    if address.is_loopback:
        return "loopback"
    if address in _SHARED:
        return "shared (carrier-grade NAT)"
    is_local = address.is_private or address in _PROTOCOLS or address in _SITE_LOCAL
    if is_local or address.is_reserved or not address.is_global:
        return "private"
    return None
