"""A client with the logins of a profile, over real sockets."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.logins.services import DataCentre, Urs
from tests.net.conformance import transport
from tests.virtual_clock import VirtualClock

from stacpull.clock import Clock
from stacpull.http1.http1_transport import Http1Transport
from stacpull.net.client import Client, NetworkCounters
from stacpull.net.gate import GateSettings
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import Request
from stacpull.redact import Secret, Secrets
from stacpull_logins.logins import FilledProfile, HostLogin, HostPattern, LoginKind, Logins
from stacpull_logins.visit import Visit


def profile_of(kind: LoginKind, *urls: str, sources: tuple[str, ...] = ()) -> FilledProfile:
    hosts = tuple(HostPattern.read(url) for url in urls)
    return FilledProfile("p", (HostLogin(hosts, kind, sources),))


@asynccontextmanager
async def client_for(
    profile: FilledProfile,
    clock: Clock,
    secrets: Secrets | None = None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Client]:
    http = transport(Http1Transport)
    counters, secrets = NetworkCounters(), Secrets() if secrets is None else secrets
    logins = Logins(profile, http, RetryPolicy(), clock, secrets, counters, on_wait)
    client = Client(
        {"http": http, "https": http},
        GateSettings(clock, 8, is_fixed=True),
        secrets=secrets,
        counters=counters,
        source="http://source.example",
        login_transport=logins.transport_for,
    )
    try:
        yield client
    finally:
        await client.close()


async def get(client: Client, url: str, **headers: str) -> bytes:
    async with client.stream(Request(url, headers=headers)) as response:
        return await response.read(1_000_000)


@dataclass
class World:
    urs: Urs
    centre: DataCentre
    client: Client
    secrets: Secrets
    clock: VirtualClock
    second: DataCentre
    waits: list[str]

    def logins(self) -> int:
        return len([one for one in self.urs.requests if "authorization" in one.headers])


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    secrets = Secrets()
    clock, waits = VirtualClock(), list[str]()
    async with Urs() as urs, DataCentre(urs) as centre, DataCentre(urs) as second:
        account = {"user": Secret(urs.user), "password": Secret(urs.password)}
        kind = Visit(login_host=HostPattern.read(urs.url("")), **account)
        profile = profile_of(kind, centre.url(""), second.url(""), sources=("EARTHDATA_PASSWORD",))
        async with client_for(profile, clock, secrets, waits.append) as client:
            yield World(urs, centre, client, secrets, clock, second, waits)
