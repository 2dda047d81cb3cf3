"""Responses for the general path: to requests that the fast path hands over, and to those for documents.

They replace the result of a transport: a failure, or a response whose body may still arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from stacpull.http1.connection import FastConnection
from stacpull.http1.requests import request_tail
from stacpull.net.bodies import coding_to_undo, decoded_body, regrouped
from stacpull.net.connection_errors import closed
from stacpull.net.fields import HeaderFields
from stacpull.net.transport import Request, Response, TransferError

if TYPE_CHECKING:
    from stacpull.http1.host import FastHost
    from stacpull.http1.web_transport import WebTransport

_PIECE = 128 * 1024
"""Bytes of an encoded body that are decoded at once."""


class FailedResponse:
    """A request without a response: entering the context raises its error."""

    def __init__(self, error: TransferError) -> None:
        self._error = error

    async def __aenter__(self) -> Response:
        raise self._error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""


class StreamedResponse:
    """A response whose body is read from a connection, released when the context ends.

    Args:
        connection: It has read the head of the response, or has failed.
        url: The URL of the response.
        decode: True to decode a known content coding.
        in_blocks: True to receive a long body into blocks of memory (`http1.blocks`): `chunks` then yields
            views of them, which serve as bytes where they are written, hashed, cut or joined.
    """

    def __init__(
        self, connection: FastConnection, url: str, *, decode: bool = False, in_blocks: bool = False
    ) -> None:
        self._connection = connection
        self.url = url
        self.status = connection.message.status
        self.headers: Mapping[str, str] = HeaderFields(connection.message.fields)
        self._coding = coding_to_undo(self.headers) if decode else None
        self._in_blocks = in_blocks

    async def __aenter__(self) -> Self:
        message = self._connection.message
        if not message.status and message.failure is not None:
            self._connection.end_exchange()
            raise TransferError(message.failure)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.end_exchange()
        del self._connection  # it is used for other exchanges from now on

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Return the body in pieces of about `size` bytes, decoded if its coding is known.

        Bytes that were received before a failure are yielded first, so that a part can be resumed after them.

        Raises:
            TransferError: TRUNCATED, OVERLONG, STALLED, NETWORK.
        """
        connection = self._connection
        if self._in_blocks:
            connection.receive_blocks()
        if self._coding is None:
            return self._sent(size)
        return regrouped(decoded_body(self._sent(_PIECE), self._coding, connection.message.name), size)

    async def _sent(self, size: int) -> AsyncGenerator[bytes]:
        connection, message = self._connection, self._connection.message
        pieces: list[bytes | memoryview] = []
        held = 0
        while True:
            is_last = message.is_ended
            taken = connection.take()
            for piece in taken:
                pieces.append(piece)
                held += len(piece)
                if held >= size:
                    yield _joined(pieces)
                    pieces, held = [], 0
            if is_last:
                break
            if not taken:  # else more may have come meanwhile, and reading may have paused
                await connection.wait_for_bytes(size - held)
        if pieces:
            yield _joined(pieces)
        if message.failure is not None:
            raise TransferError(message.failure)


class DocumentExchange:
    """A GET on a connection: a context manager that yields the response."""

    def __init__(self, web: WebTransport, host: FastHost, request: Request, target: str) -> None:
        self._web = web
        self._host = host
        self._request = request
        self._target = target
        self._answer: asyncio.Future[FastConnection | None]
        self._response: StreamedResponse

    async def __aenter__(self) -> Response:
        connection = await self._sent()
        url = self._request.url
        decode = self._request.decode
        self._response = StreamedResponse(connection, url, decode=decode, in_blocks=not decode)
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
        connection = await self._web.connect(self._host)
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
            connection.close()
            raise

    # Called by the connection.

    def answered(
        self,
        _connection: FastConnection,
        _is_ok: bool,
        _fields: Mapping[bytes, bytes],
        _body: bytes,
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
        self._end(TransferError(closed(self._host.name, None)))

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


def _joined(pieces: list[bytes | memoryview]) -> bytes:
    """Return pieces as one, which is not copied if it is alone."""
    return cast("bytes", pieces[0]) if len(pieces) == 1 else b"".join(pieces)
