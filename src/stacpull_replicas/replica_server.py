"""The server of a replica: its ports, connections, faults, and the log of requests.

It connects sockets to services, which use `RequestInfo` and `ReplicaReply` values. Only this module uses the
server library. Latency, faults, compression, HEAD, large bodies and the log are the same for every replica
and are handled here; `RequestHandler.handle` is called for every request. Invalid responses, which the
library cannot send (too many bytes, no end, no HTTP), are written directly to the transport, which is then
closed.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import socket
import struct
import sys
import threading
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar

from aiohttp import web

from stacpull_replicas.fault_replies import Responder, reply_under
from stacpull_replicas.faults import (
    Close,
    ConnectionFault,
    Delay,
    Drip,
    Fault,
    FaultQueue,
    Faults,
    Fields,
    Overlong,
    Raw,
    ReplyFault,
    Stall,
    Unframed,
)
from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, Stream

_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One answered request. `sent` counts body bytes; `headers` is empty unless the replica records them."""

    server: str
    kind: str
    method: str
    target: str
    status: int
    sent: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Traffic:
    """The log of a replica: the last 20,000 requests, and counts per (server, kind of route) of all."""

    record_headers: bool = False
    requests: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=_KEPT))
    counters: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_sent: int = 0

    def note(self, record: RequestRecord) -> None:
        self.requests.append(record)
        self.counters[record.server, record.kind] += 1
        self.bytes_sent += record.sent


_PIECE = 256 * 1024
_DRIPS_A_SECOND = 10
_LOOK_EVERY = 0.05
"""Seconds between checks whether a waiting client is still connected."""


@dataclass
class ReplySender:
    """Sends one reply to a client."""

    raw: web.BaseRequest
    reply: ReplicaReply
    sent: int = 0

    def whole(self) -> web.Response:
        """Return a reply that fits in memory, or its headers for HEAD."""
        body = self.reply.body
        headers = dict(self.reply.headers)
        if self.raw.method == "HEAD":
            headers["Content-Length"] = str(self.reply.size)
            body = b""
        elif isinstance(body, Stream):
            raise TypeError("a stream is sent in pieces")
        self.sent = len(body)
        return web.Response(body=body, status=self.reply.status, reason=self.reply.reason, headers=headers)

    async def send_stream(self) -> web.StreamResponse:
        """Send a large reply in pieces."""
        response = await self._begin()
        await self._write(response, 0, self.reply.size)
        return response

    async def send_with(self, fault: ConnectionFault) -> web.StreamResponse:
        """Send a reply that is truncated, delayed or not HTTP."""
        match fault:
            case Close(None, reset):
                self._cut(reset=reset)
            case Close(int(after), reset):
                response = await self._begin()
                await self._write(response, 0, min(after, self.reply.size))
                self._cut(reset=reset)
                return response
            case Stall(after, seconds):
                return await self._stalling(min(after, self.reply.size), seconds)
            case Drip(rate, after):
                return await self._dripping(min(after, self.reply.size), rate)
            case Overlong() | Unframed() | Fields() | Raw():
                await self._send_raw(fault)
        return web.Response()

    async def _stalling(self, after: int, seconds: float) -> web.StreamResponse:
        response = await self._begin()
        await self._write(response, 0, after)
        await self._wait(seconds)
        if self.raw.transport is not None:
            await self._write(response, after, self.reply.size)
        return response

    async def _dripping(self, after: int, rate: float) -> web.StreamResponse:
        response = await self._begin()
        await self._write(response, 0, after)
        step = max(1, int(rate / _DRIPS_A_SECOND))
        for start in range(after, self.reply.size, step):
            if self.raw.transport is None:
                break
            await self._write(response, start, min(start + step, self.reply.size))
            await asyncio.sleep(step / rate)
        return response

    async def _send_raw(self, fault: Overlong | Unframed | Fields | Raw) -> None:
        """Write an invalid response directly to the transport, and close the connection."""
        size = self.reply.size
        match fault:
            case Raw(data):
                self._put(data)
            case Fields(count, length):
                more = {f"X-More-{number}": "x" * length for number in range(count)}
                self._put(self._head({"Content-Length": str(size), **more}) + self._read(0, size))
            case Overlong(extra):
                self._put(self._head({"Content-Length": str(size)}))
                await self._put_body(size)
                self._put(b"!" * extra)
            case Unframed(keep, chunked):
                self._put(self._head({"Transfer-Encoding": "chunked"} if chunked else {}))
                await self._put_body(size if keep is None else min(keep, size), chunked=chunked)
        self._cut(reset=False)

    async def _begin(self) -> web.StreamResponse:
        headers = dict(self.reply.headers)
        headers["Content-Length"] = str(self.reply.size)
        response = web.StreamResponse(status=self.reply.status, reason=self.reply.reason, headers=headers)
        await response.prepare(self.raw)
        return response

    async def _write(self, response: web.StreamResponse, start: int, stop: int) -> None:
        for first in range(start, stop, _PIECE):
            piece = self._read(first, min(stop, first + _PIECE))
            await response.write(piece)
            self.sent += len(piece)

    async def _put_body(self, stop: int, *, chunked: bool = False) -> None:
        """Write the body up to `stop` directly to the transport."""
        for first in range(0, stop, _PIECE):
            piece = self._read(first, min(stop, first + _PIECE))
            self._put(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            self.sent += len(piece)
            await asyncio.sleep(0)

    async def _wait(self, seconds: float) -> None:
        """Wait, unless the client disconnects."""
        until = asyncio.get_running_loop().time() + seconds
        while self.raw.transport is not None:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _LOOK_EVERY))

    def _put(self, data: bytes) -> None:
        if self.raw.transport is not None and not self.raw.transport.is_closing():
            self.raw.transport.write(data)

    def _head(self, framing: dict[str, str]) -> bytes:
        reason = self.reply.reason or HTTPStatus(self.reply.status).phrase
        fields = {**self.reply.headers, **framing, "Connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.reply.status} {reason}\r\n{lines}\r\n".encode()

    def _read(self, start: int, stop: int) -> bytes:
        body = self.reply.body
        return body.read(start, stop) if isinstance(body, Stream) else body[start:stop]

    def _cut(self, *, reset: bool) -> None:
        """Close the connection. With `reset`, bytes that are not sent yet are dropped."""
        transport = self.raw.transport
        if transport is None:
            return
        if reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()


_WORTH_COMPRESSING = 500
_COMPRESSED_IN_A_THREAD = 1 << 20


@dataclass(frozen=True)
class RequestHandler:
    """Handles requests with `respond`, a pure function from request to reply."""

    server: str
    respond: Callable[[RequestInfo], ReplicaReply]
    traffic: Traffic
    faults: Faults
    latency: float = 0.0

    async def handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, with the fault that strikes it, if any.

        If a client disconnects, only its own exchange ends; this is not an error of the server.
        """
        try:
            return await self._answer(raw)
        except (ConnectionError, web.RequestPayloadError):
            return web.Response()  # not sent: the connection is closed

    async def _answer(self, raw: web.BaseRequest) -> web.StreamResponse:
        request = await self._read(raw)
        fault = self.faults.before(request)
        if self.latency:
            await asyncio.sleep(self.latency)
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        reply = await _compressed(request, self._reply(request, fault))
        sender = ReplySender(raw, reply)
        try:
            return await self._send(sender, fault)
        finally:  # an interrupted reply also counts as a request
            headers = request.headers if self.traffic.record_headers else {}
            self.traffic.note(
                RequestRecord(
                    self.server,
                    reply.kind,
                    request.method,
                    request.target,
                    reply.status,
                    sender.sent,
                    headers,
                )
            )

    async def _send(self, sender: ReplySender, fault: Fault | None) -> web.StreamResponse:
        if isinstance(fault, ConnectionFault):
            return await sender.send_with(fault)
        if isinstance(sender.reply.body, Stream) and sender.raw.method != "HEAD":
            return await sender.send_stream()
        return sender.whole()

    async def _read(self, raw: web.BaseRequest) -> RequestInfo:
        headers: dict[str, str] = {}
        for name, value in raw.headers.items():
            lower = name.lower()
            headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
        body = await raw.read() if raw.body_exists else b""
        return RequestInfo(self.server, raw.method, raw.raw_path, headers, body)

    def _reply(self, request: RequestInfo, fault: Fault | None) -> ReplicaReply:
        if isinstance(fault, ReplyFault):
            return reply_under(fault, request, self.respond)
        return self.respond(request)


async def _compressed(request: RequestInfo, reply: ReplicaReply) -> ReplicaReply:
    """Compress a reply with gzip if it is worthwhile and the client accepts it.

    Streams are not compressed, to save time: the page that benchmarks request (86 MB) would take a second.
    """
    body = reply.body
    if not reply.compressible or isinstance(body, Stream) or "gzip" not in _codings(request):
        return reply
    if len(body) < _WORTH_COMPRESSING:
        return reply
    headers = {**reply.headers, "Vary": "Accept-Encoding"}
    if len(body) > _COMPRESSED_IN_A_THREAD:
        packed = await asyncio.to_thread(_gzip, body)
    else:
        packed = _gzip(body)
    return replace(reply, headers={**headers, "Content-Encoding": "gzip"}, body=packed)


def _codings(request: RequestInfo) -> str:
    return request.headers.get("accept-encoding", "")


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, level=1, wbits=31)


_BACKLOG = 1024
_CLOSING_SECONDS = 0.5


class ReplicaServer:
    """The base of all replicas: servers on consecutive ports, a log, faults. Use `async with`, once."""

    server_names: Sequence[str] = ()
    """The servers in the order of their ports."""

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        latency_ms: float = 0,
        record: bool = False,
        faults: Faults | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._latency = latency_ms / 1000
        self._injected = FaultQueue()
        self._planned = faults
        self._traffic = Traffic(record_headers=record)
        self._urls: dict[str, str] = {}
        self._open = AsyncExitStack()

    def responders(self) -> Mapping[str, Responder]:
        """Return the responder of each server. It is called after the URLs are known."""
        raise NotImplementedError

    def places(self) -> Mapping[str, str]:
        """Return the URLs of the services by name, for display."""
        raise NotImplementedError

    def exports(self) -> Mapping[str, str]:
        """Return the environment variables for clients of the replica."""
        raise NotImplementedError

    @property
    def requests(self) -> deque[RequestRecord]:
        """The last 20,000 requests, oldest first."""
        return self._traffic.requests

    @property
    def counters(self) -> Counter[tuple[str, str]]:
        """The number of requests for each (server, kind of route)."""
        return self._traffic.counters

    @property
    def bytes_sent(self) -> int:
        """Bytes of all bodies sent so far."""
        return self._traffic.bytes_sent

    def url(self, server: str) -> str:
        """Return the root URL of one of the servers, without a trailing slash."""
        return self._urls[server]

    def inject(self, match: Callable[[RequestInfo], bool], fault: Fault, times: int = 1) -> None:
        """Let a fault strike the next `times` requests for which `match` is true. Thread-safe."""
        self._injected.inject(match, fault, times)

    def clear_faults(self) -> None:
        """Remove the injected faults that have not struck yet."""
        self._injected.clear()

    def before(self, request: RequestInfo) -> Fault | None:
        """Return the fault for a request: an injected one first, otherwise a planned one."""
        fault = self._injected.before(request)
        return fault if fault or self._planned is None else self._planned.before(request)

    async def __aenter__(self) -> Self:
        """Bind all ports or none, then start the servers."""
        async with AsyncExitStack() as opening:
            listeners: dict[str, socket.socket] = {}
            for offset, server in enumerate(self.server_names):
                listener = _bind(self._host, self._port + offset if self._port else 0)
                opening.callback(listener.close)
                listeners[server] = listener
                self._urls[server] = f"http://{_reachable(self._host)}:{listener.getsockname()[1]}"
            for server, respond in self.responders().items():
                handler = RequestHandler(server, respond, self._traffic, self, self._latency)
                runner = web.ServerRunner(
                    web.Server(handler.handle, access_log=None),
                    shutdown_timeout=_CLOSING_SECONDS,
                )
                await runner.setup()
                opening.push_async_callback(runner.cleanup)
                await web.SockSite(runner, listeners[server], backlog=_BACKLOG).start()
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()


HostedT = TypeVar("HostedT", bound=ReplicaServer)


@contextmanager
def run_in_thread(replica: HostedT) -> Iterator[HostedT]:
    """Run a replica in its own thread, for blocking clients: requests, boto3, other processes.

    Properties, `inject` and changes may be used from the caller's thread. An error at the start is raised
    here.
    """
    ready = threading.Event()
    failures: list[BaseException] = []
    stops: list[Callable[[], object]] = []

    async def live() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with replica:
            stops.append(lambda: loop.call_soon_threadsafe(stop.set))
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=fast_loop) as runner:
                runner.run(live())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="replica", daemon=True)
    thread.start()
    ready.wait()
    try:
        if not failures:
            yield replica
    finally:
        for stop in stops:
            stop()
        thread.join()
    if failures:
        raise failures[0]


async def serve(replica: ReplicaServer) -> None:
    """Run a replica until it is cancelled or the process gets SIGTERM or SIGINT.

    Prints a comment with the URL of each service, and `export NAME=VALUE` lines for clients. Output is
    flushed immediately, so that `eval "$(grep ^export out.txt)"` works.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    async with replica:
        for number in signals:
            loop.add_signal_handler(number, stop.set)
        try:
            lines = [f"# {what}: {url}" for what, url in replica.places().items()]
            lines += [f"export {name}={shlex.quote(value)}" for name, value in replica.exports().items()]
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
            await stop.wait()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


def fast_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop if it is installed, otherwise the event loop of the standard library."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _reachable(host: str) -> str:
    """Return the name by which clients on this machine reach a bound host."""
    return "127.0.0.1" if host in {"", "0.0.0.0"} else host  # noqa: S104 - compared, not bound
