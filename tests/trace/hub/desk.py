"""A scripted Sentinel Hub for tests: in memory on a virtual clock, or on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
from tests.net.memory import Answer, MemoryTransport, Script
from tests.net.wire_server import WireServer
from tests.virtual_clock import VirtualClock

from stacpull.clock import SystemClock
from stacpull.net.addresses import AddressPolicy
from stacpull.net.aiohttp_transport import AiohttpTransport
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import HttpSettings, Request
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


def answer(document: object, status: int = 200, **headers: str) -> Answer:
    fields = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return Answer(status, orjson.dumps(document), fields)


def error(status: int, code: str = "", message: str = "", **more: Any) -> Answer:
    fields = {"status": status, "reason": "reason", "message": message, "code": code, **more}
    return answer({"error": fields}, status)


def token(value: str = "planted-token-1") -> Answer:
    return answer({"access_token": value, "expires_in": 3600, "token_type": "Bearer"})


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


@asynccontextmanager
async def hub_on_socket(routes: Mapping[str, Any]) -> AsyncIterator[tuple[Hub, WireServer]]:
    async with WireServer({TOKEN_PATH: [token()], **routes}) as server:
        http = AiohttpTransport(HttpSettings(ip_policy=AddressPolicy(allow_private=True)))
        async with open_hub(settings(server.url("")), http, SystemClock()) as hub:
            yield hub, server


async def all_of(things: AsyncIterator[T]) -> list[T]:
    return [thing async for thing in things]
