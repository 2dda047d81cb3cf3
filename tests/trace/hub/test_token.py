from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from tests.net.memory import Answer, Fault, MemoryTransport, Script
from tests.trace.hub.desk import (
    BASE,
    CLIENT_ID,
    CLIENT_SECRET,
    TOKEN_URL,
    MemoryHub,
    answer,
    form,
    settings,
    token,
)
from tests.virtual_clock import VirtualClock

from stacpull.errors import CredentialsError, SourceError
from stacpull.net.client import Client
from stacpull.net.gate import Gates
from stacpull.net.retry import RetryPolicy
from stacpull.redact import Secret, Secrets
from stacpull_trace.hub.hub_session import Tokens
from stacpull_trace.hub.hub_settings import TOKEN_PATH

OLD = f"{BASE}/oauth/token"


class Mint:
    """`Tokens` on a token service in memory."""

    def __init__(self, answers: Script, *, old: Script = (), token_url: str = TOKEN_URL) -> None:
        self.clock = VirtualClock()
        self.transport = MemoryTransport({TOKEN_URL: answers, **({OLD: old} if old else {})}, self.clock)
        self.secrets = Secrets([Secret(CLIENT_SECRET)])
        client = Client(
            {"https": self.transport}, Gates(4, None, self.clock), self.clock, secrets=self.secrets
        )
        hub_settings = settings(token_url=token_url)
        self.tokens = Tokens(hub_settings, client, RetryPolicy(), self.clock, self.secrets)

    def run(self, use: Callable[[Tokens], Awaitable[None]]) -> None:
        async def main() -> None:
            await use(self.tokens)

        self.clock.run(main())

    @property
    def requests(self) -> int:
        return len(self.transport.requests)

    def fails(self, error: type[Exception], words: str) -> str:
        async def use(tokens: Tokens) -> None:
            await tokens.current()

        with pytest.raises(error, match=words) as caught:
            self.run(use)
        return str(caught.value)


def minted(*lives: object) -> Sequence[Answer]:
    return [token(f"token-{number}", life) for number, life in enumerate(lives, 1)]


def test_the_token_request() -> None:
    mint = Mint(minted(3600))

    async def use(tokens: Tokens) -> None:
        assert (await tokens.current()).reveal() == "token-1"

    mint.run(use)
    (request,) = mint.transport.requests
    assert (request.url, request.method) == (TOKEN_URL, "POST")
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert form(request) == {
        "grant_type": "client_credentials",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }
    assert mint.secrets.scrub("Bearer token-1") == "Bearer ***"


@pytest.mark.parametrize(
    ("life", "held"),
    [(3600, 3480), (241, 121), (240, 120), (120, 60), (60, 30), (1, 0.5)],
)
def test_a_token_is_renewed_early(life: float, held: float) -> None:
    mint = Mint(minted(life, life))

    async def use(tokens: Tokens) -> None:
        start = mint.clock.now
        assert (await tokens.current()).reveal() == "token-1"
        await mint.clock.sleep(start + held - 0.01 - mint.clock.now)
        assert (await tokens.current()).reveal() == "token-1"
        await mint.clock.sleep(0.02)
        assert (await tokens.current()).reveal() == "token-2"

    mint.run(use)
    assert mint.requests == 2


@pytest.mark.parametrize("life", [None, "3600", True])
def test_a_token_of_unknown_lifetime_is_used_until_refused(life: object) -> None:
    mint = Mint(minted(life, life))

    async def use(tokens: Tokens) -> None:
        first = await tokens.current()
        await mint.clock.sleep(10**6)
        assert await tokens.current() == first
        assert (await tokens.instead_of(first)).reveal() == "token-2"

    mint.run(use)


def test_all_tasks_share_one_request() -> None:
    mint = Mint([Answer(500), *minted(3600)])

    async def use(tokens: Tokens) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(tokens.current()) for _ in range(50)]
        assert {task.result().reveal() for task in tasks} == {"token-1"}

    mint.run(use)
    assert mint.requests == 2


def test_a_refused_token_is_renewed_once_for_all() -> None:
    mint = Mint(minted(3600, 3600, 3600))

    async def use(tokens: Tokens) -> None:
        old = await tokens.current()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(tokens.instead_of(old)) for _ in range(20)]
        assert {task.result().reveal() for task in tasks} == {"token-2"}

    mint.run(use)
    assert mint.requests == 2


def test_a_waiting_task_can_be_cancelled() -> None:
    mint = Mint([Answer(fault=Fault.SILENT), *minted(3600)])

    async def use(tokens: Tokens) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(tokens.current())
            second = group.create_task(tokens.current())
            await asyncio.sleep(1)
            first.cancel()
        assert second.result().reveal() == "token-1"

    mint.run(use)


@pytest.mark.parametrize(
    ("base_url", "token_url", "waited"),
    [
        (BASE, TOKEN_URL, 2.5),  # Sentinel Hub's own: milliseconds
        ("https://services-uswest2.sentinel-hub.com", "https://services.sentinel-hub.com/token", 2.5),
        ("https://sh.dataspace.copernicus.eu", "https://identity.dataspace.copernicus.eu/token", 2500),
    ],
)
def test_the_limit_of_the_token_service_is_obeyed(base_url: str, token_url: str, waited: float) -> None:
    slow = answer({"code": "RATE_LIMIT_EXCEEDED"}, 429, retry_after="2500")
    items = {"features": []}
    hub = MemoryHub(
        {token_url: [slow, token()], f"{base_url}/x": [answer(items)]},
        own_settings=settings(base_url, token_url),
        policy=RetryPolicy(longest_wait=10_000),
    )

    async def use(hub: object) -> None:
        assert (await hub.session._tokens.current()).reveal() == "planted-token-1"  # type: ignore[attr-defined]

    hub.run(use)
    assert hub.clock.now == waited


def test_old_deployments_have_another_path() -> None:
    mint = Mint([Answer(404)], old=minted(3600, 3600))

    async def use(tokens: Tokens) -> None:
        first = await tokens.current()
        await tokens.instead_of(first)

    mint.run(use)
    assert [request.url for request in mint.transport.requests] == [TOKEN_URL, OLD, OLD]


def test_a_missing_token_service_is_reported() -> None:
    assert TOKEN_URL in Mint([Answer(404)]).fails(SourceError, "is not a token service. Check --base-url")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (answer({"error": "x", "error_description": "Invalid client"}, 401), "401: Invalid client"),
        (answer({"error": "unauthorized_client"}, 400), "400: unauthorized_client"),
        (Answer(403), r"\(403\)"),
        (answer({"error": f"no secret {CLIENT_SECRET}"}, 401), r"no secret \*\*\*"),
    ],
)  # fmt: skip
def test_a_refused_client_is_a_credentials_error(refusal: Answer, words: str) -> None:
    message = Mint([refusal]).fails(CredentialsError, words)
    assert "check SH_CLIENT_ID and SH_CLIENT_SECRET" in message
    assert CLIENT_SECRET not in message


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([Answer(body=b"<html>login</html>")], "answered without a token"),
        ([answer({"token_type": "Bearer"})], "answered without a token"),
        ([answer({"access_token": "a\r\nX-Evil: 1"})], "answered without a token"),
        ([answer(["token"])], "answered without a token"),
        ([Answer(500)], "No token could be obtained: hub.example answered 500"),
        ([Answer(fault=Fault.REFUSED)], "No token could be obtained: hub.example"),
        ([Answer(307, headers={"Location": "https://other.example/x"})], "redirects a request with a body"),
    ],
)
def test_a_reply_without_a_token(answers: Script, words: str) -> None:
    mint = Mint(answers)
    mint.fails(SourceError, words)
    assert all(request.url == TOKEN_URL for request in mint.transport.requests)


def test_messages_do_not_contain_the_token() -> None:
    mint = Mint(minted(3600))
    before = repr(mint.tokens)

    async def use(tokens: Tokens) -> None:
        await tokens.current()

    mint.run(use)
    assert (before, repr(mint.tokens)) == (
        f"<Tokens of {BASE}{TOKEN_PATH}: none held>",
        f"<Tokens of {BASE}{TOKEN_PATH}: one held>",
    )
