"""HTTP with little overhead, for requests that are made millions of times: GET an asset.

aiohttp spends most of its time on request, response and session objects. Here a request is some bytes put
together; a response is a status, a dict and a list of pieces, on connections that carry one exchange at a
time (`net.lean_connection`) and are kept for the next (`net.lean_pool`). API pages share these connections: a
server that serves one connection at a time would make assets wait for one that is kept for pages.

It does what `net.http.HttpTransport` does (a test sends the same responses to both and compares). That
transport is the fallback for everything unusual: other methods, hosts that go through a proxy or are written
in an unusual way (`net.lean_requests`).
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

from stacpull.caches import LONGEST_KEY
from stacpull.hosts import forget_hosts
from stacpull.net import lean_failures
from stacpull.net.addresses import AddressPolicy
from stacpull.net.coding import can_decode, coding_of, undone
from stacpull.net.http import user_agent
from stacpull.net.idle import Endpoint, IdleConnections
from stacpull.net.lean_connect import Connector
from stacpull.net.lean_connection import LeanConnection
from stacpull.net.lean_headers import LeanHeaders
from stacpull.net.lean_pool import LeanPool, Line
from stacpull.net.lean_requests import Place, is_plain, place_of, request_tail, split_url
from stacpull.net.transport import Request, Response, TransferError, Transport
from stacpull.proxies import proxies

__all__ = ["LeanExchange", "LeanTransport"]

_KEEP_ALIVE = 30.0
_CONNECT_TIMEOUT = 30.0
_CODED = 64 * 1024
"""Bytes of a coded body that are decoded together."""


class LeanTransport:
    """A `stacpull.net.transport.Transport` for http and https, to be used in one event loop.

    Args:
        policy: Which addresses may be connected to.
        fallback: Sends what is not taken here; closed with this transport.
        stall_timeout: Seconds without a byte after which an exchange fails; there is no total timeout.
        min_rate: Bytes a second below which a response is too slow, judged over `stall_timeout`; 0 for none.
        connect_timeout: Seconds for name lookup, connection and TLS together.
        ca_bundle: Certificates to trust instead of the system's (PEM).
        trust_env: Whether the environment may name proxies; hosts that have one are left to `fallback`.

    Attributes:
        idle: For other pools of connections to the same hosts.
    """

    def __init__(
        self,
        *,
        policy: AddressPolicy,
        fallback: Transport,
        stall_timeout: float = 30.0,
        min_rate: float = 0.0,
        connect_timeout: float = _CONNECT_TIMEOUT,
        ca_bundle: Path | None = None,
        trust_env: bool = True,
    ) -> None:
        self._fallback = fallback
        self._proxies = proxies() if trust_env else {}
        self._connector = Connector(policy, timeout=connect_timeout, ca_bundle=ca_bundle)
        self._pool = LeanPool(stall_timeout=stall_timeout, min_rate=min_rate, keep_alive=_KEEP_ALIVE)
        self._agent = ""
        self.idle = IdleConnections()
        self._opening = self.idle.join(self._close_idle)

    def open(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Send `request` when the context is entered.

        Raises:
            TransferError: NETWORK, STALLED, ADDRESS; SERVER for a response that is no valid HTTP.
        """
        if not is_plain(request.method, request.headers):
            return self._fallback.open(request)
        origin, target = split_url(request.url)
        try:
            line = self._pool.lines[origin]
        except KeyError:
            forget_hosts(self._pool.lines, lambda line: line is not None and line.idle)
            line = self._new_line(origin)
            if len(origin) <= LONGEST_KEY:
                self._pool.lines[origin] = line
        if line is None:
            return self._fallback.open(request)
        return LeanExchange(self, request, line, target)

    async def close(self) -> None:
        """Close all connections, those of the fallback as well."""
        await self._pool.close()
        await self._fallback.close()

    async def begin(self, request: Request, line: Line, target: str, *, fresh: bool) -> LeanConnection:
        """Send `request` on an idle connection, or on a new one. For `LeanExchange`.

        Args:
            request: What to send.
            line: The connections to its host.
            target: The request target.
            fresh: True to use a new connection in any case.

        Raises:
            TransferError: NETWORK, STALLED, ADDRESS.
        """
        if not line.fields:
            line.fields = await self._own_fields(line.place)
            line.tail = request_tail({}, line.fields)
        tail = line.tail
        if request.decode:
            tail = request_tail({"Accept-Encoding": "gzip", **request.headers}, line.fields, request.body)
        elif request.headers or request.body is not None:
            tail = request_tail(request.headers, line.fields, request.body)
        message = f"{request.method} {target} HTTP/1.1\r\n".encode("ascii") + tail
        head_only = request.method == "HEAD"
        connection = None if fresh else line.pop()
        if connection is not None:
            connection.begin(message, head_only=head_only)
            return connection
        place, pool = line.place, self._pool
        self._opening(place.endpoint)
        return await self._connector.connect(
            place, lambda: LeanConnection(pool, place.name, message, head_only=head_only)
        )

    def _close_idle(self, endpoint: Endpoint) -> None:
        for line in self._pool.lines.values():
            if line is not None and line.place.endpoint == endpoint:
                while (connection := line.pop()) is not None:
                    connection.abort()

    async def _own_fields(self, place: Place) -> dict[str, str]:
        """Return the fields of every request; our own version is in a file, read in a thread."""
        if not self._agent:
            self._agent = await asyncio.to_thread(user_agent)
        return {
            "host": place.authority, "user-agent": self._agent, "accept": "*/*", "accept-encoding": "identity"
        }  # fmt: skip

    def _new_line(self, origin: str) -> Line | None:
        place = place_of(origin)
        return None if place is None or self._is_proxied(place) else Line(place)

    def _is_proxied(self, place: Place) -> bool:
        return place.scheme in self._proxies and not urllib.request.proxy_bypass(place.host)


class LeanExchange:
    """One request and its response: a context manager that is the response once it is entered."""

    __slots__ = ("_connection", "_line", "_request", "_target", "_transport", "headers", "status", "url")
    _connection: LeanConnection
    url: str
    """The URL that answered."""
    status: int
    """HTTP status code."""
    headers: Mapping[str, str]
    """Header fields, looked up in any case."""

    def __init__(self, transport: LeanTransport, request: Request, line: Line, target: str) -> None:
        self._transport = transport
        self._request = request
        self.url = request.url
        self._line = line
        self._target = target

    def __repr__(self) -> str:
        return f"<LeanExchange {self._request.method} {self._line.place.name}>"

    async def __aenter__(self) -> Self:
        connection = await self._answered(fresh=False)
        failure = connection.message.failure
        if failure is not None and failure.free:  # the server had closed the idle connection
            connection = await self._answered(fresh=True)
        message = connection.message
        if not message.status and message.failure is not None:
            raise TransferError(message.failure)
        self._connection = connection
        self.headers = LeanHeaders(message.fields)
        self.status = message.status
        return self

    async def _answered(self, *, fresh: bool) -> LeanConnection:
        """Send the request and return the connection once the response has begun, or has failed."""
        connection = await self._transport.begin(self._request, self._line, self._target, fresh=fresh)
        message = connection.message
        try:
            while not message.is_answered:
                await connection.arrival(0)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection.end_exchange():
            self._line.idle.append(self._connection)
        del self._connection  # it carries other exchanges from now on

    async def read(self, limit: int) -> bytes:
        """Return the whole body, decoded if the request asked for that.

        Raises:
            TransferError: TRUNCATED, OVERLONG, STALLED, NETWORK; or OVERLONG when it exceeds `limit` bytes.
        """
        coding = self._coding()
        if coding is not None:
            return await self._read_decoded(coding, limit)
        connection, message = self._connection, self._connection.message
        size = message.held
        pieces = connection.take()
        while size <= limit and not message.is_ended:
            await connection.arrival(limit - size + 1)
            size += message.held
            pieces += connection.take()
        if size > limit:
            raise TransferError(lean_failures.too_large(message.name, self.status, limit))
        if message.failure is not None:
            raise TransferError(message.failure)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Return the body in pieces of about `size` bytes, the last one shorter.

        What came before a failure is yielded before it is raised: a part can be continued from there.

        Raises:
            TransferError: TRUNCATED, OVERLONG, STALLED, NETWORK.
        """
        coding = self._coding()
        return self._sent(size) if coding is None else undone(self._sent(size), coding, self._line.place.name)

    def _coding(self) -> str | None:
        """Return the content coding to undo, None for a body that is taken as it is sent."""
        coding = coding_of(self.headers) if self._request.decode else None
        return coding if coding is not None and can_decode(coding) else None

    async def _read_decoded(self, coding: str, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async with aclosing(undone(self._sent(_CODED), coding, self._line.place.name)) as content:
            async for piece in content:
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    name = self._connection.message.name
                    raise TransferError(lean_failures.too_large(name, self.status, limit))
        return b"".join(pieces)

    async def _sent(self, size: int) -> AsyncGenerator[bytes]:
        """Yield the body as it is sent, in pieces of about `size` bytes."""
        connection, message = self._connection, self._connection.message
        pieces: list[bytes] = []
        held = 0
        while True:
            held += message.held
            pieces += connection.take()
            if message.is_ended:
                break
            if held >= size:
                yield b"".join(pieces)
                pieces, held = [], 0
            else:
                await connection.arrival(size - held)
        if pieces:
            yield b"".join(pieces)
        if message.failure is not None:
            raise TransferError(message.failure)
