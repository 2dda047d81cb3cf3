from __future__ import annotations

import asyncio

import pytest
from tests.net.memory import Answer
from tests.trace.hub.desk import BASE, TOKEN_URL, MemoryHub, token

from stacpull.net.transport import Request
from stacpull_trace.hub.hub_client import Hub

URL = f"{BASE}/x"
FINE = Answer(body=b"fine", headers={"X-ProcessingUnits-Spent": "1.5"})


def sent(hub: MemoryHub) -> list[tuple[str, str | None]]:
    return [(request.url, request.headers.get("Authorization")) for request in hub.requests]


async def fetch(hub: Hub, url: str = URL, **headers: str) -> bytes:
    async with hub.session.open(Request(url, headers=headers)) as response:
        return await response.read(1000)


def test_each_request_has_the_token() -> None:
    memory = MemoryHub({URL: [FINE]})
    assert memory.run(lambda hub: fetch(hub, authorization="Basic mine", Accept="x")) == b"fine"
    assert sent(memory) == [(TOKEN_URL, None), (URL, "Bearer planted-token-1")]
    assert memory.requests[1].headers["Accept"] == "x"


def test_concurrent_refusals_renew_the_token_once() -> None:
    memory = MemoryHub(
        {
            TOKEN_URL: [token("one"), token("two")],
            URL: lambda request: FINE if request.headers["Authorization"] == "Bearer two" else Answer(401),
        },
        per_host=1,
    )

    async def use(hub: Hub) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch(hub)) for _ in range(10)]
        assert {task.result() for task in tasks} == {b"fine"}
        assert hub.processing_units == 15.0

    memory.run(use)
    assert [url for url, _ in sent(memory)].count(TOKEN_URL) == 2


@pytest.mark.parametrize(
    "elsewhere", ["https://other.example/x", "http://hub.example/x", "https://hub.example:8443/x"]
)
def test_no_other_host_receives_the_token(elsewhere: str) -> None:
    memory = MemoryHub({elsewhere: [FINE]})
    memory.run(lambda hub: fetch(hub, elsewhere))
    assert sent(memory) == [(elsewhere, None)]


def test_a_redirect_to_another_host_drops_the_token_but_keeps_the_range() -> None:
    bucket = "https://bucket.example/x"
    memory = MemoryHub({URL: [Answer(302, headers={"Location": bucket})], bucket: [Answer(206, b"part")]})
    assert memory.run(lambda hub: fetch(hub, Range="bytes=0-3")) == b"part"
    assert sent(memory)[2] == (bucket, None)
    assert memory.requests[2].headers["Range"] == "bytes=0-3"
