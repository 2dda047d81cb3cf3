"""Requests to a bucket: objects, uploads, copies, listings.

botocore takes 2 ms of CPU time per request, `BucketRequests` a tenth of a millisecond. One thread runs an
event loop for all connections, and any thread may call `send`:

    request      signed (Signature Version 4) over its header fields and the SHA-256 of its body
    connection   kept alive; one request at a time, without `Expect: 100-continue`
    reply        status, header fields, and a body of up to 8 MiB

`BucketRequests` does not retry. Only if the server had closed the idle connection is a request sent again,
over another one. A request has no reply if the reply is malformed, if the connection is lost, or if for a
minute the server has received and sent nothing. `BucketService.request` repeats such requests.

`BotocoreRequests` sends through a proxy, with the HTTP client of botocore.

Source: Amazon S3 API Reference.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import ssl
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast
from urllib.parse import urlsplit

from stacpull.http1.message import ParsedMessage
from stacpull.net.fields import HeaderFields
from stacpull.net.notices import SILENT_AFTER
from stacpull.proxies import Proxy
from stacpull.runtime import loop_runner
from stacpull.s3_endpoint import Endpoint
from stacpull.sigv4 import EMPTY_BODY, Credentials, Signer, encode_key
from stacpull.system import is_linux

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

CONNECTIONS = 64
"""Simultaneous requests."""
THREADS = 32
"""Simultaneous long parts, and requests through a proxy."""
_CONNECT_TIMEOUT = 10.0
_SILENCE = 60.0
"""Seconds without progress: the server has received no more bytes of the request, and sent none."""
_TURN = 1.0
"""Seconds between two looks at the progress of all requests."""
_CHUNK = 1 << 18
_BUFFERED = 1 << 20
_LONGEST_BODY = 8 << 20
"""A thousand keys of 1,024 bytes, each byte encoded, and their other fields."""
_MOST_PIECES, _SMALL = 2000, 1 << 10
"""The most pieces of a reply of unknown length that are smaller. Servers send replies in far fewer."""
_CHUNKED = b"chunked"
COPY = "x-amz-copy-source"
_STATUSES = range(200, 600)


class FilePiece(NamedTuple):
    """A body that is read from a file while it is sent."""

    file: BinaryIO
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the whole piece."""
        return os.pread(self.file.fileno(), self.size, self.offset)


RequestBody = bytes | memoryview | FilePiece
"""The body of a request."""


def size_of(body: RequestBody) -> int:
    """Return the number of bytes of a body."""
    return body.size if isinstance(body, FilePiece) else len(body)


def as_file(body: RequestBody) -> BinaryIO:
    """Return a body for botocore, which sends a file in blocks. All of any other body must leave in 10 s."""
    if not isinstance(body, FilePiece):
        return io.BytesIO(body)
    if body.size < os.fstat(body.file.fileno()).st_size:
        return io.BytesIO(body.read())
    body.file.seek(0)
    return body.file


class ObjectRequest(NamedTuple):
    """A request for one object, or for the bucket if the key is empty.

    Header names are in lower case. `sha256` is the digest of the body in hex.
    """

    method: str
    key: str
    headers: Mapping[str, str] = {}
    body: RequestBody = b""
    sha256: str = EMPTY_BODY
    query: str = ""
    may_begin: Callable[[], bool] | None = None
    """Called before the request is sent. If it returns False, the request is not sent, and has no reply."""


class ObjectReply(NamedTuple):
    """The response of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None = None
    """The body; None if it was not read, because it is longer than 8 MiB, or not needed and not announced."""


def authorities(ca_bundle: str | None) -> str:
    """Return the file with the authorities of certificates; without a name, those that botocore trusts."""
    if ca_bundle is not None:
        return ca_bundle
    if find_spec("certifi") is not None:
        found: str = import_module("certifi").where()
        return found
    package = cast("ModuleSpec", find_spec("botocore"))  # it is not imported
    return str(Path(cast("str", package.origin)).with_name("cacert.pem"))


class BotocoreRequests:
    """Sends requests to one bucket with the HTTP client of botocore. Its interface is `BucketRequests`."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Callable[[], Credentials],
        ca_bundle: str | None,
        proxy: Proxy | None,
    ) -> None:
        """Create the sender. `credentials`: see `BucketRequests`; `ca_bundle`: see `authorities`."""
        from botocore.httpsession import URLLib3Session  # noqa: PLC0415 - 0.2 s

        self.endpoint = endpoint
        self.problem: Exception | None = None
        self._credentials = credentials
        self._signer = Signer()
        self._http = URLLib3Session(
            authorities(ca_bundle),
            {} if proxy is None else {"http": proxy.url, "https": proxy.url},
            (_CONNECT_TIMEOUT, _SILENCE),
            THREADS,
        )
        self._threads = ThreadPoolExecutor(THREADS, "stacpull-botocore")

    def send(self, requests: Sequence[ObjectRequest]) -> list[ObjectReply | None]:
        """See `BucketRequests.send`."""
        if len(requests) == 1:
            return [self._sent(requests[0])]
        try:
            replies = self._threads.map(self._sent, requests)
        except RuntimeError:  # another thread has closed the sender
            return [None] * len(requests)
        return list(replies)

    def _sent(self, request: ObjectRequest) -> ObjectReply | None:
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - imported already
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        from botocore.response import StreamingBody  # noqa: PLC0415

        if request.may_begin is not None and not request.may_begin():
            return None
        target, fields = signed_request(self._signer, self.endpoint, request, self._credentials(), _now())
        body = as_file(request.body) if size_of(request.body) else b""
        url = self.endpoint.origin + target
        try:
            found = self._http.send(
                AWSRequest(request.method, url, fields, body, stream_output=True).prepare()
            )
            length = None if request.method == "HEAD" else found.headers.get("content-length")
            with closing(StreamingBody(found.raw, length)) as stream:
                content = stream.read(_LONGEST_BODY + 1)
        except BotoCoreError as error:
            self.problem = error
            return None
        is_short = len(content) <= _LONGEST_BODY
        return ObjectReply(found.status_code, found.headers, content if is_short else None)

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown()
        self._http.close()


class BucketRequests:
    """Sends requests to one bucket over connections of its own.

    Attributes:
        endpoint: The endpoint of the bucket.
        problem: The error of the last connection that could not be made.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Callable[[], Credentials],
        context: ssl.SSLContext | None,
        on_silent: Callable[[], None] = lambda: None,
    ) -> None:
        """Create the sender. Nothing is started before the first request.

        Args:
            endpoint: The endpoint of the bucket.
            credentials: Returns the current credentials. It may block to renew them.
            context: The TLS context.
            on_silent: Called on the loop of the requests, about once per second, while the server has made no
                progress with any of them for `SILENT_AFTER` seconds. Uploads that are completed and copies
                do not count, because they take long.
        """
        self.endpoint = endpoint
        self.problem: Exception | None = None
        self._is_closed = False
        self._credentials = credentials
        self._context = context
        self._on_silent = on_silent
        self._signer = Signer()
        self._handing_over = threading.Lock()
        """Held while requests are passed to the loop, so that none follows the order to close."""
        self._thread: threading.Thread | None = None
        self._started: Future[None] = Future()
        self._waiting: deque[_SentObjectRequest] = deque()
        self._idle: list[_BucketConnection] = []
        self._connections: set[_BucketConnection] = set()
        self._opening = 0
        self._waiting_since = 0.0
        """When the oldest of the waiting requests came, or a little earlier."""

    def send(self, requests: Sequence[ObjectRequest]) -> list[ObjectReply | None]:
        """Send requests, many at once; return the replies in order, None for a missing one."""
        if not requests or self._is_closed:
            return [None] * len(requests)
        credentials, batch = self._credentials(), _Batch(len(requests))
        for first in range(0, len(requests), CONNECTIONS):  # send the first ones while others are signed
            date = _now()
            exchanges = [
                _SentObjectRequest(batch, number, request, self._encoded(request, credentials, date))
                for number, request in enumerate(requests[first : first + CONNECTIONS], first)
            ]
            self._hand_over(exchanges)
        return batch.replies.result()

    def _encoded(self, request: ObjectRequest, credentials: Credentials, date: str) -> bytes:
        """Return the signed head of a request."""
        target, signed = signed_request(self._signer, self.endpoint, request, credentials, date)
        if request.method in {"PUT", "POST"}:
            signed["content-length"] = str(size_of(request.body))
        fields = "".join([f"{name}: {value}\r\n" for name, value in signed.items()])
        return f"{request.method} {target} HTTP/1.1\r\n{fields}\r\n".encode()

    def close(self) -> None:
        """Close the connections and end the thread. Later requests get no reply."""
        with self._handing_over:
            self._is_closed = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._loop.call_soon_threadsafe(self._closed.set)
        if thread is not None:
            thread.join()

    def _hand_over(self, exchanges: Sequence[_SentObjectRequest]) -> None:
        """Pass requests to the loop, which is started if necessary. Once closed, they end without replies."""
        with self._handing_over:
            if not self._is_closed:
                if self._thread is None:
                    self._started = Future()
                    thread = threading.Thread(target=self._work, name="stacpull-requests", daemon=True)
                    thread.start()
                    self._started.result()  # if it raises, the next request starts a loop
                    self._thread = thread
                self._loop.call_soon_threadsafe(self._take, exchanges)
                return
        for exchange in exchanges:
            exchange.conclude(None)

    def _work(self) -> None:
        try:
            with loop_runner() as runner:
                runner.run(self._run())
        except BaseException as error:  # a loop needs descriptors
            if self._started.done():
                raise
            self._started.set_exception(error)

    # --- on the loop -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        self._loop.call_later(_TURN, self._look_for_silence)
        try:
            async with asyncio.TaskGroup() as self._group:
                self._started.set_result(None)
                await self._closed.wait()
        finally:
            for connection in list(self._connections):
                connection.abort()
            self._refuse_waiting()

    def _take(self, exchanges: Sequence[_SentObjectRequest]) -> None:
        if not self._waiting:
            self._waiting_since = self._loop.time()
        self._waiting.extend(exchanges)
        while self._waiting and self._idle:
            self.rests(self._idle.pop())
        for _ in range(min(len(self._waiting), CONNECTIONS - len(self._connections)) - self._opening):
            self._opening += 1
            self._group.create_task(self._connect())

    async def _connect(self) -> None:
        parts = urlsplit(self.endpoint.origin)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                await self._loop.create_connection(
                    partial(_BucketConnection, self),
                    parts.hostname or "",
                    parts.port or (443 if self._context else 80),
                    ssl=self._context,
                    ssl_handshake_timeout=_CONNECT_TIMEOUT if self._context else None,
                )
            self.problem = None
        except (OSError, UnicodeError) as error:  # TimeoutError and what TLS raises are OSErrors
            self.problem = error
        finally:
            self._opening -= 1
            if not self._connections and not self._opening:
                self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().conclude(None)

    def _look_for_silence(self) -> None:
        self._loop.call_later(_TURN, self._look_for_silence)
        for connection in list(self._connections):
            connection.abort_if_silent()
        times = [opened.silent_since for opened in self._connections if opened.silent_since is not None]
        if self._waiting and not self._connections:
            times.append(self._waiting_since)
        if times and self._loop.time() - max(times) >= SILENT_AFTER:
            self._on_silent()

    def opened(self, connection: _BucketConnection) -> None:
        """Use a new connection."""
        self._connections.add(connection)
        self.rests(connection)

    def rests(self, connection: _BucketConnection) -> None:
        """Send the next request over an idle connection."""
        while self._waiting:
            self._waiting_since = self._loop.time()
            exchange = self._waiting.popleft()
            if exchange.request.may_begin is None or exchange.request.may_begin():
                connection.begin(exchange)
                return
            exchange.conclude(None)
        self._idle.append(connection)

    def lost(self, connection: _BucketConnection, exchange: _SentObjectRequest | None = None) -> None:
        """Remove a connection. Other connections send the waiting requests and its unsent one."""
        if exchange is not None:
            self._waiting.appendleft(exchange)
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._take(())


Requests = BucketRequests | BotocoreRequests


class _Batch:
    """Requests that are sent together. The batch is complete when each has its reply."""

    def __init__(self, count: int) -> None:
        self._found: list[ObjectReply | None] = [None] * count
        self._missing = count
        self._concluding = threading.Lock()
        self.replies: Future[list[ObjectReply | None]] = Future()

    def conclude(self, number: int, reply: ObjectReply | None) -> None:
        with self._concluding:
            self._found[number] = reply
            self._missing -= 1
            is_whole = not self._missing
        if is_whole:
            self.replies.set_result(self._found)


class _SentObjectRequest(NamedTuple):
    """A request in flight."""

    batch: _Batch
    number: int
    request: ObjectRequest
    head: bytes

    def conclude(self, reply: ObjectReply | None) -> None:
        self.batch.conclude(self.number, reply)


class _BucketConnection(asyncio.Protocol):
    """One connection. Any error, or data without a request, closes it."""

    def __init__(self, owner: BucketRequests) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._exchange: _SentObjectRequest | None = None
        self._message = ParsedMessage("")
        self._pieces = 0
        """Received pieces of the reply."""
        self._unsent: FilePiece | memoryview | None = None
        self._is_paused = False
        self._is_reused = False
        self._last_bytes_at = 0.0
        """The time of the last progress."""
        self._left = 0
        """Bytes that the server had not received at the last look."""

    def begin(self, exchange: _SentObjectRequest) -> None:
        """Send a request."""
        self._exchange = exchange
        self._pieces = 0
        self._last_bytes_at = self._loop.time()
        transport = cast("asyncio.Transport", self._transport)
        body = exchange.request.body
        self._left = len(exchange.head) + size_of(body)
        if not isinstance(body, FilePiece) and len(body) <= _CHUNK:
            transport.write(exchange.head + body)
            return
        transport.write(exchange.head)
        self._unsent = body if isinstance(body, FilePiece) else memoryview(body)
        self._send_more()

    def _send_more(self) -> None:
        while self._unsent is not None and not self._is_paused:
            data: bytes | memoryview
            if isinstance(self._unsent, memoryview):
                data, rest = self._unsent[:_CHUNK], self._unsent[_CHUNK:]
                self._unsent = rest or None
            else:
                file, offset, size = self._unsent
                data = os.pread(file.fileno(), min(_CHUNK, size), offset)
                if not data:
                    self.abort()  # the file has become shorter
                    return
                left = size - len(data)
                self._unsent = FilePiece(file, offset + len(data), left) if left else None
            cast("asyncio.Transport", self._transport).write(data)

    def abort(self) -> None:
        """Close the connection at once; its request gets no reply."""
        self._unsent = None
        if self._transport is not None:
            self._transport.abort()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.conclude(None)

    @property
    def silent_since(self) -> float | None:
        """The time of the last progress of a request that should have its reply soon; None without one."""
        if self._exchange is None:
            return None
        request = self._exchange.request
        is_slow = request.method == "POST" or COPY in request.headers
        return None if is_slow else self._last_bytes_at

    def abort_if_silent(self) -> None:
        """Close the connection if its server has received and sent nothing for a long time."""
        if self._exchange is None:
            return
        left = self._unreceived()
        if left < self._left:
            self._last_bytes_at = self._loop.time()
        self._left = left
        if self._loop.time() - self._last_bytes_at > _SILENCE:
            self.abort()

    def _unreceived(self) -> int:
        """Return how many bytes of the request the server has not received, as far as this is known."""
        if self._transport is None:
            return 0
        unsent = 0 if self._unsent is None else size_of(self._unsent)
        sock = self._transport.get_extra_info("socket")  # None while a TLS connection is being closed
        in_kernel = 0 if sock is None else _unacknowledged(sock.fileno())
        return unsent + self._transport.get_write_buffer_size() + in_kernel

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_BUFFERED)
        self._owner.opened(self)

    def pause_writing(self) -> None:
        """Pause sending the body."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Resume sending the body."""
        self._is_paused = False
        self._send_more()

    def data_received(self, data: bytes) -> None:
        """Read a reply, or a part of it."""
        self._last_bytes_at = self._loop.time()
        exchange = self._exchange
        if exchange is None:
            self.abort()
            return
        message, has_body = self._message, exchange.request.method != "HEAD"
        self._pieces += 1
        if self._pieces == 1:
            message.reset(has_body=has_body)
        message.feed(data)
        if message.failure is not None or (message.status and not _is_usable(message)):
            self.abort()
        elif message.is_ended:
            body = message.body() if message.held <= _LONGEST_BODY else None
            self._end(exchange, _reply_of(message, body), is_reusable=message.is_reusable)
        elif message.status and not _is_awaited(message, exchange.request):
            self._end(exchange, _reply_of(message, None), is_reusable=False)
        elif self._pieces > _MOST_PIECES + message.held // _SMALL and not message.is_short:
            self.abort()

    def _end(self, exchange: _SentObjectRequest, reply: ObjectReply, *, is_reusable: bool = True) -> None:
        """Conclude a request with its reply, and keep the connection if possible."""
        self._exchange = None
        self._is_reused = is_reusable and self._unsent is None
        if not self._is_reused:
            self.abort()
        exchange.conclude(reply)
        if self._is_reused:
            self._owner.rests(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Conclude the request: its reply may end with the connection, or an idle one had been closed."""
        self._transport = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self._is_reused and not self._pieces:
            self._owner.lost(self, exchange)
            return
        self._owner.lost(self)
        if exchange is None:
            return
        message = self._message
        if self._pieces and message.status:
            message.end(exc)
        is_whole = self._pieces and message.is_ended and message.failure is None
        exchange.conclude(_reply_of(message, message.body()) if is_whole else None)


def _reply_of(message: ParsedMessage, body: bytes | None) -> ObjectReply:
    return ObjectReply(message.status, HeaderFields(message.fields), body)


def _is_awaited(message: ParsedMessage, request: ObjectRequest) -> bool:
    """Return True to wait for the rest of the body of a reply: it is short, or needed."""
    if message.is_short:
        return True
    is_needed = request.method in {"GET", "POST"} or COPY in request.headers or message.is_gathering
    return is_needed and int(message.fields.get(b"content-length", message.held)) <= _LONGEST_BODY


def _is_usable(message: ParsedMessage) -> bool:
    """Return True if a reply has a status of HTTP, and its body is sent as it is."""
    coding = message.fields.get(b"transfer-encoding", _CHUNKED)
    return message.status in _STATUSES and coding.strip().lower() == _CHUNKED


def _unacknowledged(descriptor: int) -> int:
    """Return how many bytes of a socket its peer has not acknowledged; 0 if the system does not tell."""
    if not is_linux():
        return 0
    with suppress(OSError, ValueError):  # it is closed
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return 0


def signed_request(
    signer: Signer, endpoint: Endpoint, request: ObjectRequest, credentials: Credentials, date: str
) -> tuple[str, dict[str, str]]:
    """Return the target and the header fields of a request, with its signature."""
    path = endpoint.path + encode_key(request.key)
    fields = signer.sign(
        request.method,
        path,
        {"host": endpoint.host, **request.headers},
        credentials,
        endpoint.region,
        date=date,
        query=request.query,
        body_hash=request.sha256,
    )
    return (f"{path}?{request.query}" if request.query else path), fields


def _now() -> str:
    """Return the time in the format of signatures."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
