from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from tests.net.conformance import DecodingContract, Routes, TransportContract, World
from tests.net.memory import Answer, Fault, MemoryTransport
from tests.virtual_clock import VirtualClock

from stacpull.models import FailureKind
from stacpull.net.bodies import read_whole
from stacpull.net.transport import Request, TransferError, opened

T = TypeVar("T")


class TestMemoryTransport(TransportContract, DecodingContract):
    clock = VirtualClock()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return self.clock.run(main)

    @asynccontextmanager
    async def world(self, routes: Routes) -> AsyncIterator[World]:
        def url(path: str) -> str:
            return f"https://memory.example{path}"

        transport = MemoryTransport({url(path): answers for path, answers in routes.items()}, self.clock)
        yield World(transport, url, lambda: transport.requests)
        await transport.close()
        assert transport.closed


def test_a_stall_takes_as_long_as_the_stall_timeout() -> None:
    clock = VirtualClock()
    transport = MemoryTransport({"https://h/x": [Answer(fault=Fault.SILENT)]}, clock, stall_timeout=45)

    async def main() -> None:
        async with opened(transport, Request("https://h/x")):
            pass

    with pytest.raises(TransferError) as caught:
        clock.run(main())
    assert caught.value.failure.kind is FailureKind.STALLED
    assert clock.now == 45


def test_answers_can_be_computed_from_the_request() -> None:
    def echo(request: Request) -> Answer:
        return Answer(200, request.url.encode())

    transport = MemoryTransport({"https://h/x": echo}, VirtualClock())

    async def main() -> tuple[bytes, int]:
        async with opened(transport, Request("https://h/x?page=2")) as response:
            body = await read_whole(response, 100)
        async with opened(transport, Request("https://h/other")) as response:
            return body, response.status

    assert asyncio.run(main()) == (b"https://h/x?page=2", 404)
