"""The transport for http and https: documents and ranges on connections of the fast path.

aiohttp is imported when a request needs it, which takes 0.3 s; a plain mirror does not. It sends all requests
except plain GETs of a document (`Request.decode`) or of a range, and all requests to hosts that the fast path
cannot connect to.

A server may serve one connection at a time: while one is idle, a new one is never served. So either of the
two closes the idle connections of the other before it opens one to the same host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from stacpull.fastpath.connection import FastConnection
from stacpull.fastpath.connections import FastConnections
from stacpull.fastpath.host import FastHost
from stacpull.fastpath.requests import is_plain, request_tail, split_url
from stacpull.fastpath.response import StreamedResponse
from stacpull.net.connection_errors import closed
from stacpull.net.transport import ConnectionKey, HttpSettings, Request, Response, TransferError

if TYPE_CHECKING:
    from stacpull.net.http import HttpTransport


class WebTransport:
    """A `stacpull.net.transport.Transport` for http and https; made and used in one event loop.

    Attributes:
        connections: The connections of the fast path.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self.connections = FastConnections(settings, self._close_idle)
        self._general: HttpTransport | None = None

    def open(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Send `request` when the context is entered.

        Raises:
            TransferError: NETWORK, STALLED, ADDRESS; SCHEME for a broken URL; OVERLONG or SERVER for a
                response that is not valid HTTP.
        """
        if self.is_fast(request):
            head, target = split_url(request.url)
            host = self.connections.host(head)
            if host is not None:
                return DocumentExchange(self.connections, host, request, target)
        return self.general().open(request)

    async def close(self) -> None:
        """Close all connections."""
        await self.connections.close()
        if self._general is not None:
            await self._general.close()

    def is_fast(self, request: Request) -> bool:
        """Return True if the fast path may send this request, provided that it can connect to the host."""
        is_get = request.method == "GET" and request.body is None
        is_range = "range" in map(str.lower, request.headers)
        return is_get and (request.decode or is_range) and is_plain(request.headers)

    def general(self) -> HttpTransport:
        """Return the transport over aiohttp."""
        if self._general is None:
            from stacpull.net.http import HttpTransport  # noqa: PLC0415 -- heavy: aiohttp

            self._general = HttpTransport(self._settings, self.connections.close_idle)
        return self._general

    def _close_idle(self, key: ConnectionKey) -> None:
        """Close aiohttp's idle connections before the fast path opens one with the same key."""
        if self._general is not None:
            self._general.close_idle(key)


class DocumentExchange:
    """A GET on a connection of the fast path: a context manager that yields the response."""

    def __init__(self, connections: FastConnections, host: FastHost, request: Request, target: str) -> None:
        self._connections = connections
        self._host = host
        self._request = request
        self._target = target
        self._answer: asyncio.Future[FastConnection | None]
        self._response: StreamedResponse

    async def __aenter__(self) -> Response:
        connection = await self._sent()
        url = self._request.url
        self._response = StreamedResponse(connection, url, decode=self._request.decode)
        return await self._response.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._response.__aexit__(kind, error, trace)

    async def _sent(self) -> FastConnection:
        """Send the request, and return the connection, whose response has started or failed."""
        coding = {"accept-encoding": "gzip"} if self._request.decode else {}
        tail = request_tail(self._request.headers, self._host.default_fields | coding)
        request = b"GET %b HTTP/1.1\r\n%b" % (self._target.encode("ascii"), tail)
        connection = self._host.pop()
        if connection is not None and (answered := await self._response_on(connection, request)) is not None:
            return answered
        connection = await self._connections.connect(self._host)
        answered = await self._response_on(connection, request)
        if answered is None:
            raise RuntimeError("a new connection was used before")
        return answered

    async def _response_on(self, connection: FastConnection, request: bytes) -> FastConnection | None:
        """Send the request on `connection`; return None if the server had closed it."""
        self._answer = asyncio.get_running_loop().create_future()
        connection.begin(self, request)
        try:
            return await self._answer
        except asyncio.CancelledError:
            connection.cancel()
            raise

    # Called by the connection.

    def answered(
        self,
        _connection: FastConnection,
        _is_ok: bool,
        _fields: Mapping[bytes, bytes],
        _body: bytes | memoryview,
        /,
    ) -> bool:
        """Return False, so that every response is streamed."""
        return False

    def stream(self, connection: FastConnection, /) -> None:
        """Take the connection with a response."""
        if self._answer.done():
            connection.abort()
        else:
            self._answer.set_result(connection)

    def send_again(self) -> None:
        """Send the request on a new connection."""
        self._end(None)

    def abandon(self) -> None:
        """Handle the end of the run."""
        self._end(TransferError(closed(self._host.name, None, free=False)))

    def fail_run(self, error: Exception, /) -> None:
        """Raise the error of a bug where the response is awaited."""
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self._answer.done():
            return
        if error is None:
            self._answer.set_result(None)
        else:
            self._answer.set_exception(error)
