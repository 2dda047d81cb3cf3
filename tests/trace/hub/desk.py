"""A scripted Sentinel Hub for tests: in memory, on a virtual clock."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from tests.net.memory import Answer, MemoryTransport, Script
from tests.net.wire_server import json_answer
from tests.virtual_clock import VirtualClock

from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import Request
from stacpull.redact import Secret
from stacpull_trace.hub.hub_client import Hub, open_hub
from stacpull_trace.hub.hub_settings import TOKEN_PATH, HubSettings

T = TypeVar("T")

BASE = "https://hub.example"
TOKEN_URL = BASE + TOKEN_PATH
CLIENT_ID = "planted-client-id"
CLIENT_SECRET = "planted+client/secret"
COLLECTION = "0b1a2c3d-0000-4000-8000-00000000abcd"
TILE = "75a7bf54-2772-44b1-b87f-3f4ec96096cf"


def error(status: int, code: str = "", message: str = "", **more: Any) -> Answer:
    fields = {"status": status, "reason": "reason", "message": message, "code": code, **more}
    return json_answer({"error": fields}, status)


def token(value: str = "planted-token-1") -> Answer:
    return json_answer({"access_token": value, "expires_in": 3600, "token_type": "Bearer"})


def settings(base_url: str = BASE) -> HubSettings:
    return HubSettings(base_url, base_url + TOKEN_PATH, CLIENT_ID, Secret(CLIENT_SECRET))


class MemoryHub:
    """A hub with responses in memory and virtual time. `requests` lists all in order."""

    def __init__(
        self, routes: Mapping[str, Script], *, policy: RetryPolicy | None = None, per_host: int = 8
    ) -> None:
        self.clock = VirtualClock()
        known: dict[str, Script] = {TOKEN_URL: [token()]}
        known |= {path if "://" in path else BASE + path: script for path, script in routes.items()}
        self.transport = MemoryTransport(known, self.clock)
        self._policy = policy
        self._per_host = per_host

    @property
    def requests(self) -> list[Request]:
        return self.transport.requests

    @property
    def paths(self) -> list[str]:
        return [request.url.removeprefix(BASE).partition("?")[0] for request in self.requests]

    def run(self, use: Callable[[Hub], Awaitable[T]]) -> T:
        async def main() -> T:
            opened = open_hub(
                settings(), self.transport, self.clock, policy=self._policy, per_host=self._per_host
            )
            async with opened as hub:
                return await use(hub)

        return self.clock.run(main())


async def all_of(things: AsyncIterator[T]) -> list[T]:
    return [thing async for thing in things]
