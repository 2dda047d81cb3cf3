"""A hostile login host or data host of a profile: the cookie login (`stacpull_logins.visit`)."""

import asyncio
import tracemalloc

import pytest
from tests.logins.login_world import World, get, world
from tests.logins.services import DATA, Urs
from tests.net.memory import Answer, Fault

from stacpull.errors import StacpullError
from stacpull.net.transport import TransferError

PLAIN = "http://data.example.org/collections/properties/type/features"
ORDINARY = ["true", "http", "https://", "properties", "collection", "features", "stac_version"]


def back(w: World, cookies: str) -> Answer:
    """What the login host sends: the way back, with cookies."""
    w.urs.codes.add("c")
    return Answer(302, headers={"Location": w.centre.url("/login?code=c&state=/a.nc"), "Set-Cookie": cookies})


async def test_cookies_with_ordinary_words_are_not_redacted_from_texts() -> None:
    """What a cookie holds is cut from all that is written down: no host may choose that a word goes."""
    async with world() as w:
        fields = ", ".join(f"c{number}={word}" for number, word in enumerate(ORDINARY))
        w.urs.respond = lambda *_: back(w, fields)
        assert await get(w.client, w.centre.url("/a.nc")) == DATA
        text = f"{PLAIN} {' '.join(ORDINARY)}"
        assert w.secrets.masked(text) == text
        assert w.secrets.masked_bytes(text.encode()) == text.encode()
        assert w.secrets.masked_url(f"{PLAIN}?f=true") == f"{PLAIN}?f=true"
        assert w.secrets.masked(w.centre.secrets[-1]) == "***"  # the session itself is a secret


async def test_the_number_of_cookies_kept_is_limited() -> None:
    async with world() as w:
        turn = 0

        def respond(*_: object) -> Answer:
            nonlocal turn
            turn += 1
            w.centre.sessions.clear()  # each asset needs another login
            many = ", ".join(f"c{turn}-{number}={number:0300}" for number in range(90))
            return back(w, many)

        w.urs.respond = respond
        sizes = []
        tracemalloc.start()
        for _ in range(2):
            for _ in range(8):
                w.centre.sessions.clear()
                assert await get(w.client, w.centre.url("/a.nc")) == DATA
            sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        sent = max(len(one.headers.get("cookie", "")) for one in (*w.urs.requests, *w.centre.requests))
        grown = sizes[1] - sizes[0]
    assert grown < 400_000  # 8 logins of 90 cookies: all of them, and the forms of each, take megabytes
    assert sent < 32 * 1024


@pytest.mark.parametrize(
    "answer",
    [
        Answer(302, headers={"Location": "ftp://a.example/"}),
        Answer(302, headers={"Location": "file:///etc/passwd"}),
        Answer(302, headers={"Location": "http://u:p@[::1"}),
        Answer(302, headers={"Location": "http://127.0.0.1:+80/"}),
        Answer(302),
        Answer(200, b"<html>" + b"x" * 300_000),
        Answer(200, fault=Fault.CLOSED),
        Answer(200, b"much" * 10, fault=Fault.TRUNCATED),
        Answer(500, b"planted+pass/word"),
        Answer(403, b"you are planted-user:planted+pass/word"),
        Answer(999),
        b"HTTP/1.1 200 OK\r\nSet-Cookie: " + b"x" * 40_000 + b"\r\n\r\n",
        b"\x00\x01\x02",
    ],
    ids=str,
)
async def test_no_answer_of_the_login_host_reveals_the_password(answer: Answer | bytes) -> None:
    async with asyncio.timeout(60), world() as w, Urs() as stranger:
        w.urs.respond = lambda *_: answer  # type: ignore[assignment, return-value]
        with pytest.raises((StacpullError, TransferError)) as caught:
            await get(w.client, w.centre.url("/a.nc"))
        assert any("authorization" in one.headers for one in w.urs.requests)
        assert w.urs.secrets[0] not in str(caught.value)
        assert all("authorization" not in one.headers for one in (*w.centre.requests, *stranger.requests))


async def test_an_endless_login_redirect_of_a_data_host_ends() -> None:
    async with asyncio.timeout(60), world() as w:
        away = w.urs.url("/oauth/authorize?redirect_uri=x&state=y")
        w.centre.respond = lambda *_: Answer(302, headers={"Location": away})
        with pytest.raises((StacpullError, TransferError)):
            await get(w.client, w.centre.url("/a.nc"))
        assert w.logins() <= 2
