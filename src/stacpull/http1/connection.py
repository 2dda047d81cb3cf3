"""One connection, whose callbacks send requests and read responses, and the response that a task reads.

    its state:              new ──send─▶ parsed ──whole: release──▶ idle ──send─▶ parsed
                                            └─stream─▶ streamed ──ended: release──▶ idle
    phase of its response:  awaiting ──head─▶ receiving ──last byte─▶ whole

A new connection does not read yet, so bytes that the server sends early belong to its first response. An idle
connection that receives bytes is closed, and so is one whose response ended incorrectly. Only the time of
waiting for the server is limited, not the time that the reader of a response takes.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from types import MethodType
from typing import Any, Literal, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from stacpull.models import Failure, Headers
from stacpull.net.bodies import MinimumRate
from stacpull.net.connection_errors import ResponseFault, connection_failure
from stacpull.net.fields import HEADER_LIMIT, HeaderFields, add_field
from stacpull.net.status import NOT_MODIFIED, OK, REDIRECTS
from stacpull.net.transport import KEEP_ALIVE, Chunk, HttpSettings, Response, TransferError

MAX_BODY_IN_MEMORY = 1 << 20  # maximum size of a body that is read into memory
_MAX_PARSED = 1 << 16  # maximum size of a body of known length that the parser reads
_WITHOUT_BODY = frozenset({204, NOT_MODIFIED})
_LOWEST_STATUS = 100
_MAX_HELD = 250_000  # bytes with which reading pauses until the reader states the size of its chunks
_MAX_PIECES = 64  # the most that are kept: a piece of one byte takes 40 bytes
_TAKEN = frozenset({OK}) | REDIRECTS


class ResponseParser:
    """Parses a response from bytes. One object parses all responses of a connection in turn (`reset`).

    llhttp (through httptools) parses as leniently as in aiohttp. This class handles limits, bytes after the
    end of a response, and the end of the connection. Long bodies bypass the parser, which would copy them.
    """

    def __init__(self, name: str) -> None:
        self.name = name  # the host, for messages
        self._parser: HttpResponseParser | None = None
        self._head: dict[bytes, bytes] = {}  # fields until the head is complete, then trailers
        self.on_header = MethodType(add_field, self._head)  # called ten times per response, and fast
        self.fields: dict[bytes, bytes] = {}  # the fields by name in lower case; repeated ones are joined
        self.failure: Failure | None = None
        self.in_memory = False  # true if the announced body is short enough to be given to its reader at once
        self._is_framed = self.keeps_alive = False
        self.unparsed_bytes = 0  # to come of a long body; set by its head, taken by all later calls of `feed`
        self.reset()

    def reset(self) -> None:
        """Forget a complete, correct response: all but what the next head sets."""
        self.status = 0
        self.held_bytes = 0
        self.phase: Literal["awaiting", "receiving", "whole"] = "awaiting"
        self._pieces: list[Chunk] = []
        self._overhead = 0  # bytes since the last one of the body

    @property
    def is_ended(self) -> bool:
        return self.phase == "whole" or self.failure is not None

    @property
    def is_receiving_chunks(self) -> bool:
        is_chunked = self._is_framed and not self.in_memory and not self.unparsed_bytes
        return is_chunked and self.phase == "receiving" and self.failure is None

    @property
    def is_empty(self) -> bool:
        return not self._overhead and self.phase == "awaiting" and self.failure is None

    def has_enough(self, size: int) -> bool:
        """Return True if a reader that waits for `size` bytes should be woken: a short body comes whole."""
        return self.is_ended or (self.phase == "receiving" and not self.in_memory and self.held_bytes >= size)

    def body(self) -> bytes:
        return b"".join(self._pieces)  # a single one is not copied

    def take(self) -> Chunk:
        pieces, self._pieces = self._pieces, []
        self.held_bytes = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def feed(self, data: Chunk) -> None:
        if self.unparsed_bytes:
            self._parser = None
            if len(data) > self.unparsed_bytes:
                data = data[: self.unparsed_bytes]
                self._bad(ResponseFault.OVERLONG)
            self._pieces.append(data)
            self.held_bytes += len(data)
            self.unparsed_bytes -= len(data)
            if not self.unparsed_bytes:
                self.phase = "whole"
            return
        held_before = self.held_bytes
        status_before = self.status
        self._overhead += len(data)
        if self._parser is None:
            self._parser = HttpResponseParser(self)
            self._parser.set_dangerous_leniencies(  # as aiohttp's, because servers make mistakes
                lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
            )
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._parser = None
            self._bad()
        if self.phase == "whole" and self.failure is None:
            return
        if len(self._pieces) > _MAX_PIECES:
            self._pieces = [self.body()]
        if self.held_bytes > held_before:
            self._overhead = 0
        elif self._overhead > HEADER_LIMIT and self.phase != "whole":
            self._bad(ResponseFault.ENDLESS_FIELDS)
        if self.failure is not None and not status_before:
            self.status = 0  # the response is wrong from its first byte, so its head means nothing

    def end(self, error: Exception | None) -> None:
        self._parser = None  # its callbacks are our methods: the cycle would keep up to 1 MiB alive
        if self.phase == "awaiting":
            self.fail(connection_failure(error if isinstance(error, ssl.SSLError) else None, self.name))
        elif self.phase == "receiving":
            if self._is_framed or error is not None:
                self._bad(ResponseFault.TRUNCATED)
            else:
                self.phase = "whole"

    def fail(self, failure: Failure) -> None:
        if self.failure is None:
            self.failure = failure

    def _bad(self, fault: ResponseFault = ResponseFault.MALFORMED) -> None:
        if self.phase == "whole":
            fault = ResponseFault.OVERLONG
        self.fail(fault.failure(self.name))

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._head.clear()
        if self.phase == "whole":
            self._bad(ResponseFault.OVERLONG)

    def on_headers_complete(self) -> None:
        parser: Any = self._parser  # the parser calls this method
        status = parser.get_status_code()
        fields = self._head.copy()
        if self._overhead > HEADER_LIMIT and sum(map(len, (*fields, *fields.values()))) > HEADER_LIMIT:
            self._bad(ResponseFault.ENDLESS_FIELDS)
            return
        length = fields.get(b"content-length")
        has_space = length is None and any(name.endswith(b" ") for name in fields)
        has_null = 0 in b"".join(fields.values())  # the parser refuses it in names
        if status < _LOWEST_STATUS or has_null or has_space:  # the parser obeys `Content-Length : 5`
            self._bad()
            return
        if status < OK:
            return  # interim (RFC 9110, 15.2): ignored, and there may be any number of them
        self.fields = fields
        self.status = status
        self.keeps_alive = parser.should_keep_alive()
        self.phase = "receiving"
        if status in _WITHOUT_BODY:
            self.phase = "whole"
        elif length is not None:
            self._is_framed = True
            size = int(length)
            self.in_memory = size <= MAX_BODY_IN_MEMORY
            if size > _MAX_PARSED:
                self.unparsed_bytes = size
        else:
            codings = fields.get(b"transfer-encoding", b"").lower()
            self._is_framed = codings.rstrip().endswith(b"chunked")
            self.in_memory = False

    def on_body(self, data: bytes) -> None:
        if self.phase == "receiving":
            self._pieces.append(data)
            self.held_bytes += len(data)
            if self.unparsed_bytes:
                self.unparsed_bytes -= len(data)
        else:
            self._bad()  # also of an interim response, which has no body

    def on_message_complete(self) -> None:
        if self.phase == "receiving":
            self.phase = "whole"


class ResponseHandler(Protocol):
    def on_response(
        self, connection: "Http1Connection", is_ok: bool, fields: Mapping[bytes, bytes], body: bytes, /
    ) -> bool:
        """Take a complete response: 200 (`is_ok`) or a redirect. Return False to have it streamed instead."""

    def on_streamed(self, connection: "Http1Connection", /) -> None: ...  # from now on; or it has failed

    def send_on_new_connection(self) -> None: ...  # the server had closed the idle one

    def on_close(self) -> None: ...  # the end of the run closes the connection

    def on_error(self, error: Exception, /) -> None: ...


class ConnectionOwner(Protocol):
    def add(self, connection: "Http1Connection") -> None: ...
    def discard(self, connection: "Http1Connection") -> None: ...


class Http1Connection(asyncio.Protocol):
    """A connection to the host `name`. After a response, it appends itself to `idle`."""

    def __init__(self, owner: ConnectionOwner, name: str, idle: list["Http1Connection"]) -> None:
        self._owner = owner
        self.idle = idle
        self.response = ResponseParser(name)
        self.handler: ResponseHandler | None = None
        self.transport: asyncio.Transport | None = None
        self._lost_error: Exception | None = None
        self._state: Literal["new", "idle", "parsed", "streamed"] = "new"
        self._is_reused = False
        self.quiet_ticks = self._received = 0
        self.chunk_size = _MAX_HELD  # which the reader of a response sets
        self._minimum_rate: MinimumRate | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._receiver: _BufferReceiver | None = None

    def send(self, handler: ResponseHandler, request: bytes) -> None:
        self._is_reused = self._state != "new"
        self.handler = handler
        self._state = "parsed"
        self.quiet_ticks = self._received = 0
        self._minimum_rate = None
        transport = self.transport
        if transport is None:  # closed before it could be used
            self._conclude(handler, self._lost_error)
            return
        if not self._is_reused:
            transport.resume_reading()
        transport.write(request)

    def release(self) -> None:
        self.handler = self._waiter = None
        self._state = "idle"
        response = self.response
        is_correct = response.phase == "whole" and response.failure is None
        if is_correct and response.keeps_alive and self.transport is not None:
            response.reset()
            self.idle.append(self)
        else:
            self.abort()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        if (handler := self.handler) is not None:
            self.handler = None
            self._state = "idle"
            handler.on_close()
        self.abort()

    def tick(self, seconds: float, settings: HttpSettings) -> None:
        """Called every `seconds`. Close the connection if data came too slowly or not at all."""
        if self._receiver is not None:
            self._receiver.flush()
        is_awaited = self._waiter is not None and not self._waiter.done()
        if self._state in {"new", "idle"}:
            if self.quiet_ticks * seconds >= KEEP_ALIVE:
                self.abort()
            self.quiet_ticks += 1
        elif self.handler is not None or is_awaited:
            fault = self._waiting_fault(seconds, settings)
            self.quiet_ticks += 1
            if self.response.held_bytes:
                self._wake()  # less than the reader waits for: a slow body should still progress
            if fault is not None:
                self.response.fail(fault.failure(self.response.name))
                self.abort()  # `connection_lost` passes the end on

    def _waiting_fault(self, seconds: float, settings: HttpSettings) -> ResponseFault | None:
        response = self.response
        if self.quiet_ticks * seconds >= settings.stall_timeout:  # at least: the first tick may come at once
            is_in_head = not response.status and not response.is_empty
            return ResponseFault.NO_HEAD if is_in_head else ResponseFault.STALLED
        if not response.status:
            return None
        if self._minimum_rate is None:
            self._minimum_rate = MinimumRate(settings.min_rate, settings.stall_timeout)
        received, self._received = self._received, 0
        return ResponseFault.TOO_SLOW if self._minimum_rate.is_too_slow(seconds, received) else None

    # Called by the event loop, which would only log an exception. So it is passed to the handler.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request. Bytes that the server sends before it count as its response."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self.transport.pause_reading()
        self._owner.add(self)

    def data_received(self, data: Chunk) -> None:
        handler = self.handler
        response = self.response
        if handler is None and (self._state != "streamed" or response.is_ended):
            self.abort()  # bytes without a request: a complete response is valid, but the connection is not
            return
        try:
            response.feed(data)
            if response.status:  # before, header fields and interim responses are not progress
                self.quiet_ticks = 0
                self._received += len(data)
            if handler is not None:
                self._dispatch(handler)
                return
            if response.failure is not None:
                self.abort()
            if response.has_enough(self.chunk_size):
                self._wake()
                if not response.is_ended and self.transport is not None:
                    self.transport.pause_reading()
        except Exception as error:
            if handler is None:
                raise
            handler.on_error(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._lost_error = exc
        handler = self.handler
        try:
            if self._state == "streamed":
                self.response.end(exc)
                self._wake()
            elif handler is not None:
                self._conclude(handler, exc)
            self._owner.discard(self)
        except Exception as error:
            if handler is None:
                raise
            handler.on_error(error)

    def _dispatch(self, handler: ResponseHandler) -> None:
        """Give a complete and correct response to the handler. Any other is streamed as soon as possible."""
        response = self.response
        status = response.status
        if response.failure is None and response.held_bytes <= MAX_BODY_IN_MEMORY:
            if response.phase == "whole":
                is_ok = status == OK
                if status in _TAKEN and handler.on_response(self, is_ok, response.fields, response.body()):
                    return
            elif status == OK and response.is_receiving_chunks:
                return  # there may be only a few chunks
        if response.has_enough(0):  # otherwise the head, or a short body, is not complete
            if response.failure is not None:
                self.abort()
            self.handler = None  # a failure, a long body, or what the handler did not take
            self._state = "streamed"
            self.chunk_size = _MAX_HELD
            handler.on_streamed(self)

    def _conclude(self, handler: ResponseHandler, error: Exception | None) -> None:
        if self._is_reused and self.response.is_empty:  # the server had closed the idle connection
            self.handler = None
            self._state = "idle"
            handler.send_on_new_connection()
        else:
            self.response.end(error)
            self._dispatch(handler)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def chunks(self, size: int) -> AsyncGenerator[Chunk]:
        """Yield the body. Before a failure, yield all received bytes, so that the part can be resumed."""
        response = self.response
        self.chunk_size = size
        if self._receiver is None and response.unparsed_bytes > size and self.transport is not None:
            self._receiver = _BufferReceiver(self)
            # from now on, the receiver gets all bytes; uvloop asks it how to read only when reading starts
            self.transport.pause_reading()
            self.transport.set_protocol(self._receiver)
        is_last = False
        while not is_last:
            if not response.has_enough(size):
                if self.transport is not None and not self.transport.is_closing():
                    self.transport.resume_reading()
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            is_last = response.is_ended
            if response.held_bytes:
                yield response.take()
        if response.failure is not None:
            raise TransferError(response.failure)


class _BufferReceiver(asyncio.BufferedProtocol):
    """Receives long bodies into buffers, which are not copied again on their way to the disk."""

    def __init__(self, connection: Http1Connection) -> None:
        self._connection = connection
        self._buffer = memoryview(b"")
        self._filled = 0

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        if not self._buffer:
            size = self._connection.chunk_size if self._connection.response.unparsed_bytes else _MAX_PARSED
            self._buffer = memoryview(bytearray(min(size, MAX_BODY_IN_MEMORY)))
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled >= min(len(self._buffer), self._connection.response.unparsed_bytes):
            self.flush()

    def flush(self) -> None:
        received, self._buffer = self._buffer[: self._filled], memoryview(b"")
        self._filled = 0
        if received:
            self._connection.data_received(received)

    def connection_lost(self, exc: Exception | None) -> None:
        self.flush()
        self._connection.connection_lost(exc)


class StreamedResponse:
    def __init__(self, connection: Http1Connection, url: str) -> None:
        self._connection = connection
        self.url = url
        self.status = connection.response.status
        self.headers: Headers = HeaderFields(connection.response.fields)
        self.chunks = connection.chunks
        self._is_closed = False

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True  # the connection is used for other exchanges from now on
            self._connection.release()


async def streamed(connection: Http1Connection, url: str) -> Response:
    response = connection.response
    if response.failure is not None and not response.status:
        connection.release()
        raise TransferError(response.failure)
    return StreamedResponse(connection, url)
