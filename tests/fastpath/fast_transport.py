"""The connections of the fast path as a `Transport`, so that they pass the tests of transports.

A plain GET is begun on the fast path, and its response is lent to the caller at once, as is that of an asset
which turns out to be unusual. Any other request goes over aiohttp.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, TypeVar, cast

import uvloop

from stacpull.clock import SystemClock
from stacpull.fastpath.path import FastPath, FastTransfer
from stacpull.fastpath.response import FailedResponse, LentResponse
from stacpull.models import Failure, Job
from stacpull.net.addresses import AddressPolicy
from stacpull.net.client import Client
from stacpull.net.gate import Gates
from stacpull.net.http import HttpTransport
from stacpull.net.transport import Request, Response, TransferError, Transport

T = TypeVar("T")

LOCAL = AddressPolicy(allow_private=True)
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class _LendingPath(FastPath):
    """Takes no response itself. A transfer's claim is the future of what is lent."""

    def answered(self, *_given: Any) -> bool:
        return False

    def _hand_over(self, transfer: FastTransfer, response: LentResponse | FailedResponse | None) -> None:
        if not transfer.claim.done():
            transfer.claim.set_result(response)
        elif isinstance(response, LentResponse):  # the caller was cancelled
            response._connection.abort()


class _Assets:
    """No assets are asked for: requests are."""

    async def open(self) -> None:
        """There is nothing to open."""


class _Tasks:
    """Runs what the path spawns."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def broke(self, error: BaseException) -> None:
        raise error

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class FastTransport:
    """A transport over `path`; `general` sends what the fast path does not."""

    def __init__(self, general: Transport | None = None, **options: Any) -> None:
        given: dict[str, Any] = {"policy": LOCAL, "stall_timeout": 0.3, "trust_env": False} | options
        http = HttpTransport(**given)
        self.general = general or http
        clock = SystemClock()
        self._client = Client({"http": http, "https": http}, Gates(1000, 1000, clock), clock)
        self._tasks = _Tasks()
        self.path = _LendingPath(
            self._client, http, cast("Any", _Assets()), cast("Any", self._tasks), **given
        )

    def open(self, request: Request) -> AbstractAsyncContextManager[Response]:
        if request.method != "GET" or request.headers or request.body is not None or request.decode:
            return self.general.open(request)
        return _FastExchange(self, request)

    async def close(self) -> None:
        await self._tasks.cancel()
        await self.path.close()
        await self.general.close()


class _FastExchange:
    def __init__(self, transport: FastTransport, request: Request) -> None:
        self._transport = transport
        self._request = request
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Response:
        path = self._transport.path
        if not path._agent:
            await path.open()
        origin = path._origin(self._request.url)
        if origin is None:
            return await self._stack.enter_async_context(self._transport.general.open(self._request))
        lent: asyncio.Future[LentResponse | FailedResponse | None] = (
            asyncio.get_running_loop().create_future()
        )
        job = Job(1, 1, 1, "a", self._request.url, None, "c/i", "a.tif")
        path._ask(FastTransfer(path, job, lent, origin, 0.0))
        response = await lent
        origin.gate.release()
        if response is None:
            raise AssertionError("the request was not sent")
        return await self._stack.enter_async_context(response)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)


def fast(**options: Any) -> FastTransport:
    return FastTransport(**options)


def run(main: Coroutine[Any, Any, T], loop: Callable[[], Any] = asyncio.new_event_loop) -> T:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


async def fetch(http: Transport, url: str, limit: int = 10_000_000) -> bytes | Failure:
    try:
        async with http.open(Request(url)) as response:
            return await response.read(limit)
    except TransferError as error:
        return error.failure


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answering, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Give the origin of a server that handles each connection with `answer`, which gets its number."""
    handlers: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            await answer(reader, writer, len(handlers))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async with await asyncio.start_server(handle, host, 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition without an event."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is the inside of the transport that is looked at
            await asyncio.sleep(0.005)
