"""One end of the socket between two processes of a run, on an event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from stacpull.engine.messages import LENGTH, framed

M = TypeVar("M", bound=msgspec.Struct)


class Channel(asyncio.Protocol, Generic[M]):
    """One end of a socket pair, on an event loop.

    Args:
        decode: Decodes a message of the other end.
        on_message: Called on the loop with each message.
        broken: Called with an error of `decode` or `on_message`, which the loop would only log.
        on_lost: Called when the other end is closed.
    """

    def __init__(
        self,
        decode: Callable[[bytes], M],
        on_message: Callable[[M], None],
        broken: Callable[[BaseException], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the other end is closed, or its process has ended."""
        self._decode = decode
        self._received = bytearray()
        self._on_message = on_message
        self._broken = broken
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        """The futures of requests without a response, by number."""

    @property
    def is_open(self) -> bool:
        """True while messages can be sent."""
        return self._transport is not None

    async def open(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from nothing of asyncio's

    def data_received(self, data: bytes) -> None:
        received, head = self._received, LENGTH.size
        received += data
        try:
            while len(received) >= head and len(received) >= (end := head + LENGTH.unpack_from(received)[0]):
                message = bytes(memoryview(received)[head:end])
                del received[:end]
                self._on_message(self._decode(message))
        except BaseException as error:  # noqa: BLE001 -- raised at the end of the run
            self._broken(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._transport = None
        self._on_lost()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("The other end is closed."))
        if not self.lost.done():
            self.lost.set_result(None)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message. If the other end is closed, the message is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(framed(message))

    async def request(self, message: Any) -> Any:
        """Number a message, send it, and return the message with that number that comes back."""
        self._number += 1
        number = message.number = self._number
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self.send(message)
        try:
            return await future
        finally:
            del self._waiting[number]

    def take_response(self, message: Any) -> None:
        future = self._waiting.get(message.number)
        if future is not None and not future.done():
            future.set_result(message)

    async def close(self) -> None:
        """Send the waiting bytes and the end of file, then wait until the other end is closed."""
        if self._transport is not None:
            self._transport.write_eof()
            await self.lost
