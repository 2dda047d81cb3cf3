"""A source can name millions of hosts: what is remembered of them is bounded."""

import asyncio
import gc
import socket
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.engine.pools import bare_pool, job
from tests.net.memory import Answer, MemoryTransport

from stacpull.clock import SystemClock
from stacpull.hosts import MAX_HOSTS
from stacpull.http1.http1_transport import Http1Transport
from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressPolicy
from stacpull.net.aiohttp_transport import AiohttpTransport
from stacpull.net.client import Client
from stacpull.net.gate import GateSettings
from stacpull.net.transport import HttpSettings, Request, TransferError, Transport

FEW, MANY = MAX_HOSTS + 50, 2 * MAX_HOSTS + 50
MAX_BYTES = 700  # a host that is remembered takes several thousand


async def growth(act: Callable[[int], Awaitable[None]]) -> float:
    """Return how much more memory is held after many hosts than after a few, in bytes per further host."""
    sizes = []
    tracemalloc.start()
    try:
        for start, end in ((0, FEW), (FEW, MANY)):
            for number in range(start, end):
                await act(number)
                await asyncio.sleep(0)  # the loop drops cancelled timers; eager tasks may never return to it
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return (sizes[1] - sizes[0]) / (MANY - FEW)


async def requested(client: Client, url: str) -> None:
    with pytest.raises(TransferError):
        async with client.stream(Request(url)):
            pass


def client_of(transport: Transport) -> Client:
    return Client({"http": transport}, GateSettings(SystemClock(), 4, is_fixed=True))


class Forgetful(MemoryTransport):
    async def answer(self, request: Request) -> Answer:
        found = await super().answer(request)
        self.requests.clear()
        return found


async def test_memory_of_gates_and_routes_is_limited() -> None:
    client = client_of(Forgetful({}, SystemClock()))
    assert (await growth(lambda number: requested(client, f"http://h{number}.example/x"))) < MAX_BYTES


@pytest.mark.parametrize("kind", ["fast", "aiohttp"])
async def test_memory_of_lookups_and_connections_is_limited(kind: str) -> None:
    """None of the addresses may be connected to: what is looked at is what is kept of the names."""

    async def look_up(_host: str, port: int, **_options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]

    asyncio.get_running_loop().getaddrinfo = look_up  # type: ignore[method-assign, assignment]
    settings = HttpSettings(AddressPolicy())
    client = client_of(AiohttpTransport(settings) if kind == "aiohttp" else Http1Transport(settings))
    try:
        found = await growth(lambda number: requested(client, f"http://h{number}.example/x"))
    finally:
        await client.close()
    assert found < MAX_BYTES


def test_memory_of_refusals_that_are_held_back_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    handed = 0

    def hand_in(*_given: object) -> None:
        nonlocal handed
        handed += 1

    async def fail(number: int) -> None:
        pool.take_failure(job(), Failure(FailureKind.REFUSED, "no", 403, f"h{number}.example"))

    pool, _, outcomes = bare_pool(1, 1, lambda _job: asyncio.sleep(0))
    monkeypatch.setattr(outcomes, "fail", hand_in)
    assert asyncio.run(growth(fail)) < MAX_BYTES
    pool._report_held_back()
    assert handed == MANY


async def test_a_gate_that_is_in_use_is_kept() -> None:
    client = Client({"http": AiohttpTransport(HttpSettings(AddressPolicy()))}, GateSettings(SystemClock(), 4))
    held = client.route("http://held.example/").gate
    await held.acquire("asset")
    for number in range(3 * MAX_HOSTS):
        gate = client.route(f"http://h{number}.example/").gate
        await gate.acquire("asset")
        gate.release()
    assert client.route("http://held.example/").gate is held
    assert len(client.gates) <= MAX_HOSTS
