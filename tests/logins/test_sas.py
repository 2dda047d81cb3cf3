from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack

import pytest
from tests.logins.services import DATA, Blobs, Signing, json_reply
from tests.net.login_world import client_for, get
from tests.net.memory import Answer
from tests.virtual_clock import EPOCH, VirtualClock

from stacpull.errors import CredentialsError, SourceError, StacpullError
from stacpull.models import FailureKind
from stacpull.net.logins import FilledProfile, HostLogin, HostPattern
from stacpull.net.transport import TransferError
from stacpull_logins.sas import SasTokens, signed_url

TOKEN = "se=2024&sp=rl&sv=2021&sr=c&sig=abc%3D"


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("https://a/c/x.tif", f"https://a/c/x.tif?{TOKEN}"),
        ("https://a/c/x.tif?", f"https://a/c/x.tif?{TOKEN}"),
        ("https://a/c/x.tif?snapshot=1#part", f"https://a/c/x.tif?snapshot=1&{TOKEN}"),
        ("https://a/c/x.tif?sig=old&se=2020&snapshot=1", f"https://a/c/x.tif?snapshot=1&{TOKEN}"),
        ("https://a/c/%C3%A4%20b.tif", f"https://a/c/%C3%A4%20b.tif?{TOKEN}"),
    ],
)
def test_a_signature_replaces_only_an_older_one(url: str, signed: str) -> None:
    assert signed_url(url, TOKEN) == signed
    assert signed_url(signed, TOKEN) == signed
    assert signed_url("https://a/c/x?se=no-signature", TOKEN) == f"https://a/c/x?se=no-signature&{TOKEN}"


def profile(signing: Signing, blobs: Blobs) -> FilledProfile:
    tokens = SasTokens(signing.url("/api/sas/v1/token/{account}/{container}"))
    return FilledProfile("pc", (HostLogin("s", (HostPattern.read(blobs.url("")),), tokens, ("PC_KEY",)),))


def test_the_signature_is_renewed_before_it_expires_and_when_refused() -> None:
    async def main() -> None:
        clock = VirtualClock()
        signing = Signing(clock)
        blobs = Blobs(signing)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(signing)
            await stack.enter_async_context(blobs)
            client = await stack.enter_async_context(client_for(profile(signing, blobs), clock))
            url = blobs.url("/data/x")
            assert await get(client, url) == DATA
            clock.now = 2579  # of 2700 seconds
            assert (await get(client, url), signing.given) == (DATA, 1)
            clock.now = 2581
            assert (await get(client, url), signing.given) == (DATA, 2)
            signing.valid.clear()
            with pytest.raises(TransferError) as caught:  # a new signature is not the cause
                await get(client, url)
            assert (caught.value.failure.kind, signing.given) == (FailureKind.REFUSED, 2)
            clock.now += 61
            assert (await get(client, url), signing.given) == (DATA, 3)

    asyncio.run(main())


def test_throttling_by_the_signing_service_is_obeyed_by_all_tasks() -> None:
    async def main() -> None:
        clock = VirtualClock()
        signing = Signing(clock)
        blobs = Blobs(signing)
        signing.throttled = 3
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(signing)
            await stack.enter_async_context(blobs)
            client = await stack.enter_async_context(client_for(profile(signing, blobs), clock))
            urls = [blobs.url(f"/data/{n}") for n in range(20)]
            assert await asyncio.gather(*(get(client, url) for url in urls)) == [DATA] * 20
            assert len(signing.requests) == 4
            assert clock.now >= 3  # "try again in 1 seconds", three times
            unknown = blobs.url("/elsewhere/x")
            with pytest.raises(TransferError) as caught:
                await get(client, unknown)
            assert (
                caught.value.failure.kind is FailureKind.GONE
            )  # requested without a signature, because it may be public
            assert clock.time() > EPOCH

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "error", "expected"),
    [
        (Answer(400, b'{"message": "odd"}'), SourceError, "400 Bad Request: odd"),
        (Answer(401, b""), CredentialsError, "refuses to sign .401.: check PC_KEY"),
        (Answer(403, b'{"message": "Out of call volume quota."}'), SourceError, "Out of call volume quota"),
        (Answer(403, headers={"Retry-After": "3600"}), SourceError, "to wait for 60 minutes"),
        (Answer(410), SourceError, "410"),
        (Answer(500), SourceError, "500"),
        (Answer(200, b"null"), SourceError, "answered without a signature"),
    ],
)
def test_a_failing_signing_service_stops_the_run(
    answer: Answer, error: type[StacpullError], expected: str
) -> None:
    async def main() -> None:
        clock = VirtualClock()
        signing = Signing(clock)
        async with signing, Blobs(signing) as blobs:
            signing.respond = lambda *_: answer
            async with client_for(profile(signing, blobs), clock) as client:
                fetching = [get(client, blobs.url(f"/data/{number}")) for number in range(5)]
                for one in await asyncio.gather(*fetching, return_exceptions=True):
                    assert isinstance(one, error)
                    assert re.search(expected, str(one))
            assert not blobs.requests
            assert len(signing.requests) == (6 if answer.status == 500 else 1)

    asyncio.run(main())


def test_an_unknown_container_is_requested_again_later() -> None:
    async def main() -> None:
        clock = VirtualClock()
        signing = Signing(clock)
        signing.known.clear()
        async with signing, Blobs(signing) as blobs, client_for(profile(signing, blobs), clock) as client:
            for _ in range(3):
                with pytest.raises(TransferError):
                    await get(client, blobs.url("/data/x"))
            assert len(signing.requests) == 1
            signing.known.add("data")
            clock.now += 600
            assert await get(client, blobs.url("/data/x")) == DATA

    asyncio.run(main())


@pytest.mark.parametrize("end", ["2026-11-20T01:00:00Z", "2026-11-20T01:00:00", "2026-11-20T02:00:00+01:00"])
def test_an_expiry_without_a_time_zone_is_in_utc(monkeypatch, end: str) -> None:
    async def main() -> None:
        clock = VirtualClock()
        signing = Signing(clock)
        reply = json_reply(
            {"token": "sv=1&sig=abc", "msft:expiry": end}, Date="Fri, 20 Nov 2026 00:00:00 GMT"
        )
        signing.respond = lambda *_: reply
        signing.valid.add("abc")
        async with signing, Blobs(signing) as blobs, client_for(profile(signing, blobs), clock) as client:
            for clock.now in (0, 3479, 3481):
                assert await get(client, blobs.url("/data/x")) == DATA
            assert len(signing.requests) == 2

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        asyncio.run(main())
    finally:
        monkeypatch.undo()
        time.tzset()
