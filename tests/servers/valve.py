"""A valve before a server: what comes back flows until it is shut, so that a kill is sure to land midway."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE = 1 << 16


class Valve:
    """Connections to `port` of loopback are those to `target`; `limit` bytes come back, then nothing more."""

    def __init__(self, target: int, limit: int | None, context: ssl.SSLContext | None) -> None:
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

    async def serve(self, opened: threading.Event, closing: asyncio.Event) -> None:
        """Pass connections on until `closing`."""
        listening = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(self._connect, sock=listening, limit=_PIECE, ssl=self._context)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = server.sockets[0].getsockname()[1]
        opened.set()
        await closing.wait()
        server.close()
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


@contextmanager
def valve(target: int, limit: int | None = None, *, context: ssl.SSLContext | None = None) -> Iterator[Valve]:
    """Open a valve before the server at port `target`; with a `context`, it speaks TLS."""
    gate = Valve(target, limit, context)
    opened, closing = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await gate.serve(opened, closing)

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="valve", daemon=True)
    thread.start()
    try:
        assert opened.wait(10)
        yield gate
    finally:
        loops[0].call_soon_threadsafe(closing.set)
        thread.join()
