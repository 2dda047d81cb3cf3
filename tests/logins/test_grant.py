import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.logins.login_world import client_for, get, profile_of
from tests.logins.services import DATA, Downloads, Identity
from tests.net.memory import Answer
from tests.virtual_clock import VirtualClock

from stacpull.errors import CredentialsError, SourceError
from stacpull.models import FailureKind
from stacpull.net.client import Client
from stacpull.net.transport import TransferError
from stacpull.redact import Secret, Secrets
from stacpull_logins.tokens import PASSING, TokenGrant


@dataclass
class World:
    clock: VirtualClock
    identity: Identity
    downloads: Downloads
    client: Client
    secrets: Secrets

    @property
    def url(self) -> str:
        return self.downloads.url("/odata/v1/Products(1)/$value")


@asynccontextmanager
async def world(*, client_secret: bool = False) -> AsyncIterator[World]:
    clock, identity, secrets = VirtualClock(), Identity(), Secrets()
    async with identity, Downloads(identity) as downloads:
        password = Secret(identity.password)
        account = {"user": Secret(identity.user), "password": password}
        keys = {"client_secret": password} if client_secret else account
        kind = TokenGrant(identity.url("/token"), Secret("cdse-public"), **keys)
        profile = profile_of(kind, downloads.url(""), sources=("CDSE_PASSWORD",))
        async with client_for(profile, clock, secrets) as client:
            yield World(clock, identity, downloads, client, secrets)


async def test_a_token_is_refreshed_before_it_expires_or_else_requested_again() -> None:
    async with world() as w:
        assert await get(w.client, w.url) == DATA
        w.clock.now = 479  # of 600 seconds
        await get(w.client, w.url)
        assert w.identity.grants == ["password"]
        w.clock.now = 481
        await get(w.client, w.url)
        assert w.identity.grants == ["password", "refresh_token"]
        w.identity.refreshes.clear()  # the session has ended
        w.clock.now = 1000
        await get(w.client, w.url)
        assert w.identity.grants[2:] == ["refresh_token", "password"]


async def test_a_refused_token_is_renewed_once() -> None:
    async with world() as w:
        await asyncio.gather(*(get(w.client, w.url) for _ in range(8)))
        w.clock.now = 60
        w.identity.valid.clear()
        assert await asyncio.gather(*(get(w.client, w.url) for _ in range(8))) == [DATA] * 8
        assert w.identity.grants == ["password", "refresh_token"]
        w.downloads.identity = Identity()  # which accepts no token of the other
        w.clock.now = 120
        with pytest.raises(TransferError) as caught:
            await get(w.client, w.url)
        assert (caught.value.failure.kind, len(w.identity.grants)) == (FailureKind.REFUSED, 3)


async def test_a_client_gets_a_token_for_its_secret() -> None:
    async with world(client_secret=True) as w:
        assert await get(w.client, w.url, Range="bytes=0-9") == DATA  # this server does not support ranges
        assert w.identity.grants == ["client_credentials"]
        assert w.downloads.requests[0].headers["range"] == "bytes=0-9"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Answer(400, b'{"error": "invalid_grant"}'), CredentialsError, "refuses the login .* CDSE_PASSWORD"),
        (Answer(401, b""), CredentialsError, r"refuses the login \(401\)"),
        (Answer(200, b"<html>"), SourceError, "answered without a token"),
        (Answer(200, b'{"access_token": 7}'), SourceError, "answered without a token"),
        (Answer(200, b'{"access_token": "a\\r\\nX: 1"}'), SourceError, "answered without a token"),
        (Answer(404, b""), SourceError, "sent no token"),
        (
            Answer(307, headers={"Location": "https://evil.example/"}),
            SourceError,
            "redirects a request with a",
        ),
        (Answer(503, headers={"Retry-After": "3600"}), SourceError, "to wait for 60 minutes"),
    ],
)
async def test_a_token_service_that_fails_stops_the_run(answer: Answer, error: type, message: str) -> None:
    async with world() as w:
        w.identity.respond = lambda *_: answer
        with pytest.raises(error, match=message) as caught:
            await get(w.client, w.url)
        assert w.identity.password not in str(caught.value)
        assert not w.downloads.requests


@pytest.mark.parametrize(("status", "error", "requests"), [(401, CredentialsError, 1), (404, SourceError, 2)])
async def test_a_failure_is_remembered_for_a_minute_and_a_refusal_for_good(status, error, requests):
    async with world() as w:
        w.identity.respond = lambda *_: Answer(status, b"")
        for wait, asked in ((0, 1), (PASSING - 1, 1), (2, requests)):
            w.clock.now += wait
            with pytest.raises(error):
                await get(w.client, w.url)
            assert len(w.identity.requests) == asked


async def test_issued_tokens_are_secrets() -> None:
    async with world() as w:
        await get(w.client, w.url)
        message = " ".join(w.identity.secrets)
        assert w.secrets.masked(message) == "*** *** ***"
        w.secrets.add_temporary(*(Secret(f"a newer secret {number}") for number in range(256)))
        assert w.secrets.values.isdisjoint(w.identity.secrets[1:])  # only the newest are kept


@pytest.mark.parametrize(
    ("life", "used"),
    [
        *((600, 480), ("600", 480), ("600.5", 480.5), (240, 120), (100, 50), (15, 10), (0, 10), (-3600, 10)),
        *((unknown, None) for unknown in (None, "soon", True, "nan")),
    ],
)
async def test_a_token_is_used_until_shortly_before_it_expires(life: object, used: float | None) -> None:
    async with world() as w:
        w.identity.life = life  # type: ignore[assignment]
        await get(w.client, w.url)
        for later, grants in ((-0.5, 1), (0.5, 2 if used else 1)):
            w.clock.now = (used or 1e6) + later
            await get(w.client, w.url)
            assert len(w.identity.grants) == grants
