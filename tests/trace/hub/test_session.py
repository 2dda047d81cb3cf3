import asyncio

import pytest
from tests.net.memory import Answer
from tests.net.wire_server import json_answer
from tests.trace.hub.desk import BASE, CLIENT_SECRET, TOKEN_URL, MemoryHub, token

from stacpull.errors import CredentialsError
from stacpull.net.transport import Request
from stacpull_trace.hub.hub_client import Hub

URL = f"{BASE}/x"
FINE = Answer(body=b"fine", headers={"X-ProcessingUnits-Spent": "1.5"})


def sent(hub: MemoryHub) -> list[tuple[str, str | None]]:
    return [(request.url, request.headers.get("Authorization")) for request in hub.requests]


async def fetch(hub: Hub, url: str = URL) -> bytes:
    async with hub.session.stream(Request(url)) as response:
        return await response.read(1000)


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


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (json_answer({"error": "x", "error_description": "Invalid client"}, 401), "401: Invalid client"),
        (json_answer({"error": "unauthorized_client"}, 400), "400: unauthorized_client"),
        (Answer(403), r"\(403\)"),
        (json_answer({"error": f"no secret {CLIENT_SECRET}"}, 401), r"no secret \*\*\*"),
    ],
)
def test_a_refused_client_is_a_credentials_error(refusal: Answer, words: str) -> None:
    with pytest.raises(CredentialsError, match=words) as caught:
        MemoryHub({TOKEN_URL: [refusal], URL: [FINE]}).run(fetch)
    assert "check SH_CLIENT_ID and SH_CLIENT_SECRET" in str(caught.value)
    assert CLIENT_SECRET not in str(caught.value)
