from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.http1.requests import is_plain, request_tail, split_url


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
