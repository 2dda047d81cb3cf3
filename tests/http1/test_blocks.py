"""Blocks of memory: used again as soon as nothing refers to them, and never before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.http1.test_connection import LOOPS, PATTERN, fast, run, serving

from stacpull.http1.blocks import BlockPool, BlockReceiver
from stacpull.http1.response import StreamedResponse
from stacpull.net.transport import Request, opened

MIB = 1 << 20


def test_a_block_is_reused_once_its_last_view_is_gone() -> None:
    pool = BlockPool()
    block = pool.take()
    block[:3] = b"abc"
    part = block[1:3]
    del block
    other = pool.take()
    other[:3] = b"xyz"
    assert bytes(part) == b"bc"  # still lent: the other one has memory of its own
    del part, other
    assert repr(pool) == "<BlockPool 0 lent, 2 free>"
    again = pool.take()
    assert repr(pool) == "<BlockPool 1 lent, 1 free>"
    assert bytes(again[:3]) in {b"abc", b"xyz"}


def test_received_bytes_fill_one_block_after_the_other_and_are_never_overwritten() -> None:
    pieces: list[memoryview] = []
    receiver = BlockReceiver(BlockPool(), pieces.append, lambda _: None)
    sent = b""
    for turn in range(64):
        room = receiver.get_buffer(-1)
        size = min(len(room), 100_000)
        assert size > 0
        room[:size] = received = bytes([turn]) * size
        del room
        receiver.buffer_updated(size)
        sent += received
    assert b"".join(pieces) == sent


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_carries_long_bodies_in_blocks_and_other_bodies_after_them(
    loop: Callable[[], Any],
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        for times in (12, 3, 1):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (times * MIB))
            for turn in range(times):
                writer.write(PATTERN)
                await asyncio.sleep(0.02 * (turn % 3))
            await writer.drain()

    async def main() -> tuple[list[list[bytes]], int]:
        bodies = []
        async with serving(answer) as origin:
            http = fast(stall_timeout=5)
            for in_blocks in (True, False, True):
                async with opened(http, Request(f"{origin}/")) as response:
                    (connection,) = http.connections
                    streamed = StreamedResponse(connection, response.url, in_blocks=in_blocks)
                    bodies.append([chunk async for chunk in streamed.chunks(MIB // 4)])
            count = len(http.connections)
            await http.close()
            return bodies, count

    bodies, count = run(main(), loop)
    assert [b"".join(body) == PATTERN * times for body, times in zip(bodies, (12, 3, 1), strict=True)] == [
        True
    ] * 3
    assert {type(chunk) for chunk in bodies[0][1:]} >= {memoryview}
    assert {type(chunk) for body in bodies[1:] for chunk in body} == {bytes}
    assert count == 1
