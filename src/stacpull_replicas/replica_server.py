"""The server of a replica: its ports, connections, faults, and the log of requests.

It connects sockets to services, which are functions from `RequestInfo` to `ReplicaReply`. Only this module
uses the server library. Responses that the library cannot send (too many bytes, no end, no HTTP) are written
directly to the transport, which is then closed.
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
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Protocol, Self, TypedDict, TypeVar

import msgspec
from aiohttp import web
from msgspec.structs import replace

from stacpull_replicas.faults import (
    Close,
    ConnectionFault,
    Delay,
    Drip,
    Fault,
    Fields,
    Overlong,
    Raw,
    ReplyFault,
    Responder,
    Stall,
    Unframed,
    reply_under,
)
from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, Stream

_KEPT = 20_000
_PIECE = 256 * 1024
_DRIPS_A_SECOND = 10
_LOOK_EVERY = 0.05
"""Seconds between checks whether a waiting client is still connected."""
_WORTH_COMPRESSING = 500
_COMPRESSED_IN_A_THREAD = 1 << 20
_BACKLOG = 1024
_CLOSING_SECONDS = 0.5


class Faults(Protocol):
    """Decides for every request whether a fault strikes it."""

    def before(self, request: RequestInfo) -> Fault | None:
        """Return the fault for this request; None for the right reply."""


class RequestRecord(msgspec.Struct, frozen=True):
    """One answered request. `sent` counts body bytes; `headers` is empty unless the replica records them."""

    server: str
    kind: str
    method: str
    target: str
    status: int
    sent: int
    headers: Mapping[str, str] = {}


class ReplySender(msgspec.Struct):
    """Sends one reply to a client."""

    raw: web.BaseRequest
    reply: ReplicaReply
    sent: int = 0

    async def send(self, fault: Fault | None) -> web.StreamResponse:
        reply, size = self.reply, self.reply.size
        match fault:
            case Close(None, reset):
                self._cut(reset=reset)
            case Close(int(after), reset):
                response = await self._begin()
                await self._write(response, 0, min(after, size))
                self._cut(reset=reset)
                return response
            case Stall(after, seconds):
                response = await self._begin()
                await self._write(response, 0, min(after, size))
                if await self._still_connected_after(seconds):
                    await self._write(response, min(after, size), size)
                return response
            case Drip(rate, after):
                return await self._dripping(min(after, size), rate)
            case Overlong() | Unframed() | Fields() | Raw():
                await self._put(fault)
                self._cut(reset=False)
            case _ if self.raw.method == "HEAD":
                headers = {**reply.headers, "Content-Length": str(size)}
                return web.Response(status=reply.status, reason=reply.reason, headers=headers)
            case _ if isinstance(reply.body, Stream):
                response = await self._begin()
                await self._write(response, 0, size)
                return response
            case _:
                self.sent = size
                return web.Response(
                    body=reply.body, status=reply.status, reason=reply.reason, headers=reply.headers
                )
        return web.Response()  # not sent: the connection is closed

    async def _begin(self) -> web.StreamResponse:
        headers = {**self.reply.headers, "Content-Length": str(self.reply.size)}
        response = web.StreamResponse(status=self.reply.status, reason=self.reply.reason, headers=headers)
        await response.prepare(self.raw)
        return response

    async def _write(self, response: web.StreamResponse, start: int, stop: int) -> None:
        for first in range(start, stop, _PIECE):
            piece = self.reply.read(first, min(stop, first + _PIECE))
            await response.write(piece)
            self.sent += len(piece)

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

    async def _still_connected_after(self, seconds: float) -> bool:
        until = asyncio.get_running_loop().time() + seconds
        while self.raw.transport is not None:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return True
            await asyncio.sleep(min(left, _LOOK_EVERY))
        return False

    async def _put(self, fault: Overlong | Unframed | Fields | Raw) -> None:
        transport, reply, stop = self.raw.transport, self.reply, self.reply.size
        if transport is None:
            return
        framing, chunked, behind = {"Content-Length": str(stop)}, False, b""
        match fault:
            case Raw(data):
                transport.write(data)
                return
            case Fields(count, length):
                framing |= {f"X-More-{number}": "x" * length for number in range(count)}
            case Overlong(extra):
                behind = b"!" * extra
            case Unframed(keep, chunked):
                framing = {"Transfer-Encoding": "chunked"} if chunked else {}
                stop = stop if keep is None else min(keep, stop)
        fields = {**reply.headers, **framing, "Connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        reason = reply.reason or HTTPStatus(reply.status).phrase
        transport.write(f"HTTP/1.1 {reply.status} {reason}\r\n{lines}\r\n".encode())
        for first in range(0, stop, _PIECE):
            piece = reply.read(first, min(stop, first + _PIECE))
            if not transport.is_closing():
                transport.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            self.sent += len(piece)
            await asyncio.sleep(0)
        if not transport.is_closing():
            transport.write(behind)

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


async def _compressed(request: RequestInfo, reply: ReplicaReply) -> ReplicaReply:
    """Compress a reply with gzip if it is worthwhile and the client accepts it.

    Streams are not compressed, to save time: the page that benchmarks request (86 MB) would take a second.
    """
    body = reply.body
    accepted = "gzip" in request.headers.get("accept-encoding", "")
    if not (reply.compressible and accepted and isinstance(body, bytes) and len(body) >= _WORTH_COMPRESSING):
        return reply
    pack = partial(zlib.compress, body, level=1, wbits=31)
    packed = await asyncio.to_thread(pack) if len(body) > _COMPRESSED_IN_A_THREAD else pack()
    headers = {**reply.headers, "Vary": "Accept-Encoding", "Content-Encoding": "gzip"}
    return replace(reply, headers=headers, body=packed)


class _Injection(msgspec.Struct):
    match: Callable[[RequestInfo], bool]
    fault: Fault
    times: int


class ServerOptions(TypedDict, total=False):
    """What every replica accepts.

    `port` is that of the first server (0: free ports), `host` the address to listen on, `latency_ms` the
    delay of each reply; `record` keeps the headers of requests in the log.
    """

    port: int
    host: str
    latency_ms: float
    record: bool
    faults: Faults | None


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
        self.requests: deque[RequestRecord] = deque(maxlen=_KEPT)
        """The last 20,000 requests, oldest first."""
        self.counters: Counter[tuple[str, str]] = Counter()
        """The number of requests for each (server, kind of route)."""
        self.bytes_sent = 0
        """Bytes of all bodies sent so far."""
        self._host = host
        self._port = port
        self._latency = latency_ms / 1000
        self.record_headers = record
        self._injected: list[_Injection] = []
        self._injecting = threading.Lock()
        self._planned = faults
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

    def url(self, server: str) -> str:
        """Return the root URL of one of the servers, without a trailing slash."""
        return self._urls[server]

    def inject(self, match: Callable[[RequestInfo], bool], fault: Fault, times: int = 1) -> None:
        """Let a fault strike the next `times` requests for which `match` is true. Thread-safe."""
        with self._injecting:
            self._injected.append(_Injection(match, fault, times))

    def clear_faults(self) -> None:
        """Remove the injected faults that have not struck yet."""
        with self._injecting:
            self._injected.clear()

    def _fault_for(self, request: RequestInfo) -> Fault | None:
        """Return the fault for a request: an injected one first, otherwise a planned one."""
        with self._injecting:
            for waiter in self._injected:
                if waiter.match(request):
                    waiter.times -= 1
                    if waiter.times <= 0:
                        self._injected.remove(waiter)
                    return waiter.fault
        return None if self._planned is None else self._planned.before(request)

    def note(self, record: RequestRecord) -> None:
        """Add a request to the log and the counters."""
        self.requests.append(record)
        self.counters[record.server, record.kind] += 1
        self.bytes_sent += record.sent

    async def _handle(self, server: str, respond: Responder, raw: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, with the fault that strikes it, if any.

        If a client disconnects, only its own exchange ends; this is not an error of the server.
        """
        try:
            body = await raw.read() if raw.body_exists else b""
            headers: dict[str, str] = {}
            for name, value in raw.headers.items():
                lower = name.lower()
                headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
            request = RequestInfo(server, raw.method, raw.raw_path, headers, body)
            fault = self._fault_for(request)
            if self._latency:
                await asyncio.sleep(self._latency)
            if isinstance(fault, Delay):
                await asyncio.sleep(fault.seconds)
            if isinstance(fault, ReplyFault):
                reply = reply_under(fault, request, respond)
            else:
                reply = respond(request)
            sender = ReplySender(raw, await _compressed(request, reply))
            try:
                return await sender.send(fault if isinstance(fault, ConnectionFault) else None)
            finally:  # an interrupted reply also counts as a request
                kept = headers if self.record_headers else {}
                target, status = request.target, reply.status
                self.note(RequestRecord(server, reply.kind, raw.method, target, status, sender.sent, kept))
        except (ConnectionError, web.RequestPayloadError):
            return web.Response()  # not sent: the connection is closed

    async def __aenter__(self) -> Self:
        """Bind all ports or none, then start the servers."""
        async with AsyncExitStack() as opening:
            listeners: dict[str, socket.socket] = {}
            for offset, server in enumerate(self.server_names):
                listener = _bind(self._host, self._port + offset if self._port else 0)
                opening.callback(listener.close)
                listeners[server] = listener
                reachable = "127.0.0.1" if self._host in {"", "0.0.0.0"} else self._host  # noqa: S104
                self._urls[server] = f"http://{reachable}:{listener.getsockname()[1]}"
            for server, respond in self.responders().items():
                runner = web.ServerRunner(
                    web.Server(partial(self._handle, server, respond), access_log=None),
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
