from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from multidict import CIMultiDict

from stacpull_logins.visit import Cookies

HOST = "https://a.example"


@pytest.fixture(autouse=True, scope="module")
def running() -> Iterator[None]:
    """A jar of aiohttp belongs to a loop."""
    loop = asyncio.new_event_loop()
    asyncio._set_running_loop(loop)
    yield
    asyncio._set_running_loop(None)
    loop.close()


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        (["a=1"], "a=1"),
        (["a=1; Path=/; Secure; HttpOnly"], "a=1"),
        (["a=1", "b=2; Path=/"], "a=1; b=2"),
        (["a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT, b=x=y=="], "a=1; b=x=y=="),  # joined by a transport
        (["a=1", "a=2"], "a=2"),
        (["a=1", "a=1; Max-Age=0"], ""),
        (["a=1", "a=1; max-age=-1; Path=/"], ""),
        (["a=1; Max-Age=3600"], "a=1"),
        (["a=1; Path=/only/there"], ""),
        (["=1"], ""),
        (["nonsense"], ""),
        ([""], ""),
        (["a=\udcff"], ""),
        (["a=b\tc"], ""),
    ],
)
def test_a_cookie_is_sent_back_to_its_host(fields: list[str], sent: str) -> None:
    cookies = Cookies()
    cookies.note(HOST, CIMultiDict([("set-cookie", field) for field in fields]))
    assert cookies.field(HOST) == sent


ASF = "https://auth.asf.example.edu"


@pytest.mark.parametrize(
    ("domain", "url", "sent"),
    [
        (".asf.example.edu", "https://sentinel1.asf.example.edu/x", True),
        ("ASF.example.edu", "https://a.b.asf.example.edu/x", True),
        (".asf.example.edu", "https://asf.example.edu/", True),
        (".asf.example.edu", ASF, True),
        (".asf.example.edu", "https://other.example.edu/", False),
        (".asf.example.edu", "https://evilasf.example.edu/", False),
        (".asf.example.edu", "http://sentinel1.asf.example.edu/", False),
        (".asf.example.edu", "https://sentinel1.asf.example.edu:444/", False),
        ("edu", "https://other.edu/", False),  # too broad: only its host gets it
        ("other.edu", "https://other.edu/", False),  # does not include the host
    ],
)
def test_a_domain_extends_a_cookie_to_subdomains(domain: str, url: str, sent: bool) -> None:
    cookies = Cookies()
    cookies.note(ASF, {"Set-Cookie": f"urs=planted; Path=/; Domain={domain}; Secure"})
    assert (cookies.field(url) == "urs=planted") is sent
    cookies.forget(url)
    assert cookies.field(url) == ""
