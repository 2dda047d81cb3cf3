"""A valve before a server: what comes back flows until it is shut, so that a kill is sure to land midway."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.net.wire_server import InThread

_PIECE = 1 << 16


class Valve(InThread):
    """Connections to `port` of loopback are those to `target`; `limit` bytes come back, then nothing more."""

    def __init__(
        self, target: int, limit: int | None = None, *, context: ssl.SSLContext | None = None
    ) -> None:
        self.passed = 0
        """Bytes that came back, header fields included."""
        self.limit = limit
        """None: open."""
        self.shut = threading.Event()
        """Set once the limit was reached."""
        self.port = 0
        self._target = target
        self._context = context

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connect, "127.0.0.1", 0, limit=_PIECE, ssl=self._context
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        with suppress(ConnectionError, asyncio.CancelledError, ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._let_there(reader, forth))
                group.create_task(self._let_back(back, writer))
        self._tasks.discard(task)
        forth.transport.abort()
        writer.transport.abort()

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
