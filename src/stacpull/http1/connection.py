"""One connection: its callbacks send requests and read responses.

     NEW ─begin─▶ PARSED ────────────whole: release─────────────▶ IDLE ─begin─▶ PARSED
                    │ stream                                       ▲
                    ▼                                              │
                 STREAMED ─────────end_exchange────────────────────┘
                  │     ▲
    too much held ▼     │ take
                  PAUSED

`_State` describes the states. A connection whose response does not end well is closed in any of them.

- The general path reads a *streamed* response: it waits for more bytes of the body and takes them. It may
  have the rest of a long body received into blocks of memory, without a copy (`http1.blocks`). Reading
  is *paused* while more than `_MOST_HELD` bytes wait to be taken.
- Time is counted in ticks of the owner's timer, and only while the connection waits for the server. So a
  slow writer is not a stall, and does not make a server look slow (`net.bodies`).
- Any error closes the connection, and so do bytes that arrive without a request.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, cast

from stacpull.http1.blocks import BlockReceiver
from stacpull.http1.message import MAX_BODY_IN_MEMORY, ParsedMessage
from stacpull.models import Failure
from stacpull.net import connection_errors
from stacpull.net.bodies import Pace
from stacpull.net.connection_errors import too_slow
from stacpull.net.redirects import REDIRECTS

if TYPE_CHECKING:
    from stacpull.http1.host import FastHost
    from stacpull.http1.web_transport import WebTransport

_MOST_HELD = 1 << 19
_MOST_AWAITED = 1 << 18
_TAKEN = frozenset({200}) | REDIRECTS


class _State(enum.Enum):
    """What a connection does. The diagram of the module shows the legal transitions."""

    NEW = enum.auto()
    """No exchange yet. It does not read, so that early bytes count as the first response."""
    IDLE = enum.auto()
    """No exchange now. It may be closed."""
    PARSED = enum.auto()
    """It has an exchange, and the parser reads the response."""
    STREAMED = enum.auto()
    """The general path takes the response from `message`. The exchange has ended."""
    PAUSED = enum.auto()
    """As streamed, and it does not read."""


_NEW, _IDLE, _PARSED, _STREAMED, _PAUSED = _State
_WITHOUT_RESPONSE = (_NEW, _IDLE)
_TAKEN_OVER = (_STREAMED, _PAUSED)


class FastExchange(Protocol):
    """The user of a connection: the request of an asset or a document."""

    def answered(
        self,
        connection: FastConnection,
        is_ok: bool,
        fields: Mapping[bytes, bytes],
        body: bytes,
        /,
    ) -> bool:
        """Take a complete response: 200 (`is_ok`) or a redirect. Return False to have it streamed instead."""
        ...

    def stream(self, connection: FastConnection, /) -> None:
        """Take the connection, whose response has started or failed."""
        ...

    def send_again(self) -> None:
        """Send the request on a new connection: the server had closed the idle one."""
        ...

    def abandon(self) -> None:
        """Handle the end of the run, which closes the connection."""
        ...

    def fail_run(self, error: Exception, /) -> None:
        """End the run because of a bug."""
        ...


class FastConnection(asyncio.Protocol):
    """A connection to one host. It carries one exchange at a time.

    Args:
        owner: The transport that has opened the connection.
        host: The host that it is connected to.
    """

    def __init__(self, owner: WebTransport, host: FastHost) -> None:
        self._owner = owner
        self.host = host
        self.message = ParsedMessage(host.name)
        self.exchange: FastExchange | None = None
        self._loop = asyncio.get_running_loop()
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
        """Send the next request."""
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

    def abort(self) -> None:
        """Close the connection at once. It sends no more requests."""
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close the connection at the end of the run, or if its exchange was cancelled."""
        if (exchange := self.exchange) is not None:
            self._end(_IDLE)
            exchange.abandon()
        self.abort()

    def tick(self, seconds: float, stall_ticks: int, idle_ticks: int) -> None:
        """Count one tick of the owner's timer, and close the connection after too many ticks without data."""
        exchange = self.exchange
        is_awaited = exchange is not None or (self._waiter is not None and not self._waiter.done())
        is_idle = self._state in _WITHOUT_RESPONSE
        if is_idle or is_awaited:
            self._quiet += 1
        if is_idle and self._quiet > idle_ticks:
            self.abort()
        elif is_awaited and self._quiet > stall_ticks:
            self._fail(connection_errors.stalled(self.host.name), exchange)
        elif is_awaited and self._is_too_slow(seconds):
            self._fail(too_slow(self.host.name), exchange)

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request. Bytes that the server sends before it count as its response."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self.transport.pause_reading()
        self._owner.made(self)

    def data_received(self, data: bytes | memoryview) -> None:
        """Read a response, or a part of it; a view is a piece of the rest of a long body."""
        self._quiet = 0
        self._came += len(data)
        exchange, message = self.exchange, self.message
        if self._state in _WITHOUT_RESPONSE or message.is_ended:
            self.abort()  # bytes without a request: a complete response is valid, but the connection is not
            return
        try:
            message.feed(data)
            if self._state is _PARSED:
                self._look()
                return
            if message.failure is not None:
                self.abort()
            if message.has_enough(self._wanted):
                self._wake()
            if message.held > _MOST_HELD and not message.is_short and self._state is _STREAMED:
                self._pause()
        except Exception as error:  # noqa: BLE001 -- a bug, which the loop would only log
            _fail_run(exchange, error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Determine what the end of the connection means for the response."""
        self.transport = None
        self._lost = exc
        exchange = self.exchange
        try:
            if self._state in _TAKEN_OVER:
                self.message.end(exc)
                self._wake()
            elif exchange is not None:
                self._conclude(exc)
            self._owner.lost(self)
        except Exception as error:  # noqa: BLE001 -- a bug, which the loop would only log
            _fail_run(exchange, error)

    # Responses that are not plain.

    def _look(self) -> None:
        """Take a complete response if it is correct; hand over any other as soon as that is known."""
        message = self.message
        exchange = cast("FastExchange", self.exchange)
        if message.failure is None and message.held <= MAX_BODY_IN_MEMORY:
            if message.is_gathering and message.status == HTTPStatus.OK:
                return  # there may be only a few chunks
            if message.is_ended and message.status in _TAKEN:  # so its end was announced
                is_ok = message.status == HTTPStatus.OK
                if exchange.answered(self, is_ok, message.fields, message.body()):
                    return
        if message.is_answered:
            self._stream(exchange)

    def _stream(self, exchange: FastExchange) -> None:
        """Hand the response over, which has started, failed or was not accepted."""
        if self.message.failure is not None:
            self.abort()
        self._end(_STREAMED)
        exchange.stream(self)

    def _end(self, state: _State) -> None:
        """End the exchange; the connection is then in `state`."""
        self.exchange = None
        self._state = state

    def _conclude(self, error: Exception | None) -> None:
        """Handle the end of the connection, which may be the end of the response."""
        if self._is_reused and self.message.is_untouched:  # the server had closed the idle connection
            exchange = cast("FastExchange", self.exchange)
            self._end(_IDLE)
            exchange.send_again()
        else:
            self.message.end(error)
            self._look()

    def _fail(self, failure: Failure, exchange: FastExchange | None) -> None:
        try:
            self.message.fail(failure)
            if self._state in _TAKEN_OVER:
                self._wake()
            else:
                self._look()
        except Exception as error:  # noqa: BLE001 -- a bug, which the loop would only log
            _fail_run(exchange, error)

    def _is_too_slow(self, seconds: float) -> bool:
        """Return True, after a tick of the timer, if the response arrives too slowly since its first byte."""
        if self._pace is None:
            if not self._came:
                return False
            self._pace = self._owner.pace()
        came, self._came = self._came, 0
        return self._pace.is_too_slow(seconds, came)

    def release(self) -> None:
        """End an exchange whose response was taken. The connection becomes idle or is closed."""
        self.exchange = None
        self._state = _IDLE
        self._quiet = 0
        if self.message.is_reusable and self.transport is not None and not self.transport.is_closing():
            self.message.reset()
            self.host.idle.append(self)
        else:
            self.abort()

    # Called by the general path while it reads the response.

    def wait_for_bytes(self, count: int) -> asyncio.Future[None]:
        """Return a future that ends on an error, or when about `count` bytes or the whole body arrived."""
        self._wanted = min(count, _MOST_AWAITED)
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def receive_blocks(self) -> None:
        """Receive the rest of a long body into blocks: `take` then returns views of them."""
        if self.message.is_bypassed:
            self._set_protocol(BlockReceiver(self._owner.blocks, self.data_received, self.connection_lost))

    def take(self) -> list[bytes | memoryview]:
        """Return the received bytes of the body that were not taken yet, and resume reading."""
        if self._state is _PAUSED and self.transport is not None and not self.transport.is_closing():
            self._state = _STREAMED
            self.transport.resume_reading()
        return self.message.take()

    def end_exchange(self) -> None:
        """Take the connection back. It becomes idle, or is closed if it cannot be reused."""
        self._waiter = None
        self._set_protocol(self)
        self.release()

    def _set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Change the protocol of the transport, which takes effect when it starts to read."""
        transport = self.transport
        if transport is None or transport.is_closing() or transport.get_protocol() is protocol:
            return
        if self._state is not _PAUSED:
            transport.pause_reading()
        transport.set_protocol(protocol)
        if self._state is not _PAUSED:
            transport.resume_reading()

    def _pause(self) -> None:
        if self.transport is not None and not self.message.is_ended:
            self._state = _PAUSED
            self.transport.pause_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _fail_run(exchange: FastExchange | None, error: Exception) -> None:
    """End the run of an exchange, which would otherwise wait forever."""
    if exchange is None:
        raise error
    exchange.fail_run(error)
