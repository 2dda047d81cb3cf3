"""One reply on its way to a client: as it should be, or with a fault of the wire.

What the server library would never send (too many bytes, no end, no HTTP) is written past it, and the
connection ends with it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from stacpull_replicas.faults import Broken, Close, Drip, Fields, Overlong, Raw, Stall, Unframed
from stacpull_replicas.wire import Reply, Stream

_PIECE = 256 * 1024
_DRIPS_A_SECOND = 10
_LOOK_EVERY = 0.05
"""Seconds between two looks whether a client that waits is still there."""


@dataclass
class Exchange:
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

    async def send_with(self, fault: Broken) -> web.StreamResponse:
        """A reply that is cut off, held up or no HTTP."""
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
                await self._send_past(fault)
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

    async def _send_past(self, fault: Overlong | Unframed | Fields | Raw) -> None:
        """Write what is no proper response past the server library, and end the connection."""
        size = self.reply.size
        match fault:
            case Raw(data):
                self._put(data)
            case Fields(count, length):
                more = {f"X-More-{number}": "x" * length for number in range(count)}
                self._put(self._head({"Content-Length": str(size), **more}) + self._read(0, size))
            case Overlong(extra):
                self._put(self._head({"Content-Length": str(size)}))
                await self._pour(size)
                self._put(b"!" * extra)
            case Unframed(keep, chunked):
                self._put(self._head({"Transfer-Encoding": "chunked"} if chunked else {}))
                await self._pour(size if keep is None else min(keep, size), chunked=chunked)
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

    async def _pour(self, stop: int, *, chunked: bool = False) -> None:
        """Write the body up to `stop` past the server library."""
        for first in range(0, stop, _PIECE):
            piece = self._read(first, min(stop, first + _PIECE))
            self._put(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            self.sent += len(piece)
            await asyncio.sleep(0)

    async def _wait(self, seconds: float) -> None:
        """Wait, but not for a client that has gone."""
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
