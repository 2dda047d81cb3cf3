"""The connections of `http1` on real sockets: what they send, when they are kept, what others send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

import pytest
from tests.http1.fast_transport import HELLO, LOCAL, LOOPS, fast, fetch, run, serving, until
from tests.net.memory import Answer, Fault
from tests.net.wire_server import WireServer

from stacpull.clock import SystemClock
from stacpull.engine.fast_path import FastPath
from stacpull.http1 import web_transport as module
from stacpull.http1.connection import FastConnection
from stacpull.http1.web_transport import WebTransport
from stacpull.models import Failure, FailureKind, Job
from stacpull.net.bodies import read_whole
from stacpull.net.client import Client
from stacpull.net.gate import Gates
from stacpull.net.http import HttpTransport
from stacpull.net.transport import HttpSettings, Request, TransferError, opened


class _Assets:
    """Knows nothing of assets: any may be begun, none comes in."""

    fetcher = None

    async def open(self) -> None:
        """There is nothing to open."""

    def start(self, _job: Job) -> object:
        return self


class _Pool:
    """Runs what the path spawns."""

    sink = None

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))


def path_over(http: WebTransport) -> FastPath:
    clock = SystemClock()
    client = Client({"http": http, "https": http}, Gates(1000, 1000, clock), clock)
    return FastPath(client, http, cast("Any", _Assets()))


def test_both_clients_send_the_same() -> None:
    async def main() -> list[dict[str, str]]:
        async with WireServer({"/": [Answer(body=b"x")]}) as server:
            for http in (HttpTransport(HttpSettings(policy=LOCAL, trust_env=False)), fast()):
                async with opened(http, Request(server.url("/"))) as response:
                    await read_whole(response, 10)
                await http.close()
            return [request.headers for request in server.requests]

    of_http, of_fast = run(main())
    assert of_fast == of_http
    assert len(of_fast) >= 4


@pytest.mark.parametrize("loop", LOOPS)
def test_one_connection_serves_one_request_after_the_other(loop: Callable[[], Any]) -> None:
    async def main() -> list[int]:
        script = {"/": [Answer(body=b"x" * 3_000_000), Answer(304), Answer(), Answer(404, b"no")]}
        async with WireServer(script) as server:
            http = fast()
            for _ in range(6):
                assert not isinstance(await fetch(http, server.url("/")), Failure)
            await http.close()
            return [request.connection for request in server.requests]

    assert run(main(), loop) == [1] * 6


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
def test_a_connection_is_not_reused_after_such_a_response(raw: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(raw if number == 1 else HELLO)

    async def main() -> bytes | Failure:
        async with serving(answer) as origin:
            http = fast(stall_timeout=0.05)
            await fetch(http, f"{origin}/")
            body = await fetch(http, f"{origin}/")
            await http.close()
            return body

    assert run(main()) == b"hello"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"], ids=["closed", "timeout"])
def test_a_connection_that_ends_while_idle_is_not_reused(after: bytes, loop: Callable[[], Any]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HELLO)
        await asyncio.sleep(0.02)
        writer.write(after)

    async def main() -> list[bytes | Failure]:
        async with serving(answer) as origin:
            http = fast()
            first = await fetch(http, f"{origin}/")
            await asyncio.sleep(0.06)
            answers = [first, await fetch(http, f"{origin}/")]
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
            http = fast()
            assert await fetch(http, f"{origin}/") == b"hello"
            await asyncio.wait_for(ended.wait(), 5)
            await http.close()

    run(main())
    assert ended.is_set()


@pytest.mark.parametrize("loop", LOOPS)
def test_closing_ends_pending_requests(loop: Callable[[], Any]) -> None:
    async def main() -> tuple[int, list[bytes | Failure]]:
        async with WireServer({"/": [Answer(fault=Fault.SILENT)]}) as server:
            http = fast(stall_timeout=30)
            tasks = [asyncio.create_task(fetch(http, server.url("/"))) for _ in range(3)]
            await until(lambda: len(server.requests) == 3)
            await http.close()
            return len(http.connections), await asyncio.gather(*tasks)

    left, failures = run(main(), loop)
    assert left == 0
    assert [one.kind for one in failures if isinstance(one, Failure)] == [FailureKind.NETWORK] * 3


@pytest.mark.parametrize("loop", LOOPS)
def test_the_end_of_a_run_closes_busy_connections_and_returns_their_permits(loop: Callable[[], Any]) -> None:
    async def main() -> tuple[int, int]:
        async with WireServer({"/": [Answer(fault=Fault.SILENT)]}) as server:
            http, sink = fast(stall_timeout=30), _Pool()
            path = path_over(http)
            origin = path.origin(server.url("/"))
            assert origin is not None
            for row in range(3):
                job = Job(row, row, 1, "a", server.url("/"), None, "c/i", "a.tif")
                assert path.begin(job, cast("Any", sink))
            await until(lambda: len(server.requests) == 3)
            assert origin.route.gate.in_use == 3
            path.close()
            await http.close()
            await asyncio.gather(*sink.tasks)
            return len(http.connections), origin.route.gate.in_use

    assert run(main(), loop) == (0, 0)


@pytest.mark.parametrize(
    ("wanted", "is_own"),
    [
        pytest.param(Request("http://127.0.0.1:1/a"), True, id="GET"),
        pytest.param(Request("http://127.0.0.1:1/a", "HEAD"), False, id="HEAD"),
        pytest.param(Request("http://127.0.0.1:1/a", "POST", body=b"{}"), False, id="POST"),
        pytest.param(Request("http://127.1:1/a"), False, id="unusual host"),
        pytest.param(Request("http://127.0.0.1:1/a", headers={"TE": "x"}), False, id="unusual field"),
    ],
)
def test_each_request_has_its_client(wanted: Request, is_own: bool) -> None:
    async def main() -> bool:
        http = WebTransport(HttpSettings(policy=LOCAL, trust_env=False))
        with suppress(TransferError):
            await http.send(wanted)
        await http.close()
        return vars(http)["_general"] is None

    assert run(main()) is is_own


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_connection_cancelled_as_it_opens_is_not_awaited(loop, monkeypatch):
    """uvloop then closes the transport without notifying the protocol."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HELLO)

    async def main() -> None:
        http = fast()
        made = WebTransport.made

        def made_and_given_up(pool: WebTransport, connection: FastConnection) -> None:
            made(pool, connection)
            fetching.cancel()

        monkeypatch.setattr(WebTransport, "made", made_and_given_up)
        async with serving(answer) as origin:
            fetching = asyncio.ensure_future(fetch(http, f"{origin}/"))
            with pytest.raises(asyncio.CancelledError):
                await fetching
            async with asyncio.timeout(5):
                await http.close()

    run(main(), loop)
