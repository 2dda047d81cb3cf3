"""The pool of connections of the fast path, for assets and for documents.

Idle connections are kept per host, the most recently used one on top. One timer checks all connections.
"""

from __future__ import annotations

import asyncio
import math

from stacpull.fastpath.blocks import BlockPool
from stacpull.fastpath.connect import FastConnector
from stacpull.fastpath.connection import FastConnection
from stacpull.fastpath.plain_head import PlainHeads
from stacpull.fastpath.requests import RemoteHost, parse_origin
from stacpull.hosts import forget_hosts
from stacpull.net.bodies import Pace
from stacpull.net.idle import Endpoint, IdleConnections
from stacpull.net.transport import USER_AGENT, HttpSettings
from stacpull.proxies import is_bypassed, proxies

_KEEP_ALIVE = 30.0
_TICK = 1.0
_TICKS_A_TIMEOUT = 8


class FastHost:
    """One host and its idle connections."""

    def __init__(self, place: RemoteHost) -> None:
        self.place = place
        self.idle: list[FastConnection] = []
        self.heads = PlainHeads()

    def __repr__(self) -> str:
        return f"<FastHost {self.place.name}, {len(self.idle)} idle>"

    def pop(self) -> FastConnection | None:
        """Return an idle connection that is not known to be closed, or None."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                return connection
        return None


class FastConnections:
    """Opens connections, keeps idle ones, and closes those that are idle or silent for too long.

    Args:
        settings: The settings. A stalled exchange fails at most a second after `stall_timeout`. There are no
            connections to hosts with a proxy.
        idle: Joined, as other pools have connections to the same hosts.
    """

    def __init__(self, settings: HttpSettings, idle: IdleConnections) -> None:
        self._connector = FastConnector(settings)
        self._opening = idle.join(self._close_idle)
        self._proxies = proxies() if settings.trust_env else {}
        self._tick = min(_TICK, settings.stall_timeout / _TICKS_A_TIMEOUT)
        self._stall_ticks = math.ceil(settings.stall_timeout / self._tick)
        self._idle_ticks = math.ceil(_KEEP_ALIVE / self._tick)
        self._pace = (settings.min_rate, settings.stall_timeout)
        self._hosts: dict[RemoteHost, FastHost] = {}
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

    def host(self, head: str) -> FastHost | None:
        """Return the host of the URLs that start with `head` (`http://host:port`).

        Returns:
            None if the fast path cannot connect to it: its name has an unusual form, or it has a proxy.
        """
        place = parse_origin(head)
        if place is None or (place.scheme in self._proxies and not is_bypassed(place.host, place.port)):
            return None
        host = self._hosts.get(place)
        if host is None:
            forget_hosts(self._hosts, lambda one: one.idle)
            host = self._hosts[place] = FastHost(place)
        return host

    def fields(self, place: RemoteHost) -> dict[str, str]:
        """Return the default header fields of every request to `place`."""
        return {
            "host": place.authority, "user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"
        }  # fmt: skip

    async def connect(self, host: FastHost) -> FastConnection:
        """Return a new connection.

        Raises:
            TransferError: NETWORK, STALLED, ADDRESS.
        """
        self._opening(host.place.endpoint)
        return await self._connector.connect(host.place, lambda: FastConnection(self, host))

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
        return Pace(*self._pace)

    def _close_idle(self, endpoint: Endpoint) -> None:
        """Close the idle connections to an endpoint. One that was just opened for a request is not idle."""
        for host in self._hosts.values():
            if host.place.endpoint == endpoint:
                for connection in list(host.idle):
                    connection.close()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._on_tick)

    def _on_tick(self) -> None:
        """Check all connections. The timer ends with the last one."""
        self._timer = None
        for connection in list(self.open):
            connection.tick(self._tick, self._stall_ticks, self._idle_ticks)
        if self.open:
            self._start_timer()
