from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest
from tests.net.memory import Answer, MemoryTransport, Script
from tests.trace.hub.desk import (
    BASE,
    CLIENT_ID,
    CLIENT_SECRET,
    TOKEN_URL,
    answer,
    form,
    settings,
    token,
)
from tests.virtual_clock import VirtualClock

from stacpull.errors import CredentialsError
from stacpull.net.client import Client
from stacpull.net.gate import Gates
from stacpull.net.retry import RetryPolicy
from stacpull.redact import Secret, Secrets
from stacpull_trace.hub.hub_session import Tokens

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
