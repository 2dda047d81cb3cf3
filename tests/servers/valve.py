"""A valve before a server: what comes back flows until it is shut, so that a kill is sure to land midway."""

import asyncio
import ssl
import threading
from contextlib import suppress

from tests.net.wire_server import StreamServer

_PIECE = 1 << 16


class Valve(StreamServer):
    """Connections to `port` of loopback are those to `target`; `limit` bytes come back, then nothing more."""

    def __init__(self, target: int, limit: int | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._join, tls=tls)
        self.passed = 0
        """Bytes that came back, header fields included."""
        self.limit = limit
        """None: open."""
        self.shut = threading.Event()
        """Set once the limit was reached."""
        self._target = target

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._let_there(reader, forth))
                    group.create_task(self._let_back(back, writer))
        finally:
            forth.transport.abort()

    async def _let_back(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await back.read(_PIECE):
            if self.limit is not None and self.passed + len(piece) > self.limit:
                self.shut.set()
                await asyncio.Event().wait()
            self.passed += len(piece)
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def _let_there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        writer.close()
