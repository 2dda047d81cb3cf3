"""Hosts, ports and addresses of URLs, parsed in the same way for every decision.

If two checks parsed one URL differently, an attacker could bypass one of them. A URL with an invalid port, or
a name that is not ASCII, has no host. IPv6 addresses with an IPv4 address in them are judged as that one if
mapped (RFC 4291, 2.5.5.2) or NAT64 (RFC 6052, 2.1), or else refused.
"""

import re
import socket
import unicodedata
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import unquote

from stacpull.caches import cached_if_short
from stacpull.schemes import SCHEMES, UNKNOWN

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]@]*\]|[^\[\]:@\\]*)(?::(?P<port>[0-9]{1,5}))?")
HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}(/|$)")
HIGHEST_PORT = 65535
MAX_HOSTS = 256  # the most idle hosts whose state is kept: a source can name millions

_REFUSED = {  # never connected to; the first reason is used (`::1` is loopback, and no tunnel)
    reason: tuple(map(ip_network, networks))
    for reason, networks in {
        "link-local": ("169.254.0.0/16", "fe80::/10"),
        "a cloud metadata service": (
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle
            "100.100.100.200",  # Alibaba
            "fd20:ce::254",  # Google
            "fd00:ec2::254",  # Amazon: metadata
            "fd00:ec2::23",  # Amazon: credentials of containers and pods
        ),
        "unspecified": ("0.0.0.0/8", "::"),
        "multicast": ("224.0.0.0/4", "ff00::/8"),
        "broadcast": ("255.255.255.255",),
        "a tunnel to an IPv4 address": (
            "::/96",  # compatible
            "::ffff:0:0:0/96",  # translated
            "64:ff9b:1::/48",  # local NAT64
            "2002::/16",  # 6to4
            "2001::/32",  # Teredo
        ),
    }.items()
}
_NAT64 = ip_network("64:ff9b::/96")
_NOT_PUBLIC = (
    ip_network("192.0.0.0/24"),  # RFC 6890; older versions of Python call most of it public
    ip_network("fec0::/10"),  # RFC 3879
)
_NUMBERS = frozenset("0123456789abcdefx.")


class Origin(NamedTuple):
    """The origin of a URL (RFC 9110, 4.3.1). `host` is empty for a URL without a valid host."""

    scheme: str
    host: str
    port: int | None  # None for s3, and if there is no host


def scheme_of(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def default_port(scheme: str) -> int | None:
    return SCHEMES.get(scheme, UNKNOWN).default_port


def origin_text(url: str) -> str:
    """Return `url` up to its path. This text is the same for all URLs of a host, and short."""
    end = url.find("/", url.find("://") + 3)
    return url if end < 0 else url[:end]


def host_of(url: str) -> str:
    """Return the host in lower case, with its port if the URL states it; empty if the URL is invalid."""
    return _read_server(origin_text(url))[0]


def origin_of(url: str) -> Origin:
    return _read_server(origin_text(url))[1]


@cached_if_short(1024)
def _read_server(server: str) -> tuple[str, Origin]:
    scheme = scheme_of(server)
    after_scheme = server.partition("://")[2]
    with_user = re.split(r"[/?#]", after_scheme, maxsplit=1)[0]
    authority = with_user.rpartition("@")[2].lower()
    authority = authority.removesuffix(":")  # an empty port is the default one (RFC 3986, 3.2.3)
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match["host"] or int(match["port"] or 0) > HIGHEST_PORT:
        return "", Origin(scheme, "", None)
    port = int(match["port"]) if match["port"] else default_port(scheme)
    if port is not None and not authority.isascii():  # a bucket's name may be anything
        return "", Origin(scheme, "", None)
    return authority, Origin(scheme, match["host"].rstrip("."), port)


def literal_address(host: str) -> str | None:
    """Return the address that `host` stands for, if a resolver would read it as one; None for a name.

    Numbers may be short, octal or hexadecimal (`inet_aton`, POSIX.1-2017), and digits percent-encoded (RFC
    3986, 3.2.2) or wide (UTS 46, 4). A dot may follow. `localhost` is loopback (RFC 6761, 6.3).
    """
    narrow = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".")
    plain = narrow.lower().rstrip(".")
    if plain == "localhost" or plain.endswith(".localhost"):
        return "127.0.0.1"
    if ":" in plain:
        return plain.strip("[]")
    if _NUMBERS.issuperset(plain):
        with suppress(OSError):
            return socket.inet_ntoa(socket.inet_aton(plain))
    return None


def _effective_ip(address: str) -> IPv4Address | IPv6Address:
    ip = ip_address(address)
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return getattr(ip, "ipv4_mapped", None) or ip  # an IPv4 address has no such attribute


def plain_address(address: str) -> str:
    """Return a literal address in its one usual spelling, an IPv4 address inside an IPv6 one as IPv4."""
    return str(_effective_ip(address))


def never_allowed_reason(address: str) -> str | None:
    try:
        ip = _effective_ip(address)
    except ValueError:
        return "not an IP address"
    if ip.is_loopback:
        return None
    for reason, networks in _REFUSED.items():
        if any(ip in network for network in networks):
            return reason
    return None


def not_public_reason(address: str) -> str | None:
    """Return why a literal address belongs to this machine or a private network; None if it is public."""
    ip = _effective_ip(address)
    if ip.is_loopback:
        return "loopback"
    is_local = ip.is_private or ip.is_reserved or any(ip in network for network in _NOT_PUBLIC)
    return "private" if is_local or not ip.is_global else None
