from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.fastpath.requests import RemoteHost, is_plain, parse_origin, request_tail, split_url
from stacpull.hosts import host_of


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://h/a/b?c=d", "http://h", "/a/b?c=d"),
        ("http://h/a%2Fb?x=%2f&y=a+b", "http://h", "/a%2Fb?x=%2f&y=a+b"),
        ("http://h", "http://h", "/"),
        ("http://h:80/", "http://h:80", "/"),
        ("http://h?a=/b", "http://h", "/?a=/b"),
        ("http://h/a?b=c/d?e", "http://h", "/a?b=c/d?e"),
        ("http://h/a#b/c?d", "http://h", "/a"),
        ("http://h#b", "http://h", "/"),
        ("http://h/a b/é", "http://h", "/a%20b/%C3%A9"),
        ("http://h/x\r\nEvil: 1", "http://h", "/x%0D%0AEvil:%201"),
        ("https://[::1]:8/x", "https://[::1]:8", "/x"),
        ("http:///x", "http://", "/x"),
        ("nonsense", "nonsense", "/"),
    ],
)
def test_a_url_is_split_into_origin_and_target(url: str, origin: str, target: str) -> None:
    assert split_url(url) == (origin, target)


@given(st.text(max_size=60))
def test_a_target_is_always_valid_in_a_request_line(text: str) -> None:
    origin, target = split_url(f"http://h/{text}")
    assert origin == "http://h"
    assert target.startswith("/")
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target


@pytest.mark.parametrize(
    ("origin", "place", "authority"),
    [
        ("http://example.org", RemoteHost("http", "example.org", 80, "example.org"), "example.org"),
        ("HTTPS://Example.ORG", RemoteHost("https", "example.org", 443, "example.org"), "example.org"),
        ("http://h:80", RemoteHost("http", "h", 80, "h:80"), "h"),
        ("https://h:80", RemoteHost("https", "h", 80, "h:80"), "h:80"),
        ("http://127.0.0.1:8080", RemoteHost("http", "127.0.0.1", 8080, "127.0.0.1:8080"), "127.0.0.1:8080"),
        ("http://[::1]:8080", RemoteHost("http", "::1", 8080, "[::1]:8080"), "[::1]:8080"),
        (
            "http://my_bucket.s3-eu",
            RemoteHost("http", "my_bucket.s3-eu", 80, "my_bucket.s3-eu"),
            "my_bucket.s3-eu",
        ),
    ],
)
def test_plain_origins_are_parsed(origin: str, place: RemoteHost, authority: str) -> None:
    assert parse_origin(origin) == place
    assert place.authority == authority
    assert place.name == host_of(f"{origin}/x")
    assert place.is_tls is (place.scheme == "https")


@pytest.mark.parametrize(
    "origin",
    [
        "", "http://", "ftp://h", "s3://bucket", "http://h:", "http://h:0", "http://h:99999", "http://h:x",
        "http://user@h", "http://user:pw@h", "http://h.", "http://.h", "http://b%C3%BCcher", "http://2130706433",
        "http://127.1", "http://1.2.3.4.5", "http://[::1", "http://[fe80::1%25eth0]", "http://[nonsense]",
        "http://[:::]", "http://h\n",
    ],
)  # fmt: skip
def test_invalid_origins_are_left_to_the_general_path(origin: str) -> None:
    assert parse_origin(origin) is None


@given(st.text(max_size=30))
def test_any_text_is_a_plain_origin_or_none(text: str) -> None:
    place = parse_origin(f"http://{text}")
    if place is not None:
        assert place.host
        assert place.host.isascii()
        assert 0 < place.port < 65536


@pytest.mark.parametrize(
    ("headers", "plain"),
    [
        ({}, True),
        ({"Range": "bytes=0-"}, True),
        ({"Connection": "close"}, False),
        ({"transfer-encoding": "chunked"}, False),
        ({"X": "a\nb"}, False),
        ({"X\r\nY": "a"}, False),
        ({"X": "a\0"}, False),
    ],
)
def test_plain_requests_are_recognised(headers: dict[str, str], plain: bool) -> None:
    assert is_plain(headers) is plain


def test_fields_of_a_request_replace_our_own() -> None:
    tail = request_tail({"HOST": "b", "Range": "bytes=1-"}, {"host": "a", "accept": "*/*"})
    assert tail == b"accept: */*\r\nHOST: b\r\nRange: bytes=1-\r\n\r\n"
