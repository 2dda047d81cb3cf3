"""The door of a service: sockets on one side, `Request` and `Reply` values on the other.

The only module that knows the server library. Everything that is not about *what* is answered happens here:
latency, faults, compression, HEAD, large bodies, the log. `Door.handle` is the one place through which every
request of every replica goes, and where faults are plugged in.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from aiohttp import web

from stacpull_replicas.exchange import Exchange
from stacpull_replicas.fault_replies import reply_under
from stacpull_replicas.faults import Broken, Delay, Fault, Faults, Reworded
from stacpull_replicas.traffic import RequestRecord, Traffic
from stacpull_replicas.wire import Reply, Request, Stream

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
        """Answer one request on the wire, with the fault that strikes it, if any.

        A client that disconnects ends the exchange, and nothing else: it is no error of the server.
        """
        try:
            return await self._exchange(raw)
        except (ConnectionError, web.RequestPayloadError):
            return web.Response()  # goes nowhere: the connection is closed

    async def _exchange(self, raw: web.BaseRequest) -> web.StreamResponse:
        request = await self._read(raw)
        fault = self.faults.before(request)
        if self.latency:
            await asyncio.sleep(self.latency)
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        reply = await _compressed(request, self._reply(request, fault))
        exchange = Exchange(raw, reply)
        try:
            return await self._send(exchange, fault)
        finally:  # also what broke off was asked for
            headers = request.headers if self.traffic.record_headers else {}
            self.traffic.note(
                RequestRecord(
                    self.server,
                    reply.kind,
                    request.method,
                    request.target,
                    reply.status,
                    exchange.sent,
                    headers,
                )
            )

    async def _send(self, exchange: Exchange, fault: Fault | None) -> web.StreamResponse:
        if isinstance(fault, Broken):
            return await exchange.send_with(fault)
        if isinstance(exchange.reply.body, Stream) and exchange.raw.method != "HEAD":
            return await exchange.send_stream()
        return exchange.whole()

    async def _read(self, raw: web.BaseRequest) -> Request:
        headers: dict[str, str] = {}
        for name, value in raw.headers.items():
            lower = name.lower()
            headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
        body = await raw.read() if raw.body_exists else b""
        return Request(self.server, raw.method, raw.raw_path, headers, body)

    def _reply(self, request: Request, fault: Fault | None) -> Reply:
        if isinstance(fault, Reworded):
            return reply_under(fault, request, self.respond)
        return self.respond(request)


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
