"""The transport for http and https: GET requests on connections that it shares with the fast path.

Each address of a host is judged, then exactly this one is connected to, without another lookup. One that
failed is tried last, and one that hangs gets its share of the time. aiohttp sends the rest, and is imported
then (0.3 s).
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stacpull.hosts import forget_hosts
from stacpull.http1.connection import FastConnection, streamed
from stacpull.http1.host import FastHost, is_plain, plain_host, request_tail, split_url
from stacpull.net.addresses import AddressInfo, AddressRefusedError
from stacpull.net.bodies import Pace
from stacpull.net.connection_errors import closed, no_connection
from stacpull.net.transport import HttpSettings, Request, Response, TransferError
from stacpull.proxies import is_bypassed, proxies

if TYPE_CHECKING:
    from stacpull.net.http import HttpTransport

_KEEP_ALIVE = 15.0
_TICK = 1.0
_TICKS_A_TIMEOUT = 8
_PATIENCE = 5.0  # seconds for an address while there are others
_HANDSHAKE = 10.0  # seconds of TLS: a server of another protocol may wait for more bytes without an answer


class WebTransport:
    """Made and used in one event loop. A stalled exchange fails at most a second after `stall_timeout`."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None
        self._proxies = proxies() if settings.trust_env else {}
        self._tick = min(_TICK, settings.stall_timeout / _TICKS_A_TIMEOUT)
        self._stall_ticks = math.ceil(settings.stall_timeout / self._tick)
        self._idle_ticks = math.ceil(_KEEP_ALIVE / self._tick)
        self._hosts: dict[str, FastHost] = {}
        """By origin (`http://host:port`) in lower case."""
        self.connections: set[FastConnection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None
        self._general: HttpTransport | None = None

    async def send(self, request: Request) -> Response:
        if request.method == "GET" and request.body is None and is_plain(request.headers):
            head, target = split_url(request.url)
            host = self.host(head)
            if host is not None:
                return await self._get(host, request, target)
        if self._general is None:
            from stacpull.net.http import HttpTransport  # noqa: PLC0415 -- heavy: aiohttp

            self._general = HttpTransport(self._settings)
        return await self._general.send(request)

    async def _get(self, host: FastHost, request: Request, target: str) -> Response:
        coding = {"accept-encoding": "gzip"} if request.decode else {}
        tail = request_tail(request.headers, host.default_fields | coding)
        sent = b"GET %b HTTP/1.1\r\n%b" % (target.encode("ascii"), tail)
        connection = host.pop()
        if connection is None or not await _Awaited(host).is_answered(connection, sent):
            connection = await self.connect(host)
            await _Awaited(host).is_answered(connection, sent)
        return await streamed(connection, request.url, decode=request.decode)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._emptied = asyncio.Event()
        for connection in list(self.connections):
            connection.close()
        if self.connections:
            await self._emptied.wait()
        if self._general is not None:
            await self._general.close()

    # Connections, also for the fast path.

    def host(self, origin: str) -> FastHost | None:
        """None if its name has an unusual form, or it has a proxy."""
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

        The loop gets the address, not a socket: uvloop takes over a socket only after `connection_made`, and
        would close the descriptor twice if the connection is closed by then.
        """
        address, port = str(info[4][0]), int(info[4][1])
        tls, server_name = (self._tls, host.hostname) if host.is_tls else (None, None)
        patience = min(_HANDSHAKE, self._settings.stall_timeout) if host.is_tls else None
        connection = FastConnection(self, host)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                address,
                port,
                ssl=tls,
                server_hostname=server_name,
                ssl_handshake_timeout=patience,
            )
        except BaseException:
            connection.abort()  # it may have the connection, and uvloop never reports its end
            self.lost(connection)
            raise
        return connection

    # Called by connections.

    def made(self, connection: FastConnection) -> None:
        self.connections.add(connection)
        if self._emptied is not None:
            connection.abort()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._on_tick)

    def lost(self, connection: FastConnection) -> None:
        self.connections.discard(connection)
        if connection in connection.host.idle:
            connection.host.idle.remove(connection)
        if not self.connections and self._emptied is not None:
            self._emptied.set()

    def pace(self) -> Pace:
        return Pace(self._settings.min_rate, self._settings.stall_timeout)

    def _on_tick(self) -> None:
        """Check all connections. The timer ends with the last one."""
        self._timer = None
        for connection in list(self.connections):
            connection.tick(self._tick, self._stall_ticks, self._idle_ticks)
        if self.connections:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._on_tick)


class _Awaited:
    """An exchange whose response is streamed to a task (`connection.FastExchange`)."""

    def __init__(self, host: FastHost) -> None:
        self._host = host
        self._answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def is_answered(self, connection: FastConnection, request: bytes) -> bool:
        """Send the request; return False if the server had closed the connection."""
        connection.begin(self, request)
        try:
            return await self._answer
        except asyncio.CancelledError:
            connection.close()
            raise

    def answered(
        self, _connection: FastConnection, _is_ok: bool, _fields: Mapping[bytes, bytes], _body: bytes, /
    ) -> bool:
        return False

    def stream(self, connection: FastConnection, /) -> None:
        if self._answer.done():
            connection.abort()
        else:
            self._answer.set_result(True)

    def send_again(self) -> None:
        if not self._answer.done():
            self._answer.set_result(False)

    def abandon(self) -> None:
        self.fail_run(TransferError(closed(self._host.name, None)))

    def fail_run(self, error: Exception, /) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)
