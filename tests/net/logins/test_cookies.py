from __future__ import annotations

import pytest
from multidict import CIMultiDict

from stacpull.net.credentials import origin_of
from stacpull.net.logins.cookies import Cookies

HOST = origin_of("https://a.example")


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        (["a=1"], "a=1"),
        (["a=1; Path=/; Secure; HttpOnly"], "a=1"),
        (["a=1", "b=2; Path=/"], "a=1; b=2"),
        (["a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT, b=x=y=="], "a=1; b=x=y=="),  # joined by a transport
        (["a=1", "a=2"], "a=2"),
        (["a=1", "a=; Path=/"], ""),
        (["a=1", "a=1; Max-Age=0"], ""),
        (["a=1", "a=1; max-age=-1; Path=/"], ""),
        (["a=1; Max-Age=3600"], "a=1"),
        (["=1"], ""),
        (["nonsense"], ""),
        ([""], ""),
        (["a=\udcff"], ""),
        (["a=b\tc"], ""),
    ],
)
def test_what_a_host_sets_goes_back_to_it(fields: list[str], sent: str) -> None:
    cookies = Cookies()
    cookies.note(HOST, CIMultiDict([("set-cookie", field) for field in fields]))
    assert cookies.field(HOST) == sent


@pytest.mark.parametrize(
    "other", ["https://b.example", "http://a.example", "https://a.example:8443", "https://sub.a.example"]
)
def test_no_other_host_gets_a_cookie_whatever_its_domain_says(other: str) -> None:
    cookies = Cookies()
    new = cookies.note(HOST, {"Set-Cookie": "session=planted; Domain=example"})
    assert [secret.reveal() for secret in new] == ["planted"]
    assert cookies.field(origin_of(other)) == ""
    cookies.forget(HOST)
    assert cookies.field(HOST) == ""
