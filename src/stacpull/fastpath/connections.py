"""The pool of connections of the fast path, for assets and for documents.

Idle connections are kept per host, the most recently used one on top. One timer checks all connections.

To open a connection, the addresses of the host are tried in turn. Each is checked by the address rules, and
then exactly this address is connected to: there is no second lookup with a different result. An address that
fails is tried last from then on, and one that hangs gets no more than its share of the time. Each new
connection starts with another address of the same family, which spreads the load.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable

from stacpull.fastpath.blocks import BlockPool
from stacpull.fastpath.connection import FastConnection
from stacpull.fastpath.host import FastHost, plain_host
from stacpull.hosts import forget_hosts
from stacpull.net.addresses import AddressInfo, AddressRefusedError
from stacpull.net.bodies import Pace
from stacpull.net.connection_errors import no_connection
from stacpull.net.transport import ConnectionKey, HttpSettings, TransferError
from stacpull.proxies import is_bypassed, proxies

_KEEP_ALIVE = 30.0
_TICK = 1.0
_TICKS_A_TIMEOUT = 8
_PATIENCE = 5.0  # seconds for an address while there are others


class FastConnections:
    """Opens connections, keeps idle ones, and closes those that are idle or silent for too long.

    Args:
        settings: The settings. A stalled exchange fails at most a second after `stall_timeout`. There are no
            connections to hosts with a proxy.
        before_connecting: Called before a connection is opened.
    """

    def __init__(self, settings: HttpSettings, before_connecting: Callable[[ConnectionKey], None]) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None
        self._before_connecting = before_connecting
        self._proxies = proxies() if settings.trust_env else {}
        self._tick = min(_TICK, settings.stall_timeout / _TICKS_A_TIMEOUT)
        self._stall_ticks = math.ceil(settings.stall_timeout / self._tick)
        self._idle_ticks = math.ceil(_KEEP_ALIVE / self._tick)
        self._hosts: dict[str, FastHost] = {}
        """By origin (`http://host:port`) in lower case."""
        self.open: set[FastConnection] = set()
        """All connections that are open."""
        self.blocks = BlockPool()
        """Memory for long bodies."""
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None

    async def close(self) -> None:
        """Close all connections and wait until they are closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._emptied = asyncio.Event()
        for connection in list(self.open):
            connection.close()
        if self.open:
            await self._emptied.wait()

    def host(self, origin: str) -> FastHost | None:
        """Return the host of the URLs that start with `origin` (`http://host:port`).

        Returns:
            None if the fast path cannot connect to it: its name has an unusual form, or it has a proxy.
        """
        origin = origin.lower()
        host = self._hosts.get(origin)
        if host is None:
            host = plain_host(origin)
            if host is None or (host.scheme in self._proxies and not is_bypassed(host.hostname, host.port)):
                return None
            forget_hosts(self._hosts, lambda one: one.is_needed)
            self._hosts[origin] = host
        return host

    async def connect(self, host: FastHost) -> FastConnection:
        """Return a new connection.

        Raises:
            TransferError: NETWORK, STALLED, ADDRESS.
        """
        self._before_connecting(host.key)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                return await self._try_addresses(host)
        except (OSError, UnicodeError) as error:
            raise TransferError(no_connection(error, host.name)) from error

    async def _try_addresses(self, host: FastHost) -> FastConnection:
        """Connect to the first address that can be reached. An untrusted certificate ends the search."""
        if host.is_tls:
            self._tls = self._tls or await self._settings.tls_context()
        addresses = await host.addresses()
        policy, timeout = self._settings.policy, self._settings.connect_timeout
        reasons = policy.judge(host.hostname, [str(info[4][0]) for info in addresses])
        share = min(_PATIENCE, timeout / max(len(addresses), 1))
        problem: OSError | None = None
        for left, info in zip(reversed(range(len(addresses))), addresses, strict=True):
            address = str(info[4][0])
            try:
                if (reason := reasons[address]) is not None:
                    raise AddressRefusedError(address, reason)
                async with asyncio.timeout(share if left else None):
                    connection = await self._connect_to(info, host)
            except ssl.SSLError:
                raise
            except OSError as error:
                host.failed.add(info)
                if problem is None or not isinstance(error, AddressRefusedError):
                    problem = error
            else:
                host.failed.discard(info)
                policy.connected(host.hostname, address)
                return connection
        raise problem or OSError(f"{host.name} has no address")

    async def _connect_to(self, info: AddressInfo, host: FastHost) -> FastConnection:
        """Connect to one address.

        The loop gets the address, not a socket. uvloop takes over a socket only after `connection_made`, and
        if the connection is closed by then, it closes the same descriptor twice.
        """
        address, port = str(info[4][0]), int(info[4][1])
        tls, server_name = (self._tls, host.hostname) if host.is_tls else (None, None)
        made: list[FastConnection] = []

        def remembered() -> FastConnection:
            made.append(FastConnection(self, host))
            return made[-1]

        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                remembered, address, port, ssl=tls, server_hostname=server_name
            )
        except BaseException:
            for one in made:  # it may have the connection, and uvloop never reports its end
                one.give_up()
            raise
        return connection

    def close_idle(self, key: ConnectionKey) -> None:
        """Close the idle connections with a key. One that was just opened for a request is not idle."""
        for host in self._hosts.values():
            if host.key == key:
                for connection in list(host.idle):
                    connection.close()

    # Called by connections.

    def made(self, connection: FastConnection) -> None:
        """Add an opened connection."""
        self.open.add(connection)
        if self._emptied is not None:
            connection.abort()
        elif self._timer is None:
            self._start_timer()

    def lost(self, connection: FastConnection) -> None:
        """Remove a closed connection."""
        self.open.discard(connection)
        if connection in connection.host.idle:
            connection.host.idle.remove(connection)
        if not self.open and self._emptied is not None:
            self._emptied.set()

    def pace(self) -> Pace:
        """Return a new `Pace` for a response."""
        return Pace(self._settings.min_rate, self._settings.stall_timeout)

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._on_tick)

    def _on_tick(self) -> None:
        """Check all connections. The timer ends with the last one."""
        self._timer = None
        for connection in list(self.open):
            connection.tick(self._tick, self._stall_ticks, self._idle_ticks)
        if self.open:
            self._start_timer()
