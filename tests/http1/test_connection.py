"""How bodies flow: how much is held, when the reader is woken, what counts as a stall."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.cancelling import until
from tests.http1.fast_transport import LOOPS, fast, fetch, serving
from tests.net.conformance import opened
from tests.net.wire_server import Serving

from stacpull.http1.connection import Http1Connection
from stacpull.http1.http1_transport import Http1Host
from stacpull.models import Failure, FailureKind
from stacpull.net.transport import Request, TransferError

MIB = 1 << 20
PATTERN = bytes(range(256)) * 4096


def sending(head: bytes, *, times: int) -> Serving:
    """Return what answers with `head` and `times` MiB."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        for _ in range(times):
            writer.write(b"100000\r\n%b\r\n" % PATTERN if b"chunked" in head else PATTERN)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if b"chunked" in head else b"")

    return answer


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("head", [b"Content-Length: 20971520\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_long_bodies_arrive_complete_in_chunks_of_the_requested_size(head, loop):
    async with serving(sending(head, times=20)) as origin:
        http = fast(stall_timeout=5)
        async with opened(http, Request(f"{origin}/")) as response:
            chunks = [chunk async for chunk in response.chunks(MIB)]
        await http.close()
    assert b"".join(chunks) == PATTERN * 20
    assert max(map(len, chunks)) < 3 * MIB
    assert len(chunks) <= 24  # a tick passes on what has come, which makes a smaller chunk


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("sent", "kind"), [(5 * MIB + 7, FailureKind.TRUNCATED), (20 * MIB + 9, FailureKind.OVERLONG)]
)
async def test_all_bytes_before_a_fault_are_yielded(sent, kind, loop):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20971520\r\n\r\n" + bytes(sent))
        await writer.drain()

    size = 0
    async with serving(answer) as origin:
        http = fast()
        with pytest.raises(TransferError) as caught:  # noqa: PT012 - the bytes before count
            async with opened(http, Request(f"{origin}/")) as response:
                async for chunk in response.chunks(MIB):
                    size += len(chunk)
        await http.close()
    assert (size, caught.value.failure.kind) == (min(sent, 20 * MIB), kind)


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_slow_long_body_arrives_in_smaller_chunks_and_its_connection_is_used_again(loop):
    may_continue = asyncio.Event()
    numbers = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20971520\r\n\r\n" + PATTERN[:1000])
            await may_continue.wait()
            writer.write((PATTERN * 20)[1000:])
            numbers.append(number)

    async with serving(answer) as origin:
        http = fast()
        for _ in range(2):
            may_continue.clear()
            async with opened(http, Request(f"{origin}/")) as response:
                chunks = response.chunks(MIB)
                first = bytes(await anext(chunks))
                may_continue.set()
                assert (first, b"".join([first, *[chunk async for chunk in chunks]])) == (
                    PATTERN[:1000],
                    PATTERN * 20,
                )
        await http.close()
    assert numbers == [1, 1]


async def test_a_stall_is_noticed_at_most_a_second_after_the_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.read()

    async def timed_fetch(url: str) -> tuple[bytes | Failure, float]:
        started = time.monotonic()
        return await fetch(http, url), time.monotonic() - started

    async with serving(silent) as origin:
        http = fast(stall_timeout=1.0)
        fetching, steps = asyncio.create_task(timed_fetch(f"{origin}/")), 0
        while not fetching.done():
            await asyncio.sleep(0.125)  # a busy machine delays each of these as it delays each tick
            steps += 1
        failure, seconds = await fetching
        await http.close()
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.STALLED
    assert seconds >= 1.0
    assert steps <= 16


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_connection_pauses_if_its_bytes_are_not_taken(loop: Callable[[], Any]) -> None:
    async with serving(sending(b"Content-Length: 41943040\r\n", times=40)) as origin:
        http = fast(stall_timeout=0.2)
        async with opened(http, Request(f"{origin}/")) as response:
            (connection,) = http.connections
            transport = connection.transport
            assert transport is not None
            await until(lambda: not transport.is_reading())
            await asyncio.sleep(0.5)  # a slow writer is not a stall
            held = connection.response.held_bytes
            chunks = response.chunks(MIB)
            first = await anext(chunks)
            await until(lambda: not transport.is_reading())
            body = first + b"".join([chunk async for chunk in chunks])
        await http.close()
    assert MIB // 4 < held < MIB
    assert first
    assert body == PATTERN * 40


async def test_a_request_fails_if_its_connection_is_lost_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(sending(b"Content-Length: 1048576\r\n", times=1)) as origin:
        http = fast()
        connect = http.connect

        async def connect_and_lose(host: Http1Host) -> Http1Connection:
            connection = await connect(host)
            connection.abort()
            await until(lambda: connection.transport is None)
            return connection

        monkeypatch.setattr(http, "connect", connect_and_lose)
        failure = await fetch(http, f"{origin}/")
        await http.close()
    assert (type(failure), getattr(failure, "kind", None)) == (Failure, FailureKind.NETWORK)
