"""The lean transport on real sockets: what it sends, what connections it keeps, what it leaves to others."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, cast

import pytest
import uvloop
from tests.net.memory import Answer, Fault
from tests.net.wire_server import WireServer

from stacpull.models import Failure, FailureKind
from stacpull.net import lean as module
from stacpull.net.addresses import AddressPolicy
from stacpull.net.http import HttpTransport
from stacpull.net.lean import LeanTransport
from stacpull.net.transport import Request, TransferError, Transport

T = TypeVar("T")

LOCAL = AddressPolicy(allow_private=True)
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def lean(**options: Any) -> LeanTransport:
    told: dict[str, Any] = {"policy": LOCAL, "stall_timeout": 0.3, "trust_env": False} | options
    return LeanTransport(fallback=HttpTransport(**told), **told)


def run(main: Coroutine[Any, Any, T], loop: Callable[[], Any] = asyncio.new_event_loop) -> T:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


async def fetch(http: Transport, url: str, method: str = "GET", limit: int = 10_000_000) -> bytes | Failure:
    try:
        async with http.open(Request(url, method)) as response:
            return await response.read(limit)
    except TransferError as error:
        return error.failure


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answering, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Give the origin of a server that handles each connection with `answer`, which is told its number."""
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
    """Wait for what no event tells of."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is the inside of the transport that is looked at
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "fields", [{}, {"Range": "bytes=1-", "X-Own": "é"}, {"host": "bucket.s3", "Accept": "a/b"}]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_sends_the_same_as_http_transport(method: str, fields: dict[str, str]) -> None:
    async def main() -> list[dict[str, str]]:
        async with WireServer({"/": [Answer(body=b"x")]}) as server:
            for http in (HttpTransport(policy=LOCAL, trust_env=False), lean()):
                async with http.open(Request(server.url("/"), method, fields)) as response:
                    await response.read(10)
                await http.close()
            return [heard.headers for heard in server.heard]

    of_http, of_lean = run(main())
    assert of_lean == of_http
    assert len(of_lean) >= 4


def test_sends_a_body_and_asks_for_a_coding_as_http_transport_does() -> None:
    asked = {"Content-Type": "application/json", "Accept": "application/json"}

    async def main() -> list[tuple[dict[str, str], bytes]]:
        async with WireServer({"/": [Answer(body=b"x")]}) as server:
            for http in (HttpTransport(policy=LOCAL, trust_env=False), lean()):
                request = Request(server.url("/"), "POST", asked, b'{"limit": 10}', decode=True)
                async with http.open(request) as response:
                    await response.read(10)
                await http.close()
            return [(heard.headers, heard.body) for heard in server.heard]

    of_http, of_lean = run(main())
    assert of_lean == of_http
    assert of_lean[1] == b'{"limit": 10}'


@pytest.mark.parametrize("limit", [6000, 5999])
def test_a_coded_body_is_undone_within_the_limit(limit: int) -> None:
    coded = Answer(body=gzip.compress(b"page" * 1500), headers={"Content-Encoding": "gzip"})

    async def main() -> tuple[bytes | None, int]:
        async with WireServer({"/": [coded, coded]}) as server:
            http = lean()
            read = None
            with suppress(TransferError):
                async with http.open(Request(server.url("/"), decode=True)) as response:
                    read = await response.read(limit)
            async with http.open(Request(server.url("/"))) as response:
                raw = await response.read(limit)
            await http.close()
            return read, len(raw)

    expected = b"page" * 1500 if limit == 6000 else None
    assert run(main()) == (expected, len(gzip.compress(b"page" * 1500)))


@pytest.mark.parametrize("loop", LOOPS)
def test_one_connection_serves_one_request_after_the_other(loop: Callable[[], Any]) -> None:
    async def main() -> list[int]:
        script = {"/": [Answer(body=b"x" * 3_000_000), Answer(304), Answer(), Answer(404, b"no")]}
        async with WireServer(script) as server:
            http = lean()
            for method in ("GET", "GET", "HEAD", "GET", "HEAD", "GET"):
                assert not isinstance(await fetch(http, server.url("/"), method), Failure)
            await http.close()
            return [heard.connection for heard in server.heard]

    assert run(main(), loop) == [1] * 6


def test_as_many_connections_as_exchanges_at_once() -> None:
    async def main() -> list[int]:
        async with WireServer({"/": [Answer(body=b"x")]}) as server:
            http = lean()
            for _ in range(3):
                await asyncio.gather(*(fetch(http, server.url("/")) for _ in range(5)))
            await http.close()
            return [heard.connection for heard in server.heard]

    connections = run(main())
    assert len(connections) == 15
    assert sorted(set(connections)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + HELLO,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_a_connection_is_not_used_again_after(raw: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(raw if number == 1 else HELLO)

    async def main() -> bytes | Failure:
        async with serving(answer) as origin:
            http = lean(stall_timeout=0.05)
            await fetch(http, origin)
            body = await fetch(http, origin)
            await http.close()
            return body

    assert run(main()) == b"hello"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"], ids=["closed", "timeout"])
def test_a_connection_that_ends_while_idle_is_left_alone(after: bytes, loop: Callable[[], Any]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HELLO)
        await asyncio.sleep(0.02)
        writer.write(after)

    async def main() -> list[bytes | Failure]:
        async with serving(answer) as origin:
            http = lean()
            first = await fetch(http, origin)
            await asyncio.sleep(0.06)
            answers = [first, await fetch(http, origin)]
            await http.close()
            return answers

    assert run(main(), loop) == [b"hello", b"hello"]


def test_idle_connections_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEEP_ALIVE", 0.05)
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HELLO)
        await reader.read()
        ended.set()

    async def main() -> None:
        async with serving(answer) as origin:
            http = lean()
            assert await fetch(http, origin) == b"hello"
            await asyncio.wait_for(ended.wait(), 5)
            await http.close()

    run(main())
    assert ended.is_set()


def test_ipv6_literals() -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HELLO)

    async def main() -> tuple[bytes | Failure, str]:
        async with serving(answer, "::1") as origin:
            http = lean()
            body = await fetch(http, f"{origin}/x")
            await http.close()
            return body, origin.removeprefix("http://")

    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    body, authority = run(main())
    assert body == b"hello"
    assert f"\r\nhost: {authority}\r\n" in heard[0].decode().lower()


class Noting:
    """A fallback that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.closed = False

    def open(self, request: Request) -> Any:
        self.asked.append(request)
        return None

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("request_", "is_taken"),
    [
        (Request("http://h/x"), True),
        (Request("http://h/x", "HEAD", {"Range": "bytes=0-1"}), True),
        (Request("http://h/x", "POST", body=b"{}"), True),
        (Request("http://h/x", "DELETE"), False),
        (Request("http://h/x", body=b"{}"), True),
        (Request("http://h/x", decode=True), True),
        (Request("http://h/x", headers={"Connection": "close"}), False),
        (Request("http://h/x", headers={"X": "a\r\nEvil: 1"}), False),
        (Request("http://user:pw@h/x"), False),
        (Request("http://bücher.example/x"), False),
        (Request("http://127.1/x"), False),
        (Request("ftp://h/x"), False),
    ],
)  # fmt: skip
def test_what_is_odd_goes_to_the_fallback(request_: Request, is_taken: bool) -> None:
    async def main() -> Noting:
        fallback = Noting()
        http = LeanTransport(policy=LOCAL, fallback=fallback, trust_env=False)
        http.open(request_)
        await http.close()
        return fallback

    fallback = run(main())
    assert fallback.asked == ([] if is_taken else [request_])
    assert fallback.closed


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.STALLED])
@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_exchanges_leave_no_connection(fault: Fault, loop: Callable[[], Any]) -> None:
    async def main() -> int:
        async with WireServer({"/": [Answer(body=b"x" * 5_000_000, fault=fault)]}) as server:
            http = lean(stall_timeout=30)
            tasks = [asyncio.create_task(fetch(http, server.url("/"))) for _ in range(5)]
            await until(lambda: len(server.heard) == 5)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await until(lambda: not http._pool._open)
            await http.close()
            return sum(task.cancelled() for task in tasks)

    assert run(main(), loop) == 5


@pytest.mark.parametrize("loop", LOOPS)
def test_closing_ends_what_is_going_on(loop: Callable[[], Any]) -> None:
    async def main() -> bytes | Failure:
        async with WireServer({"/": [Answer(fault=Fault.SILENT)]}) as server:
            http = lean(stall_timeout=30)
            task = asyncio.create_task(fetch(http, server.url("/")))
            await until(lambda: server.heard)
            await http.close()
            return await task

    failure = run(main(), loop)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.NETWORK


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_opens_after_the_end_is_closed(loop: Callable[[], Any]) -> None:
    async def main() -> tuple[bytes | Failure, int]:
        async with WireServer({"/": [Answer()]}) as server:
            http = lean()
            await http.close()
            return await fetch(http, server.url("/")), len(http._pool._open)

    failure, still_open = run(main(), loop)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.NETWORK
    assert still_open == 0
