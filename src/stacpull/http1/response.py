"""Responses for the general path: to requests that the fast path hands over, and to those for documents.

They are the result of a transport: a response whose body may still arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import TYPE_CHECKING, cast

from stacpull.http1.connection import FastConnection
from stacpull.http1.host import request_tail
from stacpull.net.bodies import coding_to_undo, decoded_body, regrouped
from stacpull.net.connection_errors import closed
from stacpull.net.fields import HeaderFields
from stacpull.net.transport import Request, Response, TransferError

if TYPE_CHECKING:
    from stacpull.http1.host import FastHost
    from stacpull.http1.web_transport import WebTransport

_PIECE = 128 * 1024
"""Bytes of an encoded body that are decoded at once."""


class StreamedResponse:
    """A response whose body is read from a connection, released when it is closed.

    The connection has read the head of the response, or has failed. With `decode`, a known content coding is
    decoded. With `in_blocks`, a long body is received into blocks of memory (`http1.blocks`): `chunks` then
    yields views of them, which serve as bytes where they are written, hashed, cut or joined.
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
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<StreamedResponse {self.status} of {self._connection.message.name}>"

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True  # the connection is used for other exchanges from now on
            self._connection.end_exchange()

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Return the body in pieces of about `size` bytes, decoded if its coding is known.

        Bytes that were received before a failure are yielded first, so that a part can be resumed after them.
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


def _joined(pieces: list[bytes | memoryview]) -> bytes:
    """Return pieces as one, which is not copied if it is alone."""
    return cast("bytes", pieces[0]) if len(pieces) == 1 else b"".join(pieces)


async def streamed(
    connection: FastConnection, url: str, *, decode: bool = False, in_blocks: bool = False
) -> Response:
    """Return the response that has started on a connection, or raise its failure."""
    message = connection.message
    if message.failure is not None and not message.status:
        connection.end_exchange()
        raise TransferError(message.failure)
    return StreamedResponse(connection, url, decode=decode, in_blocks=in_blocks)


async def get(web: WebTransport, host: FastHost, request: Request, target: str) -> Response:
    coding = {"accept-encoding": "gzip"} if request.decode else {}
    tail = request_tail(request.headers, host.default_fields | coding)
    sent = b"GET %b HTTP/1.1\r\n%b" % (target.encode("ascii"), tail)
    connection = host.pop()
    if connection is None or not await _Awaited(host).is_answered(connection, sent):
        connection = await web.connect(host)
        await _Awaited(host).is_answered(connection, sent)
    return await streamed(connection, request.url, decode=request.decode, in_blocks=not request.decode)


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
