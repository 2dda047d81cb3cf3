"""The door of a service: sockets on one side, `Request` and `Reply` values on the other.

The only module that knows the server library. Everything that is not about *what* is answered happens here:
latency, faults, compression, HEAD, large bodies, the log. `Door.handle` is the one place through which every
request of every replica goes, and where faults are plugged in.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from aiohttp import web

from stacpull.replicas.faults import Close, Delay, Fault, Faults, Stall, Status, Truncate
from stacpull.replicas.traffic import RequestRecord, Traffic
from stacpull.replicas.wire import Reply, Request, Stream

_PIECE = 256 * 1024
_WORTH_COMPRESSING = 500
_COMPRESSED_IN_A_THREAD = 1 << 20


@dataclass(frozen=True)
class Door:
    """Lets requests in to `respond`, a pure function from request to reply."""

    server: str
    respond: Callable[[Request], Reply]
    traffic: Traffic
    faults: Faults
    latency: float = 0.0

    async def handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        """Answer one request on the wire, with the fault that strikes it, if any."""
        request = await self._read(raw)
        fault = self.faults.before(request)
        if self.latency:
            await asyncio.sleep(self.latency)
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        reply = await _compressed(request, self._reply(request, fault))
        exchange = _Exchange(raw, reply)
        if isinstance(fault, Close | Stall):
            response = await exchange.send_with(fault)
        elif isinstance(reply.body, Stream) and request.method != "HEAD":
            response = await exchange.send_stream()
        else:
            response = exchange.whole()
        headers = request.headers if self.traffic.record_headers else {}
        sent = exchange.sent
        self.traffic.note(
            RequestRecord(
                self.server, reply.kind, request.method, request.target, reply.status, sent, headers
            )
        )
        return response

    async def _read(self, raw: web.BaseRequest) -> Request:
        headers: dict[str, str] = {}
        for name, value in raw.headers.items():
            lower = name.lower()
            headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
        body = await raw.read() if raw.body_exists else b""
        return Request(self.server, raw.method, raw.raw_path, headers, body)

    def _reply(self, request: Request, fault: Fault | None) -> Reply:
        if isinstance(fault, Status):
            return Reply(fault.code, dict(fault.headers), fault.body, kind="fault")
        reply = self.respond(request)
        if isinstance(fault, Truncate):
            body = reply.body
            kept = body.read(0, fault.keep) if isinstance(body, Stream) else body[: fault.keep]
            return replace(reply, body=kept)
        return reply


@dataclass
class _Exchange:
    """One reply on its way to a client."""

    raw: web.BaseRequest
    reply: Reply
    sent: int = 0

    def whole(self) -> web.Response:
        """A reply that fits in memory, or the headers of one for HEAD."""
        body = self.reply.body
        headers = dict(self.reply.headers)
        if self.raw.method == "HEAD":
            headers["Content-Length"] = str(self.reply.size)
            body = b""
        elif isinstance(body, Stream):
            raise TypeError("a stream is sent piece by piece")
        self.sent = len(body)
        return web.Response(body=body, status=self.reply.status, reason=self.reply.reason, headers=headers)

    async def send_stream(self) -> web.StreamResponse:
        """A large reply, piece by piece."""
        response = await self._begin()
        await self._write(response, 0, self.reply.size)
        return response

    async def send_with(self, fault: Close | Stall) -> web.StreamResponse:
        """A reply that is cut off or held up."""
        if fault.after is None:
            self._cut(reset=fault.reset)
            return web.Response()
        response = await self._begin()
        await self._write(response, 0, min(fault.after, self.reply.size))
        if isinstance(fault, Stall):
            await asyncio.sleep(fault.seconds)
            await self._write(response, min(fault.after, self.reply.size), self.reply.size)
        else:
            self._cut(reset=fault.reset)
        return response

    async def _begin(self) -> web.StreamResponse:
        headers = dict(self.reply.headers)
        headers["Content-Length"] = str(self.reply.size)
        response = web.StreamResponse(status=self.reply.status, reason=self.reply.reason, headers=headers)
        await response.prepare(self.raw)
        return response

    async def _write(self, response: web.StreamResponse, start: int, stop: int) -> None:
        body = self.reply.body
        for first in range(start, stop, _PIECE):
            last = min(stop, first + _PIECE)
            piece = body.read(first, last) if isinstance(body, Stream) else body[first:last]
            await response.write(piece)
            self.sent += len(piece)

    def _cut(self, *, reset: bool) -> None:
        """End the connection: what was written still arrives, unless it is to be reset."""
        transport = self.raw.transport
        if transport is None:
            return
        if reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()


async def _compressed(request: Request, reply: Reply) -> Reply:
    """The reply, gzipped if it gains from it and the client takes it.

    Streams are not, which is an economy: compressing the page that benchmarks ask for (86 MB) takes a second.
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


def _codings(request: Request) -> str:
    return request.headers.get("accept-encoding", "")


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, level=1, wbits=31)
