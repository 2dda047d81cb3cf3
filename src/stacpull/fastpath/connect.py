"""Opening connections of the fast path: name lookup, address rules, connection, TLS.

The addresses of a host are tried in turn. Each is checked by the address rules, and then exactly this address
is connected to: there is no second lookup with a different result. An address that fails is tried last from
then on, and one that hangs gets no more than its share of the time. Each new connection starts with another
address of the same family, which spreads the load.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from stacpull.fastpath.connection import FastConnection
from stacpull.fastpath.requests import RemoteHost
from stacpull.hosts import forget_hosts
from stacpull.models import Failure
from stacpull.net import connection_errors
from stacpull.net.addresses import AddressInfo, AddressRefusedError
from stacpull.net.connection_errors import no_connection
from stacpull.net.transport import HttpSettings, TransferError

_REMEMBERED = 10.0
_PATIENCE = 5.0  # seconds for an address while there are others


@dataclass(slots=True)
class _AddressLookup:
    """The known addresses of a host. The lock prevents simultaneous lookups of the same host."""

    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    addresses: list[AddressInfo] = field(default_factory=list)
    failed: set[AddressInfo] = field(default_factory=set)
    turn: int = -1
    until: float = 0.0
    error: OSError | None = None
    """The error of the last lookup, at `failed_at`."""
    failed_at: float = 0.0

    def next(self) -> list[AddressInfo]:
        """Return the addresses in the order to try them, each time starting with another one."""
        good = [info for info in self.addresses if info not in self.failed]
        bad = [info for info in self.addresses if info in self.failed]
        alike = [info for info in good if info[0] == good[0][0]]
        others = [info for info in good if info[0] != good[0][0]]
        self.turn += 1
        start = self.turn % len(alike) if alike else 0
        return [*alike[start:], *alike[:start], *others, *bad]


class FastConnector:
    """Opens connections.

    Args:
        settings: The settings.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._policy = settings.policy
        self._timeout = settings.connect_timeout
        self._ca_bundle = settings.ca_bundle
        self._context: ssl.SSLContext | None = None
        self._lookups: dict[RemoteHost, _AddressLookup] = {}

    async def connect(self, place: RemoteHost, make: Callable[[], FastConnection]) -> FastConnection:
        """Return a new connection to `place`; `make` creates the protocol object.

        Raises:
            TransferError: NETWORK, STALLED, ADDRESS.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._connect(place, make)
        except OSError as error:
            raise TransferError(_failure_of(error, place.name)) from error
        except UnicodeError as error:  # a label that is too long for the encoding of names
            raise TransferError(connection_errors.unknown_name(place.name)) from error

    async def _connect(self, place: RemoteHost, make: Callable[[], FastConnection]) -> FastConnection:
        """Try the addresses in turn. An untrusted certificate ends the search."""
        context = await self._tls() if place.is_tls else None
        lookup = await self._lookup(place)
        addresses = lookup.next()
        reasons = self._policy.judge(place.host, [str(info[4][0]) for info in addresses])
        share = min(_PATIENCE, self._timeout / max(len(addresses), 1))
        problem: OSError | None = None
        for left, info in zip(reversed(range(len(addresses))), addresses, strict=True):
            address = str(info[4][0])
            try:
                if (reason := reasons[address]) is not None:
                    raise AddressRefusedError(address, reason)
                async with asyncio.timeout(share if left else None):
                    connection = await self._connect_to(info, place, context, make)
            except ssl.SSLError:
                raise
            except OSError as error:
                lookup.failed.add(info)
                if problem is None or not isinstance(error, AddressRefusedError):
                    problem = error
            else:
                lookup.failed.discard(info)
                self._policy.connected(place.host, address)
                return connection
        raise problem or OSError(f"{place.name} has no address")

    async def _connect_to(
        self,
        info: AddressInfo,
        place: RemoteHost,
        context: ssl.SSLContext | None,
        make: Callable[[], FastConnection],
    ) -> FastConnection:
        """Connect to one address.

        The loop gets the address, not a socket. uvloop takes over a socket only after `connection_made`, and
        if the connection is closed by then, it closes the same descriptor twice.
        """
        address, port = str(info[4][0]), int(info[4][1])
        server_name = place.host if context else None
        made: list[FastConnection] = []

        def remembered() -> FastConnection:
            made.append(make())
            return made[-1]

        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                remembered, address, port, ssl=context, server_hostname=server_name
            )
        except BaseException:
            for one in made:  # it may have the connection, and uvloop never reports its end
                one.give_up()
            raise
        return connection

    async def _tls(self) -> ssl.SSLContext:
        """Return the TLS context of all connections. Certificate files are read in a thread."""
        if self._context is None:
            context = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_bundle)
            context.set_alpn_protocols(["http/1.1"])
            self._context = context
        return self._context

    async def _lookup(self, place: RemoteHost) -> _AddressLookup:
        """Return the addresses of `place`. They are looked up again after some seconds.

        Raises:
            OSError: The lookup failed. All callers that waited for it get this error.
        """
        loop = asyncio.get_running_loop()
        since = loop.time()
        lookup = self._lookups.get(place)
        if lookup is None:
            forget_hosts(self._lookups, lambda one: one.asking.locked())
            lookup = self._lookups[place] = _AddressLookup()
        async with lookup.asking:
            if lookup.error is not None and lookup.failed_at >= since:
                raise type(lookup.error)(*lookup.error.args)
            if loop.time() >= lookup.until:
                try:
                    found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
                except OSError as error:
                    lookup.error, lookup.failed_at = error, loop.time()
                    raise
                lookup.addresses = list(found)
                lookup.until = loop.time() + _REMEMBERED
        return lookup


def _failure_of(error: OSError, name: str) -> Failure:
    if isinstance(error, TimeoutError) and error.errno is None:
        return connection_errors.connecting_stalled(name)
    if isinstance(error, socket.gaierror):
        return connection_errors.unknown_name(name)
    return no_connection(error, name)
