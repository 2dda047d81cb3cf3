"""One host: its name, its addresses and its idle connections.

Unusual hosts (IDNA, userinfo, short IPv4 forms, zones) are left to aiohttp.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import TYPE_CHECKING

from stacpull.hosts import HIGHEST_PORT, default_port
from stacpull.net.addresses import AddressInfo
from stacpull.net.transport import USER_AGENT

if TYPE_CHECKING:
    from stacpull.http1.connection import FastConnection

_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_REMEMBERED = 10.0
"""Seconds until the addresses of a host are looked up again."""


class FastHost:
    """A host, its addresses and its idle connections.

    Args:
        scheme: http or https.
        hostname: Its name or address, an IPv6 address without brackets.
        port: Its port.
        name: Host and port as written in the URL, for messages.
    """

    def __init__(self, scheme: str, hostname: str, port: int, name: str) -> None:
        self.scheme = scheme
        self.hostname = hostname
        self.port = port
        self.name = name
        self.idle: list[FastConnection] = []
        """The most recently used one is the last."""
        self.failed: set[AddressInfo] = set()
        """The addresses at which the last attempt failed."""
        self._addresses: list[AddressInfo] = []
        self._looked_up_until = 0.0
        self._lookup = asyncio.Lock()
        """Held during a lookup: there is one at a time."""
        self._error: OSError | None = None
        """The error of the last failed lookup, at `_failed_at`."""
        self._failed_at = 0.0
        self._turn = -1

    def __repr__(self) -> str:
        return f"<FastHost {self.name}, {len(self.idle)} idle>"

    @property
    def is_tls(self) -> bool:
        """True for https."""
        return self.scheme == "https"

    @property
    def is_needed(self) -> bool:
        """True if it has an idle connection, or a lookup that others wait for."""
        return bool(self.idle) or self._lookup.locked()

    @property
    def authority(self) -> str:
        """The Host field: without the port if it is the scheme's own (RFC 9110, 7.2)."""
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return host if self.port == default_port(self.scheme) else f"{host}:{self.port}"

    @property
    def default_fields(self) -> dict[str, str]:
        """The header fields of every request to it that does not set them itself."""
        return {
            "host": self.authority, "user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"
        }  # fmt: skip

    def pop(self) -> FastConnection | None:
        """Return an idle connection that is not known to be closed, or None."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                return connection
        return None

    async def addresses(self) -> list[AddressInfo]:
        """Return its addresses in the order to try them, each time starting with another one.

        Raises:
            OSError: The lookup failed. All callers that waited for it get this error.
        """
        loop = asyncio.get_running_loop()
        since = loop.time()
        async with self._lookup:
            if self._error is not None and self._failed_at >= since:
                raise type(self._error)(*self._error.args)
            if loop.time() >= self._looked_up_until:
                try:
                    found = await loop.getaddrinfo(self.hostname, self.port, type=socket.SOCK_STREAM)
                except OSError as error:
                    self._error, self._failed_at = error, loop.time()
                    raise
                self._addresses = list(found)
                self._looked_up_until = loop.time() + _REMEMBERED
        good = [info for info in self._addresses if info not in self.failed]
        bad = [info for info in self._addresses if info in self.failed]
        alike = [info for info in good if info[0] == good[0][0]]
        others = [info for info in good if info[0] != good[0][0]]
        self._turn += 1
        start = self._turn % len(alike) if alike else 0
        return [*alike[start:], *alike[:start], *others, *bad]


def plain_host(origin: str) -> FastHost | None:
    """Return the host of `origin` (`http://host:port`), or None if it is not plain."""
    origin = origin.lower()
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return None
    scheme, hostname = match["scheme"], match["host"].strip("[]")
    port = int(match["port"] or default_port(scheme) or 0)
    if not 0 < port <= HIGHEST_PORT or not _is_plain(hostname):
        return None
    return FastHost(scheme, hostname, port, origin.partition("://")[2])


def _is_plain(hostname: str) -> bool:
    """Return True for names and full addresses, False for short forms of addresses (`inet_aton`)."""
    if ":" not in hostname and not hostname.replace(".", "").isdigit():
        return True
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True
