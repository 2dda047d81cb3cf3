from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.net.logins.services import DATA, DataCentre, Urs
from tests.net.logins.world import client_for, get
from tests.virtual_clock import VirtualClock

from stacpull.config.provider import HostPattern, Login, Provider, Visit
from stacpull.errors import CredentialsError
from stacpull.models import FailureKind
from stacpull.net.client import Client
from stacpull.net.memory import Answer
from stacpull.net.transport import TransferError
from stacpull.redact import Secret, Secrets


@dataclass
class World:
    urs: Urs
    centre: DataCentre
    client: Client
    secrets: Secrets

    def logins(self) -> int:
        return len([one for one in self.urs.heard if "authorization" in one.headers])


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    secrets = Secrets()
    async with Urs() as urs, DataCentre(urs) as centre:
        visit = Visit(HostPattern.read(urs.url("")), Secret(urs.wanted))
        hosts = (HostPattern.read(centre.url("")),)
        provider = Provider("earthdata", (Login("v", hosts, visit, ("EARTHDATA_PASSWORD",)),))
        async with client_for(provider, VirtualClock(), secrets) as client:
            yield World(urs, centre, client, secrets)


def test_many_who_come_at_once_log_in_once_and_again_when_the_session_has_ended() -> None:
    async def main() -> None:
        async with world() as w:
            url = w.centre.url("/a.nc")
            assert await asyncio.gather(*(get(w.client, url) for _ in range(8))) == [DATA] * 8
            assert w.logins() == 1
            w.centre.sessions.clear()
            assert await asyncio.gather(*(get(w.client, url) for _ in range(8))) == [DATA] * 8
            assert w.logins() == 2
            assert w.client.counters.requests == len(w.urs.heard) + len(w.centre.heard)
            assert w.secrets.scrub(w.centre.secrets[-1]) == "***"

    asyncio.run(main())


def test_a_range_that_was_asked_for_is_asked_for_again_after_the_login() -> None:
    async def main() -> None:
        async with world() as w:
            await get(w.client, w.centre.url("/a.nc"), Range="bytes=5-")
            fields = [(one.target, one.headers.get("range")) for one in w.centre.heard]
            assert fields[0] == fields[-1] == ("/a.nc", "bytes=5-")
            assert all("range" not in one.headers for one in w.urs.heard)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (
            Answer(200, b"<html>", {"Content-Type": "text/html"}),
            FailureKind.REFUSED,
            "approve the application",
        ),
        (Answer(500), FailureKind.SERVER, "500"),
        (Answer(429, headers={"Retry-After": "2"}), FailureKind.THROTTLED, "429"),
        (Answer(302), FailureKind.REDIRECT, "names no Location"),
        (Answer(302, headers={"Location": "ftp://h/x"}), FailureKind.SCHEME, "not followed"),
    ],
    ids=["page", "broken", "throttled", "no way", "odd way"],
)
def test_a_login_that_leads_nowhere_is_a_failure_and_no_asset(answer: Answer, kind, says: str) -> None:
    async def main() -> None:
        async with world() as w:
            w.urs.respond = lambda *_: answer
            with pytest.raises(TransferError, match=says) as caught:
                await get(w.client, w.centre.url("/a.nc"))
            assert caught.value.failure.kind is kind

    asyncio.run(main())


def test_a_host_that_wants_a_login_after_each_login_is_refused_and_not_asked_for_ever() -> None:
    async def main() -> None:
        async with world() as w:
            respond = w.centre.respond

            def forgetful(heard, path, query) -> Answer:
                w.centre.sessions.clear()
                return respond(heard, path, query)

            w.centre.respond = forgetful
            with pytest.raises(TransferError, match="another login right after one") as caught:
                await get(w.client, w.centre.url("/a.nc"))
            assert caught.value.failure.kind is FailureKind.REFUSED
            assert w.logins() == 1

    asyncio.run(main())


def test_a_redirect_loop_in_the_login_ends() -> None:
    async def main() -> None:
        async with world() as w:
            here = w.urs.url("/oauth/authorize?again")
            w.urs.respond = lambda *_: Answer(302, headers={"Location": here})
            with pytest.raises(TransferError, match="loop"):
                await get(w.client, w.centre.url("/a.nc"))
            assert w.logins() <= 2

    asyncio.run(main())


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_stops_the_run_and_is_not_tried_again(status: int) -> None:
    async def main() -> None:
        async with world() as w:
            w.urs.respond = lambda *_: Answer(status, b"no")
            with pytest.raises(CredentialsError, match="EARTHDATA_PASSWORD") as caught:
                await get(w.client, w.centre.url("/a.nc"))
            assert w.logins() == 1
            assert w.urs.secrets[0] not in str(caught.value)

    asyncio.run(main())


def test_the_password_is_told_to_the_login_host_alone() -> None:
    async def main() -> None:
        async with world() as w, Urs() as stranger:
            target = stranger.url("/oauth/authorize")
            w.urs.respond = lambda *_: Answer(302, headers={"Location": target, "Set-Cookie": "urs=planted"})
            with pytest.raises(TransferError):
                await get(w.client, w.centre.url("/a.nc"))
            assert len(stranger.heard) == 1
            assert not {"authorization", "cookie"} & set(stranger.heard[0].headers)

    asyncio.run(main())
