import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.logins.login_world import client_for, get, profile_of
from tests.logins.services import DATA, Blobs, Signing, json_answer
from tests.net.memory import Answer
from tests.virtual_clock import VirtualClock

from stacpull.errors import CredentialsError, SourceError
from stacpull.models import FailureKind
from stacpull.net.client import Client
from stacpull.net.transport import TransferError
from stacpull_logins.tokens import SasTokens, signed_url

TOKEN = "se=2024&sp=rl&sv=2021&sr=c&sig=abc%3D"


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("https://a/c/x.tif", f"https://a/c/x.tif?{TOKEN}"),
        ("https://a/c/x.tif?", f"https://a/c/x.tif?{TOKEN}"),
        ("https://a/c/x&", f"https://a/c/x&?{TOKEN}"),
        ("https://a/c/x.tif?snapshot=1#part", f"https://a/c/x.tif?snapshot=1&{TOKEN}"),
        ("https://a/c/x.tif?sig=old&se=2020&snapshot=1", f"https://a/c/x.tif?snapshot=1&{TOKEN}"),
        ("https://a/c/%C3%A4%20b.tif", f"https://a/c/%C3%A4%20b.tif?{TOKEN}"),
    ],
)
def test_a_signature_replaces_only_an_older_one(url: str, signed: str) -> None:
    assert signed_url(url, TOKEN) == signed
    assert signed_url(signed, TOKEN) == signed
    assert signed_url("https://a/c/x?se=no-signature", TOKEN) == f"https://a/c/x?se=no-signature&{TOKEN}"


@dataclass
class World:
    clock: VirtualClock
    signing: Signing
    blobs: Blobs
    client: Client


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    clock = VirtualClock()
    async with Signing(clock) as signing, Blobs(signing) as blobs:
        kind = SasTokens(signing.url("/api/sas/v1/token/{account}/{container}"))
        async with client_for(profile_of(kind, blobs.url(""), sources=("PC_KEY",)), clock) as client:
            yield World(clock, signing, blobs, client)


async def test_the_signature_is_renewed_before_it_expires_and_when_refused() -> None:
    async with world() as w:
        url = w.blobs.url("/data/x")
        assert await get(w.client, url) == DATA
        w.clock.now = 2579  # of 2700 seconds
        assert (await get(w.client, url), w.signing.given) == (DATA, 1)
        w.clock.now = 2581
        assert (await get(w.client, url), w.signing.given) == (DATA, 2)
        w.signing.valid.clear()
        with pytest.raises(TransferError) as caught:  # a new signature is not the cause
            await get(w.client, url)
        assert (caught.value.failure.kind, w.signing.given) == (FailureKind.REFUSED, 2)
        w.clock.now += 61
        assert (await get(w.client, url), w.signing.given) == (DATA, 3)


async def test_throttling_by_the_signing_service_is_obeyed_by_all_tasks() -> None:
    async with world() as w:
        w.signing.throttled = 3
        urls = [w.blobs.url(f"/data/{n}") for n in range(20)]
        assert await asyncio.gather(*(get(w.client, url) for url in urls)) == [DATA] * 20
        assert len(w.signing.requests) == 4
        assert w.clock.now >= 3  # "try again in 1 seconds", three times


@pytest.mark.parametrize(
    ("answer", "error", "expected"),
    [
        (Answer(400, b'{"message": "odd"}'), SourceError, "400 Bad Request: odd"),
        (Answer(401, b""), CredentialsError, "refuses the login .401.: check PC_KEY"),
        (Answer(403, b'{"message": "Out of call volume quota."}'), SourceError, "Out of call volume quota"),
        (Answer(403, headers={"Retry-After": "3600"}), SourceError, "to wait for 60 minutes"),
        (Answer(410), SourceError, "410"),
        (Answer(500), SourceError, "500"),
        (Answer(200, b"null"), SourceError, "answered without a signature"),
    ],
)
async def test_a_failing_signing_service_stops_the_run(answer, error, expected):
    async with world() as w:
        w.signing.respond = lambda *_: answer
        fetching = [get(w.client, w.blobs.url(f"/data/{number}")) for number in range(5)]
        for one in await asyncio.gather(*fetching, return_exceptions=True):
            assert isinstance(one, error)
            assert re.search(expected, str(one))
        assert not w.blobs.requests
        assert len(w.signing.requests) == (6 if answer.status == 500 else 1)


async def test_an_unknown_container_is_read_unsigned_and_requested_again_later() -> None:
    async with world() as w:
        w.signing.known.clear()
        for _ in range(3):
            with pytest.raises(TransferError) as caught:  # it may be public
                await get(w.client, w.blobs.url("/data/x"))
            assert caught.value.failure.kind is FailureKind.GONE
        assert len(w.signing.requests) == 1
        w.signing.known.add("data")
        w.clock.now += 600
        assert await get(w.client, w.blobs.url("/data/x")) == DATA


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("tokyo")
@pytest.mark.parametrize("end", ["2023-11-14T23:13:20Z", "2023-11-14T23:13:20", "2023-11-15T00:13:20+01:00"])
async def test_an_expiry_without_a_time_zone_is_in_utc(end: str) -> None:
    async with world() as w:
        reply = {"token": "sv=1&sig=abc", "msft:expiry": end}
        w.signing.respond = lambda *_: json_answer(reply)
        w.signing.valid.add("abc")
        for w.clock.now in (0, 3479, 3481):
            assert await get(w.client, w.blobs.url("/data/x")) == DATA
        assert len(w.signing.requests) == 2
