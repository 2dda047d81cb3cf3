"""One host (its name, its addresses and its idle connections), and the bytes of requests to it.

aiohttp sends what is not a GET, is for an unusual host (IDNA, userinfo, short IPv4, zones), or has fields
that contain line breaks or control the connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stacpull.hosts import HIGHEST_PORT, default_port
from stacpull.net.addresses import AddressInfo
from stacpull.net.transport import USER_AGENT
from stacpull.urls import wire_url

if TYPE_CHECKING:
    from stacpull.http1.connection import FastConnection

_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_REMEMBERED, _FAILURE_REMEMBERED = 10.0, 1.0
"""Seconds until the addresses of a host are looked up again, also after a failure: many may wait for it."""
_STEERING = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


class FastHost:
    """`hostname` is a name or address, an IPv6 address without brackets; `name` is as in the URL."""

    def __init__(self, scheme: str, hostname: str, port: int, name: str) -> None:
        self.is_tls = scheme == "https"
        self.scheme = scheme
        self.hostname = hostname
        self.port = port
        self.name = name
        self.idle: list[FastConnection] = []
        """The most recently used one is the last."""
        self.failed: set[AddressInfo] = set()
        """The addresses at which the last attempt failed."""
        self._found: list[AddressInfo] | OSError = []
        self._found_until = 0.0
        self._lookup = asyncio.Lock()
        self._turn = -1
        host = f"[{hostname}]" if ":" in hostname else hostname
        self.default_fields = {
            "host": host if port == default_port(scheme) else f"{host}:{port}",  # RFC 9110, 7.2
            "user-agent": USER_AGENT,
            "accept": "*/*",
            "accept-encoding": "identity",
        }

    @property
    def is_needed(self) -> bool:
        return bool(self.idle) or self._lookup.locked()

    def pop(self) -> FastConnection | None:
        idle = self.idle
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                return connection
        return None

    async def addresses(self) -> list[AddressInfo]:
        """Return its addresses in the order to try them: each time another one of the first family first."""
        loop = asyncio.get_running_loop()
        async with self._lookup:
            if loop.time() >= self._found_until:
                seconds = _REMEMBERED
                try:
                    found = await loop.getaddrinfo(self.hostname, self.port, type=socket.SOCK_STREAM)
                    self._found = list(found)
                except OSError as error:
                    self._found, seconds = error, _FAILURE_REMEMBERED
                self._found_until = loop.time() + seconds
        if isinstance(self._found, OSError):
            raise type(self._found)(*self._found.args)
        good = [info for info in self._found if info not in self.failed]
        alike = [info for info in good if info[0] == good[0][0]]
        others = [info for info in good if info[0] != good[0][0]]
        self._turn += 1
        start = self._turn % len(alike) if alike else 0
        return [*alike[start:], *alike[:start], *others, *(one for one in self._found if one in self.failed)]


def plain_host(origin: str) -> FastHost | None:
    """Return the host of an origin in lower case; None if its name has an unusual form."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return None
    scheme, hostname = match["scheme"], match["host"].strip("[]")
    port = int(match["port"] or default_port(scheme) or 0)
    if not 0 < port <= HIGHEST_PORT:
        return None
    if ":" in hostname or hostname.replace(".", "").isdigit():
        try:
            ipaddress.ip_address(hostname)
        except ValueError:  # a short form (`inet_aton`)
            return None
    return FastHost(scheme, hostname, port, origin.partition("://")[2])


def split_url(url: str) -> tuple[str, str]:
    """Split `url` into origin and request target, without fragment, percent-encoded only where invalid."""
    url = wire_url(url).partition("#")[0]
    start = url.find("://") + 3
    slash = url.find("/", start)
    question = url.find("?", start, slash if slash >= 0 else len(url))
    if question >= 0:
        return url[:question], "/" + url[question:]
    return (url, "/") if slash < 0 else (url[:slash], url[slash:])


def is_plain(headers: Mapping[str, str]) -> bool:
    if not headers:
        return True
    text = "".join((*headers, *headers.values()))
    breaks_out = "\r" in text or "\n" in text or "\0" in text
    return not breaks_out and _STEERING.isdisjoint(map(str.lower, headers))


def request_tail(headers: Mapping[str, str], defaults: Mapping[str, str]) -> bytes:
    """Return the fields and the empty line. `headers` replace `defaults` (in lower case)."""
    given = {name.lower() for name in headers}
    fields = [*((name, value) for name, value in defaults.items() if name not in given), *headers.items()]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{lines}\r\n".encode("utf-8", "surrogateescape")
