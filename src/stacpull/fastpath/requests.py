"""The requests that the fast path can send, and their bytes. No I/O.

It sends GET requests to plain hosts. The general path sends all others: unusual hosts (IDNA, userinfo, short
IPv4 forms, zones), fields that control the connection, and fields with line breaks.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

import msgspec

from stacpull.hosts import HIGHEST_PORT
from stacpull.urls import wire_url

_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_STEERING = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


class RemoteHost(msgspec.Struct, frozen=True):
    """The target of a connection. An IPv6 `host` has no brackets; `name` is host and port as written."""

    scheme: str
    host: str
    port: int
    name: str

    @property
    def endpoint(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port

    @property
    def is_tls(self) -> bool:
        """True for https."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The Host field: without the port if it is the scheme's own (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def split_url(url: str) -> tuple[str, str]:
    """Split `url` into origin (`http://host:port`) and request target.

    Characters that are invalid in a request line are percent-encoded, and the fragment is removed. Nothing
    else is changed.
    """
    url = wire_url(url)
    if "#" in url:
        url = url.partition("#")[0]
    start = url.find("://") + 3
    slash = url.find("/", start)
    question = url.find("?", start, slash if slash >= 0 else len(url))
    if question >= 0:
        return url[:question], "/" + url[question:]
    return (url, "/") if slash < 0 else (url[:slash], url[slash:])


def parse_origin(origin: str) -> RemoteHost | None:
    """Return the host of `origin`, or None if it is not plain."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme, host = match["scheme"], match["host"].strip("[]")
    port = int(match["port"] or _PORTS[scheme])
    if not 0 < port <= HIGHEST_PORT or not _is_plain_host(host):
        return None
    return RemoteHost(scheme, host, port, origin.lower().partition("://")[2])


def _is_plain_host(host: str) -> bool:
    """Return True for names and full addresses, False for short forms of addresses (`inet_aton`)."""
    if ":" not in host and not host.replace(".", "").isdigit():
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_plain(headers: Mapping[str, str]) -> bool:
    """Return True if these fields can be sent by the fast path."""
    if not headers:
        return True
    text = "".join((*headers, *headers.values()))
    breaks_out = "\r" in text or "\n" in text or "\0" in text
    return not breaks_out and _STEERING.isdisjoint(map(str.lower, headers))


def request_tail(headers: Mapping[str, str], defaults: Mapping[str, str]) -> bytes:
    """Return the part of a request after the request line: the fields and the empty line.

    Args:
        headers: The fields of the request. They replace `defaults` with the same name.
        defaults: Default fields, names in lower case.
    """
    given = {name.lower() for name in headers}
    fields = [*((name, value) for name, value in defaults.items() if name not in given), *headers.items()]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{lines}\r\n".encode("utf-8", "surrogateescape")
