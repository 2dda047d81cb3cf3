"""A server on loopback that sends exactly the bytes of a script, including faults.

It accepts the same table of answers as `tests.net.memory.MemoryTransport`, or raw bytes.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from tests.net.memory import Answer, Fault, answer_of

from stacpull.net.transport import Request
from stacpull_replicas import run_in_thread

Scripted = Answer | bytes
Script = Sequence[Scripted] | Callable[[Request], Scripted]


def json_answer(document: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json", **headers})


@dataclass(frozen=True)
class ReceivedRequest:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def start(self) -> int | None:
        value = self.headers.get("range")
        return None if value is None else int(value.removeprefix("bytes=").partition("-")[0])

    @property
    def end(self) -> int | None:
        """The byte after which it ends; None if it continues to the end of the object."""
        last = self.headers.get("range", "").partition("-")[2]
        return int(last) + 1 if last else None


def text_of(requests: list[ReceivedRequest]) -> bytes:
    return "\n".join(f"{one.method} {one.target} {one.headers} {one.body!r}" for one in requests).encode()


Serving = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[object]]
"""Handles a connection, which is closed afterwards. The number counts connections from 1."""


class StreamServer:
    """`async with StreamServer(serve) as server`; without `async` it runs in its own thread.

    Each connection is handled by `serve`, in a task that is cancelled when the server ends.
    """

    port = 0

    def __init__(
        self, serve: Serving, *, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1"
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._address = address
        self.connections = 0
        self._handlers: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread = run_in_thread(self)
        return self._thread.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._address, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _a_few_turns()  # asyncio leaves a socket open that is being accepted while its server is closed
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await _a_few_turns()  # an aborted connection is closed in the next iteration of the loop

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection, and close it even if its handler never runs.

        The garbage collector would find an open connection during a later test, which would then fail.
        """
        self.connections += 1
        handler = asyncio.get_running_loop().create_task(self._handle(reader, writer, self.connections))
        self._handlers.add(handler)

        def ended(_: asyncio.Task[None]) -> None:
            self._handlers.discard(handler)
            writer.transport.abort()

        handler.add_done_callback(ended)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        try:
            await self._serve(reader, writer, number)
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()  # do not wait for a client that no longer reads
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


class WireServer(StreamServer):
    """`with WireServer({"/path": [answer, …]}) as server`.

    Raw bytes are sent unchanged, then the connection is closed.
    """

    def __init__(self, routes: Mapping[str, Script], **options: Any) -> None:
        super().__init__(self._answer_all, **options)
        self.requests: list[ReceivedRequest] = []
        self._routes = routes
        self._turns: dict[str, int] = {}

    async def _answer_all(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        while await self._answer_one(reader, writer, number):
            pass

    async def _answer_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        request = await read_request(reader, number)
        self.requests.append(request)
        answer = self._turn(request)
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
            return False
        if answer.fault is Fault.CLOSED:
            return False
        if answer.fault is Fault.SILENT:
            await asyncio.Event().wait()
        writer.write(wire_of(answer, head_only=request.method == "HEAD"))
        await writer.drain()
        if answer.fault is Fault.STALLED:
            await asyncio.Event().wait()
        return answer.fault is None

    def _turn(self, request: ReceivedRequest) -> Scripted:
        wanted = Request(request.target, request.method, request.headers, request.body)
        return answer_of(self._routes, self._turns, wanted)


async def _a_few_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def read_request(reader: asyncio.StreamReader, number: int) -> ReceivedRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.split("\r\n")
    method, target, _ = line.split(" ", 2)
    headers = dict[str, str]()
    for name, _, value in (field.partition(":") for field in fields if field):
        before = headers.get(name.lower())
        headers[name.lower()] = value.strip() if before is None else f"{before}, {value.strip()}"
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ReceivedRequest(method, target, headers, body, number)


def wire_of(answer: Scripted, *, head_only: bool = False) -> bytes:
    if isinstance(answer, bytes):
        return answer
    body = answer.sent
    if answer.fault in {Fault.TRUNCATED, Fault.UNNOTICED, Fault.STALLED}:
        body = body[: len(body) // 2]
    if answer.fault is Fault.OVERLONG:
        body += b"and more"
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Unheard Of"
    fields = "".join(f"{name}: {value}\r\n" for name, value in answer.fields.items())
    head = f"HTTP/1.1 {answer.status} {phrase}\r\n{fields}\r\n".encode("utf-8", "surrogateescape")
    return head if head_only or answer.status in {204, 304} else head + body
