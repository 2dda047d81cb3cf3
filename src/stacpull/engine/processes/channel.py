"""One end of the socket between the coordinator and a worker, on an event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from stacpull.engine.processes.messages import Frames, Order, Word, framed

__all__ = ["Channel", "open_channel"]


class Channel(asyncio.Protocol):
    """Sends messages and hears those of the other end, until that one closes or ends.

    How much may wait here is bounded by whoever sends: there are only so many jobs open at a time.
    """

    def __init__(self, hear: Callable[[Any], None]) -> None:
        """Prepare; `hear` is called with each message, on the loop."""
        self.hear = hear
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when nothing more can come."""
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport from the loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from nothing of asyncio's

    def data_received(self, data: bytes) -> None:
        """Take bytes from the loop."""
        for message in self._frames.feed(data):
            self.hear(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Hear from the loop that the other end is gone."""
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)

    def send(self, message: Order | Word) -> None:
        """Send a message; to an end that is gone it is lost."""
        self.send_frame(framed(message))

    def send_frame(self, frame: bytes) -> None:
        """Send what `framed` made of a message."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    async def close(self) -> None:
        """Send what waits, then close."""
        if self._transport is not None:
            self._transport.close()
        await self.lost


async def open_channel(sock: socket.socket, hear: Callable[[Any], None]) -> Channel:
    """Return the channel over one end of a socket pair."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    _, channel = await loop.create_unix_connection(lambda: Channel(hear), sock=sock)
    return channel
