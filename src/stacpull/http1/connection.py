"""One connection, whose callbacks send requests and read responses, and the response that a task reads.

    NEW ─begin─▶ PARSED ──whole: release──▶ IDLE ─begin─▶ PARSED
                    └─stream─▶ STREAMED ◀─take, too much held─▶ PAUSED; then release

A NEW connection does not read: early bytes count as the first response. Bytes without a request, or a bad end
of a response, close it. Only waiting for the server is timed: a slow writer is not a stall.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, cast

from stacpull.http1.message import MAX_BODY_IN_MEMORY, ParsedMessage
from stacpull.models import Failure
from stacpull.net.bodies import Pace, coding_to_undo, decoded_body
from stacpull.net.connection_errors import stalled, too_slow
from stacpull.net.fields import HeaderFields
from stacpull.net.status import REDIRECTS
from stacpull.net.transport import Response, TransferError

if TYPE_CHECKING:
    from stacpull.http1.web_transport import FastHost, WebTransport

_MOST_HELD = 1 << 19
_MOST_AWAITED = 1 << 18
_PIECE = 128 * 1024
_TAKEN = frozenset({200}) | REDIRECTS

_State = enum.Enum("_State", ["NEW", "IDLE", "PARSED", "STREAMED", "PAUSED"])
_NEW, _IDLE, _PARSED, _STREAMED, _PAUSED = _State


class FastExchange(Protocol):
    def answered(
        self, connection: FastConnection, is_ok: bool, fields: Mapping[bytes, bytes], body: bytes, /
    ) -> bool:
        """Take a complete response: 200 (`is_ok`) or a redirect. Return False to have it streamed instead."""
        ...

    def stream(self, connection: FastConnection, /) -> None: ...  # its response has started or failed

    def send_again(self) -> None: ...  # on a new connection: the server had closed the idle one

    def abandon(self) -> None: ...  # the end of the run closes the connection

    def fail_run(self, error: Exception, /) -> None: ...


class FastConnection(asyncio.Protocol):
    def __init__(self, owner: WebTransport, host: FastHost) -> None:
        self._owner = owner
        self.host = host
        self.message = ParsedMessage(host.name)
        self.exchange: FastExchange | None = None
        self.transport: asyncio.Transport | None = None
        self._lost: Exception | None = None
        self._state = _NEW
        self._is_reused = False
        self._quiet = self._came = self._wanted = 0
        self._pace: Pace | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<FastConnection {self.host.name} {self._state.name}>"

    def begin(self, exchange: FastExchange, request: bytes) -> None:
        is_new = self._state is _NEW
        self.exchange = exchange
        self._state = _PARSED
        self._is_reused = not is_new
        self._quiet = self._came = 0
        self._pace = None
        transport = self.transport
        if transport is None:  # closed before it could be used
            self._conclude(self._lost)
            return
        if is_new:
            transport.resume_reading()
        transport.write(request)

    def release(self) -> None:
        self.exchange = self._waiter = None
        self._state = _IDLE
        self._quiet = 0
        if self.message.is_reusable and self.transport is not None and not self.transport.is_closing():
            self.message.reset()
            self.host.idle.append(self)
        else:
            self.abort()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        if (exchange := self.exchange) is not None:
            self.exchange, self._state = None, _IDLE
            exchange.abandon()
        self.abort()

    def tick(self, seconds: float, stall_ticks: int, idle_ticks: int) -> None:
        """Count one tick of the owner's timer, and close the connection after too many ticks without data."""
        is_awaited = self.exchange is not None or (self._waiter is not None and not self._waiter.done())
        is_idle = self._state is _NEW or self._state is _IDLE
        if is_idle or is_awaited:
            self._quiet += 1
        if is_idle and self._quiet > idle_ticks:
            self.abort()
        elif is_awaited and self._quiet > stall_ticks:
            self._fail(stalled(self.host.name))
        elif is_awaited and (self._came or self._pace is not None):  # since the first byte
            if self._pace is None:
                self._pace = self._owner.pace()
            came, self._came = self._came, 0
            if self._pace.is_too_slow(seconds, came):
                self._fail(too_slow(self.host.name))

    # Called by the event loop. A bug there would only be logged, so it is passed to the run.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request. Bytes that the server sends before it count as its response."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self.transport.pause_reading()
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        self._quiet = 0
        self._came += len(data)
        exchange, message, state = self.exchange, self.message, self._state
        if state is _IDLE or state is _NEW or message.is_ended:
            self.abort()  # bytes without a request: a complete response is valid, but the connection is not
            return
        try:
            message.feed(data)
            if state is _PARSED:
                self._look()
                return
            if message.failure is not None:
                self.abort()
            if message.has_enough(self._wanted):
                self._wake()
            is_full = message.held > _MOST_HELD and not message.is_short and not message.is_ended
            if is_full and state is _STREAMED and self.transport is not None:
                self._state = _PAUSED
                self.transport.pause_reading()
        except Exception as error:  # noqa: BLE001 -- see above
            _fail_run(exchange, error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._lost = exc
        exchange = self.exchange
        try:
            if self._state is _STREAMED or self._state is _PAUSED:
                self.message.end(exc)
                self._wake()
            elif exchange is not None:
                self._conclude(exc)
            self._owner.lost(self)
        except Exception as error:  # noqa: BLE001 -- see above
            _fail_run(exchange, error)

    def _look(self) -> None:
        """Take a complete response if it is correct; hand over any other as soon as that is known."""
        message, exchange = self.message, cast("FastExchange", self.exchange)
        if message.failure is None and message.held <= MAX_BODY_IN_MEMORY:
            is_ok = message.status == HTTPStatus.OK
            if message.is_gathering and is_ok:
                return  # there may be only a few chunks
            is_complete = message.is_ended and message.status in _TAKEN  # so its end was announced
            if is_complete and exchange.answered(self, is_ok, message.fields, message.body()):
                return
        if message.has_enough(0):  # it has started, failed or was not accepted
            if message.failure is not None:
                self.abort()
            self.exchange, self._state = None, _STREAMED
            exchange.stream(self)

    def _conclude(self, error: Exception | None) -> None:
        if self._is_reused and self.message.is_untouched:  # the server had closed the idle connection
            exchange = cast("FastExchange", self.exchange)
            self.exchange, self._state = None, _IDLE
            exchange.send_again()
        else:
            self.message.end(error)
            self._look()

    def _fail(self, failure: Failure) -> None:
        exchange = self.exchange
        try:
            self.message.fail(failure)
            if exchange is None:
                self._wake()
            else:
                self._look()
        except Exception as error:  # noqa: BLE001 -- see above
            _fail_run(exchange, error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Called by the general path while it reads the response.

    def wait_for_bytes(self, count: int) -> asyncio.Future[None]:
        """Return a future that ends on an error, or when about `count` bytes or the whole body arrived."""
        self._wanted = min(count, _MOST_AWAITED)
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        return waiter

    def take(self) -> list[bytes]:
        if self._state is _PAUSED and self.transport is not None and not self.transport.is_closing():
            self._state = _STREAMED
            self.transport.resume_reading()
        return self.message.take()


def _fail_run(exchange: FastExchange | None, error: Exception) -> None:
    if exchange is None:
        raise error
    exchange.fail_run(error)


class StreamedResponse:
    def __init__(self, connection: FastConnection, url: str, *, decode: bool = False) -> None:
        self._connection = connection
        self.url = url
        self.status = connection.message.status
        self.headers: Mapping[str, str] = HeaderFields(connection.message.fields)
        self._coding = coding_to_undo(self.headers) if decode else None
        self._is_closed = False

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True  # the connection is used for other exchanges from now on
            self._connection.release()

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Bytes before a failure are yielded first, so that a part can be resumed after them."""
        if self._coding is None:
            return self._sent(size)
        name = self._connection.message.name
        return decoded_body(self._sent(_PIECE), self._coding, name)

    async def _sent(self, size: int) -> AsyncGenerator[bytes]:
        connection, message = self._connection, self._connection.message
        pieces: list[bytes] = []
        held = 0
        while True:
            is_last = message.is_ended
            taken = connection.take()
            for piece in taken:
                pieces.append(piece)
                held += len(piece)
                if held >= size:
                    yield b"".join(pieces)
                    pieces, held = [], 0
            if is_last:
                break
            if not taken:  # else more may have come meanwhile, and reading may have paused
                await connection.wait_for_bytes(size - held)
        if pieces:
            yield b"".join(pieces)
        if message.failure is not None:
            raise TransferError(message.failure)


async def streamed(connection: FastConnection, url: str, *, decode: bool = False) -> Response:
    message = connection.message
    if message.failure is not None and not message.status:
        connection.release()
        raise TransferError(message.failure)
    return StreamedResponse(connection, url, decode=decode)
